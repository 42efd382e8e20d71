"""The command line: parses, calls, prints, and turns errors into exit codes."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from raysweep.cli_options import (
    check_name,
    parse_duration,
    resolve_source,
    with_address,
    with_changes,
    with_storage,
    with_trial_size,
)
from raysweep.config import KEEP_LEADING
from raysweep.errors import RaysweepError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="raysweep")
def cli() -> None:
    """Hyperparameter search for image models on a Ray cluster."""


@cli.command(context_settings=CONTEXT)
@click.argument("study")
@with_changes
@click.option("--time-budget", metavar="2h", help="No new trial starts after this time.")
@click.option("--target", type=float, metavar="F", help="No new trial starts once one has reached this objective.")
@click.option(
    "--second-objective",
    metavar="METRIC[:DIRECTION]",
    help="Also model/num_parameters, model/latency_ms or val/NAME:maximize, for a Pareto front; no early stopping.",
)
@with_storage
@click.option("--name", metavar="NAME", help="The run's folder under storage; default: the study's name.")
@click.option("--resume", is_flag=True, help="Go on where the run stopped; with a larger --trials, extend it.")
@click.option("--allow-space-change", is_flag=True, help="Go on with another search space and the trials that fit it.")
@click.option(
    "--optuna-storage", metavar="URL", help="A database for the Optuna study; default: a file in the run's folder."
)
@with_address
@with_trial_size
@click.option(
    "--keep-checkpoints",
    type=click.IntRange(min=1),
    default=KEEP_LEADING,
    show_default=True,
    metavar="K",
    help="Models of so many leading trials stay, beside the baseline's.",
)
@click.option(
    "--wandb",
    "wandb_mode",
    type=click.Choice(["online", "offline", "disabled"]),
    help="Default: online with a key, else offline.",
)
@click.option(
    "--strategy",
    type=click.Choice(["default", "tpe", "random", "gp", "cmaes", "nsga2"]),
    help="What proposes trials: a model of learning curves, or one of Optuna's samplers.",
)
@click.option(
    "--pruner",
    type=click.Choice(["default", "asha", "hyperband", "median", "none"]),
    help="What stops trials early: the model of learning curves, or one of Optuna's pruners.",
)
@click.option("--finalists", type=int, metavar="K", help="Trains the K best configurations and the baseline again.")
@click.option("--seeds", type=int, metavar="S", help="With how many seeds each of the --finalists.")
def tune(
    study: str,
    data: str | None,
    trials: int | None,
    max_epochs: int | None,
    time_budget: str | None,
    target: float | None,
    second_objective: str | None,
    storage: Path,
    name: str | None,
    resume: bool,
    allow_space_change: bool,
    optuna_storage: str | None,
    address: str | None,
    workers: int,
    cpus_per_worker: float | None,
    gpus_per_worker: float | None,
    keep_checkpoints: int,
    settings: tuple[str, ...],
    wandb_mode: str | None,
    seed: int | None,
    strategy: str | None,
    pruner: str | None,
    finalists: int | None,
    seeds: int | None,
) -> None:
    """Search, then the final test evaluation and the report.

    STUDY is a name in search_spaces/ or a path to such a file. With --resume, what the first start said of the study
    (--data, --trials, --max-epochs, --time-budget, --target, --second-objective, --set, --seed, --strategy, --pruner,
    --finalists, --seeds) holds unless it is said again.
    """
    from raysweep.search.overrides import Overrides
    from raysweep.studies import load_study

    check_name(name or "default")
    loaded = load_study(study)
    run = storage.resolve() / (name or loaded.name)
    overrides = Overrides(
        data=resolve_source(data),
        trials=trials,
        max_epochs=max_epochs,
        time_s=parse_duration(time_budget) if time_budget else None,
        target=target,
        settings=settings,
        seed=seed,
        sampler=strategy,  # type: ignore[arg-type]
        pruner=pruner,  # type: ignore[arg-type]
        finalists=finalists,
        seeds=seeds,
        second_objective=second_objective,
    )
    if resume:
        from raysweep.search.resume import load_overrides

        overrides = overrides.over(load_overrides(run))
    resolved = overrides.apply(loaded)
    from raysweep.search.options import RunOptions  # slow: after what can be refused without it
    from raysweep.search.run import run_study
    from raysweep.search.summary import describe_results
    from raysweep.tracking import default_mode

    options = RunOptions(
        storage=run.parent,
        name=run.name,
        resume=resume,
        allow_space_change=allow_space_change,
        optuna_storage=optuna_storage,
        overrides=overrides,
        address=address,
        num_workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        keep_checkpoints=keep_checkpoints,
        wandb=wandb_mode or default_mode(),  # type: ignore[arg-type]
        data_root=data_root(),
    )
    click.echo(describe_results(run_study(resolved, options), options.run))


@cli.command(context_settings=CONTEXT)
@click.argument("study")
@with_changes
@with_storage
@with_address
@with_trial_size
@click.option(
    "--cluster",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A cluster's configuration with prices of its nodes; default: this head's, else ./cluster.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def plan(
    study: str,
    data: str | None,
    trials: int | None,
    max_epochs: int | None,
    settings: tuple[str, ...],
    seed: int | None,
    storage: Path,
    address: str | None,
    workers: int,
    cpus_per_worker: float | None,
    gpus_per_worker: float | None,
    cluster: Path | None,
    as_json: bool,
) -> None:
    """What `tune` would take, after a short probe: concurrency, memory, disk, time, and cost where there are prices.

    Exit code 0: it fits; 2: it does not, with the arithmetic. Images are decoded, and are then there for `tune`.
    """
    from raysweep.search.overrides import Overrides
    from raysweep.studies import load_study

    overrides = Overrides(data=resolve_source(data), trials=trials, max_epochs=max_epochs, settings=settings, seed=seed)
    resolved = overrides.apply(load_study(study))
    from raysweep.plan.plan import describe_plan, plan_to_json
    from raysweep.plan.probe import find_cluster, plan_study
    from raysweep.search.options import RunOptions  # slow: after what can be refused without it

    options = RunOptions(
        storage=storage.resolve(),
        name=resolved.name,
        address=address,
        num_workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        data_root=data_root(),
    )
    made = plan_study(resolved, options, cluster or find_cluster())
    click.echo(json.dumps(plan_to_json(made), indent=2) if as_json else describe_plan(made))


@cli.command(context_settings=CONTEXT)
@click.argument("run", type=click.Path(path_type=Path))
def evaluate(run: Path) -> None:
    """The test evaluation of a RUN's folder again; recorded as a further opening of the test split."""
    from raysweep.search.again import evaluate_again

    test = evaluate_again(run.resolve(), data_root())
    click.echo((run / "test" / test["report"]).read_text(), nl=False)
    click.echo(f"The test split of this run has been opened {test['openings']} times.")


