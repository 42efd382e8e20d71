"""The version lives in raysweep/__init__.py; what repeats it for other readers says the same."""

import re
from pathlib import Path

import pytest

import raysweep

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("CHANGELOG.md", r"^## (\S+)"),
        ("clusters/kuberay.yaml", r"/raysweep:(\S+)"),
        ("Dockerfile", r"/raysweep:(\S+)"),
        ("docs/how-to/install.md", r"/raysweep:(\S+)"),
    ],
)
def test_every_file_that_repeats_the_version_says_the_same(path: str, pattern: str) -> None:
    found = re.search(pattern, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found
    assert found[1] == raysweep.__version__
