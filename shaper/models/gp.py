"""A small Gaussian process: what a law leaves over, learnt where it was seen and forgotten elsewhere.

    symbol   meaning                                                        shape
    x, q     inputs: those that were seen, those that are asked about       (n, 3), (m, 3)
    y        what the law left over, over its usual size                    (n,)
    v, l, w  amplitude^2, lengths along each input, noise^2                 1, (3,), 1
    d        distance, d_ij^2 = sum_k ((x_ik - q_jk) / l_k)^2               (n, m)

    k(d)   = v (1 + sqrt(5) d + 5 d^2 / 3) exp(-sqrt(5) d)                  (1; Rasmussen & Williams, 2006, eq. 4.17)
    mean   = k(q, x) (k(x, x) + w I)^-1 y                                   (2; eq. 2.25)
    var    = v - k(q, x) (k(x, x) + w I)^-1 k(x, q), without the noise      (3; eq. 2.26)
    ln p(y)= -y^T (k + w I)^-1 y / 2 - ln |k + w I| / 2 - n ln(2 pi) / 2    (4; eq. 2.30)

The kernel is the one with the largest (4), found by scikit-learn from the last kernel on (warm start, no restarts).
Only its five numbers are kept: (1) to (4) are computed here, so that a kept model is read back without another search.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from shaper.errors import BadInput

Array = NDArray[np.float64]
_AMPLITUDE2, _LENGTH, _NOISE2 = (1e-2, 1e3), (0.3, 20.0), (0.25, 4.0)  # bounds
_ROUNDED = 1.001  # the search ends at a bound, but for rounding
_FAR = 20.0  # logarithms beyond this are taken as this

MISSING = "scikit-learn is not installed, pip install shaper[models]"


class Kernel(NamedTuple):
    """The parameters of (1) and the noise; all above 0."""

    amplitude2: float = 1.0
    lengths: tuple[float, ...] = (1.0, 1.0, 1.0)
    noise2: float = 1.0

    def checked(self) -> Kernel:
        """Return it.

        Raises:
            BadInput: there are not three lengths, or something is outside the bounds of the search.
        """
        bounds = [(self.amplitude2, _AMPLITUDE2), (self.noise2, _NOISE2), *((each, _LENGTH) for each in self.lengths)]
        within = all(low / _ROUNDED <= each <= high * _ROUNDED for each, (low, high) in bounds)
        if len(self.lengths) != 3 or not within:
            raise BadInput(f"{self} is no kernel: wanted three lengths, everything within the bounds of the search")
        return self


def coordinates(points: Array) -> Array:
    """Inputs of a process at (s, gamma, load), (n, 3): logarithms, because what matters about each is its factor."""
    s, gamma, load = points.T
    return np.column_stack([np.clip(each, -_FAR, _FAR) for each in (np.log(s), np.log(gamma), np.log1p(load))])


def installed() -> bool:
    """Whether scikit-learn is there, without importing it: that takes a second."""
    return find_spec("sklearn") is not None


def tuned(x: Array, y: Array, start: Kernel) -> Kernel | None:
    """Return the kernel with the largest (4); None where there is no scikit-learn.

    Args:
        x: (n, 3), of the order of one.
        y: (n,), of the order of one.
        start: where the search begins.
    """
    if not installed():
        return None
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor, kernels
    except ImportError:
        return None
    kernel = kernels.ConstantKernel(start.amplitude2, _AMPLITUDE2) * kernels.Matern(
        start.lengths, _LENGTH, nu=2.5
    ) + kernels.WhiteKernel(start.noise2, _NOISE2)
    with _blas().limit(limits=1, user_api="blas"), warnings.catch_warnings():
        # At a bound, or out of iterations: still the best that was found.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = GaussianProcessRegressor(kernel, n_restarts_optimizer=0).fit(x, y).kernel_
    lengths = tuple(float(length) for length in np.atleast_1d(found.k1.k2.length_scale))
    return Kernel(float(found.k1.k1.constant_value), lengths, float(found.k2.noise_level))


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    """The linear algebra that scikit-learn uses: for 50 points, waking its threads takes longer than computing."""
    return ThreadpoolController()


def noise_alone(y: Array) -> float:
    """(4) without a process, at the best noise within its bounds."""
    n = len(y)
    noise2 = float(np.clip(y @ y / n, *_NOISE2))
    return -0.5 * float(y @ y) / noise2 - 0.5 * n * math.log(2 * math.pi * noise2)


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """A process that has seen (x, y): the factors that (2) and (3) need."""

    x: Array  # (n, 3)
    kernel: Kernel
    lower: Array  # (n, n), Cholesky factor of k(x, x) + w I
    whitened: Array  # (n,), lower^-1 y

    @classmethod
    def of(cls, x: Array, y: Array, kernel: Kernel) -> Process:
        """Condition on what was seen."""
        lower = np.linalg.cholesky(_covariance(x, x, kernel) + kernel.noise2 * np.eye(len(y))).astype(np.float64)
        return cls(x, kernel, lower, np.linalg.solve(lower, y).astype(np.float64))

    @property
    def log_likelihood(self) -> float:
        """Equation (4)."""
        n = len(self.whitened)
        fit, volume = self.whitened @ self.whitened, np.log(np.diag(self.lower)).sum()
        return float(-0.5 * fit - volume - 0.5 * n * math.log(2 * math.pi))

    def at(self, q: Array) -> tuple[Array, Array]:
        """Mean and variance at q, equations (2) and (3): (m,) each."""
        across = np.linalg.solve(self.lower, _covariance(self.x, q, self.kernel)).astype(np.float64)
        return across.T @ self.whitened, np.maximum(self.kernel.amplitude2 - (across * across).sum(0), 0.0)


def _covariance(x: Array, q: Array, kernel: Kernel) -> Array:
    """Equation (1) between all pairs, (n, m)."""
    apart = (x[:, None, :] - q[None, :, :]) / np.asarray(kernel.lengths)
    d = math.sqrt(5.0) * np.sqrt((apart * apart).sum(-1))
    covariance: Array = kernel.amplitude2 * (1.0 + d + d * d / 3.0) * np.exp(-d)
    return covariance
