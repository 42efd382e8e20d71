"""A search of 1,000 trials that train next to nothing: what each costs on Ray, from the first hundred to the last.

Claim: the thousandth trial costs no more than 1.5 times what the first ones cost, and a trial no more than 4 times what
Ray Tune takes for one that does nothing.

Ours: `raysweep.search.run.run_study` as the command line calls it, the default strategy, one step of training a trial
on all training images (40; with `--images 640` 512 of them, which takes most of a trial's time), with checkpoints,
journal, retention and final evaluation; W&B disabled. Seconds a trial are those between the ends of
trials, as the Optuna study has them. Peer: Ray Tune with its OptunaSearch (TPE) over a function that reports one number
and does nothing else, actors reused, as many side by side; seconds a trial by the slope of two runs.

    .venv/bin/python benchmarks/many_trials.py        # about 9 min on 2 cores
"""

import argparse
import logging
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import ray
from _report import bootstrap_median, finish, warn_if_busy
from _small_study import write_idx
from optuna.distributions import FloatDistribution
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from raysweep.cluster.connection import connect
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.search.options import RunOptions
from raysweep.search.run import run_study
from raysweep.search.session.storage import open_storage
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

WINDOW = 100
KEYS = ("task.learning_rate", "task.dropout", "task.weight_decay", "task.label_smoothing")
GOAL = 1.5
PEER_GOAL = 4.0


def build_study(folder: Path, trials: int) -> Study:
    """One step of the Fashion CNN on small images, four hyperparameters."""
    rates = {"task.learning_rate": FloatDistribution(2e-4, 2e-3, log=True)}
    ranges = {"task.dropout": (0.0, 0.5), "task.weight_decay": (0.0, 0.1), "task.label_smoothing": (0.0, 0.2)}
    return Study(
        name="many",
        task=ClassificationConfig(model="fashion_cnn", dropout=0.5),
        data=DataConfig(source=str(folder), image_size=16, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=1, batch_size=512, precision="fp32"),
        space={**rates, **{key: FloatDistribution(low, high) for key, (low, high) in ranges.items()}},
        objective=Objective(metric="val/accuracy"),
        budget=Budget(trials=trials),
    )


def run_ours(folder: Path, storage: Path, trials: int) -> np.ndarray:
    """When each trial had ended, in seconds after the first one's end, in the order of ends."""
    options = RunOptions(storage=storage, name="many", address="local", wandb="disabled")
    results = run_study(build_study(folder, trials), options).results
    ray.shutdown()
    states = [trial.state for trial in results.trials]
    assert states == ["COMPLETE"] * trials, {state: states.count(state) for state in states}
    stored = open_storage(options.run_folder, None)
    (name,) = optuna.get_all_study_names(stored)
    ends = [t.datetime_complete for t in optuna.load_study(study_name=name, storage=stored).get_trials(deepcopy=False)]
    seconds = np.sort([end.timestamp() for end in ends if end is not None])
    return np.asarray(seconds - seconds[0])


def time_peer(trials: int, concurrency: int) -> float:
    """Seconds of Ray Tune's own search over trials that do nothing."""

    def train(config: dict[str, float]) -> None:
        tune.report({"value": -abs(config[KEYS[0]] - 1e-3)})

    with tempfile.TemporaryDirectory() as scratch:
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={key: tune.uniform(0.0, 1.0) for key in KEYS},
            tune_config=tune.TuneConfig(
                metric="value",
                mode="max",
                search_alg=OptunaSearch(seed=0),
                num_samples=trials,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(name="peer", storage_path=scratch, verbose=0),
        )
        began = time.perf_counter()
        results = tuner.fit()
        duration = time.perf_counter() - began
    assert results.num_errors == 0, results.errors
    return duration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="at least 3 hundred; default %(default)s")
    parser.add_argument("--images", type=int, default=50, help="a fifth for validation; default %(default)s")
    parser.add_argument("--peer-trials", type=int, nargs=2, default=(20, 120), metavar=("FEW", "MANY"))
    args = parser.parse_args()
    warn_if_busy()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        folder = Path(temporary) / "idx"
        folder.mkdir()
        write_idx(folder, args.images)
        ends = run_ours(folder, Path(temporary) / "runs", args.trials)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    starts = range(0, len(ends) - WINDOW, WINDOW)
    seconds = [float(ends[start + WINDOW] - ends[start]) / WINDOW for start in starts]
    for start, value in zip(starts, seconds, strict=True):
        print(f"trials {start + 1} to {start + WINDOW}: {value:.3f} s each", flush=True)
    print(f"memory of the driver at most: {memory_mb:,.0f} MB")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    connect("local")
    concurrency = len(os.sched_getaffinity(0))
    few, many = args.peer_trials
    peer = (time_peer(many, concurrency) - time_peer(few, concurrency)) / (many - few)
    ray.shutdown()
    print(f"Ray Tune with OptunaSearch, trials that do nothing: {peer:.3f} s each")
    growth = seconds[-1] / seconds[0]
    over_peer = bootstrap_median([value / peer for value in seconds])
    print(f"goal: the last at most {GOAL} times the first: {'met' if growth <= GOAL else 'MISSED'}")
    print(f"goal: at most {PEER_GOAL} times Ray Tune's: {'met' if over_peer.median <= PEER_GOAL else 'MISSED'}")
    finish(
        "many_trials",
        ratios={
            "last_over_first_hundred": bootstrap_median([growth]),
            "ours_over_peer": over_peer,
        },
        n=args.trials,
        values={
            "seconds_a_trial": seconds,
            "peer_s": peer,
            "driver_memory_mb": memory_mb,
            "images": args.images,
            "goal": GOAL,
            "peer_goal": PEER_GOAL,
        },
    )


if __name__ == "__main__":
    main()
