"""Measures all trainings of the winner and of the baseline on the test images: a configuration, whatever its seed."""

import sys
from collections.abc import Callable, Sequence
from statistics import fmean

from raysweep.atomic_files import Json
from raysweep.config import format_value
from raysweep.errors import CorruptFileError, UsageError
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel, load_model
from raysweep.search.finalists.statistics import mean_interval, welch_interval


def measure_seeds(run: FinalRun, metric: str, measure: Callable[[StoredModel], float]) -> Json | None:
    """Measures each seed's model of the winner of the finalists, and of the baseline, on the test images.

    None of them is chosen by it. Intervals are of 95 %, as of the finalists on validation images: they cover the
    randomness of training, not the choice of test images.

    metric: the name of what `measure` returns of a model.

    Returns `metric`; for `best` and `baseline` each `finalists` (numbers of the trainings), `values`, `mean`, `low` and
    `high`; `difference` of the means, with `low` and `high`; and `text`, a sentence. None where fewer than two models
    of the winner are there: no finalists were trained, or by a version that did not keep them.
    """
    if len(run.seeds.get("best", ())) < 2:
        return None
    with run.part("seeds of the finalists"):
        found = {name: _measure(run, numbers, measure) for name, numbers in run.seeds.items()}
    kept = {name: _summarise(values) for name, values in found.items() if len(values) >= 2}
    if "best" not in kept:
        return None
    texts = [f"test {metric} over {_describe(kept['best'])}"]
    difference = None
    if "baseline" in kept:
        low, high = welch_interval(kept["best"]["values"], kept["baseline"]["values"])
        difference = {"difference": kept["best"]["mean"] - kept["baseline"]["mean"], "low": low, "high": high}
        texts.append(f"the baseline over {_describe(kept['baseline'])}")
        texts.append(f"difference {difference['difference']:+.3g} ({low:+.3g} to {high:+.3g})")
    return {
        "metric": metric,
        "best": kept["best"],
        "baseline": kept.get("baseline"),
        "difference": difference,
        "text": "; ".join(texts),
    }


def _measure(run: FinalRun, numbers: Sequence[int], measure: Callable[[StoredModel], float]) -> dict[int, float]:
    """Measures the models of some trainings, by number; what is damaged or gone is said and left out."""
    device = next(next(iter(run.best.modules.values())).parameters()).device
    values = {}
    for number in numbers:
        training = run.run_folder.finalists.trial(number)
        try:
            values[number] = measure(load_model(training.weights, training.config, device))
        except (CorruptFileError, UsageError) as error:
            print(f"finalist {number} is not measured on the test images: {error}", file=sys.stderr)
    return values


def _summarise(found: dict[int, float]) -> Json:
    values = list(found.values())
    low, high = mean_interval(values)
    return {"finalists": list(found), "values": values, "mean": fmean(values), "low": low, "high": high}


def _describe(summary: Json) -> str:
    interval = f"{format_value(summary['low'])} to {format_value(summary['high'])}"
    return f"{len(summary['values'])} seeds {format_value(summary['mean'])} ({interval})"
