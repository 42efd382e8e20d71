"""Bounds what a server takes: bytes, time, rate, images at once. A refusal is a status and one sentence."""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Holds what requests may take."""

    max_bytes: int = 20 * MIB
    """Size of an image's file."""
    rate: float = 50.0
    """Images a second, from all senders together; as many may come at once."""
    max_waiting: int = 64
    """Images that are being received, decoded or labelled at once: with `max_bytes` it bounds memory."""
    body_timeout_s: float = 20.0
    """Time in which an image must have come: a slow sender holds one of the `max_waiting` places."""


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer other than 200: a status of HTTP, and one sentence."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class RateLimit:
    """Allows `rate` requests a second, and as many at once after a pause: a token bucket."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.clock = rate, clock
        self.most = max(rate, 1.0)
        self.tokens, self.at = self.most, clock()

    def take(self) -> None:
        """Takes one request.

        Raises:
            Refusal: 429, there were more than the rate.
        """
        now = self.clock()
        self.tokens, self.at = min(self.most, self.tokens + (now - self.at) * self.rate), now
        if self.tokens < 1:
            raise Refusal(
                429, f"at most {self.rate:g} images a second are taken; try again later", {"Retry-After": "1"}
            )
        self.tokens -= 1


async def read_body(chunks: AsyncIterator[bytes], length: str | None, limits: Limits) -> bytes:
    """Reads the body of a request; `length` is what its header says, which may be missing or wrong.

    Raises:
        Refusal: 413, it is too large; 408, it did not come in time.
    """
    too_large = Refusal(413, f"an image must have at most {limits.max_bytes:,} bytes; send a smaller one")
    if length is not None and length.isdecimal() and int(length[:20]) > limits.max_bytes:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in chunks:
                if len(content) + len(chunk) > limits.max_bytes:
                    raise too_large
                content += chunk
    except TimeoutError:
        raise Refusal(408, f"an image must have come within {limits.body_timeout_s:g} seconds; send it again") from None
    return bytes(content)


def is_loopback(host: str) -> bool:
    """Says whether a name or address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
