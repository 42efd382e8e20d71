"""Labels images, or rejects them: python predict.py IMAGE|FOLDER... [--json]. Needs torch and Pillow only."""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
FACTS: dict[str, Any] = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
SIZE, CHANNELS = FACTS["size"], FACTS["channels"]
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
BATCH_SIZE = 32


def read_image(path: Path) -> torch.Tensor:
    """Decodes a file as raysweep does: upright, on white, stretched to a square; (SIZE, SIZE, CHANNELS) uint8."""
    Image.MAX_IMAGE_PIXELS = None  # the limit is the model's own
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > FACTS["max_pixels"]:
            raise ValueError(f"{image.width}x{image.height} pixels is over the limit of {FACTS['max_pixels']:,}")
        image.draft("L" if CHANNELS == 1 else None, (SIZE, SIZE))
        image.load()
        square = flatten(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0)
        square.info = image.info
        with contextlib.suppress(Exception):  # broken EXIF in a good image is common
            square = ImageOps.exif_transpose(square)
    pixels = bytearray(square.convert("L" if CHANNELS == 1 else "RGB").tobytes())
    return torch.frombuffer(pixels, dtype=torch.uint8).reshape(SIZE, SIZE, CHANNELS)


def flatten(image: Image.Image) -> Image.Image:
    """Converts an image of any mode to grey or RGB, on white where it is transparent, 16 bits to 8."""
    if image.mode in ("I", "I;16"):
        values = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32)
        levels = values // 257 + (values % 257 > 128)
        if isinstance(transparent := image.info.get("transparency"), int):
            levels[values == transparent] = 255
        return Image.frombytes("L", image.size, bytes(levels.tolist()))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def list_files(paths: list[Path]) -> list[Path]:
    """Lists the files that are meant, those below folders by name."""
    found: list[Path] = []
    for path in paths:
        found += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return found


def label_files(paths: list[Path]) -> list[dict[str, Any]]:
    """Says of each file its `label`, `confidence` and whether it is `rejected`, or an `error`."""
    graph = torch.export.load(HERE / "model.pt2").module()
    rows: list[dict[str, Any]] = []
    for start in range(0, len(paths), BATCH_SIZE):
        batch, images = [], []
        for path in paths[start : start + BATCH_SIZE]:
            row: dict[str, Any] = {"image": str(path)}
            rows.append(row)
            try:
                images.append(read_image(path))
                batch.append(row)
            except Exception as error:  # whatever a file makes Pillow raise is said on its line
                row["error"] = str(error)
        if images:
            with torch.inference_mode():
                index, confidence, accepted, score, _ = graph(torch.stack(images))
            for number, row in enumerate(batch):
                row["label"], row["confidence"] = FACTS["classes"][int(index[number])], float(confidence[number])
                row["rejected"] = not accepted[number]
                row["score"] = None if score[number].isnan() else float(score[number])  # none: it rejects nothing
    return rows


def main() -> None:
    """Labels what the command line names; exits with 1 where a file gave no image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, help="files, or folders with all that is below them")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a line for each image")
    arguments = parser.parse_args()
    rows = label_files(list_files(arguments.images))
    if arguments.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    for row in [] if arguments.json else rows:
        said = "rejected: none of the classes" if row.get("rejected") else ""
        print(f"{row['image']}: {row.get('error') or said or format(row['confidence'], '.1%') + ' ' + row['label']}")
    sys.exit(any("error" in row for row in rows))


if __name__ == "__main__":
    main()
