"""Builds the table of the configuration that won, beside the baseline's and what was searched."""

from typing import Any

from raysweep.distributions import describe_distribution
from raysweep.report.run_view import RunView
from raysweep.report.section import Section, render
from raysweep.trial_result import BASELINE

FIXED = ("task", "data", "training")


def build_configuration_sections(view: RunView) -> list[Section]:
    """Returns the best configuration beside the baseline's, and what all trials have in common."""
    best, baseline, space = view.best, view.study["baseline"], view.list_space()
    if best is None:
        return []
    rows = [
        {
            "key": key,
            "best": _format(best.params.get(key)),
            "baseline": _format(baseline.get(key)),
            "searched": describe_distribution(distribution, _format),
            "differs": best.params.get(key) != baseline.get(key),
        }
        for key, distribution in space.items()
        if key in best.params or key in baseline
    ]
    fixed = {key: _format(value) for key, value in _flatten({part: view.study[part] for part in FIXED}).items()}
    fixed = {key: value for key, value in fixed.items() if key not in space}
    name = "the baseline itself" if best.number == BASELINE else f"trial {best.number}"
    number = sum(row["differs"] for row in rows)
    return [
        Section(
            title="What won, beside the baseline",
            how_to_read=f"The best is {name}; {number} of {len(rows)} values that were searched differ from the "
            "baseline's, and are marked.",
            html=render("configuration.html", rows=rows, fixed=fixed, best=best.number),
        )
    ]


def _format(value: Any) -> str:
    """Formats a value of a configuration."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Maps dotted keys to leaves."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    return {k: v for name, part in values.items() for k, v in _flatten(part, f"{prefix}.{name}".lstrip(".")).items()}
