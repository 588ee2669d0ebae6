"""The one mutable object of the core: what is pending, running, settled, skipped or given up, for every element.

Tasks are cut when they are released, so memory grows with the sources and with what is in flight. A split or a retry
goes to the front again. Everything that is asked once per turn is kept up incrementally.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from shaper.errors import BadInput, Broken
from shaper.reduction import Reduction, Result, merged, unsaved_since_s
from shaper.types import (
    Accept,
    Backlog,
    Chunk,
    GiveUp,
    GroupBacklog,
    Merge,
    Mode,
    Observation,
    Outcome,
    Pause,
    Resources,
    Retry,
    Shape,
    Source,
    Span,
    Split,
    StageBacklog,
    Task,
    TaskId,
    Verdict,
    Work,
)
from shaper.work import Range, coalesce, returned, take, uncovered, without

Allocate = Callable[[Work], Resources]
_Given = Callable[["Waiting"], Resources]

# A policy fills the workers from the front of the queue of groups, so it never needs to see more of them at once.
_GROUPS_SHOWN = 256
# A piece that waits is cut anew when the size that is wanted now is this much smaller.
_TOO_LARGE = 1.5


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage as the ledger needs it: no functions, counted sources."""

    name: str
    sources: tuple[Source, ...]
    after: tuple[str, ...] = ()
    category: str = "processing"
    mode: Mode = "split"
    ordered: bool = False

    @property
    def merge_category(self) -> str:
        """The category of its accumulating tasks."""
        return "accumulating" if self.category == "processing" else f"{self.category}_merge"


class Waiting(NamedTuple):
    """A piece of work that was cut before and waits to be submitted again."""

    work: Work
    attempt: int
    resources: Resources | None
    reason: str
    losses: int = 0
    waits: bool = False
    pause: Pause | None = None


@dataclass(slots=True)
class _Group:
    stage: str
    name: str
    category: str
    mode: Mode
    pending: deque[Span] = field(default_factory=deque)
    waiting: deque[Waiting] = field(default_factory=deque)
    pending_elements: int = 0
    in_flight: int = 0
    in_flight_elements: int = 0
    seen: GroupBacklog | None = None  # cache of the last backlog row, None when it changed

    @property
    def idle(self) -> bool:
        """Whether nothing of it runs or will run again by itself."""
        return not self.in_flight and not self.waiting

    def due(self, now_s: float) -> Waiting | None:
        """Take the first piece that waits and whose pause is over."""
        for _ in range(len(self.waiting)):
            again = self.waiting.popleft()
            if again.pause is None or again.pause.until_s <= now_s:
                return again
            self.waiting.append(again)
        return None

    def backlog(self) -> GroupBacklog:
        if self.seen is None:
            self.seen = GroupBacklog(
                self.stage,
                self.name,
                self.category,
                self.mode,
                self.pending_elements,
                len(self.waiting),
                self.in_flight,
                self.in_flight_elements,
            )
        return self.seen


