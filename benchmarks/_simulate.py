"""Asynchronous workers on learning curves: an event queue by time around a strategy. No Ray."""

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_result import TrialResult

Curve = Callable[[dict[str, Any]], tuple[Any, Any]]
"""Objective after each epoch, and what each epoch costs, of a configuration."""


class Task(Protocol):
    """What is searched on: a study, whose trials all have `study.training.epochs` epochs, and their curves."""

    mean_epoch_s: float
    """Mean seconds of an epoch over random configurations."""

    def build_study(self, trials: int, seed: int) -> Study: ...

    def load(self, params: dict[str, Any]) -> tuple[Any, Any]:
        """Objective after each epoch, and the seconds that each epoch takes, of a configuration."""
        ...


@dataclass(slots=True)
class Outcome:
    """What a simulated search saw, and what it took."""

    improvements: list[tuple[float, float]] = field(default_factory=list)
    """(worker time spent until then, best objective so far), in order; in the unit of the costs."""
    trials: int = 0
    full_trials: int = 0
    decision_s: float = 0.0
    """CPU seconds of the strategy: proposals, reports, ends."""


@dataclass(slots=True)
class _Running:
    number: int
    params: dict[str, Any]
    values: Any
    costs: Any
    best: float = -math.inf
    best_epoch: int = 0


class Driver:
    """The strategy as the one process that workers wait for: its time delays them, one after the other."""

    def __init__(self, strategy: Strategy, cost_of_second: float) -> None:
        self.strategy = strategy
        self.cost_of_second = cost_of_second
        self.free_at = 0.0
        self.decision_s = 0.0

    def call(self, now: float, decide: Callable[[], Any]) -> tuple[float, Any]:
        """When the decision that is asked for at `now` has been made, and the decision."""
        began = time.thread_time()
        decision = decide()
        took_s = time.thread_time() - began
        self.decision_s += took_s
        self.free_at = max(now, self.free_at) + took_s * self.cost_of_second
        return self.free_at, decision


def simulate(strategy: Strategy, curve: Curve, *, workers: int, budget: float, cost_of_second: float) -> Outcome:
    """Runs the strategy on `workers` workers until they have spent `budget` together.

    `cost_of_second` is what a second of the strategy costs in the unit of the curve's costs. Values are maximised.
    """
    outcome = Outcome()
    driver = Driver(strategy, cost_of_second)
    deadline = budget / workers
    queue: list[tuple[float, int, int]] = []
    running: dict[int, _Running] = {}
    best = -math.inf

    def start(now: float) -> None:
        now, proposal = driver.call(now, strategy.propose)
        assert proposal is not None
        number, params = proposal
        values, costs = curve(params)
        running[number] = _Running(number, params, values, costs)
        heapq.heappush(queue, (now + costs[0], number, 1))
        outcome.trials += 1

    for _ in range(workers):
        start(0.0)
    while queue:
        now, number, epoch = heapq.heappop(queue)
        if now > deadline:
            break
        trial = running[number]
        value = float(trial.values[epoch - 1])
        if value > trial.best:
            trial.best, trial.best_epoch = value, epoch
        if value > best:
            best = value
            outcome.improvements.append((round(now * workers, 4), round(value, 4)))
        now, stop = driver.call(now, partial(strategy.report, trial.number, epoch, value))
        ended = epoch == len(trial.values)
        if not stop and not ended:
            heapq.heappush(queue, (now + trial.costs[epoch], number, epoch + 1))
            continue
        outcome.full_trials += ended
        del running[number]
        result = TrialResult(
            number=number,
            state="COMPLETE" if ended else "PRUNED",
            value=trial.best,
            best_epoch=trial.best_epoch,
            params=trial.params,
            duration_s=0.0,
        )
        now, _ = driver.call(now, partial(strategy.tell, result))
        start(now)
    outcome.decision_s = driver.decision_s
    return outcome
