"""The device of a process that trains: which it is, whether it still works, and giving back its memory. No Ray."""

import contextlib
import gc
import traceback
from collections.abc import Iterator

import torch

from raysweep.errors import TrialError

OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: can't allocate memory")
"""Texts of a lack of memory that comes as another error than torch.OutOfMemoryError."""


def choose_device(num_gpus: float) -> torch.device:
    """Chooses where a worker trains that has so many GPUs of Ray.

    Raises:
        TrialError: it has one that torch does not see. It is not trained on the CPU instead, where it would take days.
    """
    if not num_gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrialError(
            f"a worker with {num_gpus:g} GPU of Ray must see it, got none from torch {torch.__version__} there; "
            "`raysweep doctor` says which node it is, --gpus-per-worker 0 trains on CPUs"
        )
    return torch.device("cuda")


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an operation, or one of several workers, wanted more memory than the device has."""
    return any(
        isinstance(cause, torch.OutOfMemoryError)
        or (isinstance(cause, RuntimeError) and any(text in str(cause) for text in OUT_OF_MEMORY))
        for cause in list_causes(error)
    )


def is_poisoned(error: BaseException) -> bool:
    """Tells whether an error has left this process's CUDA context useless, such as a device assert or a bad address.

    Every later call fails there, so that only the end of the process helps. Such an error may come out at another
    call than its own, wrapped by a library; the device is asked, too.
    """
    causes = list_causes(error)
    if any(isinstance(cause, torch.AcceleratorError) and not is_out_of_memory(cause) for cause in causes):
        return True
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        try:
            torch.cuda.synchronize()
        except RuntimeError as found:
            return not is_out_of_memory(found)
    return False


def list_causes(error: BaseException) -> list[BaseException]:
    """Lists an error and what it came from; of Ray Train's error of several workers also theirs."""
    return list(_walk(error, set()))


def _walk(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    for other in (error.__cause__, error.__context__, *getattr(error, "worker_failures", {}).values()):
        yield from _walk(other, seen)


def forget_frames(error: BaseException) -> None:
    """Empties the frames that an error has passed: as long as it is handled they hold networks and batches."""
    for cause in list_causes(error):
        traceback.clear_frames(cause.__traceback__)


def release_memory() -> None:
    """Gives the device memory that nothing refers to back to other processes; of a poisoned context it does nothing."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
