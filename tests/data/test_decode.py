"""decode_image: formats, modes and orientations come out right, a bad file gives a reason, nothing else escapes."""

import io
import pickle
import struct
import time
import warnings
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from raysweep.data.decode import UndecodableImage, decode_image

Colour = tuple[int, ...]
WIDTH, HEIGHT = 40, 24


def save(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}) | options)
    return file.getvalue()


def plain(mode: str, colour: float | Colour, kind: str = "PNG", **options: Any) -> bytes:
    return save(Image.new(mode, (WIDTH, HEIGHT), colour), kind, **options)


def palette(**options: Any) -> bytes:
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([0, 0, 0, 10, 120, 240])
    return save(image, **options)


def raw_png(depth: int, colour_type: int, row: bytes, *, size: Colour = (WIDTH, HEIGHT), trns: bytes = b"") -> bytes:
    """A PNG of a depth or size that Pillow does not write; every row is `row`."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * HEIGHT))
    return b"\x89PNG\r\n\x1a\n" + header + (chunk(b"tRNS", trns) if trns else b"") + pixels + chunk(b"IEND", b"")


def wide(*samples: int) -> bytes:
    """One row of 16-bit samples."""
    return struct.pack(f">{len(samples)}H", *samples) * WIDTH


def ycck(ink: Colour) -> bytes:
    """The YCCK JPEG of four inks: Adobe stores YCbCr of C, M and Y, then K inverted, and transform 2."""
    ycc = Image.new("RGB", (1, 1), ink[:3]).convert("YCbCr").getpixel((0, 0))
    assert isinstance(ycc, tuple)
    data = bytearray(plain("CMYK", (*(255 - int(value) for value in ycc), ink[3]), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def with_jpeg_size(width: int, height: int) -> bytes:
    data = bytearray(JPEG)
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def noise(width: int, height: int) -> Image.Image:
    """A picture between a photograph and noise: smooth waves with grain."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([127 + 90 * np.sin(x / (37 - k)) * np.cos(y / (23 + k)) for k in range(3)], axis=-1)
    grain = np.random.default_rng(0).normal(0, 10, waves.shape)
    return Image.fromarray(np.clip(waves + grain, 0, 255).astype(np.uint8))


def with_size(data: bytes, layout: str, place: int, width: int, height: int) -> bytes:
    """The image file with another size in its header."""
    return data[:place] + struct.pack(layout, width, height) + data[place + struct.calcsize(layout) :]


def animate(kind: str) -> bytes:
    """Two frames, blue and black: the first is the image."""
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in (BLUE, (0, 0, 0))]
    return save(frames[0], kind, save_all=True, append_images=frames[1:])


EXIF = Image.Exif()
EXIF.update({0x0112: 6, 0x010F: "Maker", 0x011A: 72.5, 0x0128: 2})
JPEG = save(noise(WIDTH, HEIGHT), "JPEG", exif=EXIF)
PNG = save(noise(WIDTH, HEIGHT), exif=EXIF)
BLUE, HALF_BLUE = (10, 120, 240), (132, 187, 247)
WEBP, AVIF, TIFF = (save(noise(WIDTH, HEIGHT), kind) for kind in ("WEBP", "AVIF", "TIFF"))
RLE_BMP = bytearray(plain("P", 0, "BMP"))
RLE_BMP[30] = 1  # compression: BI_RLE8

