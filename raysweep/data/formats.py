"""The formats of images that are read, told by their first bytes; imports neither Pillow nor numpy."""

import re
from dataclasses import dataclass

START_BYTES = 32
"""So many first bytes of a file tell its format."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is read."""

    start: re.Pattern[bytes]
    """Matches the first bytes of its files."""
    suffixes: tuple[str, ...]


FORMATS = {
    "JPEG": Format(re.compile(rb"\xff\xd8\xff"), (".jpg", ".jpeg", ".jpe", ".jfif")),
    "PNG": Format(re.compile(rb"\x89PNG\r\n\x1a\n"), (".png", ".apng")),
    "WebP": Format(re.compile(rb"RIFF.{4}WEBP", re.DOTALL), (".webp",)),
    "BMP": Format(re.compile(rb"BM"), (".bmp", ".dib")),
    "TIFF": Format(re.compile(rb"II[*+]\0|MM\0[*+]"), (".tif", ".tiff")),
    "GIF": Format(re.compile(rb"GIF8[79]a"), (".gif",)),
    "AVIF": Format(re.compile(rb".{4}ftyp(avi[fs]|m[is]f1.{4}(?:.{4})*?avi[fs])", re.DOTALL), (".avif",)),
}
"""By name. What Pillow reads beyond them is left out: more decoders are more ways for a hostile file to do harm."""
SUFFIXES = tuple(suffix for kind in FORMATS.values() for suffix in kind.suffixes)


def find_format(start: bytes) -> str | None:
    """Names the format of a file by its first START_BYTES bytes; none: it is not read."""
    return next((name for name, kind in FORMATS.items() if kind.start.match(start)), None)


def describe_unknown(start: bytes) -> str:
    """Says that a file's first bytes are those of no format that is read."""
    *most, last = FORMATS
    return f"not a {', '.join(most)} or {last} (starts with {start[:4]!r})" if start else "empty file"