@dataclass(slots=True)
class _Stage:
    plan: StagePlan
    sources: list[Source]
    numbers: dict[str, int]
    reduction: Reduction
    groups: dict[str, _Group] = field(default_factory=dict)
    open_groups: dict[str, _Group] = field(default_factory=dict)  # those with work to cut, in order
    merging: dict[TaskId, tuple[Result, ...]] = field(default_factory=dict)
    merges_waiting: deque[tuple[Waiting, tuple[Result, ...]]] = field(default_factory=deque)
    lost_inputs: set[TaskId] = field(default_factory=set)  # of merges in flight, which may still finish
    in_flight: int = 0
    pending_elements: int = 0
    skipped: list[tuple[Span, str]] = field(default_factory=list)
    given_up: list[tuple[Span, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stranded: bool = False  # what is on a worker could not be brought home
    settled_elements: int = 0
    in_flight_elements: int = 0
    dropped_elements: int = 0  # skipped or given up
    elements: int = 0

    @property
    def processing_left(self) -> bool:
        return self.in_flight > 0 or bool(self.open_groups)

    @property
    def finished(self) -> bool:
        if self.processing_left or self.merging or self.merges_waiting:
            return False
        if self.faults:  # what there is of its value is brought home
            return self.stranded or (root := self.root) is None or root.unsaved_since_s is None
        return len(self.reduction) <= 1 and self.reduction.unsaved_since_s is None

    @property
    def root(self) -> Result | None:
        """The result that holds most."""
        return max(self.reduction.results.values(), key=lambda result: result.elements, default=None)


class Ledger:
    """Accounts for every element of every stage.

    Args:
        stages: what there is to do.
        session: number of this session of the run; makes task ids unique across sessions.
    """

    def __init__(self, stages: Iterable[StagePlan] = (), *, session: int = 1) -> None:
        self.in_flight: dict[TaskId, Task] = {}
        self.session = session
        self._stages: dict[str, _Stage] = {}
        self._number = 0
        self.add(stages)

    # -- what there is -------------------------------------------------------------------------------------------

    def add(self, stages: Iterable[StagePlan]) -> None:
        """Take new stages in; may be called while running."""
        for plan in stages:
            if plan.name in self._stages:
                raise BadInput(f"two stages are named {plan.name!r}: name each stage once")
            missing = [name for name in plan.after if name not in self._stages]
            if missing:
                raise BadInput(f"stage {plan.name!r} waits for {missing[0]!r}, which is not a stage before it")
            sources = list(plan.sources)
            numbers = {source.id: number for number, source in enumerate(sources)}
            stage = _Stage(plan, sources, numbers, Reduction(sources, ordered=plan.ordered))
            self._stages[plan.name] = stage
            stage.elements = sum(source.elements or 0 for source in sources)
            for source in sources:
                if source.elements:
                    self._return(stage, Span(source, source.start, source.stop))

    def restore(self, stage_name: str, results: Iterable[Result], skipped: Iterable[tuple[Span, str]] = ()) -> None:
        """Account for durable results and skipped spans of earlier sessions, before the first release."""
        stage = self._stages[stage_name]
        done: list[Span] = []
        for result in results:
            done += self._spans(stage, result.ranges)
            stage.reduction.add(result)
            stage.settled_elements += result.elements
        for span, reason in skipped:
            done.append(span)
            stage.skipped.append((span, reason))
            stage.dropped_elements += len(span)
        for group in stage.groups.values():
            before = group.pending_elements
            group.pending = deque(without(group.pending, done))
            group.pending_elements = sum(map(len, group.pending))
            stage.pending_elements += group.pending_elements - before
            self._touch(stage, group)

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
            if len(groups) < _GROUPS_SHOWN and all(self._stages[name].finished for name in stage.plan.after):
                for group in stage.open_groups.values():
                    groups.append(group.seen or group.backlog())
                    if len(groups) >= _GROUPS_SHOWN:
                        break
            stages.append(
                StageBacklog(
                    stage.plan.name,
                    stage.plan.merge_category,
                    len(stage.reduction) + sum(len(inputs) for _, inputs in stage.merges_waiting),
                    len(stage.merging),
                    stage.processing_left,
                    stage.in_flight,
                    stage.pending_elements,
                    stage.reduction.mean_bytes,
                    stage.in_flight_elements,
                    stage.reduction.unsaved_since_s,
                )
            )
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
                self._release_merges(stage, shape, given, tasks)
                continue
            group = stage.groups[shape.group]
            while group.in_flight < shape.in_flight and (group.waiting or group.pending):
                due = group.due(now_s)
                if due is None and (not group.pending or not (shape.fresh or group.idle)):
                    break
                if due is not None:
                    again, work = due, due.work
                    if again.resources is None and work.elements > _TOO_LARGE * shape.elements:
                        self._cut_anew(stage, group, work)
                        continue
                else:
                    work = take(
                        group.pending,
                        max(1, shape.elements),
                        cross_sources=shape.cross_sources and not stage.plan.ordered,
                        category=group.category,
                    )
                    again = Waiting(work, 1, None, shape.reason)
                group.pending_elements -= work.elements
                stage.pending_elements -= work.elements
                group.in_flight += 1
                group.in_flight_elements += work.elements
                stage.in_flight += 1
                stage.in_flight_elements += work.elements
                self._touch(stage, group)
                # Results of an ordered stage are merged with their neighbours alone, not whenever they are to be saved.
                durable = shape.durable or stage.plan.ordered
                given_now = given(again)
                tasks.append(self._task(stage, group.category, shape, again, given_now, durable=durable))
        # Those that are released together run beside each other, the first no less than the last.
        if len(tasks) > 1:
            tasks = [replace(task, beside=len(self.in_flight) - 1) for task in tasks]
            self.in_flight.update((task.id, task) for task in tasks)
        return tasks

    def _cut_anew(self, stage: _Stage, group: _Group, work: Work) -> None:
        """A piece that was cut when more was believed to fit goes back to pending."""
        assert isinstance(work, Chunk)
        group.pending_elements -= work.elements
        stage.pending_elements -= work.elements
        for span in reversed(work.spans):
            self._return(stage, span, front=True)

    def _release_merges(self, stage: _Stage, shape: Shape, given: _Given, tasks: list[Task]) -> None:
        while len(stage.merging) < shape.in_flight:
            if stage.merges_waiting:
                again, inputs = stage.merges_waiting.popleft()
            else:
                inputs = self._next_merge(stage, shape)
                if not inputs:
                    return
                sizes = [item.size_bytes for item in inputs]
                work = Merge(
                    tuple(item.id for item in inputs),
                    sum(item.elements for item in inputs),
                    None if None in sizes else sum(size or 0 for size in sizes),
                    stage.plan.merge_category,
                )
                again = Waiting(work, 1, None, shape.reason)
            given_now = given(again)
            durable = shape.durable or _must_last(stage, inputs, shape.save_before_s)
            task = self._task(stage, stage.plan.merge_category, shape, again, given_now, durable=durable)
            stage.merging[task.id] = inputs
            tasks.append(task)

    @staticmethod
    def _next_merge(stage: _Stage, shape: Shape) -> tuple[Result, ...]:
        fan_in, last = max(2, shape.fan_in or 2), not stage.processing_left
        if stage.faults:
            # A stage with a merge that cannot be done has no value; merging on would only repeat the failure.
            root = stage.root
            if root is None or root.unsaved_since_s is None or not last or stage.merging:
                return ()
            stage.reduction.remove(root.id)
            return (root,)
        if shape.save_before_s is not None:
            found = stage.reduction.take_unsaved(fan_in, shape.save_before_s)
            if found:
                return found
        if last and len(stage.reduction) == 1 and not stage.merging:
            return stage.reduction.take_unsaved(1, math.inf)  # the value of the stage itself: it is brought home
        return stage.reduction.take(fan_in, last=last, merging=len(stage.merging))

    def _task(
        self,
        stage: _Stage,
        category: str,
        shape: Shape,
        again: Waiting,
        resources: Resources,
        *,
        durable: bool,
    ) -> Task:
        self._number += 1
        group = "" if isinstance(again.work, Merge) else shape.group
        task = Task(
            f"{self.session}.{self._number}",
            stage.plan.name,
            group,
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
            return self._settle_merge(stage, task, seen, verdict)
        group = stage.groups[task.group]
        group.in_flight -= 1
        group.in_flight_elements -= task.work.elements
        stage.in_flight -= 1
        stage.in_flight_elements -= task.work.elements
        group.seen = None
        if isinstance(verdict, Accept):
            if seen.outcome is not Outcome.DONE:
                raise Broken(f"task {task.id} was accepted, but its outcome is: {seen.outcome.value}")
            self._accept(stage, task, seen, verdict)
        elif isinstance(verdict, Retry):
            self._wait(stage, group, _again(seen, verdict))
        elif isinstance(verdict, Split):
            if sum(piece.elements for piece in verdict.pieces) != task.work.elements:
                raise Broken(f"the pieces of task {task.id} do not add up to its {task.work.elements} elements")
            if seen.outcome is Outcome.CANCELLED:
                for span in reversed(task.work.spans):
                    self._return(stage, span, front=True)
                return []
            for piece in reversed(verdict.pieces):
                self._wait(stage, group, Waiting(piece, 1, None, verdict.reason))
        else:
            stage.given_up += [(span, verdict.reason) for span in task.work.spans]
            stage.dropped_elements += task.work.elements
            if verdict.whole_stage:
                self._abandon(stage, f"not tried, the stage was stopped: {verdict.reason}")
            elif group.pending and group.pending[0].source.id == task.work.spans[-1].source.id:
                # What is bad in one piece may be bad in all of its source: others come first.
                group.pending.rotate(0 if stage.plan.ordered else -1)
        return []

    def _accept(self, stage: _Stage, task: Task, seen: Observation, verdict: Accept) -> None:
        assert isinstance(task.work, Chunk)
        done = task.work.spans
        if verdict.skipped:
            reasons = seen.skip_reasons or ("skipped by the process function",) * len(verdict.skipped)
            stage.skipped += zip(verdict.skipped, reasons, strict=False)
            stage.dropped_elements += sum(map(len, verdict.skipped))
            done = without(done, verdict.skipped)
        if not done:
            return
        ranges = tuple((stage.numbers[s.source.id], s.start, s.stop) for s in done)
        elements = sum(map(len, done)) if verdict.skipped else task.work.elements
        stage.settled_elements += elements
        since_s = None if _durable(seen) else seen.finished_s
        stage.reduction.add(Result(task.id, coalesce(ranges), elements, _result_bytes(seen), since_s))

    def _settle_merge(self, stage: _Stage, task: Task, seen: Observation, verdict: Verdict) -> list[TaskId]:
        inputs = stage.merging.pop(task.id)
        lost = stage.lost_inputs.intersection(item.id for item in inputs)
        stage.lost_inputs -= lost
        if isinstance(verdict, Accept):
            stage.reduction.add(merged(task.id, inputs, _result_bytes(seen), durable=_durable(seen)))
            return [item.id for item in inputs]
        if lost:
            self._reform(stage, inputs, lost)
        elif isinstance(verdict, Retry):
            stage.merges_waiting.appendleft((_again(seen, verdict), inputs))
        elif isinstance(verdict, GiveUp):
            stage.stranded = len(inputs) == 1
            stage.faults.append(f"merge of {len(inputs)} results: {verdict.reason}")
            for item in inputs:
                stage.reduction.add(item)
        else:
            raise Broken(f"merge {task.id} cannot be split")
        if stage.faults:
            # No other merge will be tried: what waits for one is a result of its own again.
            for _, waiting in stage.merges_waiting:
                for item in waiting:
                    stage.reduction.add(item)
            stage.merges_waiting.clear()
        return []

    def _abandon(self, stage: _Stage, reason: str) -> None:
        for group in stage.groups.values():
            stage.given_up += [(span, reason) for span in group.pending]
            for waiting in group.waiting:
                assert isinstance(waiting.work, Chunk)
                stage.given_up += [(span, reason) for span in waiting.work.spans]
            group.pending.clear()
            group.waiting.clear()
            stage.pending_elements -= group.pending_elements
            stage.dropped_elements += group.pending_elements
            group.pending_elements = 0
            self._touch(stage, group)

    def reopen(self, task_ids: Iterable[TaskId]) -> None:
        """Put the spans of lost results back to pending.

        A merge that waits for one of them is undone; one in flight may have read it before, so it is undone only when
        it does not finish.
        """
        lost = set(task_ids)
        for stage in self._stages.values():
            for result_id in list(lost):
                result = stage.reduction.remove(result_id)
                if result is not None:
                    self._reopen(stage, result)
            kept: deque[tuple[Waiting, tuple[Result, ...]]] = deque()
            for waiting, inputs in stage.merges_waiting:
                if lost.isdisjoint(item.id for item in inputs):
                    kept.append((waiting, inputs))
                else:
                    self._reform(stage, inputs, lost)
            stage.merges_waiting = kept
            for inputs in stage.merging.values():
                stage.lost_inputs.update(item.id for item in inputs if item.id in lost)

    def _reform(self, stage: _Stage, inputs: Iterable[Result], lost: set[TaskId]) -> None:
        """Undo a merge that misses inputs: those are done again, the others are merged anew."""
        for item in inputs:
            if item.id in lost:
                self._reopen(stage, item)
            else:
                stage.reduction.add(item)

    def _reopen(self, stage: _Stage, result: Result) -> None:
        stage.settled_elements -= result.elements
        for span in reversed(self._spans(stage, result.ranges)):
            self._return(stage, span, front=True)

    def _return(self, stage: _Stage, span: Span, *, front: bool = False) -> None:
        group = stage.groups.get(span.source.group)
        if group is None:
            plan = stage.plan
            group = stage.groups[span.source.group] = _Group(plan.name, span.source.group, plan.category, plan.mode)
        if front:
            returned(group.pending, span)
        else:
            group.pending.append(span)
        group.pending_elements += len(span)
        stage.pending_elements += len(span)
        self._touch(stage, group)

    def _wait(self, stage: _Stage, group: _Group, waiting: Waiting) -> None:
        group.waiting.appendleft(waiting)
        group.pending_elements += waiting.work.elements
        stage.pending_elements += waiting.work.elements
        self._touch(stage, group)

    @staticmethod
    def _touch(stage: _Stage, group: _Group) -> None:
        group.seen = None
        if group.pending or group.waiting:
            stage.open_groups.setdefault(group.name, group)
        else:
            stage.open_groups.pop(group.name, None)

    @staticmethod
    def _spans(stage: _Stage, ranges: Iterable[Range]) -> list[Span]:
        return [Span(stage.sources[number], start, stop) for number, start, stop in ranges]

    # -- the end -------------------------------------------------------------------------------------------------

    def roots(self) -> dict[str, TaskId | None]:
        """The result of each stage that holds most of its elements; None where there is none."""
        roots = {name: stage.root for name, stage in self._stages.items()}
        return {
            name: root.id if root is not None and root.unsaved_since_s is None else None for name, root in roots.items()
        }

    def missing(self) -> list[str]:
        """One line for each part that has no result: what and why."""
        lines = []
        for stage in self._stages.values():
            lines += [f"{span}: {reason}" for span, reason in _joined(stage.given_up)]
            lines += stage.faults
        return lines

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
        for name, stage in self._stages.items():
            found = stage.pending_elements + stage.in_flight_elements + stage.settled_elements + stage.dropped_elements
            if found != stage.elements:
                raise Broken(f"stage {name!r} has {stage.elements} elements, but {found} are accounted for")

    def check(self) -> None:
        """Prove that every element is in exactly one place.

        Raises:
            Broken: an element is nowhere or counted twice; lists which.
        """
        faults = []
        for name, stage in self._stages.items():
            spans: list[Span] = []
            for group in stage.groups.values():
                spans += group.pending
                for waiting in group.waiting:
                    assert isinstance(waiting.work, Chunk)
                    spans += waiting.work.spans
            for task in self.in_flight.values():
                if task.stage == name and isinstance(task.work, Chunk):
                    spans += task.work.spans
            spans += [span for span, _ in stage.skipped]
            spans += [span for span, _ in stage.given_up]
            ranges: list[Range] = [(stage.numbers[s.source.id], s.start, s.stop) for s in spans]
            for result in stage.reduction.results.values():
                ranges += result.ranges
            for inputs in stage.merging.values():
                ranges += [r for item in inputs for r in item.ranges]
            for _, inputs in stage.merges_waiting:
                ranges += [r for item in inputs for r in item.ranges]
            faults += uncovered(stage.sources, ranges)
        if faults:
            shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
            raise Broken(f"elements are not accounted for exactly once: {shown}")


def _again(seen: Observation, verdict: Retry) -> Waiting:
    task = seen.task
    losses = task.losses + (seen.outcome is Outcome.LOST)
    pause = verdict.pause or task.pause
    return Waiting(task.work, task.attempt + 1, verdict.resources, verdict.reason, losses, verdict.waits, pause)


def _must_last(stage: _Stage, inputs: Sequence[Result], save_before_s: float | None) -> bool:
    """Whether a merge may not stay on its worker: durable results must not become less, nor the value of the stage."""
    since_s = unsaved_since_s(inputs)
    if since_s is None or any(item.unsaved_since_s is None for item in inputs):
        return True
    if save_before_s is not None and since_s <= save_before_s:
        return True
    return not (stage.processing_left or stage.merging or stage.merges_waiting or len(stage.reduction))


def _durable(seen: Observation) -> bool:
    return seen.result is None or seen.result.durable


def _result_bytes(seen: Observation) -> int | None:
    if seen.result is not None:
        return seen.result.size_bytes
    return seen.usage.result_bytes if seen.usage is not None else None


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
