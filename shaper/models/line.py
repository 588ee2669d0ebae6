"""A resource as a line over the size of the work, with a stated risk.

    symbol   meaning                                                     unit
    x        size of the work (elements; KiB of input for a merge)       1
    y        what an attempt used (memory, time)                         MiB or s
    a, b     intercept and slope of the line                             y, y/x
    f        floor: the least that was seen                              y
    e(x)     how far ln y lies off the line near x, shrunk to 0 where    1
             little was seen; between sizes that were seen, interpolated
    r(x)     b x / (a + b x): the part of y that grows with x             1
    s, q     standard deviation of ln y that is always there; and of     1
             the part that grows: s(x)**2 = s**2 + q**2 r(x)**2
    v(x)     relative variance of the fitted line itself at x            1

    median(x)   = max(f, (a + b x) exp(e(x)))
    upper(x, p) = median(x) exp(sqrt((t_p s(x))**2 + ln(1 + t_p sqrt(v(x)))**2)),   P(y > upper) <= p

What is needed to begin with is much the same for all tasks; what each element adds varies from source to source. So
little noise in small tasks promises nothing for large ones, and q starts larger than s.

Errors are taken as log-normal: memory and time vary by a factor, not by an amount. Observations are kept as one running
mean per half octave of size, so state is bounded, a relation that bends is followed where the work is, and old
observations fade. An attempt that died at a limit says only that y was more: it enters with its expected excess
(Tobit, by expectation-maximisation), not as a sample.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

_NORMAL = NormalDist()
_MEMORY = 50.0  # observations a bin remembers; older ones fade
_PRIOR_SIGMA, PRIOR_GROWING = 0.06, 0.12
_PRIOR_WEIGHT = 4.0
_LEAST_SIGMA = 0.005
# Observations of one source are worth this many; of few sources, at least the root of their number so often.
_PER_SOURCE = 2.0
# A group with n observations is believed to lie n / (n + this) of the way from its category to what it has shown.
_APART = 0.25
# So much of what an empty task needs is the same in all groups.
_SHARED = 0.9
_STIFF = 6.0  # observations that a line resists being bent by


class Bin(NamedTuple):
    """Running means of the observations of one half octave of size."""

    weight: float
    x: float
    log_y: float
    variance: float  # of ln y, within the bin


Bins = Mapping[int, Bin]
_Point = tuple[float, float, float, float]  # x, ln y, weight, variance


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


def outweighed(bins: Bins, others: Bins, x: float) -> Bins:
    """Return the bins after an observation of size x joined the others: both together remember `_MEMORY` of them.

    Without it a bin of few failures would go on to stand against as many successes, of thousands.
    """
    key = bin_of(x)
    old, other = bins.get(key), others.get(key)
    if old is None or other is None or old.weight + other.weight <= _MEMORY:
        return bins
    return {**bins, key: old._replace(weight=old.weight * (1.0 - 1.0 / _MEMORY))}


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
    growing: float = 0.0  # q
    bends: tuple[tuple[float, float], ...] = ()  # (ln x, e), by size
    identified: bool = True  # False where only one size was seen, so that slope and intercept are a guess

    def median(self, x: float) -> float:
        """The value that half of the attempts of size x stay below."""
        y = self.intercept + self.slope * x
        return max(self.floor, y * math.exp(self._bend(math.log(x))) if self.bends and x > 0 else y)

    def _bend(self, log_x: float) -> float:
        bends = self.bends
        at = bisect_left(bends, (log_x,))
        if at == 0:
            return bends[0][1]
        if at == len(bends):
            return bends[-1][1]
        (x0, e0), (x1, e1) = bends[at - 1], bends[at]
        return e0 + (e1 - e0) * (log_x - x0) / (x1 - x0)

    def spread(self, x: float) -> float:
        """Standard deviation of ln y for a new attempt of size x, the line's own uncertainty included."""
        aa, ab, bb = self.covariance
        middle = self.median(x)
        return math.sqrt(self.noise(x) ** 2 + max(0.0, aa + 2 * ab * x + bb * x * x) / (middle * middle))

    def noise(self, x: float) -> float:
        """Standard deviation of ln y around the line at x."""
        return math.hypot(self.sigma, self.growing * self.part(x))

    def part(self, x: float) -> float:
        """The part of the value that grows with x."""
        y = self.intercept + self.slope * x
        return self.slope * x / y if y > 0 else 0.0

    def upper(self, x: float, risk: float) -> float:
        """The value that an attempt of size x exceeds with probability `risk`, at most."""
        freedom = max(2, min(60, round(self.n + _PRIOR_WEIGHT)))
        t = _quantile(risk, freedom)
        aa, ab, bb = self.covariance
        middle = self.median(x)
        off = math.sqrt(max(0.0, aa + 2 * ab * x + bb * x * x)) / middle
        # Noise is by factors; that the line itself may be off is by amounts.
        return middle * math.exp(min(3.0, math.hypot(t * self.noise(x), math.log1p(t * off))))

    def risk(self, x: float, limit: float) -> float:
        """The probability that an attempt of size x exceeds `limit`; below .5 the inverse of `upper`, to about 1 %."""
        middle = self.upper(x, 0.5)
        if middle >= limit:
            return _NORMAL.cdf(math.log(middle / limit) / max(self.spread(x), 1e-9))
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


