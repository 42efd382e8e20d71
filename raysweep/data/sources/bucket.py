"""Images in a bucket, `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER`: copied once below the storage, then a folder.

`gs://anonymous@BUCKET/FOLDER` is a public one. What follows a question mark is for pyarrow's `FileSystem.from_uri`.
"""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from raysweep.announcement import announce
from raysweep.data.formats import SUFFIXES
from raysweep.data.records import Source
from raysweep.data.sources.download import shorten_error
from raysweep.data.sources.image_folder import find_class_folder, load_folder
from raysweep.data.sources.labels_file import NAMES
from raysweep.errors import DataError
from raysweep.file_lock import wait_for_lock
from raysweep.run_folder import cache_folder

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

NUM_THREADS = 16
"""Of copying, which waits for the network."""
RETRY_S = 20
"""How long Google's client asks for a token or an answer; by itself it had not ended after 100 seconds."""


def load(argument: str, *, split_seed: int, storage: Path, data_root: Path | None, scheme: str) -> Source:
    """Copies what is new in a bucket's folder, and finds its images.

    Raises:
        DataError: it cannot be read, has no images, or the disk cannot hold them.
    """
    uri = f"{scheme}:{argument}"
    parts = urlsplit(uri)
    is_public = scheme == "gs" and parts.netloc.startswith("anonymous@")
    if not parts.hostname or ("@" in parts.netloc and not is_public):
        raise DataError(
            f"a bucket is {scheme}://BUCKET/FOLDER, with credentials in the environment and none in it, got "
            f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        )
    folder = cache_folder(storage) / "buckets" / hashlib.sha256(uri.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            wait_for_lock(folder.with_suffix(".lock"), f"another process that copies {uri}"),
            announce(f"the images of {uri}"),
        ):
            copy_bucket(uri, folder)
    except (OSError, ValueError) as error:  # of Arrow
        raise DataError(
            f"{uri} cannot be read: {shorten_error(error)}\nCredentials and endpoint come from the environment, as "
            "AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL or GOOGLE_APPLICATION_CREDENTIALS; or copy it, and give the folder"
        ) from error
    return load_folder(find_class_folder(folder), name=uri, split_seed=split_seed)


load_s3, load_gs = partial(load, scheme="s3"), partial(load, scheme="gs")


def copy_bucket(uri: str, folder: Path) -> None:
    """Makes a folder like a bucket's: images and tables of labels, of which only new and changed ones are copied.

    Raises:
        DataError: there are none, one would lie elsewhere, or the disk cannot hold them.
        OSError: the bucket cannot be read.
    """
    from pyarrow import fs  # slow

    files, root = fs.FileSystem.from_uri(_limit_retries(uri))
    listed = [info for info in files.get_file_info(fs.FileSelector(root, recursive=True)) if info.is_file]
    wanted = {_place(folder, root, info.path): info for info in listed if _is_wanted(info.base_name)}
    if not wanted:
        raise DataError(f"{uri} must have images, it has {len(listed):,} files, none of a format that is read")
    missing = {path: info for path, info in wanted.items() if not _is_same(path, info)}
    needed, free = sum(info.size for info in missing.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{uri} has {needed / 1e9:,.1f} GB to be copied, {folder} has {free / 1e9:,.1f} GB free; give another "
            "--storage"
        )
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in wanted]:
        path.unlink()
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        list(threads.map(partial(_copy, files), missing.items()))


def _limit_retries(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme != "gs" or "retry_limit_seconds" in parts.query:
        return uri
    return parts._replace(query="&".join(filter(None, [parts.query, f"retry_limit_seconds={RETRY_S}"]))).geturl()


def _is_wanted(name: str) -> bool:
    return name in NAMES or name.lower().endswith(SUFFIXES)


def _place(folder: Path, root: str, key: str) -> Path:
    """Returns where an object is copied to."""
    relative = Path(key.removeprefix(root).lstrip("/"))
    if ".." in relative.parts:
        raise DataError(f"the name of an object must lead into its folder, got {key!r}; rename it")
    return folder / relative


def _is_same(path: Path, info: "FileInfo") -> bool:
    """Tells whether an object was copied as it is now: by its size and time."""
    if not path.is_file():
        return False
    stat = path.stat()
    return stat.st_size == info.size and stat.st_mtime_ns == (info.mtime_ns or stat.st_mtime_ns)


def _copy(files: "FileSystem", item: "tuple[Path, FileInfo]") -> None:
    path, info = item
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")  # hidden: no image until it is whole
    with files.open_input_stream(info.path) as source, temporary.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
    if info.mtime_ns:
        os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))
    temporary.rename(path)
