"""Runs a stage of a run in which trials train, the search or that of its finalists, and shows how far it is."""

from collections.abc import Callable, Sequence

from raysweep.search.control import Control
from raysweep.search.control_files import CommandBox
from raysweep.search.launch import SearchContext, launch_trials
from raysweep.search.live_table import LiveTable
from raysweep.search.observer import Observer
from raysweep.search.pareto import announce_two_objectives
from raysweep.search.progress import SearchProgress
from raysweep.search.progress_lines import ProgressLines
from raysweep.search.status import SEARCH, StatusFile
from raysweep.search.strategy.strategy import Strategy
from raysweep.stages import format_duration, tell
from raysweep.storage_faults import say


def run_trial_stage(
    name: str,
    context: SearchContext,
    strategy: Strategy,
    observers: Sequence[Observer],
    status: StatusFile,
    save_num_trials: Callable[[int], None] | None = None,
) -> None:
    """Runs the trials that are to go on or to start, as the stage of that name.

    save_num_trials: keeps another number of trials, where there may be one.

    Raises:
        StorageError: the storage is at fault; no trial is told to have failed by that.
        Interrupted: the stage is to end; what ran goes on when it is resumed.
    """
    study, num_trials = context.study, context.study.budget.trials
    searched_s = status.searched_s if name == SEARCH else 0.0
    deadline = context.find_deadline(searched_s)
    progress = SearchProgress(study.objectives, num_trials, deadline, strategy.results(), strategy.num_reported)
    control = Control(CommandBox(status.folder), progress, save_num_trials)
    status.enter(name, progress)  # from here on commands are sent: it is after the box has removed earlier ones
    if not strategy.has_work(only_resumed=strategy.is_late(deadline)):
        if strategy.has_work():
            tell(
                f"{name}: it has taken {format_duration(searched_s)} in all sessions, more than its time budget; "
                "a longer --time-budget goes on"
            )
        control.close()
        return
    announce_two_objectives(study)
    side_by_side = min(context.concurrency, num_trials)
    tell(f"{name}: {num_trials} trial{'s' * (num_trials != 1)}, {side_by_side} side by side")
    try:
        with LiveTable(progress, study.task.metrics) as table:
            shown = table if table.is_shown else ProgressLines(progress)
            launch_trials(context, strategy, [progress, *observers, shown, status], deadline, control)
    except KeyboardInterrupt:
        now = progress.take_snapshot()
        say(f"{now.describe_counts()}; {now.describe_best()}")
        raise
    finally:
        control.close()
