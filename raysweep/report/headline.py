"""Says in a sentence what a run has found, or how far it is."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from raysweep.config import format_value
from raysweep.report.run_view import RunView
from raysweep.search.results import Results
from raysweep.trial_result import TrialResult

WORDS = {"mse": "squared error per pixel", "frechet_distance": "Frechet distance", "macro_f1": "macro F1"}
"""What metrics are called in a sentence, where it is not their name."""
NARROW = "\u00a0"
"""A space at which no line ends: between a number and its unit."""
INTERVAL = f"95{NARROW}% interval"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """Names a figure of the test images that best and baseline have, and formats it."""

    name: str
    higher_is_better: bool

    @property
    def words(self) -> str:
        """Names it in a sentence."""
        return WORDS.get(self.name, self.name.replace("_", " "))

    @property
    def is_share(self) -> bool:
        """Tells whether it is a share of images, said in percent."""
        return self.name.endswith("accuracy")

    def format(self, value: float) -> str:
        """Formats a value."""
        return f"{value * 100:.1f}{NARROW}%" if self.is_share else format_value(value)

    def format_difference(self, value: float) -> str:
        """Formats the size of a difference, whatever its sign."""
        return f"{abs(value) * 100:.1f}{NARROW}points" if self.is_share else format_value(abs(value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """Holds the beginning of the page."""

    sentence: str
    notes: tuple[str, ...]
    """What a reader has to know beside it, a sentence each."""


def build_headline(view: RunView) -> Headline:
    """Returns what the run has found, or how far it is."""
    results = view.results
    sentence = describe_progress(view) if results is None else describe_result(results)
    notes = []
    if view.info is not None and view.info.synthetic:
        notes.append("The images are drawn by raysweep: the figures say nothing about photographs.")
    if view.has_gone_on:
        notes.append(
            f"Of the trials as they were when the run was last finished; since then: {describe_progress(view)}"
        )
    notes += _describe_retraining(view)
    if results is not None and results.test.baseline_failure is not None:
        notes.append(f"There is no lift to state: the baseline failed ({results.test.baseline_failure}).")
    if results is not None and results.test.openings > 1:
        notes.append(f"The test images have been opened {results.test.openings} times.")
    if not view.is_running and (results is None or view.has_gone_on):
        notes.append("No command works on this run now; tune with --resume goes on with it.")
    notes += [f"Cannot be shown: {fault}" for fault in view.problems]
    return Headline(sentence=sentence, notes=tuple(notes))


def _describe_retraining(view: RunView) -> list[str]:
    """Says how far the training of finalists is; nothing where there are none, or all have ended."""
    trainings = [] if view.retraining is None else view.retraining.get_trials(deepcopy=False)
    num_ended = sum(training.state.is_finished() for training in trainings)
    if num_ended == len(trainings):
        return []
    return [f"The best are being trained again with other seeds: {num_ended} of {len(trainings)} trainings have ended."]


def describe_progress(view: RunView) -> str:
    """Says how far a search is that is not finished."""
    ended, total = view.ended, view.study["budget"]["trials"]
    if not ended:
        return f"None of {total} trials has ended yet."
    done = f"{len(ended)} of {total} trials have ended"
    best, baseline = view.best, view.baseline
    if best is None or best.value is None:
        counts = Counter(trial.state for trial in ended)
        return f"{done}, {counts['FAIL']} of them failed, and none has completed."
    measure = _measure_objective(view)
    found = f"{done}; on validation images the best so far has {_article(measure.words)} of"
    found = f"{found} {measure.format(best.value)}"
    if best.number == 0:
        return f"{found}: it is the baseline."
    return found + _describe_other(measure, baseline) + "."


def _describe_other(measure: Measure, baseline: TrialResult | None) -> str:
    if baseline is None or baseline.value is None:
        return ""
    return f", the baseline {measure.format(baseline.value)}"


def _measure_objective(view: RunView) -> Measure:
    objective = view.objectives[0]
    return Measure(name=objective.metric.partition("/")[2], higher_is_better=objective.direction == "maximize")


def describe_result(results: Results) -> str:
    """Compares best and baseline on the test images, with the interval of the difference."""
    test, measure = results.test, find_measure(results)
    if measure is None:
        return f"{test.headline.splitlines()[0]}; {test.lift['text']}"
    value, other = float(test.own[measure.name]), _number((test.baseline or {}).get(measure.name))
    figure = f"{_article(measure.words)} of {measure.format(value)}"
    images = f"{test.num_images:,} test images"
    if results.best.number == 0:
        return f"No configuration beat the baseline, which has {figure} on {images}."
    sentence = f"On {images} the best configuration has {figure}"
    if other is None:
        return f"{sentence}; there is no baseline to compare it with."
    sentence = f"{sentence}, the baseline {measure.format(other)}"
    low, high = _number(test.lift.get("low")), _number(test.lift.get("high"))
    if low is None or high is None or "difference" not in test.lift:
        return f"{sentence}."
    return f"{sentence}: {_describe_difference(measure, value - other, low, high)}."


def _describe_difference(measure: Measure, difference: float, low: float, high: float) -> str:
    """Says a difference with its 95 % interval."""
    if low <= 0 <= high:
        unit = " points" if measure.is_share else ""
        ends = [f"{end * 100:+.1f}" if measure.is_share else f"{end:+.3g}" for end in (low, high)]
        return f"no difference that could be told from chance ({INTERVAL} {ends[0]} to {ends[1]}{unit})"
    near, far = sorted((abs(low), abs(high)))
    ends = [measure.format_difference(end).removesuffix(f"{NARROW}points") for end in (near, far)]
    is_better = (difference > 0) == measure.higher_is_better
    size = measure.format_difference(difference)
    return f"{size} {'better' if is_better else 'worse'} ({INTERVAL} {ends[0]} to {ends[1]})"


def find_measure(results: Results) -> Measure | None:
    """Finds the figure that the lift is of, else the objective's; none where the test figures have neither."""
    own, baseline, lift = results.test.own, results.test.baseline or {}, results.test.lift
    objective = results.objective.metric.partition("/")[2]
    difference = _number(lift.get("difference"))
    for name in (objective, *own):
        value, other = _number(own.get(name)), _number(baseline.get(name))
        if value is None:
            continue
        is_of_lift = (
            other is not None and difference is not None and math.isclose(value - other, difference, abs_tol=1e-6)
        )
        if is_of_lift or (difference is None and name == objective):
            is_objective = name == objective
            higher = results.objective.direction == "maximize" if is_objective else name.endswith(("accuracy", "f1"))
            return Measure(name=name, higher_is_better=higher)
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
