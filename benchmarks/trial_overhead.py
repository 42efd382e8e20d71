"""Wall seconds that one more one-worker trial costs beyond its training and evaluation.

Claim: at most 0.1 s a trial. A trial with one worker runs in a reused actor and starts no process of its own.

Ours: `raysweep.search.run.run_study` as the command line calls it (Ray Data, Ray Tune, Optuna journal, checkpoints,
retention, test evaluation; W&B disabled), one trial at a time on all cores, with few and with many trials on a
cluster started for each run. The slope of wall time over trials leaves out what a study pays once.
Peers, from the same slope: the same `fit` in a TorchTrainer with one worker inside Ray Tune (what Ray documents, and
what more than one worker takes here), and plain Optuna, `study.optimize` around `fit` in one process.
From each slope the same time is taken off: that of the same `fit` called alone in one process, without checkpoints.
So the overhead includes writing checkpoints (which plain Optuna does not do), and what Ray's own processes take away
from training on the same cores.

    .venv/bin/python benchmarks/trial_overhead.py        # about 6 min on 2 cores

Measured: 0.071 s [0.022, 0.177], nested 16.3 s, Optuna 0.007 s; n = 5, AMD EPYC. On an Intel
Xeon 0.184 s [0.179, 0.363], n = 3.
"""

import argparse
import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import ray
import ray.train.torch
from _report import alternate, bootstrap_median, finish, warn_if_busy
from _small_study import build_study, write_idx
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from raysweep.cluster.connection import connect
from raysweep.data import pipeline
from raysweep.data.images import PreparedData
from raysweep.data.sources import load_source
from raysweep.search.options import RunOptions
from raysweep.search.run import run_study
from raysweep.study import Study
from raysweep.train.loop import fit
from raysweep.train.precision import prepare_process
from raysweep.train.report import EpochReport

GOAL_S = 0.1


def train_here(study: Study, data: PreparedData, number: int, learning_rate: float) -> float:
    """The objective after the trial's `fit` alone, without Ray and checkpoints."""
    values: list[float] = []
    config = study.trial_config({"task.learning_rate": learning_rate}, number)
    fit(config, data, study.objective, report=lambda report: values.append(report.value))
    return values[-1]


def time_fit(study: Study, data: PreparedData, repeats: int) -> float:
    """Median seconds of `fit` alone."""
    durations = []
    for number in range(repeats):
        began = time.perf_counter()
        train_here(study, data, number, 1e-3)
        durations.append(time.perf_counter() - began)
    return statistics.median(durations)


def time_ours(folder: Path, storage: Path, threads: int, trials: int) -> float:
    """Seconds of a whole study, from connecting to Ray to results.json."""
    name = f"ours-{time.monotonic_ns()}"
    options = RunOptions(storage=storage, name=name, address="local", cpus_per_worker=threads, wandb="disabled")
    began = time.perf_counter()
    results = run_study(build_study(folder, trials), options).results
    duration = time.perf_counter() - began
    ray.shutdown()
    states = [trial.state for trial in results.trials]
    assert states == ["COMPLETE"] * trials, states
    return duration


def train_nested(config: dict[str, object], *, study: Study, data: PreparedData, threads: int, scratch: str) -> None:
    """A Tune function around a TorchTrainer with one worker."""

    def train_worker(_: dict[str, object]) -> None:
        prepare_process(threads)

        def send(report: EpochReport) -> None:
            ray.train.report({"value": report.value})

        trial_config = study.trial_config({"task.learning_rate": config["learning_rate"]}, 0)
        fit(trial_config, data, study.objective, report=send, prepare=ray.train.torch.prepare_model)

    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={},
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": threads}),
        run_config=ray.train.RunConfig(
            name=f"nested-{config['learning_rate']}",
            storage_path=scratch,
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
        ),
    )
    trainer.fit()


def time_nested(study: Study, data: PreparedData, threads: int, trials: int) -> float:
    """Seconds of a Tune run over trials with a TorchTrainer each; the driver of a trial holds no CPU."""
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        connect("local")
        trainable = functools.partial(train_nested, study=study, data=data, threads=threads, scratch=scratch)
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([{"memory": 1}])),
            param_space={"learning_rate": tune.loguniform(2e-4, 2e-3)},
            tune_config=tune.TuneConfig(metric="value", mode="max", num_samples=trials, max_concurrent_trials=1),
            run_config=tune.RunConfig(name="nested", storage_path=scratch, verbose=0),
        )
        results = tuner.fit()
        duration = time.perf_counter() - began
        ray.shutdown()
    assert results.num_errors == 0, results.errors
    return duration


def time_optuna(study: Study, data: PreparedData, trials: int) -> float:
    """Seconds of `study.optimize` around `fit`, in this process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        return train_here(study, data, trial.number, trial.suggest_float("learning_rate", 2e-4, 2e-3, log=True))

    began = time.perf_counter()
    optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0)).optimize(objective, trials)
    return time.perf_counter() - began


def slope(measure: Callable[[int], float], few: int, many: int) -> float:
    """Seconds that one more trial adds."""
    return (measure(many) - measure(few)) / (many - few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs=2, default=(3, 13), metavar=("FEW", "MANY"))
    parser.add_argument("--nested-trials", type=int, nargs=2, default=(1, 4), metavar=("FEW", "MANY"))
    parser.add_argument("--repeats", type=int, default=3, help="of each slope; default %(default)s")
    args = parser.parse_args()
    warn_if_busy()
    threads = len(os.sched_getaffinity(0))  # all cores, so that one trial runs at a time
    prepare_process(threads)
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        folder, storage = Path(temporary) / "idx", Path(temporary) / "runs"
        folder.mkdir()
        write_idx(folder)
        time_ours(folder, storage, threads, 1)
        study = build_study(folder, args.trials[1])
        source = load_source(str(folder), split_seed=study.data.split_seed, storage=storage)
        data, _ = pipeline.prepare(source, study.data, storage / ".cache")
        time_fit(study, data, 2)
        parts = {
            "ours": lambda: slope(lambda trials: time_ours(folder, storage, threads, trials), *args.trials),
            "fit": lambda: time_fit(study, data, 9),
            "optuna": lambda: slope(lambda trials: time_optuna(study, data, trials), *args.trials),
            "nested": lambda: slope(lambda trials: time_nested(study, data, threads, trials), *args.nested_trials),
        }
        runs = []
        for repeat in range(args.repeats):
            runs.append(alternate(parts, repeat))
            seconds = ", ".join(f"{name} {value:.3f}" for name, value in runs[-1].items())
            print(f"repeat {repeat}: seconds a trial: {seconds}", flush=True)
    overheads = {name: bootstrap_median([run[name] - run["fit"] for run in runs]) for name in parts if name != "fit"}
    for name, overhead in overheads.items():
        print(f"overhead a trial, {name}: {overhead} s")
    print(f"goal: ours at most {GOAL_S} s: {'met' if overheads['ours'].median <= GOAL_S else 'MISSED'}")
    finish(
        "trial_overhead",
        ratios={
            "nested_over_ours": bootstrap_median([(r["nested"] - r["fit"]) / (r["ours"] - r["fit"]) for r in runs])
        },
        n=len(runs),
        values={
            **{f"{name}_overhead_s": dataclasses.asdict(overhead) for name, overhead in overheads.items()},
            "threads": threads,
            "fit_s": statistics.median(run["fit"] for run in runs),
            "goal_s": GOAL_S,
        },
    )


if __name__ == "__main__":
    main()
