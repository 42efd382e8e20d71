"""The built-in sample: cars that are drawn on first use."""

from pathlib import Path

from raysweep.data.drawing.pictures import draw_sample
from raysweep.data.records import Source
from raysweep.data.sources import refuse_argument
from raysweep.data.sources.image_folder import load_folder
from raysweep.run_folder import cache_folder


def load(argument: str, *, split_seed: int, storage: Path, data_root: Path | None) -> Source:
    """Draws the sample below `storage` unless it is there."""
    refuse_argument("sample", argument)
    folder = cache_folder(storage) / "sample-cars"
    draw_sample(folder)
    return load_folder(folder, name="sample (synthetic)", split_seed=split_seed, synthetic=True)
