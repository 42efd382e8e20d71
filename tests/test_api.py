"""From Python: the same search, forecast and run as on the command line; errors are raised, nothing exits."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

import raysweep
from raysweep.planning import probe
from raysweep.planning.forecast import Forecast
from raysweep.run_folder import RunFolder
from raysweep.search.summary import describe_results

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def study(make_image_folder: Callable[..., Path], tmp_path: Path) -> raysweep.Study:
    return raysweep.Study(
        name="discs",
        task=raysweep.ClassificationConfig(model="fashion_cnn"),
        data=raysweep.DataConfig(source=str(make_image_folder(tmp_path / "images", 2, 30)), image_size=32),
        training=raysweep.TrainingConfig(epochs=1, batch_size=16),
        space={"task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True)},
        objective=raysweep.Objective(metric="val/accuracy"),
        budget=raysweep.Budget(trials=9),
    )


@pytest.mark.ray
def test_a_search_a_forecast_and_a_run(
    ray_local: None, study: raysweep.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        probe, "SLOW_STEP_S", 0.0
    )  # of a slow study the baseline alone is probed, which is quicker here
    forecast = raysweep.plan(study, trials=2, storage=tmp_path, wandb="disabled")
    assert isinstance(forecast, Forecast)
    assert forecast.trials == 2

    run = raysweep.tune(study, trials=2, storage=tmp_path, name="first", wandb="disabled")
    assert run.folder == tmp_path / "first"
    assert run.baseline is not None
    assert run.trials.loc[0, "task.learning_rate"] == run.baseline.params["task.learning_rate"] == 1e-3
    assert list(run.trials.index) == [0, 1]
    assert run.trials.loc[run.best.number, "value"] == run.best.value
    assert 0 <= run.test.accuracy <= 1
    assert isinstance(run.lift["text"], str)
    with pytest.raises(raysweep.UsageError, match="exists; go on with it with --resume"):
        raysweep.tune(study, trials=2, storage=tmp_path, name="first", wandb="disabled")

    loaded = raysweep.load_run(run.folder)
    assert loaded.results == run.results
    assert str(loaded) == describe_results(run.results, RunFolder(run.folder))
    images = sorted((tmp_path / "images").rglob("*.jpg"))[:2]
    assert [row["image"] for row in loaded.predict(images)] == [str(path) for path in images]
    assert loaded.load_model().number == run.best.number

    raysweep.tune(study, trials=2, storage=str(tmp_path), name="first", wandb="disabled", resume=True)
    assert callable(raysweep.plan), "the import of a module has hidden the function"


def test_what_is_wrong_is_raised(tmp_path: Path, study: raysweep.Study) -> None:
    for call in (raysweep.tune, raysweep.plan):
        with pytest.raises(raysweep.UsageError, match="unknown keyword 'trails'; did you mean 'trials'"):
            call(study, trails=2)  # type: ignore[call-arg]
        with pytest.raises(raysweep.UsageError, match="unknown study 'fashion_cn'; did you mean 'fashion_cnn'"):
            call("fashion_cn")
    with pytest.raises(raysweep.UsageError, match="is not the folder of a finished run"):
        raysweep.load_run(tmp_path)


def test_the_signature_has_the_flags_as_keywords() -> None:
    parameters = inspect.signature(raysweep.tune).parameters
    assert list(parameters)[:3] == ["study", "data", "trials"]
    assert {"num_workers", "settings", "time_s", "sampler", "wandb"} <= set(parameters)
    assert not {"overrides", "data_root"} & set(parameters)
    assert {each.kind for name, each in parameters.items() if name != "study"} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_studies_use_public_names_only(path: Path) -> None:
    modules = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert set(modules) <= {"raysweep", "optuna.distributions"}
