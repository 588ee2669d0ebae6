"""What to do about an observation: one table. Only what a resource limit leads to differs between policies.

outcome      chunk of one source          chunk of several sources    merge
DONE         accept                       accept                      accept
CANCELLED    back to pending              back to pending             run again
LOST         run again, then cut          the same                    run again, then give up
FAILED       run again, then give up      split by source             run again, then give up
OUT_OF_*     the policy's `exhausted`     the policy's `exhausted`    the policy's `exhausted`

A chunk that FAILED with an I/O error first is run again after pauses: see `outage.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from shaper.models import Beliefs, GroupBeliefs
from shaper.policy import outage
from shaper.types import Accept, Chunk, GiveUp, Merge, Observation, Outcome, Retry, Split, Verdict, Work
from shaper.units import show_mib, show_seconds
from shaper.work import by_source, split

# Losing a worker says nothing about the task; losing this many in a row says that the task takes workers down.
MAX_LOSSES = 25
# Without a single success, failures in this many sources, or this many at all, mean that the function is wrong, not the
# data; so do this many losses.
HOPELESS_SOURCES = 16
HOPELESS_FAILURES = 64
HOPELESS_LOSSES = 100


def judge(
    seen: Observation,
    beliefs: Beliefs,
    *,
    retries: int,
    exhausted: Callable[[Observation], Verdict],
    patience_s: float = outage.PATIENCE_S,
) -> Verdict:
    """Apply the table.

    Args:
        retries: how often a piece of work whose function raised is run again.
        exhausted: the policy's answer to an exceeded limit.
        patience_s: how long a data source may be away.
    """
    task, work = seen.task, seen.task.work
    if seen.outcome is Outcome.DONE:
        return Accept(seen.skipped)
    category = beliefs.categories.get(task.category)
    shared = category.shared if category is not None else GroupBeliefs()
    if seen.outcome.exhausted:
        verdict = exhausted(seen)
        hopeless = shared.done == 0 and shared.exhausted >= HOPELESS_FAILURES and isinstance(work, Chunk)
        if isinstance(verdict, GiveUp) and hopeless:
            reason = f"{shared.exhausted} attempts and none finished, last: {verdict.reason}; give more"
            return GiveUp(reason, whole_stage=True)
        return verdict
    if seen.outcome is Outcome.CANCELLED:
        if isinstance(work, Merge):
            return Retry(task.resources, "taken back")
        return Split((work,), "taken back to be cut again")
    if seen.outcome is Outcome.LOST:
        if shared.done == 0 and shared.lost >= HOPELESS_LOSSES and isinstance(work, Chunk):
            reason = f"{shared.lost} attempts were lost and none has finished, last: {seen.detail or 'worker gone'}"
            return GiveUp(reason, whole_stage=True)
        losses, why = task.losses + 1, seen.detail or "its worker is gone"
        if losses < MAX_LOSSES:
            return Retry(task.resources, why)
        return smaller(work, f"lost {losses} times, last: {why}") or GiveUp(f"lost {losses} times, last: {why}")
    if seen.io_error and (again := outage.answer(seen, beliefs, retries=retries, patience_s=patience_s)):
        return again
    if isinstance(work, Chunk):
        everywhere = len(shared.failed_sources) >= HOPELESS_SOURCES or shared.failed >= HOPELESS_FAILURES
        if shared.done == 0 and everywhere:
            return GiveUp(_short(seen), whole_stage=True)
        pieces = by_source(work)
        if len(pieces) > 1:
            return Split(pieces, f"failed, each source on its own: {_short(seen)}")
    excused = task.pause.excused if task.pause is not None else 0
    if task.attempt - task.losses - excused <= retries and not (seen.io_error and isinstance(work, Chunk)):
        return Retry(task.resources, f"failed, once more: {_short(seen)}")
    return GiveUp(_short(seen))


def smaller(work: Work, why: str) -> Split | None:
    """Before anything is given up: its sources apart, then halves; None for one element or a merge."""
    if not isinstance(work, Chunk) or work.elements == 1:
        return None
    pieces = by_source(work)
    if len(pieces) > 1:
        return Split(pieces, f"{why}: each source on its own")
    return Split(split(work, -(-work.elements // 2)), f"{why}: cut in two")


def describe(seen: Observation) -> str:
    """Say which limit was exceeded, with the limit and the measured use."""
    given, used = seen.task.resources, seen.usage
    if seen.outcome is Outcome.OUT_OF_MEMORY:
        if seen.system_oom:
            return f"killed by the system for memory at {show_mib(used.memory_mib if used else None)}"
        return f"needs more than {show_mib(given.memory_mib)} (used {show_mib(used.memory_mib if used else None)})"
    if seen.outcome is Outcome.OUT_OF_DISK:
        return f"needs more than {show_mib(given.disk_mib)} of disk (used {show_mib(used.disk_mib if used else None)})"
    return f"needs more than {show_seconds(given.wall_s)} (ran {show_seconds(used.wall_s if used else None)})"


def _short(seen: Observation) -> str:
    return seen.detail.strip().splitlines()[0] if seen.detail.strip() else seen.outcome.value
