"""Builds report.html: the parts of the report in their order, in one file that needs no network."""

import base64
import gzip
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from plotly.offline import get_plotlyjs

from raysweep import __version__, atomic_files
from raysweep.config import format_value
from raysweep.errors import RaysweepError, UsageError
from raysweep.registry import load_object
from raysweep.report.configuration import build_configuration_sections
from raysweep.report.cost import build_cost_sections
from raysweep.report.failures import build_failure_sections
from raysweep.report.headline import build_headline
from raysweep.report.provenance import build_provenance_sections
from raysweep.report.run_view import RunView, load_view
from raysweep.report.search import build_search_sections
from raysweep.report.section import Section, render
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.tasks import TASKS


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    """Groups sections under a heading that the page's menu names."""

    anchor: str
    title: str
    sections: list[Section]
    note: str = ""
    """Stands above the sections, or in their place."""


def write_report(folder: RunFolder, storage_url: str | None = None) -> Path:
    """Writes the report of a run as it stands, atomically, and returns where; storage_url as of `load_view`.

    Raises:
        UsageError: it is not the folder of a run, or its Optuna study is out of reach: an earlier page has more.
        RaysweepError: the page cannot be written.
    """
    view = load_view(folder, storage_url=storage_url)
    if view.out_of_reach is not None:
        raise UsageError(view.out_of_reach)
    atomic_files.write_text(folder.report, build_page(view), sync=False)
    return folder.report


def build_page(view: RunView) -> str:
    """Returns the whole page as HTML."""
    chapters = [
        Chapter(anchor="configuration", title="Configuration", sections=build_configuration_sections(view)),
        Chapter(anchor="search", title="Search", sections=build_search_sections(view)),
        build_test_chapter(view),
        Chapter(anchor="failures", title="Failures", sections=build_failure_sections(view)),
        Chapter(anchor="cost", title="Cost", sections=build_cost_sections(view)),
        Chapter(anchor="provenance", title="Provenance", sections=build_provenance_sections(view)),
    ]
    return render(
        "page.html",
        name=view.folder.path.name,
        study=view.study["name"],
        kind=view.study["task"]["kind"],
        headline=build_headline(view),
        tiles=build_tiles(view),
        chapters=[chapter for chapter in chapters if chapter.sections or chapter.note],
        plotly=load_plotly(),
        is_running=view.is_running and (view.results is None or view.has_gone_on),
        time=time.strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
    )


def build_tiles(view: RunView) -> list[tuple[str, str, str]]:
    """Returns the run in a few numbers: each with its name and a word on it."""
    ended, best, objective = view.ended, view.best, view.objectives[0]
    tiles = []
    if best is not None and best.value is not None:
        epoch = f", epoch {best.best_epoch}" if best.best_epoch else ""
        value = format_value(best.value)
        tiles.append((f"best {objective.metric}", value, f"{view.name_trial(best.number)}{epoch}"))
    failed = sum(trial.state == "FAIL" for trial in ended)
    pruned = sum(trial.state == "PRUNED" for trial in ended)
    tiles.append(("trials", f"{len(ended)}", f"{pruned} stopped early, {failed} failed"))
    if view.results is not None and not view.has_gone_on:
        openings = view.results.test.openings
        times = "once" if openings == 1 else f"{openings} times"
        tiles.append(("test images", f"{view.results.test.num_images:,}", f"opened {times}"))
    else:
        running = len(view.trials) - len(ended)
        tiles.append(("running" if view.is_running else "interrupted", f"{running}", "trials"))
    return tiles


def build_test_chapter(view: RunView) -> Chapter:
    """Returns what the run's task shows of its final evaluation."""
    sections: list[Section] = []
    note = ""
    if view.results is None:
        note = "The test images are opened once, after the search: until then there is nothing here."
    else:
        try:
            sections = build_task_sections(view.folder, view.study["task"]["kind"], view.results)
            note = "" if sections else view.results.test.headline
        except RaysweepError as error:
            note = str(error)
        except Exception as error:  # of a task's own code, which ends no report
            note = f"The task's sections failed: {type(error).__name__}: {error}"
    return Chapter(anchor="test", title="Test images", sections=sections, note=note)


def build_task_sections(folder: RunFolder, kind: str, results: Results) -> list[Section]:
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
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=6, mtime=0)).decode()
