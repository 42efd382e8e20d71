"""The pipeline: each image is decoded once and rightly, bad files are listed, the cache is whole or absent, and the
test split lies apart."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysweep.config import DataConfig
from raysweep.data import pipeline
from raysweep.data.batches import Worker, build_batch, iterate_evaluation, iterate_ingredients
from raysweep.data.decode import decode_image
from raysweep.data.idx import load_idx
from raysweep.data.images import ImageSet, PreparedData, SkippedFile
from raysweep.data.records import SPLITS, Source
from raysweep.data.sources.idx_files import load_idx_source
from raysweep.data.sources.image_folder import load_folder
from raysweep.data.summary import check_skipped
from raysweep.errors import DataError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
Make = Callable[..., Path]
CONFIG = DataConfig(image_size=32)
ROOT = Path(pipeline.__file__).parents[2]


def load(folder: Path, name: str = "cars") -> Source:
    return load_folder(folder, name=name, split_seed=0)


def read(images: ImageSet) -> np.ndarray:
    return images.gather(np.arange(len(images)))


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """The files below a folder, each with its inode and time: the same if nothing was written."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory, make_image_folder: Make) -> Path:
    """Three classes of JPEGs of varied sizes, 12 + 4 + 4 of each."""
    root = tmp_path_factory.mktemp("cars")
    return make_image_folder(root, 3, {"train": 12, "val": 4, "test": 4}, varied=True)


@pytest.fixture(scope="module")
def prepared(cars: Path, tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> tuple[PreparedData, Path]:
    return pipeline.prepare(load(cars), CONFIG, tmp_path_factory.mktemp("cache"))


# What is decoded


def test_every_image_is_decoded_as_decode_image_does(cars: Path, prepared: tuple[PreparedData, Path]) -> None:
    data, test_folder = prepared
    source = load(cars)
    for split, images in (("train", data.train), ("val", data.val), ("test", ImageSet(test_folder))):
        records = source.records[split]  # type: ignore[index]
        assert images.names == records.paths
        assert images.labels.tolist() == records.labels.tolist()
        expected = [decode_image(Path(path).read_bytes(), size=32, channels=3) for path in records.paths]
        assert np.array_equal(read(images), expected)
    info = data.info
    assert (info.num_train, info.num_val, info.num_test, info.skipped) == (36, 12, 12, ())
    assert (info.source, info.synthetic, info.classes) == ("cars", False, ("class0", "class1", "class2"))


def test_one_channel_and_a_larger_cached_size(cars: Path, tmp_path: Path) -> None:
    config = DataConfig(image_size=16, cache_size=24, channels=1, normalization="unit")
    data, test_folder = pipeline.prepare(load(cars), config, tmp_path)
    assert read(data.val).shape == (12, 24, 24, 1)
    assert read(ImageSet(test_folder)).shape == (12, 24, 24, 1)
    expected = decode_image(Path(data.val.names[5]).read_bytes(), size=24, channels=1)
    assert np.array_equal(read(data.val)[5], expected)
    batch = next(iterate_evaluation(data.val, config, batch_size=12, worker=Worker()))
    assert batch.images.shape == (12, 1, 16, 16)


def test_classes_can_be_told_apart_by_colour(prepared: tuple[PreparedData, Path]) -> None:
    """The factory's data set is learnable: the nearest mean colour of train is right on val."""
    data, _ = prepared
    centres = read(data.train)[:, 8:24, 8:24].mean((1, 2))
    means = np.stack([centres[data.train.labels == label].mean(0) for label in range(3)])
    colours = read(data.val)[:, 8:24, 8:24].mean((1, 2))
    assert (np.linalg.norm(colours[:, None] - means, axis=2).argmin(1) == data.val.labels).all()


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 1), (64, 3), (14, 1)])
def test_idx_images_are_resized(tmp_path: Path, make_idx_folder: Make, size: int, channels: int) -> None:
    folder = make_idx_folder(tmp_path / "bars", 50, 10, suffix=".gz")
    source = load_idx_source(folder, name="bars", split_seed=0)
    config = DataConfig(image_size=size, channels=channels, normalization="unit")  # type: ignore[arg-type]
    data, test_folder = pipeline.prepare(source, config, tmp_path / "cache")
    path = folder / "train-images-idx3-ubyte.gz"
    raw = load_idx(path)[source.records["train"].members]
    images = read(data.train)
    assert images.shape == (40, size, size, channels)
    assert data.train.names[3] == f"{path}#{source.records['train'].members[3]}"
    for image, grey in zip(images, raw, strict=True):
        expected = np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR))
        assert np.array_equal(image, np.repeat(expected[:, :, None], channels, 2))
    if size == 28:
        assert np.array_equal(images[..., 0], raw)
    assert len(ImageSet(test_folder)) == 10


