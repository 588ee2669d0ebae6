"""One chunksize and one allocation, chosen beforehand: what most tools do today, and the baseline to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from shaper.errors import BadInput
from shaper.models.beliefs import Beliefs
from shaper.policy import verdict
from shaper.policy.settings import whole_number
from shaper.types import (
    Backlog,
    Cancel,
    Capacity,
    GiveUp,
    Observation,
    Outcome,
    Resources,
    Retry,
    Shape,
    Task,
    TaskId,
    Verdict,
    Work,
)
from shaper.units import show_count

OnExhaustion = Literal["fail", "halve", "split"]


@dataclass(frozen=True)
class Fixed:
    """Cuts every source into equal pieces not above `chunksize` and gives each the same resources.

    Args:
        chunksize: elements per task.
        resources: of each task; a whole worker where not given.
        on_exhaustion: `fail` gives the piece up; `halve` tries the largest worker, then cuts it in two; `split` cuts
            it at once, as under a cap.
        retries: how often a piece whose function raised is run again.
        fan_in: results per merge.
    """

    chunksize: int
    resources: Resources | None = None
    on_exhaustion: OnExhaustion = "fail"
    retries: int = 1
    fan_in: int = 8
    name: str = "fixed"

    def __post_init__(self) -> None:
        whole_number("chunksize", self.chunksize, 1)
        whole_number("retries", self.retries, 0)
        whole_number("fan_in", self.fan_in, 2)
        if self.on_exhaustion not in get_args(OnExhaustion):
            raise BadInput(f"on_exhaustion is 'fail', 'halve' or 'split', got {self.on_exhaustion!r}")

    def shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        """Ask for as many tasks as the workers hold, and a few that wait."""
        if capacity.largest is None:
            return ()
        # Also where none fits now: the engine knows whether a larger worker will come, and says so if not.
        slots = max(1, slots_for(self._given(capacity), capacity))
        why = f"fixed at {show_count(self.chunksize)} elements"
        shapes = merge_shapes(backlog, self.fan_in, slots)
        room = ahead(slots) - sum(group.in_flight for group in backlog.stages)
        for group in backlog.groups:
            if room <= 0:
                break
            more = min(room, group.waiting + -(-(group.pending_elements) // self.chunksize) + 1)
            room -= more
            shapes.append(
                Shape(
                    group.stage,
                    group.group,
                    None,
                    self.chunksize,
                    group.in_flight + more,
                    why,
                    cross_sources=False,
                )
            )
        return shapes

    def allocate(self, work: Work, beliefs: Beliefs, capacity: Capacity) -> Resources:
        """Give every task the same."""
        return self._given(capacity)

    def revise(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> Sequence[Cancel]:
        """Take nothing back."""
        return ()

    def judge(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        """Apply the common table; exhaustion as `on_exhaustion` says."""
        return verdict.judge(
            seen, beliefs, retries=self.retries, exhausted=lambda seen: self._exhausted(seen, capacity)
        )

    def _exhausted(self, seen: Observation, capacity: Capacity) -> Verdict:
        what = verdict.describe(seen)
        if self.on_exhaustion == "fail":
            return GiveUp(what)
        whole = whole_worker(capacity) if self.on_exhaustion == "halve" else None
        given = seen.task.resources
        if seen.outcome is Outcome.OUT_OF_MEMORY and whole is not None and whole.memory_mib > given.memory_mib:
            more = replace(given, cores=whole.cores, memory_mib=whole.memory_mib)
            return Retry(more, f"{what}: once more with a whole worker")
        return verdict.smaller(seen.task.work, what) or GiveUp(what)

    def _given(self, capacity: Capacity) -> Resources:
        return self.resources or whole_worker(capacity) or Resources(1, 1)


def whole_worker(capacity: Capacity) -> Resources | None:
    """The resources of the largest connected worker; None when none is connected."""
    largest = capacity.largest
    return None if largest is None else Resources(largest.cores, largest.memory_mib)


def slots_for(resources: Resources, capacity: Capacity) -> int:
    """How many tasks of these resources the connected workers hold at once."""
    return sum(
        kind.count * min(kind.cores // resources.cores, kind.memory_mib // resources.memory_mib)
        for kind in capacity.kinds
    )


def ahead(slots: int) -> int:
    """How many tasks to keep submitted so that a slot that falls free finds one waiting."""
    return slots + max(1, slots // 10)


def merge_shapes(backlog: Backlog, fan_in: int, slots: int) -> list[Shape]:
    """Merge while processing goes on, with a quarter of the slots; with all of them once processing is over."""
    return [
        Shape(
            stage.stage,
            "",
            None,
            1,
            max(1, slots // 4 if stage.processing_left else slots),
            f"merge {fan_in} results at a time" if stage.processing_left else "merge what is left",
            fan_in=fan_in,
        )
        for stage in backlog.stages
        if stage.results > 1
    ]
