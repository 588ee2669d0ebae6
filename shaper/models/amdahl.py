"""Amdahl's law and what follows from it, as plain functions.

symbol   meaning                                                             unit
s        parallelism                                                         1
T1       time of the baseline, at s = 1 and gamma = 1, without the start-up  s
C        start-up, whatever the size and the parallelism                     s
p        part of T1 that is parallel                                         1
gamma    size of the input over the baseline's, k its exponent               1
o        what each task adds                                                 s
eta      part of the largest speed-up, 1 / (1 - p), that is wanted           1

T(s, gamma) = C + gamma^k ((1 - p) T1 + p T1 / s)                                       (1)
p = s / (s - 1) (1 - (T - C) / (gamma^k T1))                                            (2; (1) solved for p)
k = ln(T_scale / T_base) / ln gamma, T_base = (1 - p) T1 + p T1 / s                     (3; (1) solved for k)
T(s) sqrt(s) is least at s* = B / A, with A = C + gamma^k (1 - p) T1, B = gamma^k p T1  (4; p / (1 - p) if C = 0)
with o s in T:  s* = (-A + sqrt(A^2 + 12 o B)) / (6 o)                                  (5)
speed-up eta / (1 - p) is reached at s = p / (1 - p) eta / (1 - eta)                    (6)
"""

from __future__ import annotations

import math
from typing import Literal

from shaper.errors import BadInput

Search = Literal["all", "low", "around", "high", "efficiency"]
_ROUNDING = 1e-9  # 8.9999999999 is 9


def time_s(s: float, p: float, t1_s: float, startup_s: float = 0.0, size: float = 1.0) -> float:
    """Equation (1); `size` is gamma^k."""
    return startup_s + size * ((1.0 - p) * t1_s + p * t1_s / s)


def parallel_part(s: int, wall_s: float, t1_s: float, startup_s: float = 0.0, size: float = 1.0) -> float:
    """Equation (2): p from one run; negative where more tasks were slower.

    Raises:
        BadInput: s is 1, where every p gives the same time.
    """
    if s < 2:
        raise BadInput(f"s is {s}: one task tells nothing about the parallel part; give a run of two or more")
    return s / (s - 1.0) * (1.0 - (wall_s - startup_s) / (size * t1_s))


def exponent(scale_s: float, base_s: float, gamma: float) -> float:
    """Equation (3).

    Args:
        scale_s: what a run took without its start-up and what is not explained.
        base_s: what the law gives for it at gamma = 1, without the start-up.
        gamma: not 1.
    """
    return math.log(scale_s / base_s) / math.log(gamma)


def optimum(serial_s: float, parallel_s: float, each_s: float = 0.0) -> float:
    """Equations (4) and (5): the s with the least T sqrt(s), not rounded; infinite where nothing is serial."""
    if each_s > 0:
        return (-serial_s + math.sqrt(serial_s**2 + 12.0 * each_s * parallel_s)) / (6.0 * each_s)
    return parallel_s / serial_s if serial_s > 0 else math.inf


def efficient(p: float, eta: float) -> float:
    """Equation (6), not rounded."""
    return p / (1.0 - p) * eta / (1.0 - eta) if p < 1 else math.inf


def window(search: Search, best: float, efficient_s: float, s_max: int) -> tuple[int, int]:
    """The candidates of a search around s* = `best`, within 1..s_max; never empty.

    `low` is [1, 1.2 s*], `around` [0.5 s*, 1.5 s*], `high` [1, 1.5 s*], `efficiency` what reaches a part of the largest
    speed-up, `all` everything.
    """
    low, high = {
        "all": (1.0, math.inf),
        "low": (1.0, 1.2 * best),
        "around": (0.5 * best, 1.5 * best),
        "high": (1.0, 1.5 * best),
        "efficiency": (1.0, efficient_s),
    }[search]
    last = s_max if high >= s_max else max(1, math.floor(high + _ROUNDING))
    return min(max(1, math.ceil(min(low, s_max) - _ROUNDING)), last), last
