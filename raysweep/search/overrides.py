"""What the command line changes of a study and its search. A run keeps it, so that going on need not repeat it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from raysweep.config import Budget, Objective, check_config
from raysweep.data.sources import check_source_name
from raysweep.errors import UsageError
from raysweep.registry import resolve_reference
from raysweep.search.strategy.pruners import PRUNERS, build_pruner
from raysweep.search.strategy.samplers import SAMPLERS, build_sampler
from raysweep.study import Study


@dataclass(frozen=True, kw_only=True, slots=True)
class Overrides:
    """Changes of a study; none: the study's own."""

    data: str | None = None
    """An absolute path, or the name of a source of images."""
    trials: int | None = None
    max_epochs: int | None = None
    """What the ranges of epochs are clipped to; at least 1."""
    time_s: float | None = None
    target: float | None = None
    settings: tuple[str, ...] = ()
    """KEY=VALUE; of several with one key the last counts."""
    seed: int | None = None
    sampler: str | None = None
    """What proposes trials: a name in SAMPLERS, or path/to/file.py:NAME; none: the default."""
    pruner: str | None = None
    """What stops trials early: a name in PRUNERS, or path/to/file.py:NAME; none: the default."""
    finalists: int | None = None
    """How many of the best configurations are trained again, at least 1; none: none are."""
    seeds: int | None = None
    """With how many seeds each of them, at least 2."""
    second_objective: str | None = None
    """METRIC:DIRECTION; a cost of the model needs no direction."""

    def __post_init__(self) -> None:
        for name in ("sampler", "pruner"):  # a run keeps them, and may be resumed from another folder
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, resolve_reference(value))

    def over(self, earlier: "Overrides") -> "Overrides":
        """These changes, and the earlier ones where these say nothing."""
        said = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        settings = {setting.partition("=")[0]: setting for setting in (*earlier.settings, *self.settings)}
        return dataclasses.replace(earlier, **{**said, "settings": tuple(settings.values())})

    def apply(self, study: Study) -> Study:
        """The study with these changes.

        Raises:
            UsageError: one of them is not legal.
        """
        self._check_finalists()
        study = study.with_settings(self.settings)
        if self.data is not None:
            study = dataclasses.replace(study, data=dataclasses.replace(study.data, source=self.data))
        if self.max_epochs is not None:
            study = study.with_max_epochs(self.max_epochs)
        said: dict[str, Any] = {"trials": self.trials, "time_s": self.time_s, "target": self.target}
        budget: Budget = check_config(
            lambda: dataclasses.replace(study.budget, **{key: v for key, v in said.items() if v is not None}), "budget"
        )
        study = dataclasses.replace(study, budget=budget, seed=study.seed if self.seed is None else self.seed)
        if (second := self.second_objective) is not None:
            study = check_config(
                lambda: dataclasses.replace(study, second_objective=Objective.parse(second)), "--second-objective"
            )
        self._check_names(study)
        if study.second_objective is not None:
            self._check_for_two_objectives()
        return study

    def _check_finalists(self) -> None:
        said = self.finalists is not None or self.seeds is not None
        if said and ((self.finalists or 0) < 1 or (self.seeds or 0) < 2):
            raise UsageError(
                "--finalists K, at least 1, and --seeds S, at least 2, go together, got "
                f"--finalists {self.finalists} and --seeds {self.seeds}; for example --finalists 3 --seeds 3"
            )

    def _check_names(self, study: Study) -> None:
        """Refuses a sampler, pruner or source of images that is unknown or broken; built-in ones are not imported."""
        check_source_name(study.data.source)
        if self.sampler is not None and self.sampler not in SAMPLERS.built_in:
            build_sampler(self.sampler, study)
        if self.pruner is not None and self.pruner not in PRUNERS.built_in:
            build_pruner(self.pruner, study)

    def _check_for_two_objectives(self) -> None:
        if self.finalists is not None:
            raise UsageError(
                "--finalists are the best by one objective, got two; leave them out, or the second objective"
            )
        if self.sampler == "cmaes":
            raise UsageError(
                "--strategy cmaes of Optuna searches for one objective only, got two; give default, tpe, nsga2, gp or "
                "random, or leave out the second objective"
            )
        if self.pruner not in (None, "default", "none"):
            raise UsageError(
                f"Optuna takes no intermediate values with two objectives, got --pruner {self.pruner}, which stops "
                "trials by them; leave it out, or leave out the second objective"
            )
