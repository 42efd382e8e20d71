"""Estimates a search's wall time and the size of its checkpoints from a probe of some of its points. No Ray."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysweep.search.strategy.curve_model import GRACE_EPOCHS
from raysweep.search.strategy.pruners.default import stops_early
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.study import Study

TRAINED_SHARE, LOW_TRAINED_SHARE = 0.30, 0.19
"""Share of the epochs of all trials but the baseline that is trained where the default stops trials early: on
learning curves of LCBench, mean and lower tenth of 90 searches of 10 to 40 trials (benchmarks/README.md)."""
PROBE_EPOCHS = 2
"""Epochs of each point; the first one warms up."""
NUM_DRAWS = 200
"""Number of searches that are drawn for the range of the wall time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbedPoint:
    """Time, memory and disk of a trial of one point, scaled from the probe's share of the images to all of them."""

    params: Mapping[str, Any]
    train_s: float
    """Training time of one epoch."""
    val_s: float
    """Time of one epoch's validation, checkpoint and report."""
    overhead_s: float
    """Time of the trial outside epochs: the start of its process where that is new, its networks, its end."""
    memory_bytes: int
    gpu_memory_bytes: int
    gpu_total_bytes: int
    best_bytes: int
    """Size of the best weights on disk."""
    last_bytes: int
    """Size of the last checkpoint on disk."""

    @property
    def epoch_s(self) -> float:
        """Returns the seconds of an epoch."""
        return self.train_s + self.val_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Measurements of the probed points, the baseline first."""

    points: tuple[ProbedPoint, ...]
    failures: tuple[str, ...]
    """Errors of the points that could not be trained."""
    num_train: int
    """Training images of an epoch of the probe."""
    side_by_side: int
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WallTime:
    """Wall time of the search, in seconds."""

    low_s: float
    """5 % quantile of the drawn searches, with many trials stopped early where any are."""
    expected_s: float
    high_s: float
    """95 % quantile of the drawn searches, all trials running to their ends."""


def estimate_wall_time(study: Study, probe: Probe, concurrency: int, *, reuses: bool) -> WallTime:
    """Draws searches: epochs from the space, and for each trial but the baseline the times of a probed point.

    `reuses`: only the first trials of each place start a process.
    """
    random = np.random.default_rng(study.seed)
    shares = (LOW_TRAINED_SHARE, TRAINED_SHARE, 1.0) if stops_early(study) else (1.0, 1.0, 1.0)
    walls = np.array([_draw_walls(study, probe, concurrency, reuses, shares, random) for _ in range(NUM_DRAWS)])
    return WallTime(
        low_s=float(np.quantile(walls[:, 0], 0.05)),
        expected_s=float(np.median(walls[:, 1])),
        high_s=float(np.quantile(walls[:, 2], 0.95)),
    )


def _draw_walls(
    study: Study, probe: Probe, concurrency: int, reuses: bool, shares: Sequence[float], random: np.random.Generator
) -> list[float]:
    """Draws one search and returns its wall time for each share of the epochs that may be trained."""
    trials = study.budget.trials
    epochs = np.array(draw_epochs(study, random, trials))
    others = probe.points[1:] or probe.points
    drawn = [probe.points[0], *(others[index] for index in random.integers(len(others), size=trials - 1))]
    epoch_s = np.array([point.epoch_s for point in drawn])
    start_s = max(point.overhead_s for point in probe.points[:concurrency])
    later_s = min(point.overhead_s for point in probe.points) if reuses else start_s
    overhead_s = np.where(np.arange(trials) < concurrency, start_s, later_s)
    walls = []
    for share in shares:
        trained = np.maximum(np.minimum(epochs, GRACE_EPOCHS), share * epochs)
        trained[0] = epochs[0]  # the baseline is never stopped
        walls.append(schedule((overhead_s + trained * epoch_s).tolist(), concurrency, study.budget.time_s))
    return walls


def draw_epochs(study: Study, random: np.random.Generator, trials: int) -> list[int]:
    """Draws each trial's number of epochs: the study's starting points first, then points drawn uniformly."""
    points = study.starting_points[:trials]
    if study.space:
        space = UnitCube(study.space, study.conditions)
        points += [space.to_params(row) for row in space.draw(random, trials - len(points))]
    else:
        points += points[:1] * (trials - len(points))
    return [int(point.get("training.epochs", study.training.epochs)) for point in points]


def schedule(durations_s: Iterable[float], concurrency: int, deadline_s: float | None = None) -> float:
    """Schedules trials in order, each wherever one has ended, none after the deadline; returns the end of the last."""
    free_at = [0.0] * concurrency
    end = 0.0
    for duration_s in durations_s:
        began = heapq.heappop(free_at)
        if deadline_s is not None and began > deadline_s:
            break
        heapq.heappush(free_at, began + duration_s)
        end = max(end, began + duration_s)
    return end


def count_checkpoint_bytes(probe: Probe, num_kept: int, concurrency: int) -> int:
    """Counts the bytes of all checkpoints at most.

    These are the ones that are kept, the run's best among them, and of each running trial the best, the last two and
    the one that is being written.
    """
    best = max(point.best_bytes for point in probe.points)
    last = max(point.last_bytes for point in probe.points)
    return num_kept * best + concurrency * (best + 3 * last)
