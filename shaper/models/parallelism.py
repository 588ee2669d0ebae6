"""How many tasks a stage is worth cutting into, learnt from its runs: the default model.

    step                                                                               file
    law with contention, coherency, size and load, fitted jointly and robustly         usl.py
    a change of the stage or its machines opens a new regime                           drift.py
    a Gaussian process on the logarithm of what the law leaves over                    gp.py, surface.py
    least expected cost T^a sqrt(s) over every s, or an exploring rule                 decision.py

The model is a value: `updated` returns another. The order of runs matters in three ways only: for changes, for which
runs a full window keeps, and (slightly) for where the search for a kernel begins.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from shaper.errors import BadInput
from shaper.models.drift import Watch, earlier_regime, surprise
from shaper.models.plain import Part, encoded, restored
from shaper.models.runs import Choice, Estimate, Objective, Run, checked, checked_goal, finite, rows_of, whole

if TYPE_CHECKING:
    from shaper.models.decision import Array
    from shaper.models.surface import Surface

_EARLIER_REGIMES = 4  # so many regimes before today's are remembered
_CHANGES_KEPT = 10
# One task teaches nothing about more, so a straggling probe would be believed for ever: where two cost at most this
# much more (in logarithms), they are run once before one is settled for.
_SECOND_LOOK = 0.1
# The most tasks that were run must be so many standard deviations slower than fewer before that is believed. Of choices
# in made-up stages without contention, with 3 to 10 % of noise, 3 in 100 were limited so, at a loss below 1 %.
_SURELY = 1.0
_EARLY = 8  # runs of a regime until which near ties are decided by what they teach


@dataclass(frozen=True, slots=True)
class ParallelismSettings:
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
        BadInput: probe below 2, window below 8, tie or seed negative, an unknown rule.
    """

    probe: int = 5
    window: int = 50
    tie: float = 0.01
    explore: Literal["none", "thompson", "improvement"] = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (whole(self.probe, 2) and whole(self.window, 8) and finite(self.tie) and 0 <= self.tie < 1):
            raise BadInput(f"{self}: wanted probe from 2, window from 8, tie from 0 to below 1")
        if not whole(self.seed):
            raise BadInput(f"seed is {self.seed!r}: wanted an integer from 0 on")
        if self.explore not in ("none", "thompson", "improvement"):
            raise BadInput(f"explore is {self.explore!r}: wanted none, thompson or improvement")