def test_blocks_do_not_show(cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MIN_BLOCK_ROWS", 5)
    data, test_folder = pipeline.prepare(load(cars), CONFIG, tmp_path)
    expected = [decode_image(Path(path).read_bytes(), size=32, channels=3) for path in data.train.names]
    assert np.array_equal(read(data.train), expected)
    assert len(ImageSet(test_folder)) == 12


# Files that cannot be decoded


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, make_image_folder: Make) -> Path:
    """60 images: three cannot be decoded, two are unusual but good."""
    folder = make_image_folder(tmp_path_factory.mktemp("damaged"), 3, {"train": 14, "val": 3, "test": 3}, varied=True)
    path = folder / "train/class0/0003.jpg"
    path.write_bytes(path.read_bytes()[:400])
    (folder / "val/class1/0001.jpg").write_bytes(b"")
    (folder / "test/class2/0002.jpg").write_text("This is a text file.")
    Image.new("CMYK", (50, 40), (0, 255, 255, 0)).save(folder / "train/class0/0000.jpg")
    wide = np.full((40, 50), 128 * 257, dtype=np.uint16)
    Image.fromarray(wide).save(folder / "train/class1/0000.png")
    (folder / "train/class1/0000.jpg").unlink()
    return folder


def test_bad_files_beyond_the_limit_are_refused_and_listed(damaged: Path, tmp_path: Path) -> None:
    source = load(damaged)
    with pytest.raises(DataError) as caught:
        pipeline.prepare(source, CONFIG, tmp_path)
    message = str(caught.value)
    assert "3 of 60 files cannot be decoded (5.0%), the limit is 1.0%" in message
    for name, reason in (
        ("train/class0/0003.jpg", "truncated"),
        ("val/class1/0001.jpg", "empty file"),
        ("test/class2/0002.jpg", "not a JPEG, PNG"),
    ):
        assert re.search(rf"{re.escape(str(damaged / name))}: .*{reason}", message)
    limit = re.search(r"--set data\.max_bad_fraction=([\d.]+)", message)
    assert limit is not None
    before = content(tmp_path)
    data, _ = pipeline.prepare(source, replace(CONFIG, max_bad_fraction=float(limit[1])), tmp_path)
    assert content(tmp_path) == before  # the raised limit needs no decoding
    assert len(data.info.skipped) == 3


def test_skipped_files_leave_the_others_in_place(damaged: Path, tmp_path: Path) -> None:
    data, test_folder = pipeline.prepare(load(damaged), replace(CONFIG, max_bad_fraction=0.1), tmp_path)
    info = data.info
    assert (info.num_train, info.num_val, info.num_test) == (41, 8, 8)
    assert {(Path(bad.path).relative_to(damaged).as_posix(), bad.split) for bad in info.skipped} == {
        ("train/class0/0003.jpg", "train"),
        ("val/class1/0001.jpg", "val"),
        ("test/class2/0002.jpg", "test"),
    }
    assert all(bad.reason for bad in info.skipped)
    for images in (data.train, data.val, ImageSet(test_folder)):
        expected = [decode_image(Path(path).read_bytes(), size=32, channels=3) for path in images.names]
        assert np.array_equal(read(images), expected)
        assert [Path(path).parent.name for path in images.names] == [info.classes[n] for n in images.labels]
    by_name = dict(zip(data.train.names, read(data.train), strict=True))
    red, green, blue = by_name[str(damaged / "train/class0/0000.jpg")].mean((0, 1))
    assert red > 200
    assert max(green, blue) < 60
    assert (by_name[str(damaged / "train/class1/0000.png")] == 128).all()
    steps = iterate_ingredients(data.train, CONFIG, batch_size=8, seed=0, epoch=0, worker=Worker())
    assert (
        sum(len(build_batch(step, data.train, CONFIG).labels) for step in steps) == 40
    )  # 41, and a last batch of one is left out


