"""Compares runs on the same test images: their figures with intervals, and how their best configurations differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from scipy.stats import t as student

from raysweep import config_fields
from raysweep.atomic_files import Json
from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.errors import UsageError
from raysweep.evaluate.statistics import Lift, bootstrap_mean_difference, paired_bootstrap
from raysweep.evaluate.test_scores import TestScores
from raysweep.registry import load_object
from raysweep.report.run_view import RunView
from raysweep.search.results import Results
from raysweep.tasks import TASKS

CONFIDENCE = 0.95
NOT_THERE = "not there"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRun:
    """Holds what is compared of a run."""

    name: str
    num_trials: int
    best_trial: int
    val_value: float
    """The objective of the best trial, on validation images."""
    test_value: float
    low: float | None
    """Lower end of the test value's 95 % interval; none: there is none."""
    high: float | None
    against_first: Lift | None
    """Its test value minus the first run's, image by image; none: it is the first, or single images are not known."""
    baseline_value: float | None
    """The baseline's test value; none: it failed, or the task has none."""
    openings: int
    """How often its test split has been opened."""
    note: str
    config: Mapping[str, Any]
    """Dotted fields of the best configuration that are not the same in all runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Holds runs of one task and objective on the same images; the others are compared with the first."""

    objective: Objective
    metric: str
    """The test images' figure that is compared."""
    direction: Literal["maximize", "minimize"]
    """Which values of it are better."""
    data_source: str
    data_digest: str
    num_images: int
    """Test images."""
    synthetic: bool
    runs: tuple[ComparedRun, ...]

    def to_json(self) -> Json:
        """Returns plain JSON values."""
        values = config_fields.to_json(self)
        for row, run in zip(values["runs"], self.runs, strict=True):
            if run.against_first is not None:
                row["against_first"]["includes_zero"] = run.against_first.includes_zero
        return values


def compare_runs(views: Sequence[RunView]) -> Comparison:
    """Compares finished runs.

    Raises:
        UsageError: there are fewer than two, one is not finished, or they are not comparable: other images, task or
            objective, or two networks that judge.
        CorruptFileError: a file of one is damaged.
    """
    if len(views) < 2:
        raise UsageError(f"a comparison takes two runs or more, got {len(views)}: name another RUN")
    results = [_require_results(view) for view in views]
    _check_comparable(views, results)
    scores = [load_scores(view, found) for view, found in zip(views, results, strict=True)]
    _require_same(views, "test figure", [score.metric for score in scores], "run `evaluate` on them")
    _require_same(views, "judge", [score.instrument for score in scores], "give runs whose images one network judges")
    configs = [_flatten_config(view, found) for view, found in zip(views, results, strict=True)]
    keys = sorted({key for config in configs for key in config})
    differing = [key for key in keys if len({repr(config.get(key, NOT_THERE)) for config in configs}) > 1]
    names = _name_runs(views)
    runs = []
    for index, (name, found, score) in enumerate(zip(names, results, scores, strict=True)):
        low, high = measure_interval(score)
        runs.append(
            ComparedRun(
                name=name,
                num_trials=len(found.trials),
                best_trial=found.best.number,
                val_value=float(found.best.value or 0.0),
                test_value=score.value,
                low=low,
                high=high,
                against_first=_compare_images(score, scores[0]) if index else None,
                baseline_value=(found.test.baseline or {}).get(score.metric),
                openings=found.test.openings,
                note=score.note,
                config={key: configs[index].get(key, NOT_THERE) for key in differing},
            )
        )
    first = results[0]
    return Comparison(
        objective=first.objective,
        metric=scores[0].metric,
        direction=scores[0].direction,
        data_source=first.data.source,
        data_digest=first.data.digest,
        num_images=first.test.num_images,
        synthetic=first.data.synthetic,
        runs=tuple(runs),
    )


