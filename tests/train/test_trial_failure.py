"""What a trial's process says when it cannot go on: whose fault it is, without a cluster."""

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.train.v2.api.exceptions import WorkerGroupError

from raysweep import storage_faults
from raysweep.cluster.capacity import Request
from raysweep.config import Objective, TrialConfig
from raysweep.data.images import PreparedData
from raysweep.errors import StorageError, TrialError
from raysweep.run_folder import TrialFolder
from raysweep.train.trial import TrialSpec, record_failure


@pytest.fixture
def spec(
    tmp_path: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> TrialSpec:
    monkeypatch.setattr(storage_faults, "PATIENCE_S", 0.0)
    folder = TrialFolder(tmp_path / "trial")
    folder.path.mkdir()
    return TrialSpec(
        number=0,
        config=make_config(),
        data=make_data(num_train=8, num_val=4),
        objective=Objective(metric="val/loss", direction="minimize"),
        folder=folder,
        request=Request(),
        scratch=tmp_path,
    )


def test_an_exception_of_the_trial_is_its_failure(spec: TrialSpec) -> None:
    failure = record_failure(spec, TrialError("val/loss is nan"))
    assert (failure.error, failure.died, failure.of_storage) == ("val/loss is nan", False, False)
    assert spec.folder.error.is_file()


def test_a_fault_of_the_storage_is_none_of_the_trial_and_leaves_no_traceback(spec: TrialSpec) -> None:
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", str(spec.data.folder / "train" / "images.npy"))
    for error in (StorageError("no space for x"), OSError(errno.ENOSPC, "No space left on device"), gone):
        failure = record_failure(spec, error)
        assert failure.of_storage
        assert not failure.died
        assert "\n" not in failure.error
    assert not spec.folder.error.exists()
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/no/file/of/the/run")
    assert not record_failure(spec, missing).of_storage


def test_of_ddp_workers_that_fail_together_the_one_with_the_fault_says_it(spec: TrialSpec) -> None:
    """The others lose their connections to it, which alone would be a death."""
    lost = RuntimeError("[gloo] Connection closed by peer")
    both = {1: lost, 0: StorageError("no space for x")}
    failure = record_failure(spec, WorkerGroupError("two workers failed", both))
    assert (failure.error, failure.died, failure.of_storage) == ("no space for x", False, True)
    assert record_failure(spec, WorkerGroupError("one worker failed", {1: lost})).died


def test_where_no_traceback_can_be_written_the_storage_is_at_fault(spec: TrialSpec, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    spec = dataclasses.replace(spec, folder=TrialFolder(tmp_path / "a file" / "trial"))
    failure = record_failure(spec, ValueError("of the trial, or of a disk that is gone"))
    assert failure.of_storage
    assert "must be in reach" in failure.error
