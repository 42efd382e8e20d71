"""What a trial's process says when it cannot go on: whose fault it is, without a cluster."""

import errno
from pathlib import Path

import pytest
from ray.train.v2.api.exceptions import WorkerGroupError

from raysweep.errors import StorageError, TrialError
from raysweep.run_folder import TrialFolder
from raysweep.train.trial_failure import record_failure


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder(tmp_path / "trial")
    folder.path.mkdir()
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of the images."""
    return tmp_path / "data"


def test_an_exception_of_the_trial_is_its_failure(folder: TrialFolder, data: Path) -> None:
    failure = record_failure(folder, data, TrialError("val/loss is nan"))
    assert (failure.error, failure.died, failure.of_storage) == ("val/loss is nan", False, False)
    assert folder.error.is_file()


def test_a_fault_of_the_storage_is_none_of_the_trial_and_leaves_no_traceback(folder: TrialFolder, data: Path) -> None:
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", str(data / "train" / "images.npy"))
    for error in (StorageError("no space for x"), OSError(errno.ENOSPC, "No space left on device"), gone):
        failure = record_failure(folder, data, error)
        assert failure.of_storage
        assert not failure.died
        assert "\n" not in failure.error
    assert not folder.error.exists()
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/no/file/of/the/run")
    assert not record_failure(folder, data, missing).of_storage


def test_of_ddp_workers_that_fail_together_the_one_with_the_fault_says_it(folder: TrialFolder, data: Path) -> None:
    """The others lose their connections to it, which alone would be a death."""
    lost = RuntimeError("[gloo] Connection closed by peer")
    both = {1: lost, 0: StorageError("no space for x")}
    failure = record_failure(folder, data, WorkerGroupError("two workers failed", both))
    assert (failure.error, failure.died, failure.of_storage) == ("no space for x", False, True)
    assert record_failure(folder, data, WorkerGroupError("one worker failed", {1: lost})).died


def test_where_no_traceback_can_be_written_the_storage_is_at_fault(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    folder = TrialFolder(tmp_path / "a file" / "trial")
    failure = record_failure(folder, data, ValueError("of the trial, or of a disk that is gone"))
    assert failure.of_storage
    assert "must be in reach" in failure.error
