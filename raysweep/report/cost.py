"""Builds the report's section on what a run has cost: time, epochs, speed, and money where prices are known."""

from statistics import median

from raysweep.report.run_view import RunView
from raysweep.report.section import Cell, Section, render, render_table
from raysweep.search.status import load_searched_s
from raysweep.stages import format_duration
from raysweep.train.history import DATA_WAIT, SPEED
from raysweep.trial_result import TrialResult


def build_cost_sections(view: RunView) -> list[Section]:
    """Returns what the search and the final evaluation took."""
    if not view.histories:
        return []
    facts = [*_describe_search(view), *_describe_money(view)]
    sections = [
        Section(
            title="What it took",
            how_to_read="Times of trials are added up, though trials ran side by side.",
            html=render("facts.html", facts=facts),
        )
    ]
    durations = view.results.test.durations_s if view.results is not None else {}
    if durations:
        rows: list[list[Cell]] = [[name, seconds] for name, seconds in durations.items()]
        sections.append(
            Section(
                title="The final evaluation",
                how_to_read="Its parts, in the order in which they were done.",
                html=render_table({"part": "", "seconds": ",.1f"}, rows, "Seconds of each part", first=None),
                is_folded=True,
            )
        )
    return sections


def _describe_search(view: RunView) -> list[tuple[str, str]]:
    ended = view.ended
    epochs = sum(len(history) for history in view.histories.values())
    planned = view.num_epochs
    trained = {number: len(history) for number, history in view.histories.items()}
    saved = sum(planned[trial.number] - trained.get(trial.number, 0) for trial in ended if _was_stopped(view, trial))
    facts = [
        ("trials that have ended", f"{len(ended)}, in {format_duration(sum(trial.duration_s for trial in ended))}"),
        ("epochs trained", f"{epochs:,}"),
    ]
    facts += _describe_finalists(view)
    if saved > 0:
        facts.append(("epochs saved by stopping weak trials", f"{saved:,} of {saved + epochs:,}"))
    facts += _describe_training(view, [row for rows in view.histories.values() for row in rows if row.get(SPEED)])
    if view.results is not None:
        if searched_s := load_searched_s(view.folder):
            facts.append(("the search, all its sessions", format_duration(searched_s)))
        facts.append(("the whole run, its last session", format_duration(view.results.duration_s)))
        seconds = view.results.test.durations_s.get("total")
        facts += [] if seconds is None else [("of it the final evaluation", format_duration(seconds))]
    return facts


def _describe_finalists(view: RunView) -> list[tuple[str, str]]:
    """Describes what training the best again took; nothing where none was."""
    ended, epochs = view.ended_trainings, sum(map(len, view.retraining_histories.values()))
    if not ended and not epochs:
        return []
    duration = format_duration(sum(training.duration_s for training in ended))
    return [
        ("trainings of finalists that have ended", f"{len(ended)}, in {duration}"),
        ("epochs trained of finalists", f"{epochs:,}"),
    ]


def _describe_training(view: RunView, epochs: list[dict[str, float]]) -> list[tuple[str, str]]:
    """Describes the part of the epochs in which trials trained; those from before it was measured tell of no wait."""
    if not epochs:
        return []
    facts = [("training speed of a trial", f"{median(row[SPEED] for row in epochs):,.0f} images/s (median of epochs)")]
    if view.info is None:
        return facts
    num_train, trials_s = view.info.num_train, sum(trial.duration_s for trial in view.ended)
    if timed := [row for row in epochs if DATA_WAIT in row]:
        wait_s = sum(row[DATA_WAIT] for row in timed)
        share = wait_s / sum(num_train / row[SPEED] for row in timed)
        facts.append(("training waited for data", f"{wait_s:,.1f} s, {share:.1%} of its time"))
    training_s = sum(num_train / row[SPEED] for row in epochs)
    if training_s < trials_s:
        facts.append(("share of trials' time in training", f"{training_s / trials_s:.0%}"))
        facts.append(("the rest", "validation, checkpoints, start-up, waiting for the driver"))
    return facts


def _was_stopped(view: RunView, trial: TrialResult) -> bool:
    return trial.state == "PRUNED" and trial.number in view.num_epochs


def _describe_money(view: RunView) -> list[tuple[str, str]]:
    """Prices the last session, where the cluster's configuration had prices as it ended."""
    if view.results is None or view.results.machine.price_per_hour is None:
        return []
    price = view.results.machine.price_per_hour
    cost = price * view.results.duration_s / 3600
    return [("money, of that session", f"{cost:,.2f} (nodes at {price:g} an hour, your prices)")]
