"""Measures all trainings of the winner and of the baseline on the test images: a configuration, whatever its seed."""

import os
import sys
from collections.abc import Callable
from statistics import fmean

from raysweep import config_fields
from raysweep.atomic_files import Json
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel, load_model
from raysweep.search.finalists.statistics import compare_means, describe_difference, describe_mean, find_interval


def measure_seeds(run: FinalRun, metric: str, measure: Callable[[StoredModel], float]) -> Json | None:
    """Measures each seed's model of the winner of the finalists, and of the baseline, on the test images.

    None of them is chosen by it. Intervals are those of the finalists on validation images: they cover the randomness
    of training, not the choice of test images. Of a configuration all seeds are measured, or none: earlier versions
    kept the best seed only, which would flatter it.

    metric: the name of what `measure` returns of a model.

    Returns `metric`; for `best` and `baseline` each `finalists` (numbers of the trainings), `values`, `mean`, `low` and
    `high` (none: all seeds agree); `lift`, as of the finalists; and `text`, a sentence. None where the winner's seeds
    cannot be measured, or there are no finalists.
    """
    kept: dict[str, Json] = {}
    for name, numbers in run.seeds.items():
        if (values := _measure(run, name, measure)) is not None:
            low, high = find_interval(values)
            kept[name] = {"finalists": list(numbers), "values": values, "mean": fmean(values), "low": low, "high": high}
    if "best" not in kept:
        return None
    best, baseline, lift = kept["best"], kept.get("baseline"), None
    text = f"test {metric} over all seeds {_describe(best)}"
    if baseline is not None:
        lift = compare_means(best["values"], baseline["values"])
        text += f"; the baseline {_describe(baseline)}; {describe_difference(lift, metric)}"
    record = lift and config_fields.to_json(lift)
    return {"metric": metric, "best": best, "baseline": baseline, "lift": record, "text": text}


def _measure(run: FinalRun, name: str, measure: Callable[[StoredModel], float]) -> list[float] | None:
    """Measures all trainings of a configuration; none, which is said, where one cannot be."""
    device = next(next(iter(run.best.modules.values())).parameters()).device
    trainings = [run.run_folder.finalists.trial(number) for number in run.seeds[name]]
    gone = [training.weights for training in trainings if not os.path.lexists(training.weights)]
    if gone:
        _warn(name, f"{gone[0]} is gone (it was removed, or an earlier version kept the weights of the best seed only)")
        return None
    with run.part(f"seeds of the {name}"):
        try:
            return [measure(load_model(training.weights, training.config, device)) for training in trainings]
        except Exception as error:  # the evaluation is as good without it
            _warn(name, f"{type(error).__name__}: {error}")
            return None


def _warn(name: str, reason: str) -> None:
    print(f"warning: the seeds of the {name} are not measured on the test images: {reason}", file=sys.stderr)


def _describe(summary: Json) -> str:
    return describe_mean(summary["mean"], summary["low"], summary["high"], len(summary["values"]))
