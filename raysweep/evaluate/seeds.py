"""Measures all trainings of the winner and of the baseline on the test images: a configuration, whatever its seed."""

import os
import sys
from collections.abc import Callable, Sequence
from statistics import fmean

from raysweep.atomic_files import Json
from raysweep.config import format_value
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel, load_model
from raysweep.search.finalists.statistics import mean_interval, welch_interval


def measure_seeds(run: FinalRun, metric: str, measure: Callable[[StoredModel], float]) -> Json | None:
    """Measures each seed's model of the winner of the finalists, and of the baseline, on the test images.

    None of them is chosen by it. Intervals are of 95 %, as of the finalists on validation images: they cover the
    randomness of training, not the choice of test images. Of a configuration all seeds are measured, or none: earlier
    versions kept the best seed only, which would flatter it.

    metric: the name of what `measure` returns of a model.

    Returns `metric`; for `best` and `baseline` each `finalists` (numbers of the trainings), `values`, `mean`, `low` and
    `high` (none: all seeds agree); `difference` of the means, with `low` and `high`; and `text`, a sentence. None where
    the winner's seeds cannot be measured, or there are no finalists.
    """
    kept = {}
    for name in run.seeds:
        values = _measure(run, name, measure)
        if values is None and name == "best":
            return None
        if values is not None:
            kept[name] = _summarise(run.seeds[name], values)
    if "best" not in kept:
        return None
    texts = [f"test {metric} over {_describe(kept['best'])}"]
    difference = None
    if "baseline" in kept:
        difference, text = _compare(kept["best"], kept["baseline"])
        texts += [f"the baseline over {_describe(kept['baseline'])}", text]
    return {
        "metric": metric,
        "best": kept["best"],
        "baseline": kept.get("baseline"),
        "difference": difference,
        "text": "; ".join(texts),
    }


def _measure(run: FinalRun, name: str, measure: Callable[[StoredModel], float]) -> list[float] | None:
    """Measures all trainings of a configuration; none, which is said, where one cannot be."""
    device = next(next(iter(run.best.modules.values())).parameters()).device
    trainings = [run.run_folder.finalists.trial(number) for number in run.seeds[name]]
    gone = [training.weights for training in trainings if not os.path.lexists(training.weights)]
    if gone:
        _say(name, f"{gone[0]} is gone (earlier versions kept the weights of the best seed only)")
        return None
    with run.part(f"seeds of the {name}"):
        try:
            return [measure(load_model(training.weights, training.config, device)) for training in trainings]
        except Exception as error:  # the evaluation is as good without it
            _say(name, f"{type(error).__name__}: {error}")
            return None


def _say(name: str, reason: str) -> None:
    print(f"the seeds of the {name} are not measured on the test images: {reason}", file=sys.stderr)


def _summarise(finalists: Sequence[int], values: list[float]) -> Json:
    low, high = mean_interval(values) if len(set(values)) > 1 else (None, None)
    return {"finalists": list(finalists), "values": values, "mean": fmean(values), "low": low, "high": high}


def _compare(best: Json, baseline: Json) -> tuple[Json, str]:
    difference = best["mean"] - baseline["mean"]
    text = f"difference {difference:+.3g}"
    if best["low"] is None and baseline["low"] is None:
        return {"difference": difference, "low": None, "high": None}, text
    low, high = welch_interval(best["values"], baseline["values"])
    text += f" ({low:+.3g} to {high:+.3g})" + ", which includes zero: none is shown" * (low <= 0 <= high)
    return {"difference": difference, "low": low, "high": high}, text


def _describe(summary: Json) -> str:
    interval = "no interval, as all seeds agree"
    if summary["low"] is not None:
        interval = f"{format_value(summary['low'])} to {format_value(summary['high'])}"
    return f"{len(summary['values'])} seeds {format_value(summary['mean'])} ({interval})"
