"""Tracks an attempt at a trial: from its start, or from the checkpoint of an earlier attempt, to its end."""

from dataclasses import dataclass

from raysweep.cluster.lost_nodes import Addresses
from raysweep.train.trial import TrialSpec
from raysweep.trial_result import Params, TrialResult


@dataclass(kw_only=True, slots=True)
class Attempt:
    """Tracks a trial as one Ray Tune trial runs it: from its start, or from the checkpoint of an earlier attempt."""

    number: int
    params: Params
    spec: TrialSpec
    nodes: Addresses
    """Of the cluster as it began."""
    result: TrialResult | None = None
    """How the trial ended, once the strategy knows it; none: it has not, or its process died."""
    is_weak: bool = False
    """Whether it is to stop: its process writes what is to be kept of it, and ends."""
    is_left: bool = False
    """Whether it stays as it is, for a session to come: the search ends, or the storage is at fault."""
    death: str | None = None
    """What its process, or else Ray, said as it died."""
