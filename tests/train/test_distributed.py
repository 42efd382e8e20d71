"""Two DDP workers and one worker: the same metrics from the same weights, the same weights after an epoch.

Run as a script, this file is one worker: `test_distributed.py RANK NUM_WORKERS RENDEZVOUS FOLDER`. No Ray.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from raysweep.config import Objective
from raysweep.data.batches import Worker, iterate_evaluation
from raysweep.data.images import PreparedData
from raysweep.run_folder import TrialFolder
from raysweep.train import checkpoint
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.metrics import Sums, gather_sums, get_batches, get_sum
from raysweep.train.report import EpochReport
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

OBJECTIVE = Objective(metric="val/loss", direction="minimize")
NUM_TRAIN, NUM_VAL, BATCH_SIZE = 21, 25, 8
"""Odd: the last batch has 5 images, shares of 3 and 2; the validation shares are 13 and 12."""

CASES: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 1},
    "plain-sgd": {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.05, "label_smoothing": 0.1, "ema_decay": 0.5},
    "clipped": {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.05, "gradient_clip_norm": 0.1},
    "frozen": {"epochs": 1, "backbone_factor": 0.0},
    "batch-norm": {"epochs": 2, "model": "test_resnet", "size": 32, "dropout": 0.2, "strength": 0.5},
    "average": {"epochs": 2, "model": "test_resnet", "size": 32, "ema_decay": 0.5, "schedule": "one_cycle"},
}


def run_worker(rank: int, num_workers: int, rendezvous: Path, folder: Path) -> None:
    """Trains every case in `folder` and writes its history."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=rendezvous.as_uri(), rank=rank, world_size=num_workers)
    for name in CASES:
        values = json.loads((folder / f"{name}.json").read_text())
        state = fit(
            TrialConfig.from_json(values["config"]),
            PreparedData.load(Path(values["data"])),
            OBJECTIVE,
            report=lambda epoch: None,
            folder=TrialFolder(folder / name),
            worker=Worker(rank=rank, num_workers=num_workers),
            prepare=DistributedDataParallel,
        )
        (folder / f"{name}-{rank}.json").write_text(json.dumps(state.history))
    run_damaged(Worker(rank=rank, num_workers=num_workers), folder)
    parts: list[Sums] = [{}, {"total": torch.tensor(3), "rows": [torch.eye(2)]}]  # rank 0 has seen no batch
    sums = gather_sums(parts[rank], num_workers)
    (folder / f"sums-{rank}.json").write_text(
        json.dumps([get_sum(sums, "total").item(), len(get_batches(sums, "rows"))])
    )
    torch.distributed.destroy_process_group()


class StoppedError(Exception):
    """The processes end here."""


def run_damaged(worker: Worker, folder: Path) -> None:
    """Stops after two of three epochs, damages the last checkpoint, goes on; writes the epochs of that and the history.

    Rank 0 alone looks at the files, and the other worker must load the same.
    """
    values = json.loads((folder / "damaged.json").read_text())
    config, data = TrialConfig.from_json(values["config"]), PreparedData.load(Path(values["data"]))

    def stop(epoch: EpochReport) -> None:
        if epoch.metrics["epoch"] == 2:
            raise StoppedError

    options: dict[str, Any] = {"worker": worker, "prepare": DistributedDataParallel, "resume": True}
    whole = fit(config, data, OBJECTIVE, report=lambda epoch: None, folder=TrialFolder(folder / "undamaged"), **options)
    trial = TrialFolder(folder / "damaged")
    with contextlib.suppress(StoppedError):
        fit(config, data, OBJECTIVE, report=stop, folder=trial, **options)
    if worker.rank == 0:
        content = bytearray(trial.checkpoint.read_bytes())
        content[-1] ^= 1
        trial.checkpoint.write_bytes(content)
    torch.distributed.barrier()
    epochs: list[float] = []
    state = fit(
        config, data, OBJECTIVE, report=lambda epoch: epochs.append(epoch.metrics["epoch"]), folder=trial, **options
    )
    losses = [[row["val/loss"] for row in run.history] for run in (whole, state)]
    (folder / f"damaged-{worker.rank}.json").write_text(json.dumps([epochs, *losses]))


