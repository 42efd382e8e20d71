"""`tune`: a search, then the final test evaluation and the report."""

from pathlib import Path

import click

from raysweep.commands import options as shared
from raysweep.config import KEEP_LEADING
from raysweep.run_folder import RunFolder


@click.command(context_settings=shared.CONTEXT)
@click.argument("study")
@shared.with_changes
@click.option("--time-budget", metavar="2h", help="No new trial starts after this time.")
@click.option("--target", type=float, metavar="F", help="No new trial starts once one has reached this objective.")
@click.option(
    "--second-objective",
    metavar="METRIC[:DIRECTION]",
    help="Also model/num_parameters, model/latency_ms or val/NAME:maximize, for a Pareto front; no early stopping.",
)
@shared.with_storage
@click.option("--name", metavar="NAME", help="The run's folder under storage; default: the study's name.")
@click.option("--resume", is_flag=True, help="Go on where the run stopped; with a larger --trials, extend it.")
@click.option("--allow-space-change", is_flag=True, help="Go on with another search space and the trials that fit it.")
@click.option(
    "--optuna-storage", metavar="URL", help="A database for the Optuna study; default: a file in the run's folder."
)
@shared.with_address
@shared.with_trial_size
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
    metavar="NAME",
    help="What proposes trials: default (a model of learning curves), tpe, random, gp, cmaes, nsga2, or one of your "
    "own: a package's, or FILE.py:NAME.",
)
@click.option(
    "--pruner",
    metavar="NAME",
    help="What stops trials early: default (the model of learning curves), asha, hyperband, median, none, or one of "
    "your own: a package's, or FILE.py:NAME.",
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
    from raysweep.catalogue import load_study
    from raysweep.search.overrides import Overrides

    shared.check_name(name or "default")
    loaded = load_study(study)
    run_folder = RunFolder(storage.resolve() / (name or loaded.name))
    overrides = Overrides(
        data=shared.resolve_source(data),
        trials=trials,
        max_epochs=max_epochs,
        time_s=shared.parse_duration(time_budget) if time_budget else None,
        target=target,
        settings=settings,
        seed=seed,
        sampler=strategy,
        pruner=pruner,
        finalists=finalists,
        seeds=seeds,
        second_objective=second_objective,
    )
    if resume:
        from raysweep.search.session.identity import load_overrides

        overrides = overrides.over(load_overrides(run_folder))
    resolved = overrides.apply(loaded)
    from raysweep.search.options import RunOptions  # slow: after what can be refused without it
    from raysweep.search.run import run_study
    from raysweep.search.summary import describe_results
    from raysweep.tracking import default_mode

    options = RunOptions(
        storage=run_folder.storage,
        name=run_folder.path.name,
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
        data_root=shared.data_root(),
    )
    outcome = run_study(resolved, options)
    click.echo(describe_results(outcome.results, options.run_folder, outcome.sync_command))
