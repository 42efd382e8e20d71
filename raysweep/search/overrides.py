"""What the command line changes of a study and its search. A run keeps it, so that going on need not repeat it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from raysweep.config import Budget, PrunerName, SamplerName, check_config
from raysweep.errors import UsageError
from raysweep.study import Study


@dataclass(frozen=True, kw_only=True, slots=True)
class Overrides:
    """Changes of a study; none: the study's own."""

    data: str | None = None
    """An absolute path, or `sample`."""
    trials: int | None = None
    max_epochs: int | None = None
    """What the ranges of epochs are clipped to; at least 1."""
    time_s: float | None = None
    target: float | None = None
    settings: tuple[str, ...] = ()
    """KEY=VALUE; of several with one key the last counts."""
    seed: int | None = None
    sampler: SamplerName | None = None
    """What proposes trials; none: the default."""
    pruner: PrunerName | None = None
    """What stops trials early; none: the default."""
    finalists: int | None = None
    """How many of the best configurations are trained again, at least 1; none: none are."""
    seeds: int | None = None
    """With how many seeds each of them, at least 2."""

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
        return dataclasses.replace(study, budget=budget, seed=study.seed if self.seed is None else self.seed)

    def _check_finalists(self) -> None:
        said = self.finalists is not None or self.seeds is not None
        if said and ((self.finalists or 0) < 1 or (self.seeds or 0) < 2):
            raise UsageError(
                "--finalists K, at least 1, and --seeds S, at least 2, go together, got "
                f"--finalists {self.finalists} and --seeds {self.seeds}; for example --finalists 3 --seeds 3"
            )
