"""Compares the best configurations, trained again: the winner, the search's optimism, the lift.

All figures are of the objective, on validation images. Intervals cover the randomness of training (start weights,
order of images, augmentation), neither the choice of validation images nor that the winner is the best of several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy.stats import t as student

from raysweep.config import Objective, format_value
from raysweep.search.ranking import best_of_points, point_key, rank_results
from raysweep.search.results import FinalistRecord, FinalistsLift, FinalistsRecord
from raysweep.trial_result import BASELINE, TrialResult

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalist:
    """Pairs a configuration of the search with its trainings again."""

    trial: TrialResult
    """Its trial in the search."""
    trainings: tuple[TrialResult, ...]
    """Each with a seed of its own."""

    @property
    def values(self) -> list[float]:
        """Lists the objective of each training that completed."""
        return [end.value for end in self.trainings if end.state == "COMPLETE" and end.value is not None]

    @property
    def mean(self) -> float | None:
        """Averages over all seeds; none where one failed, which would flatter a configuration that is unstable."""
        return fmean(self.values) if len(self.values) == len(self.trainings) else None

    @property
    def optimism(self) -> float | None:
        """Returns the search's value minus the mean; none where there is no such."""
        if self.trial.state != "COMPLETE" or self.trial.value is None or self.mean is None:
            return None
        return self.trial.value - self.mean

    def describe(self) -> FinalistRecord:
        """Sums up the trainings for the results."""
        low, high = find_interval(self.values) if self.mean is not None else (None, None)
        return FinalistRecord(
            trial=self.trial.number,
            params=self.trial.params,
            search_value=self.trial.value if self.trial.state == "COMPLETE" else None,
            trainings=tuple(end.number for end in self.trainings),
            values=tuple(end.value if end.state == "COMPLETE" else None for end in self.trainings),
            errors=tuple(end.error for end in self.trainings),
            mean=self.mean,
            low=low,
            high=high,
            optimism=self.optimism,
        )


def choose_finalists(results: Sequence[TrialResult], objective: Objective, most: int) -> list[TrialResult]:
    """Chooses the baseline, however it ended, and the best complete trials at up to `most` other points."""
    baseline = next(result for result in results if result.number == BASELINE)
    key = point_key(baseline.params)
    others = [result for result in best_of_points(results, [objective]) if point_key(result.params) != key]
    return [baseline, *others[:most]]


def find_winner(finalists: Sequence[Finalist], objective: Objective) -> Finalist | None:
    """Finds the finalist with the best mean, the first of equals; none where each has a seed that failed."""
    winner = None
    for finalist in finalists:
        if finalist.mean is not None and objective.is_better(finalist.mean, winner.mean if winner else None):
            winner = finalist
    return winner


def find_best_training(finalist: Finalist, objective: Objective) -> TrialResult | None:
    """Finds the training with the seed that came out best; none where all failed."""
    return next(iter(rank_results(finalist.trainings, [objective])), None)


def explain_baseline_failure(
    results: Sequence[TrialResult], finalists: Sequence[Finalist], objective: Objective
) -> str | None:
    """Says why the final evaluation has no baseline; none: it has one.

    Beside a winner of the finalists the baseline is the best of its seeds, else trial 0 of the search.
    """
    ends = [result for result in results if result.number == BASELINE]
    if find_winner(finalists, objective) is not None:
        ends = list(finalists[0].trainings)
    if any(end.state == "COMPLETE" for end in ends):
        return None
    return next((end.error for end in ends if end.error), "it has no complete trial")


