"""A study: a task, its data, a search space, an objective and a budget."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution

from raysweep import config_fields
from raysweep.atomic_files import Json
from raysweep.config import COSTS, Budget, DataConfig, Objective, TrainingConfig, check_config, require
from raysweep.distributions import (
    Distributions,
    When,
    check_condition,
    clip_epochs,
    contains,
    extremes,
    space_to_json,
)
from raysweep.errors import UsageError, shorten
from raysweep.task_config import TaskConfig
from raysweep.trial_config import TrialConfig, check_mixing
from raysweep.trial_result import Params


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """One file of search_spaces/: plain data. Its own task, data and training are the baseline."""

    name: str
    """1 to 100 printable characters; by default the run's folder is called so."""
    task: TaskConfig
    """What is trained: ClassificationConfig, AutoencoderConfig, GanConfig, or one of your own."""
    data: DataConfig
    """Where images come from and what a batch of them looks like."""
    training: TrainingConfig
    """How long and in what numbers a trial trains."""
    space: Distributions
    """What is searched: dotted names of fields, such as task.learning_rate, to distributions of Optuna."""
    conditions: tuple[When, ...] = ()
    """Keys that exist only beside certain choices."""
    points: tuple[Mapping[str, Any], ...] = ()
    """Tried right after the baseline: each the baseline with some of its values changed."""
    objective: Objective
    """What is searched for."""
    second_objective: Objective | None = None
    """What is searched for beside it, for a Pareto front; no trial is stopped early then. None: nothing."""
    budget: Budget = dataclasses.field(default_factory=Budget)
    """When the search ends."""
    seed: int = 0
    """Of the search and of every trial; 0 to 2147483647."""

    def __post_init__(self) -> None:
        self._check_kinds()
        self._with({})
        self._check_objectives(self.task, "")
        check_mixing(self.task, self.data)
        known = self.fields()
        for key, distribution in self.all_distributions():
            if key not in known:
                raise ValueError(config_fields.unknown_name("search space key", str(key), known))
            for value in extremes(key, distribution):
                where = f"search space of {key}, value {shorten(repr(value))}"
                self._check_objectives(check_config(lambda k=key, v=value: self._with({k: v}), where)["task"], where)
        for condition in self.conditions:
            check_condition(condition, self.space)
        self._check_points()

    def _check_kinds(self) -> None:
        """Refuses what is no part of a study: its author's file may have put anything anywhere."""
        for name, kind in _KINDS.items():
            require(
                isinstance(getattr(self, name), kind),
                f"{name} of a study must be {_describe_kind(kind)}",
                getattr(self, name),
            )
        for condition in self.conditions:
            require(isinstance(condition, When), "conditions of a study must be raysweep.When", condition)
            require(isinstance(condition.space, Mapping), "the space of a condition must be a Mapping", condition.space)
            require(isinstance(condition.values, str | tuple), "values of a condition: a choice or a tuple", condition)
        for point in self.points:
            fits = isinstance(point, Mapping) and all(isinstance(key, str) for key in point)
            require(fits, "points of a study must be mappings of fields' names to values", point)
        require(
            1 <= len(self.name) <= 100 and self.name.isprintable(),
            "a study's name must have 1 to 100 printable characters",
            self.name,
        )
        config_fields.check_types(self.budget, "budget.")
        for objective in self.objectives:
            config_fields.check_types(objective, "objective.")
        require(0 <= self.seed < 2**31, "the seed must be in 0..2147483647", self.seed)

    def _check_points(self) -> None:
        for name, changes in (("the baseline", {}), *((f"point {changes}", changes) for changes in self.points)):
            self.build_point(name, changes)

    def build_point(self, name: str, changes: Mapping[str, Any]) -> Params:
        """Returns the point of the space that is the baseline with some values changed.

        Raises:
            ValueError: it is not in the space; the message calls it `name`.
        """
        point = self._point(changes)
        if unknown := sorted(set(changes) - set(point)):
            raise ValueError(f"{name} must be a point of the space, which has no {', '.join(unknown)} there")
        for key, distribution in self.space_at(point).items():
            if not contains(distribution, point[key]):
                raise ValueError(f"{name} must be a point of the space: {key}={point[key]!r} is not in {distribution}")
        return point

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objective and, where there is one, the second."""
        return (self.objective,) if self.second_objective is None else (self.objective, self.second_objective)

    def _check_objectives(self, task: TaskConfig, where: str) -> None:
        known = {"objective": task.reported_metrics, "second objective": task.reported_metrics | COSTS}
        for objective, (what, metrics) in zip(self.objectives, known.items(), strict=False):
            if objective.metric not in metrics:
                message = config_fields.unknown_name(what, objective.metric, metrics)
                raise ValueError(f"{where}: {message}" if where else message)
        if self.second_objective is not None and self.second_objective.metric == self.objective.metric:
            others = ", ".join(sorted(known["second objective"] - {self.objective.metric}))
            raise ValueError(
                f"two objectives must be two metrics, got {self.objective.metric!r} twice; others: {others}"
            )

    def fields(self) -> dict[str, Any]:
        """Lists every field that a space or `--set` can name, dotted, with the baseline's value."""
        return {
            f"{part}.{name}": value
            for part in ("task", "data", "training")
            for name, value in config_fields.list_fields(getattr(self, part)).items()
        }

    def all_distributions(self) -> Iterator[tuple[str, BaseDistribution]]:
        """Yields every key of the space, conditional ones included."""
        yield from self.space.items()
        for condition in self.conditions:
            yield from condition.space.items()

    def space_at(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Lists the choices that exist at the point `params`."""
        space = dict(self.space)
        for condition in self.conditions:
            if condition.holds(params):
                space |= condition.space
        return space

    @property
    def baseline(self) -> Params:
        """The source report's configuration as a point of the space: what trial 0 runs."""
        return self._point({})

    @property
    def starting_points(self) -> list[Params]:
        """What the first trials run: the baseline, and the points that the study's author would try next."""
        points = [self._point(changes) for changes in ({}, *self.points)]
        return [point for index, point in enumerate(points) if point not in points[:index]]

    def _point(self, changes: Mapping[str, Any]) -> Params:
        """Returns the study's own values with some changed, where the space has a choice."""
        values = {**self.fields(), **changes}
        return {key: values[key] for key in self.space_at(values)}

    def trial_config(self, params: Mapping[str, Any], number: int | str) -> TrialConfig:
        """Builds the configuration of trial `number` at the point `params`; what names a training gives it a seed."""
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        study = self._with(params)
        return TrialConfig(
            task=study["task"],
            data=study["data"],
            training=study["training"],
            seed=int.from_bytes(digest[:4], "big"),
        )

    def with_settings(self, settings: Iterable[str]) -> "Study":
        """Applies KEY=VALUE settings; a key that is set, and what lies below it, leaves the search space.

        Raises:
            UsageError: a setting is not KEY=VALUE, names no field, or has an illegal value.
        """
        values: dict[str, Any] = {}
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise UsageError(f"--set takes KEY=VALUE, got {setting!r}; for example training.epochs=3")
            if key not in self.fields():
                raise UsageError(config_fields.unknown_name("field", key, self.fields()))
            values[key] = config_fields.parse_field(self, key, text)

        def is_set(key: str) -> bool:
            return any(key == name or key.startswith(f"{name}.") for name in values)

        def without(space: Distributions) -> Distributions:
            return {key: distribution for key, distribution in space.items() if not is_set(key)}

        def changed() -> Study:
            conditions = []
            for condition in self.conditions:
                if condition.key in values and condition.holds(values):
                    opened.update(without(condition.space))
                elif not is_set(condition.key):
                    conditions.append(dataclasses.replace(condition, space=without(condition.space)))
            study = dataclasses.replace(
                self,
                **self._with(values),
                space={**without(self.space), **opened},
                conditions=tuple(conditions),
                points=(),
            )
            # What is set, and what hangs on a choice that is set otherwise, leaves the points too.
            points = ({k: v for k, v in point.items() if not is_set(k)} for point in self.points)
            kept = tuple({k: v for k, v in point.items() if k in study._point(point)} for point in points)
            return dataclasses.replace(study, points=kept)

        opened: dict[str, BaseDistribution] = {}
        study: Study = check_config(changed, "--set")
        return study

    def with_max_epochs(self, max_epochs: int) -> "Study":
        """Clips the range of epochs, and the baseline's, to `max_epochs`."""
        if max_epochs < 1:
            raise UsageError(f"--max-epochs must be at least 1, got {max_epochs}")
        conditions = [dataclasses.replace(c, space=clip_epochs(c.space, max_epochs)) for c in self.conditions]
        training = dataclasses.replace(self.training, epochs=min(self.training.epochs, max_epochs))
        points = tuple(
            {key: min(value, max_epochs) if key == "training.epochs" else value for key, value in point.items()}
            for point in self.points
        )
        return dataclasses.replace(
            self,
            training=training,
            space=clip_epochs(self.space, max_epochs),
            conditions=tuple(conditions),
            points=points,
        )

    def to_json(self) -> Json:
        """Returns the study as resolved, for study.json."""
        parts = self.trial_config({}, 0).to_json()
        return {
            "name": self.name,
            **{part: parts[part] for part in ("task", "data", "training")},
            "space": space_to_json(self.space),
            "conditions": [
                {"key": c.key, "values": c.values, "space": space_to_json(c.space)} for c in self.conditions
            ],
            "objective": config_fields.to_json(self.objective),
            "second_objective": config_fields.to_json(self.second_objective),
            "budget": config_fields.to_json(self.budget),
            "baseline": self.baseline,
            "points": [dict(point) for point in self.points],
            "seed": self.seed,
        }

    def _with(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Returns task, data and training with dotted fields replaced."""
        parts: dict[str, dict[str, Any]] = {"task": {}, "data": {}, "training": {}}
        for key, value in params.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        changed = {part: config_fields.replace_fields(getattr(self, part), values) for part, values in parts.items()}
        for part, config in changed.items():
            config_fields.check_types(config, f"{part}.")
        check_mixing(changed["task"], changed["data"])
        return changed


_KINDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "task": (TaskConfig,),
    "data": (DataConfig,),
    "training": (TrainingConfig,),
    "space": (Mapping,),
    "conditions": (tuple, list),
    "points": (tuple, list),
    "objective": (Objective,),
    "second_objective": (Objective, type(None)),
    "budget": (Budget,),
    "seed": (int,),
}


def _describe_kind(kinds: tuple[type, ...]) -> str:
    return " or ".join("none" if kind is type(None) else f"a {kind.__name__}" for kind in kinds)
