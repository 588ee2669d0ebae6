"""When results are merged, how many at a time, and when what lies on workers comes back."""

from __future__ import annotations

import math

from shaper.models.beliefs import Beliefs
from shaper.policy.chunksize import TASK_S
from shaper.policy.settings import Settings
from shaper.types import Capacity, Shape, StageBacklog
from shaper.units import show_seconds

FAN_IN, _FAN_IN_MOST = 8, 16


def shape(
    stage: StageBacklog, beliefs: Beliefs, capacity: Capacity, settings: Settings, now_s: float, stay_s: float
) -> Shape | None:
    """The merges of a stage that are wanted now; None where there is nothing to merge.

    Args:
        stage: what is there.
        beliefs: about the time of merges.
        capacity: of the workers.
        settings: the user's.
        now_s: on the clock of the run.
        stay_s: results may stay on workers for so long.
    """
    save_before_s = now_s - stay_s
    saving = stage.unsaved_since_s is not None and (stage.unsaved_since_s <= save_before_s or not stage.processing_left)
    if stage.results < 2 and not saving:
        return None
    fan_in = settings.fan_in or _fan_in(stage, beliefs, settings)
    tasks, reason = max(1, capacity.cores), f"merge what is left, {fan_in} results at a time"
    if stage.processing_left:
        tasks = max(1, capacity.cores // 4)
        reason = f"merge {fan_in} results at a time while processing goes on"
    if saving and stage.processing_left:
        reason += f"; what has been on workers for {show_seconds(stay_s)} comes back"
    return Shape(
        stage.stage,
        "",
        None,
        1,
        tasks,
        reason,
        fan_in=fan_in,
        durable=not stay_s,
        save_before_s=save_before_s if saving else None,
    )


def _fan_in(stage: StageBacklog, beliefs: Beliefs, settings: Settings) -> int:
    """While processing goes on few merges, hidden behind it; at the end the tree that is done first.

    A tree over r results at k per merge has log r / log k levels of the time of one merge each.
    """
    line = beliefs.about(stage.category).wall.line
    if stage.processing_left or line is None or stage.result_bytes is None or "fan-in" in settings.without:
        return FAN_IN
    kib = max(1.0, stage.result_bytes / 1024)
    return min(range(2, _FAN_IN_MOST + 1), key=lambda k: (line.median(k * kib) + TASK_S) / math.log(k))