def fit(
    bins: Bins,
    exceeded: Bins,
    prior: Bins | None = None,
    prior_weight: float = 0.0,
    *,
    sources: int | None = None,
    growing: float = PRIOR_GROWING,
    bends: bool = True,
) -> Line | None:
    """Fit the line by least squares of the relative error; None without any completed observation.

    Args:
        bins: completed observations.
        exceeded: attempts that died at a limit; log_y is the limit's.
        prior: bins of a wider population that speak where own ones are few.
        prior_weight: how many observations the prior is worth altogether.
        sources: from how many sources the observations are; many of few sources promise little about others.
        growing: q as other groups have shown it, where few were seen here.
        bends: whether to follow what lies off the line.
    """
    own = sum(b.weight for b in bins.values())
    worth = 1.0
    if sources is not None and own > 0:
        worth = min(1.0, max(_PER_SOURCE * sources, _PER_SOURCE * math.sqrt(own)) / own)
        own *= worth
    points = [(b.x, b.log_y, b.weight * worth, b.variance) for b in bins.values()]
    if prior and prior_weight > 0:
        points += _borrowed(points, prior, prior_weight)
    if not points:
        return None
    line = _spread(_least_squares(points, own), points, growing)
    imputed = points
    if exceeded:
        for _ in range(3):
            imputed = list(points)
            for item in exceeded.values():
                mean = math.log(line.median(item.x))
                sigma = max(line.noise(item.x), 0.05)
                # E[ln y | ln y > limit] of a normal variable: mean + sigma * hazard.
                z = min((item.log_y - mean) / sigma, 8.0)
                hazard = _NORMAL.pdf(z) / max(1.0 - _NORMAL.cdf(z), 1e-15)
                expected = max(mean + sigma * hazard, item.log_y + 0.02)
                imputed.append((item.x, expected, item.weight, 0.0))
            line = _spread(_least_squares(imputed, own + sum(b.weight for b in exceeded.values())), imputed, growing)
    return _bent(line, imputed, growing) if bends and line.identified else line


def _borrowed(points: list[_Point], prior: Bins, worth: float) -> list[_Point]:
    """The prior's own points; with own observations, a straight line at their level from what small tasks need.

    What an empty task needs is shared; how much each element adds is a group's own. The prior's line through all of its
    groups says little about either where heavy groups ran small tasks and light ones large.
    """
    total = sum(b.weight for b in prior.values())
    borrowed = [(b.x, b.log_y, b.weight * worth / total, b.variance) for b in prior.values()]
    own = sum(p[2] for p in points)
    if not own:
        return borrowed
    line = _least_squares(borrowed, total)
    least = min(borrowed, key=lambda p: p[1])
    base = _SHARED * math.exp(least[1])
    off = 0.0
    for x, log_y, weight, _ in points:
        y = math.exp(log_y)
        mine, usual = max(y - base, (1.0 - _SHARED) * y), max(line.median(x) - base, (1.0 - _SHARED) * base)
        off += weight * ((math.log(mine) * own + math.log(usual) * _APART) / (own + _APART) - math.log(x))
    slope = math.exp(off / own)
    x_max = max(p[0] for p in points)
    return [(x, math.log(base + slope * x), worth / 2, 0.0) for x in (min(least[0], x_max / 2), 2.0 * x_max)]


