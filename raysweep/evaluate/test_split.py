"""The test split is opened here and nowhere else, and each opening is recorded in the run's folder."""

from datetime import UTC, datetime
from pathlib import Path

from raysweep import atomic_files as files
from raysweep.data.images import ImageSet

OPENINGS = "openings.jsonl"


def open_test(test_folder: Path, run: Path, reason: str) -> tuple[ImageSet, int]:
    """The test images of a run, and how many times they have been opened, this one included."""
    path = run / "test" / OPENINGS
    openings = files.read_json_lines(path)
    openings.append({"opened": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason})
    files.write_json_lines(path, list(openings))
    return ImageSet(test_folder), len(openings)
