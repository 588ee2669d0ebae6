"""DBOS(rho): the least stretch that all can have, relaxed by rho; and LEX, which keeps one job from setting it for all.

A factor rho > 1 gives jobs that are not urgent fewer processors, on which they are more efficient, for those to come.

One tiny job that has waited long makes S* huge. Every other deadline is lax then, and large jobs are started on one
processor, for as long as they last. LEX holds the job that stands against a smaller S to its stretch and lowers that of
the others, a few times.
"""

from __future__ import annotations

from shaper.scheduling.job import Placement
from shaper.scheduling.medf import least_stretch, medf
from shaper.scheduling.moment import Moment

TOLERANCE = 1e-3
_ROUNDS = 10


def dbos(moment: Moment, rho: float) -> list[Placement]:
    """MEDF at rho S*, or at S* where that finds no plan."""
    found = least_stretch(moment, TOLERANCE)
    return _relaxed(moment, [found.stretch] * len(moment.jobs), rho, found.plan)


def lex(moment: Moment, rho: float) -> list[Placement]:
    """MEDF at rho times a stretch that is lower for the jobs that stand in nobody's way."""
    pinned: list[float | None] = [None] * len(moment.jobs)
    found = least_stretch(moment, TOLERANCE)
    for _ in range(min(_ROUNDS, len(moment.jobs) - 1)):
        if pinned[found.blocking] is not None:
            break
        pinned[found.blocking] = found.stretch
        found = least_stretch(moment, TOLERANCE, pinned, found)
    return _relaxed(moment, [found.stretch if pin is None else pin for pin in pinned], rho, found.plan)


def _relaxed(moment: Moment, stretches: list[float], rho: float, else_: list[Placement]) -> list[Placement]:
    if rho == 1.0:
        return else_
    plan = medf(moment, [rho * stretch for stretch in stretches])
    return else_ if isinstance(plan, int) else plan
