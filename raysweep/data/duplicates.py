"""Finds images that are the same, by their bytes or by how they look, within a split, in two splits or two classes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from raysweep.data.records import SPLITS, Split

HASH_SIDE = 16
"""Of the perceptual hash, which has this many bits squared."""
NUM_SAMPLES = 4 * HASH_SIDE
COSINES = np.cos(np.pi / NUM_SAMPLES * np.outer(np.arange(HASH_SIDE), np.arange(NUM_SAMPLES) + 0.5))
"""The lowest frequencies of the DCT-II of so many samples (Ahmed et al. 1974), (HASH_SIDE, NUM_SAMPLES)."""
MAX_DISTANCE = 15
"""Bits of 256 in which hashes of one picture may differ, as it is saved again: smaller, or in another format."""
MAX_SHIFT = 200
"""Bounds the comparisons of images that look alike in part, as thousands on one background do."""


class Content(NamedTuple):
    """One image: the digest of its bytes, where it stands, and how it looks."""

    digest: str
    split: Split
    label: str
    name: str
    looks: bytes = b""
    """Its perceptual hash; empty: only its bytes are compared."""


Group = Sequence[Content]
"""Images that are the same, two or more."""


def hash_looks(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Computes the perceptual hash of an image (H, W, C): signs of the low frequencies of its luma, 32 bytes.

    The bits are those of `imagehash.phash`, whose import (of scipy) would take each worker a second.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L")
    luma = np.asarray(image.resize((NUM_SAMPLES, NUM_SAMPLES), Image.Resampling.BOX), dtype=np.float64)
    frequencies = (COSINES @ luma @ COSINES.T).round(3)  # else those of a blank image are noise, not 0
    return np.packbits(frequencies > np.median(frequencies)).tobytes()


def find_duplicates(contents: Sequence[Content]) -> list[Group]:
    """Groups the images that are the same; an image that is like two others joins them."""
    from scipy.sparse import coo_array  # slow
    from scipy.sparse.csgraph import connected_components

    numbers: dict[str, int] = {}
    digests = np.array([numbers.setdefault(content.digest, len(numbers)) for content in contents], dtype=np.int64)
    order = np.argsort(digests, kind="stable")
    same = np.flatnonzero(digests[order][1:] == digests[order][:-1])
    pairs = [np.stack([order[same], order[same + 1]]), *_find_alike(contents)]
    first, second = np.concatenate(pairs, axis=1)
    if not len(first):
        return []
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(contents), len(contents)))
    groups: dict[int, list[Content]] = {}
    _, components = connected_components(graph, directed=False)
    for position in np.unique(np.concatenate([first, second])):
        groups.setdefault(int(components[position]), []).append(contents[position])
    return list(groups.values())


def _find_alike(contents: Sequence[Content]) -> Iterator[npt.NDArray[np.int64]]:
    """Yields pairs (2, N) of positions of images whose hashes are close.

    Hashes that differ in fewer bits than they have words agree in one word: only those are compared that do.
    """
    positions = np.array([number for number, content in enumerate(contents) if content.looks], dtype=np.int64)
    words = np.frombuffer(b"".join(contents[position].looks for position in positions), dtype=np.uint16)
    words = words.reshape(len(positions), HASH_SIDE)
    is_picture = np.bitwise_count(words).sum(axis=1) > MAX_DISTANCE  # a blank image has one bit
    positions, words = positions[is_picture], words[is_picture]
    for column in range(words.shape[1]):
        order = np.argsort(words[:, column], kind="stable")
        values = words[order, column]
        for shift in range(1, min(MAX_SHIFT, len(order))):
            equal = np.flatnonzero(values[shift:] == values[:-shift])
            if not len(equal):
                break
            first, second = order[equal], order[equal + shift]
            close = np.bitwise_count(words[first] ^ words[second]).sum(axis=1) <= MAX_DISTANCE
            yield positions[np.stack([first[close], second[close]])]


def choose_left_out(groups: Iterable[Group]) -> set[tuple[Split, str]]:
    """Chooses what is taken out of train and val, by split and name: what test has too, and of train what val has."""
    left_out: set[tuple[Split, str]] = set()
    for group in groups:
        kept = max((content.split for content in group), key=SPLITS.index)
        left_out |= {(content.split, content.name) for content in group if content.split != kept}
    return left_out


def describe_duplicates(groups: Sequence[Group]) -> tuple[str, ...]:
    """Says, a sentence each, how many images are in two splits, in two classes, and more than once."""
    return (*_describe_splits(groups), *_describe_classes(groups), *_describe_copies(groups))


def _describe_splits(groups: Sequence[Group]) -> Iterator[str]:
    for position, second in enumerate(SPLITS):
        for first in SPLITS[:position]:
            both = [group for group in groups if {first, second} <= {content.split for content in group}]
            if both:
                num = sum(content.split == first for group in both for content in group)
                one, other = (next(found for found in both[0] if found.split == split) for split in (first, second))
                yield (
                    f"{_count(num)} of {first} {_be(num)} in {second} too{_say_alike(both)}, and left out of {first}: "
                    f"what is measured on them would be too good{_name(one, other, num)}"
                )


def _describe_classes(groups: Sequence[Group]) -> Iterator[str]:
    if torn := [group for group in groups if len({content.label for content in group}) > 1]:
        first, *others = torn[0]
        other = next(content for content in others if content.label != first.label)
        example = f" ({first.name} is {first.label}, {other.name} {other.label}{', for one' * (len(torn) > 1)})"
        num = len(torn)
        yield f"{_count(num)} {_be(num)} in two classes{_say_alike(torn)}: at most one is right{example}"


def _describe_copies(groups: Sequence[Group]) -> Iterator[str]:
    if again := [group for group in groups if len({content.split for content in group}) < len(group)]:
        seen: dict[Split, Content] = {}
        pair = next((seen[one.split], one) for one in again[0] if seen.setdefault(one.split, one) is not one)
        num = len(again)
        yield f"{_count(num)} {_be(num)} more than once in a split{_say_alike(again)}{_name(*pair, num)}"


def _say_alike(groups: Sequence[Group]) -> str:
    """Says how many are told by their looks only."""
    alike = sum(len({content.digest for content in group}) > 1 for group in groups)
    return f" ({alike:,} resized or recompressed)" if alike else ""


def _name(first: Content, second: Content, num: int) -> str:
    return f" ({first.name} and {second.name}{', for one' * (num > 1)})"


def _count(num: int) -> str:
    return f"{num:,} image{'s' * (num != 1)}"


def _be(num: int) -> str:
    return "is" if num == 1 else "are"
