"""The figures of a final evaluation, as results.json holds them. Imports no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Any, ClassVar

from raysweep.atomic_files import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class TestFigures:
    """Holds what the test images say of a run's best model.

    The common figures are fields; those of the task are read like fields too: `test.accuracy`.
    """

    __test__: ClassVar[bool] = False  # pytest would take the class for one of tests

    num_images: int
    """Test images."""
    report: str
    """Name of the main text in `test/`."""
    headline: str
    """A line or two for the terminal."""
    lift: Mapping[str, Any]
    """The best against the baseline: `text`, a sentence; where there is a difference also `difference`, `low`,
    `high`, `confidence`, `num_images`, `num_resamples`, `includes_zero`. A mapping, as a task may add to it."""
    baseline: Mapping[str, Any] | None = None
    """The baseline's own scores, named as the best model's; a mapping, as each task has others. None: it failed."""
    baseline_failure: str | None = None
    """Why there is no baseline; none: there is one."""
    seeds: Mapping[str, Any] | None = None
    """The winner and the baseline of the finalists over all their seeds, see `raysweep.evaluate.seeds`; none: no
    finalists were trained, or one of the winner's seeds cannot be measured."""
    openings: int = 1
    """How often the test split of this run has been opened."""
    synthetic: bool = False
    """Whether the images are drawn by raysweep."""
    durations_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds that each part of the evaluation took, and their `total`; empty in files from before it was kept."""
    own: Mapping[str, Any]
    """What the task adds: a mapping, as only the task knows its names and what they hold."""

    def __post_init__(self) -> None:
        if not self.report or PurePath(self.report).name != self.report:
            raise ValueError(f"test.report must be the name of a file in test/, got {self.report!r}")
        if not isinstance(self.lift.get("text"), str):
            raise ValueError(f"test.lift must have a text, got {dict(self.lift)!r}")

    def __getattr__(self, name: str) -> Any:
        own = {} if name == "own" or name.startswith("__") else self.own  # not there yet while it is unpickled
        if name in own:
            return own[name]
        known = ", ".join((*COMMON, *own))
        raise AttributeError(f"the test figures have no {name!r}; they have: {known}")

    def describe(self) -> list[str]:
        """Returns lines for a person on the best model, the lift, and the seeds of the finalists."""
        seeds = [f"finalists: {self.seeds['text']}"] if self.seeds else []
        return [self.headline, f"lift: {self.lift['text']}", *seeds]

    def to_json(self) -> Json:
        """Returns the figures as results.json holds them: the task's beside the common ones."""
        return {**self.own, **{name: getattr(self, name) for name in COMMON}}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "TestFigures":
        """Builds the figures from those of results.json, or from what a task's evaluation returns."""
        own = {name: value for name, value in values.items() if name not in COMMON}
        return TestFigures(**{name: values[name] for name in COMMON if name in values}, own=own)


COMMON = tuple(common.name for common in fields(TestFigures) if common.name != "own")
"""The figures that each task has."""
