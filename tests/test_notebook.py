"""In a notebook: the example runs, the live table is drawn, and a search can be interrupted and gone on with."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient

from raysweep.data.drawing.pictures import draw_sample
from raysweep.file_guard import read_json_lines
from raysweep.run_folder import cache_folder

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 900
NUM_EPOCHS = 10
STUDY = """
from optuna.distributions import FloatDistribution
from raysweep import Budget, ClassificationConfig, DataConfig, Objective, Study, TrainingConfig
import raysweep

study = Study(
    name="long",
    task=ClassificationConfig(model="fashion_cnn", augmentation={augmentation!r}),
    data=DataConfig(source={source!r}, image_size=32),
    training=TrainingConfig(epochs={epochs}, batch_size=16, precision="fp32"),
    space={{"task.learning_rate": FloatDistribution(1e-4, 1e-3, log=True)}},
    objective=Objective(metric="val/loss", direction="minimize"),
    budget=Budget(trials=1),
)
"""
HOLD = """
import time
from pathlib import Path

def hold(images):
    metrics = Path({metrics!r})
    while not Path({release!r}).exists() and metrics.is_file() and len(metrics.read_text().splitlines()) > 1:
        time.sleep(0.05)
    return images
"""
"""An augmentation that changes nothing; from the third epoch on it waits until the test lets the training go on."""
FREE_CPUS = """
import ray, time
limit = time.monotonic() + 60
while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"] and time.monotonic() < limit:
    time.sleep(0.2)
print(ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])
"""

pytestmark = pytest.mark.ray


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where notebooks run: kernels find this raysweep and the studies."""
    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    return tmp_path


def join_outputs(cell: Any) -> str:
    """What a cell shows, as text."""
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell["outputs"])


def test_the_example_runs_and_shows_the_live_table(folder: Path) -> None:
    """On fewer pictures of the sample than the 1,820 that it draws where there are none."""
    sample = cache_folder(folder / "results") / "sample-cars"
    sample.parent.mkdir(parents=True)
    draw_sample(sample, images_per_class=15)
    notebook = nbformat.read(ROOT / "examples" / "first_search.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, startup_timeout=TIMEOUT_S, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    first, figures, trials, extended, predicted, parameters = (
        join_outputs(cell) for cell in notebook.cells if cell.cell_type == "code"
    )
    assert "2 of 2 trials: 2 complete" in " ".join(first.split())
    assert "accuracy over the baseline" in figures or "no lift" in figures
    assert trials.count("COMPLETE") == 2
    assert extended.endswith("3")
    assert predicted.count("'confidence'") == 3
    assert int(parameters) > 1e6


@pytest.fixture
def kernel(folder: Path) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager, client = start_new_kernel(startup_timeout=TIMEOUT_S, cwd=str(folder))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel()


def run_cell(client: BlockingKernelClient, code: str) -> tuple[dict[str, Any], str]:
    """The reply to a cell, and what it prints."""
    texts: list[str] = []

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=TIMEOUT_S, output_hook=keep)
    return reply["content"], "".join(texts)


def test_an_interrupted_cell_ends_the_search_and_the_next_goes_on(
    folder: Path, kernel: tuple[KernelManager, BlockingKernelClient], make_image_folder: Callable[..., Path]
) -> None:
    manager, client = kernel
    images = make_image_folder(folder / "images", 2, 30)
    metrics, release = folder / "results/long/trials/0000/metrics.jsonl", folder / "release"
    (folder / "held.py").write_text(HOLD.format(metrics=str(metrics), release=str(release)))
    own = f"{folder / 'held.py'}:hold"
    reply, printed = run_cell(client, STUDY.format(source=str(images), epochs=NUM_EPOCHS, augmentation=own))
    assert reply["status"] == "ok", printed

    client.execute('raysweep.tune(study, address="local", wandb="disabled")')
    limit = time.monotonic() + TIMEOUT_S
    while not metrics.is_file() or len(read_json_lines(metrics)) < 2:
        assert time.monotonic() < limit
        time.sleep(0.05)
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=TIMEOUT_S)["content"]
    assert (reply["status"], reply.get("ename")) == ("error", "KeyboardInterrupt")
    assert len(read_json_lines(metrics)) == 2

    reply, printed = run_cell(client, FREE_CPUS)  # local Ray lives, and the trial's process does not
    assert (reply["status"], printed.strip()) == ("ok", "True")

    release.touch()
    reply, printed = run_cell(
        client, 'run = raysweep.tune(study, address="local", wandb="disabled", resume=True)\nprint(run.results.study)'
    )
    assert reply["status"] == "ok", reply
    assert "long" in printed.splitlines()
    assert [line["epoch"] for line in read_json_lines(metrics)] == list(range(1, NUM_EPOCHS + 1))
