"""Runs training steps; the only place that knows CUDA graphs, which repeat recorded operations on the same memory.

So all that differs from step to step lies in tensors that are filled before each: what a batch is built from, learning
rates, values of a task's schedules. Where the operations differ, that is another form of step, with its own graph.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed

from raysweep.data.batches import Ingredients, Worker, build_batch
from raysweep.data.placement import Images
from raysweep.errors import TrialError, first_line
from raysweep.train.state import TrainState
from raysweep.train.task import Task
from raysweep.trial_config import TrialConfig

NUM_EAGER = 3
"""Steps of a form before it is recorded: they create what lasts, and let libraries choose their algorithms."""
Run = Callable[[], None]


class Recorder(Protocol):
    """Records operations and repeats them."""

    def side_stream(self) -> contextlib.AbstractContextManager[None]:
        """Runs steps where they will be recorded."""

    def record(self, step: Run) -> Run:
        """Records the operations of a step without computing them; returns what repeats them on the same memory.

        Raises:
            RuntimeError: they cannot be recorded.
        """


class CudaRecorder:
    """Records CUDA graphs, on a stream of their own, in memory that all of them share: only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[None]:
        """Runs steps where they will be recorded, after and before all that is on the current stream."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def record(self, step: Run) -> Run:
        """Records a step as a CUDA graph.

        Raises:
            RuntimeError: a step waits for the device, or does something else that a graph cannot.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self._stream), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                step()
        except RuntimeError:
            generator = _cuda_generator(self._device)  # else it takes what follows for a part of the graph
            generator.graphsafe_set_state(torch.Generator(self._device).graphsafe_get_state())
            raise
        return graph.replay


@dataclass(frozen=True, slots=True)
class _Graph:
    """Repeats a step; `optimized` are the modules that it optimizes."""

    replay: Run
    optimized: tuple[str, ...]


