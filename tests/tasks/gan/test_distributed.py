"""Two workers of a GAN: one pair of networks, gradients that are means, metrics as of one process.

Run as a script, this file is one worker: `test_distributed.py RANK NUM_WORKERS RENDEZVOUS FOLDER`. No Ray.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import nn

from raysweep.config import Objective
from raysweep.data.batches import Worker, iterate_evaluation
from raysweep.data.images import PreparedData
from raysweep.run_folder import TrialFolder
from raysweep.train import checkpoint
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.optim import average_gradients
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

OBJECTIVE = Objective(metric="val/frechet_distance", direction="minimize")
CASES: dict[str, dict[str, Any]] = {
    "dcgan": {"network": "dcgan", "ema_decay": 0.5, "noise": {"kind": "linear", "start": 0.1}},
    "penalty": {"loss": "wasserstein_gp", "discriminator_steps": 2, "conditional": True},
    "spectral": {"loss": "hinge", "spectral_norm": True, "batch_norm": False, "augmentation": "translation"},
}


def run_worker(rank: int, num_workers: int, rendezvous: Path, folder: Path) -> None:
    """Trains every case in `folder` and writes what this worker has at the end."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=rendezvous.as_uri(), rank=rank, world_size=num_workers)
    layer = nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = torch.tensor([[1.0, 10.0]]) * (rank + 1), torch.tensor([float(rank)])
    average_gradients(layer, num_workers)
    torch.save([layer.weight.grad, layer.bias.grad], folder / f"gradients-{rank}.pt")
    for name in CASES:
        values = json.loads((folder / f"{name}.json").read_text())
        state = fit(
            TrialConfig.from_json(values["config"]),
            PreparedData.load(Path(values["data"])),
            OBJECTIVE,
            report=lambda epoch: None,
            folder=TrialFolder(folder / name),
            worker=Worker(rank=rank, num_workers=num_workers),
            prepare=_refuse,
        )
        (folder / f"{name}-{rank}.json").write_text(json.dumps(state.history))
        torch.save({key: module.state_dict() for key, module in state.modules.items()}, folder / f"{name}-{rank}.pt")
    torch.distributed.destroy_process_group()


def _refuse(module: nn.Module) -> nn.Module:
    raise AssertionError("a GAN's networks are not wrapped: DDP allows no second derivatives")


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    squares: PreparedData,
    make_gan_config: Callable[..., TrialConfig],
    run_two_workers: Callable[[str, Path], None],
) -> Path:
    """The folder in which two workers have trained all cases."""
    folder = tmp_path_factory.mktemp("distributed")
    for name, case in CASES.items():
        # 40 images: the last of four steps has 7, shares of 4 and 3
        config = make_gan_config(**{"epochs": 2, "batch_size": 11, **case})
        values = {"config": config.to_json(), "data": str(squares.folder)}
        (folder / f"{name}.json").write_text(json.dumps(values))
    run_two_workers(__file__, folder)
    return folder


def test_gradients_are_means_over_workers(trained: Path) -> None:
    for rank in range(2):
        weight, bias = torch.load(trained / f"gradients-{rank}.pt")
        assert torch.equal(weight, torch.tensor([[1.5, 15.0]]))
        assert torch.equal(bias, torch.tensor([0.5]))


@pytest.mark.parametrize("name", CASES)
def test_both_workers_have_the_same_networks_and_metrics(name: str, trained: Path) -> None:
    first, second = (torch.load(trained / f"{name}-{rank}.pt") for rank in range(2))
    for network in ("generator", "discriminator"):
        for key, value in first[network].items():
            torch.testing.assert_close(second[network][key], value, rtol=0, atol=0, msg=f"{network} {key}")
    rows = [json.loads((trained / f"{name}-{rank}.json").read_text()) for rank in range(2)]
    for one, other in zip(*rows, strict=True):
        for key in one.keys() - OF_MACHINES:
            assert one[key] == other[key], key


@pytest.mark.parametrize("name", CASES)
def test_the_metrics_are_those_of_one_process(
    name: str, trained: Path, squares: PreparedData, make_gan_config: Callable[..., TrialConfig]
) -> None:
    """What two workers reported is what one process finds with the weights that rank 0 stored."""
    config = make_gan_config(**{"epochs": 2, "batch_size": 11, **CASES[name]})
    task = build_task(config, squares.info, folder=squares.folder)
    state = task.init_state(Worker(), lambda module: module)
    facts = checkpoint.load_weights(TrialFolder(trained / name).weights, state.best_modules())
    found = task.evaluate(state, iterate_evaluation(squares.val, config.data, batch_size=10, worker=Worker()))
    reported = json.loads((trained / f"{name}-0.json").read_text())[facts["epoch"] - 1]
    assert found.keys() <= reported.keys()
    for key, value in found.items():
        assert value == pytest.approx(reported[key], rel=1e-4, abs=1e-6), key


if __name__ == "__main__":
    run_worker(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
