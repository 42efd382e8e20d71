"""Builds the report's sections on what went wrong: trials that failed, and what was survived."""

from collections import defaultdict
from collections.abc import Sequence

from raysweep import file_guard
from raysweep.errors import RaysweepError
from raysweep.report.run_view import RunView
from raysweep.report.section import Section, render, render_table
from raysweep.run_folder import SearchFolder, TrialFolder
from raysweep.trial_result import TrialResult

MAX_TRACEBACK = 6000
"""Letters of a traceback that are shown, the last ones."""


def build_failure_sections(view: RunView) -> list[Section]:
    """Returns what failed by its causes, then what ended early or went on after a death: trials, then finalists."""
    sections = _build_sections("trial", "trials", view.folder, view.ended)
    sections += _build_sections("training", "trainings of finalists", view.folder.finalists, view.ended_trainings)
    if notices := _list_notices(view):
        sections.append(
            Section(
                title="Notices",
                how_to_read="What a trial noted of how it was trained.",
                html=render_table({"trial": "d", "notice": ""}, notices, f"{len(notices)} notices"),
            )
        )
    return sections


def _build_sections(one: str, many: str, folder: SearchFolder, ended: Sequence[TrialResult]) -> list[Section]:
    """Returns the sections on trials that were run together, which a reader knows as `one` and `many`."""
    failed = [trial for trial in ended if trial.state == "FAIL"]
    survived = [trial for trial in ended if trial not in failed and (trial.error or trial.retries or trial.node_losses)]
    sections = []
    if failed:
        causes = _group_causes(folder, failed)
        sections.append(
            Section(
                title=f"Failed {many} ({len(failed)} of {len(ended)})",
                how_to_read=f"The most frequent cause is first; the traceback is that of its first {one}.",
                html=render("failures.html", causes=causes, what=one),
            )
        )
    if survived:
        rows = [[trial.number, trial.error, trial.retries, trial.node_losses] for trial in survived]
        columns = {one: "d", "ended before its last epoch, because": "", "died": "d", "lost its node": "d"}
        sections.append(
            Section(
                title=f"{many.capitalize()} that went on, or ended early",
                how_to_read=f"They count like all others: a {one} whose process died went on from its checkpoint.",
                html=render_table(columns, rows, f"{len(rows)} {many}"),
            )
        )
    return sections


def _group_causes(folder: SearchFolder, failed: list[TrialResult]) -> list[dict[str, object]]:
    """Groups failed trials by what their errors say in the first line."""
    groups: dict[str, list[TrialResult]] = defaultdict(list)
    for trial in failed:
        groups[(trial.error or "no cause is known").splitlines()[0]].append(trial)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        {
            "cause": cause,
            "numbers": [trial.number for trial in trials],
            "traceback": _read_traceback(folder.trial(trials[0].number)),
        }
        for cause, trials in ordered
    ]


def _read_traceback(trial: TrialFolder) -> str:
    """Reads what the trial's process wrote as it failed; empty where it could not."""
    try:
        is_there = trial.error.is_file()
        return file_guard.read_text(trial.error, "the traceback of a trial")[-MAX_TRACEBACK:] if is_there else ""
    except RaysweepError as error:
        return str(error)


def _list_notices(view: RunView) -> list[tuple[int, str]]:
    """Lists the notices of trials, each once."""
    notices: dict[str, int] = {}
    for trial in view.folder.list_trials():
        if not trial.notices.is_file():
            continue
        try:
            text = file_guard.read_text(trial.notices, "the notices of a trial")
        except RaysweepError as error:
            text = str(error)
        for line in text.splitlines():
            notices.setdefault(line, trial.number)
    return [(number, line) for line, number in notices.items()]
