"""Attempts that raised I/O errors: run again after growing pauses, because their data source may only be away.

what has been seen of the stage and group            a piece that keeps failing is given up after
nothing has finished yet                             10 s
only pieces of one source fail                       1 min
pieces of several sources fail                       `patience_s`
the source served others since the last failure      `retries` such failures: it is the piece
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shaper.models import Beliefs
from shaper.types import GiveUp, Observation, Pause, Retry, Shape
from shaper.units import show_seconds

PATIENCE_S = 1800.0
_AT_FIRST_S, _ONE_SOURCE_S = 10.0, 60.0
# Pauses double from the first up to the longest.
_FIRST_S, _LONGEST_S = 1.0, 30.0


def answer(seen: Observation, beliefs: Beliefs, *, retries: int, patience_s: float) -> Retry | GiveUp | None:
    """Return what to do about a chunk that raised an I/O error; None where it has failed like any other."""
    task, now_s = seen.task, seen.finished_s
    outage = beliefs.outage(task.stage, task.group)
    before = task.pause
    served = before is not None and outage.served_s is not None and outage.served_s > before.failed_s
    excused = 0 if before is None else before.excused + (not served)
    if task.attempt - task.losses - excused > retries:
        return None
    since_s = now_s if before is None else before.since_s
    why = seen.detail.strip().splitlines()[0] if seen.detail.strip() else "I/O error"
    category = beliefs.categories.get(task.category)
    if category is None or category.shared.done == 0:
        if now_s - since_s >= _AT_FIRST_S:
            return None
        patience_s = _AT_FIRST_S
    else:
        patience_s = patience_s if outage.several else min(_ONE_SOURCE_S, patience_s)
        if now_s - since_s >= patience_s:
            return GiveUp(f"{why}; the same for {show_seconds(now_s - since_s)}")
    failures = 1 if before is None else before.failures + 1
    pause_s = min(_FIRST_S * 2.0 ** min(failures - 1, 30), _LONGEST_S)
    reason = f"{why}; its source may be away: again in {show_seconds(pause_s)}, for {show_seconds(patience_s)} at most"
    return Retry(task.resources, reason, Pause(since_s, now_s, now_s + pause_s, failures, excused))


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
