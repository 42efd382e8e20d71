"""Instance noise: how strong the noise on a discriminator's images is over a trial (Sonderby et al. 2017)."""

import math
from dataclasses import dataclass
from typing import Literal

from raysweep.config import require

NoiseKind = Literal["constant", "linear", "cosine", "exponential"]

FLOOR = 0.01
"""An exponential never reaches 0: the smaller of its ends counts as at least this share of the larger one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSchedule:
    """Sets the deviation of Gaussian noise by the time t in 0..1, the share of the trial that is over.

    With s = min(1, t / until):

    - constant: start, at any time;
    - linear: start + (end - start) s;
    - cosine: end + (start - end) (1 + cos(pi s)) / 2;
    - exponential: a (b / a)^s for 0 < s < 1, where a and b are start and end, the smaller of them raised to 0.01 of
      the larger; exactly start at s = 0 and exactly end at s = 1, 0 included.
    """

    kind: NoiseKind = "constant"
    """Shape of the way from start to end; constant stays at start."""
    start: float = 0.0
    """Standard deviation in the first epoch, for pixels in [-1, 1]; 0 to 2."""
    end: float = 0.0
    """Standard deviation at the end of the way; 0 to 2; constant does without."""
    until: float = 1.0
    """Share of the epochs at which `end` is reached; above 0, up to 1."""
    per_step: bool = False
    """A value for each batch instead of one for each epoch."""

    def __post_init__(self) -> None:
        require(0 <= self.start <= 2, "task.noise.start must be in 0..2", self.start)
        require(0 <= self.end <= 2, "task.noise.end must be in 0..2", self.end)
        require(0 < self.until <= 1, "task.noise.until must be above 0 and at most 1", self.until)

    def value(self, t: float) -> float:
        """Computes the standard deviation at the time t in 0..1."""
        share = min(1.0, t / self.until)
        if self.kind == "constant" or share <= 0:
            return self.start
        if share >= 1:
            return self.end
        if self.kind == "linear":
            return self.start + (self.end - self.start) * share
        if self.kind == "cosine":
            return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2
        first, last = (max(value, FLOOR * max(self.start, self.end)) for value in (self.start, self.end))
        return first * (last / first) ** share if first > 0 else 0.0


def time_of(index: int, count: int) -> float:
    """Computes the time t in 0..1 of the epoch or step `index`, from 0, of `count`; t = 0 of a single one."""
    return index / (count - 1) if count > 1 else 0.0
