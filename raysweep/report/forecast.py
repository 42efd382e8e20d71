"""Forecasts where running trials will end, by the model of learning curves that the default strategy uses."""

from optuna.trial import TrialState

from raysweep import config_fields
from raysweep.config import DataConfig, TrainingConfig
from raysweep.distributions import When
from raysweep.errors import RaysweepError
from raysweep.file_guard import decoding
from raysweep.report.run_view import RunView, parse_distribution
from raysweep.search.strategy.curve_model import CurveModel, Forecast, build_final_points
from raysweep.study import Study
from raysweep.task_config import load_task_config


def forecast_running(view: RunView) -> dict[int, Forecast]:
    """Forecasts the final value of each running trial by its number; of those that the model cannot judge yet none."""
    is_running = any(trial.state == TrialState.RUNNING for trial in view.trials)
    if view.optuna_study is None or len(view.objectives) > 1 or not is_running:
        return {}
    try:
        model = CurveModel(load_study(view))
    except (RaysweepError, ValueError):  # a task of somebody's own, or a study of an earlier version
        return {}
    final = model.predict_final_values(view.optuna_study)
    running = [] if final is None else [curve for curve in final.curves if curve.state == TrialState.RUNNING]
    if final is None or not running:
        return {}
    forecasts = final.forecast(build_final_points(running))
    return {curve.number: forecast for curve, forecast in zip(running, forecasts, strict=True)}


def load_study(view: RunView) -> Study:
    """Builds the study of a run again from study.json.

    Raises:
        RaysweepError, ValueError: its task is code that may not be run, or it is none that this version knows.
    """
    stored = view.study
    task = dict(stored["task"])
    with decoding():
        return Study(
            name=stored["name"],
            task=load_task_config(task.pop("kind"), task),
            data=config_fields.from_json(DataConfig, stored["data"]),
            training=config_fields.from_json(TrainingConfig, stored["training"]),
            space={key: parse_distribution(values) for key, values in stored["space"].items()},
            conditions=tuple(
                When(
                    condition["key"],
                    values if isinstance(values := condition["values"], str) else tuple(values),
                    {key: parse_distribution(found) for key, found in condition["space"].items()},
                )
                for condition in stored.get("conditions", ())
            ),
            objective=view.objectives[0],
        )
