"""What is waited for is said again and again, and no longer than the wait lasts."""

import time

import pytest

from raysweep import announcement


def test_a_wait_is_announced_until_it_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(announcement, "PERIOD_S", 0.05)
    said = ""
    with announcement.announce("a train"):
        while said.count("waiting for a train, for 0 s by now; Ctrl-C ends it\n") < 2:
            time.sleep(0.01)
            said += capsys.readouterr().err
    time.sleep(0.1)
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
