"""What a process does about its device: one that is not there, an error that ruins it, memory that is given back."""

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from ray.train.v2.api.exceptions import WorkerGroupError

from raysweep.cluster.capacity import Request
from raysweep.config import Objective
from raysweep.data.images import PreparedData
from raysweep.errors import TrialError
from raysweep.run_folder import TrialFolder
from raysweep.tasks.classification.task import ClassificationTask
from raysweep.train import trial
from raysweep.train.device import choose_device, is_out_of_memory, is_poisoned, release_memory
from raysweep.train.report import EpochReport, TrialFailure, TrialReport, unpack_report
from raysweep.train.state import TrainState
from raysweep.train.usage import UsageRecorder
from raysweep.trial_config import TrialConfig

ASSERT = "CUDA error: device-side assert triggered"
NO_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


def chain(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "poisoned", "out_of_memory"),
    [
        (torch.AcceleratorError(ASSERT), True, False),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True, False),
        (chain(ValueError("of a library"), torch.AcceleratorError(ASSERT)), True, False),
        (WorkerGroupError("one", {1: RuntimeError("gloo"), 0: torch.AcceleratorError(ASSERT)}), True, False),
        (torch.OutOfMemoryError(NO_MEMORY), False, True),
        (torch.AcceleratorError("CUDA error: out of memory"), False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False, True),
        (WorkerGroupError("one", {1: torch.OutOfMemoryError(NO_MEMORY)}), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("out of memory is not what a ValueError means"), False, False),
    ],
)
def test_what_an_error_says_of_the_device(error: Exception, poisoned: bool, out_of_memory: bool) -> None:
    assert (is_poisoned(error), is_out_of_memory(error)) == (poisoned, out_of_memory)


def test_memory_that_the_system_does_not_have() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_gpu_that_torch_does_not_see_is_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(0).type == "cpu"
    with pytest.raises(TrialError, match=r"a worker with 0\.5 GPU of Ray must see it, got none .* --gpus-per-worker 0"):
        choose_device(0.5)


def test_clearing_the_cache_of_a_ruined_context_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise torch.AcceleratorError(ASSERT)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    release_memory()
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert is_poisoned(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))


@pytest.fixture
def run(
    tmp_path: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., list[TrialReport]]]:
    """Runs a trial as Ray Tune does, in this process, and returns its reports; `stop_after` so many Ray stops it."""

    def start(stop_after: int | None = None, request: Request = Request(), **values: Any) -> list[TrialReport]:  # noqa: B008
        reports: list[TrialReport] = []

        def take(message: Any) -> None:
            reports.append(unpack_report(message))
            if len(reports) == stop_after:
                raise SystemExit(0)

        monkeypatch.setattr(tune, "report", take)
        folder = TrialFolder(tmp_path / "trial")
        folder.path.mkdir(exist_ok=True)
        spec = trial.TrialSpec(
            number=0,
            config=make_config(**values),
            data=make_data(num_train=32, num_val=8),
            objective=Objective(metric="val/accuracy"),
            folder=folder,
            request=request,
            scratch=tmp_path,
        )
        trial.run_trial({"spec": spec})
        return reports

    benchmarks = torch.backends.cudnn.benchmark
    yield start
    torch.set_flush_denormal(False)  # of prepare_process
    torch.backends.cudnn.benchmark = benchmarks


