"""Builds the report's sections on what went wrong: trials that failed, and what was survived."""

from collections import defaultdict

from raysweep import file_guard
from raysweep.errors import RaysweepError
from raysweep.report.run_view import RunView
from raysweep.report.section import Section, render, render_table
from raysweep.trial_result import TrialResult

MAX_TRACEBACK = 6000
"""Letters of a traceback that are shown, the last ones."""


def build_failure_sections(view: RunView) -> list[Section]:
    """Returns the failed trials by their causes, then trials that ended early or went on after a death."""
    failed = [trial for trial in view.ended if trial.state == "FAIL"]
    survived = [
        trial for trial in view.ended if trial not in failed and (trial.error or trial.retries or trial.node_losses)
    ]
    sections = []
    if failed:
        sections.append(
            Section(
                title=f"Failed trials ({len(failed)} of {len(view.ended)})",
                how_to_read="The most frequent cause is first; the traceback is that of its first trial.",
                html=render("failures.html", causes=_group_causes(view, failed)),
            )
        )
    if survived:
        rows = [[trial.number, trial.error, trial.retries, trial.node_losses] for trial in survived]
        columns = {"trial": "d", "ended before its last epoch, because": "", "died": "d", "lost its node": "d"}
        sections.append(
            Section(
                title="Trials that went on, or ended early",
                how_to_read="These trials count like all others: one whose process died went on from its checkpoint.",
                html=render_table(columns, rows, f"{len(rows)} trials"),
            )
        )
    if notices := _list_notices(view):
        sections.append(
            Section(
                title="Notices",
                how_to_read="What a trial noted of how it was trained.",
                html=render_table({"trial": "d", "notice": ""}, notices, f"{len(notices)} notices"),
            )
        )
    return sections


def _group_causes(view: RunView, failed: list[TrialResult]) -> list[dict[str, object]]:
    """Groups failed trials by what their errors say in the first line."""
    groups: dict[str, list[TrialResult]] = defaultdict(list)
    for trial in failed:
        groups[(trial.error or "no cause is known").splitlines()[0]].append(trial)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        {
            "cause": cause,
            "numbers": [trial.number for trial in trials],
            "traceback": _read_traceback(view, trials[0]),
        }
        for cause, trials in ordered
    ]


def _read_traceback(view: RunView, trial: TrialResult) -> str:
    """Reads what the trial's process wrote as it failed; empty where it could not."""
    path = view.folder.trial(trial.number).error
    try:
        return file_guard.read_text(path, "the traceback of a trial")[-MAX_TRACEBACK:] if path.is_file() else ""
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
