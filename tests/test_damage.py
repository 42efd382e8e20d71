"""Damages files that are read back in every way: there is an error of ours or a word on it, never a wrong answer."""

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage

from raysweep import atomic_files
from raysweep.api import load_run
from raysweep.atomic_files import Json
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.data import pipeline
from raysweep.data.blocks import decode_block
from raysweep.data.sources import load_source
from raysweep.errors import CorruptFileError, RaysweepError, UsageError
from raysweep.evaluate import final
from raysweep.evaluate.final_run import FinalRun
from raysweep.predict import predict_files
from raysweep.run_folder import RunFolder
from raysweep.search.best_model import keep_best
from raysweep.search.reevaluate import reevaluate
from raysweep.search.results import Results, save_results
from raysweep.search.retention import Retention, keep_for_search
from raysweep.search.session.identity import Identity
from raysweep.search.session.opening import enter_run, load_finished, open_strategy
from raysweep.search.start import resolve_search
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.evaluation import predict_probabilities
from raysweep.tasks.classification.rejection.detector import ensure_detector
from raysweep.train.loop import fit
from raysweep.trial_record import save_config
from raysweep.trial_result import BASELINE, TrialResult

pytestmark = pytest.mark.usefixtures("one_thread")
PACKAGE = Path(__file__).resolve().parents[1] / "raysweep"
Answers = dict[str, Any]


def decode_here(source: Any, into: Any) -> Iterator[dict[str, Any]]:
    """Decodes as the workers of Ray Data do, in this process."""
    for block in pipeline._make_blocks(source, 1.0):
        yield from decode_block(block, into=into).to_pylist()


def evaluate_quickly(run: FinalRun) -> Json:
    """Stands for the evaluation of the task, whose figures take seconds: the part that tells models apart."""
    atomic_files.write_text(run.folder / "report.txt", run.note)
    ensure_detector(run.run_folder.best.detector, run.best, run.data)
    models = {"best": run.best, "baseline": run.baseline}
    said = {name: predict_probabilities(m, run.test).round(4).tolist() for name, m in models.items() if m is not None}
    lift = {"text": run.explain_no_lift()}
    return {"num_images": len(run.test), "report": "report.txt", "headline": "done", "lift": lift, "said": said}


@pytest.fixture(scope="module")
def intact(
    study: Study,
    tmp_path_factory: pytest.TempPathFactory,
    patches: None,
    begin_run: Callable[..., Strategy],
    build_results: Callable[..., Results],
) -> RunFolder:
    """A run of two trials and its evaluation as `run_study` leaves it, but for Ray."""
    storage = tmp_path_factory.mktemp("intact")
    folder = RunFolder(storage / study.name)
    source = load_source(study.data.source, split_seed=0, storage=storage, data_root=None)
    data, test_folder = pipeline.prepare(source, study.data, folder.cache)
    strategy = begin_run(folder, study, data.info.digest)
    retention = Retention(folder, [], keep_for_search(study))
    while (proposal := strategy.propose()) is not None:
        number, params = proposal
        config, trial = strategy.trial_config(number, params), folder.trial(number)
        save_config(trial.config, number, config, data.info, params)
        reports: list[Any] = []
        fit(config, data, study.objective, report=reports.append, folder=trial)
        for report in reports:
            strategy.report(number, int(report.metrics["epoch"]), report.value)
        last = reports[-1]
        result = TrialResult(
            number=number,
            state="COMPLETE",
            value=last.best_value,
            best_epoch=last.best_epoch,
            params=params,
            duration_s=1.0,
        )
        strategy.tell(result)
        retention.trial_ended(result)
    trials = strategy.results()
    best = keep_best(folder, study, trials)
    test = final.evaluate_final(folder, test_folder, data=data, reason="final", num_threads=1, data_root=None)
    found = {"study": study.name, "objective": study.objective, "best": best, "test": test, "data": data.info}
    save_results(folder, build_results(trials, **found))
    return folder


