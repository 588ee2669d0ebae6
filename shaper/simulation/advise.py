"""Which workers to obtain: worker shapes and counts compared in virtual time, and what the data source can feed.

Two orders of deciding are followed to their ends. Acquire, then configure: the workers are given, the sizes follow from
them. Configure, then acquire: the size is chosen first, as small as a given share of fixed cost allows, and workers
are bought that hold exactly such tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from shaper.engines import WorkerSpec
from shaper.errors import BadInput, Incomplete, Stalled
from shaper.models import Beliefs
from shaper.policy import Adaptive, Fixed, Policy
from shaper.simulation.simulate import Case, Figures, simulate
from shaper.types import Resources
from shaper.units import show_count, show_mib, show_seconds

_COUNTS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MEMORY = (0.5, 1.0, 2.0)  # per core, of what the case has
_USELESS = 0.05  # twice the workers for a run shorter by less than this: they wait for something else
_RISK = Adaptive().settings.risk  # that a task exceeds the memory that its workers are bought with
_SAME_PLACE = 0.05
_FIXED_SHARES = (0.02, 0.05, 0.10, 0.20)


@dataclass(frozen=True, slots=True)
class Option:
    """Workers of one kind, and what a run on them comes to; `figures` is None where the run cannot finish on them."""

    workers: WorkerSpec
    figures: Figures | None
    cost: float | None

    @property
    def makespan_s(self) -> float:
        """Infinite where the run cannot finish."""
        return self.figures.makespan_s if self.figures is not None else float("inf")

    def __str__(self) -> str:
        spec = self.workers
        each = f"{spec.cores} cores, {show_mib(spec.memory_mib)}"
        if self.figures is None:
            return f"{spec.count:>6} x {each:<20}  does not finish"
        found = self.figures
        cost = f"  cost {self.cost:.2f}" if self.cost is not None else ""
        task = f"{show_count(found.chunksize)} elements, {show_mib(found.task_mib)}"
        return f"{spec.count:>6} x {each:<20}  {show_seconds(found.makespan_s):>9}{cost}  tasks of {task}"


def options(case: Any, price_per_core_hour: float | None = None, seed: int = 0) -> list[Option]:
    """Simulate the case on a grid of worker shapes and counts around its own first kind of worker.

    Shapes differ in the memory per core; counts run from a quarter of the case's cores to four times as many.
    """
    first = case.workers[0]
    cores = sum(spec.cores * spec.count for spec in case.workers if spec.leaves_s is None) or first.cores * first.count
    found = []
    for memory in _MEMORY:
        for share in _COUNTS:
            count = max(1, round(share * cores / first.cores))
            spec = WorkerSpec(first.cores, max(1, round(memory * first.memory_mib)), count)
            found.append(option(case, spec, price_per_core_hour, seed))
    return found


def option(
    case: Any,
    spec: WorkerSpec,
    price_per_core_hour: float | None,
    seed: int,
    policy: Policy | None = None,
    known: Beliefs | None = None,
) -> Option:
    """Simulate the case on workers of one kind, by default under Adaptive, perhaps with what is known already."""
    try:
        figures = simulate(replace(case, workers=(spec,)), policy or Adaptive(), seed, known)
    except (Incomplete, Stalled):
        return Option(spec, None, None)
    hours = figures.offered_core_s / 3600
    return Option(spec, figures, hours * price_per_core_hour if price_per_core_hour is not None else None)


def advice(found: Sequence[Option]) -> list[str]:
    """What the options show, in words.

    Raises:
        BadInput: the run finishes on none of them.
    """
    possible = [one for one in found if one.figures is not None]
    if not possible:
        raise BadInput("the run finishes on none of these workers: single elements need more memory than they have")
    fastest = min(possible, key=lambda one: (one.makespan_s, one.workers.count))
    cheapest = min(possible, key=lambda one: one.figures.offered_core_s if one.figures else 0.0)
    lines = [f"fastest:  {fastest}", f"fewest core-hours:  {cheapest}"]
    for memory in sorted({one.workers.memory_mib for one in possible}):
        row = sorted((one for one in possible if one.workers.memory_mib == memory), key=lambda one: one.workers.count)
        for fewer, more in pairwise(row):
            if more.makespan_s > (1 - _USELESS) * fewer.makespan_s:
                why = _limit(more)
                lines.append(
                    f"with {show_mib(memory)} each, more than {fewer.workers.count} workers bring less than "
                    f"{_USELESS:.0%}: {why}"
                )
                break
    return lines


def _limit(one: Option) -> str:
    figures = one.figures
    assert figures is not None
    if figures.read_bound_s > 0.5 * figures.makespan_s:
        return f"the data source takes {show_seconds(figures.read_bound_s)} to read everything"
    if figures.dispatch_bound_s > 0.5 * figures.makespan_s:
        return f"the manager takes {show_seconds(figures.dispatch_bound_s)} to start all tasks"
    return "what is left is the fixed cost of a few rounds of tasks"


@dataclass(frozen=True, slots=True)
class Orders:
    """Both orders of deciding on one case, with as many cores."""

    acquired: Option
    configured: tuple[tuple[float, Option], ...]  # share of fixed cost that was accepted, and where it led

    def __str__(self) -> str:
        lines = [f"acquire, then configure:  {self.acquired}"]
        lines += [
            f"configure for {share:.0%} fixed cost, then acquire:  {one}  "
            f"({one.makespan_s / self.acquired.makespan_s:.2f} of the time)"
            for share, one in self.configured
        ]
        done = [one for _, one in self.configured if one.figures is not None]
        if done:
            best = min(done, key=lambda one: one.makespan_s)
            ratio, more = best.makespan_s / self.acquired.makespan_s, best.workers.memory_mib
            verdict = "the same place" if abs(ratio - 1.0) <= _SAME_PLACE else "different places"
            lines.append(
                f"they end at {verdict}: the best size configured beforehand takes {ratio:.2f} of the time, on workers "
                f"with {more / self.acquired.workers.memory_mib:.2f} of the memory"
            )
        return "\n".join(lines)


def orders(case: Case, seed: int = 0) -> Orders:
    """Follow both orders: does it matter whether workers or sizes are decided first?

    The lines of time and memory that a size is configured from are those that a run on the case's workers learnt.
    """
    first = case.workers[0]
    cores = sum(spec.cores * spec.count for spec in case.workers if spec.leaves_s is None) or first.cores * first.count
    acquired = option(case, WorkerSpec(first.cores, first.memory_mib, max(1, cores // first.cores)), None, seed)
    if acquired.figures is None:
        raise BadInput("the run does not finish on the workers that are given")
    found = []
    wall, memory = acquired.figures.wall, acquired.figures.memory
    assert wall is not None
    assert memory is not None
    for share in _FIXED_SHARES:
        size = wall.intercept * (1.0 - share) / (share * max(wall.slope, 1e-12))
        size = max(1, round(size))
        need_mib = math.ceil(memory.upper(size, _RISK))
        spec = WorkerSpec(first.cores, first.cores * need_mib, max(1, cores // first.cores))
        found.append((share, option(case, spec, None, seed, Fixed(size, Resources(1, need_mib), "halve"))))
    return Orders(acquired, tuple(found))