def _bent(line: Line, points: list[_Point], growing: float) -> Line:
    """Follow what lies off the line: baskets that are read whole, caches that overflow. Few points bend it little."""
    by_bin: dict[int, list[_Point]] = {}
    for point in points:
        by_bin.setdefault(bin_of(point[0]), []).append(point)
    bends = []
    for _, inside in sorted(by_bin.items()):
        weight = sum(p[2] for p in inside)
        log_x = sum(p[2] * math.log(max(1.0, p[0])) for p in inside) / weight
        miss = sum((p[1] - math.log(line.median(p[0]))) * p[2] for p in inside) / weight
        bends.append((log_x, miss * weight / (weight + _STIFF)))
    return _spread(replace(line, bends=tuple(bends)), points, growing)


def _spread(line: Line, points: list[_Point], growing: float) -> Line:
    """Fit the noise: least squares of the squared misses over (1, r(x)**2), drawn to what is usual where few are seen.

    Large sizes count more, as in the line itself. What the line does not explain belongs to the noise.
    """
    x_max = max(p[0] for p in points)
    k = _PRIOR_WEIGHT
    s00, s01, s11 = k, 0.0, k
    t0, t1 = k * _PRIOR_SIGMA**2, k * growing**2
    for x, log_y, weight, variance in points:
        w = weight * math.sqrt(max(x, 1.0) / max(x_max, 1.0))
        miss = log_y - math.log(line.median(x))
        squared = miss * miss + variance
        part = line.part(x) ** 2
        s00 += w
        s01 += w * part
        s11 += w * part * part
        t0 += w * squared
        t1 += w * part * squared
    determinant = s00 * s11 - s01 * s01
    always = (t0 * s11 - t1 * s01) / determinant
    grows = (t1 * s00 - t0 * s01) / determinant
    if always < 0:
        always, grows = 0.0, t1 / s11
    elif grows < 0:
        always, grows = t0 / s00, 0.0
    sigma2 = max(always, _LEAST_SIGMA**2)
    return replace(line, sigma=math.sqrt(sigma2), growing=math.sqrt(max(0.0, grows)))


def _least_squares(points: list[_Point], own: float) -> Line:
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
    identified = determinant > 1e-6 * s0 * s2
    if identified:
        a = (t0 * s2 - t1 * s1) / determinant
        b = (t1 * s0 - t0 * s1) / determinant
        if b < 0:
            a, b = t0 / s0, 0.0
        elif a < 0:
            a, b = 0.0, t1 / s2
    else:
        # One size only: half of it taken as fixed, half as proportional, until another size is seen.
        mean = t0 / s0
        a, b = 0.5 * mean, 0.5 * mean * s0 / s1
    floor = min(math.exp(p[1]) for p in points)
    scatter = 0.0
    total = 0.0
    for x, log_y, weight, variance in points:
        w = weight * math.sqrt(max(x, 1.0) / max(x_max, 1.0))
        miss = log_y - math.log(max(floor, a + b * x))
        scatter += w * (miss * miss + variance)
        total += w
    sigma2 = (scatter + _PRIOR_WEIGHT * PRIOR_GROWING**2) / (total + _PRIOR_WEIGHT)
    if identified:
        scale = sigma2 / determinant
        covariance = (s2 * scale, -s1 * scale, s0 * scale)
    else:
        covariance = (0.0, 0.0, (0.25 * b) ** 2)
    return Line(floor, a, b, math.sqrt(sigma2), own, covariance, identified=identified)