def build_config(name: str, make_config: Callable[..., TrialConfig]) -> TrialConfig:
    return make_config(**{"batch_size": BATCH_SIZE, **CASES[name]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture
def trained(
    folder: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
    run_two_workers: Callable[[str, Path], None],
) -> Path:
    """The folder in which two workers have trained all cases: a new one for each attempt, up to the first success."""
    done = folder / "done"
    if done.exists():
        return done
    attempt = Path(tempfile.mkdtemp(dir=folder))
    for name, case in CASES.items():
        data = make_data(num_train=NUM_TRAIN, num_val=NUM_VAL, size=case.get("size", 12))
        values = {"config": build_config(name, make_config).to_json(), "data": str(data.folder)}
        (attempt / f"{name}.json").write_text(json.dumps(values))
    data = make_data(num_train=NUM_TRAIN, num_val=NUM_VAL)
    values = {"config": make_config(batch_size=BATCH_SIZE, epochs=3).to_json(), "data": str(data.folder)}
    (attempt / "damaged.json").write_text(json.dumps(values))
    run_two_workers(__file__, attempt)
    return attempt.rename(done)


@pytest.mark.parametrize("name", CASES)
def test_the_same_metrics_from_the_same_weights(
    name: str, trained: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    """What two workers reported is what one process finds with the weights that rank 0 stored."""
    histories = [json.loads((trained / f"{name}-{rank}.json").read_text()) for rank in range(2)]
    for first, second in zip(*histories, strict=True):
        for key in first.keys() - OF_MACHINES:
            assert first[key] == second[key], key
    config = build_config(name, make_config)
    data = make_data(num_train=NUM_TRAIN, num_val=NUM_VAL, size=config.data.image_size)
    task = build_task(config, data.info)
    state = task.init_state(Worker(), lambda module: module)
    facts = checkpoint.load_weights(TrialFolder(trained / name).weights, state.best_modules())
    found = task.evaluate(state, iterate_evaluation(data.val, config.data, batch_size=4, worker=Worker()))
    reported = histories[0][facts["epoch"] - 1]
    assert found.keys() <= reported.keys()
    assert round(reported["val/accuracy"] * NUM_VAL, 3) == round(found["val/accuracy"] * NUM_VAL, 3)
    for key in ("val/accuracy", "val/mean_class_accuracy", "val/macro_f1"):
        assert reported[key] == found[key], key
    assert reported["val/loss"] == pytest.approx(found["val/loss"], abs=1e-6)


def test_both_workers_have_the_sums_of_both_though_one_saw_no_batch(trained: Path) -> None:
    assert [json.loads((trained / f"sums-{rank}.json").read_text()) for rank in range(2)] == [[3, 1], [3, 1]]


def test_both_workers_go_on_from_the_same_checkpoint_where_the_last_is_damaged(trained: Path) -> None:
    for rank in range(2):
        epochs, undamaged, damaged = json.loads((trained / f"damaged-{rank}.json").read_text())
        assert epochs == [2, 3]
        assert damaged == undamaged
    assert (trained / "damaged" / "last" / "checkpoint.safetensors.damaged").is_file()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "model" not in case])
def test_an_epoch_of_two_workers_gives_the_weights_of_one(
    name: str, trained: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    """Without batch norm and dropout, which see a worker's share only; the last partial batch included."""
    config = build_config(name, make_config)
    data = make_data(num_train=NUM_TRAIN, num_val=NUM_VAL)
    alone = fit(config, data, OBJECTIVE, report=lambda epoch: None)
    history = json.loads((trained / f"{name}-0.json").read_text())
    assert alone.step == 3
    assert alone.history[0]["train/loss"] == pytest.approx(history[0]["train/loss"], abs=1e-6)
    start = build_task(config, data.info).init_state(Worker(), lambda module: module)
    checkpoint.load_weights(TrialFolder(trained / name).weights, start.best_modules())
    expected, found = (state.best_modules()["model"].state_dict() for state in (alone, start))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-5)


if __name__ == "__main__":
    run_worker(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
    # DDP keeps gloo's threads beyond destroy_process_group(); one that asks for Python's lock while the interpreter
    # ends aborts the process ("terminate called without an active exception"). Ray's workers are ended without that.
    os._exit(0)
