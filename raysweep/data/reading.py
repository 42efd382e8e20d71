"""Reads no more of a file than is allowed for, whatever it claims to hold."""

from typing import Protocol

CHUNK_BYTES = 2**20


class Readable(Protocol):
    """A file open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Reads at most so many bytes."""


def read_at_most(file: Readable, most: int) -> bytearray:
    """Reads `most` bytes, or those there are; takes no memory for others, as `file.read(most)` does."""
    data = bytearray()
    while len(data) < most and (chunk := file.read(min(most - len(data), CHUNK_BYTES))):
        data += chunk
    return data
