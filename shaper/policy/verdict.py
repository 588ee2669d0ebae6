"""What to do about an observation: one table. Only what a resource limit leads to differs between policies.

outcome      chunk of one source          chunk of several sources    merge
DONE         accept                       accept                      accept
CANCELLED    back to pending              back to pending             run again
LOST         run again, up to a bound     the same                    the same
FAILED       run again, then give up      split by source             run again, then give up
OUT_OF_*     the policy's `exhausted`     the policy's `exhausted`    the policy's `exhausted`
"""

from __future__ import annotations

from collections.abc import Callable

from shaper.models.beliefs import Beliefs
from shaper.types import Accept, Chunk, GiveUp, Merge, Observation, Outcome, Retry, Split, Verdict
from shaper.units import show_mib, show_seconds
from shaper.work import by_source

# Losing a worker says nothing about the task; losing this many in a row says that the task takes workers down.
MAX_LOSSES = 25
# This many failures without a single success mean that the function is wrong, not the data.
HOPELESS = 8


def judge(seen: Observation, beliefs: Beliefs, *, retries: int, exhausted: Callable[[Observation], Verdict]) -> Verdict:
    """Apply the table.

    Args:
        retries: how often a piece of work whose function raised is run again.
        exhausted: the policy's answer to an exceeded limit.
    """
    task, work = seen.task, seen.task.work
    if seen.outcome is Outcome.DONE:
        return Accept(seen.skipped)
    if seen.outcome.exhausted:
        return exhausted(seen)
    if seen.outcome is Outcome.CANCELLED:
        if isinstance(work, Merge):
            return Retry(task.resources, "taken back")
        return Split((work,), "taken back to be cut again")
    if seen.outcome is Outcome.LOST:
        if task.attempt >= MAX_LOSSES:
            return GiveUp(f"lost {task.attempt} times in a row, last: {seen.detail or 'its worker is gone'}")
        return Retry(task.resources, seen.detail or "its worker is gone")
    if isinstance(work, Chunk):
        about = beliefs.about(task.category, task.group)
        shared = beliefs.categories[task.category].shared if task.category in beliefs.categories else about
        if shared.done == 0 and shared.failed >= HOPELESS:
            return GiveUp(_short(seen), whole_stage=True)
        pieces = by_source(work)
        if len(pieces) > 1:
            return Split(pieces, f"failed, each source on its own: {_short(seen)}")
    if task.attempt <= retries:
        return Retry(task.resources, f"failed, once more: {_short(seen)}")
    return GiveUp(_short(seen))


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
