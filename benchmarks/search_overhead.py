"""Milliseconds that a proposal and a report take when the study already holds 10, 100, 1,000 and 5,000 trials.

Claim: a proposal takes at most 50 ms (median) up to 5,000 trials. Peer: Optuna's TPE with its median pruner, through
the same Strategy. Space: LCBench's seven keys and three more; in-memory study; seeded synthetic curves, three of four
trials stopped early. A report is one at which the default pruner looks at the trial. CPU time of one thread.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/search_overhead.py        # about 1 min
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import _lcbench
import numpy as np
import optuna
from _report import Interval, bootstrap_median, finish, warn_if_busy
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from raysweep.search.strategy.curve_model import GRACE_EPOCHS
from raysweep.search.strategy.pruners import build_pruner
from raysweep.search.strategy.samplers import build_sampler
from raysweep.search.strategy.strategy import Strategy
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.study import Study
from raysweep.trial_result import TrialResult

GOAL_MS = 50.0
SIZES = (10, 100, 1_000, 5_000)
STRATEGIES: dict[str, tuple[str, str]] = {"default": ("default", "default"), "tpe": ("tpe", "median")}


def build_study() -> Study:
    """LCBench's space and three more keys."""
    study = _lcbench.build_study(trials=10**6, seed=0)
    more = {
        "training.epochs": IntDistribution(10, 60),
        "data.augmentation.strength": FloatDistribution(0.0, 0.5),
        "data.augmentation.rotation_degrees": FloatDistribution(0.0, 30.0),
    }
    return dataclasses.replace(study, space={**study.space, **more})


def value_after(params: dict[str, Any], epoch: int) -> float:
    """A curve whose end depends on learning rate, dropout and epochs."""
    end = 0.9 - 0.1 * abs(np.log10(params["task.learning_rate"]) + 3) - 0.1 * (params["task.max_dropout"] - 0.3) ** 2
    return float(end - 0.3 * np.exp(-5 * epoch / params["training.epochs"]))


def make_trial(study: Study, params: dict[str, Any], random: np.random.Generator) -> FrozenTrial:
    """A finished trial at the point; three of four were stopped early."""
    last = params["training.epochs"]
    stopped = random.random() < 0.75
    if stopped:
        last = min(last, int(random.integers(GRACE_EPOCHS, 12)))
    values = {epoch: value_after(params, epoch) for epoch in range(1, last + 1)}
    return create_trial(
        state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
        value=values[last],
        params=params,
        distributions=dict(study.space),
        intermediate_values=values,
    )


def timed_ms(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU milliseconds of this thread, and what the call returns."""
    began = time.thread_time()
    result = call()
    return 1000 * (time.thread_time() - began), result


def measure(study: Study, strategy_name: str, size: int, repeats: int) -> tuple[Interval, Interval]:
    """Milliseconds of a proposal and of a report, in a study with `size` trials; the first of each is left out."""
    random = np.random.default_rng(size)
    space = UnitCube(study.space)
    sampler, pruner = STRATEGIES[strategy_name]
    optuna_study = optuna.create_study(
        direction="maximize", sampler=build_sampler(sampler, study), pruner=build_pruner(pruner, study)
    )
    optuna_study.add_trials([make_trial(study, space.to_params(row), random) for row in space.draw(random, size)])
    strategy = Strategy(study, optuna_study)
    proposals, reports = [], []
    for _ in range(repeats + 1):
        took_ms, (number, params) = timed_ms(strategy.propose)
        proposals.append(took_ms)
        for epoch in range(1, GRACE_EPOCHS):
            strategy.report(number, epoch, value_after(params, epoch))
        value = value_after(params, GRACE_EPOCHS)
        reports.append(timed_ms(partial(strategy.report, number, GRACE_EPOCHS, value))[0])
        result = TrialResult(
            number=number, state="PRUNED", value=value, best_epoch=3, params=params, duration_s=1.0, error=None
        )
        strategy.tell(result)
    return bootstrap_median(proposals[1:]), bootstrap_median(reports[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="of each; default %(default)s")
    args = parser.parse_args()
    warn_if_busy()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = build_study()
    proposals: dict[tuple[str, int], Interval] = {}
    values = {}
    for size in SIZES:
        for name in STRATEGIES:
            proposals[name, size], reports = measure(study, name, size, args.repeats)
            values[f"{name}, {size} trials"] = {
                "proposal_ms": round(proposals[name, size].median, 2),
                "report_ms": round(reports.median, 2),
            }
            print(f"{size:5} trials, {name:8} proposal {proposals[name, size]} ms, report {reports} ms", flush=True)
    slowest = max(proposals["default", size].median for size in SIZES)
    print(f"goal: a proposal at most {GOAL_MS:.0f} ms: {'met' if slowest <= GOAL_MS else 'MISSED'}")
    ratios = {}
    for size in SIZES:
        ours, tpe = proposals["default", size], proposals["tpe", size]
        ratios[f"default / tpe, {size} trials"] = Interval(
            ours.median / tpe.median, ours.low / tpe.high, ours.high / tpe.low
        )
    finish("search_overhead", ratios=ratios, n=args.repeats, values=values)


if __name__ == "__main__":
    main()
