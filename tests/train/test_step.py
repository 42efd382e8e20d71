"""Training steps that are recorded once and repeated are the steps that would have been run; what cannot be is said.

A CUDA graph repeats operations on the same memory, whatever Python would compute by then. So does Tape, on a CPU.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raysweep.catalogue import load_study
from raysweep.config import Objective
from raysweep.data.batches import Worker, derive_seed, iterate_ingredients
from raysweep.data.images import PreparedData
from raysweep.data.placement import DeviceImages
from raysweep.errors import TrialError
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.task import ClassificationTask
from raysweep.train import optim
from raysweep.train.loop import _evaluate, _train_epoch, fit
from raysweep.train.report import EpochReport
from raysweep.train.state import TrainState
from raysweep.train.step import NUM_EAGER, Run, StepRunner, records_graphs, seed_generators
from raysweep.train.task import Task, build_task
from raysweep.trial_config import TrialConfig

CPU = torch.device("cpu")
WAITS = {"_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique2", "equal", "is_nonzero"}
"""Operations whose result, or its shape, the CPU has to know: on a GPU it waits, and a graph cannot have them."""
READS = {"item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__"}


@pytest.fixture(autouse=True)
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimizers that read their learning rates from a tensor, as on a GPU."""
    monkeypatch.setattr(optim, "FUSED", ("cpu", "cuda"))


class Tape:
    """Records the operations that a step calls, and repeats them on the very tensors that they were called with."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.num_recorded = self.num_replayed = 0

    side_stream = contextlib.nullcontext

    def record(self, step: Run) -> Run:
        if not self.works:
            raise RuntimeError("operation not permitted when stream is capturing")
        with _Recording() as recording:
            step()
        recording.undo()
        self.num_recorded += 1

        def replay() -> None:
            self.num_replayed += 1
            recording.replay()

        return replay


class _Recording(TorchDispatchMode):
    """Keeps calls with their results; computes them, too, as there are no operations without values on a CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.made: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"{function} waits for a value")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if function._schema.is_mutable or "batch_norm" in name:  # changes what lasts; a capture computes nothing
            self.before += [(x, x.clone()) for x in given if x.untyped_storage()._cdata not in self.made]
        result = function(*args, **kwargs or {})
        self.made |= {x.untyped_storage()._cdata for x in tree_leaves(result) if isinstance(x, torch.Tensor)} - {
            x.untyped_storage()._cdata for x in given
        }
        self.calls.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.data.copy_(value)
        self.before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, kept in self.calls:
            results = tree_leaves(function(*args, **kwargs))
            for old, new in zip(tree_leaves(kept), results, strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.data.copy_(new)


def run_steps(
    config: TrialConfig, data: PreparedData, tape: Tape | None, *, num_epochs: int = 2, on_device: bool = True
) -> tuple[list[dict[str, float]], TrainState, list[str]]:
    """Means of each epoch, the state at the end, and what was told."""
    torch.manual_seed(1)
    task = build_task(config, data.info)
    state = task.init_state(Worker(), lambda module: module)
    images = DeviceImages(data.train, CPU) if on_device else data.train
    told: list[str] = []
    runner = StepRunner(task, state, images, config, Worker(), recorder=tape, tell=told.append)
    rows = []
    for _ in range(num_epochs):
        batches = iterate_ingredients(
            images,
            config.data,
            batch_size=config.training.batch_size,
            seed=config.seed,
            epoch=state.epoch,
            worker=Worker(),
        )
        for step, ingredients in enumerate(batches):
            runner.run(ingredients, derive_seed(config.seed, state.epoch, step, 0))
        rows.append(runner.read_means()[0])
        state.epoch += 1
    return rows, state, told


STUDIES = [
    pytest.param("fashion_cnn", ["task.schedule=one_cycle", "task.ema_decay=0.9"], id="rates and an average"),
    pytest.param("fashion_cnn", ["task.optimizer=sgd", "data.augmentation.strength=1"], id="sgd, augmented"),
    pytest.param("fashion_cnn", ["data.augmentation.strength=1", "data.augmentation.mixup=1"], id="mixed"),
    pytest.param("fashion_autoencoder", ["task.variant=variational", "task.kl_warmup_epochs=2"], id="a rising weight"),
    pytest.param("fashion_autoencoder", ["task.variant=denoising"], id="denoising"),
    pytest.param(
        "mnist_dcgan",
        # a low rate: what float32 rounds grows from step to step, by how much depends on the processor
        [
            "task.noise.kind=linear",
            "task.noise.start=0.2",
            "task.noise.per_step=true",
            "task.ema_decay=0.9",
            "task.generator_learning_rate=1e-5",
            "task.discriminator_learning_rate=1e-5",
        ],
        id="noise that falls to none",
    ),
    pytest.param("mnist_gan", ["task.discriminator_steps=2", "task.loss=wasserstein_gp"], id="two forms of step"),
    pytest.param(
        "mnist_gan",
        ["task.loss=bce", "task.spectral_norm=true", "task.augmentation=translation_cutout"],
        id="augmented gan",
    ),
]


@pytest.fixture
def grey(save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any], tmp_path: Path) -> PreparedData:
    return save_prepared(tmp_path / "grey", {"train": draw_squares(42, 1), "val": draw_squares(8, 2)}, list("abcd"))


