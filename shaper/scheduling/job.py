"""Moldable jobs, and where they are placed.

    symbol   meaning                                                       unit
    p_j      run time on j processors                                      s
    useful   allotments j that are faster than every smaller one           processors

A larger allotment that is not faster is never worth having, so tables may have steps, plateaus and humps.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shaper.errors import BadInput

JobId = int | str
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MoldableJob:
    """A job that runs on as many processors as it is given when it starts.

    Args:
        id: unique among the jobs that are planned together; ties are broken by it.
        release_s: when it arrived.
        times: times[j - 1] is its run time on j processors, s; as long as the most processors it can use.

    Attributes:
        allotments: the useful allotments, ascending; the first is 1.
        serial_s: run time on one processor, p_1: what a stretch is measured in.
        least_work_s: the least processor time it can be done in.
    """

    id: JobId
    release_s: float
    times: Sequence[float] | Array = field(repr=False)
    allotments: Sequence[int] = field(init=False, repr=False, compare=False)
    serial_s: float = field(init=False, repr=False, compare=False)
    least_work_s: float = field(init=False, repr=False, compare=False)
    # Times of the useful allotments, negated: ascending, as bisect wants them.
    negated_s: Sequence[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int | str):
            raise BadInput(f"the id of a job must be a number or a string, got {self.id!r}")
        times = _numbers(self.times, f"job {self.id!r}: times")
        release = _numbers([self.release_s], f"job {self.id!r}: release_s")
        if times.ndim != 1 or not len(times):
            raise BadInput(f"job {self.id!r}: times must hold its run time on 1, 2, ... processors")
        if not (np.isfinite(times).all() and (times > 0).all()):
            raise BadInput(f"job {self.id!r}: run times must be positive and finite")
        if not np.isfinite(release).all():
            raise BadInput(f"job {self.id!r}: release_s must be finite, got {self.release_s!r}")
        useful = np.flatnonzero(times < np.concatenate(([np.inf], np.minimum.accumulate(times)[:-1])))
        contiguous = useful[-1] == len(useful) - 1
        # Compact: a trace of jobs for hundreds of processors holds millions of times.
        object.__setattr__(self, "times", array("d", times.tobytes()))
        object.__setattr__(self, "release_s", float(release[0]))
        object.__setattr__(
            self, "allotments", range(1, len(useful) + 1) if contiguous else tuple((useful + 1).tolist())
        )
        object.__setattr__(self, "negated_s", array("d", (-times[useful]).tobytes()))
        object.__setattr__(self, "serial_s", float(times[0]))
        object.__setattr__(self, "least_work_s", float((times[useful] * (useful + 1)).min()))

    def __hash__(self) -> int:
        return hash(self.id)

    def useful(self, limit: int) -> int:
        """How many of the useful allotments are within a limit."""
        return len(self.allotments) if self.allotments[-1] <= limit else bisect_right(self.allotments, limit)


class Placement(NamedTuple):
    """A job that has, or will have, so many processors from `start_s` on."""

    job: MoldableJob
    processors: int
    start_s: float

    @property
    def duration_s(self) -> float:
        """The run time that its table says."""
        return self.job.times[self.processors - 1]

    @property
    def end_s(self) -> float:
        """When it ends, as predicted."""
        return self.start_s + self.duration_s


def _numbers(values: object, name: str) -> Array:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be numbers, got {str(values)[:60]!r}") from error
