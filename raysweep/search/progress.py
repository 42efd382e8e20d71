"""Follows a search and knows how far it is: what runs, what has ended, the best so far, the time left."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raysweep.config import Objective, format_value
from raysweep.search.observer import Observer
from raysweep.search.ranking import rank_results
from raysweep.stages import format_duration
from raysweep.train.history import SPEED
from raysweep.trial_result import BASELINE, TrialResult

STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed"}
"""Words for how a trial ended."""


@dataclass(kw_only=True, slots=True)
class RunningTrial:
    """Says how far a trial is."""

    number: int
    num_epochs: int
    """At most."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of its last epoch; empty: none has ended yet."""
    first_epoch: int | None = None
    """The first that ended in this session; none: none has."""
    epochs_before: int = 0
    """How many had ended before this session."""

    @property
    def epoch(self) -> int:
        """Returns how many epochs have ended."""
        return int(self.metrics.get("epoch", self.epochs_before))

    @property
    def speed(self) -> float:
        """Returns the images a second of its last epoch."""
        return self.metrics.get(SPEED, 0.0)

    @property
    def share(self) -> float:
        """Returns which share of the trial was done in this session, 0 to 1."""
        return 0.0 if self.first_epoch is None else (self.epoch - self.first_epoch + 1) / self.num_epochs


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Says how far a search was at a moment: what tables, lines of a log and the status of a run show."""

    metric: str
    """The first objective's."""
    num_trials: int
    """Trials in all, those to come included."""
    counts: Mapping[str, int]
    """How many ended in each of STATES."""
    running: tuple[RunningTrial, ...]
    """By number."""
    best: TrialResult | None
    """None: no trial is complete yet."""
    baseline: TrialResult | None
    """None: it has not ended."""
    time_left_s: float | None
    """None: nothing is known yet, or the time budget is used up."""
    is_paused: bool
    """Whether no trial starts until somebody says so."""
    budget_left_s: float | None = None
    """Of the time budget; 0: no trial starts any more, those that run go on to their end; none: there is no budget."""

    @property
    def num_ended(self) -> int:
        """Returns how many trials have ended."""
        return sum(self.counts.values())

    @property
    def speed(self) -> float:
        """Returns the images a second of all running trials together."""
        return sum(trial.speed for trial in self.running)

    def describe_counts(self) -> str:
        """Says how many trials there are by state."""
        counts = ", ".join(f"{self.counts[state]} {word}" for state, word in STATES.items())
        paused = "; paused" if self.is_paused else ""
        return f"{self.num_ended} of {self.num_trials} trials: {counts}; {len(self.running)} running{paused}"

    def describe_best(self) -> str:
        """Names the best trial so far, and the baseline beside it."""
        if self.best is None or self.best.value is None:
            return "no trial is complete yet"
        stated = ""
        if self.baseline is not None:
            value = self.baseline.value
            stated = f", the baseline {'failed' if value is None else format_value(value)}"
        return f"best {self.metric} {format_value(self.best.value)} (trial {self.best.number}){stated}"

    def describe_time_left(self) -> str:
        """Says how long the search will take, or how much is left of its time budget, where that is less."""
        left = self.time_left_s
        if self.budget_left_s == 0:
            return f"the time budget is used up{f', {len(self.running)} still running' * bool(self.running)}"
        if left is None:
            return "time left not known yet"
        return f"about {format_duration(left)} left{' of the time budget' * (left == self.budget_left_s)}"


class SearchProgress(Observer):
    """Keeps what snapshots are made of."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        num_trials: int,
        deadline: float | None,
        ended: Iterable[TrialResult],
        num_reported: Callable[[int], int] = lambda number: 0,
    ) -> None:
        """Begins with the trials that `ended` in earlier sessions.

        deadline: by the monotonic clock; none: no such. num_reported: how many epochs of a trial that starts had ended
        before.
        """
        self.objectives = objectives
        self.num_trials = num_trials
        """Trials in all; a running search may get more."""
        self.deadline = deadline
        self.is_paused = False
        self._num_reported = num_reported
        self._began = time.monotonic()
        self._running: dict[int, RunningTrial] = {}
        self._counts: Counter[str] = Counter()
        self._best: TrialResult | None = None
        self._baseline: TrialResult | None = None
        for result in ended:
            self._add(result)
        self._num_before = self._counts.total()

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Adds a running trial."""
        self._running[number] = RunningTrial(
            number=number, num_epochs=int(config["training"]["epochs"]), epochs_before=self._num_reported(number)
        )

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Keeps the metrics of a trial's last epoch."""
        trial = self._running[number]
        trial.metrics = dict(metrics)
        trial.first_epoch = trial.first_epoch or trial.epoch

    def trial_ended(self, result: TrialResult) -> None:
        """Moves the trial from running to ended."""
        self._running.pop(result.number, None)
        self._add(result)

    def _add(self, result: TrialResult) -> None:
        self._counts[result.state] += 1
        self._best = next(iter(rank_results([result, *filter(None, [self._best])], self.objectives)), None)
        if result.number == BASELINE:
            self._baseline = result

    def take_snapshot(self) -> Snapshot:
        """Says how far the search is."""
        budget_left_s = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        return Snapshot(
            metric=self.objectives[0].metric,
            num_trials=self.num_trials,
            counts={state: self._counts[state] for state in STATES},
            running=tuple(trial for _, trial in sorted(self._running.items())),
            best=self._best,
            baseline=self._baseline,
            time_left_s=self._estimate_time_left(budget_left_s),
            is_paused=self.is_paused,
            budget_left_s=budget_left_s,
        )

    def _estimate_time_left(self, budget_left_s: float | None) -> float | None:
        """Estimates the seconds until no trial runs or starts any more, by the speed of this session."""
        under_way = sum(trial.share for trial in list(self._running.values()))  # the table is drawn by another thread
        num_ended = self._counts.total()
        num_done = num_ended - self._num_before + under_way
        if not num_done or budget_left_s == 0:
            return None
        num_left = max(0.0, self.num_trials - num_ended - under_way)
        left = (time.monotonic() - self._began) / num_done * num_left
        return left if budget_left_s is None else min(left, budget_left_s)
