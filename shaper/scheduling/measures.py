"""How good schedules are: stretch, flow, and for whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shaper.errors import BadInput
from shaper.scheduling.job import Array
from shaper.scheduling.simulate import Schedule

_K, _M = 2.0**10, 2.0**20
# Bounds of the slides' classes of jobs, by run time on one processor, s; what is more is a class too.
DOWNEY_CLASSES_S = (1.0, 16.0, 256.0, 4 * _K, 64 * _K, _M)
MAPPING_CLASSES_S = (256.0, 4 * _K, 64 * _K, _M, 4 * _M, 16 * _M)


@dataclass(frozen=True, slots=True)
class Summary:
    """Averages and maxima over all jobs; `share_above_1` is the part with a stretch of more than 1."""

    jobs: int
    average_stretch: float
    max_stretch: float
    share_above_1: float
    average_flow_s: float
    max_flow_s: float


@dataclass(frozen=True, slots=True)
class Class:
    """Jobs of like size, `low_s` <= run time on one processor < `high_s`."""

    low_s: float
    high_s: float
    jobs: int
    share_above_1: float

    @property
    def name(self) -> str:
        """`4K-64K` or `> 1M`, as the slides write it."""
        return f"> {_short(self.low_s)}" if math.isinf(self.high_s) else f"{_short(self.low_s)}-{_short(self.high_s)}"


@dataclass(frozen=True, slots=True, eq=False)
class Fared:
    """How jobs fared, one value each; `serial_s` is their run time on one processor. Many of these can be kept."""

    stretch: Array
    flow_s: Array
    serial_s: Array

    @classmethod
    def of(cls, *schedules: Schedule) -> Fared:
        """All jobs of one or more schedules."""
        return cls(
            np.array([value for one in schedules for value in one.stretch.values()]),
            np.array([value for one in schedules for value in one.flow.values()]),
            np.array([value for one in schedules for value in one.serial_s.values()]),
        )

    @classmethod
    def pooled(cls, parts: Sequence[Fared]) -> Fared:
        """All jobs of several."""
        return cls(
            np.concatenate([one.stretch for one in parts]),
            np.concatenate([one.flow_s for one in parts]),
            np.concatenate([one.serial_s for one in parts]),
        )


def summary(fared: Fared) -> Summary:
    """Return the figures of all jobs together.

    Raises:
        BadInput: there are no jobs.
    """
    stretch, flow_s = fared.stretch, fared.flow_s
    if not len(stretch):
        raise BadInput("there are no jobs to measure")
    return Summary(
        len(stretch),
        float(stretch.mean()),
        float(stretch.max()),
        float((stretch > 1).mean()),
        float(flow_s.mean()),
        float(flow_s.max()),
    )


def by_class(fared: Fared, bounds_s: Sequence[float]) -> list[Class]:
    """Return the share of jobs with a stretch of more than 1 by size; the first class takes what is smaller too."""
    serial_s = fared.serial_s
    found = []
    for low_s, high_s in pairwise((*bounds_s, math.inf)):
        mine = fared.stretch[(serial_s < high_s) & ((serial_s >= low_s) | (low_s == bounds_s[0]))]
        found.append(Class(low_s, high_s, len(mine), float((mine > 1).mean()) if len(mine) else 0.0))
    return found


def ranks_below(one: Array, other: Array) -> float:
    """Return at which part of the ranks the first sorted curve lies below the second; both have as many values."""
    return float((np.sort(one) < np.sort(other)).mean())


def _short(value: float) -> str:
    for unit, suffix in ((_M, "M"), (_K, "K")):
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"