PLAIN: dict[str, tuple[bytes, Colour]] = {
    "1": (plain("1", 1), (255, 255, 255)),
    "1 with a transparent level": (plain("1", 0, transparency=0), (255, 255, 255)),
    "L": (plain("L", 77), (77, 77, 77)),
    "L with a transparent level": (plain("L", 77, transparency=77), (255, 255, 255)),
    "L, 2 bits": (raw_png(2, 0, b"\x55" * (WIDTH // 4)), (85, 85, 85)),
    "LA": (plain("LA", (0, 51)), (204, 204, 204)),
    "P": (palette(), BLUE),
    "P with a transparent colour": (palette(transparency=1), (255, 255, 255)),
    "P with alpha": (palette(transparency=b"\xff\x80"), HALF_BLUE),
    "RGB": (plain("RGB", BLUE), BLUE),
    "RGB with a transparent colour": (plain("RGB", BLUE, transparency=BLUE), (255, 255, 255)),
    "RGBA": (plain("RGBA", (*BLUE, 128)), HALF_BLUE),
    "RGBA, nothing opaque": (plain("RGBA", (*BLUE, 0)), (255, 255, 255)),
    "L, 16 bits": (raw_png(16, 0, wide(100 * 257)), (100, 100, 100)),
    "L, 16 bits, transparent": (raw_png(16, 0, wide(25700), trns=wide(25700)[:2]), (255, 255, 255)),
    "LA, 16 bits": (raw_png(16, 4, wide(0, 51 * 257)), (204, 204, 204)),
    "RGB, 16 bits": (raw_png(16, 2, wide(*(level * 257 for level in BLUE))), BLUE),
    "RGBA, 16 bits": (raw_png(16, 6, wide(*(level * 257 for level in (*BLUE, 128)))), HALF_BLUE),
    "JPEG L": (plain("L", 77, "JPEG"), (77, 77, 77)),
    "JPEG RGB": (plain("RGB", BLUE, "JPEG"), BLUE),
    "JPEG progressive": (plain("RGB", BLUE, "JPEG", progressive=True), BLUE),
    "JPEG stored as RGB": (plain("RGB", BLUE, "JPEG", keep_rgb=True), BLUE),
    "JPEG CMYK": (plain("CMYK", (245, 135, 15, 0), "JPEG"), BLUE),
    "JPEG CMYK with black": (plain("CMYK", (0, 0, 0, 155), "JPEG"), (100, 100, 100)),
    "JPEG YCCK": (ycck((245, 135, 15, 0)), BLUE),
    "JPEG YCCK with black": (ycck((0, 0, 0, 155)), (100, 100, 100)),
    "JPEG of several pictures": (
        plain("RGB", BLUE, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        BLUE,
    ),
    "WebP": (plain("RGB", BLUE, "WEBP", lossless=True), BLUE),
    "WebP, lossy": (plain("RGB", BLUE, "WEBP"), BLUE),
    "WebP RGBA": (plain("RGBA", (*BLUE, 128), "WEBP", lossless=True), HALF_BLUE),
    "WebP of two frames": (animate("WEBP"), BLUE),
    "BMP": (plain("RGB", BLUE, "BMP"), BLUE),
    "BMP P": (plain("L", 77, "BMP"), (77, 77, 77)),
    "TIFF": (plain("RGB", BLUE, "TIFF"), BLUE),
    "TIFF LZW": (plain("RGB", BLUE, "TIFF", compression="tiff_lzw"), BLUE),
    "TIFF CMYK": (plain("CMYK", (245, 135, 15, 0), "TIFF"), BLUE),
    "TIFF, 16 bits": (save(Image.fromarray(np.full((HEIGHT, WIDTH), 25700, np.uint16)), "TIFF"), (100, 100, 100)),
    "TIFF of two pages": (animate("TIFF"), BLUE),
    "GIF": (save(Image.new("RGB", (WIDTH, HEIGHT), BLUE), "GIF"), BLUE),
    "GIF of two frames": (animate("GIF"), BLUE),
    "AVIF": (plain("RGB", BLUE, "AVIF"), BLUE),
    "AVIF RGBA": (plain("RGBA", (*BLUE, 128), "AVIF"), HALF_BLUE),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_colour_of_every_mode_keeps_its_colour(name: str) -> None:
    data, colour = PLAIN[name]
    image = decode_image(data, size=16, channels=3)
    assert image.shape == (16, 16, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert np.abs(image.astype(int) - colour).max() <= 2
    luma = decode_image(data, size=16, channels=1)
    assert luma.shape == (16, 16, 1)
    assert luma.dtype == np.uint8
    assert np.abs(luma.astype(int) - np.dot(colour, [0.299, 0.587, 0.114])).max() <= 2


def test_a_16_bit_gradient_keeps_its_range() -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    image = decode_image(save(Image.fromarray(values)), size=64, channels=1)
    np.testing.assert_array_equal(image[..., 0], np.rint(values / 257))


# EXIF 2.32, tag 0x0112: the side of the upright picture at which the stored row 0 and column 0 lie.
ROW_0_COLUMN_0 = ["top left", "top right", "bottom right", "bottom left"]
ROW_0_COLUMN_0 += ["left top", "right top", "right bottom", "left bottom"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("scale", [1, 12])  # 12: wide enough for a scaled decode
@pytest.mark.parametrize("orientation", range(1, 9))
def test_corners_are_where_they_were_in_the_world(orientation: int, scale: int, kind: str) -> None:
    corners = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [200, 200, 0]]], np.uint8)
    upright = corners.repeat(HEIGHT * scale // 2, axis=0).repeat(WIDTH * scale // 2, axis=1)
    row_0, column_0 = ROW_0_COLUMN_0[orientation - 1].split()
    stored = upright if row_0 in ("top", "bottom") else upright.swapaxes(0, 1)
    stored = stored[::-1] if row_0 in ("bottom", "right") else stored
    stored = stored[:, ::-1] if column_0 in ("bottom", "right") else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(save(Image.fromarray(stored), kind, exif=exif), size=32, channels=3)
    assert np.abs(image[8::16, 8::16].astype(int) - corners).max() <= 8


def whole_decode(data: bytes, size: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("width", "height", "size", "scaled"),
    [
        (900, 700, 224, True),
        (448, 448, 224, True),
        (447, 660, 224, False),
        (660, 447, 224, False),
        (190, 64, 64, False),
        (1000, 130, 64, True),
        (100, 50, 64, False),
    ],
)
def test_a_scaled_decode_is_close_and_only_taken_down_to_the_target(
    width: int, height: int, size: int, scaled: bool
) -> None:
    data = save(noise(width, height), "JPEG")
    difference = np.abs(decode_image(data, size=size, channels=3).astype(int) - whole_decode(data, size))
    assert bool(difference.any()) == scaled
    # Worst at exactly twice the target, where the scaled decode averages 2x2 pixels and grain stays sharper.
    assert difference.mean() < 3.5
    assert difference.max() < 25


def test_a_large_png_is_close_to_the_plain_resize() -> None:
    data = save(noise(900, 700))
    difference = np.abs(decode_image(data, size=64, channels=3).astype(int) - whole_decode(data, 64))
    assert difference.max() <= 8


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "^empty file$"),
    "text named .jpg": (b"hello, I am a picture\n", r"^not a JPEG, PNG.* or AVIF \(starts with b'hell'\)$"),
    "PCX": (plain("RGB", 0, "PCX"), "^not a JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "^not a JPEG, PNG"),
    "TIFF of fractions": (plain("F", 0.5, "TIFF"), "^its samples are fractions"),
    "TIFF of 32 bits": (plain("I", 70_000, "TIFF"), "^its samples have more than 16 bits"),
    "BMP, run-length coded": (bytes(RLE_BMP), "^a BMP must not be run-length coded"),
    "BMP, 72 million pixels": (with_size(plain("RGB", 0, "BMP"), "<ii", 18, 8000, 9000), "^8000x9000 pixels is over"),
    "GIF, 72 million pixels": (with_size(plain("P", 0, "GIF"), "<HH", 6, 8000, 9000), "^8000x9000 pixels is over"),
    "WebP, half": (WEBP[: len(WEBP) // 2], "^(broken|truncated)"),
    "AVIF, half": (AVIF[: len(AVIF) // 2], "^(broken|truncated)"),
    "TIFF, half": (TIFF[: len(TIFF) // 2], "^(broken|truncated)"),
    "JPEG, half": (
        JPEG[: len(JPEG) * 3 // 4],
        r"^truncated: image file is truncated \(\d+ bytes not processed\)$",
    ),
    "JPEG without its end marker": (JPEG[:-2], "^truncated: image file is truncated"),
    "JPEG, the magic only": (JPEG[:3], "^broken JPEG: its header"),
    "JPEG, within its header": (JPEG[:200], "^truncated: "),
    "JPEG of no height": (with_jpeg_size(WIDTH, 0), "^broken JPEG: its header has no usable size"),
    "PNG, half": (PNG[: len(PNG) // 2], "^truncated: image file is truncated"),
    "PNG, the magic only": (PNG[:8], "^truncated: the file ends within its header$"),
    "PNG, a letter changed in its header": (PNG.replace(b"IHDR", b"IHDr"), "^broken PNG file"),
    "PNG of no width": (raw_png(8, 0, b"", size=(0, HEIGHT)), "^broken PNG: its header has no usable size"),
    "PNG, 72 million pixels": (
        raw_png(8, 0, b"", size=(8000, 9000)),
        "^8000x9000 pixels is over the limit of 50,000,000$",
    ),
    "PNG, where Pillow warns": (raw_png(8, 0, b"", size=(10_000, 10_000)), "^10000x10000 pixels is over"),
    "PNG, where Pillow refuses": (
        raw_png(8, 0, b"", size=(2**31 - 1, 2**31 - 1)),
        "pixels is over the limit",
    ),
    "JPEG, where Pillow refuses": (with_jpeg_size(65_000, 65_000), "^65000x65000 pixels is over the limit"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("error")
def test_a_bad_file_is_refused_quickly_with_its_reason(name: str) -> None:
    data, reason = REFUSED[name]
    start_s = time.process_time()
    with pytest.raises(UndecodableImage, match=reason) as refusal:
        decode_image(data, size=16, channels=3)
    assert time.process_time() - start_s < 0.5
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_as_many_pixels_as_the_limit_are_decoded() -> None:
    assert decode_image(PNG, size=16, channels=3, max_pixels=WIDTH * HEIGHT).shape == (16, 16, 3)
    with pytest.raises(UndecodableImage, match=r"^40x24 pixels is over the limit of 959$"):
        decode_image(PNG, size=16, channels=3, max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.parametrize(("size", "channels"), [(0, 3), (-1, 1), (16, 2), (16, 4)])
def test_a_wrong_size_or_channels_is_not_blamed_on_the_image(size: int, channels: Any) -> None:
    with pytest.raises(ValueError, match="size must be at least 1 and channels 1 or 3"):
        decode_image(JPEG, size=size, channels=channels)


EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=4)), max_size=6)


@settings(max_examples=400, deadline=None)
@given(
    data=st.sampled_from([JPEG, PNG, *(data for data, _ in PLAIN.values())]),
    edits=EDITS,
    channels=st.sampled_from([1, 3]),
)
def test_mutated_bytes_give_an_image_or_a_reason(
    data: bytes, edits: list[tuple[int, int, bytes]], channels: Literal[1, 3]
) -> None:
    for place, num_removed, inserted in edits:
        place %= len(data) + 1
        data = data[:place] + inserted + data[place + num_removed :]
    image = _decode_silently(data, channels)
    assert image is None or (image.dtype == np.uint8 and image.shape == (16, 16, channels))


@settings(max_examples=100, deadline=None)
@given(data=st.sampled_from([JPEG, PNG]), length=st.integers(0, 10_000))
def test_a_truncated_file_gives_an_image_or_a_reason(data: bytes, length: int) -> None:
    whole = decode_image(data, size=16, channels=3)
    image = _decode_silently(data[: length % len(data)], 3)
    assert image is None or np.array_equal(image, whole)  # a PNG may lack what follows its pixels


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    """EXIF of (tag, type, count, value) entries."""
    body = b"".join(struct.pack(">HHIHxx", *entry) for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + bytes(4)


@pytest.mark.parametrize(
    ("exif", "orientation"),
    [
        (b"Exif\0\0", 1),
        (b"Exif\0\0MM\0*\0\0\xff\xff", 1),
        (b"Exif\0\0" + bytes(64), 1),
        (tiff((0x0112, 3, 1, 9)), 1),
        (tiff((0x0112, 2, 1, 9)), 1),
        # A resolution that is an empty text: Pillow 13 refuses the whole JPEG for it.
        (tiff((0x0112, 3, 1, 6), (0x011A, 2, 1, 0), (0x0128, 3, 1, 2)), 6),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_with_broken_exif_is_decoded(exif: bytes, orientation: int, kind: str) -> None:
    expected = decode_image(save(noise(40, 24), kind, exif=tiff((0x0112, 3, 1, orientation))), size=16, channels=3)
    image = decode_image(save(noise(40, 24), kind, exif=exif), size=16, channels=3)
    np.testing.assert_array_equal(image, expected)


@settings(max_examples=200, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=12))
def test_broken_exif_costs_the_orientation_at_most(edits: list[tuple[int, int]]) -> None:
    data = bytearray(JPEG)
    start = data.index(b"Exif\0\0") + 6
    (size_bytes,) = struct.unpack(">H", data[start - 8 : start - 6])
    for place, value in edits:
        data[start + place % (size_bytes - 8)] = value
    assert _decode_silently(bytes(data), 3) is not None


def _decode_silently(data: bytes, channels: Literal[1, 3]) -> NDArray[np.uint8] | None:
    """The decoded image, None if it is refused; no warning either way."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            image = decode_image(data, size=16, channels=channels, max_pixels=1_000_000)
        except UndecodableImage:
            image = None
    assert not seen
    assert image is None or (image.shape == (16, 16, channels) and image.dtype == np.uint8)
    return image
