"""Where studies are found, and how one is loaded from its file."""

import importlib.util
from pathlib import Path

from raysweep import config_fields
from raysweep.errors import UsageError, shorten
from raysweep.paths import resolve_path
from raysweep.registry import load_file
from raysweep.study import Study


def study_folders() -> list[Path]:
    """Lists the folders of studies: ./search_spaces, then the studies installed with the package."""
    folders = [Path.cwd() / "search_spaces"]
    installed = importlib.util.find_spec("search_spaces")
    folders += [Path(folder) for folder in (installed and installed.submodule_search_locations) or ()]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def list_studies() -> dict[str, Path]:
    """Lists the file of each study that can be named, by name."""
    found: dict[str, Path] = {}
    for folder in study_folders():
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith(("_", ".")):
                found.setdefault(path.stem, path)
    return found


def locate_study(name: str) -> str:
    """Returns what `load_study` takes for the same study later: a name as it is, or a file's absolute path.

    Raises:
        UsageError: it is no path that can be used.
    """
    return str(resolve_path(name, "STUDY")) if _is_path(name) else name


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def load_study(name: str) -> Study:
    """Loads the study in the file `name`, or the one that `name` names.

    Raises:
        UsageError: there is no such study, or its file is not a valid one.
    """
    if _is_path(name):
        path = resolve_path(name, "STUDY")
        if path.is_dir():
            raise UsageError(
                f"{shorten(name)} is a folder and no study; `python -m platform.new NAME --data {shorten(name)}` "
                "writes a study for its images"
            )
        if not path.is_file():
            raise UsageError(
                f"no study file {shorten(name)}; give a file that defines STUDY, or one of: {', '.join(list_studies())}"
            )
    else:
        studies = list_studies()
        if name not in studies:
            looked = ", ".join(str(folder) for folder in study_folders()) or "nowhere: no ./search_spaces here"
            raise UsageError(f"{config_fields.unknown_name('study', name, studies)} Looked in: {looked}.")
        path = studies[name]
    study = getattr(load_file(path, anew=True), "STUDY", None)
    if not isinstance(study, Study):
        raise UsageError(f"{path} must define STUDY, a raysweep.Study; got {type(study).__name__}")
    return study
