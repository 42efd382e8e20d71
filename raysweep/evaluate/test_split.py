"""Opens the test split, which nothing else does, and records each opening in the run's folder."""

from datetime import UTC, datetime
from pathlib import Path

from raysweep import atomic_files, file_guard
from raysweep.data.images import ImageSet
from raysweep.file_guard import FROM_BACKUP
from raysweep.run_folder import RunFolder


def open_test(test_folder: Path, run_folder: RunFolder, reason: str) -> tuple[ImageSet, int]:
    """Opens the test images of a run, and counts how often they have been opened, this time included."""
    openings = file_guard.read_json_lines(
        run_folder.openings,
        "the openings of the test split",
        f"{FROM_BACKUP}, or remove it: then they are counted from here on",
    )
    openings.append({"opened": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason})
    atomic_files.write_json_lines(run_folder.openings, list(openings))
    return ImageSet(test_folder), len(openings)
