"""Histograms whose bins hold a quadratic form in the Wilson coefficients instead of a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import hist
import numpy as np
from numpy.typing import ArrayLike, NDArray

from examples.topeft.terms import (
    coefficients_of,
    quadratic_monomials,
    quadratic_size,
    quartic_monomials,
    quartic_size,
)

Array = NDArray[np.float64]


class Category(NamedTuple):
    """The sparse axes of a histogram.

    Attributes:
        process: of the dataset.
        channel: `2lss`, `3l` or `4l`.
        jets: number of jets, the last one inclusive: `4j`, `6j+`.
        region: `SR`, the signal region, or `AR`, the application region of the estimate of fake leptons.
        systematic: `nominal`, `jes_up`, ...
    """

    process: str
    channel: str
    jets: str
    region: str
    systematic: str


class QuadraticHist:
    """A histogram of one variable per category, each bin with the Q summed terms of its events' quadratic forms.

    Its sums add like numbers. Without Wilson coefficients Q is 1 and it is a plain weighted histogram.

    Args:
        axis: of the variable, with underflow and overflow.

    Attributes:
        sums: per category (bins + 2, Q): sums of weight times term; the first and last bin are under- and overflow.
        variances: per category, nominal ones only: sums of the squared weight times the squared form: of its first
            term alone (bins + 2, 1), the variance at the standard model, or all terms (bins + 2, C(n + 4, 4)).
    """

    def __init__(self, axis: hist.axis.AxesMixin) -> None:
        self.axis = axis
        self.sums: dict[Category, Array] = {}
        self.variances: dict[Category, Array] = {}

    def __add__(self, other: QuadraticHist) -> QuadraticHist:
        out = QuadraticHist(self.axis)
        out.sums = {category: values.copy() for category, values in self.sums.items()}
        out.variances = {category: values.copy() for category, values in self.variances.items()}
        out += other
        return out

    def __iadd__(self, other: QuadraticHist) -> QuadraticHist:
        if self.axis != other.axis:
            raise ValueError(f"cannot add histograms of {self.axis.name!r} and {other.axis.name!r} with other bins")
        _add_into(self.sums, other.sums)
        _add_into(self.variances, other.variances)
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuadraticHist):
            return NotImplemented
        return self.axis == other.axis and all(
            mine.keys() == theirs.keys() and all(np.array_equal(mine[c], theirs[c]) for c in mine)
            for mine, theirs in ((self.sums, other.sums), (self.variances, other.variances))
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def coefficients(self) -> int:
        """The number n of Wilson coefficients; 0 where no category has any."""
        return max((coefficients_of(values.shape[1]) for values in self.sums.values()), default=0)

    def values(self, category: Category, point: ArrayLike = ()) -> Array:
        """Return the contents at a point, shape (bins + 2,); zeros for a category without events."""
        sums = self.sums.get(category)
        return np.zeros(self.axis.extent) if sums is None else _evaluate(sums, point)

    def variance(self, category: Category, point: ArrayLike = ()) -> Array:
        """Return the statistical variance at a point, or, where only that was filled, at the standard model."""
        terms = self.variances.get(category)
        if terms is None:
            return np.zeros(self.axis.extent)
        if terms.shape[1] == 1:
            return terms[:, 0].copy()
        n = next(n for n in range(1000) if quartic_size(n) == terms.shape[1])
        return terms @ quartic_monomials(point, n)

    def dense(self, category: Category) -> hist.Hist:
        """Return one category as a `hist.Hist` with the variable's axis and one for the quadratic terms."""
        terms = self.sums[category].shape[1]
        quadratic = hist.axis.Integer(0, terms, name="quadratic_term", flow=False)
        out = hist.Hist(self.axis, quadratic, storage=hist.storage.Double())
        out.view(flow=True)[...] = self.sums[category]
        return out

    def at(self, point: ArrayLike = ()) -> hist.Hist:
        """Return an ordinary `hist.Hist` at a point, with a StrCategory axis for each part of the category.

        Systematic variations carry no variance.
        """
        names = [
            hist.axis.StrCategory(sorted({c[i] for c in self.sums}), name=name, growth=True)
            for i, name in enumerate(Category._fields)
        ]
        out = hist.Hist(*names, self.axis, storage=hist.storage.Weight())
        view = out.view(flow=True)
        for category in self.sums:
            place = tuple(axis.index(part) for axis, part in zip(names, category, strict=True))
            view[place]["value"] = self.values(category, point)
            view[place]["variance"] = self.variance(category, point)
        return out


@dataclass(frozen=True, slots=True)
class Selected:
    """The selected events of a chunk.

    Args:
        terms: (events, Q) terms of the quadratic forms.
        squares: (events, 1) or (events, C(n + 4, 4)) terms of their squares.
        groups: (events,) which of `categories` each event belongs to.
        categories: without their systematic, which `fill` sets.
        weights: per systematic (events,) weights.
    """

    terms: NDArray[np.floating]
    squares: NDArray[np.floating]
    groups: NDArray[np.intp]
    categories: Sequence[Category]
    weights: Mapping[str, Array]


def fill(histogram: QuadraticHist, values: NDArray[np.floating], events: Selected) -> None:
    """Add weight times term to the bin of every event, for all systematics at once.

    Events are sorted by category and bin; the events of one bin are then one matrix product
    (systematics, events of the bin) x (events of the bin, Q), so no loop runs over events or terms.
    """
    if len(values) == 0 or not events.weights:
        return
    extent = histogram.axis.extent
    bins = np.asarray(histogram.axis.index(values)) + 1  # 0 is the underflow
    rows = events.groups * extent + bins
    order = np.argsort(rows, kind="stable")
    places, starts = np.unique(rows[order], return_index=True)
    weights = np.stack(list(events.weights.values()))
    nominal = events.weights.get("nominal")
    for place, some in zip(places, np.split(order, starts[1:]), strict=True):
        group, row = divmod(int(place), extent)
        added = weights[:, some] @ events.terms[some].astype(np.float64)
        for systematic, terms in zip(events.weights, added, strict=True):
            category = events.categories[group]._replace(systematic=systematic)
            _bin(histogram.sums, category, extent, terms.size)[row] += terms
        if nominal is not None:
            category = events.categories[group]._replace(systematic="nominal")
            squared = np.square(nominal[some]) @ events.squares[some].astype(np.float64)
            _bin(histogram.variances, category, extent, squared.size)[row] += squared


def _bin(into: dict[Category, Array], category: Category, extent: int, terms: int) -> Array:
    if category not in into:
        into[category] = np.zeros((extent, terms))
    return into[category]


def _add_into(into: dict[Category, Array], other: Mapping[Category, Array]) -> None:
    for category, values in other.items():
        present = into.get(category)
        if present is None:
            into[category] = values.copy()
        elif present.shape[1] >= values.shape[1]:
            present[:, : values.shape[1]] += values  # a part without coefficients has the first term alone
        else:
            wider = values.copy()
            wider[:, : present.shape[1]] += present
            into[category] = wider


def _evaluate(sums: Array, point: ArrayLike) -> Array:
    if sums.shape[1] == quadratic_size(0):
        return sums[:, 0].copy()
    return sums @ quadratic_monomials(point, coefficients_of(sums.shape[1]))