class StepRunner:
    """Runs the training steps of a trial and adds up what they return, on the device.

    With a `recorder`, whole batches are run as graphs once NUM_EAGER of their form have been run eagerly. Where one
    cannot be recorded, `tell` gets a sentence, and all are run eagerly.
    """

    def __init__(
        self,
        task: Task,
        state: TrainState,
        images: Images,
        config: TrialConfig,
        worker: Worker,
        *,
        recorder: Recorder | None = None,
        tell: Callable[[str], None] = lambda notice: None,
    ) -> None:
        self._task, self._state, self._images, self._config, self._worker = task, state, images, config, worker
        self._recorder, self._tell = recorder, tell
        self._groups: dict[str, dict[str, Any]] = {
            f"learning rate {number} of {name}": group
            for name, optimizer in state.optimizers.items()
            for number, group in enumerate(optimizer.param_groups)
        }
        self._sums: dict[str, torch.Tensor] = {}
        self._num_images = 0
        self._num_eager: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, _Graph] = {}
        self._static: dict[str, torch.Tensor] = {}
        """What a recorded step builds its batch from."""
        self._scalars: dict[str, torch.Tensor] = {}
        """Learning rates and values of the task that a recorded step reads."""
        self._filled: dict[str, float] = {}
        """What they are."""

    def run(self, ingredients: Ingredients, seed: int) -> None:
        """Runs a step on the batch that is built from `ingredients`; what is drawn in it is decided by `seed`."""
        form = self._find_form(ingredients)
        graph = None if form is None else self._find_graph(form, ingredients)
        warms_up = form is not None and self._recorder is not None and graph is None
        seed_generators(seed, self._worker.device)
        if graph is not None:
            self._fill(ingredients)
            graph.replay()
            self._state.optimized.extend(graph.optimized)
        else:
            side_stream = self._recorder.side_stream() if self._recorder and warms_up else contextlib.nullcontext()
            with side_stream:
                self._step(ingredients)
            self._num_eager[form] += 1
        self._num_images += len(ingredients.indices)
        self._state.end_step()

    def read_means(self) -> tuple[dict[str, float], int]:
        """Returns the means over all images since the last call, on all workers, and their number: one wait."""
        names = sorted(self._sums)
        count = torch.full((), self._num_images, dtype=torch.float64, device=self._worker.device)
        totals = torch.stack([count, *(self._sums[name].double() for name in names)])
        if self._worker.num_workers > 1:
            torch.distributed.all_reduce(totals)
        for total in self._sums.values():
            total.zero_()
        self._num_images = 0
        seen, *values = totals.tolist()
        return {name: value / seen for name, value in zip(names, values, strict=True)}, int(seen)

    def _step(self, ingredients: Ingredients) -> None:
        batch = build_batch(ingredients, self._images, self._config.data)
        for name, mean in self._task.train_step(self._state, batch).items():
            total = mean * len(batch.labels)
            if name in self._sums:
                self._sums[name] += total
            else:
                self._sums[name] = total

    def _find_form(self, ingredients: Ingredients) -> Hashable | None:
        """Finds the form of the step that follows; none: it is run eagerly."""
        if self._recorder is None or len(ingredients.indices) != self._config.training.batch_size:
            return None
        return ("form", self._task.step_form(self._state))

    def _find_graph(self, form: Hashable, ingredients: Ingredients) -> _Graph | None:
        """Finds the graph of a form, and records it when that is due; none: the step is run eagerly."""
        if form in self._graphs or self._num_eager[form] < NUM_EAGER:
            return self._graphs.get(form)
        assert self._recorder is not None
        self._allocate(ingredients)
        static = Ingredients(self._static, ingredients.indices)
        try:
            with self._read_from_device():
                replay = self._recorder.record(lambda: self._step(static))
            self._graphs[form] = _Graph(replay, tuple(self._state.optimized))
        except RuntimeError as error:
            reason = first_line(error)
            self._tell(f"training.cuda_graphs: a step could not be recorded ({reason}); steps are run eagerly")
            self._recorder = None
            self._graphs.clear()
        self._state.optimized.clear()
        return self._graphs.get(form)

    def _allocate(self, ingredients: Ingredients) -> None:
        """Makes room for what a recorded step reads, once."""
        for name, tensor in ingredients.tensors.items():
            self._static.setdefault(name, tensor.clone())
        for name in self._find_scalars():
            self._scalars.setdefault(name, torch.zeros((), device=self._worker.device))

    def _find_scalars(self) -> dict[str, float]:
        """Finds the learning rates and the task's values of the step that follows."""
        return {name: group["lr"] for name, group in self._groups.items()} | self._task.step_values(self._state)

    def _fill(self, ingredients: Ingredients) -> None:
        """Fills what a recorded step reads, in operations that nothing waits for."""
        for name, tensor in ingredients.tensors.items():
            self._static[name].copy_(tensor, non_blocking=True)
        for key, value in self._find_scalars().items():
            if self._filled.get(key) != value:
                self._scalars[key].fill_(value)
                self._filled[key] = value

    @contextlib.contextmanager
    def _read_from_device(self) -> Iterator[None]:
        """Has optimizers and the task read learning rates and values from the device while a step is recorded."""
        kept = {name: dict(group) for name, group in self._groups.items()}
        for name, group in self._groups.items():
            group |= {"lr": self._scalars[name], "capturable": True}
        self._state.values = {name: self._scalars[name] for name in self._task.step_values(self._state)}
        try:
            yield
        finally:
            for name, group in self._groups.items():
                group.clear()
                group.update(kept[name])
            self._state.values = {}


def build_runner(
    task: Task, state: TrainState, images: Images, config: TrialConfig, worker: Worker, tell: Callable[[str], None]
) -> StepRunner:
    """Builds what runs a trial's steps, as its configuration asks.

    Raises:
        TrialError: CUDA graphs are asked for where there can be none.
    """
    recorder = CudaRecorder(worker.device) if records_graphs(task, config, worker) else None
    return StepRunner(task, state, images, config, worker, recorder=recorder, tell=tell)


def records_graphs(task: Task, config: TrialConfig, worker: Worker) -> bool:
    """Tells whether steps are recorded as CUDA graphs.

    Raises:
        TrialError: they are asked for where there can be none.
    """
    asked = config.training.cuda_graphs
    can = worker.device.type == "cuda" and worker.num_workers == 1 and task.is_capturable
    if asked is True and not can:
        raise TrialError(
            f"training.cuda_graphs=true needs a GPU, one worker and a task that is_capturable, got "
            f"{worker.device.type}, {worker.num_workers} worker(s), {type(task).__name__}; set it to auto"
        )
    return can and asked is not False


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds the generators of the CPU and of the device as torch.manual_seed does, which takes 80 times as long."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        _cuda_generator(device).manual_seed(seed)


def _cuda_generator(device: torch.device) -> torch.Generator:
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]
