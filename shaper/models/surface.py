"""What a model of parallelism has learnt: the law and, where the data depart from it, a Gaussian process on ln T."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shaper.models.gp import Array, Kernel, Process, coordinates, installed, noise_alone, tuned
from shaper.models.runs import Estimate, Run, estimate_of
from shaper.models.usl import Curve, fit

_FEW = 12  # runs below which five parameters of a kernel cannot be told from noise
_WORTH = 3.0  # a process speaks where it makes the residuals e^3, twenty times, as likely as noise alone does
_STRAGGLER = 4.0  # residuals count up to so many standard deviations
_EARLIER_COUNTS = 0.5  # what a run from before a change counts


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """ln T over (s, gamma, load).

    Args:
        curve: the law.
        process: what it leaves over, in units of the curve's noise; None where that is noise.
        kernel: of the process, found last; the next search begins there.
        missing: there is no scikit-learn, hence no process.
        n: runs behind it.
    """

    curve: Curve
    process: Process | None
    kernel: Kernel
    missing: bool
    n: int

    def log_times(self, points: Array, regime: int = 0) -> tuple[Array, Array]:
        """Mean of ln T at points (n, 3) and its variance, (n,) each; the noise of a run is not in it."""
        mean, jacobian = self.curve.log_times(points, np.full(len(points), regime))
        variance = self.curve.variance(jacobian)
        if self.process is None:
            return mean, variance
        more, unsure = self.process.at(coordinates(points))
        noise = self.curve.noise
        return mean + noise * more, variance + noise**2 * unsure

    def apart(self, one: Array, other: Array) -> tuple[float, float]:
        """By how much ln T at one point, (3,), is above that at another, and the standard deviation of that."""
        mean, jacobian = self.curve.log_times(np.stack([one, other]))
        variance = self.curve.variance(jacobian[:1] - jacobian[1:])[0]
        if self.process is not None:
            more, unsure = self.process.at(coordinates(np.stack([one, other])))
            mean, variance = mean + self.curve.noise * more, variance + self.curve.noise**2 * unsure.sum()
        return float(mean[0] - mean[1]), math.sqrt(float(variance))

    def drawn(self, points: Array, rng: np.random.Generator) -> Array:
        """One possible ln T at points, (n,): parameters of the law from their posterior, the process at its mean."""
        theta = rng.multivariate_normal(np.zeros(len(self.curve.theta)), self.curve.covariance)
        return self.log_times(points)[0] + self.curve.log_times(points)[1] @ theta

    def estimate(self, point: tuple[float, float, float]) -> Estimate:
        """What one run at a point is expected to take."""
        mean, variance = self.log_times(np.array([point]))
        return estimate_of(float(mean[0]), float(variance[0]) + self.curve.noise**2, self.n)

    def error(self, run: Run, regime: int = 0) -> tuple[float, float]:
        """By how much ln of a run's time differs from what is expected, and the standard deviation of that."""
        mean, variance = self.log_times(np.array([run.point]), regime)
        return math.log(run.wall_s) - float(mean[0]), math.sqrt(float(variance[0]) + self.curve.noise**2)


def learnt(runs: Sequence[Run], regimes: Sequence[int], kernel: Kernel, search: bool = True) -> Surface:
    """Fit law and process to runs, at least one.

    Args:
        runs: any order.
        regimes: of each run: 0 today's, 1 ... J earlier ones.
        kernel: where the search for the process's kernel begins.
        search: without, the kernel is taken as it is.
    """
    points = np.array([run.point for run in runs])
    times_s = np.array([run.wall_s for run in runs])
    labels = np.array(regimes)
    curve = fit(points, times_s, labels, np.where(labels == 0, 1.0, _EARLIER_COUNTS))
    if len(runs) < _FEW or not installed():
        return Surface(curve, None, kernel, not installed(), len(runs))
    left = (np.log(times_s) - curve.log_times(points, labels)[0]) / curve.noise
    left = np.clip(left, -_STRAGGLER, _STRAGGLER)
    x = coordinates(points)
    found = tuned(x, left, kernel) if search else kernel
    if found is None:
        return Surface(curve, None, kernel, True, len(runs))
    process = Process.of(x, left, found)
    speaks = process.log_likelihood - noise_alone(left) >= _WORTH
    return Surface(curve, process if speaks else None, found, False, len(runs))
