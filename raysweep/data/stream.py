"""Streams images of an epoch with Ray Data: read, decoded and resized beside the training, in bounded memory."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.exceptions import RayTaskError

from raysweep.data.files import ImageFiles
from raysweep.errors import RaysweepError

SHARE_OF_STORE = 0.5
"""Of Ray's object store, for all streams together."""
BLOCKS_IN_STORE = 8
MAX_BLOCK_BYTES = 2**24


def set_up(context: DataContext) -> None:
    """Has Ray Data show no progress, and raise a fault of the storage as such: else it arrives as text."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class RayStream:
    """Decodes batches of files ahead of their use, in the order given, by actors of Ray Data.

    They ask for no CPUs, as trials have all of them. Tasks would leave each process idle between two blocks for about a
    third of the time that it decodes; an actor has the next block already.
    """

    num_actors: int
    """Images are decoded in so many processes."""
    num_streams: int
    """So many streams, this one included, share Ray's object store."""

    def __call__(self, files: ImageFiles, batches: Iterable[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yields each batch decoded, (B, H, W, C) uint8.

        Raises:
            DataError: an image cannot be decoded any more.
            StorageError: an image is out of reach.
        """
        rows = list(batches)
        if not rows:
            return
        try:
            yield from _rebatch(self._decode(files, np.concatenate(rows)), [len(batch) for batch in rows])
        except RayTaskError as error:
            if isinstance(error.cause, RaysweepError):
                raise error.cause from None
            raise

    def _decode(self, files: ImageFiles, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yields the images in blocks that leave the others room in the object store."""
        store = ray.cluster_resources().get("object_store_memory", 0.0)  # type: ignore[no-untyped-call]
        budget = int(store * SHARE_OF_STORE / self.num_streams)
        size = max(1, min(MAX_BLOCK_BYTES, budget // BLOCKS_IN_STORE) // files.decoding.image_bytes)
        context = DataContext.get_current().copy()
        set_up(context)
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ExecutionResources(object_store_memory=budget)
        blocks = [pa.table({"row": rows[start : start + size]}) for start in range(0, len(rows), size)]
        with DataContext.current(context):
            dataset = ray.data.from_blocks(blocks).map_batches(
                _Decoder,
                batch_size=None,
                batch_format="pyarrow",
                fn_constructor_kwargs={"files": files},
                num_cpus=0,
                compute=ActorPoolStrategy(size=self.num_actors, max_tasks_in_flight_per_actor=2),
            )
            tables = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        side, channels = files.decoding.side, files.decoding.channels
        for table in tables:
            assert isinstance(table, pa.Table)
            for chunk in table["image"].chunks:
                pixels = np.frombuffer(chunk.buffers()[1], np.uint8).reshape(-1, side, side, channels)
                yield pixels[chunk.offset : chunk.offset + len(chunk)]


class _Decoder:
    """Decodes the files of some rows; a column of bytes, which the training's process reads where they lie."""

    def __init__(self, files: ImageFiles) -> None:
        self.files = files

    def __call__(self, block: pa.Table) -> pa.Table:
        pixels = self.files.decode_in_turn(block["row"].to_numpy())
        kind = pa.binary(self.files.decoding.image_bytes)
        images = pa.FixedSizeBinaryArray.from_buffers(kind, len(pixels), [None, pa.py_buffer(pixels)])
        return pa.table({"image": images})


def _rebatch(blocks: Iterator[npt.NDArray[np.uint8]], sizes: list[int]) -> Iterator[npt.NDArray[np.uint8]]:
    """Cuts blocks of images into batches of these sizes, each a copy of its own."""
    rest: Any = None
    for size in sizes:
        parts, missing = [], size
        while missing:
            if rest is None or not len(rest):
                rest = next(blocks)
            parts.append(rest[:missing])
            missing -= len(parts[-1])
            rest = rest[len(parts[-1]) :]
        yield np.concatenate(parts)
