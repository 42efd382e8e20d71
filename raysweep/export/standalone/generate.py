"""Generates images: python generate.py FOLDER [--count N] [--seed S] [--label K]. Needs torch and Pillow only."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
FACTS: dict[str, Any] = json.loads((HERE / "model.json").read_text(encoding="utf-8"))


def generate(count: int, seed: int, label: int | None) -> torch.Tensor:
    """Generates images (N, H, W, C) uint8 of noise drawn by the seed; of each class in turn without a label."""
    inputs = [torch.randn(count, FACTS["noise"], generator=torch.Generator().manual_seed(seed))]
    if FACTS["num_classes"]:
        inputs.append(torch.arange(count) % FACTS["num_classes"] if label is None else torch.full((count,), label))
    with torch.inference_mode():
        images: torch.Tensor = torch.export.load(HERE / "model.pt2").module()(*inputs)[0]
    return images


def main() -> None:
    """Writes a PNG for each image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the PNGs are written")
    parser.add_argument("--count", type=int, default=16, help="number of images; default: 16")
    parser.add_argument("--seed", type=int, default=0, help="of the noise; default: 0")
    parser.add_argument("--label", type=int, choices=range(FACTS["num_classes"]), help=", ".join(FACTS["class_names"]))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(generate(arguments.count, arguments.seed, arguments.label)):
        height, width, channels = image.shape
        pixels = bytes(image.flatten().tolist())
        picture = Image.frombytes("L" if channels == 1 else "RGB", (width, height), pixels)
        picture.save(arguments.folder / f"{number:04d}.png")
    print(f"{arguments.count} images in {arguments.folder}")


if __name__ == "__main__":
    main()