def load_scores(view: RunView, results: Results) -> TestScores:
    """Loads what a run scored on its test images, as its task tells it.

    Raises:
        UsageError: the task is somebody's own code that this process has not imported, or has no such figure.
        CorruptFileError: a file is damaged.
    """
    kind = view.study["task"]["kind"]
    TASKS.refuse_foreign(kind, "where you know who wrote it, say --trust-code")
    reference = TASKS.load(kind).test_scores
    if reference is not None:
        scores: TestScores = load_object(reference)(view.folder, results)
        return scores
    metric = results.objective.metric.partition("/")[2]
    if metric not in results.test.own:
        raise UsageError(
            f"the test figures of {view.folder.path} must have the objective's, {metric}, got "
            f"{', '.join(results.test.own) or 'none'}; a task names in `test_scores` what else is to be compared"
        )
    return TestScores(metric=metric, direction=results.objective.direction, value=float(results.test.own[metric]))


def measure_interval(scores: TestScores) -> tuple[float, float] | tuple[None, None]:
    """Computes the 95 % interval of a mean over images; none where it is no such mean.

    Of shares Wilson's, else Student's t. It covers the choice of test images, not the seed of training.
    """
    values = scores.by_image
    if values is None or len(values) < 2:
        return None, None
    if _are_shares(values):
        share = binomtest(int(values.sum()), len(values)).proportion_ci(CONFIDENCE, method="wilson")
        return float(share.low), float(share.high)
    half = student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return scores.value - float(half), scores.value + float(half)


def _compare_images(scores: TestScores, first: TestScores) -> Lift | None:
    """Compares two runs image by image: what makes an image hard for both drops out."""
    values, others = scores.by_image, first.by_image
    if values is None or others is None:
        return None
    if _are_shares(values) and _are_shares(others):
        return paired_bootstrap(values == 1, others == 1, confidence=CONFIDENCE)
    return bootstrap_mean_difference(values, others, confidence=CONFIDENCE)


def _are_shares(values: npt.NDArray[np.float64]) -> bool:
    return set(np.unique(values)) <= {0.0, 1.0}


def _require_results(view: RunView) -> Results:
    if view.results is None:
        reason = "; ".join(view.faults) or "it is not finished: end it with `tune --resume`"
        raise UsageError(f"only finished runs can be compared, got {view.folder.path}: {reason}")
    return view.results


def _check_comparable(views: Sequence[RunView], results: Sequence[Results]) -> None:
    way_on = "runs can only be compared on the same images, on the same footing"
    _require_same(views, "task", [str(view.study["task"]["kind"]) for view in views], way_on)
    objectives = [f"{found.objective.direction} {found.objective.metric}" for found in results]
    _require_same(views, "objective", objectives, way_on)
    digests = [f"{found.data.digest[:12]} ({found.data.source})" for found in results]
    _require_same(views, "digest of the images", digests, way_on, key=[found.data.digest for found in results])
    _require_same(views, "number of test images", [str(found.test.num_images) for found in results], way_on)


def _require_same(
    views: Sequence[RunView], what: str, values: Sequence[str], way_on: str, key: Sequence[str] | None = None
) -> None:
    """Refuses runs of which something is not the same.

    Raises:
        UsageError: it lists what each has.
    """
    if len(set(key or values)) > 1:
        listed = "\n".join(f"  {view.folder.path}: {value}" for view, value in zip(views, values, strict=True))
        raise UsageError(f"the runs must have the same {what}, got\n{listed}\n{way_on}")


def _name_runs(views: Sequence[RunView]) -> list[str]:
    """Names runs by their folders; by their paths where two folders have one name."""
    names = [view.folder.path.name for view in views]
    return names if len(set(names)) == len(names) else [str(view.folder.path) for view in views]


def _flatten_config(view: RunView, results: Results) -> dict[str, Any]:
    """Returns the dotted fields of a run's best configuration."""
    fields: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, item in value.items():
                add(f"{prefix}.{name}", item)
        else:
            fields[prefix] = value

    for part, kind in (
        ("task", TASKS.load(view.study["task"]["kind"])),
        ("data", DataConfig),
        ("training", TrainingConfig),
    ):
        add(part, _complete(view.study[part], kind))
    return {**fields, **results.best.params}


def _complete(stored: Json, kind: type[Any]) -> Json:
    """Adds the fields that an earlier version had not, with their defaults."""
    try:
        return config_fields.to_json(config_fields.from_json(kind, stored))
    except UsageError:  # of another version
        return stored
