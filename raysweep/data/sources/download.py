"""Limits waiting for the network, and shortens its errors."""

import socket
from collections.abc import Callable
from typing import TypeVar

from raysweep.announcement import announce

T = TypeVar("T")
DOWNLOAD_TIMEOUT_S = 5.0


def call_with_timeout(connect: Callable[[], T]) -> T:
    """Calls `connect` with a limit on each wait for the network."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with announce("a download"):
            return connect()
    finally:
        socket.setdefaulttimeout(before)


def shorten_error(error: Exception) -> str:
    """Returns the error's text in one line of at most 300 characters and `...`."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
