"""What to do about an attempt that exceeded a limit: smaller pieces, halves, more memory, or giving up by name."""

from __future__ import annotations

from dataclasses import replace

from shaper.models.group import GroupBeliefs
from shaper.policy import verdict
from shaper.policy.allocation import rounded
from shaper.policy.chunksize import limited
from shaper.policy.settings import Settings
from shaper.types import Chunk, GiveUp, Merge, Observation, Outcome, Resources, Retry, Split, Verdict, Work
from shaper.units import show_count, show_mib
from shaper.work import by_source, split

# A piece is cut to what is believed where it is larger by this factor; else its size was right.
_TOO_LARGE = 1.5
# What is given instead where the size was right.
_MORE, _LEAST_MIB = 1.5, 128.0
# Halves are tried where they need less than this share of the whole.
_SURELY = 0.75


def answer(
    seen: Observation, about: GroupBeliefs, believed: float, most_mib: int, settings: Settings, *, wait: bool = False
) -> Verdict:
    """Return the verdict on an exceeded limit.

    Args:
        believed: the size that is believed to fit, elements.
        most_mib: memory of the largest worker.
        wait: whether a larger worker may come.
    """
    task, work, what = seen.task, seen.task.work, verdict.describe(seen)
    if seen.outcome is not Outcome.OUT_OF_MEMORY:
        return _smaller(work, what, settings) or GiveUp(what)
    if isinstance(work, Merge):
        if task.resources.memory_mib < most_mib:
            return _more(seen, most_mib, what)
        return _larger(seen, most_mib, what) if wait else GiveUp(f"{what}, and no worker has more")
    cap_mib = limited(most_mib, settings)
    if work.elements > _TOO_LARGE * believed and _divisible(work, settings):
        return cut(work, believed, what, settings)
    if _halves_cost_less(seen, about, cap_mib) and _divisible(work, settings):
        return cut(work, work.elements / 2, what, settings)
    if task.resources.memory_mib < cap_mib:
        return _more(seen, cap_mib, what)
    if (pieces := _smaller(work, what, settings)) is not None:
        return pieces
    if wait and limited(most_mib + 1, settings) > most_mib:
        return _larger(seen, most_mib, what)
    more = "no worker has more" if cap_mib == most_mib else f"the cap is {show_mib(cap_mib)}"
    if work.elements == 1:
        return GiveUp(f"one element {what}, and {more}")
    return GiveUp(f"{work.elements} elements {what}, and {more}; a smaller min_chunksize would allow to cut them")


def cut(work: Chunk, elements: float, what: str, settings: Settings) -> Split:
    """Split into pieces of about so many elements, not below the least that the user allows."""
    size = max(1, settings.min_chunksize, min(int(elements), work.elements - 1))
    pieces = split(work, size, least=settings.min_chunksize)
    return Split(pieces, f"{what}: cut into {len(pieces)} pieces of about {show_count(size)} elements")


def _divisible(work: Chunk, settings: Settings) -> bool:
    return work.elements > settings.min_chunksize


def _smaller(work: Work, what: str, settings: Settings) -> Split | None:
    if not isinstance(work, Chunk):
        return None
    if len(by_source(work)) > 1:
        return verdict.smaller(work, what)
    return cut(work, work.elements / 2, what, settings) if _divisible(work, settings) else None


def _halves_cost_less(seen: Observation, about: GroupBeliefs, cap_mib: int) -> bool:
    """Whether two halves in what was given cost less (a fixed cost) than once more with more (others' memory)."""
    work, given_mib = seen.task.work, seen.task.resources.memory_mib
    memory, wall = about.memory.line, about.wall.line
    if memory is None or wall is None or work.elements < 2:
        return False
    half = work.elements / 2
    fits = memory.median(half) / memory.median(work.elements) < _SURELY
    more_s = wall.median(work.elements) * (min(_MORE * given_mib, cap_mib) / given_mib - 1.0)
    return fits and 2.0 * wall.median(half) - wall.median(work.elements) < more_s


def _larger(seen: Observation, most_mib: int, what: str) -> Retry:
    """Any worker that has more will do: how much is needed is not known."""
    resources = replace(seen.task.resources, memory_mib=most_mib + 1)
    return Retry(resources, f"{what}, and no worker had more", waits=True)


def _more(seen: Observation, cap_mib: int, what: str) -> Retry:
    given = seen.task.resources
    more = rounded(max(given.memory_mib * _MORE, _LEAST_MIB), cap_mib)
    # One element that died may need anything: less than the most would only repeat it.
    if more < cap_mib and (seen.task.attempt - seen.task.losses >= 2 or seen.task.work.elements == 1):
        more = cap_mib
    resources = Resources(given.cores, more, given.disk_mib, given.wall_s)
    return Retry(resources, f"{what}: once more with {show_mib(more)}")
