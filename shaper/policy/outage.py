"""Attempts that raised I/O errors: run again after growing pauses, because their data source may only be away.

what has been seen of the stage and group            a piece that keeps failing is given up after
nothing has finished yet                             5 s
one source fails that has never given anything       5 s
one source fails that has given something before     1 min
pieces of several sources fail                       `patience_s`
others were served since its last failure            `retries` such failures: it is the piece

A chunk of several sources is run again only where several have failed; else, and in the end, each of its sources is run
on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shaper.models import Beliefs
from shaper.types import Chunk, GiveUp, Observation, Pause, Retry, Shape
from shaper.units import show_seconds

PATIENCE_S = 1800.0
_NEVER_S, _ONE_SOURCE_S = 5.0, 60.0
# Pauses double from the first up to the longest.
_FIRST_S, _LONGEST_S = 1.0, 30.0


def answer(seen: Observation, beliefs: Beliefs, *, retries: int, patience_s: float) -> Retry | GiveUp | None:
    """Return what to do about a chunk that raised an I/O error; None where it has failed like any other."""
    task, work, now_s = seen.task, seen.task.work, seen.finished_s
    if not isinstance(work, Chunk):
        return None
    outage = beliefs.outage(task.stage, task.group)
    before = task.pause
    served = before is not None and outage.served_s is not None and outage.served_s > before.failed_s
    worked = (known := beliefs.categories.get(task.category)) is not None and known.shared.done > 0
    alone = len({span.source.id for span in work.spans}) == 1
    if not alone and not (worked and outage.several):
        return None
    excused = 0 if before is None else before.excused + (not served)
    if task.attempt - task.losses - excused > retries:
        return None
    since_s = now_s if before is None else before.since_s
    why = seen.detail.strip().splitlines()[0] if seen.detail.strip() else "I/O error"
    if not worked:
        # Counted from the first failure of all: else every piece would have its own seconds.
        if now_s - (outage.since_s if outage.since_s is not None else now_s) >= _NEVER_S:
            return None
        patience_s = _NEVER_S
    else:
        if not outage.several:
            gave = work.spans[0].source.id in beliefs.about(task.category, task.group).sources
            patience_s = min(_ONE_SOURCE_S if gave else _NEVER_S, patience_s)
        if now_s - since_s >= patience_s:
            return None if not alone else GiveUp(f"{why}; the same for {show_seconds(now_s - since_s)}")
    failures = 1 if before is None else before.failures + 1
    pause_s = min(_FIRST_S * 2.0 ** min(failures - 1, 30), _LONGEST_S)
    reason = f"{why}; its source may be away: again in {show_seconds(pause_s)}, for {show_seconds(patience_s)} at most"
    return Retry(task.resources, reason, pause=Pause(since_s, now_s, now_s + pause_s, failures, excused))


def held(shapes: Sequence[Shape], beliefs: Beliefs) -> Sequence[Shape]:
    """While hardly anything but I/O errors comes back, only what waits to run again does: nothing new is cut."""
    if not any(outage.holds for outage in beliefs.outages.values()):
        return shapes
    return [
        replace(shape, fresh=False)
        if shape.fan_in is None and beliefs.outage(shape.stage, shape.group).holds
        else shape
        for shape in shapes
    ]
