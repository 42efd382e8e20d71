"""A search of 2,000 trials of nothing with a kill every 20 s: what it keeps in memory and on disk.

Claims: every trial is there once; the driver's memory grows by at most 100 MB for 1,000 trials, and a trial costs the
journal as many bytes at the end as at the start.

Ours: `raysweep tune` as the command line runs it, the default strategy, on a Ray of its own; a trial is one step of a
model of one weight a pixel (`_nothing.py`). Every 20 s the process of a trial is killed, every 15th time the driver
instead, which is then resumed. Memory is the driver's resident set, once a second; its growth is a slope over the
trials begun, with an intercept for each driver, without each driver's first 100 trials. A trial's bytes are those by
which the journal grew in the first and in the last quarter of the trials. There is no peer: Ray Tune goes on after
neither kill.

    .venv/bin/python benchmarks/soak.py        # about 20 min on 2 cores
"""

import argparse
import dataclasses
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import psutil  # type: ignore[import-untyped]
from _report import bootstrap_median, finish, give_up, warn_if_busy
from _small_study import write_idx

from raysweep.chaos.check import check_journal
from raysweep.chaos.processes import TRIAL
from raysweep.chaos.victim import Setting, Victim
from raysweep.search.results import load_results
from raysweep.search.session.storage import open_storage

WARM_UP = 100
MEMORY_GOAL_MB = 100.0
JOURNAL_GOAL = 1.2


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """What is seen from outside at one moment."""

    session: int
    trials: int
    """Begun so far."""
    memory_mb: float
    """Resident set of the driver; 0: it was not there."""
    journal_bytes: int


def look(victim: Victim) -> Sample:
    try:
        memory = psutil.Process(victim.driver.pid).memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        memory = 0.0
    folder = victim.folder
    trials = sum(1 for _ in folder.trials.iterdir()) if folder.trials.exists() else 0
    size = folder.journal.stat().st_size if folder.journal.exists() else 0
    return Sample(victim.num_sessions, trials, memory, size)


def soak(victim: Victim, period_s: float, driver_every: int) -> tuple[list[Sample], dict[str, int]]:
    """Runs the search to its end with kills; returns what was seen once a second, and how many of what were killed."""
    samples: list[Sample] = []
    kills = {"trial": 0, "driver": 0}
    victim.start()
    next_kill, begun = time.monotonic() + period_s, 0
    while victim.driver.poll() is None:
        time.sleep(1)
        samples.append(look(victim))
        if samples[-1].trials == begun:  # it still starts: every kill is to cost something
            next_kill = max(next_kill, time.monotonic() + period_s / 4)
        if time.monotonic() < next_kill:
            continue
        begun = samples[-1].trials
        next_kill = time.monotonic() + random.uniform(0.5, 1.5) * period_s
        if sum(kills.values()) % driver_every == driver_every - 1:
            victim.send(signal.SIGKILL)
            victim.start()
            kills["driver"] += 1
        elif victim.processes.kill_actor(TRIAL):
            kills["trial"] += 1
    return samples, kills


def fit_memory(samples: list[Sample]) -> tuple[float, float]:
    """The driver's growth in MB for 1,000 trials (0 where no driver saw more than WARM_UP), and its largest size."""
    rows = [sample for sample in samples if sample.memory_mb]
    first: dict[int, int] = {}
    for row in rows:
        if row.trials:
            first.setdefault(row.session, row.trials)
    warm = [row for row in rows if row.trials >= first.get(row.session, row.trials) + WARM_UP]
    if len(warm) < 3:
        return 0.0, max(row.memory_mb for row in rows)
    sessions = sorted({row.session for row in warm})
    design = np.array([[row.trials / 1000, *(row.session == session for session in sessions)] for row in warm], float)
    slope = np.linalg.lstsq(design, np.array([row.memory_mb for row in warm]), rcond=None)[0][0]
    return float(slope), max(row.memory_mb for row in rows)


def measure_journal(samples: list[Sample], num_trials: int) -> tuple[float, float]:
    """Bytes of the journal for a trial, in the first and in the last quarter of the trials."""
    trials = np.array([sample.trials for sample in samples])
    size = np.array([sample.journal_bytes for sample in samples])
    marks = np.interp([0, num_trials / 4, 3 * num_trials / 4, num_trials], trials, size)
    return float(marks[1] - marks[0]) / (num_trials / 4), float(marks[3] - marks[2]) / (num_trials / 4)


def check_books(victim: Victim, num_trials: int) -> list[str]:
    """What is not as it should be: empty where every trial is there once, and complete."""
    results = load_results(victim.folder)
    (name,) = optuna.get_all_study_names(storage := open_storage(victim.folder, None))
    problems = list(check_journal(optuna.load_study(study_name=name, storage=storage).trials, victim.folder))
    if [trial.number for trial in results.trials] != list(range(num_trials)):
        problems.append(f"{len(results.trials)} trials in place of {num_trials}")
    return problems + [
        f"trial {trial.number} is {trial.state}" for trial in results.trials if trial.state != "COMPLETE"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--period", type=float, default=20.0, help="seconds between kills, on average")
    parser.add_argument("--driver-every", type=int, default=15, help="every so manieth kill is the driver's")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs below is ended too
    warn_if_busy()
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        folder = Path(temporary)
        data = folder / "idx"
        data.mkdir()
        write_idx(data)
        setting = Setting(
            study_file=Path(__file__).with_name("_nothing.py"),
            storage=folder / "runs",
            logs=folder,
            data=str(data),
            flags=("--trials", str(args.trials)),
        )
        victim = Victim(setting, "soak")
        began = time.monotonic()
        try:
            samples, kills = soak(victim, args.period, args.driver_every)
            if victim.driver.returncode != 0:
                give_up(f"the search ended with exit code {victim.driver.returncode}:\n{victim.read_log()[-4000:]}")
            duration_s = time.monotonic() - began
            problems = check_books(victim, args.trials)
        finally:
            victim.clear()
    growth_mb, largest_mb = fit_memory(samples)
    first_bytes, last_bytes = measure_journal(samples, args.trials)
    for session in range(1, victim.num_sessions + 1):
        own = [sample for sample in samples if sample.session == session and sample.memory_mb]
        if own:
            print(
                f"driver {session}: trials {own[0].trials} to {own[-1].trials}, {own[-1].memory_mb:,.0f} MB at its end"
            )
    print(f"{args.trials} trials in {duration_s:,.0f} s; killed: {kills['trial']} of trials, {kills['driver']} drivers")
    print(f"memory of the driver: {growth_mb:+.1f} MB for 1,000 trials, at most {largest_mb:,.0f} MB")
    print(f"journal: {first_bytes:,.0f} bytes a trial in the first quarter, {last_bytes:,.0f} in the last")
    print("\n".join(problems) or "every trial is there once, and complete")
    is_bounded = not problems and growth_mb <= MEMORY_GOAL_MB and last_bytes <= JOURNAL_GOAL * first_bytes
    print(f"goal: {'met' if is_bounded else 'MISSED'}")
    finish(
        "soak",
        ratios={"journal_last_over_first_quarter": bootstrap_median([last_bytes / first_bytes])},
        n=args.trials,
        values={
            "memory_growth_mb_per_1000_trials": growth_mb,
            "driver_memory_mb": largest_mb,
            "journal_bytes_a_trial": last_bytes,
            "kills": kills,
            "duration_s": duration_s,
            "problems": problems,
        },
    )
    raise SystemExit(not is_bounded)


if __name__ == "__main__":
    main()
