"""Decodes the bytes of an image file to a square uint8 array, or raises one exception that says why not.

Pillow's plugins for the formats of `raysweep.data.formats` are used directly, not through `Image.open`. That decides
the format by its first bytes, reaches no other decoder, leaves the limit on pixels to us (`Image.open` has its own,
which warns), and keeps the plugin's own message where `Image.open` would say only "cannot identify image file".
"""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base as ExifTag
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from raysweep.data.formats import START_BYTES, describe_unknown, find_format
from raysweep.data.reading import read_at_most

# EXIF 2.32, tag 0x0112: what undoes each way the camera may have been held. 1 is upright.
_UNDO_ORIENTATION: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Large images are first shrunk by whole factors, to no less than this many times the target.
_REDUCING_GAP = 3.0
_MAX_BYTES_PER_PIXEL = 8
_MAX_METADATA_BYTES = 2**26


class UndecodableImage(Exception):  # noqa: N818 - an outcome that is counted, not a fault
    """Bytes that give no image; its text is the reason, for a person."""


class _JpegFile(JpegImageFile):
    """A JPEG whose EXIF is not read on opening, where an odd resolution tag would refuse the whole image."""

    def _read_dpi_from_exif(self) -> None:
        """Does nothing: dots per inch are of no use here."""


class _BmpFile(BmpImageFile):
    """A BMP whose pixels are stored as they are."""

    def _open(self) -> None:
        super()._open()
        if self.tile and self.tile[0].codec_name != "raw":  # its decoder is slow, and older ones take memory at will
            raise UndecodableImage("a BMP must not be run-length coded; save it as PNG")


_PLUGINS: dict[str, type[ImageFile]] = {
    "JPEG": _JpegFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": _BmpFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
    "AVIF": AvifImageFile,
}


def read_image_file(path: Path, max_pixels: int) -> bytes:
    """Reads a file that is to be decoded.

    Raises:
        OSError: it cannot be read.
        UndecodableImage: it has more bytes than an image of `max_pixels` pixels, at 16 bits for each of four channels.
    """
    most = _MAX_BYTES_PER_PIXEL * max_pixels + _MAX_METADATA_BYTES
    with path.open("rb") as file:
        data = bytes(read_at_most(file, most + 1))
    if len(data) > most:
        raise UndecodableImage(f"over the limit of {most:,} bytes for {max_pixels:,} pixels")
    return data


def measure_image(data: bytes) -> tuple[str, int, int]:
    """Reads format, width and height, in pixels, of the image file in `data`.

    Raises:
        UndecodableImage: it has no header of a format that is read.
    """
    with _open(data) as image:
        return find_format(data[:START_BYTES]) or "", *image.size


def decode_image(data: bytes, *, size: int, channels: Literal[1, 3], max_pixels: int = 50_000_000) -> NDArray[np.uint8]:
    """Decodes the image file in `data` as (size, size, channels) uint8 in [0, 255], writable.

    The image is turned upright by its EXIF orientation, laid on white where it is transparent, stretched to a
    square with antialiased bilinear interpolation (as torchvision's `Resize((size, size))`), and given as RGB
    or, for one channel, luma (ITU-R 601-2). 16-bit samples are scaled to 8 bits. A JPEG at least twice the
    target is decoded at 1/2, 1/4 or 1/8, which never goes below the target. Of several pictures in a file (pages of a
    TIFF, frames of a GIF) the first is taken. Colour profiles are not applied.

    Damage that leaves a complete stream goes unseen: a JPEG cut short and then closed by an end marker, or a
    PNG whose compressed data ends early but cleanly, comes with its last rows grey or black.

    Raises:
        UndecodableImage: the bytes are of no format that is read, are truncated or broken, or their header names
            more than `max_pixels` pixels (found before any pixel is decoded).
        ValueError: `size` is under 1, or `channels` is neither 1 nor 3.
    """
    if size < 1 or channels not in (1, 3):
        raise ValueError(f"size must be at least 1 and channels 1 or 3, got {size} and {channels}")
    with _open(data) as image:
        return _decode(image, size, channels, max_pixels)


@contextlib.contextmanager
def _open(data: bytes) -> Iterator[ImageFile]:
    """Opens an image file by the plugin of its format; what goes wrong until it is closed is an UndecodableImage."""
    kind = find_format(data[:START_BYTES])
    if kind is None:
        raise UndecodableImage(describe_unknown(data))
    try:
        with warnings.catch_warnings():
            # Broken EXIF in a good image is common. Limited to Pillow as other threads see the filter too.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield _PLUGINS[kind](io.BytesIO(data))
    except UndecodableImage:
        raise
    except Exception as error:  # Pillow has no base class for what hostile bytes can raise
        raise UndecodableImage(_reason(error, kind)) from error


def _decode(image: ImageFile, size: int, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    """Decodes the opened, not yet loaded `image` as (size, size, channels) uint8."""
    width, height = image.size
    if width < 1 or height < 1:
        raise UndecodableImage(f"{width}x{height} pixels is no image")
    if width * height > max_pixels:
        raise UndecodableImage(f"{width}x{height} pixels is over the limit of {max_pixels:,}")
    # Only JPEG takes the hint. "L" asks for the luma plane alone. A square target is the same for any turn.
    image.draft("L" if channels == 1 else None, (size, size))
    image.load()
    square = _flatten(image).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)
    # A square is turned after it is small: the same picture for less work.
    undo = _UNDO_ORIENTATION.get(_orientation(image))
    upright = square if undo is None else square.transpose(undo)
    return np.array(_convert(upright, "L" if channels == 1 else "RGB")).reshape(size, size, channels)


def _flatten(image: Image.Image) -> Image.Image:
    """Converts a loaded image of any mode to "L" or "RGB", at its own size, on white where transparent."""
    if image.mode == "F":
        raise UndecodableImage("its samples are fractions, of no known range; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _flatten_16_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    return _convert(image, "L" if image.mode in ("1", "L") else "RGB")


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Converts an image to a mode; one that has it already is not copied."""
    return image if image.mode == mode else image.convert(mode)


def _flatten_16_bit(image: Image.Image) -> Image.Image:
    """Converts a 16-bit grey image to "L", 0..65535 scaled to 0..255; Pillow's `convert` would clip it."""
    values = np.asarray(image)
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise UndecodableImage("its samples have more than 16 bits; save it with 8 or 16 bits")
    levels = (values // 257 + (values % 257 > 128)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels[values == transparent] = 255
    return Image.fromarray(levels)


def _orientation(image: Image.Image) -> object:
    """Reads the EXIF (or XMP) orientation of a loaded image, 1 (upright) if it cannot be read."""
    try:
        return image.getexif().get(ExifTag.Orientation, 1)
    except Exception:  # a hostile tag raises as many types as a hostile image
        return 1


def _reason(error: Exception, file_format: str) -> str:
    """Describes Pillow's `error` as a reason for a person."""
    broken, text = f"broken {file_format}", str(error) or type(error).__name__
    if isinstance(error, SyntaxError) and isinstance(error.__cause__, struct.error | IndexError):
        return "truncated: the file ends within its header"
    if text == "not identified by this driver":
        return f"{broken}: its header has no usable size or colour type"
    if text.startswith(broken):
        return text
    return f"truncated: {text}" if "truncated" in text.lower() else f"{broken}: {text}"
