"""The Pareto front of a study with two objectives, for results.json, the terminal and a figure."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raysweep import config_fields as fields
from raysweep.config import Objective, format_value
from raysweep.evaluate.figures.pareto import save_pareto_front
from raysweep.search.ranking import find_front
from raysweep.search.retention import KEEP_FRONT
from raysweep.study import Study
from raysweep.trial_result import BASELINE, TrialResult


def announce_two_objectives(study: Study) -> None:
    """Says on stderr, where there are two objectives, that no trial will be stopped early."""
    if study.second_objective is not None:
        print(
            f"two objectives, {study.objective.metric} and {study.second_objective.metric}: the search stops no trial "
            "early, as Optuna takes no intermediate values then",
            file=sys.stderr,
        )


def describe_trial(study: Study, result: TrialResult) -> dict[str, Any]:
    """A trial in results.json; `values` are both objectives of the best epoch, where there are two."""
    row = asdict(result)
    second = row.pop("second_value")
    return row if study.second_objective is None else {**row, "values": [result.value, second]}


def record_front(study: Study, results: Sequence[TrialResult]) -> dict[str, Any]:
    """What results.json has of the front, from the best trial by the first objective on; nothing with one objective."""
    if study.second_objective is None:
        return {}
    return {
        "second_objective": fields.to_json(study.second_objective),
        "pareto_front": [result.number for result in find_front(results, study.objectives)],
    }


def describe_front(record: dict[str, Any]) -> list[str]:
    """The front of a results.json as a table for a person; no lines with one objective."""
    if "pareto_front" not in record:
        return []
    values = {trial["number"]: trial["values"] for trial in record["trials"]}
    metrics = [record[name]["metric"] for name in ("objective", "second_objective")]
    rows = [["trial", *metrics]]
    rows += [[str(number), *map(format_value, values[number])] for number in record["pareto_front"]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"Pareto front of {len(rows) - 1} trials; the models of {KEEP_FRONT} at most are in trials/*/best:",
        *("  " + "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows),
    ]


def draw_front(run: Path, record: dict[str, Any]) -> None:
    """Draws the front of a results.json to `test/pareto_front.png`; nothing with one objective."""
    if "pareto_front" not in record:
        return
    first, second = (fields.from_json(Objective, record[name]) for name in ("objective", "second_objective"))
    save_pareto_front(
        run / "test" / "pareto_front.png",
        {trial["number"]: tuple(trial["values"]) for trial in record["trials"] if trial["state"] == "COMPLETE"},
        record["pareto_front"],
        first=first,
        second=second,
        baseline=BASELINE,
        title=f"{record['study']}: {first.metric} against {second.metric}",
        note="synthetic data: drawn by raysweep, not photographs" if record["data"]["synthetic"] else "",
    )
