"""The latent-size curve: the best validation error of each size of code that a run tried, beside PCA of equal size."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from raysweep.config import DataConfig
from raysweep.data.batches import CPU, normalise_images
from raysweep.data.images import DataInfo, ImageSet, PreparedData, space_evenly
from raysweep.errors import CorruptFileError
from raysweep.run_folder import RunFolder
from raysweep.tasks.autoencoder.task import AutoencoderTask
from raysweep.train.history import load_history
from raysweep.train.task import build_task
from raysweep.trial_record import load_trial

TOLERANCE = 0.05
"""A size is as good as the best when its error is at most so much higher, as a share."""
MAX_PCA_VALUES = 100_000_000
"""PCA is fitted on as many training images as have so many values together: 400 MB."""
BATCH_SIZE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeError:
    """The best trial of one size; errors are squared, per pixel, on the validation images."""

    size: int
    """Values of the code."""
    error: float
    pca_error: float
    """Of PCA with as many components, fitted on training images."""
    number: int
    """The trial."""
    epoch: int
    stopped: bool = False
    """The trial ended before its last epoch: the size might do better than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentSizes:
    """The curve, by ascending size. The test split has no part in it."""

    sizes: tuple[SizeError, ...]
    num_images: int
    """Validation images."""
    left_out: tuple[str, ...] = ()
    """Why trials are left out whose files are damaged."""

    @property
    def smallest(self) -> SizeError:
        """The smallest size whose error is within 5 % of the best."""
        least = min(entry.error for entry in self.sizes)
        return next(entry for entry in self.sizes if entry.error <= (1 + TOLERANCE) * least)


def measure_latent_sizes(
    run_folder: RunFolder, data: PreparedData, config: DataConfig
) -> tuple[LatentSizes, "PcaYardstick"]:
    """Measures the curve of a run's trials, however they ended, and the PCA that it is compared with.

    `config` says how the images are normalised.
    """
    left_out: list[str] = []
    found = find_best_of_sizes(run_folder, data.info, left_out)
    pca = PcaYardstick(data.train, config, most=max(found))
    errors = pca.measure(data.val, found)
    sizes = tuple(
        SizeError(size=size, error=error, pca_error=errors[size], number=number, epoch=epoch, stopped=stopped)
        for size, (error, number, epoch, stopped) in sorted(found.items())
    )
    return LatentSizes(sizes=sizes, num_images=len(data.val), left_out=tuple(left_out)), pca


def find_best_of_sizes(
    run_folder: RunFolder, info: DataInfo, left_out: list[str]
) -> dict[int, tuple[float, int, int, bool]]:
    """Finds each size's lowest `val/mse`, its trial and epoch, and whether that was stopped, in what trials wrote.

    Trials whose files are damaged are left out, and named in `left_out`.

    Raises:
        CorruptFileError: all are.
    """
    best: dict[int, tuple[float, int, int, bool]] = {}
    for folder in run_folder.list_trials():
        try:
            record = load_trial(folder)
            rows = [row for row in load_history(folder) if "val/mse" in row]
        except CorruptFileError as error:
            left_out.append(str(error))
            continue
        if not rows:
            continue
        task = build_task(record.config, info)
        assert isinstance(task, AutoencoderTask)
        row = min(rows, key=lambda row: row["val/mse"])
        stopped = rows[-1]["epoch"] < record.config.training.epochs
        candidate = (row["val/mse"], record.number, int(row["epoch"]), stopped)
        best[task.code_size] = min(candidate, best.get(task.code_size, candidate))
    if not best and left_out:
        raise CorruptFileError("; ".join(left_out))
    return best


class PcaYardstick:
    """Principal components of training images: the best linear code of each size."""

    def __init__(self, images: ImageSet, config: DataConfig, most: int) -> None:
        """Fits up to `most` components."""
        self.config = config
        num_values = config.image_size**2 * config.channels
        rows = space_evenly(len(images), max(1, MAX_PCA_VALUES // num_values))
        components = min(most, num_values, len(rows))
        self.pca = PCA(components, random_state=0).fit(self._flatten(images, rows))
        self.num_images = len(rows)

    def measure(self, images: ImageSet, sizes: Iterable[int]) -> dict[int, float]:
        """Measures the squared error per pixel of a split's images for each size; 0 where a size has all components."""
        sizes = list(sizes)
        totals, count = np.zeros(len(sizes)), 0
        for start in range(0, len(images), BATCH_SIZE):
            flat = self._flatten(images, np.arange(start, min(start + BATCH_SIZE, len(images)))).astype(np.float64)
            centred = flat - self.pca.mean_
            # Components are orthonormal: what they do not explain is the whole square minus the scores' squares.
            explained = np.square(centred @ self.pca.components_.T).sum(axis=0).cumsum()
            totals += [np.square(centred).sum() - explained[min(size, len(explained)) - 1] for size in sizes]
            count += flat.size
        return {size: max(0.0, float(total)) / count for size, total in zip(sizes, totals, strict=True)}

    def _flatten(self, images: ImageSet, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        flat: npt.NDArray[np.float32] = normalise_images(images.gather(rows), self.config, CPU).flatten(1).numpy()
        return flat