@pytest.mark.parametrize(("name", "settings"), STUDIES)
def test_repeated_steps_are_the_steps_that_would_have_been_run(
    name: str, settings: list[str], grey: PreparedData
) -> None:
    sizes = ["training.batch_size=4", "training.epochs=2", "training.precision=fp32"]
    config = load_study(name).with_settings([*settings, *sizes]).trial_config({}, 0)
    tape = Tape()
    rows, state, told = run_steps(config, grey, tape)
    expected_rows, expected, _ = run_steps(config, grey, None)
    assert not told
    assert tape.num_recorded >= 1
    num_eager = NUM_EAGER * tape.num_recorded + 2  # and the partial batch of each epoch
    assert tape.num_replayed >= 2 * 11 - num_eager - 2
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-6, abs=1e-7)
    assert state.step == expected.step == 22
    for part in ("modules", "averages"):
        for owner, other in zip(getattr(state, part).values(), getattr(expected, part).values(), strict=True):
            # the device has learning rates in float32
            torch.testing.assert_close(owner.state_dict(), other.state_dict(), rtol=1e-4, atol=1e-5)
    for own, other_optimizer in zip(state.optimizers.values(), expected.optimizers.values(), strict=True):
        assert own.state_dict()["param_groups"] == other_optimizer.state_dict()["param_groups"]
    assert [schedule.state_dict() for schedule in state.schedules.values()] == [
        schedule.state_dict() for schedule in expected.schedules.values()
    ]


def test_images_that_are_brought_batch_by_batch_are_recorded_too(
    make_config: Callable[..., TrialConfig], make_data: Callable[..., PreparedData]
) -> None:
    config, tape = make_config(batch_size=4, strength=0.5), Tape()
    rows, _, _ = run_steps(config, make_data(), tape, on_device=False)
    assert tape.num_replayed == 2 * 9 - NUM_EAGER
    assert rows == [pytest.approx(row, rel=1e-6) for row in run_steps(config, make_data(), None)[0]]


def test_a_step_that_cannot_be_recorded_is_said_and_run_eagerly(
    make_config: Callable[..., TrialConfig], make_data: Callable[..., PreparedData]
) -> None:
    config = make_config(batch_size=4, dropout=0.3)
    rows, state, told = run_steps(config, make_data(), Tape(works=False))
    assert told == [
        "training.cuda_graphs: a step could not be recorded (operation not permitted when stream is capturing); "
        "steps are run eagerly"
    ]
    assert (rows, state.step) == (run_steps(config, make_data(), None)[0], 18)
    assert state.optimizers["model"].param_groups[0]["lr"] == config.task.learning_rate  # type: ignore[attr-defined]


