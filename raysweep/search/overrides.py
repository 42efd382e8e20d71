"""Changes of a study and its search that a command asks for. A run keeps them: going on need not repeat them."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import PositiveInt

from raysweep.config import KEEP_LEADING, Budget, Objective, check_config
from raysweep.data.sources import check_source_name
from raysweep.errors import UsageError, shorten
from raysweep.own_code import is_reference
from raysweep.registry import resolve_reference
from raysweep.search.flags import flag
from raysweep.search.strategy.pruners import PRUNERS, build_pruner
from raysweep.search.strategy.samplers import SAMPLERS, build_sampler
from raysweep.study import Study


def parse_duration(text: str) -> float:
    """Parses the seconds in `90s`, `45m`, `2h` or `1d`.

    Raises:
        ValueError: the text is none of these.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text, re.ASCII)
    if not match or float(match[1]) == 0:
        raise ValueError(
            f"a duration is a number above 0 with s, m, h or d, such as 90s or 2h, got {shorten(repr(text))}"
        )
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overrides:
    """Changes of a study; none: the study's own. Each field is a flag of `tune`."""

    data: str | None = field(default=None, metadata=flag(metavar="PATH|sample"))
    """A folder of images or idx files, the built-in sample, or a source of your own: FILE.py:NAME."""
    trials: int | None = None
    """Trials in all, the baseline and failed ones included."""
    max_epochs: int | None = None
    """Clips the range of epochs, and the baseline's."""
    time_s: float | None = field(default=None, metadata=flag("--time-budget", metavar="2h", parse=parse_duration))
    """No new trial starts after so much time of searching, in all sessions together."""
    target: float | None = None
    """No new trial starts once one has reached this objective."""
    settings: tuple[str, ...] = field(default=(), metadata=flag("--set", metavar="KEY=VALUE"))
    """Fixes one field of the study, dotted: task.model=resnet18; may be repeated, of one key the last counts."""
    seed: int | None = None
    """Of the search and of every trial; default: 0."""
    second_objective: str | None = field(default=None, metadata=flag(metavar="METRIC[:DIRECTION]"))
    """Also model/num_parameters, model/latency_ms or val/NAME:maximize, for a Pareto front; no early stopping."""
    sampler: str | None = field(default=None, metadata=flag("--sampler", "--strategy"))
    """What proposes trials: default (a model of learning curves), tpe, random, gp, cmaes, nsga2, or one of your own: a
    package's, or FILE.py:NAME."""
    pruner: str | None = None
    """What stops trials early: default (the model of learning curves), asha, hyperband, median, none, or one of your
    own: a package's, or FILE.py:NAME."""
    finalists: int | None = field(default=None, metadata=flag(metavar="K"))
    """Trains the K best configurations and the baseline again."""
    seeds: int | None = field(default=None, metadata=flag(metavar="S"))
    """With how many seeds each of the --finalists."""
    keep_checkpoints: PositiveInt | None = field(default=None, metadata=flag(metavar="K"))
    """Models of so many leading trials stay, beside the baseline's; default: 3."""

    def __post_init__(self) -> None:
        for name in ("sampler", "pruner"):  # a run keeps them, and may be resumed from another folder
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, resolve_reference(value))
        object.__setattr__(self, "settings", tuple(map(_resolve_setting, self.settings)))

    @property
    def num_leading(self) -> int:
        """Returns how many leading trials keep their models."""
        return self.keep_checkpoints or KEEP_LEADING

    def over(self, earlier: "Overrides") -> "Overrides":
        """Joins these changes with the earlier ones, which hold where these say nothing."""
        said = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        settings = {setting.partition("=")[0]: setting for setting in (*earlier.settings, *self.settings)}
        return dataclasses.replace(earlier, **{**said, "settings": tuple(settings.values())})

    def apply(self, study: Study) -> Study:
        """Applies these changes to the study.

        Raises:
            UsageError: one of them is not legal.
        """
        self._check_finalists()
        study = study.with_settings(self.settings)
        if (source := self.data) is not None:
            study = check_config(
                lambda: dataclasses.replace(study, data=dataclasses.replace(study.data, source=source)), "--data"
            )
        if (most := self.max_epochs) is not None:
            study = check_config(lambda: study.with_max_epochs(most), "--max-epochs")
        said: dict[str, Any] = {"trials": self.trials, "time_s": self.time_s, "target": self.target}
        budget: Budget = check_config(
            lambda: dataclasses.replace(study.budget, **{key: v for key, v in said.items() if v is not None}), "budget"
        )
        seed = study.seed if self.seed is None else self.seed
        study = check_config(lambda: dataclasses.replace(study, budget=budget, seed=seed), "--seed")
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
        if said and not (1 <= (self.finalists or 0) <= 1000 and 2 <= (self.seeds or 0) <= 1000):
            raise UsageError(
                "--finalists K, at least 1, and --seeds S, at least 2, go together, neither above 1000, got "
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
                "--sampler cmaes of Optuna searches for one objective only, got two; give default, tpe, nsga2, gp or "
                "random, or leave out the second objective"
            )
        if self.pruner not in (None, "default", "none"):
            raise UsageError(
                f"Optuna takes no intermediate values with two objectives, got --pruner {self.pruner}, which stops "
                "trials by them; leave it out, or leave out the second objective"
            )


def _resolve_setting(setting: str) -> str:
    """Makes paths absolute in the value of a setting that names code of one's own."""
    key, equals, value = setting.partition("=")
    is_code = key.startswith("task.") and is_reference(value)
    return f"{key}{equals}{resolve_reference(value)}" if is_code else setting
