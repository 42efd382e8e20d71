"""How much sooner the default strategy finds what random search finds, on simulated workers and learning curves.

Claim: at least 3 times as fast as random search and 1.5 times as fast as the best other strategy.

Curves: those recorded from the Fashion CNN (15 epochs, 9 hyperparameters; see _recorded.py), task `fashion_cnn`; and
LCBench (52 epochs of small networks, 7 hyperparameters) by YAHPO Gym's surrogate, whose folder is the argument
(github.com/slds-lmu/yahpo_data, lcbench, Apache-2.0), which needs onnxruntime. Strategies: production's own objects
over an in-memory Optuna study, driven by an event queue instead of Ray. The budget is 20 full trainings shared by all
workers; an epoch costs 1, or with `--cost seconds` the curves' own time. The strategy's own CPU time is charged: a
worker that asks waits for it, and for the workers that asked before (a second counts as so many epochs as take a second
on the task on average). Paired by task and seed.

Figures: what was spent to reach random search's median final value (never: twice the budget), as a ratio, geometric
mean over tasks with a bootstrap interval over tasks and seeds; and the mean rank at 25, 50 and 100 % of the budget.

    .venv/bin/python benchmarks/search_efficiency.py [FOLDER] --runs runs.jsonl  # 1 h on one core, 6 min without FOLDER

Runs are kept in a JSON-lines file and not repeated, so that it can be done in pieces (`--for 280` seconds each).
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import optuna
from _efficiency import SHARES, Comparison, Run, Runs, geometric_mean
from _lcbench import DEVELOPMENT_TASKS, LCBench
from _peers import BASE, METHODS, OURS
from _recorded import TASK, Recorded
from _report import finish, give_up
from _simulate import Task, simulate

FULL_TRAININGS = 20


def run_missing(args: argparse.Namespace) -> bool:
    """Runs what the file lacks, seed by seed; returns whether all is there."""
    deadline = time.monotonic() + args.seconds
    done = load_runs(args)
    tasks: dict[str, Task] = {}
    for seed in range(args.seeds):
        for task in args.tasks:
            missing = [method for method in args.methods if (task, seed, method) not in done]
            if missing and task not in tasks:
                tasks[task] = Recorded() if task == TASK else LCBench(args.folder, task)
            for method in missing:
                if time.monotonic() > deadline:
                    return False
                record = {"task": task, **run_one(tasks[task], seed, method, args)}
                with args.runs.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    return True


def run_one(task: Task, seed: int, method: str, args: argparse.Namespace) -> dict[str, object]:
    """One simulated search as a line of the file, but for the task's name."""
    by_epoch = args.cost == "epochs"
    study = task.build_study(trials=10**6, seed=seed)
    num_epochs = study.training.epochs
    budget = FULL_TRAININGS * num_epochs * (1.0 if by_epoch else task.mean_epoch_s)
    outcome = simulate(
        METHODS[method].build(study),
        lambda params: (task.load(params)[0], [1.0] * num_epochs) if by_epoch else task.load(params),
        workers=args.workers,
        budget=budget,
        cost_of_second=1 / task.mean_epoch_s if by_epoch else 1.0,
    )
    return {
        "cost": args.cost,
        "workers": args.workers,
        "seed": seed,
        "method": method,
        "budget": budget,
        "improvements": outcome.improvements,
        "decision_s": round(outcome.decision_s, 4),
        "trials": outcome.trials,
        "full_trials": outcome.full_trials,
    }


def load_runs(args: argparse.Namespace) -> Runs:
    """The file's runs of this cost, number of workers and these tasks."""
    runs = {}
    for line in args.runs.read_text().splitlines() if args.runs.is_file() else ():
        row = json.loads(line)
        if (row.pop("cost"), row.pop("workers")) == (args.cost, args.workers) and row["task"] in args.tasks:
            row.pop("full_trials")
            runs[row["task"], row["seed"], row["method"]] = Run(**row)
    return runs


def print_table(comparison: Comparison) -> None:
    """Each strategy's speed-up over random search and mean ranks, and the default's speed-up task by task."""
    print(f"{'':28} speed-up over random   rank at {', '.join(f'{share:.0%}' for share in SHARES)}   ms a trial")
    for method in comparison.methods:
        speedup = geometric_mean(comparison.log_speedups(method, BASE))
        ranks = "  ".join(f"{rank:.2f}" for rank in comparison.ranks(method))
        interval = f"{speedup.median:.2f} [{speedup.low:.2f}, {speedup.high:.2f}]"
        print(f"{method:28} {interval:22} {ranks:20} {comparison.decision_ms(method):.1f}")
    if OURS in comparison.methods:
        print(f"{OURS} over random, task by task:")
        for task, logs in comparison.log_speedups(OURS, BASE).items():
            speedup = geometric_mean({task: logs})
            print(f"  {task:11} {speedup.median:5.2f} [{speedup.low:.2f}, {speedup.high:.2f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="YAHPO Gym's lcbench folder: model.onnx, encoding.json")
    parser.add_argument("--runs", type=Path, default=Path("search_efficiency.jsonl"), help="default %(default)s")
    parser.add_argument("--tasks", nargs="+", help=f"default: {TASK}, and with a folder LCBench's to develop on")
    parser.add_argument("--seeds", type=int, default=20, help="default %(default)s")
    parser.add_argument("--workers", type=int, default=4, help="default %(default)s")
    parser.add_argument("--cost", choices=("epochs", "seconds"), default="epochs", help="default %(default)s")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--for", dest="seconds", type=float, default=float("inf"), help="stop after so many seconds")
    args = parser.parse_args()
    args.tasks = args.tasks or [TASK, *(DEVELOPMENT_TASKS if args.folder else ())]
    if args.folder is None and args.tasks != [TASK]:
        give_up(f"LCBench's tasks need its folder as the argument; without it --tasks must be {TASK}, got {args.tasks}")
    if BASE not in args.methods:
        give_up(f"--methods must have {BASE!r}, what the others are compared with; got {args.methods}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if not run_missing(args):
        print("not all is done: run this again")
        raise SystemExit(3)
    comparison = Comparison(load_runs(args), args.methods)
    print_table(comparison)
    n = sum(len(seeds) for seeds in comparison.seeds.values())
    peers = [method for method in args.methods if method not in (OURS, BASE)]
    ratios = {f"{m} / random": geometric_mean(comparison.log_speedups(m, BASE)) for m in args.methods if m != BASE}
    values: dict[str, object] = {"tasks": comparison.tasks, "workers": args.workers, "cost": args.cost}
    if peers and OURS in args.methods:
        best = max(peers, key=lambda peer: ratios[f"{peer} / random"].median)
        ratios["default / best peer"] = geometric_mean(comparison.log_speedups(OURS, best))
        values |= {"best_peer": best, "ranks": {m: comparison.ranks(m) for m in args.methods}}
    finish("search_efficiency", ratios=ratios, n=n, values=values)


if __name__ == "__main__":
    main()