@dataclass(frozen=True, slots=True)
class ParallelismModel:
    """The default model of parallelism; empty: chooses s = 1, then the probe, then optimises.

    Args:
        settings: see ParallelismSettings.
        runs: those remembered, oldest first.
        regimes: of each run, a number; that of the last is today's.
        watch: for changes.
        seen: runs learnt, those forgotten included.
        changes: number of the run (from 1) that began each regime that was new.
        surface: what was learnt from the runs.
    """

    settings: ParallelismSettings = field(default_factory=ParallelismSettings)
    runs: tuple[Run, ...] = ()
    regimes: tuple[int, ...] = ()
    watch: Watch = field(default_factory=Watch)
    seen: int = 0
    changes: tuple[int, ...] = ()
    surface: Surface | None = field(default=None, compare=False, repr=False)

    def updated(self, run: Run) -> ParallelismModel:
        """Return the model after one more run."""
        from shaper.models.gp import Kernel  # numpy is needed from the first run on only
        from shaper.models.surface import learnt

        regimes, watch, changes = self._placed(run)
        runs, regimes = _kept((*self.runs, run), regimes, self.settings.window)
        surface = learnt(runs, _numbered(regimes), self.surface.kernel if self.surface else Kernel())
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

    def choose(
        self, gamma: float, load: float, s_max: int, urgency: float = 1.0, objective: Objective = "cost"
    ) -> Choice:
        """The best parallelism from 1 to s_max; first the baseline, then the probe.

        Args:
            gamma: size of the input over the baseline's.
            load: parallelism of what runs beside it.
            s_max: what there is room for.
            urgency: of the cost: 0.5 counts money (T s), 1 is the published rule, above it time counts more.
            objective: `cost` takes the least expected T^urgency sqrt(s), for stages or jobs that compete; `makespan`
                the most tasks that are not known to be slower than fewer, for a stage that has the workers to itself.

        Raises:
            BadInput: s_max below 1, gamma or urgency not positive, load negative, an unknown objective.
        """
        checked(gamma, load, s_max)
        checked_goal(urgency, objective)
        if self.surface is None:
            return Choice(1, None, "nothing is known yet: the baseline, one task")
        s, reason = self._probe(int(s_max)) or self._optimised(
            self.surface, gamma, load, int(s_max), urgency, objective
        )
        return Choice(s, self.surface.estimate((s, gamma, load)).mean, f"{reason}; {self._known(self.surface)}")

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, for the history: plain values."""
        return {
            "model": "ParallelismModel",
            "settings": asdict(self.settings),
            "runs": rows_of(self.runs),
            "regimes": list(self.regimes),
            "watch": asdict(self.watch),
            "seen": self.seen,
            "changes": list(self.changes),
            "kernel": encoded(self.surface.kernel) if self.surface else None,
        }

    @classmethod
    def from_json(cls, kept: object) -> ParallelismModel:
        """Return the model that `to_json` was asked of: it predicts and chooses the same.

        Raises:
            BadInput: it is not what `to_json` gives.
        """
        return restored("ParallelismModel", kept, cls._read)

    @classmethod
    def _read(cls, part: Part) -> ParallelismModel:
        from shaper.models.gp import Kernel
        from shaper.models.surface import learnt

        runs, regimes = part("runs", tuple[Run, ...]), part("regimes", tuple[int, ...])
        if len(runs) != len(regimes):
            raise BadInput(f"{len(runs)} runs of {len(regimes)} regimes")
        surface = learnt(runs, _numbered(regimes), part("kernel", Kernel).checked(), search=False) if runs else None
        settings, watch = part("settings", ParallelismSettings), part("watch", Watch)
        return cls(settings, runs, regimes, watch, part("seen", int), part("changes", tuple[int, ...]), surface)

    def _probe(self, s_max: int) -> tuple[int, str] | None:
        """What to run before there is anything to optimise: room for one, or so far only one parallelism."""
        if s_max == 1:
            return 1, "there is room for one"
        known = {run.s for run in self.runs}
        if len(known) > 1:
            return None
        (only,) = known
        s = min(self.settings.probe if only == 1 else max(1, only // self.settings.probe), s_max)
        return (s, f"probe: so far only s = {only} was run") if s != only else None

    def _optimised(
        self, surface: Surface, gamma: float, load: float, s_max: int, urgency: float, objective: Objective
    ) -> tuple[int, str]:
        from shaper.models import decision

        points = decision.candidates(gamma, load, s_max)
        every_s, goal = points[:, 0], decision.Goal.of(objective, urgency)
        mu, var = surface.log_times(points)
        costs = goal.log_costs(mu, var, every_s)
        if self.settings.explore == "thompson":
            import numpy as np

            drawn = surface.drawn(points, np.random.default_rng([self.settings.seed, self.seen]))
            return decision.least(goal.log_costs(drawn, 0.0 * drawn, every_s)), "least cost of a curve that may be"
        if self.settings.explore == "improvement":
            known = [run.s - 1 for run in self.runs if run.s <= s_max]
            gains = goal.improvements(mu, var, every_s, min(costs[known or [0]]))
            if gains.max() > decision.WORTHWHILE:
                return decision.least(-gains), f"largest expected improvement, {gains.max():.1%}"
        if objective == "makespan":
            s = decision.most_not_slower(mu, var, self.settings.tie) if self._slowed(surface, points, mu) else s_max
            return s, "more are slower" if s < s_max else "more are not known to be slower"
        return self._cheapest(costs)

    def _slowed(self, surface: Surface, points: Array, mu: Array) -> bool:
        """Whether the most tasks that were run are surely slower than fewer: the prior alone is no evidence."""
        most = min(max(run.s for run in self.runs), len(points))
        fewer = int(mu[:most].argmin())
        slower, deviation = surface.apart(points[most - 1], points[fewer])
        return slower > _SURELY * deviation

    def _cheapest(self, costs: Array) -> tuple[int, str]:
        """The least of the costs (s_max,); while little is known, what teaches more at no cost that matters."""
        from shaper.models import decision

        s = decision.least(costs)
        if s == 1 and costs[1] < costs[0] + _SECOND_LOOK and sum(run.s > 1 for run in self.runs) < 2:
            return 2, "one task seems best, which only a second look at more can confirm"
        today = [run.s for run, regime in zip(self.runs, self.regimes, strict=True) if regime == self.regimes[-1]]
        if self.settings.tie and len(today) < _EARLY:
            other = decision.least_known(costs, self.settings.tie, today)
            if other != s:
                return other, f"as good as s = {s} and less known"
        return s, "least expected cost"

    def _known(self, surface: Surface) -> str:
        """Which model spoke, in words."""
        from shaper.models.gp import MISSING

        text = f"law fitted to {len(self.runs)} runs, {surface.curve.serial:.0%} of a baseline serial"
        if surface.process is not None:
            text += ", Gaussian process on what it leaves over"
        if surface.missing:
            text += f" (without a Gaussian process: {MISSING})"
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
    """Regimes as the surface wants them: 0 is that of the last run, the others follow by age; () has none."""
    order = [regimes[-1], *sorted(set(regimes) - {regimes[-1]})]
    return [order.index(regime) for regime in regimes]


def _kept(runs: tuple[Run, ...], regimes: tuple[int, ...], window: int) -> tuple[tuple[Run, ...], tuple[int, ...]]:
    """Forget the runs of a regime too many; over the window, the oldest of the parallelism that was run most often.

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
