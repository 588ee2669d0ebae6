"""The observations of one resource, and the line through them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from shaper.models.line import PRIOR_GROWING, Bins, Line, fit, outweighed, with_observation

# More sources than this are not told apart.
MANY = 32
_NONE: frozenset[str] = frozenset()
_GUESS = 0.5
_TRIED = 8.0  # so many that failed at other sizes say how it grows
_BORROWED = 4.0  # observations that the category is worth to a group without own ones
# What another run has shown is forgotten where a task, before it counts as proven, uses so many times more or less of a
# resource, and as many standard deviations.
_OFF = 2.5


@dataclass(frozen=True, slots=True)
class Model:
    """The observations of one resource and the line through them."""

    bins: Bins = field(default_factory=dict)
    exceeded: Bins = field(default_factory=dict)
    n: int = 0
    line: Line | None = None
    refit_at: float = 0.0
    without: frozenset[str] = _NONE
    growing: float = PRIOR_GROWING  # noise of what each element adds, as other groups have shown it

    @property
    def guessed(self) -> bool:
        """Whether how it grows with the size is a guess: one size finished, and hardly any larger one was tried."""
        if len(self.bins) > 1:
            return False
        return sum(item.weight for key, item in self.exceeded.items() if key not in self.bins) < _TRIED

    def observed(self, x: float, y: float, prior: Bins | None, sources: int = MANY) -> Model:
        """Learn that work of size x used y; so many sources have been seen."""
        bins = with_observation(self.bins, x, y)
        exceeded = outweighed(self.exceeded, bins, x)
        n = self.n + 1
        line = self.line
        if line is not None and n < self.refit_at:
            middle = line.median(x)
            surprise = 2.5 * line.spread(x)
            if 1 - surprise < y / middle < 1 + surprise:
                return Model(bins, exceeded, n, line, self.refit_at, self.without, self.growing)
        return self._refitted(bins, exceeded, n, prior, sources)

    def passed(self, x: float, limit: float, prior: Bins | None, sources: int = MANY) -> Model:
        """Learn that work of size x needed more than `limit`."""
        if "censoring" in self.without:
            return self
        exceeded = with_observation(self.exceeded, x, limit)
        return self._refitted(outweighed(self.bins, exceeded, x), exceeded, self.n + 1, prior, sources)

    def anew(self, x: float, y: float) -> Model:
        """Begin again, with the guess that work of size x uses y, and an empty task what it used before."""
        bins = with_observation({}, x, y)
        if self.line is not None and self.line.intercept > 0:
            bins = with_observation(bins, 1.0, min(y, self.line.intercept))
        bins = {key: guess._replace(weight=_GUESS) for key, guess in bins.items()}
        return self._refitted(bins, {}, 1, None, MANY)

    def faded(self, share: float) -> Model:
        """Let what was seen so far count less: it may be about something else."""
        bins = {key: item._replace(weight=item.weight * share) for key, item in self.bins.items()}
        exceeded = {key: item._replace(weight=item.weight * share) for key, item in self.exceeded.items()}
        return replace(self, bins=bins, exceeded=exceeded, n=max(1, int(self.n * share)), refit_at=0.0)

    def remembered(self, worth: float) -> Model:
        """What another run may take over: the line, and few observations, which new ones soon outweigh."""
        known = sum(item.weight for item in self.bins.values())
        return self.faded(min(1.0, worth / known)) if known else self

    def rescaled(self, x: float, y: float) -> Model:
        """Begin again where work of size x used y: an empty task uses what it did, or less in proportion."""
        assert self.line is not None
        base = self.line.intercept * min(1.0, y / self.line.median(x))
        model = replace(self, line=replace(self.line, intercept=min(y, base)))
        return model.anew(x, y)

    def off(self, x: float, y: float) -> bool:
        """Whether y is so far from the line at x, either way, that the line is about something else."""
        line = self.line
        return line is not None and abs(math.log(y / line.median(x))) > max(math.log(_OFF), _OFF * line.spread(x))

    def _refitted(self, bins: Bins, exceeded: Bins, n: int, prior: Bins | None, sources: int) -> Model:
        weight = _BORROWED * 4 / (4 + n) if prior else 0.0
        line = fit(
            bins, exceeded, prior, weight, sources=sources, growing=self.growing, bends="bends" not in self.without
        )
        return Model(bins, exceeded, n, line, n * 1.1, self.without, self.growing)
