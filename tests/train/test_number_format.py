"""What `precision=auto` is for a network: measured once, kept for the run, written beside the model."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysweep.data.batches import CPU, Worker
from raysweep.data.images import PreparedData
from raysweep.errors import CorruptFileError
from raysweep.evaluate.stored_model import load_model
from raysweep.run_folder import RunFolder, TrialFolder
from raysweep.train import checkpoint, number_format
from raysweep.train.number_format import find_formats, measure_format, name_network, settle_format
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import NumberFormat, load_trial, save_config

pytestmark = pytest.mark.usefixtures("one_thread")

WORKER = Worker()
FP32 = NumberFormat(precision="fp32", channels_last=False, images_per_s={"fp32, contiguous": 5.0}, machine="a")
BF16 = NumberFormat(precision="bf16", channels_last=True, images_per_s={"bf16, channels last": 5.0}, machine="a")


@pytest.fixture
def config(make_config: Callable[..., TrialConfig]) -> TrialConfig:
    return make_config(precision="auto")


@pytest.fixture
def data(make_data: Callable[..., PreparedData]) -> PreparedData:
    return make_data()


@pytest.fixture
def bf16_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    find_formats(folder)
    return folder


def begin_trial(run: RunFolder, number: int, config: TrialConfig, data: PreparedData) -> TrialFolder:
    folder = run.trial(number)
    folder.path.mkdir(parents=True)
    save_config(folder.config, number, config, data.info, {})
    return folder


def measure_as(monkeypatch: pytest.MonkeyPatch, *answers: NumberFormat) -> list[NumberFormat]:
    """Gives these answers in place of a measurement, which is another one each time; returns those that are left."""
    left = list(answers)
    monkeypatch.setattr(number_format, "measure_format", lambda *_: left.pop(0))
    return left


def test_without_units_for_bf16_there_is_nothing_to_choose(
    config: TrialConfig, data: PreparedData, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    measure_as(monkeypatch)
    assert settle_format(config, data, WORKER, run.trial(0), run.number_formats) == (config, None)
    assert not list(run.number_formats.iterdir())


@pytest.mark.parametrize("told", [(BF16, False), None], ids=["rank 0 has units for bf16", "nor has rank 0"])
def test_a_worker_without_units_for_bf16_takes_what_rank_0_says(
    monkeypatch: pytest.MonkeyPatch,
    config: TrialConfig,
    data: PreparedData,
    run: RunFolder,
    told: tuple[NumberFormat, bool] | None,
) -> None:
    """One that decided by itself would leave the others waiting for it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})

    def broadcast(held: list[object], source: int, device: torch.device) -> None:
        held[0] = told

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    second = Worker(rank=1, num_workers=2)
    settled, notice = settle_format(config, data, second, run.trial(0), run.number_formats)
    assert (settled, notice) == (BF16.apply(config) if told else config, None)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_named_precision_is_not_measured(
    make_config: Callable[..., TrialConfig], data: PreparedData, run: RunFolder, precision: str, bf16_units: None
) -> None:
    config = make_config(precision=precision)
    assert settle_format(config, data, WORKER, run.trial(0), run.number_formats) == (config, None)


def test_the_first_measurement_holds_for_the_run(
    config: TrialConfig, data: PreparedData, run: RunFolder, monkeypatch: pytest.MonkeyPatch, bf16_units: None
) -> None:
    measure_as(monkeypatch, FP32)
    notices = []
    for number in range(2):
        other = dataclasses.replace(config, seed=number, training=dataclasses.replace(config.training, batch_size=4))
        folder = begin_trial(run, number, other, data)
        settled, notice = settle_format(other, data, WORKER, folder, run.number_formats)
        assert (settled.training.precision, settled.training.channels_last) == ("fp32", False)
        assert load_trial(folder).config == other  # what the study asked for stays as it was
        assert load_trial(folder).settled_config == settled
        notices.append(notice)
    assert notices[0] is not None
    assert "fp32, contiguous" in notices[0]
    assert notices[1] is None
    assert len(list(run.number_formats.iterdir())) == 1


def test_of_two_trials_that_measure_at_once_the_first_to_write_holds(
    config: TrialConfig, data: PreparedData, run: RunFolder, monkeypatch: pytest.MonkeyPatch, bf16_units: None
) -> None:
    path = run.number_formats / f"{name_network(config, data.info)}.json"

    def measure_late(*_: object) -> NumberFormat:
        number_format._keep_first(path, FP32)  # as another trial's process would meanwhile
        return BF16

    monkeypatch.setattr(number_format, "measure_format", measure_late)
    settled, notice = settle_format(config, data, WORKER, begin_trial(run, 0, config, data), run.number_formats)
    assert settled.training.precision == "fp32"
    assert notice is None, "the other trial says it"
    assert list(run.number_formats.iterdir()) == [path]


def test_a_run_from_before_goes_on_as_it_was_and_a_new_one_measures_whatever_its_first_trials_are(
    config: TrialConfig, data: PreparedData, run: RunFolder
) -> None:
    folder = begin_trial(run, 0, config, data)
    folder.metrics.touch()
    run.number_formats.rmdir()
    assert find_formats(run) is None
    folder.metrics.unlink()
    assert find_formats(run) == run.number_formats
    folder.metrics.touch()
    assert find_formats(run) == run.number_formats