@cli.command(context_settings=CONTEXT)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a line for each image.")
def predict(run: Path, images: tuple[Path, ...], as_json: bool) -> None:
    """Label and confidence for each of IMAGES, or a rejection, from the best model of a RUN's folder."""
    from raysweep.predict import predict_files

    rows = predict_files(run.resolve(), images)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    for row in [] if as_json else rows:
        click.echo(f"{row['image']}: {describe_prediction(row)}", err="error" in row)
    if any("error" in row for row in rows):
        sys.exit(1)


@cli.command(context_settings=CONTEXT)
def studies() -> None:
    """The studies there are: task, data, space and baseline."""
    from raysweep.studies import list_studies, load_study

    for name, path in list_studies().items():
        study = load_study(str(path))
        click.echo(
            f"{name}  ({study.task.kind} on {study.data.source}, "
            f"{', '.join(f'{objective.direction} {objective.metric}' for objective in study.objectives)})"
        )
        width = max(len(key) for key, _ in study.all_distributions())
        for key, distribution in study.all_distributions():
            baseline = f"   baseline {study.baseline[key]}" if key in study.baseline else ""
            click.echo(f"  {key:<{width}}  {distribution}{baseline}")


@cli.command(context_settings=CONTEXT)
@with_address
@with_storage
@click.option("--study", metavar="STUDY", help="Also looks whether every node can read this study's images.")
@click.option("--data", metavar="PATH|sample", help="Images in place of the study's own.")
@with_trial_size
@click.option("--remove-leaked", is_flag=True, help="First removes placement groups whose jobs have ended.")
def doctor(
    address: str | None,
    storage: Path,
    study: str | None,
    data: str | None,
    workers: int,
    cpus_per_worker: float | None,
    gpus_per_worker: float | None,
    remove_leaked: bool,
) -> None:
    """What is wrong with a cluster, a line for each check, with the command that mends it.

    Exit code 0: nothing is wrong; 1: something is.
    """
    from raysweep.search.overrides import Overrides
    from raysweep.studies import load_study

    resolved = Overrides(data=resolve_source(data)).apply(load_study(study)) if study else None
    from raysweep.cluster import doctor as cluster

    if remove_leaked:
        click.echo(f"removed {len(cluster.remove_leaked(address))} placement groups of ended jobs", err=True)
    findings = cluster.diagnose(
        cluster.Question(
            storage=storage.resolve(),
            address=address,
            study=resolved,
            data_root=data_root(),
            num_workers=workers,
            cpus_per_worker=cpus_per_worker,
            gpus_per_worker=gpus_per_worker,
        )
    )
    for finding in findings:
        click.echo(finding)
    if not all(finding.ok for finding in findings):
        sys.exit(1)


def describe_prediction(row: dict[str, Any]) -> str:
    """What is known of one image, for a person."""
    if "error" in row:
        return str(row["error"])
    if row["rejected"]:
        return f"rejected: none of the classes (score {row['score']:.2f}, at least {row['threshold']:.2f} is accepted)"
    return f"{row['label']} ({row['confidence']:.1%})"


def data_root() -> Path | None:
    """The folder in RAYSWEEP_DATA, which may hold mnist/ and fashion-mnist/."""
    value = os.environ.get("RAYSWEEP_DATA")
    return Path(value).expanduser().resolve() if value else None


def main(args: list[str] | None = None) -> None:
    """The console script: exit code 0 done, 1 the work failed, 2 wrong usage or config, 130 interrupted."""
    args = sys.argv[1:] if args is None else args
    command: click.Command = cli
    prog_name = "raysweep"
    if getattr(sys.modules["__main__"], "__package__", None) == "platform":  # the door: its module names the verb
        command, prog_name, args = cli.commands[args[0]], f"python -m platform.{args[0]}", args[1:]
    try:
        command.main(args=args, prog_name=prog_name, standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RaysweepError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what is done is stored in the run's folder: go on with --resume", err=True)
        sys.exit(130)
