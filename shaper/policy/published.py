"""The published rule of dynamic task shaping (Tovar et al. 2022), step by step, kept as a named baseline.

Section numbers are those of the paper as restated in `docs/policies.md`. Allocation: the first tasks of a category
get a whole worker; after 5 completions the maximum seen, rounded up to a multiple of 250 MB; a task over its
allocation is retried with a whole worker, then with the largest worker, then it is split in two. Chunksize: first a
guess; then the linear fit of size against memory (and run time) over the successful tasks, evaluated at the target;
rounded down to a power of two c; c or c - 1 at random. A file is cut into the smallest number of equal units not above
the chunksize. Preprocessing and accumulating tasks are never split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from shaper.errors import BadInput
from shaper.models.beliefs import Beliefs
from shaper.models.line import Bins
from shaper.policy import verdict
from shaper.policy.fixed import ahead, merge_shapes, slots_for, whole_worker
from shaper.policy.settings import whole_number
from shaper.types import (
    Backlog,
    Cancel,
    Capacity,
    Chunk,
    GiveUp,
    Observation,
    Outcome,
    Resources,
    Retry,
    Shape,
    Split,
    Task,
    TaskId,
    Verdict,
    Work,
)
from shaper.units import parse_mib, show_count, show_mib
from shaper.work import split

_STEP_MIB = 250e6 / 2**20
_COMPLETIONS = 5


@dataclass(frozen=True)
class Published:
    """The published rule.

    Args:
        first_guess: chunksize until the fit speaks.
        target_memory: per task, MiB or a string with a unit; the memory per core of the largest worker by default.
        target_wall_s: per task; no limit by default.
        reading: the paper leaves open what a task is given once the target is set: `max-seen` is its literal
            allocation rule, `target` gives every processing task the target from the start.
        cap: a memory above which a task is split rather than given a whole worker.
        retries: how often a piece whose function raised is run again.
        fan_in: results per merge.
    """

    first_guess: int = 100_000
    target_memory: str | int | None = None
    target_wall_s: float | None = None
    reading: Literal["max-seen", "target"] = "max-seen"
    cap: str | int | None = None
    retries: int = 1
    fan_in: int = 8
    name: str = field(default="published")

    def __post_init__(self) -> None:
        whole_number("first_guess", self.first_guess, 1)
        whole_number("retries", self.retries, 0)
        whole_number("fan_in", self.fan_in, 2)
        for name, value in (("target_memory", self.target_memory), ("cap", self.cap)):
            if value is not None:
                parse_mib(value, name)
        if self.reading not in ("max-seen", "target"):
            raise BadInput(f"reading is 'max-seen' or 'target', got {self.reading!r}")

    @property
    def prior(self) -> Beliefs:
        """Nothing is known, and nothing is ever forgotten: the rule has no notion of a change."""
        return Beliefs(without=frozenset({"surprise"}))

    def shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        """Fill the workers with tasks of the fitted size."""
        if capacity.largest is None:
            return ()
        shapes: list[Shape] = []
        room: int | None = None
        for group in backlog.groups:
            size, why = self._chunksize(group.category, beliefs, capacity)
            slots = slots_for(self._processing(group.category, beliefs, capacity), capacity)
            if room is None:
                shapes = merge_shapes(backlog, self.fan_in, max(1, slots))
                room = ahead(slots) - sum(stage.in_flight for stage in backlog.stages)
            if room <= 0:
                break
            # c or c - 1, in turn rather than by a coin, so that the same run makes the same decisions.
            if size > 1 and beliefs.version % 2:
                size -= 1
            more = min(room, group.waiting + -(-group.pending_elements // size) + 1)
            room -= more
            shapes.append(Shape(group.stage, group.group, None, size, group.in_flight + more, why, cross_sources=False))
        return shapes if room is not None else merge_shapes(backlog, self.fan_in, max(1, capacity.cores))

    def allocate(self, work: Work, beliefs: Beliefs, capacity: Capacity) -> Resources:
        """A whole worker for the first 5 tasks of a category, then the maximum seen in steps of 250 MB."""
        if isinstance(work, Chunk):
            return self._processing(work.category, beliefs, capacity)
        return self._max_seen(work.category, beliefs, capacity)

    def revise(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> Sequence[Cancel]:
        """Take nothing back."""
        return ()

    def judge(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        """Apply the common table; exhaustion climbs the ladder: whole worker, largest worker, two halves."""
        return verdict.judge(
            seen, beliefs, retries=self.retries, exhausted=lambda seen: self._exhausted(seen, capacity)
        )

    def _exhausted(self, seen: Observation, capacity: Capacity) -> Verdict:
        what = verdict.describe(seen)
        given, work = seen.task.resources, seen.task.work
        cap = parse_mib(self.cap, "cap") if self.cap is not None and isinstance(work, Chunk) else None
        if seen.outcome is Outcome.OUT_OF_MEMORY:
            for kind in sorted(capacity.kinds, key=lambda kind: kind.memory_mib):
                if kind.count and kind.memory_mib > given.memory_mib and (cap is None or kind.memory_mib <= cap):
                    more = replace(given, cores=kind.cores, memory_mib=kind.memory_mib)
                    return Retry(more, f"{what}: once more with a whole {kind.name} worker")
        if isinstance(work, Chunk) and work.elements > 1:
            return Split(split(work, -(-work.elements // 2)), f"{what}: cut in two")
        return GiveUp(what)

    def _target_mib(self, capacity: Capacity) -> int:
        if self.target_memory is not None:
            return parse_mib(self.target_memory, "target_memory")
        largest = capacity.largest
        return max(1, largest.memory_mib // largest.cores) if largest is not None else 1

    def _processing(self, category: str, beliefs: Beliefs, capacity: Capacity) -> Resources:
        if self.reading == "target":
            return Resources(1, self._target_mib(capacity))
        return self._max_seen(category, beliefs, capacity)

    def _max_seen(self, category: str, beliefs: Beliefs, capacity: Capacity) -> Resources:
        whole = whole_worker(capacity) or Resources(1, 1)
        about = beliefs.about(category)
        if about.done < _COMPLETIONS:
            return whole
        steps = max(1, math.ceil(about.most_mib / _STEP_MIB))
        return Resources(1, min(whole.memory_mib, math.ceil(steps * _STEP_MIB)))

    def _chunksize(self, category: str, beliefs: Beliefs, capacity: Capacity) -> tuple[int, str]:
        about = beliefs.about(category)
        if about.done < _COMPLETIONS:
            return self.first_guess, f"the first guess, until {_COMPLETIONS} tasks are done"
        target = self._target_mib(capacity)
        fits = [_inverse(about.memory.bins, target)]
        if self.target_wall_s is not None:
            fits.append(_inverse(about.wall.bins, self.target_wall_s))
        sizes = [size for size in fits if size is not None]
        if not sizes:
            return self.first_guess, "the first guess: what was seen does not grow with the size"
        size = max(1, int(min(sizes)))
        power = 1 << (size.bit_length() - 1)
        return power, f"the fit at {show_mib(target)} says {show_count(size)}, rounded down to a power of two"


def _inverse(bins: Bins, target: float) -> float | None:
    """Fit size on the measured value by least squares and evaluate at the target, an inverse regression.

    The fit is through the means of half octaves of size, of which each remembers its recent successes.
    None where larger tasks were not seen to use more: the paper is silent there, and an evaluation would be nonsense.
    """
    rows = [(math.exp(b.log_y), b.x, b.weight) for b in bins.values()]
    total = sum(w for _, _, w in rows)
    if not rows:
        return None
    mean_y = sum(y * w for y, _, w in rows) / total
    mean_x = sum(x * w for _, x, w in rows) / total
    spread = sum(w * (y - mean_y) ** 2 for y, _, w in rows)
    if spread <= 0:
        return mean_x * target / mean_y
    slope = sum(w * (y - mean_y) * (x - mean_x) for y, x, w in rows) / spread
    if slope <= 0:
        return None
    return mean_x + slope * (target - mean_y)
