"""Describes a comparison of runs for a person."""

from collections.abc import Sequence
from typing import Any

from raysweep.config import format_value
from raysweep.runs.comparison import ComparedRun, Comparison
from raysweep.runs.listing import NOT_YET, format_or_dash, format_signed
from raysweep.runs.table import draw_table

MAX_SHOWN = 40
"""Letters of a value of a configuration."""


def describe_comparison(comparison: Comparison) -> str:
    """Returns a table of the runs, a sentence on how to read it, and a table of what differs in configurations."""
    better = "higher" if comparison.direction == "maximize" else "lower"
    digest = comparison.data_digest[:12]
    head = (
        f"{comparison.metric} on the same {comparison.num_images} test images of {comparison.data_source} "
        f"({digest}), {better} is better"
    )
    rows = [_describe_run(run, is_first=run is comparison.runs[0]) for run in comparison.runs]
    first = comparison.runs[0].name
    header = ["run", "trials", f"best {comparison.objective.metric}", f"test {comparison.metric}", "95 % interval"]
    header += [f"against {first}", "95 % interval", "shown?", "baseline", "openings"]
    parts = [[head], draw_table(header, rows), _explain(comparison)]
    keys = list(comparison.runs[0].config)
    if keys:
        table = [[key, *(_shorten(run.config[key]) for run in comparison.runs)] for key in keys]
        parts.append(draw_table(["best configuration", *(run.name for run in comparison.runs)], table))
    return "\n\n".join("\n".join(part) for part in parts)


def _describe_run(run: ComparedRun, *, is_first: bool) -> list[str]:
    lift = run.against_first
    interval = (
        NOT_YET if run.low is None or run.high is None else f"{format_value(run.low)} to {format_value(run.high)}"
    )
    if lift is None:
        compared = ["it is the first" if is_first else NOT_YET, NOT_YET, NOT_YET]
    else:
        shown = "no" if lift.includes_zero else "yes"
        compared = [
            format_signed(lift.difference),
            f"{format_signed(lift.low)} to {format_signed(lift.high)}",
            shown,
        ]
    return [
        run.name,
        str(run.num_trials),
        format_value(run.val_value),
        format_value(run.test_value),
        interval,
        *compared,
        format_or_dash(run.baseline_value),
        str(run.openings),
    ]


def _explain(comparison: Comparison) -> Sequence[str]:
    """Says how to read the intervals."""
    lines = list(dict.fromkeys(run.note for run in comparison.runs if run.note))
    if any(run.against_first for run in comparison.runs):
        lines.append(
            "Differences are taken image by image; one is shown where its interval excludes zero. Intervals cover the "
            "choice of test images, not the seeds of training (`--finalists` does)."
        )
    lines.append("A run that is chosen by these figures is chosen on the test images: its own is then too good.")
    if comparison.synthetic:
        lines.append("The images are synthetic: drawn by raysweep, not photographs.")
    return lines


def _shorten(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
