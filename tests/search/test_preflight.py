"""CUDA graphs are refused before any trial starts where none can be recorded."""

import pytest

from raysweep.catalogue import load_study
from raysweep.errors import UsageError
from raysweep.search.preflight import check_graphs

GRAPHS = load_study("fashion_cnn").with_settings(["training.cuda_graphs=true"])


@pytest.mark.parametrize(
    ("num_workers", "is_capturable", "gpus_per_worker", "got"),
    [
        pytest.param(2, True, None, "2 workers", id="DDP, before Ray starts"),
        pytest.param(1, True, 0.0, "no GPU", id="a cluster without GPUs"),
        pytest.param(1, False, None, "the task classification, which is not", id="a task of one's own"),
        pytest.param(4, True, 0.0, "4 workers, no GPU", id="both"),
    ],
)
def test_graphs_that_cannot_be_recorded_are_refused(
    num_workers: int, is_capturable: bool, gpus_per_worker: float | None, got: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_graphs(GRAPHS, num_workers, is_capturable=is_capturable, gpus_per_worker=gpus_per_worker)
    assert str(caught.value) == (
        f"training.cuda_graphs=true needs one worker with a GPU and a task that is_capturable, got {got}; "
        "set --set training.cuda_graphs=auto"
    )
    check_graphs(load_study("fashion_cnn"), num_workers, is_capturable=is_capturable, gpus_per_worker=gpus_per_worker)


def test_graphs_on_a_part_of_a_gpu_are_not_refused() -> None:
    check_graphs(GRAPHS, 1, gpus_per_worker=0.25)
    check_graphs(GRAPHS, 1)


def test_graphs_of_steps_with_code_of_ones_own_are_refused() -> None:
    study = GRAPHS.with_settings(["task.augmentation=my_code:jitter"])
    with pytest.raises(UsageError, match="got code of your own, whose draws would not be seen; set"):
        check_graphs(study, 1)
