"""Plans by name: which jobs start now and on how many processors, and what is meant for later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from shaper.errors import BadInput
from shaper.scheduling.checks import real, within
from shaper.scheduling.dbos import dbos, lex
from shaper.scheduling.eq_spt import eq_spt
from shaper.scheduling.iterative import improved_iterative, iterative
from shaper.scheduling.job import MoldableJob, Placement
from shaper.scheduling.medf import least_stretch
from shaper.scheduling.moment import Moment

METHODS: Mapping[str, Callable[[Moment, float], list[Placement]]] = {
    "dbos": dbos,
    "lex": lex,
    "iterative": lambda moment, _: iterative(moment),
    "improved-iterative": lambda moment, _: improved_iterative(moment),
    "eq-spt": lambda moment, _: eq_spt(moment),
}

# Of all methods the one with the smallest stretch whose flow is close to that of the best: docs/scheduling.md.
DEFAULT_METHOD = "lex"


def usual_cap(processors: int) -> int:
    """A sixteenth of the machine: the cap that is worth what it costs, for all methods (docs/scheduling.md)."""
    return max(1, processors // 16)


def plan(
    jobs: Sequence[MoldableJob],
    running: Sequence[Placement],
    processors: int,
    now_s: float,
    method: str = "dbos",
    rho: float = 1.5,
    cap: int | None = None,
) -> list[Placement]:
    """Plan jobs on identical processors.

    Args:
        jobs: what waits; one whose release is still to come starts no earlier.
        running: what has started, with its prediction; nothing of it is moved.
        processors: of the machine. A job's table may be longer: it gets no more than there are.
        method: dbos, lex, iterative, improved-iterative or eq-spt.
        rho: of dbos and lex, by how much deadlines are relaxed; the others take no notice.
        cap: the most processors that one job may get.

    Returns:
        Placements by start. Of eq-spt, which plans nothing for later, only what starts now.

    Raises:
        BadInput: a value that cannot be used; the message says which.
    """
    check(method, rho)
    moment = Moment(jobs, running, processors, now_s, cap)
    if not moment.jobs:
        return []
    return sorted(METHODS[method](moment, rho), key=attrgetter("start_s"))


def check(method: str, rho: float) -> None:
    """Raise BadInput for a method that is not known, or a rho below 1."""
    if not isinstance(method, str) or method not in METHODS:
        raise BadInput(f"method {method!r} is not known: take one of {', '.join(METHODS)}")
    within(rho, "rho", 1.0)


def best_stretch(
    jobs: Sequence[MoldableJob],
    running: Sequence[Placement],
    processors: int,
    now_s: float,
    tol: float = 1e-3,
) -> float:
    """The least maximum stretch for which MEDF finds a plan, S*; 0 without jobs.

    Args:
        tol: where bisection stops, as a part of S*.

    Raises:
        BadInput: a value that cannot be used; the message says which.
    """
    if not real(tol) > 0:
        raise BadInput(f"tol must be more than zero, got {tol!r}")
    moment = Moment(jobs, running, processors, now_s)
    return least_stretch(moment, tol).stretch if moment.jobs else 0.0
