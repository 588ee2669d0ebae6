"""The published optimiser: Amdahl's law with a Gaussian process on what it leaves over, its misprints corrected.

    symbol   meaning                                                             shape
    T1, p, k, C, gamma, s as in amdahl.py
    L        load: sum of the parallelism of the other active stages             1
    R        what the law leaves over, learnt by the process on (s, gamma, L)    (n,)
    P        prediction: law and R                                               s
    alpha    retention: p <- alpha p + (1 - alpha) p of this run                 1
    W        window: runs the process sees                                       1
    a, eta   urgency; part of the largest speed-up that is wanted                1

Phase 1: the baseline (s = 1) gives T1, one probe at moderate s gives p by equation (2) of amdahl.py. Phase 2, each run:
gamma and L are measured, P^a Cost(s) with Cost = sqrt(s) is minimised, the run updates p, k and the process.

What is printed, what is right. `as_written=True` keeps the left column; both have the guards that AmdahlGP names.

    M1   T1 = T_base, which has C in it: C counts twice         T1 = T_base - C
    M2   p of a run with gamma T1                               with gamma^k T1
    M3   alpha = 0.3: 70 % on the newest run, noise and all     alpha = 0.9 unless set
    M4   k from the newest run alone                            from all, by least squares: sum of ln gamma ln(T_scale /
                                                                T_base) over sum of ln^2 gamma, T_base defined by (3)
    M5   R kept as it was when its p was another; R of the      all R anew with today's p and k
         probe is 0 because p comes from it
    M6   the window [k - W, k] holds W + 1 runs                 W
    M7   s* = p / (1 - p), the windows around it, as candidates every s from 1 to s_max; the windows are reported
    M8   E[P]^a: what is not known counts nothing               E[P^a] = exp(a m + a^2 v / 2), ln P ~ N(m, v)
    M9   R in seconds, so that P may be negative, and noise of  R = ln T - ln law: noise is by a factor
         long runs counts most; inputs as they are              and so are the inputs
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shaper.errors import BadInput
from shaper.models import amdahl
from shaper.models.amdahl_settings import AmdahlSettings
from shaper.models.plain import Part, encoded, restored
from shaper.models.runs import (
    Choice,
    Estimate,
    Objective,
    Run,
    checked,
    checked_goal,
    estimate_of,
    rows_of,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shaper.models.gp import Kernel
    from shaper.models.residual import Residual

_MOST_PARALLEL = 0.999  # G1
_LEAST_SIZE, _LARGEST_EXPONENT = 0.1, 3.0  # G3
_USUAL_PART = 0.9  # G6
_LEAST_PART = 0.05  # G7
_RETENTION, _RETENTION_WRITTEN = 0.9, 0.3  # M3
_FAR, _ROUNDING = 50.0, 1e-9  # ln gamma^k is kept within; of a time, what is less is left over by rounding alone


@dataclass(frozen=True, slots=True)
class AmdahlGP:
    """The published optimiser, its misprints (M1 to M9 above) corrected, with guards:

    G1   p within [0, 0.999]: it is negative in the source's own data, and at 1 s* is infinite
    G2   a run at s = 1 leaves p: every p gives its time
    G3   |ln gamma| < 0.1 leaves k, as does T_scale <= 0; k within [0, 3]
    G4   P is at least 5 % of the law
    G5   a window that is empty (p < 0.5, or s_max below it) is what is left of it, at least one s
    G6   without a run at s = 1, T1 is what p = 0.9 makes of the first run, until there is one
    G7   T1 is at least 5 % of T_base, whatever C

    Args:
        as_written: with the misprints M1 to M9 (guarded all the same), to compare with.
        settings: see AmdahlSettings.
        runs: of the window, oldest first.
        p, k, t1_s: parameters of the law; None where unknown.
        measured: T1 is from a run at s = 1.
        kept_s: R of each run as it was first seen, in seconds (M5).
        residual: the process; None before the first run.
    """

    as_written: bool = False
    settings: AmdahlSettings = field(default_factory=AmdahlSettings)
    runs: tuple[Run, ...] = ()
    p: float | None = None
    k: float = 1.0
    t1_s: float | None = None
    measured: bool = False
    kept_s: tuple[float, ...] = ()
    residual: Residual | None = field(default=None, compare=False, repr=False)

    def updated(self, run: Run) -> AmdahlGP:
        """Return the model after one more run."""
        window = self.settings.window + self.as_written  # M6
        model = replace(self, runs=(*self.runs, run)[-window:], **self._baseline(run))
        model = replace(model, p=model._part(run))
        model = replace(model, k=model._exponent(run))
        left_s = run.wall_s - model._law(run.s, run.gamma)
        left_s = 0.0 if abs(left_s) < _ROUNDING * run.wall_s else left_s
        return replace(model, kept_s=(*self.kept_s, left_s)[-window:])._with_residual()

    def predict(self, s: int, gamma: float, load: float) -> Estimate:
        """How long a run is expected to take; nothing is known before the first.

        Raises:
            BadInput: s below 1, gamma not positive, load negative.
        """
        checked(gamma, load, s, "s")
        if self.residual is None:
            return Estimate(None, None, 0)
        mu, variance = self._log_times([(float(s), gamma, load)])
        noise = self.residual.noise(self._law(s, gamma))
        return estimate_of(float(mu[0]), float(variance[0]) + noise**2, len(self.runs))

    def choose(
        self, gamma: float, load: float, s_max: int, urgency: float = 1.0, objective: Objective = "cost"
    ) -> Choice:
        """The parallelism from 1 to s_max with the least expected cost; first the baseline, then the probe.

        Args:
            gamma: size of the input over the baseline's.
            load: parallelism of what runs beside it.
            s_max: what there is room for.
            urgency: a: 0.5 counts money (P s), 1 is the published rule, above it time counts more.
            objective: `cost` is P^urgency sqrt(s), as published; `makespan` is P alone.

        Raises:
            BadInput: s_max below 1, gamma or urgency not positive, load negative, an unknown objective.
        """
        checked(gamma, load, s_max)
        checked_goal(urgency, objective)
        if self.residual is None:
            return Choice(1, None, "nothing is known yet: the baseline, one task")
        if s_max == 1:
            s, reason = 1, "there is room for one"
        elif self.p is None:
            s, reason = min(self.settings.probe, int(s_max)), "probe: the parallel part is not known yet"
        else:
            s, reason = self._optimised(self.p, gamma, load, int(s_max), urgency, objective)
        return Choice(s, self.predict(s, gamma, load).mean, reason + self._missing())

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, for the history: plain values."""
        return {
            "model": "AmdahlGP",
            "as_written": self.as_written,
            "settings": asdict(self.settings),
            "runs": rows_of(self.runs),
            "p": self.p,
            "k": self.k,
            "t1_s": self.t1_s,
            "measured": self.measured,
            "kept_s": list(self.kept_s),
            "kernel": encoded(self.residual.process.kernel) if self.residual else None,
        }

    @classmethod
    def from_json(cls, kept: object) -> AmdahlGP:
        """Return the model that `to_json` was asked of: it predicts and chooses the same.

        Raises:
            BadInput: it is not what `to_json` gives.
        """
        return restored("AmdahlGP", kept, cls._read)

    @classmethod
    def _read(cls, part: Part) -> AmdahlGP:
        from shaper.models.gp import Kernel

        p, k, t1_s = part("p", float | None), part("k", float), part("t1_s", float | None)
        runs, kept_s = part("runs", tuple[Run, ...]), part("kept_s", tuple[float, ...])
        if not (0 <= (p or 0) <= _MOST_PARALLEL and k <= _LARGEST_EXPONENT and (t1_s is None or t1_s > 0)):
            raise BadInput(f"p = {p}, k = {k} and T1 = {t1_s} s are no law")
        if len(kept_s) != len(runs) or bool(runs) != (t1_s is not None):
            raise BadInput(f"{len(runs)} runs, {len(kept_s)} residuals and T1 = {t1_s} s")
        settings, as_written, measured = (
            part("settings", AmdahlSettings),
            part("as_written", bool),
            part("measured", bool),
        )
        model = cls(as_written, settings, runs, p, k, t1_s, measured, kept_s)
        return model._with_residual(part("kernel", Kernel).checked(), search=False) if runs else model

    def _optimised(
        self, p: float, gamma: float, load: float, s_max: int, urgency: float, objective: Objective
    ) -> tuple[int, str]:
        from shaper.models import decision  # numpy is needed from the first run on only

        goal = decision.Goal.of(objective, urgency)
        best = self.best(gamma)
        search: amdahl.Search = self.settings.search or ("high" if self.as_written else "all")
        low, high = amdahl.window(search, best, amdahl.efficient(p, self.settings.eta), s_max)
        points = decision.candidates(gamma, load, s_max)[low - 1 : high]
        s = points[:, 0]
        mu, var = self._log_times([(float(each), gamma, load) for each in s])
        if self.as_written:
            mu, var = mu + var / 2.0, 0.0 * var  # M8
        costs = goal.log_costs(mu, var, s)
        found, reason = decision.least(costs), "least expected cost"
        if self.settings.acquisition == "improvement":
            known = [run.s - low for run in self.runs if low <= run.s <= high]
            gains = goal.improvements(mu, var, s, min(costs[known])) if known else costs * 0.0
            if gains.max() > decision.WORTHWHILE:
                found, reason = decision.least(-gains), f"largest expected improvement, {gains.max():.1%}"
        limits = f"s* = {best:.3g}, searched {low} to {high}"
        return found + low - 1, f"{reason}; Amdahl p = {p:.2f}, k = {self.k:.2f}, {limits}"

    def best(self, gamma: float = 1.0) -> float:
        """s* of the law, not rounded: p / (1 - p) as written (M7), else equation (4)."""
        p = _USUAL_PART if self.p is None else self.p
        if self.as_written:
            return p / (1.0 - p)
        t1_s, size = self.t1_s or 1.0, self._size(gamma)
        return amdahl.optimum(self.settings.startup_s + size * (1.0 - p) * t1_s, size * p * t1_s)

    def _missing(self) -> str:
        if self.residual is None or not self.residual.missing:
            return ""
        from shaper.models.gp import MISSING

        return f" (the kernel of the Gaussian process is not fitted: {MISSING})"

    def _size(self, gamma: float) -> float:
        """gamma^k, within what can be computed with."""
        return math.exp(min(max(self.k * math.log(gamma), -_FAR), _FAR))

    def _law(self, s: float, gamma: float) -> float:
        p = _USUAL_PART if self.p is None else self.p
        return amdahl.time_s(s, p, self.t1_s or 1.0, self.settings.startup_s, self._size(gamma))

    def _baseline(self, run: Run) -> dict[str, Any]:
        """T1: from the first run at s = 1 (M1, G7), until then from what p = 0.9 would make of the first run (G6)."""
        if self.measured or (self.t1_s is not None and run.s > 1):
            return {}
        startup_s = 0.0 if self.as_written else self.settings.startup_s
        worked_s = max(run.wall_s - startup_s, _LEAST_PART * run.wall_s) / self._size(run.gamma)
        part = 1.0 if run.s == 1 else amdahl.time_s(run.s, _USUAL_PART, 1.0)
        return {"t1_s": worked_s / part, "measured": run.s == 1}

    def _part(self, run: Run) -> float | None:
        """p after a run: equation (2), retention (M2, M3), G1 and G2."""
        if run.s == 1 or self.t1_s is None:
            return self.p
        size = run.gamma if self.as_written else self._size(run.gamma)
        found = amdahl.parallel_part(run.s, run.wall_s, self.t1_s, self.settings.startup_s, size)
        found = min(max(found, 0.0), _MOST_PARALLEL)
        alpha = self.settings.retention
        if alpha is None:
            alpha = _RETENTION_WRITTEN if self.as_written else _RETENTION
        return found if self.p is None else alpha * self.p + (1.0 - alpha) * found

    def _exponent(self, run: Run) -> float:
        """k after a run: equation (3), from this run or from all (M4), G3."""
        if self.p is None:
            return self.k
        products, squares = 0.0, 0.0
        for seen in [run] if self.as_written else self.runs:
            log_gamma = math.log(seen.gamma)
            scale_s = seen.wall_s - self.settings.startup_s - (self._explained_s(seen) if self.as_written else 0.0)
            if abs(log_gamma) < _LEAST_SIZE or scale_s <= 0:
                continue
            base_s = amdahl.time_s(seen.s, self.p, self.t1_s or 1.0)
            products += amdahl.exponent(scale_s, base_s, seen.gamma) * log_gamma**2
            squares += log_gamma**2
        return min(max(products / squares, 0.0), _LARGEST_EXPONENT) if squares else self.k

    def _explained_s(self, run: Run) -> float:
        """R that is expected of a run before it is learnt, in seconds."""
        if self.residual is None:
            return 0.0
        mu, variance = self._log_times([run.point])
        return seconds(float(mu[0] + variance[0] / 2.0)) - self._law(run.s, run.gamma)

    def _log_times(self, rows: Sequence[tuple[float, float, float]]) -> tuple[Any, Any]:
        """Mean and variance of ln P at (s, gamma, load), without the noise of a run."""
        from shaper.models.residual import points_of

        assert self.residual is not None
        law_s = points_of([(self._law(s, gamma), 0.0, 0.0) for s, gamma, _ in rows])[:, 0]
        return self.residual.log_times(law_s, points_of(rows))

    def _with_residual(self, kernel: Kernel | None = None, search: bool = True) -> AmdahlGP:
        """The process on R as kept, or on R anew (M5)."""
        from shaper.models.gp import Kernel
        from shaper.models.residual import fitted, points_of

        points = points_of([run.point for run in self.runs])
        left = self.kept_s
        if not self.as_written:
            left = tuple(math.log(run.wall_s / self._law(run.s, run.gamma)) for run in self.runs)
        start = kernel or (self.residual.process.kernel if self.residual else Kernel())
        return replace(self, residual=fitted(points, left, not self.as_written, start, search))
