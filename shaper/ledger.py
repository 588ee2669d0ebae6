"""The one mutable object of the core: every stage with its account, and which tasks are in flight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

from shaper.account import Account
from shaper.errors import BadInput, Broken
from shaper.pieces import StagePlan, Waiting
from shaper.types import (
    Backlog,
    Chunk,
    GroupBacklog,
    Merge,
    Observation,
    Resources,
    Shape,
    Span,
    StageBacklog,
    Task,
    TaskId,
    Verdict,
    Work,
)

__all__ = ["Ledger", "StagePlan"]

Allocate = Callable[[Work], Resources]

# A policy fills the workers from the front of the queue of groups, so it never needs to see more of them at once.
_GROUPS_SHOWN = 256


class Ledger:
    """Accounts for every element of every stage.

    Args:
        stages: what there is to do.
        session: number of this session of the run; makes task ids unique across sessions.
    """

    def __init__(self, stages: Iterable[StagePlan] = (), *, session: int = 1) -> None:
        self.in_flight: dict[TaskId, Task] = {}
        self.session = session
        self._stages: dict[str, Account] = {}
        self._number = 0
        self._blocked: dict[str, str] = {}
        self.add(stages)

    # -- what there is -------------------------------------------------------------------------------------------

    def add(self, stages: Iterable[StagePlan]) -> None:
        """Take new stages in; may be called while running, also before the stages that they wait for."""
        for plan in stages:
            if plan.name in self._stages:
                raise BadInput(f"two stages are named {plan.name!r}: name each stage once")
            self._stages[plan.name] = Account(plan)

    def state(self, stage: str) -> Literal["open", "done", "failed"]:
        """How a stage stands; `open` also where it is not here yet."""
        if stage in self._blocked:
            return "failed"
        known = self._stages.get(stage)
        if known is None or not known.finished:
            return "open"
        return "failed" if known.failed else "done"

    def block(self, stage: str, reason: str) -> None:
        """Never begin a stage, which may not be here yet; it is missing for this reason."""
        self._blocked[stage] = reason
        if stage in self._stages:
            self._stages[stage].abandon(reason)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to process or merge."""
        return all(stage.finished for stage in self._stages.values())

    def pausing(self, now_s: float) -> bool:
        """Whether some of what waits does so for its time to come."""
        return any(
            again.pause is not None and again.pause.until_s > now_s
            for stage in self._stages.values()
            for group in stage.open_groups.values()
            for again in group.waiting
        )

    @property
    def backlog(self) -> Backlog:
        """What is left; costs the groups shown, not the sources nor the tasks in flight."""
        groups: list[GroupBacklog] = []
        stages: list[StageBacklog] = []
        for stage in self._stages.values():
            if stage.finished:
                continue
            if len(groups) < _GROUPS_SHOWN and all(self.state(name) != "open" for name in stage.plan.after):
                for group in stage.open_groups.values():
                    groups.append(group.seen or group.backlog())
                    if len(groups) >= _GROUPS_SHOWN:
                        break
            stages.append(stage.backlog)
        return Backlog(groups, stages)

    # -- release -------------------------------------------------------------------------------------------------

    def release(
        self, shapes: Sequence[Shape], allocate: Allocate, most_mib: int | None = None, now_s: float = math.inf
    ) -> list[Task]:
        """Cut and return the tasks that bring every shape to the number it wants in flight.

        Args:
            shapes: what the policy wants.
            allocate: the policy's resources for a piece of work.
            most_mib: memory of the largest worker; a retry that was promised more, by one that left, gets this.
            now_s: of the engine's clock; what pauses until later stays.
        """
        tasks: list[Task] = []

        def given(again: Waiting) -> Resources:
            promised = again.resources
            if promised is None:
                return allocate(again.work)
            if most_mib is not None and promised.memory_mib > most_mib and not again.waits:
                return replace(promised, memory_mib=most_mib)
            return promised

        for shape in shapes:
            stage = self._stages[shape.stage]
            if shape.fan_in is not None:
                while (merge := stage.next_merge(shape)) is not None:
                    again, inputs = merge
                    durable = shape.durable or stage.must_last(inputs, shape.save_before_s)
                    task = self._task(stage.plan.merge_category, shape, again, given(again), durable=durable)
                    stage.merging[task.id] = inputs
                    tasks.append(task)
                continue
            # Results of an ordered stage are merged with their neighbours alone, not whenever they are to be saved.
            durable = shape.durable or stage.plan.ordered
            while (piece := stage.next_piece(shape, now_s)) is not None:
                tasks.append(self._task(stage.plan.category, shape, piece, given(piece), durable=durable))
        # Those that are released together run beside each other, the first no less than the last.
        if len(tasks) > 1:
            tasks = [replace(task, beside=len(self.in_flight) - 1) for task in tasks]
            self.in_flight.update((task.id, task) for task in tasks)
        return tasks

    def _task(self, category: str, shape: Shape, again: Waiting, resources: Resources, *, durable: bool) -> Task:
        self._number += 1
        task = Task(
            f"{self.session}.{self._number}",
            shape.stage,
            "" if isinstance(again.work, Merge) else shape.group,
            category,
            again.work,
            resources,
            shape.worker_kind,
            again.attempt,
            again.reason,
            again.losses,
            len(self.in_flight),
            durable,
            again.pause,
        )
        self.in_flight[task.id] = task
        return task

    # -- settle --------------------------------------------------------------------------------------------------

    def settle(self, seen: Observation, verdict: Verdict) -> list[TaskId]:
        """Account for one observation; return the ids of results that nobody needs any more."""
        task = self.in_flight.pop(seen.task.id, None)
        if task is None:
            raise Broken(f"task {seen.task.id} was observed, but is not in flight")
        stage = self._stages[task.stage]
        if isinstance(task.work, Merge):
            return stage.settle_merge(seen, verdict)
        stage.settle_piece(seen, verdict)
        return []

    def reopen(self, task_ids: Iterable[TaskId]) -> None:
        """Put the spans of lost results back to pending."""
        lost = set(task_ids)
        for stage in self._stages.values():
            stage.reopen(lost)

    # -- the end -------------------------------------------------------------------------------------------------

    def roots(self) -> dict[str, TaskId | None]:
        """The result of each stage that holds most of its elements; None where there is none."""
        roots = {name: stage.root for name, stage in self._stages.items()}
        return {
            name: root.id if root is not None and root.unsaved_since_s is None else None for name, root in roots.items()
        }

    def missing(self) -> list[str]:
        """One line for each part that has no result: what and why; first what failed, then what waited for it."""
        lines = []
        for name, stage in self._stages.items():
            where = f"stage {name!r}: " if len(self._stages) + len(self._blocked) > 1 else ""
            if name not in self._blocked:
                lines += [f"{where}{span}: {reason}" for span, reason in _joined(stage.given_up)]
                lines += [where + fault for fault in stage.faults]
        return lines + [f"stage {name!r}: {reason}" for name, reason in self._blocked.items()]

    def skipped_spans(self) -> list[Span]:
        """What was left out by the user's own leave."""
        return [span for stage in self._stages.values() for span, _ in stage.skipped]

    def skipped(self) -> list[str]:
        """One line for each span that was left out by the user's own leave."""
        return [f"{span}: {reason}" for stage in self._stages.values() for span, reason in _joined(stage.skipped)]

    @property
    def elements(self) -> int:
        """Elements of all stages."""
        return sum(stage.elements for stage in self._stages.values())

    @property
    def settled_elements(self) -> int:
        """Elements whose results are accepted; costs the stages."""
        return sum(stage.settled_elements for stage in self._stages.values())

    def check_sums(self) -> None:
        """Check in constant time per stage that no element was lost or counted twice; the loop does so every turn.

        Raises:
            Broken: the sums do not agree.
        """
        for stage in self._stages.values():
            stage.check_sums()

    def check(self) -> None:
        """Prove that every element is in exactly one place.

        Raises:
            Broken: an element is nowhere or counted twice; lists which.
        """
        spans: dict[str, list[Span]] = {name: [] for name in self._stages}
        for task in self.in_flight.values():
            if isinstance(task.work, Chunk):
                spans[task.stage] += task.work.spans
        faults = [fault for name, stage in self._stages.items() for fault in stage.faults_of_cover(spans[name])]
        if faults:
            shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
            raise Broken(f"elements are not accounted for exactly once: {shown}")


def _joined(parts: Sequence[tuple[Span, str]]) -> list[tuple[Span, str]]:
    """Join touching spans with the same reason."""
    joined: list[tuple[Span, str]] = []
    for span, reason in sorted(parts, key=lambda p: (p[0].source.id, p[0].start)):
        if joined and joined[-1][1] == reason:
            last = joined[-1][0]
            if last.source is span.source and last.stop == span.start:
                joined[-1] = (replace(last, stop=span.stop), reason)
                continue
        joined.append((span, reason))
    return joined
