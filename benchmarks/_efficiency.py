"""Figures of search_efficiency.py from its stored runs: speed-up over random search, and mean rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from _peers import BASE
from _report import RESAMPLES, Interval
from scipy.stats import rankdata

SHARES = (0.25, 0.5, 1.0)
"""Of the budget, at which strategies are ranked."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated search."""

    task: str
    seed: int
    method: str
    budget: float
    improvements: Sequence[tuple[float, float]]
    decision_s: float
    trials: int

    def best_at(self, spent: float) -> float:
        """The best objective when `spent` of the budget was spent; -inf before any."""
        return max((value for at, value in self.improvements if at <= spent), default=-np.inf)

    def reached(self, target: float) -> float:
        """What had been spent when the objective was reached; twice the budget if it never was."""
        return min((at for at, value in self.improvements if value >= target), default=2 * self.budget)


Runs = Mapping[tuple[str, int, str], Run]
"""By task, seed and method."""


class Comparison:
    """Runs on the same tasks and seeds; a pair that a method lacks is left out, but for random search's median."""

    def __init__(self, runs: Runs, methods: Sequence[str]) -> None:
        self.methods = list(methods)
        pairs = sorted({(task, seed) for task, seed, _ in runs})
        complete = [pair for pair in pairs if all((*pair, method) in runs for method in methods)]
        self.tasks = sorted({task for task, _ in complete})
        self.seeds = {task: [seed for t, seed in complete if t == task] for task in self.tasks}
        self._runs = runs

    def log_speedups(self, method: str, over: str) -> dict[str, np.ndarray]:
        """By task and seed the log of how much earlier `method` reached random search's median final value."""
        logs = {}
        for task, seeds in self.seeds.items():
            base = [run for (name, _, m), run in self._runs.items() if (name, m) == (task, BASE)]
            target = float(np.median([run.best_at(run.budget) for run in base]))
            logs[task] = np.array(
                [
                    np.log(
                        self._runs[task, seed, over].reached(target) / self._runs[task, seed, method].reached(target)
                    )
                    for seed in seeds
                ]
            )
        return logs

    def ranks(self, method: str) -> list[float]:
        """Mean rank among the methods at each share of the budget; 1 is best, ties share."""
        column = self.methods.index(method)
        means = []
        for share in SHARES:
            ranks = []
            for task, seeds in self.seeds.items():
                for seed in seeds:
                    runs = [self._runs[task, seed, m] for m in self.methods]
                    ranks.append(rankdata([-run.best_at(share * run.budget) for run in runs])[column])
            means.append(float(np.mean(ranks)))
        return means

    def decision_ms(self, method: str) -> float:
        """CPU milliseconds of the strategy for each trial, its reports included; the median run's."""
        runs = [run for (_, _, name), run in self._runs.items() if name == method]
        return float(np.median([1000 * run.decision_s / run.trials for run in runs]))


def geometric_mean(logs: Mapping[str, np.ndarray]) -> Interval:
    """Over tasks, of the mean over seeds; the interval resamples tasks, and the seeds of each."""
    random = np.random.default_rng(0)
    tasks = list(logs.values())
    draws = np.empty(RESAMPLES // 5)
    for index in range(len(draws)):
        chosen = random.integers(len(tasks), size=len(tasks))
        draws[index] = np.mean([random.choice(tasks[task], len(tasks[task])).mean() for task in chosen])
    low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
    return Interval(float(np.exp(np.mean([log.mean() for log in tasks]))), float(low), float(high))
