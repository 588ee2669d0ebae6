"""What the models of parallelism are told, and what they answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from shaper.errors import BadInput

Objective = Literal["cost", "makespan"]

_UPPER = 1.645  # 95 % of a normal distribution lie below so many standard deviations
_MOST_SD = 3.0  # of ln T; from 2 _UPPER on the mean would lie above what 95 of 100 stay below
_LEAST_S, _MOST_S = 1e-12, 1e15  # what can be a duration, and be computed with
_LARGEST = 690.0  # of a logarithm, so that its exponential is finite


@dataclass(frozen=True, slots=True)
class Run:
    """One finished stage, or one task of so many cores.

    Args:
        s: parallelism: into how many tasks it was cut, or how many cores the task had.
        gamma: size of its input over that of the baseline.
        load: sum of the parallelism of what ran beside it.
        wall_s: from its start to the end of its slowest task, 1e-12 to 1e15.

    Raises:
        BadInput: s below 1; gamma or wall_s not positive and finite; load negative or not finite.
    """

    s: int
    gamma: float
    load: float
    wall_s: float

    def __post_init__(self) -> None:
        checked(self.gamma, self.load, self.s, "s")
        if not (finite(self.wall_s) and _LEAST_S <= self.wall_s <= _MOST_S):
            raise BadInput(
                f"wall_s is {self.wall_s!r}: wanted seconds above 0, {_LEAST_S:g} to {_MOST_S:g}; "
                "if the clock was set, leave this run out"
            )

    @property
    def point(self) -> tuple[float, float, float]:
        """(s, gamma, load), the input of all models."""
        return float(self.s), float(self.gamma), float(self.load)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a stage is expected to take.

    Args:
        mean: expected seconds; None where nothing is known.
        upper: seconds that 95 of 100 runs stay below; None where nothing is known.
        n: runs behind it.
    """

    mean: float | None
    upper: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A parallelism, how long the stage is expected to take with it (None: unknown), and why it was chosen."""

    s: int
    predicted_s: float | None
    reason: str


def finite(value: object) -> bool:
    """Whether it is a number, of Python or numpy, that can be computed with."""
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:
        return False


def whole(value: object, least: int = 0) -> bool:
    """Whether it is an integer from `least` on that can be computed with."""
    return isinstance(value, Integral) and finite(value) and int(value) >= least


def checked(gamma: float, load: float, s: int, name: str = "s_max") -> None:
    """Refuse what no model can be asked about.

    Raises:
        BadInput: the parallelism is no integer from 1 on, gamma is not positive, load is negative, or one not finite.
    """
    if not whole(s, 1):
        raise BadInput(f"{name} is {s!r}: a parallelism is an integer from 1 on")
    if not (finite(gamma) and gamma > 0):
        raise BadInput(f"gamma is {gamma!r}: the input's size over the baseline's is a finite number above 0")
    if not (finite(load) and load >= 0):
        raise BadInput(f"load is {load!r}: the parallelism of what runs beside it is 0 or more")


def checked_goal(urgency: float, objective: str) -> None:
    """Refuse an urgency that is not a positive number, and an objective that does not exist.

    Raises:
        BadInput: either.
    """
    if not (finite(urgency) and urgency > 0):
        raise BadInput(f"urgency is {urgency!r}: wanted a finite number above 0 (0.5 money, 1 the rule, 2 time)")
    if objective not in ("cost", "makespan"):
        raise BadInput(f"objective is {objective!r}: wanted cost or makespan")


def estimate_of(log_mean: float, variance: float, n: int) -> Estimate:
    """Turn mean and variance of ln T (its noise included) into seconds: E[T] = exp(mean + variance / 2)."""
    sd = min(math.sqrt(variance), _MOST_SD)
    return Estimate(seconds(log_mean + sd**2 / 2), seconds(log_mean + _UPPER * sd), n)


def seconds(log_s: float) -> float:
    """The exponential, finite and positive whatever the argument."""
    return math.exp(min(max(log_s, -_LARGEST), _LARGEST))


def rows_of(runs: Sequence[Run]) -> list[list[float]]:
    """Runs as JSON has them: [s, gamma, load, wall_s] each."""
    return [[int(run.s), float(run.gamma), float(run.load), float(run.wall_s)] for run in runs]
