"""Run time against parallelism, input size and load: the universal scalability law, fitted jointly and robustly.

    symbol     meaning                                                               shape
    s          parallelism                                                           (n,)
    g          gamma, size of the input over the baseline's                          (n,)
    L          load, the parallelism of what runs beside; L* the largest seen        (n,)
    T          run time, the slowest of the s tasks                                  (n,)
    B          parallel part of the work at g = 1, L = 0                             1
    A          serial part (contention); p = B / (A + B)                             1
    C          start-up, whatever the size                                           1
    O, K       what each further task adds (coherency): always; per unit of work     1
    k          exponent of the size                                                  1
    r          exponent of the parallelism; below 1 where tasks are uneven           1
    l1, l2     effect of load, of either sign                                        1
    w_j, a_j   regime j before a change: ln of its work, and of its part that        (J,)
               is not parallel, over today's
    theta      (ln B, ln A/B, ln C/B, ln O/B, ln K/B, k, r, l1, l2, w_1, a_1, ...)   (9 + 2 J,)

    T = [e^a_j C + O (s - 1) + e^w_j g^k (e^a_j A + B s^-r + K (s - 1))] exp(l1 ln(1 + L) + l2 min(L / L*, 2))     (1)

With O = 0, r = 1 this is Gunther's law, T = T1 (1 + a (s - 1) + b s (s - 1)) / s, with a = A / (A + B) and
b = K / (A + B) (N. J. Gunther, Guerrilla Capacity Planning, 2007, eq. 4.31), and with K = 0 Amdahl's. theta has a
normal prior (shrinkage): what the data do not say stays moderate, and any number of runs, even one, gives a curve.
ln T less (1) has soft-L1 loss

    rho(z) = c^2 (sqrt(1 + (z / c)^2) - 1),   z = residual / sigma                                                (2)

so that a straggler does not bend it. The optimum of sum(rho) - ln prior is found by Levenberg and Marquardt with
reweighting; its curvature gives the covariance of theta (Laplace).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.intp]

_SHARED = 9  # elements of theta that all regimes share
# What is usual, and how far it varies. Overheads begin low: too much parallelism shows them, too little never would.
_PRIOR_MEAN = np.array([0.0, -2.0, -3.5, -9.0, -9.0, 1.0, 0.97, 0.0, 0.0])
_PRIOR_SD = np.array([10.0, 1.5, 1.5, 2.0, 2.0, 0.3, 0.15, 0.1, 0.1])
_REGIME_SD = np.array([1.0, 0.2])  # w, a; changes of shape are rare, but then large: a prior soft as in (2), c = 1
_NOISE, _NOISE_WEIGHT = 0.045, 5.0  # usual sigma, and how many runs that is worth
_SOFT = 2.0  # c of (2): residuals beyond so many sigma count by their amount, not by its square
_CONTENDED = -2.0  # ln O/B and ln K/B of the second start
_ITERATIONS, _TRIALS, _LARGEST_STEP = 40, 8, 2.0
_ENOUGH = 1e-6  # relative progress below which the fit has ended
_REFINEMENTS, _SAME_NOISE = 8, 0.01
_FAR = 20.0  # logarithms of size and load beyond this are taken as this


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A fitted curve; see the notation above.

    Args:
        theta: (9 + 2 J,).
        covariance: of theta, (9 + 2 J, 9 + 2 J).
        noise: sigma, the standard deviation of ln T of one run.
        centre: ln s of time that theta is relative to.
        load_scale: L*.
        freedom: degrees of freedom behind the noise, those of its prior included.
    """

    theta: Array
    covariance: Array
    noise: float
    centre: float
    load_scale: float
    freedom: float

    def log_times(self, points: Array, regimes: Labels | None = None) -> tuple[Array, Array]:
        """Mean of ln T, (n,), and the Jacobian by theta, (n, 9 + 2 J), at points (n, 3); today's regime unless told."""
        labels = np.zeros(len(points), np.intp) if regimes is None else regimes
        mean, jacobian = _law(self.theta, _features(points, self.load_scale), labels)
        return mean + self.centre, jacobian

    def variance(self, jacobian: Array) -> Array:
        """Variance of ln T because theta is not known exactly; without the noise."""
        variance: Array = np.einsum("ij,jk,ik->i", jacobian, self.covariance, jacobian)
        return np.maximum(variance, 0.0)

    @property
    def serial(self) -> float:
        """The part of a baseline's time that does not become shorter with more tasks."""
        fixed = math.exp(self.theta[1]) + math.exp(self.theta[2])
        return fixed / (1.0 + fixed)

    def change(self, regime: int) -> float:
        """By what factor today's work takes longer than that of an earlier regime (1, 2, ...)."""
        return math.exp(-self.theta[_SHARED + 2 * (regime - 1)])


