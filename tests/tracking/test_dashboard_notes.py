"""optuna-dashboard's own functions find the notes and the pictures that a search leaves."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta
from optuna_dashboard import get_note
from optuna_dashboard.artifact import get_artifact_path

from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.search.session.storage import open_storage
from raysweep.tracking.dashboard_notes import leave_notes
from raysweep.trial_result import TrialResult


@pytest.fixture
def results(build_results: Callable[..., Results]) -> Results:
    good = TrialResult(number=0, state="COMPLETE", value=0.5, best_epoch=1, params={}, duration_s=1.0)
    bad = TrialResult(
        number=1, state="FAIL", value=None, best_epoch=None, params={}, duration_s=1.0, error="TrialError: NaN"
    )
    return build_results([good, bad])


def test_notes_and_pictures_are_left_once_in_the_run_s_journal(tmp_path: Path, results: Results) -> None:
    folder = RunFolder(tmp_path)
    study = optuna.create_study(study_name="small", storage=open_storage(folder, None))
    study.tell(study.ask(), 0.5)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    folder.test.mkdir()
    failed_samples = folder.trial(1).samples
    failed_samples.mkdir(parents=True)
    for epoch in (1, 2):
        (failed_samples / f"epoch_{epoch:04d}.png").write_bytes(b"sample of epoch %d" % epoch)
    for content in (b"old", b"picture"):  # as by a search that is extended
        (folder.test / "curves.png").write_bytes(content)
        leave_notes(study, folder, results)
    again = optuna.load_study(study_name="small", storage=open_storage(folder, None))
    assert "Best: trial 0" in get_note(again)
    best, failed = (get_note(optuna.Trial(again, trial._trial_id)) for trial in again.trials)
    assert "- error: TrialError: NaN" in failed
    artifacts = {artifact.filename: artifact for artifact in get_all_artifact_meta(again)}
    assert set(artifacts) == {"curves.png", "trial_0001.png"}
    artifact, sample = artifacts["curves.png"], artifacts["trial_0001.png"]
    assert best.endswith(f"![curves]({get_artifact_path(again, artifact.artifact_id)})")
    assert failed.endswith(f"![trial_0001]({get_artifact_path(again, sample.artifact_id)})")
    assert (folder.artifacts / sample.artifact_id).read_bytes() == b"sample of epoch 2"
    copy = tmp_path / "copy.png"
    store = FileSystemArtifactStore(folder.artifacts)
    download_artifact(artifact_store=store, artifact_id=artifact.artifact_id, file_path=str(copy))
    assert (artifact.filename, copy.read_bytes()) == ("curves.png", b"picture")


def test_what_goes_wrong_is_one_sentence(tmp_path: Path, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study()
    study.tell(study.ask(), 0.5)
    leave_notes(study, RunFolder(tmp_path), results)
    assert capsys.readouterr().err == "optuna-dashboard will show no notes: KeyError: 1\n"


def test_without_the_package_nothing_is_left(tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    leave_notes(optuna.create_study(), RunFolder(tmp_path), results)
    assert list(tmp_path.iterdir()) == []
