"""Image folders from Kaggle."""

from collections.abc import Callable
from pathlib import Path

from raysweep.data.records import Source
from raysweep.data.sources import WAYS_ON
from raysweep.data.sources.download import call_with_timeout, shorten_error
from raysweep.data.sources.image_folder import find_class_folder, load_folder
from raysweep.errors import DataError, RaysweepError


def load(argument: str, *, split_seed: int, storage: Path, data_root: Path | None) -> Source:
    """Downloads `argument`, OWNER/NAME.

    Raises:
        DataError: Kaggle cannot be reached or refuses.
    """
    return load_kaggle(argument, split_seed=split_seed)


def load_kaggle(handle: str, *, split_seed: int, download: Callable[[str], str] | None = None) -> Source:
    """Downloads an image folder. `download` takes the handle and returns a folder: kagglehub, unless given.

    Raises:
        DataError: Kaggle cannot be reached or refuses.
    """
    if download is None:
        import kagglehub

        download = kagglehub.dataset_download
    try:
        folder = call_with_timeout(lambda: download(handle))
    except RaysweepError:
        raise
    except Exception as error:  # kagglehub raises requests', its own and plain exceptions
        raise DataError(
            f"Kaggle's {handle} cannot be had here: tried kagglehub.dataset_download({handle!r}), "
            f"which said: {shorten_error(error)}\n"
            "With network and, where it asks for one, a Kaggle account (KAGGLE_USERNAME, KAGGLE_KEY) it works as is.\n"
            f"{WAYS_ON}"
        ) from error
    return load_folder(find_class_folder(Path(folder)), name=f"kaggle:{handle}", split_seed=split_seed)
