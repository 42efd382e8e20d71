"""The public functions: a search, its forecast, and a finished run, from Python."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from raysweep.evaluate.test_figures import TestFigures
from raysweep.paths import resolve_path
from raysweep.proposal.run_study import find_run_study
from raysweep.run_folder import RunFolder
from raysweep.search.flags import list_flags
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides
from raysweep.search.preflight import check_inputs, check_start
from raysweep.search.results import Results, load_results
from raysweep.search.start import check_keywords, resolve_search
from raysweep.study import Study
from raysweep.trial_result import TrialResult

if TYPE_CHECKING:
    import pandas as pd

    from raysweep.evaluate.stored_model import StoredModel
    from raysweep.planning.forecast import Forecast

    @dataclass(frozen=True, kw_only=True)
    class _Keywords(Overrides, RunOptions):  # type: ignore[misc]
        """For type checkers: the keywords of `tune` are the fields of both, with types a caller may also give."""

        data: str | Path | None = None  # type: ignore[assignment]
        storage: str | Path = "results"  # type: ignore[assignment]
        name: str | None = None  # type: ignore[assignment]
        settings: Iterable[str] = ()  # type: ignore[assignment]
        overrides: Overrides = field(init=False)
        study_argument: str | None = field(init=False)
        data_root: Path | None = field(init=False)
else:
    _Keywords = object

P = ParamSpec("P")
R = TypeVar("R")
StudyLike = Study | str | Path


def _takes(
    _keywords: Callable[P, object], *kinds: type[Any]
) -> Callable[[Callable[..., R]], Callable[Concatenate[StudyLike, P], R]]:
    """Gives a function of a study the fields of dataclasses as keywords: for type checkers, and as its signature.

    So a flag is one field here too, and still is known to editors and notebooks.
    """

    def decorate(function: Callable[..., R]) -> Callable[Concatenate[StudyLike, P], R]:
        signature = inspect.signature(function)
        study = signature.parameters["study"]
        keywords = [
            inspect.Parameter(flag.field, inspect.Parameter.KEYWORD_ONLY, default=flag.default)
            for kind in kinds
            for flag in list_flags(kind)
        ]
        function.__signature__ = signature.replace(parameters=[study, *keywords])  # type: ignore[attr-defined]
        return function

    return decorate


@_takes(_Keywords, Overrides, RunOptions)
def tune(study: StudyLike, **keywords: Any) -> "Run":
    """Searches, evaluates the best model on the test split once, and returns the finished run.

    study: a study, a name in search_spaces/ or the path of a study's file; or a folder or source of images, for which a
    study is proposed and written as NAME.py into the storage. The keywords are the flags of `raysweep
    tune`, by the fields of Overrides and RunOptions. Interrupted, the search ends cleanly; the same call with
    `resume=True` goes on.

    Raises:
        UsageError: an unknown keyword, an illegal value, or a run's folder that exists and is not to be resumed.
        DataError: the images cannot be had, or too many of them are bad.
        StudyFailedError: no trial completed.
        StorageError: the storage is full, read-only or out of reach; `resume=True` goes on.
        RayLostError: a process of Ray's own has died; start Python again, and go on with `resume=True`.
    """
    if not isinstance(study, Study):
        check_keywords(keywords)
        study = find_run_study(str(study), keywords)
    resolved, options = resolve_search(study, keywords)
    source = check_start(resolved, options)
    from raysweep.search.run import run_study

    try:
        outcome = run_study(resolved, options, source)
    except KeyboardInterrupt:
        print(options.run_folder.describe_interruption("resume=True"), file=sys.stderr)
        raise
    return Run(folder=options.run_folder.path, results=outcome.results, sync_command=outcome.sync_command)


@_takes(_Keywords, Overrides, RunOptions)
def plan(study: StudyLike, **keywords: Any) -> "Forecast":
    """Forecasts what `tune` with the same arguments would take, after a short probe of the study.

    Prices are those of this head's cluster, else of ./cluster.yaml.

    Raises:
        UsageError: as of `tune`, or the search does not fit; the message shows the arithmetic.
        DataError: the images cannot be had, or the disk cannot hold them decoded.
    """
    resolved, options = resolve_search(study, keywords)
    source = check_inputs(resolved, options)
    from raysweep.planning.probe import find_cluster, forecast_study

    return forecast_study(resolved, options, find_cluster(), source)


def load_run(folder: str | Path) -> "Run":
    """Loads a finished run from its folder.

    Raises:
        UsageError: it is not the folder of a finished run.
        CorruptFileError: its results.json is damaged.
    """
    folder = resolve_path(folder, "a run's folder")
    return Run(folder=folder, results=load_results(RunFolder(folder)))


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: what its results.json says, and its best model."""

    folder: Path
    """The run's folder."""
    results: Results = field(repr=False)
    """All that results.json holds."""
    sync_command: str | None = None
    """Command that uploads the offline W&B runs of the search that has just ended; none: there are none."""

    @property
    def best(self) -> TrialResult:
        """Returns the trial of the best model: its `number`, `value`, `best_epoch`, `params`, `duration_s` ..."""
        return self.results.best

    @property
    def baseline(self) -> TrialResult | None:
        """Returns the trial of the study's own configuration; none: it was not run."""
        return self.results.baseline

    @property
    def test(self) -> TestFigures:
        """Returns the figures of the test evaluation; those of the task are attributes too: `test.accuracy`."""
        return self.results.test

    @property
    def lift(self) -> Mapping[str, Any]:
        """Returns the best model's lift over the baseline on the test images: `text`, and the task's figures."""
        return self.results.test.lift

    @property
    def trials(self) -> "pd.DataFrame":
        """Builds a table with a row for each trial: state, value, epochs, duration, error and each parameter."""
        import pandas as pd

        rows = [{**asdict(trial), **trial.params} for trial in self.results.trials]
        return pd.DataFrame(rows).drop(columns="params").set_index("number")

    def predict(self, paths: str | Path | Iterable[str | Path], *, trust_code: bool = False) -> list[dict[str, Any]]:
        """Labels files, or those of folders and patterns: `image`, `label`, `confidence`, `rejected`, or an `error`.

        trust_code: run the code of somebody's own that the run names.

        Raises:
            UsageError: the run's task gives no labels, or is code that may not be run.
        """
        from raysweep.evaluate.stored_model import import_code
        from raysweep.predict import find_images, predict_files

        if trust_code:
            import_code(RunFolder(self.folder))
        files = [paths] if isinstance(paths, str | Path) else paths
        return predict_files(RunFolder(self.folder), find_images(Path(path) for path in files))

    def load_model(self, device: str = "cpu", *, trust_code: bool = False) -> "StoredModel":
        """Loads the best model, with its configuration; `trust_code` as of `predict`.

        Raises:
            UsageError: the run has none, or its task is code that may not be run.
            CorruptFileError: a file of it is damaged.
        """
        import torch

        from raysweep.evaluate.stored_model import import_code, load_best

        if trust_code:
            import_code(RunFolder(self.folder))
        return load_best(RunFolder(self.folder), torch.device(device))

    def __str__(self) -> str:
        """Describes the run as `raysweep tune` does at its end."""
        from raysweep.search.summary import describe_results

        return describe_results(self.results, RunFolder(self.folder), self.sync_command)
