"""What is waited for is said again and again, and no longer than the wait lasts."""

import re
import threading
import time

import pytest

from raysweep import announcement


def test_a_wait_is_announced_until_it_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(announcement, "PERIOD_S", 0.05)
    said = ""
    limit = time.monotonic() + 60
    with announcement.announce("a train"):
        while len(re.findall(r"^waiting for a train, for \d+ s by now; Ctrl-C ends it\n", said, re.MULTILINE)) < 2:
            assert time.monotonic() < limit
            time.sleep(0.01)
            said += capsys.readouterr().err
    for thread in threading.enumerate():  # it may be about to say the last one
        if thread.name == "announcement":
            thread.join(60)
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
