"""Which parallelism: the least expected cost, or what an exploring rule prefers to it.

symbol    meaning                                                            shape
s         candidates, every integer from 1 to the most there may be          (n,)
mu, var   mean and variance of ln T at each                                  (n,)
a         urgency: 0.5 is money (T s), 1 the published rule (T sqrt(s)), 2   1
          counts time more

objective `cost`       T^a sqrt(s)
          `makespan`   T, whatever it takes: a = 1 and no sqrt(s) below

E[cost] = exp(a mu + a^2 var / 2) sqrt(s)                                         (1; moments of a log-normal T)
EI      = b Phi(h) - E[cost] Phi(h - sd)                                          (2; expected improvement on b)
          h = (ln b - ln median cost) / sd, sd = a sqrt(var)
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shaper.models.runs import Objective

Array = NDArray[np.float64]
_NORMAL = NormalDist()
WORTHWHILE = 1e-4  # improvements below this are none


class Goal(NamedTuple):
    """What is made small: T to the power of `time`, times s to the power of `tasks`."""

    time: float
    tasks: float

    @classmethod
    def of(cls, objective: Objective, urgency: float) -> Goal:
        """The powers of an objective."""
        return cls(1.0, 0.0) if objective == "makespan" else cls(urgency, 0.5)

    def log_costs(self, mu: Array, var: Array, s: Array) -> Array:
        """Logarithm of the expected cost, equation (1): (n,)."""
        costs: Array = self.time * mu + self.time**2 * var / 2.0 + self.tasks * np.log(s)
        return costs

    def improvements(self, mu: Array, var: Array, s: Array, best: float) -> Array:
        """Expected improvement on a cost of which `best` is the logarithm, in parts of it, equation (2): (n,)."""
        sd = np.maximum(self.time * np.sqrt(var), 1e-12)
        h = (best - self.time * mu - self.tasks * np.log(s)) / sd
        over = self.log_costs(mu, var, s) - best
        within, beyond = (np.array([_NORMAL.cdf(float(x)) for x in each]) for each in (h, h - sd))
        gains: Array = within - np.exp(np.minimum(over, 700.0)) * beyond
        return gains


def candidates(gamma: float, load: float, s_max: int) -> Array:
    """(s, gamma, load) for every s from 1 to s_max: (s_max, 3)."""
    s = np.arange(1.0, s_max + 1.0)
    return np.column_stack([s, np.full(s_max, float(gamma)), np.full(s_max, float(load))])


def least(costs: Array) -> int:
    """The parallelism of the least cost; of equal ones the smallest."""
    return int(np.argmin(costs)) + 1


def least_known(costs: Array, tie: float, known: Sequence[int]) -> int:
    """Of the parallelisms whose cost is within a share `tie` of the least, the one farthest from those that were run.

    They cannot be told apart by cost, so what a run of one of them teaches decides.
    """
    near = np.flatnonzero(costs <= costs.min() + math.log1p(tie)) + 1
    away = np.abs(np.log(near[:, None] / np.array(known)[None, :])).min(1)
    return int(near[np.argmax(away)]) if away.max() > tie else least(costs)


def most_not_slower(mu: Array, var: Array, tie: float) -> int:
    """The most tasks that may be as fast as any, up to a share `tie`: what is not known has the benefit of the doubt.

    Where nothing says that more tasks are slower, that is all there is room for; what turns out slower is not asked for
    again, because what was run is known (an optimistic bound, ln T less a standard deviation, is made least).
    """
    may_be = mu - np.sqrt(var)
    return int(np.flatnonzero(may_be <= may_be.min() + math.log1p(tie))[-1]) + 1