def test_a_trial_whose_gpu_is_not_there_fails(
    run: Callable[..., list[TrialReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (failure,) = run(request=Request(gpus_per_worker=1))
    assert isinstance(failure, TrialFailure)
    assert failure.error.startswith("a worker with 1 GPU of Ray must see it")
    assert not failure.died


@pytest.mark.parametrize(("gpus", "placement"), [(0, "SPREAD"), (1, "PACK")])
def test_workers_on_gpus_are_on_as_few_nodes_as_hold_them(gpus: int, placement: str) -> None:
    assert trial.choose_placement(Request(num_workers=4, gpus_per_worker=gpus)) == placement


@pytest.mark.gpu
def test_the_peak_of_a_trial_is_its_own(tmp_path: Path) -> None:
    device = choose_device(1)
    large = torch.empty(2**28, dtype=torch.uint8, device=device)
    del large
    release_memory()
    UsageRecorder(tmp_path / "usage.json", device).epoch_ended()
    assert json.loads((tmp_path / "usage.json").read_text())["gpu_memory_bytes"] < 2**28


@pytest.mark.gpu
def test_an_error_that_ruins_the_context_is_told_apart_on_a_gpu() -> None:
    """In a process of its own, which it ruins."""
    script = (
        "import torch; from raysweep.train.device import is_out_of_memory, is_poisoned, release_memory\n"
        "values = torch.zeros(4, device='cuda')\n"
        "try: values[torch.tensor([99], device='cuda')].sum().item()\n"
        "except RuntimeError as error: print(is_poisoned(error), is_out_of_memory(error))\n"
        "release_memory()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def fail_above(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory holds so many images at once."""
    compute_loss = ClassificationTask.compute_loss

    def compute(self: ClassificationTask, state: TrainState, batch: Any) -> dict[str, torch.Tensor]:
        if len(batch.labels) > at_once:
            raise torch.OutOfMemoryError(NO_MEMORY)
        return compute_loss(self, state, batch)

    monkeypatch.setattr(ClassificationTask, "compute_loss", compute)


def test_a_trial_that_runs_out_of_memory_goes_on_in_parts(
    run: Callable[..., list[TrialReport]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fail_above(4, monkeypatch)
    first, second = run(batch_size=16, epochs=2)
    assert isinstance(first, EpochReport)
    assert isinstance(second, EpochReport)
    assert first.notice is not None
    assert first.notice.startswith("out of memory: 4 of a step's 16 images are shown at once")
    assert second.notice is None
    rows = [json.loads(line) for line in TrialFolder(tmp_path / "trial").metrics.read_text().splitlines()]
    assert [row["train/parts_per_step"] for row in rows] == [4, 4]


def test_a_trial_that_runs_out_of_memory_later_goes_on_from_its_last_epoch(
    run: Callable[..., list[TrialReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(batch_size=16, epochs=1)
    fail_above(8, monkeypatch)
    reports = run(batch_size=16, epochs=3)
    epochs = [report.metrics["epoch"] for report in reports if isinstance(report, EpochReport)]
    assert epochs == [1, 1, 2, 3], "the first one is trained once, and said at each start"
    last = reports[-1]
    assert isinstance(last, EpochReport)
    assert last.metrics["train/parts_per_step"] == 2


def test_where_graphs_take_the_memory_steps_are_run_eagerly(
    run: Callable[..., list[TrialReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, where no step is recorded: what is looked at is what the trial is tried with."""
    compute_loss = ClassificationTask.compute_loss

    def compute(self: ClassificationTask, state: TrainState, batch: Any) -> dict[str, torch.Tensor]:
        if self.training.cuda_graphs is not False:
            raise torch.OutOfMemoryError(NO_MEMORY)
        return compute_loss(self, state, batch)

    monkeypatch.setattr(ClassificationTask, "compute_loss", compute)
    monkeypatch.setattr(trial, "choose_device", lambda num_gpus: torch.device("cpu"))
    (report,) = run(batch_size=16, epochs=1, request=Request(gpus_per_worker=1))
    assert isinstance(report, EpochReport)
    assert report.notice == "out of memory: steps are run eagerly, as CUDA graphs keep memory of their own"
    assert "train/parts_per_step" not in report.metrics


@pytest.mark.parametrize(
    ("request_", "graphs", "ways"),
    [
        (Request(gpus_per_worker=1), "auto", [("auto", 1), (False, 1), (False, 2), (False, 4)]),
        (Request(gpus_per_worker=1), False, [(False, 1), (False, 2), (False, 4)]),
        (Request(), "auto", [("auto", 1), ("auto", 2), ("auto", 4)]),
        (Request(num_workers=2, gpus_per_worker=1), "auto", [("auto", 1), ("auto", 2)]),
    ],
)
def test_memory_is_spared_where_there_is_a_way(
    make_config: Callable[..., TrialConfig],
    make_data: Callable[..., PreparedData],
    tmp_path: Path,
    request_: Request,
    graphs: Any,
    ways: list[tuple[Any, int]],
) -> None:
    spec: trial.TrialSpec | None = trial.TrialSpec(
        number=0,
        config=make_config(batch_size=16, cuda_graphs=graphs),
        data=make_data(num_train=32, num_val=8),
        objective=Objective(metric="val/accuracy"),
        folder=TrialFolder(tmp_path),
        request=request_,
        scratch=tmp_path,
    )
    tried = []
    while spec is not None:
        tried.append((spec.config.training.cuda_graphs, spec.num_parts))
        spec = spec.spare_memory()
    assert tried == ways


def test_a_trial_whose_memory_holds_next_to_nothing_fails(
    run: Callable[..., list[TrialReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_above(3, monkeypatch)
    (failure,) = run(batch_size=16)
    assert isinstance(failure, TrialFailure)
    assert failure.error == f"OutOfMemoryError: {NO_MEMORY}"
    assert not failure.died


@pytest.mark.parametrize("ending", ["stopped", "failed"])
def test_networks_of_a_trial_that_has_ended_are_free_when_its_memory_is_given_back(
    run: Callable[..., list[TrialReport]], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Ray ends the thread of a trial that is to stop by an exception, whose frames hold all that was trained."""
    networks: list[Any] = []
    alive: list[Any] = []
    init_state = ClassificationTask.init_state
    compute_loss = ClassificationTask.compute_loss

    def watch(self: ClassificationTask, *arguments: Any) -> TrainState:
        state = init_state(self, *arguments)
        networks.extend(weakref.ref(part) for part in (state.modules["model"], state.optimizers["model"]))
        return state

    def compute(self: ClassificationTask, state: TrainState, batch: Any) -> dict[str, torch.Tensor]:
        if state.epoch == 1:
            raise ValueError("in the second epoch")
        return compute_loss(self, state, batch)

    def release() -> None:
        gc.collect()
        alive.extend(network for network in networks if network() is not None)

    monkeypatch.setattr(ClassificationTask, "init_state", watch)
    monkeypatch.setattr(trial, "release_memory", release)
    if ending == "stopped":
        with pytest.raises(SystemExit):
            run(stop_after=1)
    else:
        monkeypatch.setattr(ClassificationTask, "compute_loss", compute)
        assert isinstance(run()[-1], TrialFailure)
    assert len(networks) == 2
    assert not alive
