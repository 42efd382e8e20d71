"""Ray is imported only where it is driven, wandb only in tracking; studies import neither."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "ray": {
        "chaos/nodes.py",
        "chaos/processes.py",
        "cluster/connection.py",
        "cluster/doctor.py",
        "cluster/lost_nodes.py",
        "cluster/lost_ray.py",
        "cluster/leftovers.py",
        "data/pipeline.py",
        "data/stream.py",
        "search/run.py",
        "cluster/orphans.py",
        "cluster/ray_internals.py",
        "search/ray_tune.py",
        "serve/deployment.py",
        "cluster/waiting.py",
        "train/trial.py",
        "train/trial_failure.py",
    },
    "wandb": {"tracking/wandb_log.py", "tracking/wandb_runs.py", "tracking/wandb_study.py"},
    "tensorboardX": {"tracking/tensorboard_events.py"},
    "mlflow": {"tracking/mlflow_runs.py"},
    "optuna": {
        "chaos/check.py",
        "chaos/study.py",
        "distributions.py",
        "report/charts.py",
        "report/explanations.py",
        "report/forecast.py",
        "report/run_view.py",
        "report/search.py",
        "runs/origin.py",
        "runs/replay.py",
        "runs/standing.py",
        "runs/trial_account.py",
        "study.py",
        "search/preflight.py",
        "search/finalists/retraining.py",
        "search/session/space_change.py",
        "search/session/storage.py",
        "search/strategy/curve_model.py",
        "search/strategy/pruners/__init__.py",
        "search/strategy/pruners/asha.py",
        "search/strategy/pruners/curve.py",
        "search/strategy/pruners/default.py",
        "search/strategy/pruners/hyperband.py",
        "search/strategy/pruners/median.py",
        "search/strategy/pruners/none.py",
        "search/strategy/reasons.py",
        "search/strategy/samplers/__init__.py",
        "search/strategy/samplers/cmaes.py",
        "search/strategy/samplers/curve.py",
        "search/strategy/samplers/default.py",
        "search/strategy/samplers/gp.py",
        "search/strategy/samplers/nsga2.py",
        "search/strategy/samplers/random.py",
        "search/strategy/samplers/tpe.py",
        "search/strategy/strategy.py",
        "search/strategy/unit_cube.py",
        "tracking/dashboard_notes.py",
    },
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("library", ALLOWED)
def test_a_library_is_imported_only_in_its_places(library: str) -> None:
    package = ROOT / "raysweep"
    places = {str(path.relative_to(package)) for path in package.rglob("*.py") if library in imported(path)}
    assert places == ALLOWED[library]


def test_studies_import_neither_ray_nor_wandb() -> None:
    for path in (ROOT / "search_spaces").glob("*.py"):
        assert imported(path) <= {"optuna", "raysweep"}, path


def test_the_environment_is_read_for_options_tracking_and_ray_s_folder_only() -> None:
    package = ROOT / "raysweep"
    readers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "os.environ.get" in path.read_text() or "os.getenv" in path.read_text() or 'os.environ["' in path.read_text()
    }
    assert readers <= {"cli.py", "search/start.py", "cluster/local_ray.py"} | {
        "tracking/wandb_runs.py",
        "tracking/mlflow_runs.py",
    }


def test_nothing_that_searches_or_trains_can_open_the_test_split() -> None:
    for part in ("search/strategy", "search/ray_tune.py", "search/driver.py", "train", "tasks"):
        place = ROOT / "raysweep" / part
        for path in [place] if place.is_file() else place.rglob("*.py"):
            text = path.read_text()
            assert "open_test" not in text, path
            assert "test_folder" not in text, path
