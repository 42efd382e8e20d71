"""Tells why a trial's process cannot go on: the trial itself, a process that died, or the storage."""

import traceback
from pathlib import Path

import torch.distributed
from ray.exceptions import RayActorError
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from raysweep import atomic_files
from raysweep.cluster.ray_internals import health_check_errors
from raysweep.errors import StorageError, TrialError
from raysweep.run_folder import TrialFolder
from raysweep.storage_faults import find_fault
from raysweep.train.device import is_poisoned
from raysweep.train.report import TrialFailure

HEALTH_CHECK_ERRORS = health_check_errors()


def record_failure(folder: TrialFolder, data: Path, error: Exception) -> TrialFailure:
    """Writes the traceback; where that or the error shows that the storage is at fault, the trial has not failed.

    data: the folder of the images.
    """
    causes = error.worker_failures.values() if isinstance(error, WorkerGroupError) else [error]
    fault = next((fault for cause in causes if (fault := find_fault(cause, folder.path, data)) is not None), None)
    if fault is None:
        try:
            atomic_files.write_text(folder.error, traceback.format_exc())
        except StorageError as unwritten:
            fault = unwritten
    if fault is not None:
        return TrialFailure(error=str(fault), died=False, of_storage=True)
    return TrialFailure(error=describe_error(error), died=is_death(error))


def is_death(error: BaseException) -> bool:
    """Tells whether a process died or has to, rather than raised an exception.

    When one dies, the others fail too, as their connections to it break; gloo's errors are plain RuntimeErrors.
    An error that has poisoned the CUDA context is one: the process cannot go on.
    """
    if is_poisoned(error):
        return True
    if not isinstance(error, WorkerGroupError):
        return isinstance(error, TrainingFailedError | RayActorError)  # of Ray Train's controller
    return any(
        isinstance(failure, HEALTH_CHECK_ERRORS)
        or (isinstance(failure, RuntimeError) and "gloo" in str(failure))
        or isinstance(failure, torch.distributed.DistBackendError)
        for failure in error.worker_failures.values()
    )


def describe_error(error: BaseException) -> str:
    """Returns one line: the type and the first line of the message; a failed worker's own error for Ray Train's."""
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        error = next(iter(error.worker_failures.values()))
    error = getattr(error, "health_check_failure", error)  # of a WorkerHealthCheckFailedError
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, TrialError):
        return lines[0]
    return f"{type(error).__name__}: {lines[0]}"[:500]
