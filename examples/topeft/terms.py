"""Arithmetic of the quadratic form sum_{i>=j} c_ij w_i w_j over w = (1, w_1, ..., w_n), and of its square.

| symbol | meaning | shape |
|---|---|---|
| n | number of Wilson coefficients | |
| w | 1 and a point in their space; all w_i = 0 is the standard model | (n + 1,) |
| c | terms of the form, a lower triangle packed by rows: index(i, j) = i (i + 1) / 2 + j | (..., Q = (n+1)(n+2)/2) |
| d | terms of its square, i >= j >= k >= l: index = C(i+3, 4) + C(j+2, 3) + C(k+1, 2) + l | (..., C(n + 4, 4)) |
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, isqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


def quadratic_size(coefficients: int) -> int:
    """Return Q, the number of terms of the form."""
    return comb(coefficients + 2, 2)


def quartic_size(coefficients: int) -> int:
    """Return the number of terms of the square of the form."""
    return comb(coefficients + 4, 4)


def coefficients_of(terms: int) -> int:
    """Return n from the number of terms of the form.

    Raises:
        ValueError: no n has this many terms: the branch is not a packed lower triangle.
    """
    n = (isqrt(8 * terms + 1) - 3) // 2
    if terms < 1 or quadratic_size(n) != terms:
        raise ValueError(f"{terms} terms per event are no packed triangle; n coefficients have (n + 1)(n + 2) / 2")
    return n


def _vector(point: ArrayLike, coefficients: int) -> NDArray[np.float64]:
    """Return w of a point; an empty one is the standard model."""
    values = np.asarray(point, float).reshape(-1)
    if values.size == 0:
        values = np.zeros(coefficients)
    if values.size != coefficients:
        raise ValueError(f"a point needs {coefficients} coefficients, got {values.size}")
    return np.concatenate([[1.0], values])


def quadratic_monomials(point: ArrayLike, coefficients: int) -> NDArray[np.float64]:
    """Return w_i w_j at the place of each term: the form's value is its product with c."""
    w = _vector(point, coefficients)
    rows, columns = np.tril_indices(coefficients + 1)
    return w[rows] * w[columns]


def quartic_monomials(point: ArrayLike, coefficients: int) -> NDArray[np.float64]:
    """Return w_i w_j w_k w_l at the place of each term of the square."""
    w = _vector(point, coefficients)
    return w[_quartic_indices(coefficients)].prod(axis=1)


@lru_cache(maxsize=4)
def _quartic_indices(coefficients: int) -> NDArray[np.intp]:
    """Return (i, j, k, l) of every quartic term, in the order of the packing."""
    size = coefficients + 1
    out = [(i, j, k, m) for i in range(size) for j in range(i + 1) for k in range(j + 1) for m in range(k + 1)]
    return np.array(out, np.intp)


@lru_cache(maxsize=4)
def _pairs(coefficients: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """Return the products c_a c_b that make up the square: a, b, 1 or 2, and where each quartic term starts."""
    rows, columns = np.tril_indices(coefficients + 1)
    a, b = np.tril_indices(len(rows))
    four = np.sort(np.stack([rows[a], columns[a], rows[b], columns[b]]), axis=0)[::-1]
    i, j, k, m = four
    index = _choose(i + 3, 4) + _choose(j + 2, 3) + _choose(k + 1, 2) + m
    order = np.argsort(index, kind="stable")
    factor = np.where(a == b, 1, 2).astype(np.float32)
    starts = np.searchsorted(index[order], np.arange(quartic_size(coefficients)))
    return a[order], b[order], factor[order], starts


def _choose(n: NDArray[np.intp], k: int) -> NDArray[np.intp]:
    out = np.ones_like(n)
    for step in range(k):
        out = out * (n - step) // (step + 1)
    return out


def square(terms: Array, block: int = 64) -> Array:
    """Return the terms of the squared form of every event, float32.

    Args:
        terms: shape (events, Q).
        block: events at a time; bounds the scratch memory, not the result: 27,405 terms per event for n = 26.
    """
    n = coefficients_of(terms.shape[1])
    a, b, factor, starts = _pairs(n)
    out = np.empty((len(terms), len(starts)), np.float32)
    for start in range(0, len(terms), block):
        some = terms[start : start + block]
        out[start : start + block] = np.add.reduceat(some[:, a] * some[:, b] * factor, starts, axis=1)
    return out
