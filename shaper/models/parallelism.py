"""How many tasks a stage is worth cutting into, learnt from its runs: the default model.

    step                                                                               file
    law with contention, coherency, size and load, fitted jointly and robustly         usl.py
    a change of the stage or its machines opens a new regime                           drift.py
    a Gaussian process on the logarithm of what the law leaves over                    gp.py, surface.py
    least expected cost T^a sqrt(s) over every s, or an exploring rule                 decision.py

The model is a value: `updated` returns another. The order of runs matters in three ways only: for changes, for which runs
a full window keeps, and (slightly) for where the search for a kernel begins.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from shaper.errors import BadInput
from shaper.models.drift import Watch, earlier_regime, surprise
from shaper.models.runs import Choice, Estimate, Run, checked, checked_urgency

if TYPE_CHECKING:
    from shaper.models.surface import Surface

_EARLIER_REGIMES = 4  # so many regimes before today's are remembered
_CHANGES_KEPT = 10
# One task teaches nothing about more, so a straggling probe would be believed for ever: where two cost at most this much
# more (in logarithms), they are run once before one is settled for.
_SECOND_LOOK = 0.1
_EARLY = 8  # runs of a regime until which near ties are decided by what they teach


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be set, and need not.

    Args:
        probe: parallelism of the second run.
        window: runs that are remembered.
        tie: share of the cost by which choices may differ and still count as equal; early in a regime the one of them
            that is least known is taken. 0 takes the best at any time.
        explore: `thompson` minimises the cost of one curve drawn from what is believed, `improvement` takes the largest
            expected improvement on the best parallelism that was run; `none` explores nothing at a cost.
        seed: of the drawn curves.

    Raises:
        BadInput: probe below 2, window below 8, tie negative, an unknown rule.
    """

    probe: int = 5
    window: int = 50
    tie: float = 0.01
    explore: Literal["none", "thompson", "improvement"] = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.probe < 2 or self.window < 8 or not 0 <= self.tie < 1:
            raise BadInput(f"{self}: wanted probe from 2, window from 8, tie from 0 to below 1")
        if self.explore not in ("none", "thompson", "improvement"):
            raise BadInput(f"explore is {self.explore!r}: wanted none, thompson or improvement")


