"""The test split is opened here and nowhere else, and each opening is recorded in the run's folder."""

import json
from datetime import UTC, datetime
from pathlib import Path

from raysweep import files
from raysweep.data.images import ImageSet

OPENINGS = "openings.jsonl"


def open_test(test_folder: Path, run: Path, reason: str) -> tuple[ImageSet, int]:
    """The test images of a run, and how many times they have been opened, this one included."""
    path = run / "test" / OPENINGS
    openings = files.read_json_lines(path)
    openings.append({"opened": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason})
    files.write_json_lines(path, list(openings))
    return ImageSet(test_folder), len(openings)


def load_study_json(run: Path) -> dict[str, object]:
    """What a run wrote of its study."""
    values: dict[str, object] = json.loads((run / "study.json").read_text(encoding="utf-8"))
    return values
