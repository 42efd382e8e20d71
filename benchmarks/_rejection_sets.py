"""The sets of images that `rejection.py` trains and judges on, decoded, and small classifiers trained on them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from raysweep import atomic_files, config_fields
from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.batches import Worker, build_batch, iterate_ingredients
from raysweep.data.decode import decode_image
from raysweep.data.idx import load_idx
from raysweep.data.images import DataInfo, ImageSet, PreparedData
from raysweep.data.records import SPLITS, Records, Split
from raysweep.data.sources import load_source
from raysweep.evaluate.stored_model import StoredModel
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

Pixels = npt.NDArray[np.uint8]
BATCH_SIZE, SEED = 32, 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A set: where its images are from, how they are decoded, and the network that learns them."""

    source: str
    size: int
    channels: Literal[1, 3]
    model: str
    as_jpegs: bool = False
    """Grey images are tinted and written as small colour JPEGs, as a user's own folder may have them."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A set's splits, on disk as the platform's cache has them."""

    kind: Kind
    data: PreparedData
    test: ImageSet


def prepare(kind: Kind, folder: Path, storage: Path, data_root: Path | None, sizes: dict[Split, int]) -> Prepared:
    """Decodes so many images of each split, drawn by seed, once."""
    if not (folder / "info.json").is_file():
        source = load_source(kind.source, split_seed=SEED, storage=storage, data_root=data_root)
        counts: dict[str, Any] = {
            f"num_{split}": _write_split(kind, folder / split, source.records[split], sizes[split]) for split in SPLITS
        }
        info = DataInfo(
            source=source.name, synthetic=source.synthetic, digest="0" * 64, classes=source.classes, **counts
        )
        atomic_files.write_json(folder / "info.json", config_fields.to_json(info))
    return Prepared(kind, PreparedData.load(folder), ImageSet(folder / "test"))


def _write_split(kind: Kind, folder: Path, records: Records, most: int) -> int:
    draw = np.random.default_rng(SEED)
    records = records.take(np.sort(draw.permutation(len(records))[:most]))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(
        folder / "images.npy",
        np.stack(
            [_read(kind, path, member, draw) for path, member in zip(records.paths, records.members, strict=True)]
        ),
    )
    np.save(folder / "rows.npy", np.arange(len(records)))
    np.save(folder / "labels.npy", records.labels)
    atomic_files.write_json(folder / "names.json", [str(number) for number in range(len(records))])
    return len(records)


def _read(kind: Kind, path: str, member: int, draw: np.random.Generator) -> Pixels:
    if member < 0:
        content = Path(path).read_bytes()
    else:
        grey = load_idx(Path(path))[member]
        image = Image.fromarray(_tint(grey, draw) if kind.as_jpegs else grey)
        file = io.BytesIO()
        image.save(file, "JPEG" if kind.as_jpegs else "PNG", quality=90)
        content = file.getvalue()
    return decode_image(content, size=kind.size, channels=kind.channels)


def _tint(grey: Pixels, draw: np.random.Generator) -> Pixels:
    """Colours a grey image (H, W): black and white become two colours of its own, (H, W, 3)."""
    dark, light = draw.uniform(0, 100, 3), draw.uniform(130, 255, 3)
    return (dark + (light - dark) * grey[..., None] / 255).round().astype(np.uint8)


def convert(images: Pixels, kind: Kind) -> Pixels:
    """Brings images (N, H, W, C) of one set to the size and channels of another."""
    maps = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if maps.shape[1] != kind.channels:
        grey = (
            maps
            if maps.shape[1] == 1
            else (maps * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        )
        maps = grey.expand(-1, kind.channels, -1, -1)
    resized = F.interpolate(maps, [kind.size, kind.size], mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())


def train(prepared: Prepared, stops: tuple[int, ...]) -> Iterator[tuple[int, StoredModel]]:
    """Trains one classifier, and yields it after each of some numbers of epochs."""
    kind, data = prepared.kind, prepared.data
    normalization: Literal["unit", "imagenet"] = "unit" if kind.channels == 1 else "imagenet"
    config = TrialConfig(
        task=ClassificationConfig(
            model=kind.model,
            pretrained=False,
            head="linear",
            backbone_factor=1.0,
            optimizer="adam",
            learning_rate=1e-3,
        ),
        data=DataConfig(image_size=kind.size, channels=kind.channels, normalization=normalization),
        training=TrainingConfig(epochs=max(stops), batch_size=BATCH_SIZE, precision="fp32"),
    )
    torch.manual_seed(SEED)
    task = build_task(config, data.info)
    state = task.init_state(Worker(), lambda module: module)
    for epoch in range(max(stops)):
        for module in state.modules.values():
            module.train()
        for ingredients in iterate_ingredients(
            data.train, config.data, batch_size=BATCH_SIZE, seed=SEED, epoch=epoch, worker=Worker()
        ):
            task.train_step(state, build_batch(ingredients, data.train, config.data))
        if epoch + 1 in stops:
            modules: dict[str, Any] = {name: module.eval() for name, module in state.modules.items()}
            yield (
                epoch + 1,
                StoredModel(
                    number=0,
                    config=config,
                    info=data.info,
                    task=task,
                    modules=modules,
                    facts={"epoch": epoch + 1, "value": 0.0},
                ),
            )