@pytest.fixture(scope="module")
def patches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_run", decode_here)
        patch.setattr(final, "load_object", lambda name: evaluate_quickly)
        patch.setattr("raysweep.cluster.connection.connect", lambda address: None)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_image_folder: Callable[..., Path]) -> Study:
    return Study(
        name="damaged",
        task=ClassificationConfig(model="fashion_cnn", learning_rate=1e-4),
        data=DataConfig(source=str(make_image_folder(tmp_path_factory.mktemp("images"), 3, 20)), image_size=28),
        training=TrainingConfig(epochs=2, batch_size=8, precision="fp32"),
        space={"task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True)},
        objective=Objective(metric="val/loss", direction="minimize"),
        budget=Budget(trials=2),
    )


@pytest.fixture(scope="module")
def answers(intact: RunFolder, study: Study, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    folder = copy_run(intact, tmp_path_factory.mktemp("answers"))
    return {name: read(folder, study) for name, read in READERS.items()}


def copy_run(intact: RunFolder, storage: Path) -> RunFolder:
    shutil.rmtree(storage, ignore_errors=True)
    shutil.copytree(intact.storage, storage, symlinks=True)
    return RunFolder(storage / intact.path.name)


def resume(folder: RunFolder, study: Study) -> Any:
    """What `tune --resume` does before it connects to Ray: the results, or the trials where there is work to do."""
    values = {"storage": folder.storage, "name": folder.path.name, "resume": True, "wandb": "disabled"}
    resolved, options = resolve_search(study, values)
    with contextlib.ExitStack() as stack:
        record, identity = enter_run(resolved, options, stack)
        assert record is not None
        found = load_finished(resolved, options, record, identity)
        if found is None:
            return open_strategy(resolved, folder, identity).results()
        return found.to_json()["best"], found.to_json()["trials"], found.test.said["best"]


def predict(folder: RunFolder, study: Study) -> Any:
    images = sorted(Path(study.data.source).rglob("*.jpg"))[:3]
    rows = predict_files(folder, images)
    return [{key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()} for row in rows]


def evaluate(folder: RunFolder, study: Study) -> Any:
    figures = reevaluate(folder, None)
    return {"failure": figures.baseline_failure, "num_images": figures.num_images, **figures.said}


def load(folder: RunFolder, study: Study) -> Any:
    run = load_run(folder.path)
    return run.results.to_json()["trials"], run.best, "damaged: 2 trials" in str(run), run.load_model().facts


READERS: dict[str, Callable[[RunFolder, Study], Any]] = {
    "predict": predict,
    "load": load,
    "resume": resume,
    "evaluate": evaluate,
}


def list_files(folder: RunFolder) -> list[Path]:
    """Lists what the commands read back, relative to the storage, but decoded pixels: only their form is checked."""
    kept = [path for path in folder.storage.rglob("*") if path.is_file() and path.suffix not in (".lock", ".txt")]
    kept = [path for path in kept if path.name != "images.npy"]
    return sorted(path.relative_to(folder.storage) for path in kept)


def damage(path: Path, other: Path, data: st.DataObject) -> None:
    content, kind = path.read_bytes(), data.draw(st.sampled_from(KINDS), label="kind")
    place = data.draw(st.integers(0, max(0, len(content) - 1)), label="place")
    if kind == "flip" and content:
        flipped = content[place] ^ (1 << data.draw(st.integers(0, 7), label="bit"))
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
    elif kind == "truncate":
        path.write_bytes(content[:place])
    elif kind == "insert":
        path.write_bytes(
            content[:place] + data.draw(st.binary(min_size=1, max_size=9), label="bytes") + content[place:]
        )
    elif kind == "cut":
        path.write_bytes(content[:place] + content[place + data.draw(st.integers(1, 50), label="length") :])
    elif kind == "remove":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "swap":
        theirs = other.read_bytes()
        other.write_bytes(content)
        path.write_bytes(theirs)
    elif kind == "key" and path.suffix == ".json" and content.startswith(b"{"):
        values = json.loads(content)
        del values[data.draw(st.sampled_from(sorted(values)), label="key")]
        path.write_text(json.dumps(values))
    elif kind == "values" and path.suffix in (".json", ".jsonl"):
        path.write_text(data.draw(st.sampled_from(VALUES), label="values"))


KINDS = ["flip", "truncate", "insert", "cut", "remove", "folder", "swap", "key", "values"]
VALUES = [
    "",
    "{}",
    "[]",
    "null",
    "NaN",
    '{"a": 1e999}',
    "[" * 100_000,
    '{"number": ' + "9" * 5000 + "}",
    "\n",
    '"\udcff"'[:1],
]


@given(data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
)
def test_damage_is_an_error_or_a_word_on_it(
    data: st.DataObject,
    intact: RunFolder,
    answers: Answers,
    study: Study,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = tmp_path_factory.getbasetemp() / "copy"
    folder = copy_run(intact, storage)
    files = list_files(folder)
    path, other = (storage / data.draw(st.sampled_from(files), label=name) for name in ("file", "other"))
    damage(path, other, data)
    for name in data.draw(st.permutations(list(READERS)), label="order"):
        capsys.readouterr()
        try:
            answer = READERS[name](folder, study)
        except RaysweepError as error:
            check_message(str(error))
            continue
        said = capsys.readouterr().err
        assert answer == answers[name] or is_said(name, answer, answers, said), (name, path, answer, said)


def check_message(text: str) -> None:
    assert "\n" not in text
    assert len(text) < 1500


def is_said(name: str, answer: Any, answers: Answers, said: str) -> bool:
    """Tells whether another answer is one that says what is missing, and is right as far as it goes."""
    if name == "evaluate":
        return (
            bool(answer["failure"])
            and {**answer, "failure": None, "baseline": answers[name]["baseline"]} == answers[name]
        )
    if name == "resume" and isinstance(answer, list):  # what is left of a journal is gone on with
        trials = answers["load"][0]
        return all(dataclasses.asdict(result)["value"] == trials[result.number]["value"] for result in answer)
    return False


@pytest.fixture
def folder(intact: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run, to be damaged."""
    return copy_run(intact, tmp_path / "copy")


def change(path: Path, edit: Callable[[Any], object]) -> None:
    """Changes a JSON file as somebody would who knows of the checksum."""
    values = json.loads(path.read_text())
    values.pop("checksum", None)
    edit(values)
    path.write_text(json.dumps(values))


def test_two_swapped_names_make_no_wrong_class(folder: RunFolder, study: Study) -> None:
    change(folder.best.config, lambda values: values["data"]["classes"].reverse())
    for read in (predict, evaluate):
        with pytest.raises(CorruptFileError, match=r"config\.json must be the file that was kept.*--resume"):
            read(folder, study)


def test_a_best_model_that_is_damaged_or_gone_is_left_to_do(
    folder: RunFolder, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.best.weights.write_bytes(folder.best.weights.read_bytes()[:-1])
    assert isinstance(resume(folder, study), list)
    assert "the best model is copied from its trial and evaluated again" in capsys.readouterr().err
    folder.best.digest.unlink()
    folder.best.weights.unlink()
    assert isinstance(resume(folder, study), list)


def test_a_run_from_before_there_were_checksums_is_read(folder: RunFolder, study: Study, answers: Answers) -> None:
    folder.best.digest.unlink()
    for path in (folder.study, folder.results, folder.best.config, folder.trial(0).config):
        change(path, lambda values: values.pop("schema_version", None))
    for path in (folder.journal, folder.openings, folder.trial(0).metrics):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "checksum"}) + "\n" for row in rows))
    for name, read in READERS.items():
        assert read(folder, study) == answers[name]


def test_a_run_from_before_a_field_of_its_task_goes_on(folder: RunFolder, study: Study, answers: Answers) -> None:
    for path in (folder.study, folder.trial(0).config, folder.trial(1).config):
        change(path, lambda values: values.get("config", values)["task"].pop("freeze_batch_norm"))
    for name, read in READERS.items():
        assert read(folder, study) == answers[name]
    for path in (folder.results, folder.best.weights):
        path.unlink()
    assert [trial.number for trial in resume(folder, study)] == [0, 1]


def test_a_later_study_json_is_not_taken(folder: RunFolder, study: Study) -> None:
    change(folder.study, lambda values: values.update(schema_version=2))
    with pytest.raises(UsageError, match="a later raysweep wrote it"):
        resume(folder, study)


def test_a_damaged_baseline_is_said_and_the_best_is_evaluated(
    folder: RunFolder, answers: Answers, study: Study
) -> None:
    weights = folder.trial(BASELINE).weights
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    answer = evaluate(folder, study)
    assert answer["best"] == answers["evaluate"]["best"]
    assert "does not match its digest" in answer["failure"]
    weights.write_bytes(whole)
    assert evaluate(folder, study) == answers["evaluate"], "mended, it is the baseline again"


def test_the_best_trial_with_damaged_weights_is_an_error_and_is_passed_over_once_they_are_removed(
    folder: RunFolder, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = open_strategy(study, folder, Identity(run_id="r", study_name=study.name)).results()
    best = keep_best(folder, study, trials)
    other = folder.trial(1 - best.number)
    weights = folder.trial(best.number).weights
    shutil.copy(other.weights, weights)
    with pytest.raises(CorruptFileError, match=r"as the trial ended, got epoch .*remove `best/` of this trial"):
        keep_best(folder, study, trials)
    weights.unlink()
    assert keep_best(folder, study, trials).number == 1 - best.number
    assert f"trial {best.number} led with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("garbage", "line 5: JSONDecodeError"),
        ("[1]", "line 5: no object but a list"),
        ('{"op_code": 99, "worker_id": "x"}', "AssertionError"),
        ('{"op_code": 5, "worker_id": "x"}', "got no 'trial_id'"),
    ],
)
def test_a_journal_with_a_foreign_line_is_refused(folder: RunFolder, study: Study, line: str, reason: str) -> None:
    lines = folder.journal.read_text().splitlines()
    for place in (4, len(lines)):
        folder.journal.write_text("\n".join([*lines[:place], line, *lines[place:], ""]))
        with pytest.raises(CorruptFileError, match=reason if place == 4 else "must hold the Optuna study of a run"):
            resume(folder, study)


def test_a_journal_that_lacks_a_trial_is_refused(folder: RunFolder, study: Study) -> None:
    folder.journal.write_text("".join(folder.journal.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(CorruptFileError, match=r"trials up to number 0 where .* has trial 1"):
        resume(folder, study)


def test_a_damaged_database_is_refused(folder: RunFolder, study: Study, tmp_path: Path) -> None:
    database = tmp_path / "optuna.db"
    identity = Identity(run_id="r", study_name="new", storage_url=f"sqlite:///{database}")
    shutil.rmtree(folder.trials)
    RDBStorage(f"sqlite:///{database}")
    assert open_strategy(study, folder, identity).propose() is not None
    whole = database.read_bytes()
    database.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    with pytest.raises(RaysweepError, match=r"optuna\.db"):
        open_strategy(study, folder, identity)


def test_decoded_images_with_objects_are_never_unpickled_but_decoded_again(
    folder: RunFolder, study: Study, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    (labels,) = folder.cache.glob("*/train/labels.npy")
    np.save(labels, np.array([Trap(labels.with_name("ran"))], dtype=object), allow_pickle=True)
    assert evaluate(folder, study) == answers["evaluate"]
    assert "the images are decoded again" in capsys.readouterr().err
    assert not labels.with_name("ran").exists()


@dataclasses.dataclass
class Trap:
    """Makes a file when it is unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_another_study_is_named_first(folder: RunFolder, study: Study) -> None:
    with pytest.raises(UsageError, match="is a run of the study damaged, got other: "):
        resume(folder, dataclasses.replace(study, name="other"))


def test_fewer_trials_than_there_are_is_said(
    folder: RunFolder, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    resume(folder, dataclasses.replace(study, budget=Budget(trials=1)))
    assert "nothing is done: it has 2 trials, and --trials asks for 1" in capsys.readouterr().err


def test_a_storage_that_is_no_folder_is_refused(study: Study, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--storage must be a folder to write in"):
        resume(RunFolder(tmp_path / "file" / "run"), study)


READS = re.compile(r"json\.loads?\(|np\.load\(|torch\.load\(|\.safe_load\(|(?<!file_guard)\.read_text\(|pickle\.load")
UNGUARDED = {
    "atomic_files.py",  # what it is about to write
    "file_guard.py",  # the guard
    "data/arrays.py",  # inside the guard
    "data/blocks.py",  # what it has just written
    "proposal/study_file.py",  # to see whether it would write the same
    "export/standalone/generate.py",  # stands alone, without the guard
    "export/standalone/predict.py",
    "tasks/classification/timm_models.py",  # timm's source
    "tasks/classification/weights.py",  # a user's own file, tensors alone
    "train/checkpoint.py",  # facts, once their digest is checked
    "planning/prices.py",  # a user's own file: --cluster
    "distributions.py",  # Optuna's own text
    "search/session/lock.py",  # who works there: what is no JSON is "?"
    "search/session/identity.py",  # a study, as it would be stored
    "serve/app.py",  # its own page
    "train/report.py",  # between processes of a search, never on disk
    "train/trial.py",
    "train/usage.py",  # /proc
    "cluster/doctor.py",  # what it has just written
    "tracking/wandb_study.py",  # their thread takes any error
    "tracking/tensorboard_events.py",
    "chaos/victim.py",  # of a search that is disturbed on purpose
    "cluster/leftovers.py",  # of a dead driver: what is no JSON is passed over
}


def test_files_are_read_inside_the_guard_only() -> None:
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if READS.search(path.read_text())}
    assert found <= UNGUARDED