def _features(points: Array, load_scale: float) -> Array:
    """(ln s, ln g, ln(1 + L), min(L / L*, 2)) of points (n, 3): shape (4, n)."""
    s, gamma, load = points.T
    return np.stack(
        [
            np.log(s),
            np.clip(np.log(gamma), -_FAR, _FAR),
            np.minimum(np.log1p(load), _FAR),
            np.minimum(load / load_scale, 2.0),
        ]
    )


def _law(theta: Array, features: Array, regimes: Labels) -> tuple[Array, Array]:
    """Equation (1): ln T, (n,), and its Jacobian, (n, 9 + 2 J)."""
    log_s, log_gamma, load_log, load_part = features
    apart = theta[_SHARED:].reshape(-1, 2)
    offsets = np.vstack([np.zeros((1, 2)), apart])[regimes]
    work = np.exp(theta[5] * log_gamma + offsets[:, 0])
    fixed = np.exp(offsets[:, 1])
    further = np.exp(log_s) - 1.0
    parallel = work * np.exp(-theta[6] * log_s)
    serial = work * fixed * math.exp(theta[1])
    startup = fixed * math.exp(theta[2])
    each = further * math.exp(theta[3])
    coherency = work * further * math.exp(theta[4])
    total = parallel + serial + startup + each + coherency
    worked = (parallel + serial + coherency) / total
    jacobian = np.empty((len(log_s), len(theta)))
    jacobian[:, 0] = 1.0
    jacobian[:, 1] = serial / total
    jacobian[:, 2] = startup / total
    jacobian[:, 3] = each / total
    jacobian[:, 4] = coherency / total
    jacobian[:, 5] = worked * log_gamma
    jacobian[:, 6] = -parallel / total * log_s
    jacobian[:, 7] = load_log
    jacobian[:, 8] = load_part
    for j in range(len(apart)):
        within = regimes == j + 1
        jacobian[:, _SHARED + 2 * j] = worked * within
        jacobian[:, _SHARED + 2 * j + 1] = (serial + startup) / total * within
    return theta[0] + np.log(total) + theta[7] * load_log + theta[8] * load_part, jacobian


