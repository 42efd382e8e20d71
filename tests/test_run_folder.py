"""The paths in a run's folder: their names on disk stay, and no other module joins one."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.run_folder import FinalistsFolder, RunFolder, SearchFolder, TrialFolder, cache_folder

PACKAGE = Path(__file__).parent.parent / "raysweep"
RUN = RunFolder(Path("runs/cars"))
ON_DISK = {
    ".commands": RUN.commands,
    ".commands/17-ab.answer": RUN.answer("17-ab"),
    ".commands/17-ab.json": RUN.command("17-ab"),
    ".lease": RUN.lock,
    ".ray": RUN.scratch,
    ".untold": RUN.untold,
    "artifacts": RUN.artifacts,
    "best/config.json": RUN.best.config,
    "best/detector.safetensors": RUN.best.detector,
    "best/model.safetensors": RUN.best.weights,
    "finalists": RUN.finalists.path,
    "finalists/baseline/config.json": RUN.finalists.baseline.config,
    "finalists/baseline/model.safetensors": RUN.finalists.baseline.weights,
    "finalists/trials/0012/best/model.safetensors": RUN.find_training(3, 12).weights,
    "mlflow": RUN.mlflow,
    "optuna.journal": RUN.journal,
    "report.html": RUN.report,
    "replays": RUN.replays.path,
    "replays/trials/0007/best/model.safetensors": RUN.replays.trial(7).weights,
    "results.json": RUN.results,
    "status.json": RUN.status,
    "study.json": RUN.study,
    "tensorboard": RUN.tensorboard,
    "test": RUN.test,
    "test/openings.jsonl": RUN.openings,
    "test/pareto_front.png": RUN.pareto_front,
    "trials": RUN.trials,
    "trials/0007/best": RUN.trial(7).best,
    "trials/0007/best/model.safetensors": RUN.find_training(7, None).weights,
    "trials/0007/config.json": RUN.trial(7).config,
    "trials/0007/error.txt": RUN.trial(7).error,
    "trials/0007/last": RUN.trial(7).last,
    "trials/0007/last/checkpoint.safetensors": RUN.trial(7).checkpoint,
    "trials/0007/last/previous.safetensors": RUN.trial(7).previous_checkpoint,
    "trials/0007/metrics.jsonl": RUN.trial(7).metrics,
    "trials/0007/samples": RUN.trial(7).samples,
    "trials/0007/samples/epoch_0003.png": RUN.trial(7).sample(3),
    "trials/0007/stop": RUN.trial(7).stop_file,
    "trials/0007/usage.json": RUN.trial(7).usage,
    "wandb": RUN.wandb,
}
NAMES = {part for place in ON_DISK for part in Path(place).parts} - {"0007", "0012", "epoch_0003.png", "17-ab.json"} | {
    ".cache"
}
ALLOWED = {("tasks/classification/config.py", "model.safetensors"), ("cluster/local_ray.py", ".ray")}
"""A file of a pretrained model on the Hugging Face hub; Ray's own folder below the home folder."""


@pytest.mark.parametrize("place", ON_DISK)
def test_the_names_on_disk_stay(place: str) -> None:
    assert ON_DISK[place] == Path("runs/cars") / place


def test_the_cache_is_beside_the_run() -> None:
    assert RUN.cache == cache_folder(Path("runs")) == Path("runs/.cache")


def test_trials_are_listed_by_number_once_they_have_begun(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    for number in (11, 2, 10):
        folder.trial(number).path.mkdir(parents=True)
        folder.trial(number).config.touch()
    folder.trial(3).path.mkdir()
    assert folder.list_trials() == [folder.trial(number) for number in (2, 10, 11)]
    assert SearchFolder(tmp_path / "none").list_trials() == []


def find_joined(source: str) -> Iterator[str]:
    """The constants that a module joins to a path, looks for in a folder, or gives as a file's name."""
    for node in ast.walk(ast.parse(source)):
        texts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            texts = [node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = node.args if node.func.attr in ("glob", "rglob", "joinpath", "with_name") else []
        elif isinstance(node, ast.Constant) and "." in str(node.value):
            texts = [node]
        for text in texts:
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            for part in parts:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from NAMES & set(part.value.split("/"))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('run / "trials" / f"{number:04d}"', ["trials"]),
        ('run / f"trials/{number:04d}/metrics.jsonl"', ["trials", "metrics.jsonl"]),
        ('run.glob("trials/*/config.json")', ["config.json", "trials"]),
        ('open_file("results.json")', ["results.json"]),
        ('{"best": record["test"]}', []),
        ('folder / "samples.png"', []),
    ],
)
def test_a_path_that_is_joined_is_found(source: str, found: list[str]) -> None:
    assert sorted(set(find_joined(source))) == sorted(found)


def test_no_other_module_joins_a_path_of_a_run() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        if path.name != "run_folder.py"
        for name in find_joined(path.read_text())
    }
    assert found == ALLOWED


def test_the_paths_are_cheap_to_import() -> None:
    code = "import sys, raysweep.run_folder; print({'numpy', 'torch', 'ray', 'optuna', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout == "set()\n"


def test_folders_are_values() -> None:
    assert RunFolder(Path("a")).finalists == FinalistsFolder(Path("a/finalists"))
    assert len({RUN.trial(1), TrialFolder(Path("runs/cars/trials/0001"))}) == 1


def test_only_a_run_that_has_begun_is_named_where_it_was_interrupted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.describe_interruption("--resume") == "interrupted"
    folder.path.mkdir()
    assert folder.describe_interruption("--resume") == "interrupted"
    folder.study.write_text("{}")
    assert folder.describe_interruption("--resume") == (
        f"interrupted; what is done is stored in {folder.path}: go on with --resume"
    )