def test_a_step_that_waits_for_a_value_is_run_eagerly(
    make_config: Callable[..., TrialConfig], make_data: Callable[..., PreparedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_loss = Task.train_step

    def wait(self: Task, *args: Any) -> Any:
        means = compute_loss(self, *args)
        return means if means["loss"].item() > 0 else {}

    monkeypatch.setattr(Task, "train_step", wait)
    _, state, (notice,) = run_steps(make_config(batch_size=4), make_data(), Tape())
    assert "_local_scalar_dense" in notice
    assert state.step == 18


class Waits(TorchFunctionMode):
    """Counts what is read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        self.reads += [name] * (name in READS)
        return function(*args, **kwargs or {})


class Operations(TorchDispatchMode):
    """Counts operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.waits += [name] * (name in WAITS)
        return function(*args, **kwargs or {})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("fashion_cnn", ["data.augmentation.strength=1", "task.gradient_clip_norm=1"], id="classification"),
        pytest.param("fashion_autoencoder", ["task.variant=variational"], id="variational"),
    ],
)
def test_an_epoch_waits_once_after_training_and_once_after_evaluation(
    name: str, settings: list[str], grey: PreparedData
) -> None:
    sizes = ["training.batch_size=8", "training.eval_batch_size=4", "training.precision=fp32"]
    config = load_study(name).with_settings([*settings, *sizes]).trial_config({}, 0)
    task = build_task(config, grey.info)
    state = task.init_state(Worker(), lambda module: module)
    images, val = DeviceImages(grey.train, CPU), DeviceImages(grey.val, CPU)
    runner = StepRunner(task, state, images, config, Worker())
    for run in (
        lambda: _train_epoch(runner, state, config, images, Worker()),
        lambda: _evaluate(task, state, config, val, Worker()),
    ):
        with Operations() as operations, Waits() as waits:
            run()
        assert operations.waits == []
        assert waits.reads == ["tolist"]


def test_seeding_is_torchs() -> None:
    for seed in (0, 5, 2**63 - 1):
        torch.manual_seed(seed)
        expected = torch.rand(5)
        seed_generators(seed, CPU)
        assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize(
    ("asked", "device", "num_workers", "is_capturable", "records"),
    [
        pytest.param("auto", "cuda", 1, True, True, id="a GPU"),
        pytest.param("auto", "cpu", 1, True, False, id="no GPU"),
        pytest.param("auto", "cuda", 2, True, False, id="DDP"),
        pytest.param("auto", "cuda", 1, False, False, id="a task that waits"),
        pytest.param(False, "cuda", 1, True, False, id="not wanted"),
        pytest.param(True, "cuda", 1, True, True, id="asked for"),
    ],
)
def test_graphs_are_recorded_where_they_can_be(
    make_config: Callable[..., TrialConfig],
    make_data: Callable[..., PreparedData],
    asked: Literal["auto"] | bool,
    device: str,
    num_workers: int,
    is_capturable: bool,
    records: bool,
) -> None:
    config = make_config(cuda_graphs=asked)
    task = build_task(config, make_data().info)
    task.is_capturable &= is_capturable
    worker = Worker(num_workers=num_workers, device=torch.device(device))
    assert records_graphs(task, config, worker) is records


def test_steps_with_code_of_ones_own_are_not_recorded() -> None:
    assert ClassificationTask.can_record(ClassificationConfig(model="fashion_cnn"))
    assert not ClassificationTask.can_record(ClassificationConfig(model="fashion_cnn", augmentation="my_code:jitter"))


def test_graphs_are_refused_without_a_gpu(
    make_config: Callable[..., TrialConfig], make_data: Callable[..., PreparedData]
) -> None:
    with pytest.raises(TrialError, match=r"cuda_graphs=true needs a GPU.*got cpu, 1 worker.*set it to auto"):
        fit(make_config(cuda_graphs=True), make_data(), Objective(metric="val/accuracy"), report=lambda report: None)


@pytest.mark.gpu
def test_graphs_on_a_gpu_give_the_losses_of_eager_steps(
    make_config: Callable[..., TrialConfig], make_data: Callable[..., PreparedData], tmp_path: Path
) -> None:
    histories = []
    for graphs in (False, True):
        config = make_config(cuda_graphs=graphs, batch_size=4, dropout=0.3, strength=0.5, schedule="one_cycle")
        told: list[EpochReport] = []
        state = fit(
            config,
            make_data(),
            Objective(metric="val/accuracy"),
            report=told.append,
            worker=Worker(device=torch.device("cuda")),
        )
        assert [epoch.notice for epoch in told] == [None] * 4
        histories.append([row["train/loss"] for row in state.history])
    assert histories[1] == pytest.approx(histories[0], rel=1e-3)