def test_a_split_without_any_good_image_is_refused(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", 2, {"train": 4, "val": 1, "test": 2})
    for path in folder.glob("val/*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no file of val can be decoded(.|\n)*val/class0/0000.jpg: empty file"):
        pipeline.prepare(load(folder), replace(CONFIG, max_bad_fraction=1), tmp_path / "cache")


def test_the_limit_that_a_message_gives_is_enough(prepared: tuple[PreparedData, Path]) -> None:
    bad = SkippedFile(path="x.jpg", split="train", reason="empty file")
    for total in (2_000, 2_500, 3_333, 60_000, 1_000_000):
        info = replace(prepared[0].info, num_train=total, skipped=(bad,))
        with pytest.raises(DataError) as caught:
            check_skipped(info, 0.0)
        limit = re.search(r"max_bad_fraction=([\d.]+)", str(caught.value))
        assert limit is not None
        check_skipped(info, float(limit[1]))


# The cache


@pytest.fixture
def copied(cars: Path, tmp_path: Path) -> Path:
    """A copy of the cars, to be changed."""
    return shutil.copytree(cars, tmp_path / "cars", copy_function=shutil.copy2)


def test_nothing_is_decoded_twice(copied: Path, tmp_path: Path) -> None:
    first, _ = pipeline.prepare(load(copied), CONFIG, tmp_path / "cache")
    before, images = content(tmp_path / "cache"), read(first.train)
    for path in copied.rglob("*.jpg"):  # other bytes of the same size and time: whoever decodes them fails
        stat = path.stat()
        path.write_bytes(b"x" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again, _ = pipeline.prepare(load(copied), CONFIG, tmp_path / "cache")
    assert again == first
    assert np.array_equal(read(again.train), images)
    assert content(tmp_path / "cache") == before


def test_the_second_run_needs_no_ray(cars: Path, prepared: tuple[PreparedData, Path]) -> None:
    script = (
        "import sys, ray\n"
        "from pathlib import Path\n"
        "from raysweep.config import DataConfig\n"
        "from raysweep.data import pipeline\n"
        "from raysweep.data.sources.image_folder import load_folder\n"
        "source = load_folder(Path(sys.argv[1]), name='cars', split_seed=0)\n"
        "data, test = pipeline.prepare(source, DataConfig(image_size=32), Path(sys.argv[2]))\n"
        "assert not ray.is_initialized()\n"
        "print(data.info.digest, len(data.train), test)\n"
    )
    data, test_folder = prepared
    done = subprocess.run(
        [sys.executable, "-c", script, cars, test_folder.parent], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.split() == [data.info.digest, "36", str(test_folder)], done.stderr


def test_changed_files_and_settings_are_decoded_anew(copied: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, first_test = pipeline.prepare(load(copied), CONFIG, cache)
    old = read(first.train)
    changed = Path(first.train.names[0])
    Image.new("RGB", (20, 20), "white").save(changed)
    second, second_test = pipeline.prepare(load(copied), CONFIG, cache)
    assert second.folder != first.folder
    assert second_test != first_test
    assert second.info.digest != first.info.digest
    assert (read(second.train)[0] == 255).all()
    assert np.array_equal(read(second.train)[1:], old[1:])
    assert np.array_equal(read(first.train), old)  # an earlier run's images stay
    smaller, _ = pipeline.prepare(load(copied), DataConfig(image_size=16), cache)
    assert smaller.folder not in (first.folder, second.folder)


def test_a_rewritten_idx_file_is_decoded_anew(tmp_path: Path, make_idx_folder: Make) -> None:
    config = DataConfig(image_size=28, channels=1, normalization="unit")
    for seed in (1, 2):
        folder = make_idx_folder(tmp_path / "bars", 50, 10, seed=seed)
        source = load_idx_source(folder, name="bars", split_seed=0)
        data, _ = pipeline.prepare(source, config, tmp_path / "cache")
        raw = np.frombuffer((folder / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
        expected = raw.reshape(-1, 28, 28)[source.records["train"].members]
        assert np.array_equal(read(data.train)[..., 0], expected)


def test_settings_that_do_not_touch_decoding_share_a_cache(cars: Path, prepared: tuple[PreparedData, Path]) -> None:
    data, test_folder = prepared
    config = DataConfig(image_size=24, cache_size=32, normalization="symmetric", max_bad_fraction=0.5)
    again, again_test = pipeline.prepare(load(cars), config, test_folder.parent)
    assert (again.folder, again_test) == (data.folder, test_folder)


def test_a_digest_is_of_content_not_of_path_or_time(cars: Path, copied: Path, tmp_path: Path) -> None:
    first, _ = pipeline.prepare(load(cars), CONFIG, tmp_path / "a")
    for path in copied.rglob("*.jpg"):
        os.utime(path, ns=(1, 1))
    moved, _ = pipeline.prepare(load(copied), CONFIG, tmp_path / "b")
    assert moved.info.digest == first.info.digest
    assert moved.folder.name != first.folder.name
    path = copied / "val/class0/0000.jpg"
    path.write_bytes(path.read_bytes() + b"\0")  # the picture is the same, the file is not
    changed, _ = pipeline.prepare(load(copied), CONFIG, tmp_path / "b")
    assert changed.info.digest != first.info.digest


def test_a_shared_cache_keeps_the_name_and_the_mark_of_each_source(
    cars: Path, prepared: tuple[PreparedData, Path]
) -> None:
    drawn = replace(load(cars), name="sample (synthetic)", synthetic=True)
    data, _ = pipeline.prepare(drawn, CONFIG, prepared[1].parent)
    assert data.folder == prepared[0].folder
    assert (data.info.source, data.info.synthetic) == ("sample (synthetic)", True)
    again, _ = pipeline.prepare(load(cars), CONFIG, prepared[1].parent)
    assert again == prepared[0]


def test_a_prepared_set_is_loaded_back(prepared: tuple[PreparedData, Path]) -> None:
    assert PreparedData.load(prepared[0].folder) == prepared[0]


# Interruptions


def test_a_half_made_cache_is_not_taken(cars: Path, prepared: tuple[PreparedData, Path], tmp_path: Path) -> None:
    whole, whole_test = prepared
    for place in (whole.folder, whole_test):  # as a killed run leaves it: named as temporary, and black
        half = shutil.copytree(place, tmp_path / f".{place.name}.0123abcd")
        for path in half.rglob("images.npy"):
            np.load(path, mmap_mode="r+")[:] = 0
    data, test_folder = pipeline.prepare(load(cars), CONFIG, tmp_path)
    assert np.array_equal(read(data.train), read(whole.train))
    assert np.array_equal(read(ImageSet(test_folder)), read(ImageSet(whole_test)))


@pytest.mark.parametrize("lost", ["data", "test"])
def test_the_missing_half_of_a_cache_is_made_again(
    cars: Path, prepared: tuple[PreparedData, Path], tmp_path: Path, lost: str
) -> None:
    whole, whole_test = prepared
    kept = whole_test if lost == "data" else whole.folder
    shutil.copytree(kept, tmp_path / kept.name)
    data, test_folder = pipeline.prepare(load(cars), CONFIG, tmp_path)
    assert np.array_equal(read(data.train), read(whole.train))
    assert np.array_equal(read(ImageSet(test_folder)), read(ImageSet(whole_test)))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_killed_while_decoding_leaves_no_cache(cars: Path, tmp_path: Path) -> None:
    """A process is killed with SIGKILL once it has begun to write; the next run makes the whole cache."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from raysweep.config import DataConfig\n"
        "from raysweep.data import pipeline\n"
        "from raysweep.data.sources.image_folder import load_folder\n"
        "pipeline._run = lambda *_: __import__('time').sleep(60)\n"
        "source = load_folder(Path(sys.argv[1]), name='cars', split_seed=0)\n"
        "pipeline.prepare(source, DataConfig(image_size=32), Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, cars, tmp_path], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.rglob("images.npy"))) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(tmp_path.rglob("images.npy"))) == 3
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    data, _ = pipeline.prepare(load(cars), CONFIG, tmp_path)
    assert (data.info.num_train, bool(read(data.train).any(axis=(1, 2, 3)).all())) == (36, True)


def test_two_runs_at_once_end_with_one_whole_cache(
    cars: Path, prepared: tuple[PreparedData, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, others = pipeline._run, []

    def run_second(*arguments: Any) -> Iterator[dict[str, Any]]:
        monkeypatch.undo()
        others.append(pipeline.prepare(load(cars), CONFIG, tmp_path))  # another run is whole before this one
        return run(*arguments)

    monkeypatch.setattr(pipeline, "_run", run_second)
    data, test_folder = pipeline.prepare(load(cars), CONFIG, tmp_path)
    assert others == [(data, test_folder)]
    assert sorted(tmp_path.iterdir()) == [data.folder, test_folder]
    assert np.array_equal(read(data.train), read(prepared[0].train))


def test_a_failed_decode_leaves_nothing_behind(cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_run", fail)
    with pytest.raises(KeyboardInterrupt):
        pipeline.prepare(load(cars), CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


# The test split


def test_nothing_that_search_gets_leads_to_the_test_split(cars: Path, prepared: tuple[PreparedData, Path]) -> None:
    data, test_folder = prepared
    sent = pickle.dumps(data) + pickle.dumps(data.train) + pickle.dumps(data.val)
    assert str(test_folder).encode() not in sent
    assert str(cars).encode() not in sent
    below = [path for path in data.folder.rglob("*") if path.is_file()]
    assert test_folder not in data.folder.parents
    assert data.folder not in test_folder.parents
    test_names = [path.encode() for path in load(cars).records["test"].paths]
    for path in below:
        raw = path.read_bytes()
        assert not any(name in raw for name in (str(test_folder).encode(), *test_names)), path


def test_training_needs_no_test_folder(cars: Path, tmp_path: Path) -> None:
    data, test_folder = pipeline.prepare(load(cars), CONFIG, tmp_path)
    shutil.rmtree(test_folder)
    data = pickle.loads(pickle.dumps(data))
    options: dict[str, Any] = {"batch_size": 8, "worker": Worker()}
    steps = iterate_ingredients(data.train, CONFIG, seed=0, epoch=0, **options)
    assert sum(len(build_batch(step, data.train, CONFIG).images) for step in steps) == 36
    assert sum(len(b.images) for b in iterate_evaluation(data.val, CONFIG, **options)) == 12


def test_splits_share_no_image(prepared: tuple[PreparedData, Path]) -> None:
    data, test_folder = prepared
    names = [set(images.names) for images in (data.train, data.val, ImageSet(test_folder))]
    assert len(set.union(*names)) == sum(map(len, names)) == 60
    assert len(SPLITS) == 3


# More than the object store holds


def test_a_set_larger_than_the_object_store_streams(tmp_path: Path, make_idx_folder: Make) -> None:
    """2,000 images of 160 x 160 x 3 are 154 MB decoded; the object store has 100 MB."""
    folder = make_idx_folder(tmp_path / "bars", 1900, 100, classes=4, side=16)
    script = (
        "import json, sys, ray\n"
        "from pathlib import Path\n"
        "from raysweep.config import DataConfig\n"
        "from raysweep.data import pipeline\n"
        "from raysweep.data.batches import Worker, build_batch, iterate_ingredients\n"
        "from raysweep.data.sources.idx_files import load_idx_source\n"
        "ray.init('local', num_cpus=1, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)\n"
        "store = ray.cluster_resources()['object_store_memory']\n"
        "config = DataConfig(image_size=160)\n"
        "source = load_idx_source(Path(sys.argv[1]), name='bars', split_seed=0)\n"
        "data, test = pipeline.prepare(source, config, Path(sys.argv[2]))\n"
        "steps = iterate_ingredients(data.train, config, batch_size=95, seed=0, epoch=0, worker=Worker())\n"
        "batches = (build_batch(step, data.train, config) for step in steps)\n"
        "shapes = [tuple(batch.images.shape) for batch in batches if batch.images.isfinite().all()]\n"
        "size = sum(path.stat().st_size for path in Path(sys.argv[2]).rglob('images.npy'))\n"
        "spilled = ray._private.internal_api.memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)\n"
        "print(json.dumps([store, size, shapes, spilled]))\n"
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
    store, size, shapes, summary = json.loads(done.stdout.splitlines()[-1])
    assert store <= 100e6
    assert size > 150e6
    assert shapes == [[95, 3, 160, 160]] * 16
    assert "Spilled" not in summary


def test_a_disk_that_cannot_hold_the_decoded_images_is_told_before_any_is_decoded(tmp_path: Path, cars: Path) -> None:
    source = load(cars)
    records = source.records["train"]
    many = records.take(np.zeros(2_000_000, dtype=np.int64))
    config = DataConfig(image_size=2048, cache_size=4096, cache="decoded")
    with pytest.raises(
        DataError,
        match=r"2,000,024 decoded images x 4096 x 4096 x 3 bytes = 100,664\.5 GB, .*data\.cache=stream",
    ):
        pipeline.prepare(replace(source, records={**source.records, "train": many}), config, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# Images that are there twice, and images without labels


def test_what_test_has_too_is_taken_out_of_train(cars: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(cars, tmp_path / "cars")
    again = folder / "train/class0/again.png"
    Image.open(folder / "test/class0/0000.jpg").resize((50, 40)).save(again)
    shutil.copy(folder / "val/class1/0001.jpg", folder / "train/class2/copied.jpg")
    data, test_folder = pipeline.prepare(load(folder), CONFIG, tmp_path / "cache")
    assert (data.info.num_train, data.info.num_val, data.info.num_test) == (36, 12, 12)
    assert not {str(again), str(folder / "train/class2/copied.jpg")} & set(data.train.names)
    assert len(ImageSet(test_folder)) == 12
    assert [note.split(",")[0] for note in data.info.notes] == [
        "1 image of train is in val too",
        "1 image of train is in test too (1 resized or recompressed)",
        "1 image is in two classes: at most one is right (" + f"{folder}/train/class2/copied.jpg is class2",
    ]


def test_a_class_that_test_has_whole_is_refused(cars: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(cars, tmp_path / "cars")
    shutil.rmtree(folder / "train/class0")
    shutil.copytree(folder / "test/class0", folder / "train/class0")
    with pytest.raises(DataError, match="every training image of class0 is in val or test too"):
        pipeline.prepare(load(folder), CONFIG, tmp_path / "cache")


def test_images_without_labels_are_grouped_by_looks(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "flat", ("",), 30)
    data, test_folder = pipeline.prepare(
        load(folder), replace(CONFIG, channels=1, normalization="unit"), tmp_path / "cache"
    )
    assert data.info.classes == tuple(f"group {number}" for number in range(10))
    assert set(data.train.labels.tolist()) == set(range(10))
    assert ImageSet(test_folder).labels.max() < 10
    assert "the images have no labels" in data.info.notes[-1]
