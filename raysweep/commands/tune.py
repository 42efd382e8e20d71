"""`tune`: a search, then the final test evaluation and the report."""

from typing import Any

import click

from raysweep.commands.options import CONTEXT, describe_resume, with_flags
from raysweep.search.flags import list_flags
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides

KEPT = ", ".join(flag.names[0] for flag in list_flags(Overrides))


@click.command(
    context_settings=CONTEXT,
    epilog=f"With --resume, what the first start said of the study ({KEPT}) holds unless it is said again.",
)
@click.argument("study")
@with_flags(Overrides)
@with_flags(RunOptions)
def tune(study: str, **values: Any) -> None:
    """Search, then the final test evaluation and the report.

    STUDY is a name in search_spaces/ or a path to such a file; or a folder of images, for which a study is proposed and
    written as NAME.py into the storage, beside the run.
    """
    from raysweep.proposal.run_study import find_run_study
    from raysweep.search.preflight import check_start
    from raysweep.search.start import resolve_search

    resolved, options = resolve_search(find_run_study(study, values), values)
    source = check_start(resolved, options)
    from raysweep.search.run import run_study  # slow: after what can be refused without it
    from raysweep.search.summary import describe_results

    try:
        outcome = run_study(resolved, options, source)
    except KeyboardInterrupt:
        resume = describe_resume(click.get_current_context())
        raise click.Abort(options.run_folder.describe_interruption(resume)) from None
    click.echo(describe_results(outcome.results, options.run_folder, outcome.sync_command))