@dataclass(frozen=True, slots=True)
class ParallelismModel:
    """The default model of parallelism; empty: chooses s = 1, then the probe, then optimises.

    Args:
        settings: see Settings.
        runs: those remembered, oldest first.
        regimes: of each run, a number; that of the last is today's.
        watch: for changes.
        seen: runs learnt, those forgotten included.
        changes: number of the run (from 1) that began each regime that was new.
        surface: what was learnt from the runs.
    """

    settings: Settings = field(default_factory=Settings)
    runs: tuple[Run, ...] = ()
    regimes: tuple[int, ...] = ()
    watch: Watch = field(default_factory=Watch)
    seen: int = 0
    changes: tuple[int, ...] = ()
    surface: Surface | None = field(default=None, compare=False, repr=False)

    def updated(self, run: Run) -> ParallelismModel:
        """Return the model after one more run."""
        from shaper.models.surface import learnt  # numpy is needed from the first run on only

        regimes, watch, changes = self._placed(run)
        runs, regimes = _kept((*self.runs, run), regimes, self.settings.window)
        kernel = self.surface.kernel if self.surface else None
        surface = learnt(runs, _numbered(regimes), kernel)
        return replace(
            self, runs=runs, regimes=regimes, watch=watch, seen=self.seen + 1, changes=changes, surface=surface
        )

    def predict(self, s: int, gamma: float, load: float) -> Estimate:
        """How long a run is expected to take; nothing is known before the first.

        Raises:
            BadInput: s below 1, gamma not positive, load negative.
        """
        checked(gamma, load, s, "s")
        return self.surface.estimate((s, gamma, load)) if self.surface else Estimate(None, None, 0)

    def choose(self, gamma: float, load: float, s_max: int, urgency: float = 1.0) -> Choice:
        """The parallelism from 1 to s_max with the least expected T^urgency sqrt(s).

        Args:
            gamma: size of the input over the baseline's.
            load: parallelism of what runs beside it.
            s_max: what there is room for.
            urgency: 0.5 counts money (T s), 1 is the published rule, above it time counts more; infinity: time alone.

        Raises:
            BadInput: s_max below 1, gamma not positive, load negative, urgency not positive.
        """
        checked(gamma, load, s_max)
        checked_urgency(urgency)
        if self.surface is None:
            return Choice(1, None, "nothing is known yet: the baseline, one task")
        s, reason = self._chosen(self.surface, gamma, load, int(s_max), urgency)
        return Choice(s, self.surface.estimate((s, gamma, load)).mean, reason)

    def _chosen(self, surface: Surface, gamma: float, load: float, s_max: int, urgency: float) -> tuple[int, str]:
        from shaper.models import decision

        if s_max == 1:
            return 1, "there is room for one"
        known = {run.s for run in self.runs}
        if len(known) == 1:
            (only,) = known
            s = min(self.settings.probe if only == 1 else max(1, only // self.settings.probe), s_max)
            if s != only:
                return s, f"probe: so far only s = {only} was run"
        points = decision.candidates(gamma, load, s_max)
        mu, var = surface.log_times(points)
        costs = decision.log_costs(mu, var, points[:, 0], urgency)
        explore = self.settings.explore
        if explore == "thompson":
            import numpy as np

            rng = np.random.default_rng([self.settings.seed, self.seen])
            drawn = surface.drawn(points, rng)
            s = decision.least(decision.log_costs(drawn, 0.0 * drawn, points[:, 0], urgency))
            return s, f"least cost of a curve drawn from what is believed; {self._known(surface)}"
        if explore == "improvement":
            best = min(costs[s - 1] for s in known if s <= s_max)
            gains = decision.improvements(mu, var, points[:, 0], urgency, best)
            if gains.max() > 1e-4:
                return decision.least(-gains), f"largest expected improvement, {gains.max():.1%}; {self._known(surface)}"
        s = decision.least(costs)
        if s == 1 and costs[1] < costs[0] + _SECOND_LOOK and sum(run.s > 1 for run in self.runs) < 2:
            return 2, f"one task seems best, which only a second look at more can confirm; {self._known(surface)}"
        today = [run.s for run, regime in zip(self.runs, self.regimes, strict=True) if regime == self.regimes[-1]]
        if self.settings.tie and len(today) < _EARLY:
            other = decision.least_known(costs, self.settings.tie, today)
            if other != s:
                return other, f"as good as s = {s} and less known; {self._known(surface)}"
        return s, f"least expected cost; {self._known(surface)}"

    def _known(self, surface: Surface) -> str:
        """Which model spoke, in words."""
        text = f"law fitted to {len(self.runs)} runs, {surface.curve.serial:.0%} of a baseline serial"
        if surface.process is not None:
            text += ", Gaussian process on what it leaves over"
        if surface.by_sklearn is False:
            text += " (its kernel from a grid: scikit-learn is not installed, pip install shaper[models])"
        if self.changes:
            text += f", changed at run {self.changes[-1]}"
        return text

    def _placed(self, run: Run) -> tuple[tuple[int, ...], Watch, tuple[int, ...]]:
        """The regimes of all runs, the watch and the changes after one more run."""
        if self.surface is None:
            return (0,), self.watch, self.changes
        today = self.regimes[-1]
        regimes = [*self.regimes, today]
        freedom = self.surface.curve.freedom
        error, deviation = self.surface.error(run)
        z = surprise(error, deviation, freedom)
        numbers = dict(zip(self.regimes, _numbered(self.regimes), strict=True))
        earlier = {
            regime: surprise(*self.surface.error(run, number), freedom)
            for regime, number in numbers.items()
            if regime != today
        }
        back = earlier_regime(z, earlier)
        if back is not None:
            regimes[-1] = back
            return tuple(regimes), Watch(), (*self.changes, self.seen + 1)[-_CHANGES_KEPT:]
        watch = self.watch.after(error, z)
        changed = min(watch.changed_runs, len(regimes))
        if not changed:
            return tuple(regimes), watch, self.changes
        regimes[-changed:] = [max(regimes) + 1] * changed
        return tuple(regimes), Watch(), (*self.changes, self.seen + 2 - changed)[-_CHANGES_KEPT:]


def _numbered(regimes: tuple[int, ...]) -> list[int]:
    """Regimes as the surface wants them: 0 is that of the last run, the others follow by age."""
    order = [regimes[-1], *sorted(set(regimes) - {regimes[-1]})]
    return [order.index(regime) for regime in regimes]


def _kept(
    runs: tuple[Run, ...], regimes: tuple[int, ...], window: int
) -> tuple[tuple[Run, ...], tuple[int, ...]]:
    """Forget runs of a regime of too many, then, over the window, the oldest of the parallelism that was run most often.

    The baseline and the probe are run once: a window of the latest runs would forget what tells their curve.
    """
    pairs = list(zip(runs, regimes, strict=True))
    sizes = Counter(regimes)
    if len(sizes) > 1 + _EARLIER_REGIMES:
        least = min((regime for regime in sizes if regime != regimes[-1]), key=lambda regime: (sizes[regime], regime))
        pairs = [pair for pair in pairs if pair[1] != least]
    while len(pairs) > window:
        often = Counter(run.s for run, _ in pairs[:-1])
        most = max(often.values())
        pairs.remove(next(pair for pair in pairs if often[pair[0].s] == most))
    return tuple(run for run, _ in pairs), tuple(regime for _, regime in pairs)
