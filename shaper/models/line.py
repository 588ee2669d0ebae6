"""A resource as a line over the size of the work, with a stated risk.

    symbol   meaning                                                     unit
    x        size of the work (elements; KiB of input for a merge)       1
    y        what an attempt used (memory, time)                         MiB or s
    a, b     intercept and slope of the line                             y, y/x
    f        floor: the least that was seen                              y
    s        standard deviation of ln y around the line                  1
    v(x)     relative variance of the fitted line itself at x            1

    median(x)   = max(f, a + b x)
    upper(x, p) = median(x) exp(t_p sqrt(s**2 + v(x))),   P(y > upper) <= p

Errors are taken as log-normal: memory and time vary by a factor, not by an amount. Observations are kept as one running
mean per half octave of size, so state is bounded, a relation that bends is followed where the work is, and old
observations fade. An attempt that died at a limit says only that y was more: it enters with its expected excess
(Tobit, by expectation-maximisation), not as a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

_NORMAL = NormalDist()
_MEMORY = 50.0  # observations a bin remembers; older ones fade
_PRIOR_SIGMA = 0.12
_PRIOR_WEIGHT = 4.0


class Bin(NamedTuple):
    """Running means of the observations of one half octave of size."""

    weight: float
    x: float
    log_y: float
    variance: float  # of ln y, within the bin


Bins = Mapping[int, Bin]


def bin_of(x: float) -> int:
    """Number of the half octave that holds x."""
    return math.floor(2.0 * math.log2(x)) if x > 1.0 else 0


def with_observation(bins: Bins, x: float, y: float) -> dict[int, Bin]:
    """Return the bins with one more observation (x, y), y > 0."""
    key = bin_of(x)
    log_y = math.log(y)
    updated = dict(bins)
    old = bins.get(key)
    if old is None:
        updated[key] = Bin(1.0, x, log_y, 0.0)
        return updated
    weight = min(old.weight + 1.0, _MEMORY)
    share = 1.0 / weight
    step = log_y - old.log_y
    updated[key] = Bin(
        weight,
        old.x + (x - old.x) * share,
        old.log_y + step * share,
        (1.0 - share) * (old.variance + share * step * step),
    )
    return updated


@lru_cache(maxsize=4096)
def _quantile(risk: float, freedom: int) -> float:
    """Student's t for P(T > t) = risk, by the first terms of its expansion around the normal quantile."""
    z = _NORMAL.inv_cdf(1.0 - risk)
    v = float(freedom)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v * v)


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line; see the notation above. `n` is the weight of the observations behind it."""

    floor: float
    intercept: float
    slope: float
    sigma: float
    n: float
    covariance: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of (a, b): aa, ab, bb

    def median(self, x: float) -> float:
        """The value that half of the attempts of size x stay below."""
        return max(self.floor, self.intercept + self.slope * x)

    def spread(self, x: float) -> float:
        """Standard deviation of ln y for a new attempt of size x, the line's own uncertainty included."""
        aa, ab, bb = self.covariance
        middle = self.median(x)
        return math.sqrt(self.sigma**2 + max(0.0, aa + 2 * ab * x + bb * x * x) / (middle * middle))

    def upper(self, x: float, risk: float) -> float:
        """The value that an attempt of size x exceeds with probability `risk`, at most."""
        freedom = max(2, min(60, round(self.n + _PRIOR_WEIGHT)))
        return self.median(x) * math.exp(min(3.0, _quantile(risk, freedom) * self.spread(x)))

    def risk(self, x: float, limit: float) -> float:
        """The probability that an attempt of size x exceeds `limit`; the inverse of `upper`, to about 1 %."""
        if self.upper(x, 0.5) >= limit:
            return 0.5
        low, high = 1e-6, 0.5
        for _ in range(16):
            middle = math.sqrt(low * high)
            if self.upper(x, middle) <= limit:
                high = middle
            else:
                low = middle
        return high

    def largest(self, limit: float, risk: float, x_max: float) -> float:
        """The largest x <= x_max whose `upper` stays within `limit`; 0 when even the smallest does not."""
        if self.upper(x_max, risk) <= limit:
            return x_max
        if self.upper(1.0, risk) > limit:
            return 0.0
        low, high = 0.0, math.log(x_max)
        for _ in range(24):
            middle = (low + high) / 2
            if self.upper(math.exp(middle), risk) <= limit:
                low = middle
            else:
                high = middle
        return math.exp(low)


