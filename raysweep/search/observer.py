"""Who wants to know what happens in a search: the live table and the tracker."""

from collections.abc import Mapping
from typing import Any, Protocol

from raysweep.trial_result import TrialResult


class Observer(Protocol):
    """Told of each event in the driver, in order."""

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """A trial was sent to the cluster; `config` is its whole configuration as JSON."""
        ...

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """A trial finished an epoch."""
        ...

    def trial_ended(self, result: TrialResult) -> None:
        """A trial completed, was stopped early or failed."""
        ...
