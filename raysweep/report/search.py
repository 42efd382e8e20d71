"""Builds the report's sections on the search."""

from optuna import visualization

from raysweep.report.run_view import RunView
from raysweep.report.section import Section, render_chart


def build_search_sections(view: RunView) -> list[Section]:
    """Returns the sections on how the search went."""
    study = view.optuna_study
    if study is None or len(view.objectives) > 1:
        return []
    figure = visualization.plot_optimization_history(study, target_name=view.objectives[0].metric)
    return [
        Section(
            title="History",
            how_to_read="Each dot is a trial; the line is the best value up to then.",
            html=render_chart(figure, "The objective of each trial, and the best so far."),
        )
    ]
