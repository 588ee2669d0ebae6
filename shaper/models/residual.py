"""What Amdahl's law leaves over, as a Gaussian process on (s, gamma, load): the numeric half of amdahl_gp.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shaper.models.gp import Array, Kernel, Process, coordinates, installed, tuned

_USUAL = 0.05  # size of a residual of ln T
_FEW = 4  # runs below which the kernel is not sought
_LEAST_PART = 0.05  # G4
_SPREAD, _FAR = 3.0, 1e6  # inputs as written are divided so that the largest seen is the one, and are at most the other


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """The process and how to read it.

    Args:
        process: of the residuals over `scale`.
        scale: size of the residuals, in seconds, or in ln T with `logs`.
        logs: residuals and inputs are logarithms (M9).
        input_scale: what inputs are divided by, (3,).
        missing: there is no scikit-learn, so that nobody sought the kernel.
    """

    process: Process
    scale: float
    logs: bool
    input_scale: Array
    missing: bool

    def log_times(self, law_s: Array, points: Array) -> tuple[Array, Array]:
        """Mean and variance of ln P, (n,) each, for the law's times (n,) at points (n, 3); without the noise."""
        more, unsure = self.process.at(_inputs(points, self.logs, self.input_scale))
        if self.logs:
            return np.log(law_s) + np.maximum(self.scale * more, math.log(_LEAST_PART)), self.scale**2 * unsure
        mean_s = np.maximum(law_s + self.scale * more, _LEAST_PART * law_s)
        variance = np.log1p(self.scale**2 * unsure / mean_s**2)
        return np.log(mean_s) - variance / 2.0, variance

    def noise(self, time_s: float) -> float:
        """Standard deviation of ln T of one run that takes so long."""
        size = self.scale * math.sqrt(self.process.kernel.noise2)
        return size if self.logs else math.sqrt(math.log1p((size / time_s) ** 2))


def fitted(points: Array, left: Sequence[float], logs: bool, kernel: Kernel, search: bool = True) -> Residual:
    """Learn what the law left over.

    Args:
        points: (s, gamma, load) of each run, (n, 3).
        left: (n,), in seconds, or in ln T with `logs`.
        logs: see Residual.
        kernel: where the search for a kernel begins.
        search: without, the kernel is taken as it is.
    """
    r = np.array(left)
    input_scale = np.ones(3) if logs else np.maximum(points.max(0), 1e-9) / _SPREAD
    scale = _USUAL if logs else max(float(np.sqrt(np.mean(r**2))), 1e-9 * float(np.abs(r).max()), 1e-300)
    x, y = _inputs(points, logs, input_scale), np.clip(r / scale, -1e3, 1e3)
    found = tuned(x, y, kernel) if search and len(r) >= _FEW else kernel
    return Residual(Process.of(x, y, found or kernel), scale, logs, input_scale, found is None or not installed())


def points_of(rows: Sequence[tuple[float, float, float]]) -> Array:
    """(s, gamma, load) rows as an array, (n, 3)."""
    return np.array(rows, dtype=float).reshape(-1, 3)


def _inputs(points: Array, logs: bool, scale: Array) -> Array:
    return coordinates(points) if logs else np.minimum(points, _FAR * scale) / scale
