"""Builds report.html: the parts of the report in their order, in one file that needs no network."""

import base64
import gzip
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import plotly

from raysweep import atomic_files
from raysweep.errors import RaysweepError
from raysweep.registry import load_object
from raysweep.report.run_view import RunView, load_view
from raysweep.report.search import build_search_sections
from raysweep.report.section import Section, render
from raysweep.run_folder import RunFolder
from raysweep.tasks import TASKS

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    """Groups sections under a heading that the page's menu names."""

    anchor: str
    title: str
    sections: list[Section]
    note: str = ""
    """Stands in for the sections where there are none."""


def write_report(folder: RunFolder) -> Path:
    """Writes the report of a run as it stands, atomically, and returns where.

    Raises:
        RaysweepError: it is not the folder of a run, or the page cannot be written.
    """
    atomic_files.write_text(folder.report, build_page(load_view(folder)), sync=False)
    return folder.report


def build_page(view: RunView) -> str:
    """Returns the whole page as HTML."""
    chapters = [
        Chapter(anchor="search", title="The search", sections=build_search_sections(view)),
        build_test_chapter(view),
    ]
    chapters = [chapter for chapter in chapters if chapter.sections or chapter.note]
    return render("page.html", view=view, chapters=chapters, plotly=load_plotly())


def build_test_chapter(view: RunView) -> Chapter:
    """Returns what the run's task shows of its final evaluation."""
    sections: list[Section] = []
    note = ""
    if view.results is None:
        note = "The test images are opened once, after the search: until then there is nothing here."
    else:
        try:
            sections = build_task_sections(view.folder, view.study["task"]["kind"], view.results)
        except RaysweepError as error:
            note = str(error)
        except Exception as error:  # of a task's own code, which ends no report
            note = f"The task's sections failed: {type(error).__name__}: {error}"
    return Chapter(anchor="test", title="On the test images", sections=sections, note=note)


def build_task_sections(folder: RunFolder, kind: str, results: Any) -> list[Section]:
    """Calls the function that a task names for its sections.

    Raises:
        RefusedFileError: it is code of somebody's own that this process has not imported.
    """
    TASKS.refuse_foreign(kind, "say --trust-code where you know who wrote it")
    reference = TASKS.load(kind).report_sections
    if reference is None:
        return []
    sections: list[Section] = load_object(reference)(folder, results)
    return sections


@cache
def load_plotly() -> str:
    """Returns plotly's JavaScript, compressed and in Base64."""
    return base64.b64encode(gzip.compress(PLOTLY.read_bytes(), mtime=0)).decode()