def test_a_damaged_file_is_said(
    config: TrialConfig, data: PreparedData, run: RunFolder, monkeypatch: pytest.MonkeyPatch, bf16_units: None
) -> None:
    measure_as(monkeypatch, FP32)
    folder = begin_trial(run, 0, config, data)
    settle_format(config, data, WORKER, folder, run.number_formats)
    (path,) = run.number_formats.iterdir()
    path.write_text(path.read_text().replace("fp32", "bf16"))
    with pytest.raises(CorruptFileError, match="remove it, and it is measured again"):
        settle_format(config, data, WORKER, folder, run.number_formats)


def test_a_model_is_used_as_it_was_trained(
    config: TrialConfig, data: PreparedData, run: RunFolder, monkeypatch: pytest.MonkeyPatch, bf16_units: None
) -> None:
    measure_as(monkeypatch, FP32)
    folder = begin_trial(run, 0, config, data)
    settle_format(config, data, WORKER, folder, run.number_formats)
    folder.best.mkdir()
    modules = build_task(config, data.info).load_modules()
    checkpoint.save_weights(folder.weights, modules, {"epoch": 1, "value": 1.0})
    assert load_model(folder.weights, folder.config, CPU).config.training.precision == "fp32"


@pytest.mark.parametrize(("found", "precision"), [(FP32, "fp32"), (BF16, "auto")])
def test_where_bf16_is_faster_it_stays_auto(config: TrialConfig, found: NumberFormat, precision: str) -> None:
    """So that a machine without units for bf16 uses the model in fp32."""
    training = found.apply(config).training
    assert (training.precision, training.channels_last) == (precision, found.channels_last)


@pytest.mark.parametrize("channels_last", [True, False])
def test_each_candidate_is_trained(
    make_config: Callable[..., TrialConfig], data: PreparedData, channels_last: bool, bf16_units: None
) -> None:
    config = make_config(precision="auto", channels_last=channels_last)
    found = measure_format(config, data, WORKER)
    assert len(found.images_per_s) == (4 if channels_last else 2)
    assert min(found.images_per_s.values()) > 0
    assert channels_last or not found.channels_last


def test_where_steps_are_recorded_what_repeats_them_is_timed(
    config: TrialConfig, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[str] = []

    class Recorder:
        """Computes nothing, as a capture does: there are no graphs on a CPU."""

        def __init__(self, device: torch.device) -> None: ...

        def side_stream(self) -> contextlib.AbstractContextManager[None]:
            run.append("eager")
            return contextlib.nullcontext()

        def record(self, step: Callable[[], None]) -> Callable[[], None]:
            run.append("recorded")
            return lambda: run.append("repeated")

    monkeypatch.setattr(number_format, "records_graphs", lambda *_: True)
    monkeypatch.setattr(number_format, "CudaRecorder", Recorder)
    found = measure_format(config, data, WORKER)
    assert min(found.images_per_s.values()) > 0
    repeated = ["repeated"] * (number_format.MAX_STEPS + 1)
    assert run == len(found.images_per_s) * ["eager", "eager", "eager", "recorded", *repeated]


def test_a_trial_of_fewer_steps_than_are_timed_is_measured(
    make_config: Callable[..., TrialConfig], data: PreparedData
) -> None:
    config = make_config(precision="auto", schedule="one_cycle", epochs=1, batch_size=len(data.train))
    assert measure_format(config, data, WORKER).images_per_s


def test_without_units_bf16_is_not_timed(
    config: TrialConfig, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is computed there all the same, and takes many times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert set(measure_format(config, data, WORKER).images_per_s) == {"fp32, channels last", "fp32, contiguous"}


def test_what_is_exact_is_taken_of_equals(
    config: TrialConfig, data: PreparedData, monkeypatch: pytest.MonkeyPatch, bf16_units: None
) -> None:
    speeds = {("fp32", True): 1.0, ("fp32", False): 0.98, ("bf16", True): 0.97, ("bf16", False): 2.0}
    monkeypatch.setattr(number_format, "_time_step", lambda task, state, batch, candidate, *_: speeds[candidate])
    assert measure_format(config, data, WORKER).precision == "fp32"
    speeds["bf16", False] = 0.5
    found = measure_format(config, data, WORKER)
    assert (found.precision, found.channels_last) == ("bf16", False)


def test_networks_are_told_apart_by_their_shapes_alone(
    make_config: Callable[..., TrialConfig], data: PreparedData
) -> None:
    names = [
        name_network(make_config(**values), data.info)
        for values in ({}, {"learning_rate": 1e-4}, {"batch_norm": True}, {"size": 24})
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_timing_a_candidate_leaves_the_state_as_it_is(config: TrialConfig, data: PreparedData) -> None:
    task = build_task(config, data.info)
    state = task.init_state(WORKER, lambda module: module)
    before = {name: value.clone() for name, value in state.modules["model"].state_dict().items()}
    batch = number_format._draw_batch(config, data.info, WORKER)
    assert number_format._time_step(task, state, batch, ("fp32", False), config, data, WORKER) > 0
    assert task.training == config.training
    assert (state.step, state.optimizers["model"].state) == (0, {})
    for name, value in state.modules["model"].state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_memory_that_runs_out_while_formats_are_timed_is_said(
    monkeypatch: pytest.MonkeyPatch, bf16_units: None, config: TrialConfig, data: PreparedData, run: RunFolder
) -> None:
    def run_out(*arguments: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(number_format, "_time_step", run_out)
    _, notice = settle_format(config, data, WORKER, begin_trial(run, 0, config, data), run.number_formats)
    assert notice is not None
    assert notice.endswith("in all of the run, not measured, as memory ran out")