def fit(bins: Bins, exceeded: Bins, prior: Bins | None = None, prior_weight: float = 0.0) -> Line | None:
    """Fit the line by least squares of the relative error; None without any completed observation.

    Args:
        bins: completed observations.
        exceeded: attempts that died at a limit; log_y is the limit's.
        prior: bins of a wider population that speak where own ones are few.
        prior_weight: how many observations the prior is worth altogether.
    """
    points = [(b.x, b.log_y, b.weight, b.variance) for b in bins.values()]
    own = sum(b.weight for b in bins.values())
    if prior and prior_weight > 0:
        total = sum(b.weight for b in prior.values())
        points += [(b.x, b.log_y, b.weight * prior_weight / total, b.variance) for b in prior.values()]
    if not points:
        return None
    line = _least_squares(points, own)
    if exceeded:
        for _ in range(3):
            imputed = list(points)
            for item in exceeded.values():
                mean = math.log(line.median(item.x))
                sigma = max(line.sigma, 0.05)
                # E[ln y | ln y > limit] of a normal variable: mean + sigma * hazard.
                z = min((item.log_y - mean) / sigma, 8.0)
                hazard = _NORMAL.pdf(z) / max(1.0 - _NORMAL.cdf(z), 1e-15)
                expected = max(mean + sigma * hazard, item.log_y + 0.02)
                imputed.append((item.x, expected, item.weight, 0.0))
            line = _least_squares(imputed, own + sum(b.weight for b in exceeded.values()))
    return line


def _least_squares(points: list[tuple[float, float, float, float]], own: float) -> Line:
    """Weighted relative least squares over (x, ln y, weight, variance); a >= 0, b >= 0.

    Small sizes count less, by the root of their size: the line has to be right where the work is large.
    """
    x_max = max(p[0] for p in points)
    s0 = s1 = s2 = t0 = t1 = 0.0
    for x, log_y, weight, _ in points:
        y = math.exp(log_y)
        w = weight * math.sqrt(max(x, 1.0) / max(x_max, 1.0)) / (y * y)
        s0 += w
        s1 += w * x
        s2 += w * x * x
        t0 += w * y
        t1 += w * x * y
    determinant = s0 * s2 - s1 * s1
    if determinant > 1e-6 * s0 * s2:
        a = (t0 * s2 - t1 * s1) / determinant
        b = (t1 * s0 - t0 * s1) / determinant
        if b < 0:
            a, b = t0 / s0, 0.0
        elif a < 0:
            a, b = 0.0, t1 / s2
        identified = True
    else:
        # One size only: half of it taken as fixed, half as proportional, until another size is seen.
        mean = t0 / s0
        a, b = 0.5 * mean, 0.5 * mean * s0 / s1
        identified = False
    floor = min(math.exp(p[1]) for p in points)
    scatter = 0.0
    total = 0.0
    for x, log_y, weight, variance in points:
        w = weight * math.sqrt(max(x, 1.0) / max(x_max, 1.0))
        miss = log_y - math.log(max(floor, a + b * x))
        scatter += w * (miss * miss + variance)
        total += w
    sigma2 = (scatter + _PRIOR_WEIGHT * _PRIOR_SIGMA**2) / (total + _PRIOR_WEIGHT)
    if identified:
        scale = sigma2 / determinant
        covariance = (s2 * scale, -s1 * scale, s0 * scale)
    else:
        covariance = (0.0, 0.0, (0.25 * b) ** 2)
    return Line(floor, a, b, math.sqrt(sigma2), own, covariance)