def find_interval(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Finds the 95 % interval of the mean of two values or more; none where all seeds agree."""
    return mean_interval(values) if len(set(values)) > 1 else (None, None)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Computes the 95 % interval of the mean of two values or more.

    By Student's t (1908) with n - 1 degrees of freedom.
    """
    half = student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * (variance(values) / len(values)) ** 0.5
    return float(fmean(values) - half), float(fmean(values) + half)


def welch_interval(values: Sequence[float], others: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Computes the 95 % interval of the difference of two means, of two values or more each; none where each agree.

    Welch, "The generalization of 'Student's' problem when several different population variances are involved"
    (1947), with Satterthwaite's degrees of freedom: the seeds of two configurations are not the same.
    """
    difference = fmean(values) - fmean(others)
    shares = [variance(sample) / len(sample) for sample in (values, others)]
    if sum(shares) == 0:
        return None, None
    freedom = sum(shares) ** 2 / sum(s**2 / (len(v) - 1) for s, v in zip(shares, (values, others), strict=True))
    half = student.ppf((1 + CONFIDENCE) / 2, freedom) * sum(shares) ** 0.5
    return float(difference - half), float(difference + half)


def summarise_finalists(
    finalists: Sequence[Finalist], objective: Objective, most: int | None, num_seeds: int | None
) -> FinalistsRecord | None:
    """Sums up the finalists for the results; none where none were asked for.

    `most` finalists and `num_seeds` were asked for; a configuration may have trainings with more seeds from before.
    """
    if not finalists or most is None or num_seeds is None:
        return None
    winner = find_winner(finalists, objective)
    leading = next(iter(rank_results([finalist.trial for finalist in finalists], [objective])), None)
    return FinalistsRecord(
        requested=most,
        seeds=num_seeds,
        intervals=f"{CONFIDENCE:.0%}, over seeds: Student's t for a mean, Welch's t for the lift",
        configurations=tuple(finalist.describe() for finalist in finalists),
        winner=winner.trial.number if winner else None,
        optimism=next((finalist.optimism for finalist in finalists if finalist.trial == leading), None),
        lift=_measure_lift(winner, finalists[0]) if winner else None,
    )


def _measure_lift(winner: Finalist, baseline: Finalist) -> FinalistsLift | None:
    if winner is baseline or winner.mean is None or baseline.mean is None:
        return None
    return compare_means(winner.values, baseline.values)


def compare_means(values: Sequence[float], others: Sequence[float]) -> FinalistsLift:
    """Computes the difference of two means, of two values or more each, with its 95 % interval."""
    low, high = welch_interval(values, others)
    difference = fmean(values) - fmean(others)
    includes_zero = low is None or high is None or low <= 0 <= high
    return FinalistsLift(difference=difference, low=low, high=high, includes_zero=includes_zero)


def describe_finalists(record: FinalistsRecord | None, objective: Objective) -> list[str]:
    """Returns lines for a person; none where no finalists were asked for."""
    if record is None:
        return []
    found, metric = record.configurations, objective.metric
    sense = ", below zero where the search was optimistic" * (objective.direction == "minimize")
    few = f"; the search has no more than {len(found) - 1} of the {record.requested} that were asked for"
    optimism = "unknown" if record.optimism is None else _signed(record.optimism)
    return [
        f"trained again with other seeds (mean {metric}, 95 % interval by Student's t, number of seeds)"
        + few * (len(found) - 1 < record.requested)
        + ":",
        *(f"  {_describe_configuration(configuration)}" for configuration in found),
        f"optimism of the search, its best value minus the confirmed mean{sense}: {optimism}",
        _describe_lift(record, metric),
    ]


def _describe_configuration(found: FinalistRecord) -> str:
    name = f"trial {found.trial}{', the baseline' * (found.trial == BASELINE)}"
    if found.mean is None:
        failed = [error for value, error in zip(found.values, found.errors, strict=True) if value is None]
        return f"{name}: no mean, {len(failed)} of {len(found.values)} seeds failed: {failed[0]}"
    text = f"{name}: {describe_mean(found.mean, found.low, found.high, len(found.values))}"
    if found.optimism is None or found.search_value is None:
        return f"{text}; it did not complete in the search"
    return f"{text}; in the search {format_value(found.search_value)}, {_signed(found.optimism)}"


def _describe_lift(record: FinalistsRecord, metric: str) -> str:
    winner, lift = record.winner, record.lift
    if winner is None:
        return "no winner: every configuration failed with a seed; the best model is the search's, not confirmed"
    if winner == BASELINE:
        return "the winner on validation is the baseline: there is no lift over it"
    if lift is None:
        return f"winner on validation: trial {winner}; no lift is stated, as the baseline failed with a seed"
    return f"winner on validation: trial {winner}, {describe_difference(lift, metric)}"


def describe_mean(mean: float, low: float | None, high: float | None, num_seeds: int) -> str:
    """Describes a mean over seeds with its interval, where there is one."""
    interval = "no interval, as all seeds agree"
    if low is not None and high is not None:
        interval = f"{format_value(low)} to {format_value(high)}"
    return f"{format_value(mean)} ({interval}, n = {num_seeds})"


def describe_difference(lift: FinalistsLift, metric: str) -> str:
    """Describes the winner's mean against the baseline's."""
    if lift.low is None or lift.high is None:
        return (
            f"{_signed(lift.difference)} {metric} over the baseline; no interval, as all seeds agree: no lift is shown"
        )
    interval = f"95 % interval by Welch's t {_signed(lift.low)} to {_signed(lift.high)}"
    text = f"{_signed(lift.difference)} {metric} over the baseline ({interval})"
    return f"{text}; the interval includes zero: no lift is shown" if lift.includes_zero else text


def _signed(value: float) -> str:
    return f"{value:+.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:+.3g}"
