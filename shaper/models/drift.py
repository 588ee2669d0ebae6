"""When the past no longer holds: a two-sided cumulative sum of how surprising each run was.

    symbol     meaning                                                                    unit
    e          ln of a run's time over what was expected before it was learnt            1
    sd         standard deviation that was stated for it; d its degrees of freedom       1
    z          e / sd as a quantile of the normal distribution, heavy tails taken out     1
    S          cumulative sum of z less what is tolerated, never below 0                  1

    z   = sign(e) (8 d + 1) / (8 d + 3) sqrt(d ln(1 + (e / sd)^2 / d))           (1; D. L. Wallace, 1959)
    S+ <- max(0, S+ + z - 1),   S- <- max(0, S- - z - 1),   a change where either exceeds 4.5    (2; E. S. Page, 1954)

One run of twice the usual time is a change at once; one of 1.2 times only if the next agrees. With normal errors a
false alarm comes once in some 20,000 runs. What has changed is believed to be the amount of work first and its shape
less (usl.py): an earlier regime goes on to tell how time depends on s, so that a false alarm costs little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_TOLERATED, _ALARM = 1.0, 4.5
_LEAST = 0.05  # changes by less than this are not worth a regime, however certain
_DOUBTFUL, _BELONGS = 3.0, 2.0  # z from which a run is hardly one of today's, and to which one of an earlier regime


def surprise(error: float, deviation: float, freedom: float) -> float:
    """Equation (1): z of an error of ln T."""
    t = error / deviation
    size = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return math.copysign(size, t)


@dataclass(frozen=True, slots=True)
class Watch:
    """Both sums and over how many runs they have been growing.

    Args:
        slower, faster: S+ and S-.
        slower_runs, faster_runs: the latest runs since each was last 0.
        last_error: e of the latest run.
    """

    slower: float = 0.0
    faster: float = 0.0
    slower_runs: int = 0
    faster_runs: int = 0
    last_error: float = 0.0

    def after(self, error: float, z: float) -> Watch:
        """Equation (2)."""
        slower = max(0.0, self.slower + z - _TOLERATED)
        faster = max(0.0, self.faster - z - _TOLERATED)
        return Watch(
            slower,
            faster,
            self.slower_runs + 1 if slower else 0,
            self.faster_runs + 1 if faster else 0,
            error,
        )

    @property
    def changed_runs(self) -> int:
        """How many of the latest runs are of a new regime; 0 where nothing has changed."""
        if max(self.slower, self.faster) <= _ALARM or abs(self.last_error) < _LEAST:
            return 0
        return self.slower_runs if self.slower >= self.faster else self.faster_runs


def earlier_regime(z: float, earlier: Mapping[int, float]) -> int | None:
    """The earlier regime that a surprising run belongs to, if any: a single straggler is over with the next run.

    Args:
        z: the run's surprise in today's regime.
        earlier: its surprise in each other.
    """
    best = min(earlier, key=lambda regime: abs(earlier[regime]), default=None)
    if best is None or abs(z) < _DOUBTFUL or abs(earlier[best]) > _BELONGS:
        return None
    return best