def fit(points: Array, times_s: Array, regimes: Labels, weights: Array) -> Curve:
    """Fit (1) to runs, at least one.

    Args:
        points: (s, gamma, load) of each run, (n, 3).
        times_s: (n,), above 0.
        regimes: (n,): 0 is today's, 1 ... J are earlier ones.
        weights: (n,): what a run counts.
    """
    log_times = np.log(times_s)
    centre = float(np.median(log_times))
    load_scale = max(1.0, float(points[:, 2].max()))
    earlier = int(regimes.max())
    prior = np.concatenate([_PRIOR_MEAN, np.zeros(2 * earlier)])
    precision = np.concatenate([_PRIOR_SD, np.tile(_REGIME_SD, earlier)]) ** -2.0
    problem = _Problem(log_times - centre, _features(points, load_scale), regimes, weights, prior, precision)
    theta, noise, hessian, freedom = problem.solved()
    return Curve(theta, np.linalg.inv(hessian).astype(np.float64), noise, centre, load_scale, freedom)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """What is minimised: robust misfit and distance from the prior."""

    log_times: Array  # (n,), centred
    features: Array  # (4, n)
    regimes: Labels  # (n,)
    weights: Array  # (n,)
    prior: Array  # (m,)
    precision: Array  # (m,)

    def solved(self) -> tuple[Array, float, Array, float]:
        """Theta, sigma, the Hessian at the optimum, and the degrees of freedom of sigma."""
        noise = _NOISE
        theta, residuals, jacobian, _ = min(
            (self._descended(start, noise) for start in self._starts()), key=itemgetter(3)
        )
        for _ in range(_REFINEMENTS):
            hessian, _ = self._normal(theta, residuals, jacobian, noise)
            refined, _ = self._noise(residuals, hessian, noise)
            if abs(refined / noise - 1.0) < _SAME_NOISE:
                break
            noise = refined
            theta, residuals, jacobian, _ = self._descended(theta, noise)
        hessian, _ = self._normal(theta, residuals, jacobian, noise)
        noise, freedom = self._noise(residuals, hessian, noise)
        return theta, noise, hessian, freedom

    def _starts(self) -> list[Array]:
        """Where to begin: what is usual, and with overheads; where those are near 0, the loss is flat in them."""
        usual, contended = self.prior.copy(), self.prior.copy()
        contended[3:5] = _CONTENDED
        for theta in (usual, contended):
            theta[0] += float(np.median(self.log_times - self._at(theta)[0]))
        return [usual, contended]

    def _descended(self, theta: Array, noise: float) -> tuple[Array, Array, Array, float]:
        """Theta, residuals, their Jacobian and the loss where steps from a theta on make no progress any more."""
        damping = 1e-3
        residuals, jacobian = self._residuals(theta)
        loss = self._loss(theta, residuals, noise)
        for _ in range(_ITERATIONS):
            hessian, gradient = self._normal(theta, residuals, jacobian, noise)
            before = loss
            for _ in range(_TRIALS):
                step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
                trial = theta + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
                found = self._residuals(trial)
                after = self._loss(trial, found[0], noise)
                if after <= before:
                    theta, (residuals, jacobian), loss = trial, found, after
                    damping = max(damping / 8.0, 1e-9)
                    break
                damping *= 6.0
            if before - loss <= _ENOUGH * (1.0 + before):
                break
        return theta, residuals, jacobian, loss

    def _at(self, theta: Array) -> tuple[Array, Array]:
        return _law(theta, self.features, self.regimes)

    def _residuals(self, theta: Array) -> tuple[Array, Array]:
        mean, jacobian = self._at(theta)
        return self.log_times - mean, jacobian

    def _loss(self, theta: Array, residuals: Array, noise: float) -> float:
        robust = np.sqrt(1.0 + (residuals / (noise * _SOFT)) ** 2) - 1.0
        away = self.precision * (theta - self.prior) ** 2
        return float(_SOFT**2 * (self.weights @ robust) + 0.5 * away.sum() + self._softened(away).sum())

    @staticmethod
    def _softened(away: Array) -> Array:
        """What soft-L1 takes off the squared distances of the a_j from their prior."""
        shapes = away[_SHARED + 1 :: 2]
        return np.sqrt(1.0 + shapes) - 1.0 - 0.5 * shapes

    def _pull(self, theta: Array) -> Array:
        """The precision of the prior, less where an a_j is far from it already."""
        pull = self.precision.copy()
        shapes = slice(_SHARED + 1, None, 2)
        pull[shapes] /= np.sqrt(1.0 + pull[shapes] * (theta - self.prior)[shapes] ** 2)
        return pull

    def _counting(self, residuals: Array, noise: float) -> Array:
        """What each run counts once its residual is known: the weight by which least squares becomes (2)."""
        return self.weights / np.sqrt(1.0 + (residuals / (noise * _SOFT)) ** 2)

    def _normal(self, theta: Array, residuals: Array, jacobian: Array, noise: float) -> tuple[Array, Array]:
        counting = self._counting(residuals, noise) / noise**2
        pull = self._pull(theta)
        hessian = (jacobian * counting[:, None]).T @ jacobian + np.diag(pull)
        return hessian, jacobian.T @ (counting * residuals) - pull * (theta - self.prior)

    def _noise(self, residuals: Array, hessian: Array, noise: float) -> tuple[float, float]:
        """Sigma with its prior, and its degrees of freedom: runs less the parameters that the data set."""
        taken = len(hessian) - float(np.trace(np.linalg.solve(hessian, np.diag(self.precision))))
        freedom = _NOISE_WEIGHT + max(0.0, float(self.weights.sum()) - taken)
        squares = float(self._counting(residuals, noise) @ residuals**2)
        return math.sqrt((_NOISE_WEIGHT * _NOISE**2 + squares) / freedom), freedom
