"""What tests share: one local Ray cluster per session, factories of small data sets in real files, a small study."""

import contextlib
import gzip
import json
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, settings
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image

from raysweep import config_fields
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.data.batches import Worker, build_batch, iterate_ingredients
from raysweep.data.images import DataInfo, PreparedData
from raysweep.distributions import When
from raysweep.evaluate.stored_model import load_best
from raysweep.evaluate.test_figures import TestFigures
from raysweep.kept_model import seal_model
from raysweep.run_folder import RunFolder
from raysweep.search.results import Machine, Results
from raysweep.search.session.identity import Identity, StudyRecord, save_record
from raysweep.search.session.opening import open_strategy
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.checkpoint import save_weights
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import save_config
from raysweep.trial_result import TrialResult

Labelled = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 80, 230), (230, 210, 50), (200, 60, 210), (60, 210, 220))
"""Class k is drawn in colour k (and from the seventh on in darker ones)."""

settings.register_profile(
    "raysweep",
    deadline=None,  # a busy machine makes no test fail
    derandomize=not os.environ.get("RAYSWEEP_TEST_FUZZ"),  # the same examples each time; RAYSWEEP_TEST_FUZZ=1: others
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("raysweep")


def pytest_configure(config: pytest.Config) -> None:
    """Test processes side by side have one thread each: more would only wait for each other."""
    if hasattr(config, "workerinput"):  # of pytest-xdist
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU are skipped where torch sees none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A local Ray cluster with this machine's CPUs, as `raysweep tune --address local` starts it."""
    ray = pytest.importorskip("ray")
    from raysweep.cluster.connection import connect

    connect("local")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: RAYSWEEP_DATA, else ../shared/data; skips the test where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RAYSWEEP_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real data sets: RAYSWEEP_DATA is not set and ../shared/data is not there")
    return folder


def _draw(label: int, width: int, height: int, random: np.random.Generator) -> Image.Image:
    """A picture whose class is its colour: a disc of it on grey, with noise."""
    colour = np.array(COLOURS[label % len(COLOURS)]) * 0.6 ** (label // len(COLOURS))
    y, x = np.mgrid[0:height, 0:width]
    centre_x, centre_y = random.uniform(0.4, 0.6, 2)
    disc = (x / width - centre_x) ** 2 + (y / height - centre_y) ** 2 < 0.14
    pixels = np.where(disc[:, :, None], colour, random.uniform(60, 190)) + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _make_image_folder(
    root: Path,
    classes: int | Sequence[str] = 3,
    per_class: int | Mapping[str, int] = 10,
    *,
    size: tuple[int, int] = (40, 30),
    varied: bool = False,
    suffix: str = ".jpg",
    seed: int = 0,
) -> Path:
    names = [f"class{label}" for label in range(classes)] if isinstance(classes, int) else list(classes)
    counts = {"": per_class} if isinstance(per_class, int) else per_class
    random = np.random.default_rng(seed)
    for split, count in counts.items():
        for label, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                width, height = (int(side * random.uniform(0.5, 2)) if varied else side for side in size)
                _draw(label, width, height, random).save(folder / f"{index:04d}{suffix}")
    return root


def _write_idx(path: Path, values: npt.NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def _make_idx_folder(
    root: Path,
    num_train: int = 100,
    num_test: int = 20,
    *,
    classes: int = 5,
    side: int = 28,
    layout: str = ".",
    suffix: str = "",
    seed: int = 0,
) -> Path:
    random = np.random.default_rng(seed)
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        labels = random.permutation(np.arange(count) % classes).astype(np.uint8)
        images = random.integers(0, 40, (count, side, side), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[label * side // classes : (label + 1) * side // classes] += 200
        _write_idx(root / layout / f"{prefix}-images-idx3-ubyte{suffix}", images)
        _write_idx(root / layout / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return root


@pytest.fixture(scope="session")
def make_image_folder() -> Callable[..., Path]:
    """`(root, classes=3, per_class=10, *, size=(40, 30), varied=False, suffix=".jpg", seed=0)` -> root.

    Real JPEG or PNG files; the class is the colour, so a model can learn it. `classes` is a number or
    names, `per_class` a number (`root/<class>`) or one for each split (`root/<split>/<class>`).
    """
    return _make_image_folder


@pytest.fixture(scope="session")
def make_idx_folder() -> Callable[..., Path]:
    """`(root, num_train=100, num_test=20, *, classes=5, side=28, layout=".", suffix="", seed=0)` -> root.

    Four idx files; the class is the place of a bright bar. `suffix=".gz"` compresses them.
    """
    return _make_idx_folder


@pytest.fixture(scope="session")
def write_idx() -> Callable[[Path, npt.NDArray[np.uint8]], Path]:
    """Writes an array as an idx file of unsigned bytes, compressed where the path ends in .gz."""
    return _write_idx


def _save_prepared(folder: Path, splits: Mapping[str, Labelled], classes: Sequence[str]) -> PreparedData:
    for split, (images, labels) in splits.items():
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", images.astype(np.uint8))
        np.save(folder / split / "rows.npy", np.arange(len(images)))
        np.save(folder / split / "labels.npy", labels.astype(np.int64))
        (folder / split / "names.json").write_text(json.dumps([f"{index}.png" for index in range(len(images))]))
    counts: dict[str, Any] = {
        f"num_{split}": len(splits[split][1]) if split in splits else 0 for split in ("train", "val", "test")
    }
    info = DataInfo(source="drawn", synthetic=True, digest="0" * 64, classes=tuple(classes), **counts)
    (folder / "info.json").write_text(json.dumps(config_fields.to_json(info)))
    return PreparedData.load(folder)


def _draw_squares(num_images: int, seed: int) -> Labelled:
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(num_images) % 4)
    images = draw.integers(0, 30, (num_images, 28, 28, 1))
    for image, label in zip(images, labels, strict=True):
        top, left = 14 * np.array(divmod(int(label), 2)) + draw.integers(1, 6, 2)
        image[top : top + 7, left : left + 7] += 200
    return images, labels


def _run_two_workers(script: str, folder: Path) -> None:
    rendezvous = str(folder / f"rendezvous-{uuid.uuid4()}")
    commands = [[sys.executable, script, str(rank), "2", rendezvous, str(folder)] for rank in range(2)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        errors = [worker.communicate(timeout=960)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)


@contextmanager
def _limit_files(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def limit_files() -> Callable[[int], Any]:
    """`with limit_files(size_bytes)`: no file of this process grows beyond that, as on a full disk (EFBIG)."""
    return _limit_files


@pytest.fixture(scope="session")
def save_prepared() -> Callable[..., PreparedData]:
    """`(folder, {split: (images (N, H, W, C), labels (N,))}, classes)`, as the cache of decoded images has them."""
    return _save_prepared


@pytest.fixture(scope="session")
def draw_squares() -> Callable[[int, int], Labelled]:
    """`(num_images, seed)` -> grey 28x28 images with a bright square in the quarter that tells the class, of 4."""
    return _draw_squares


@pytest.fixture(scope="session")
def run_two_workers() -> Callable[[str, Path], None]:
    """Runs a file twice, with the arguments rank, 2, a file to meet by and a folder; waits for both to succeed."""
    return _run_two_workers


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that is free, and not of those that the system or Ray's workers choose from."""
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(20_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For networks so small that more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    """`(**changes)` -> a study of 12 trials over learning rate, epochs, optimizer and SGD's momentum."""

    def make(**changes: Any) -> Study:
        values = {
            "name": "small",
            "task": ClassificationConfig(model="fashion_cnn", optimizer="adam", dropout=0.5),
            "data": DataConfig(image_size=32),
            "training": TrainingConfig(epochs=3),
            "space": {
                "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
                "task.optimizer": CategoricalDistribution(("adam", "sgd")),
                "training.epochs": IntDistribution(3, 10),
            },
            "conditions": (When("task.optimizer", "sgd", {"task.momentum": FloatDistribution(0.5, 0.95)}),),
            "objective": Objective(metric="val/accuracy"),
            "budget": Budget(trials=12),
        }
        return Study(**{**values, **changes})

    return make


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    return make_study()


@pytest.fixture(scope="session")
def begin_run() -> Callable[..., Strategy]:
    """`(folder, study, digest="0", **identity)` -> the strategy of a new run, whose study.json is written."""

    def begin(folder: RunFolder, study: Study, digest: str = "0", **identity: Any) -> Strategy:
        known = Identity(**{"run_id": "r", "study_name": study.name, **identity})
        save_record(folder, StudyRecord(study=study.to_json(), identity=known, data_digest=digest))
        return open_strategy(study, folder, known)

    return begin


@pytest.fixture(scope="session")
def build_results() -> Callable[..., Results]:
    """`(trials, **changes)` -> the results of a run whose best trial is the first, as the baseline is."""
    info = DataInfo(source="drawn", synthetic=True, digest="0", classes=("a", "b"), num_train=8, num_val=4, num_test=4)
    figures = {"num_images": 4, "report": "report.txt", "headline": "", "lift": {"text": ""}, "accuracy": 0.5}

    def build(trials: Sequence[TrialResult], **changes: Any) -> Results:
        values = {
            "study": "small",
            "objective": Objective(metric="val/accuracy"),
            "trials": tuple(trials),
            "best": trials[0],
            "baseline": trials[0],
            "test": TestFigures.from_json(figures),
            "data": info,
            "machine": Machine(processor="x86_64", num_nodes=1, num_cpus=2, num_gpus=0),
            "duration_s": 1.0,
        }
        return Results(**{**values, **changes})

    return build


def _keep_model(folder: Path, config: TrialConfig, data: PreparedData, num_epochs: int = 1) -> RunFolder:
    torch.manual_seed(0)
    run, task = RunFolder(folder), build_task(config, data.info)
    state = task.init_state(Worker(), lambda module: module)
    size = config.training.batch_size
    for epoch in range(num_epochs):
        for ingredients in iterate_ingredients(
            data.train, config.data, batch_size=size, seed=0, epoch=epoch, worker=Worker()
        ):
            task.train_step(state, build_batch(ingredients, data.train, config.data))
            state.end_step()
    save_weights(run.best.weights, state.modules, {"epoch": num_epochs, "value": 1.0})
    save_config(run.best.config, 0, config, data.info, {})
    if isinstance(config.task, ClassificationConfig):
        from raysweep.tasks.classification.rejection.detector import ensure_detector  # slow: imports scikit-learn

        ensure_detector(run.best.detector, load_best(run, torch.device("cpu")), data)
    seal_model(run.best)
    return run


@pytest.fixture(scope="session")
def keep_model() -> Callable[..., RunFolder]:
    """`(folder, config, data, num_epochs=1)` -> a run's folder with `best/` alone: a model trained without a search."""
    return _keep_model


@pytest.fixture(scope="session")
def keep_squares(
    tmp_path_factory: pytest.TempPathFactory, keep_model: Callable[..., RunFolder]
) -> Callable[..., RunFolder]:
    """`(classes="abcd", num_epochs=4)` -> a run's folder with `best/` alone: a Fashion CNN that tells drawn squares."""

    def keep(classes: Sequence[str] = "abcd", num_epochs: int = 4) -> RunFolder:
        splits = {"train": _draw_squares(200, 1), "val": _draw_squares(60, 2)}
        data = _save_prepared(tmp_path_factory.mktemp("data"), splits, classes)
        config = TrialConfig(
            task=ClassificationConfig(model="fashion_cnn", learning_rate=2e-3),
            data=DataConfig(image_size=28, channels=1, normalization="symmetric"),
            training=TrainingConfig(epochs=4, batch_size=20, precision="fp32"),
        )
        return keep_model(tmp_path_factory.mktemp("run"), config, data, num_epochs=num_epochs)

    return keep


@pytest.fixture
def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Callable[[], str]]:
    """Makes stderr a terminal when it is called; what that returns closes the terminal and reads what was drawn."""

    def open_stderr() -> Callable[[], str]:
        master, slave = os.openpty()
        told = os.fdopen(slave, "w")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "stderr", told)

        def read() -> str:
            told.close()
            parts = []
            with contextlib.suppress(OSError), os.fdopen(master, "rb", buffering=0) as drawn:  # its end is an error
                while part := drawn.read(100_000):  # no more than one write
                    parts.append(part)
            return b"".join(parts).decode()

        return read

    return open_stderr
