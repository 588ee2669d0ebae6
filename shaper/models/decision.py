"""Which parallelism: the least expected cost, or what an exploring rule prefers to it.

    symbol    meaning                                                                 shape
    s         candidates, every integer from 1 to the most there may be               (n,)
    mu, var   mean and variance of ln T at each                                       (n,)
    a         urgency: 0.5 money (T s), 1 the published rule (T sqrt(s)), 2 time      1
              rather, infinity time alone

    cost = T^a sqrt(s);   E[cost] = exp(a mu + a^2 var / 2) sqrt(s)                   (1; moments of a log-normal T)
    EI   = b Phi(h) - E[cost] Phi(h - sd),   h = (ln b - ln median cost) / sd, sd = a sqrt(var)
                                                                                      (2; expected improvement on b)
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_NORMAL = NormalDist()
_PLAIN = 1e3  # an urgency beyond this is time alone


def candidates(gamma: float, load: float, s_max: int) -> Array:
    """(s, gamma, load) for every s from 1 to s_max: (s_max, 3)."""
    s = np.arange(1.0, s_max + 1.0)
    return np.column_stack([s, np.full(s_max, float(gamma)), np.full(s_max, float(load))])


def _powers(urgency: float) -> tuple[float, float]:
    """Powers of T and of s in the cost."""
    return (1.0, 0.0) if urgency > _PLAIN else (urgency, 0.5)


def log_costs(mu: Array, var: Array, s: Array, urgency: float) -> Array:
    """Logarithm of the expected cost, equation (1): (n,)."""
    a, b = _powers(urgency)
    return a * mu + a * a * var / 2.0 + b * np.log(s)


def improvements(mu: Array, var: Array, s: Array, urgency: float, best: float) -> Array:
    """Expected improvement on a cost of which `best` is the logarithm, in parts of it, equation (2): (n,)."""
    a, b = _powers(urgency)
    sd = np.maximum(a * np.sqrt(var), 1e-12)
    h = (best - a * mu - b * np.log(s)) / sd
    over = log_costs(mu, var, s, urgency) - best
    within = np.array([_NORMAL.cdf(float(x)) for x in h])
    beyond = np.array([_NORMAL.cdf(float(x)) for x in h - sd])
    return within - np.exp(np.minimum(over, 700.0)) * beyond


def least(costs: Array) -> int:
    """The parallelism of the least cost; of equal ones the smallest."""
    return int(np.argmin(costs)) + 1


def least_known(costs: Array, tie: float, known: list[int]) -> int:
    """Of the parallelisms whose cost is within a share `tie` of the least, the one farthest from those that were run.

    They cannot be told apart by cost, so what a run of one of them teaches decides.
    """
    near = np.flatnonzero(costs <= costs.min() + math.log1p(tie)) + 1
    away = np.abs(np.log(near[:, None] / np.array(known)[None, :])).min(1)
    return int(near[np.argmax(away)]) if away.max() > tie else least(costs)
