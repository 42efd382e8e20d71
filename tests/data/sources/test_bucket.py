"""Buckets, against moto's S3 server: copied as they are, only what is new again, nothing outside of their place."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raysweep.data.records import SPLITS, Source
from raysweep.data.sources import bucket as bucket_module
from raysweep.data.sources import load_source
from raysweep.errors import DataError

Make = Callable[..., Path]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket called cars, of a server in this process, with credentials as they are usually given."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    s3 = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1")
    yield s3.create_bucket(Bucket="cars")
    server.stop()


def upload(bucket: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), f"{prefix}/{path.relative_to(folder)}")


def load(spec: str, storage: Path) -> Source:
    return load_source(spec, split_seed=0, storage=storage)


def test_a_folder_of_a_bucket_is_copied_once(tmp_path: Path, bucket: Any, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", 2, {"train": 5, "test": 2})
    (folder / "train/class0/notes.txt").write_text("no image")
    upload(bucket, folder, "data/v1")
    source = load("s3://cars/data/v1", tmp_path)
    assert source.name == "s3://cars/data/v1"
    assert [len(source.records[split]) for split in SPLITS] == [8, 2, 4]
    first, *_ = paths = [Path(path) for split in SPLITS for path in source.records[split].paths]
    assert all(path.is_relative_to(tmp_path / ".cache") and path.stat().st_size for path in paths)
    assert load("s3://cars/data/v1", tmp_path).fingerprint() == source.fingerprint()
    times = {path: path.stat().st_ctime_ns for path in paths}
    bucket.upload_file(str(folder / "train/class1/0000.jpg"), "data/v1/train/class1/new.jpg")
    bucket.Object(f"data/v1/train/{first.parent.name}/{first.name}").delete()
    source = load("s3://cars/data/v1", tmp_path)
    left = {Path(path) for split in SPLITS for path in source.records[split].paths}
    assert len(left) == len(paths)
    assert set(paths) - left == {first}
    assert all(path.stat().st_ctime_ns == times[path] for path in left & set(paths))


def test_searches_that_begin_at_once_copy_a_bucket_one_after_the_other(
    tmp_path: Path, bucket: Any, make_image_folder: Make
) -> None:
    upload(bucket, make_image_folder(tmp_path / "cars", 2, {"train": 20}), "data")
    with ThreadPoolExecutor(4) as threads:
        sources = list(threads.map(lambda _: load("s3://cars/data", tmp_path), range(4)))
    assert len({source.fingerprint() for source in sources}) == 1


def test_a_table_of_labels_in_a_bucket(tmp_path: Path, bucket: Any, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", ("images",), 20)
    rows = "".join(f"images/{number:04d}.jpg,{'ab'[number % 2]}\n" for number in range(20))
    (folder / "labels.csv").write_text(f"path,label\n{rows}")
    upload(bucket, folder, "data")
    assert load("s3://cars/data", tmp_path).classes == ("a", "b")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("s3://cars/empty", "s3://cars/empty"),
        ("s3://nobody/data", "s3://nobody/data cannot be read: .*\n.*AWS_ENDPOINT_URL"),
        ("s3:cars", "a bucket is s3://BUCKET/FOLDER"),
        ("s3://key:secret@cars/data", "none in it, got s3://cars/data$"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_refused(tmp_path: Path, bucket: Any, spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(spec, tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gs://anonymous@cars/data?scheme=http&endpoint_override=127.0.0.1:9", "cannot be read: .*Could not connect"),
        ("gs://someone@cars/data", "none in it, got gs://cars/data$"),
        ("gs://anonymous@/data", "a bucket is gs://BUCKET/FOLDER"),
    ],
)
def test_a_bucket_of_google_that_cannot_be_reached_is_said_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str
) -> None:
    monkeypatch.setattr(bucket_module, "RETRY_S", 1)
    with pytest.raises(DataError, match=message):
        load(spec, tmp_path)


def test_an_object_must_not_leave_its_place(tmp_path: Path, bucket: Any, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", 2, 1)
    bucket.upload_file(str(folder / "class0/0000.jpg"), "data/class0/../../../evil.jpg")
    with pytest.raises(DataError):
        load("s3://cars/data", tmp_path)
    assert not list(tmp_path.rglob("evil.jpg"))
