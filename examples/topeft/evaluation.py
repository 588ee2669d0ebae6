"""Numbers from filled histograms: yields and their uncertainties at points of the space of Wilson coefficients."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import hist
import numpy as np
from numpy.typing import ArrayLike, NDArray

from examples.topeft.quadratic import Category, QuadraticHist

Array = NDArray[np.float64]

# of the Warsaw basis with top quarks, in the order of the terms
COEFFICIENT_NAMES = (
    *("ctW", "ctZ", "ctp", "cpQM", "ctG", "cbW", "cpQ3", "cptb", "cpt", "cQl3i", "cQlMi", "cQei", "ctli"),
    *("ctei", "ctlSi", "ctlTi", "cQq13", "cQq83", "cQq11", "ctq1", "cQq81", "ctq8", "ctt1", "cQQ1", "cQt8", "cQt1"),
)


def coefficient_names(coefficients: int) -> list[str]:
    """Return n names; beyond those of the basis, numbers."""
    return [*COEFFICIENT_NAMES[:coefficients], *(f"c{i + 1}" for i in range(len(COEFFICIENT_NAMES), coefficients))]


def parse_point(text: str, coefficients: int) -> Array:
    """Return the point that `"ctW=2,ctZ=-1"` names; what is not named is 0.

    Raises:
        ValueError: no such coefficient, or not a number; the message says how to write one.
    """
    names = coefficient_names(coefficients)
    point = np.zeros(coefficients)
    for part in filter(None, re.split(r"[,\s]+", text)):
        name, _, value = part.partition("=")
        if name not in names:
            raise ValueError(f"no coefficient {name!r}; there are {', '.join(names) or 'none'}")
        try:
            point[names.index(name)] = float(value)
        except ValueError:
            raise ValueError(f"{part!r} is not a value for a coefficient: write it like {name}=1.5") from None
    return point


@dataclass(frozen=True, slots=True)
class Spectrum:
    """A variable in one channel and region, jets summed up, overflow in the last bin and underflow in the first.

    Args:
        edges: (bins + 1,).
        processes: per process (bins,) at the standard model.
        at_point: (bins,) all processes at the other point.
        statistical, systematic: (2, bins) down and up, absolute, of the standard-model total.
        point_statistical: (bins,) of `at_point`; None where variances were filled at the standard model alone.
    """

    edges: Array
    processes: Mapping[str, Array]
    at_point: Array
    statistical: Array
    systematic: Array
    point_statistical: Array | None = None

    @property
    def total(self) -> Array:
        """All processes at the standard model."""
        return np.sum([np.zeros_like(self.at_point), *self.processes.values()], axis=0)

    @property
    def uncertainty(self) -> Array:
        """Statistical and systematic uncertainty in quadrature, (2, bins) down and up."""
        return np.hypot(self.statistical, self.systematic)


def spectrum(histogram: QuadraticHist, channel: str, point: ArrayLike = (), region: str = "SR") -> Spectrum:
    """Return what a plot of one channel shows: the standard model by process, and everything at `point`."""
    here = [c for c in histogram.sums if c.channel == channel and c.region == region]
    nominal = [c for c in here if c.systematic == "nominal"]
    zeros = np.zeros(histogram.axis.size)
    processes = {process: zeros.copy() for process in sorted({c.process for c in nominal})}
    at_point, variance, point_variance = zeros.copy(), zeros.copy(), zeros.copy()
    for category in nominal:
        processes[category.process] += _fold(histogram.values(category))
        at_point += _fold(histogram.values(category, point))
        variance += _fold(histogram.variance(category))
        point_variance += _fold(histogram.variance(category, point))
    total = np.sum([zeros, *processes.values()], axis=0)
    edges = np.asarray(histogram.axis.edges, float)
    statistical = np.sqrt(np.stack([variance, variance]))
    everywhere = any(values.shape[1] > 1 for values in histogram.variances.values())
    point_statistical = np.sqrt(point_variance) if everywhere else None
    systematic = _systematic(histogram, here, total)
    return Spectrum(edges, processes, at_point, statistical, systematic, point_statistical)


def _systematic(histogram: QuadraticHist, here: Sequence[Category], total: Array) -> Array:
    """Return what the variations move the total down and up, in quadrature; shape (2, bins)."""
    varied: dict[str, Array] = {}
    data = {c.process for c in here} - {c.process for c in here if c.systematic != "nominal"}
    unmoved = [c for c in here if c.process in data]  # nothing varies data
    for category in here:
        if category.systematic != "nominal":
            moved = varied.setdefault(category.systematic, np.zeros_like(total))
            moved += _fold(histogram.values(category))
    squares = np.zeros((2, len(total)))
    for values in varied.values():
        shift = values + sum(_fold(histogram.values(c)) for c in unmoved) - total
        squares[0] += np.square(np.minimum(shift, 0.0))
        squares[1] += np.square(np.maximum(shift, 0.0))
    out: Array = np.sqrt(squares)
    return out


@dataclass(frozen=True, slots=True)
class Yield:
    """The events expected in one channel and bin of jets of the signal region."""

    channel: str
    jets: str
    processes: Mapping[str, float]
    at_point: float
    uncertainty: float

    @property
    def total(self) -> float:
        """All processes at the standard model."""
        return sum(self.processes.values())


def yields(histogram: QuadraticHist, point: ArrayLike = (), region: str = "SR") -> Iterator[Yield]:
    """Yield one row per channel and bin of jets; any histogram will do, each holds all events."""
    rows = sorted({(c.channel, c.jets) for c in histogram.sums if c.region == region})
    for channel, jets in rows:
        some = QuadraticHist(histogram.axis)
        some.sums = {
            c: v for c, v in histogram.sums.items() if (c.channel, c.jets, c.region) == (channel, jets, region)
        }
        some.variances = {c: v for c, v in histogram.variances.items() if c in some.sums}
        nominal = [c for c in some.sums if c.systematic == "nominal"]
        processes: dict[str, float] = {}
        for c in sorted(nominal):
            processes[c.process] = processes.get(c.process, 0.0) + float(some.values(c).sum())
        one_bin = _one_bin(some)
        whole = spectrum(one_bin, channel, point, region)
        yield Yield(channel, jets, processes, float(whole.at_point[0]), float(whole.uncertainty.max()))


def scan(histogram: QuadraticHist, channel: str, coefficient: int, values: Array) -> Array:
    """Return the yield of a channel's signal region at each value of one coefficient, the others at 0."""
    n = histogram.coefficients
    nominal = [c for c in histogram.sums if (c.channel, c.region, c.systematic) == (channel, "SR", "nominal")]
    points = np.zeros((len(values), n))
    points[:, coefficient] = values
    return np.array([sum(histogram.values(c, point).sum() for c in nominal) for point in points], float)


def _one_bin(histogram: QuadraticHist) -> QuadraticHist:
    """Return the histogram with one bin, so that variations of the shape do not count as variations of the yield."""
    out = QuadraticHist(hist.axis.Regular(1, 0, 1, name="all"))
    empty = (0, 0)
    out.sums = {c: np.pad(v.sum(axis=0, keepdims=True), ((1, 1), empty)) for c, v in histogram.sums.items()}
    out.variances = {c: np.pad(v.sum(axis=0, keepdims=True), ((1, 1), empty)) for c, v in histogram.variances.items()}
    return out


def _fold(values: Array) -> Array:
    """Return the bins with underflow in the first and overflow in the last."""
    out = values[1:-1].copy()
    out[0] += values[0]
    out[-1] += values[-1]
    return out
