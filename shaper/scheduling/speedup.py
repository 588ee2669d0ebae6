"""How much faster a job runs on n processors than on one.

symbol   meaning                                            shape
n        processors                                         (k,)
S(n)     speed-up: run time on one over run time on n        (k,)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shaper.errors import BadInput
from shaper.scheduling.checks import positive, real, whole, within
from shaper.scheduling.job import Array


class Speedup(Protocol):
    """A speed-up curve."""

    def at(self, n: NDArray[Any]) -> Array:
        """S(n); n of at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class Downey:
    """Downey's curve: nearly linear, bending the sooner the more the parallelism varies, then constant.

    Source: A. Downey, "A model for speedup of parallel programs" (1997).

    Args:
        parallelism: average parallelism A, the largest speed-up; at least 1.
        variance: of the parallelism, v; 0 is linear up to A.
    """

    parallelism: float
    variance: float

    def __post_init__(self) -> None:
        within(self.parallelism, "parallelism", 1.0)
        within(self.variance, "variance", 0.0)

    def at(self, n: NDArray[Any]) -> Array:
        """S(n)."""
        a, v = self.parallelism, self.variance
        n = np.asarray(n, dtype=np.float64)
        if v <= 1.0:
            rising = a * n / (a + v / 2 * (n - 1))
            bending = a * n / (v * (a - 0.5) + n * (1 - v / 2))
            return np.where(n <= a, rising, np.where(n <= 2 * a - 1, bending, a))
        return np.where(n <= a + a * v - v, n * a * (v + 1) / (v * (n + a - 1) + a), a)


@dataclass(frozen=True, slots=True)
class Amdahl:
    """A part of the work runs on one processor, the rest on all: S(n) = 1 / (f + (1 - f) / n).

    Args:
        serial: the part f, from 0 to 1.
    """

    serial: float

    def __post_init__(self) -> None:
        within(self.serial, "serial", 0.0, 1.0)

    def at(self, n: NDArray[Any]) -> Array:
        """S(n)."""
        n = np.asarray(n, dtype=np.float64)
        return n / (1.0 + self.serial * (n - 1.0))


@dataclass(frozen=True, slots=True)
class UniversalScalability:
    """Gunther's law: S(n) = n / (1 + s (n - 1) + k n (n - 1)); with coherence it falls beyond some n.

    Source: N. Gunther, "Guerrilla Capacity Planning" (2007), equation 4.31 (C(N) with sigma and kappa).

    Args:
        contention: s, what waits for what is shared; at least 0.
        coherence: k, what keeping all processors in agreement costs per pair; at least 0.
    """

    contention: float
    coherence: float

    def __post_init__(self) -> None:
        within(self.contention, "contention", 0.0)
        within(self.coherence, "coherence", 0.0)

    def at(self, n: NDArray[Any]) -> Array:
        """S(n)."""
        n = np.asarray(n, dtype=np.float64)
        return n / (1.0 + self.contention * (n - 1.0) + self.coherence * n * (n - 1.0))


@dataclass(frozen=True, slots=True)
class Measured:
    """Run times that were measured; on other numbers of processors the job runs as on the next smaller measured one.

    Args:
        times_s: by number of processors; that on one must be there.
    """

    times_s: Mapping[int, float]

    def __post_init__(self) -> None:
        if 1 not in self.times_s:
            raise BadInput("a measured speed-up needs the run time on one processor")
        if any(not (real(n) >= 1 and 0 < real(time) < math.inf) for n, time in self.times_s.items()):
            raise BadInput(f"measured run times must be positive, on 1 processor or more, got {dict(self.times_s)}")

    def at(self, n: NDArray[Any]) -> Array:
        """S(n)."""
        known = sorted(self.times_s)
        times = np.array([self.times_s[processors] for processors in known])
        speedups: Array = times[0] / times[np.searchsorted(known, n, side="right") - 1]
        return speedups


def run_times(serial_s: float, speedup: Speedup, processors: int) -> Array:
    """Return p_j for j = 1 ... processors, for a job that runs `serial_s` on one.

    Raises:
        BadInput: a serial time or a number of processors that cannot be.
    """
    serial_s, processors = positive(serial_s, "serial_s"), whole(processors, "processors")
    speedups = speedup.at(np.arange(1, processors + 1))
    times: Array = serial_s * (speedups[0] / speedups)  # exactly serial_s on one, whatever rounding makes of S(1)
    return times
