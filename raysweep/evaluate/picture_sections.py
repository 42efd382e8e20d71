"""Makes sections of the report of pictures that a final evaluation has left in `test/`."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from raysweep import file_guard
from raysweep.errors import CorruptFileError
from raysweep.report.section import Section, render_picture

WHAT, REMEDY = "a picture of the final evaluation", "`raysweep evaluate RUN` makes it anew"
MAX_BYTES, MAX_SIDE = 100_000, 1600
"""Of a picture that goes into the report as it is."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Names a picture in `test/`, and says what it shows."""

    file: str
    title: str
    how_to_read: str
    """One sentence."""


def build_picture_sections(test_folder: Path, pictures: Sequence[Picture]) -> list[Section]:
    """Builds a section of each picture that is there."""
    return [
        Section(title=picture.title, how_to_read=picture.how_to_read, html=show_picture(path, picture.title))
        for picture in pictures
        if (path := test_folder / picture.file).is_file()
    ]


def show_picture(path: Path, description: str) -> Markup:
    """Renders a PNG, shrunk where it is large; one that is damaged is named in its place."""
    try:
        content = file_guard.read_bytes(path, WHAT, REMEDY)
        with file_guard.guard(path, WHAT, REMEDY):
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            if len(content) > MAX_BYTES:
                image.thumbnail((MAX_SIDE, MAX_SIDE))
                shrunk = io.BytesIO()
                image.convert("RGB").save(shrunk, "webp", quality=80)
                content = shrunk.getvalue()
    except CorruptFileError as error:
        return Markup('<p class="note">{}</p>').format(str(error))
    return render_picture(content, description, width_px=image.width * 4 // 5)
