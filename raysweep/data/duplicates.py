"""Finds images that are the same, by their bytes or by how they look, within a split, in two splits or two classes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from raysweep.data.records import SPLITS, Split

HASH_SIDE = 16
"""Of the perceptual hash, which has this many bits squared."""
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
    """Computes the perceptual hash of an image (H, W, C): signs of the low frequencies of its luma, 32 bytes."""
    import imagehash  # slow: imports scipy

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.packbits(imagehash.phash(image, hash_size=HASH_SIDE).hash).tobytes()


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
    positions = np.array([number for number, content in enumerate(contents) if any(content.looks)], dtype=np.int64)
    if not len(positions):
        return
    words = np.frombuffer(b"".join(contents[position].looks for position in positions), dtype=np.uint16)
    words = words.reshape(len(positions), -1)
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


def choose_left_out(groups: Iterable[Group]) -> set[str]:
    """Chooses what is taken out of train and val, by name: the images that a split which measures more has too."""
    left_out = set()
    for group in groups:
        kept = max((content.split for content in group), key=SPLITS.index)
        left_out |= {content.name for content in group if content.split != kept}
    return left_out


def describe_duplicates(groups: Sequence[Group]) -> tuple[str, ...]:
    """Says, a sentence each, how many images are in two splits, in two classes, and more than once."""
    notes = []
    for position, second in enumerate(SPLITS):
        for first in SPLITS[:position]:
            found = [pair for group in groups if (pair := _pair_splits(group, first, second))]
            if found:
                names = f"{found[0][0].name} and {found[0][1].name}"
                notes.append(
                    f"{first} had {_count(sum(len(group) for group in _of_split(groups, first, second)))} that {second} "
                    f"has too{_say_alike([list(pair) for pair in found])}, and went without: what is measured on them "
                    f"would be too good ({names}{', for one' * (len(found) > 1)})"
                )
    if torn := [group for group in groups if len({content.label for content in group}) > 1]:
        first_image, *others = torn[0]
        other = next(content for content in others if content.label != first_image.label)
        notes.append(
            f"{_count(len(torn))} in two classes{_say_alike(torn)}: at most one is right ({first_image.name} is "
            f"{first_image.label}, {other.name} {other.label}{', for one' * (len(torn) > 1)})"
        )
    if again := [group for group in groups if len({content.split for content in group}) < len(group)]:
        first_image, other = _pair_within(again[0])
        notes.append(
            f"{_count(len(again))} more than once in a split{_say_alike(again)} ({first_image.name} and {other.name}"
            f"{', for one' * (len(again) > 1)})"
        )
    return tuple(notes)


def _of_split(groups: Iterable[Group], first: Split, second: Split) -> list[list[Content]]:
    """Takes of each group that has images of both splits those of the first."""
    return [
        [content for content in group if content.split == first]
        for group in groups
        if _pair_splits(group, first, second)
    ]


def _pair_splits(group: Group, first: Split, second: Split) -> tuple[Content, Content] | None:
    """Returns an image of each split, where a group of the same images has both."""
    found: dict[Split, Content] = {}
    for content in group:
        found.setdefault(content.split, content)
    return (found[first], found[second]) if first in found and second in found else None


def _pair_within(group: Group) -> tuple[Content, Content]:
    """Returns two images of one split."""
    seen: dict[Split, Content] = {}
    return next(
        (seen[content.split], content) for content in group if seen.setdefault(content.split, content) != content
    )


def _say_alike(groups: Sequence[Group]) -> str:
    """Says how many are the same by their looks only."""
    alike = sum(len({content.digest for content in group}) > 1 for group in groups)
    return f", {alike:,} of them saved anew" if alike else ""


def _count(num: int) -> str:
    return f"{num:,} image{'s' * (num != 1)}"
