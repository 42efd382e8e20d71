"""Whole studies on a real local Ray cluster: results, failures, early stopping, DDP, and the commands after a run."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image

from raysweep.commands.export import export
from raysweep.commands.predict import predict
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.errors import StudyFailedError, UsageError
from raysweep.file_guard import read_json_lines
from raysweep.report.writer import ReportWriter
from raysweep.run_folder import RunFolder
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides
from raysweep.search.reevaluate import reevaluate
from raysweep.search.results import Results, load_results
from raysweep.search.run import Outcome, run_study
from raysweep.search.summary import describe_results
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef" * 2 + "01234567"


def make_study(source: Path, **changes: Any) -> Study:
    values = {
        "name": "small",
        "task": ClassificationConfig(model="fashion_cnn", dropout=0.2, learning_rate=1e-4),
        "data": DataConfig(source=str(source), image_size=32, max_bad_fraction=0.1),
        "training": TrainingConfig(epochs=1, batch_size=16, precision="fp32"),
        "space": {
            "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
            "training.epochs": IntDistribution(1, 3),
        },
        "objective": Objective(metric="val/accuracy"),
        "budget": Budget(trials=4),
        "seed": 1,
    }
    return Study(**{**values, **changes})


def run_command(command: click.Command, *arguments: str | Path) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


@pytest.fixture(scope="module")
def images(make_image_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, sizes that vary, and three files that are no images."""
    folder = make_image_folder(tmp_path_factory.mktemp("images"), 4, 25, varied=True)
    whole = next((folder / "class1").glob("*.jpg"))
    (folder / "class0" / "empty.jpg").write_bytes(b"")
    (folder / "class1" / "text.jpg").write_text("no image")
    (folder / "class2" / "truncated.jpg").write_bytes(whole.read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def finished(ray_local: None, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A finished run and its folder."""
    os.environ["WANDB_API_KEY"] = KEY
    try:
        options = RunOptions(storage=tmp_path_factory.mktemp("results"), name="finished", wandb="offline")
        return run_study(make_study(images), options), options.run_folder.path
    finally:
        del os.environ["WANDB_API_KEY"]


def test_results_hold_the_contract(finished: tuple[Outcome, Path], images: Path) -> None:
    outcome, run = finished
    stored = json.loads((run / "results.json").read_text())
    assert stored.pop("checksum")
    assert Results.from_json(stored) == load_results(RunFolder(run)) == outcome.results
    assert stored == outcome.results.to_json()
    assert [trial["number"] for trial in stored["trials"]] == [0, 1, 2, 3]
    for trial in stored["trials"]:
        contract = {"number", "state", "value", "best_epoch", "params", "duration_s", "error"}
        assert set(trial) == contract | {"retries", "node_losses"}
        assert trial["state"] in ("COMPLETE", "PRUNED")
    assert stored["trials"][0]["params"] == {"task.learning_rate": 1e-4, "training.epochs": 1}
    assert stored["baseline"] == stored["trials"][0]
    assert stored["best"]["value"] == max(trial["value"] for trial in stored["trials"] if trial["state"] == "COMPLETE")
    data = stored["data"]
    assert data["num_train"] + data["num_val"] + data["num_test"] == 100
    assert data["source"] == str(images)
    assert {Path(skipped["path"]).name for skipped in data["skipped"]} == {"empty.jpg", "text.jpg", "truncated.jpg"}
    assert stored["test"]["num_images"] == data["num_test"]
    assert 0 <= stored["test"]["accuracy"] <= 1
    assert stored["test"]["openings"] == 1
    assert stored["machine"]["num_cpus"] >= 1


def test_the_run_folder_has_what_the_contract_names(finished: tuple[Outcome, Path]) -> None:
    _, run = finished
    for name in (
        "study.json",
        "optuna.journal",
        "best/model.safetensors",
        "best/config.json",
        "test/classification_report.txt",
        "test/classification_report.json",
        "test/confusion_matrix.png",
        "test/predictions.csv",
        "test/predictions.png",
        "test/probabilities.npy",
        "test/examples.json",
        "test/curves.png",
        "trials/0000/config.json",
        "trials/0000/metrics.jsonl",
        "trials/0000/best/model.safetensors",
    ):
        assert (run / name).is_file(), name
    assert not list(run.glob("trials/*/last")), "state to go on with is of no use to a finished trial"
    assert not list(run.rglob("*.pkl"))
    assert len(list(run.glob("trials/*/best"))) <= 4


def test_the_journal_is_the_same_story(finished: tuple[Outcome, Path]) -> None:
    outcome, run = finished
    trials_told = outcome.results.trials
    storage = JournalStorage(JournalFileBackend(str(run / "optuna.journal")))
    trials = optuna.load_study(study_name="small", storage=storage).trials
    assert [trial.state.name for trial in trials] == [trial.state for trial in trials_told]
    for trial, told in zip(trials, trials_told, strict=True):
        history = read_json_lines(run / f"trials/{trial.number:04d}/metrics.jsonl")
        assert trial.intermediate_values == {int(row["epoch"]): row["val/accuracy"] for row in history}
        assert told.value == max(trial.intermediate_values.values())
        assert told.params == trial.params


def test_there_is_a_wandb_run_for_each_trial_and_the_study_and_the_key_is_in_no_file(
    finished: tuple[Outcome, Path],
) -> None:
    outcome, run = finished
    names = sorted(path.name.rsplit("-", 1)[1] for path in (run / "wandb").glob("offline-run-*"))
    assert names == ["0000", "0001", "0002", "0003", "study"]
    assert outcome.sync_command is not None
    assert outcome.sync_command.startswith("wandb sync ")
    for path in run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_evaluating_again_in_a_new_process_gives_identical_predictions_and_is_recorded(
    finished: tuple[Outcome, Path],
) -> None:
    _, run = finished
    before = pd.read_csv(run / "test" / "predictions.csv")
    process = subprocess.run(
        [sys.executable, "-m", "platform.evaluate", run],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    pd.testing.assert_frame_equal(before, pd.read_csv(run / "test" / "predictions.csv"))
    openings = read_json_lines(run / "test" / "openings.jsonl")
    assert [opening["reason"] for opening in openings] == ["final evaluation", "evaluated again"]
    assert "opened 2 times" in process.stdout
    assert "opened 2 times" in (run / "test" / "classification_report.txt").read_text()


def test_predict_gives_label_and_confidence_and_says_what_it_cannot_read(
    finished: tuple[Outcome, Path], images: Path
) -> None:
    _, run = finished
    good, bad = sorted((images / "class3").glob("*.jpg"))[0], images / "class0" / "empty.jpg"
    done = run_command(predict, run, good)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{good}: class")
    done = run_command(predict, run, good, bad, "--json")
    rows = json.loads(done.stdout)
    assert done.exit_code == 1
    assert set(rows[0]) == {"image", "label", "confidence", "rejected", "score", "threshold", "trusted"}
    assert rows[0]["rejected"] == (rows[0]["score"] < rows[0]["threshold"])
    assert 0.25 <= rows[0]["confidence"] <= 1
    assert rows[1]["error"] == "empty file"


def test_predict_rejects_noise(finished: tuple[Outcome, Path], tmp_path: Path) -> None:
    _, run = finished
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    done = run_command(predict, run, path)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{path}: rejected")
    (row,) = json.loads(run_command(predict, run, path, "--json").stdout)
    assert row["rejected"]
    assert row["score"] < row["threshold"]


def test_an_export_is_checked_on_the_test_images_which_is_recorded(finished: tuple[Outcome, Path]) -> None:
    _, run = finished
    copy = run.with_name("exported")
    shutil.copytree(run, copy)
    done = run_command(export, copy, "--format", "standalone")
    assert done.exit_code == 0, done.output
    num_images = min(100, json.loads((run / "results.json").read_text())["test"]["num_images"])
    assert done.stdout.startswith(f"{copy / 'export' / 'standalone'}: largest differences on {num_images}: index 0,")
    assert read_json_lines(copy / "test" / "openings.jsonl")[-1]["reason"] == "parity of an export"


def test_predictions_do_not_depend_on_the_batch(finished: tuple[Outcome, Path]) -> None:
    _, run = finished
    table = pd.read_csv(run / "test" / "predictions.csv")
    rows = json.loads(run_command(predict, run, *table["image"][:5], "--json").stdout)
    assert [row["label"] for row in rows] == list(table["predicted"][:5])
    assert [row["confidence"] for row in rows] == pytest.approx(list(table["confidence"][:5]), abs=1e-4)


def test_a_run_that_exists_is_refused(finished: tuple[Outcome, Path], images: Path) -> None:
    _, run = finished
    with pytest.raises(UsageError, match="exists; go on with it with --resume"):
        run_study(make_study(images), RunOptions(storage=run.parent, name=run.name))


def test_a_diverging_trial_fails_with_its_cause_and_the_study_goes_on(
    ray_local: None, images: Path, tmp_path: Path
) -> None:
    study = make_study(
        images, space={"task.learning_rate": CategoricalDistribution((1e-4, 1e30))}, budget=Budget(trials=6)
    )
    results = run_study(study, RunOptions(storage=tmp_path, name="some-fail", wandb="disabled")).results
    states = {trial.params["task.learning_rate"]: trial.state for trial in results.trials}
    assert states == {1e-4: "COMPLETE", 1e30: "FAIL"}
    failed = [trial for trial in results.trials if trial.state == "FAIL"]
    for trial in failed:
        assert trial.error is not None
        assert "training diverged" in trial.error
        assert "Traceback" in (tmp_path / f"some-fail/trials/{trial.number:04d}/error.txt").read_text()
    assert results.best.state == "COMPLETE"


def test_a_baseline_that_failed_is_said_everywhere_and_nothing_stands_in_for_it(
    ray_local: None, images: Path, tmp_path: Path
) -> None:
    study = make_study(
        images,
        task=ClassificationConfig(model="fashion_cnn", learning_rate=1e30),
        space={"task.learning_rate": CategoricalDistribution((1e-4, 1e30))},
        points=({"task.learning_rate": 1e-4},),
        budget=Budget(trials=2),
    )
    options = RunOptions(storage=tmp_path, name="failed", wandb="offline")
    results, run_folder = run_study(study, options).results, options.run_folder
    assert [trial.state for trial in results.trials] == ["FAIL", "COMPLETE"]
    cause, test = results.trials[0].error, results.test
    assert cause is not None
    assert test.baseline is None
    assert test.baseline_failure == cause
    assert test.lift == {"text": f"the baseline failed, so that no lift is stated: {cause}"}
    printed = describe_results(results, run_folder)
    report = (run_folder.test / "classification_report.txt").read_text()
    for text in (printed, report):
        assert f"no lift is stated: {cause}" in text
        assert "the best trial is the baseline" not in text
    assert "baseline: failed" in printed
    assert cause in (run_folder.test / "baseline_classification_report.txt").read_text()
    again = reevaluate(run_folder, None)
    assert (again.baseline, again.baseline_failure, again.lift) == (None, cause, test.lift)


def test_when_all_trials_fail_the_causes_are_listed(ray_local: None, images: Path, tmp_path: Path) -> None:
    study = make_study(images, task=ClassificationConfig(model="fashion_cnn", learning_rate=1e30), space={})
    with pytest.raises(
        StudyFailedError, match=r"(?s)no trial of small completed.*trial 0: .*diverged.*trial 1: "
    ) as caught:
        run_study(study, RunOptions(storage=tmp_path, name="all-fail", wandb="disabled"))
    assert caught.value.exit_code == 1


def test_two_objectives_end_in_a_pareto_front(
    ray_local: None, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {
        "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "task.model": CategoricalDistribution(("fashion_cnn", "resnet10t")),
    }
    second = Objective(metric="model/num_parameters", direction="minimize")
    study = make_study(images, space=space, second_objective=second, budget=Budget(trials=3))
    options = RunOptions(storage=tmp_path, name="two", wandb="offline")
    run_study(study, options)
    assert capsys.readouterr().err.count("the search stops no trial early, as Optuna takes no intermediate values") == 1
    study = dataclasses.replace(study, budget=Budget(trials=6))
    results = run_study(study, dataclasses.replace(options, resume=True)).results
    run = options.run_folder.path
    trials = optuna.load_study(
        study_name="small", storage=JournalStorage(JournalFileBackend(str(run / "optuna.journal")))
    )
    assert [trial.state.name for trial in trials.trials] == 6 * ["COMPLETE"]
    assert [[trial.value, trial.second_value] for trial in results.trials] == [trial.values for trial in trials.trials]
    sizes = {trial.params["task.model"]: trial.second_value or 0 for trial in results.trials}
    assert 1 < sizes["fashion_cnn"] < sizes["resnet10t"]
    front = results.pareto_front
    assert sorted(front) == [trial.number for trial in trials.best_trials]
    assert front[0] == results.best.number
    for number in front:
        assert (run / f"trials/{number:04d}/best/model.safetensors").is_file()
        (row,) = read_json_lines(run / f"trials/{number:04d}/metrics.jsonl")
        assert (row["val/accuracy"], row["model/num_parameters"]) == (
            results.trials[number].value,
            results.trials[number].second_value,
        )
    assert (run / "test/pareto_front.png").is_file()
    assert not options.run_folder.untold.exists(), "all were told"
    assert f"Pareto front of {len(front)} trials" in describe_results(results, options.run_folder)


def test_finalists_of_a_finished_run_are_trained_again_and_the_search_is_untouched(
    ray_local: None, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(images, budget=Budget(trials=3))
    options = RunOptions(storage=tmp_path, name="finalists", wandb="disabled")
    before, run = run_study(study, options).results, options.run_folder.path
    times = {path: path.stat().st_mtime_ns for path in (run / "trials").rglob("*")}
    again = dataclasses.replace(options, resume=True, overrides=Overrides(finalists=3, seeds=2))
    refreshed: list[int] = []
    monkeypatch.setattr(ReportWriter, "trial_ended", lambda report, result: refreshed.append(result.number))
    results = run_study(study, again).results
    assert sorted(refreshed) == list(range(3 * 2)), "the report tells of each training that ends"
    assert results.trials == before.trials
    assert {path: path.stat().st_mtime_ns for path in (run / "trials").rglob("*")} == times
    found = results.finalists
    assert found is not None
    assert (found.requested, found.seeds, len(found.configurations)) == (3, 2, 3)
    seeds = [trial_seed(path) for path in run.rglob("trials/*/config.json")]
    assert len(set(seeds)) == len(seeds) == 3 + 3 * 2
    means = {}
    for configuration in found.configurations:
        assert configuration.params == results.trials[configuration.trial].params
        histories = [read_json_lines(run / f"finalists/trials/{n:04d}/metrics.jsonl") for n in configuration.trainings]
        values = tuple(max(row["val/accuracy"] for row in rows) for rows in histories)
        assert configuration.values == values
        means[configuration.trial] = np.mean(values)
    assert found.winner == max(means, key=lambda number: (means[number], -number))
    winner = next(entry for entry in found.configurations if entry.trial == found.winner)
    assert (results.best.number, results.best.value) == (
        found.winner,
        max(value for value in winner.values if value is not None),
    )
    chosen = json.loads((run / "best/config.json").read_text())["finalist"]
    weights = (run / f"finalists/trials/{chosen:04d}/best/model.safetensors").read_bytes()
    assert chosen in winner.trainings
    assert (run / "best/model.safetensors").read_bytes() == weights
    assert (run / "finalists/baseline/model.safetensors").is_file()
    assert len(list(run.glob("finalists/trials/*/best"))) == 3 * 2
    tested, baseline = results.test.seeds, found.configurations[0]
    assert tested is not None
    assert tested["best"]["finalists"] == list(winner.trainings)
    assert tested["best"]["values"][winner.trainings.index(chosen)] == pytest.approx(results.test.accuracy)
    assert tested["best"]["mean"] == pytest.approx(np.mean(tested["best"]["values"]))
    if winner is not baseline:
        assert tested["baseline"]["finalists"] == list(baseline.trainings)
    assert f"finalists: {tested['text']}" in describe_results(results, RunFolder(run))
    assert f"nothing is chosen: {tested['text']}." in (run / "report.html").read_text()
    assert "trained again" in (run / "test" / "classification_report.txt").read_text()
    assert "no more than 2 of the 3 that were asked for" in describe_results(results, RunFolder(run))
    assert results.test.openings == 2
    assert run_study(study, again) == Outcome(results=load_results(RunFolder(run)))
    assert len(read_json_lines(run / "test" / "openings.jsonl")) == 2


def trial_seed(config: Path) -> int:
    return int(json.loads(config.read_text())["config"]["seed"])
