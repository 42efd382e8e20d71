"""Reads no more of a file than is allowed for, whatever it claims to hold."""

from typing import IO

CHUNK_BYTES = 2**20


def read_at_most(file: IO[bytes], most: int) -> bytearray:
    """Reads `most` bytes, or those there are; takes no memory for others, as `file.read(most)` does."""
    data = bytearray()
    while len(data) < most and (chunk := file.read(min(most - len(data), CHUNK_BYTES))):
        data += chunk
    return data
