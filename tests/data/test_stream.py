"""Streamed images: the batches of decoded ones, every image once an epoch over all workers, in bounded memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.config import DataConfig
from raysweep.data import disk_space, pipeline
from raysweep.data.batches import Worker, build_batch, iterate_evaluation, iterate_ingredients
from raysweep.data.blocks import decode_block
from raysweep.data.images import ImageSet, PreparedData
from raysweep.data.records import Source
from raysweep.data.sources.image_folder import load_folder
from raysweep.errors import CorruptFileError, DataError, StorageError

Make = Callable[..., Path]
STREAM = DataConfig(image_size=32, cache="stream")
ROOT = Path(pipeline.__file__).parents[2]


def run_here(source: Source, into: Any) -> Iterator[dict[str, Any]]:
    """Decodes as the workers of Ray Data do, in this process."""
    for block in pipeline._make_blocks(source, 1.0):
        yield from decode_block(block, into=into).to_pylist()


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_run", run_here)
    monkeypatch.setattr(pipeline, "run_on_ray", lambda work: work())


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory, make_image_folder: Make) -> Source:
    """Three classes, 12 + 4 + 4 JPEGs of varied sizes of each; one training image is broken."""
    folder = make_image_folder(tmp_path_factory.mktemp("cars"), 3, {"train": 12, "val": 4, "test": 4}, varied=True)
    (folder / "train" / "class1" / "0003.jpg").write_bytes(b"\xff\xd8\xffbroken")
    return load_folder(folder, name="cars", split_seed=0)


def prepare(source: Source, cache: str, folder: Path) -> tuple[PreparedData, Path]:
    config = replace(STREAM, cache=cache, max_bad_fraction=0.1)  # type: ignore[arg-type]
    return pipeline.prepare(source, config, folder)


def give_room(monkeypatch: pytest.MonkeyPatch, num_images: int) -> None:
    """Leaves the disk room for so many decoded images."""
    monkeypatch.setattr(disk_space, "_measure_free", lambda cache: num_images * 32 * 32 * 3)


def list_batches(images: ImageSet, rank: int, num_workers: int, epoch: int = 0) -> list[tuple[list[int], bytes]]:
    worker = Worker(rank=rank, num_workers=num_workers)
    steps = iterate_ingredients(images, STREAM, batch_size=8, seed=5, epoch=epoch, worker=worker)
    batches = (build_batch(ingredients, images, STREAM) for ingredients in steps)
    return [(batch.indices.tolist(), batch.images.numpy().tobytes()) for batch in batches]


def test_streamed_images_are_the_decoded_ones(cars: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, decoded_test = prepare(cars, "decoded", tmp_path)
    give_room(monkeypatch, 0)
    streamed, streamed_test = prepare(cars, "stream", tmp_path)
    assert streamed.info == decoded.info
    assert [skipped.reason for skipped in streamed.info.skipped] == [decoded.info.skipped[0].reason]
    assert not list(streamed.folder.rglob("images.npy"))
    pairs = [
        (decoded.train, streamed.train),
        (decoded.val, streamed.val),
        (ImageSet(decoded_test), ImageSet(streamed_test)),
    ]
    for one, other in pairs:
        some = np.array([5, 0, 3])
        assert np.array_equal(one.gather(some), other.gather(some))
        assert (one.names, one.labels.tolist()) == (other.names, other.labels.tolist())
        seen = [batch.images for batch in iterate_evaluation(other, STREAM, batch_size=5, worker=Worker())]
        assert sum(len(images) for images in seen) == len(one)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_an_epoch_is_that_of_decoded_images_and_has_each_once(cars: Source, tmp_path: Path, num_workers: int) -> None:
    decoded, streamed = (prepare(cars, cache, tmp_path)[0].train for cache in ("decoded", "stream"))
    epoch = [list_batches(streamed, rank, num_workers) for rank in range(num_workers)]
    assert epoch == [list_batches(decoded, rank, num_workers) for rank in range(num_workers)]
    assert epoch == [list_batches(streamed, rank, num_workers) for rank in range(num_workers)]
    seen = sorted(index for batches in epoch for indices, _ in batches for index in indices)
    rest = 35 % 8  # a last batch with fewer than two images a worker is left out
    assert len(seen) == len(set(seen)) == (35 if rest >= 2 * num_workers else 32)
    assert list_batches(streamed, 0, num_workers, epoch=1) != epoch[0]


@pytest.mark.parametrize(
    ("cache", "room", "decoded"),
    [
        ("auto", 60, ("train", "val", "test")),
        ("auto", 59, ("val", "test")),
        ("auto", 47, ("val",)),
        ("auto", 23, ()),
        ("stream", 60, ("val", "test")),
        ("decoded", 60, ("train", "val", "test")),
    ],
)
def test_what_is_kept_decoded_is_what_the_disk_has_room_for(
    cars: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, room: int, decoded: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = replace(STREAM, cache=cache)  # type: ignore[arg-type]
    give_room(monkeypatch, room)
    assert pipeline.reads_files(cars, config, tmp_path)  # to decode them, at least
    data, test_folder = prepare(cars, cache, tmp_path)
    folders = {"train": data.folder / "train", "val": data.folder / "val", "test": test_folder}
    assert tuple(split for split, folder in folders.items() if ImageSet(folder).is_decoded) == decoded
    said = capsys.readouterr().err
    assert ("each epoch reads and decodes the images anew" in said) == ("train" not in decoded)
    assert ("as the disk is too small: 60 decoded images x 32 x 32 x 3 bytes" in said) == (
        cache == "auto" and "train" not in decoded
    )
    give_room(monkeypatch, room)
    assert prepare(cars, cache, tmp_path) == (data, test_folder)
    assert not capsys.readouterr().err  # found as it is
    assert pipeline.reads_files(cars, config, tmp_path) == ("train" not in decoded)


def test_decoded_images_that_are_asked_for_need_room(
    cars: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_room(monkeypatch, 59)
    with pytest.raises(DataError, match=r"60 decoded images .* or --set data\.cache=stream"):
        prepare(cars, "decoded", tmp_path)


def test_a_file_that_goes_bad_is_named(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", 2, {"train": 4, "val": 2, "test": 2})
    data, _ = prepare(load_folder(folder, name="cars", split_seed=0), "stream", tmp_path / "cache")
    bad = Path(data.train.names[2])
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError, match=f"{bad} could be decoded before the search and cannot now: truncated"):
        list_batches(data.train, 0, 1)
    bad.unlink()
    with pytest.raises(StorageError, match=f"the storage of {bad} must be in reach"):
        list_batches(data.train, 0, 1)


def test_damaged_paths_are_told(cars: Source, tmp_path: Path) -> None:
    data, _ = prepare(cars, "stream", tmp_path)
    path = data.folder / "train" / "files" / "paths.npy"
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with pytest.raises(CorruptFileError, match=r"paths\.npy"):
        data.train.check(3)


def test_a_part_of_streamed_images_is_streamed(cars: Source, tmp_path: Path) -> None:
    data, _ = prepare(cars, "stream", tmp_path / "cache")
    part = data.take_subset(tmp_path / "part", 5, 2)
    assert not part.train.is_decoded
    assert part.train.gather(np.arange(5)).shape == (5, 32, 32, 3)


@pytest.mark.ray
def test_ray_streams_beside_trials_that_hold_all_cpus_in_bounded_memory(tmp_path: Path, make_idx_folder: Make) -> None:
    """Two workers of an actor that has the only CPU read more than Ray's object store holds; nothing is spilled."""
    folder = make_idx_folder(tmp_path / "bars", 2000, 10)
    script = (
        "import json, os, sys\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "import ray\n"
        "from raysweep.config import DataConfig\n"
        "from raysweep.data import pipeline\n"
        "from raysweep.data.batches import Worker, build_batch, iterate_ingredients\n"
        "from raysweep.data.images import PreparedData\n"
        "from raysweep.data.sources.idx_files import load_idx_source\n"
        "from raysweep.data.stream import RayStream\n"
        "ray.init('local', num_cpus=1, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False)\n"
        "config = DataConfig(image_size=160, cache='stream')\n"
        "source = load_idx_source(Path(sys.argv[1]), name='bars', split_seed=0)\n"
        "data, _ = pipeline.prepare(source, config, Path(sys.argv[2]))\n"
        "def read(rank, stream):\n"
        "    images = PreparedData(folder=data.folder, info=data.info, stream=stream).train\n"
        "    worker = Worker(rank=rank, num_workers=2)\n"
        "    for each in iterate_ingredients(images, config, batch_size=100, seed=0, epoch=3, worker=worker):\n"
        "        batch = build_batch(each, images, config)\n"
        "        yield batch.indices.tolist(), float(batch.images.double().sum())\n"
        "@ray.remote(num_cpus=1)\n"
        "def train():\n"
        "    stream = RayStream(num_actors=1, num_streams=2)\n"
        "    return list(zip(read(0, stream), read(1, stream), strict=True))\n"
        "streamed = ray.get(train.remote())\n"
        "here = list(zip(read(0, None), read(1, None), strict=True))\n"
        "spilled = ray._private.internal_api.memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)\n"
        "print(json.dumps([streamed, here, spilled]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path / "cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=720,
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
    )
    assert done.returncode == 0, done.stderr
    streamed, here, summary = json.loads(done.stdout.splitlines()[-1])
    assert streamed == here
    assert sorted(index for step in streamed for indices, _ in step for index in indices) == list(range(1600))
    assert "Spilled" not in summary
