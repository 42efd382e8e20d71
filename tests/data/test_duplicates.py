"""Images that are the same, by bytes or looks, are found; of two splits the one that measures more keeps them."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from raysweep.data.decode import decode_image
from raysweep.data.duplicates import Content, choose_left_out, describe_duplicates, find_duplicates, hash_looks


def draw(seed: int) -> Image.Image:
    """A picture of coarse shapes with fine grain, 320x240."""
    random = np.random.default_rng(seed)
    shapes = Image.fromarray(random.integers(0, 255, (18, 24, 3), dtype=np.uint8)).resize((320, 240))
    return Image.fromarray(np.clip(np.asarray(shapes) + random.normal(0, 6, (240, 320, 3)), 0, 255).astype(np.uint8))


def save(image: Image.Image, kind: str = "PNG", **options: int) -> npt.NDArray[np.uint8]:
    """The pixels of the image after it was saved, as they are decoded."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return decode_image(file.getvalue(), size=64, channels=3)


def test_nothing_is_said_of_different_images() -> None:
    contents = [Content(str(seed), "train", "a", f"{seed}", hash_looks(save(draw(seed)))) for seed in range(40)]
    assert find_duplicates(contents) == []
    assert find_duplicates([]) == []


@pytest.mark.parametrize(
    ("kind", "scale", "options"),
    [("JPEG", 1.0, {"quality": 60}), ("WEBP", 1.0, {"quality": 60}), ("JPEG", 0.5, {"quality": 85}), ("PNG", 1.5, {})],
)
def test_an_image_that_was_saved_anew_is_told_by_its_looks(kind: str, scale: float, options: dict[str, int]) -> None:
    image = draw(0)
    small = image.resize((int(320 * scale), int(240 * scale)))
    others = [Content(str(seed), "train", "a", f"{seed}", hash_looks(save(draw(seed)))) for seed in range(1, 20)]
    first = Content("x", "train", "a", "first", hash_looks(save(image)))
    again = Content("y", "test", "a", "again", hash_looks(save(small, kind, **options)))
    groups = find_duplicates([*others, first, again])
    assert groups == [[first, again]]
    (note,) = describe_duplicates(groups)
    assert note.startswith("1 image of train is in test too (1 resized or recompressed), and left out of train")
    assert "(first and again)" in note


@pytest.mark.parametrize("channels", [1, 3])
def test_the_hash_is_that_of_the_library_known_for_it(channels: int) -> None:
    imagehash = pytest.importorskip("imagehash")
    for seed in range(10):
        pixels = save(draw(seed))[:, :, :channels]
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).convert("L")
        expected = imagehash.phash(image.resize((64, 64), Image.Resampling.BOX), hash_size=16).hash
        assert hash_looks(pixels) == np.packbits(expected).tobytes()


def test_blank_images_are_no_picture_that_is_there_twice() -> None:
    blank = hash_looks(np.full((64, 64, 3), 200, np.uint8))
    assert find_duplicates([Content(str(number), "train", "a", str(number), blank) for number in range(3)]) == []


def test_a_split_that_measures_more_keeps_the_image() -> None:
    contents = [
        Content("1", "train", "a", "t1"),
        Content("1", "train", "a", "t1b"),
        Content("1", "val", "a", "v1"),
        Content("1", "test", "a", "e1"),
        Content("2", "train", "a", "t2"),
        Content("2", "val", "a", "v2"),
        Content("3", "test", "a", "e3"),
        Content("3", "test", "a", "e3b"),
    ]
    groups = find_duplicates(contents)
    assert choose_left_out(groups) == {("train", "t1"), ("train", "t1b"), ("val", "v1"), ("train", "t2")}
    notes = describe_duplicates(groups)
    assert [note.split(",")[0] for note in notes] == [
        "3 images of train are in val too",
        "2 images of train are in test too",
        "1 image of val is in test too",
        "2 images are more than once in a split (t1 and t1b",
    ]


def test_an_image_in_two_classes_is_told() -> None:
    first, _ = describe_duplicates(find_duplicates([Content("1", "val", "a", "x"), Content("1", "val", "b", "y")]))
    assert first == "1 image is in two classes: at most one is right (x is a, y b)"
