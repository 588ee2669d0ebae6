"""Moldable jobs, and where they are placed.

    symbol   meaning                                                       unit
    p_j      run time on j processors                                      s
    useful   allotments j that are faster than every smaller one           processors

A larger allotment that is not faster is never worth having, so tables may have steps, plateaus and humps.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shaper.errors import BadInput
from shaper.scheduling.checks import ENDLESS_S, number, positive, short

JobId = int | str
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MoldableJob:
    """A job that runs on as many processors as it is given when it starts.

    Args:
        id: unique among the jobs that are planned together; ties are broken by it.
        release_s: when it arrived.
        times: times[j - 1] is its run time on j processors, s; as long as the most processors it can use.
        measure_s: what its stretch is measured in; None for its run time on one processor.

    Attributes:
        allotments: the useful allotments, ascending; the first is 1.
        serial_s: p_1, or the measure that was given instead: the unit of its stretch.
        least_work_s: the least processor time it can be done in.

    Raises:
        BadInput: a value that cannot be used; the message says which.
    """

    id: JobId
    release_s: float
    times: Sequence[float] | Array = field(repr=False)
    allotments: Sequence[int] = field(init=False, repr=False, compare=False)
    measure_s: InitVar[float | None] = None
    serial_s: float = field(init=False, repr=False)
    least_work_s: float = field(init=False, repr=False, compare=False)
    # Times of the useful allotments, negated: ascending, as bisect wants them.
    negated_s: Sequence[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self, measure_s: float | None) -> None:
        object.__setattr__(self, "id", _id(self.id))
        times = _numbers(self.times, f"job {self.id!r}: times")
        release_s = number(self.release_s, f"job {self.id!r}: release_s")
        if times.ndim != 1 or not len(times):
            raise BadInput(
                f"job {self.id!r}: times must hold its run time on 1, 2, ... processors, got {short(self.times)}"
            )
        usable = (times > 0) & (times < ENDLESS_S)
        if not usable.all():
            at = int(usable.argmin())
            raise BadInput(
                f"job {self.id!r}: its run time on {at + 1} processors must be positive and below {ENDLESS_S:g}, "
                f"got {times[at]:g}"
            )
        serial_s = float(times[0]) if measure_s is None else positive(measure_s, f"job {self.id!r}: measure_s")
        useful = np.flatnonzero(times < np.concatenate(([np.inf], np.minimum.accumulate(times)[:-1])))
        contiguous = useful[-1] == len(useful) - 1
        # Compact: a trace of jobs for hundreds of processors holds millions of times.
        object.__setattr__(self, "times", array("d", times.tobytes()))
        object.__setattr__(self, "release_s", release_s)
        object.__setattr__(
            self, "allotments", range(1, len(useful) + 1) if contiguous else tuple((useful + 1).tolist())
        )
        object.__setattr__(self, "negated_s", array("d", (-times[useful]).tobytes()))
        object.__setattr__(self, "serial_s", serial_s)
        object.__setattr__(self, "least_work_s", float((times[useful] * (useful + 1)).min()))

    def __hash__(self) -> int:
        return hash(self.id)

    def useful(self, limit: int) -> int:
        """How many of the useful allotments are within a limit."""
        return len(self.allotments) if self.allotments[-1] <= limit else bisect_right(self.allotments, limit)

    def largest_useful(self, limit: int) -> int:
        """The largest useful allotment within a limit of at least 1."""
        return 1 if limit == 1 else self.allotments[self.useful(limit) - 1]


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


def _id(value: object) -> JobId:
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise BadInput(f"the id of a job must be a whole number or a string, got {short(value)}") from error


def _numbers(values: object, name: str) -> Array:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be numbers, got {short(values)}") from error
