"""The account of one stage: what of it is pending, running, settled, skipped or given up, for every element.

Tasks are cut when they are released, so memory grows with the sources and with what is in flight. A split or a retry
goes to the front again. Everything that is asked once per turn is kept up incrementally.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

from shaper.errors import Broken
from shaper.pieces import Group, StagePlan, Waiting
from shaper.reduction import Reduction, Result, merged, unsaved_since_s
from shaper.types import (
    Accept,
    Chunk,
    GiveUp,
    Merge,
    Observation,
    Outcome,
    Retry,
    Shape,
    Span,
    Split,
    StageBacklog,
    TaskId,
    Verdict,
    Work,
)
from shaper.work import Range, coalesce, returned, take, uncovered, without

# A piece that waits is cut anew when the size that is wanted now is this much smaller.
_TOO_LARGE = 1.5


class Account:
    """Accounts for every element of one stage.

    Args:
        plan: the stage; durable results and skipped spans of earlier sessions are accounted for at once.
    """

    __slots__ = (
        "dropped_elements",
        "elements",
        "faults",
        "given_up",
        "groups",
        "in_flight",
        "in_flight_elements",
        "lost_inputs",
        "merges_waiting",
        "merging",
        "numbers",
        "open_groups",
        "pending_elements",
        "plan",
        "reduction",
        "settled_elements",
        "skipped",
        "sources",
        "stranded",
    )

    def __init__(self, plan: StagePlan) -> None:
        self.plan = plan
        self.sources = list(plan.sources)
        self.numbers = {source.id: number for number, source in enumerate(self.sources)}
        self.reduction = Reduction(self.sources, ordered=plan.ordered)
        self.groups: dict[str, Group] = {}
        self.open_groups: dict[str, Group] = {}  # those with work to cut, in order
        self.merging: dict[TaskId, tuple[Result, ...]] = {}
        self.merges_waiting: deque[tuple[Waiting, tuple[Result, ...]]] = deque()
        self.lost_inputs: set[TaskId] = set()  # of merges in flight, which may still finish
        self.skipped: list[tuple[Span, str]] = []
        self.given_up: list[tuple[Span, str]] = []
        self.faults: list[str] = []
        self.stranded = False  # what is on a worker could not be brought home
        self.in_flight = 0
        self.elements = sum(source.elements or 0 for source in self.sources)
        self.pending_elements = 0
        self.in_flight_elements = 0
        self.settled_elements = 0
        self.dropped_elements = 0  # skipped or given up
        for source in self.sources:
            if source.elements:
                self._return(Span(source, source.start, source.stop))
        if plan.done or plan.skipped:
            self._restore(plan.done, plan.skipped)

    def _restore(self, results: Iterable[Result], skipped: Iterable[tuple[Span, str]]) -> None:
        """Account for durable results and skipped spans of earlier sessions."""
        done: list[Span] = []
        for result in results:
            done += self._spans(result.ranges)
            self.reduction.add(result)
            self.settled_elements += result.elements
        for span, reason in skipped:
            done.append(span)
            self.skipped.append((span, reason))
            self.dropped_elements += len(span)
        for group in self.groups.values():
            before = group.pending_elements
            group.pending = deque(without(group.pending, done))
            group.pending_elements = sum(map(len, group.pending))
            self.pending_elements += group.pending_elements - before
            self._touch(group)

    # -- what there is -------------------------------------------------------------------------------------------

    @property
    def processing_left(self) -> bool:
        """Whether something is still to be processed, or is being processed."""
        return self.in_flight > 0 or bool(self.open_groups)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to process or merge."""
        if self.processing_left or self.merging or self.merges_waiting:
            return False
        if self.faults:  # what there is of its value is brought home
            return self.stranded or (root := self.root) is None or root.unsaved_since_s is None
        return len(self.reduction) <= 1 and self.reduction.unsaved_since_s is None

    @property
    def failed(self) -> bool:
        """Whether some of it has no result and never will."""
        return bool(self.given_up or self.faults)

    @property
    def root(self) -> Result | None:
        """The result that holds most."""
        return max(self.reduction.results.values(), key=lambda result: result.elements, default=None)

    @property
    def backlog(self) -> StageBacklog:
        """What is left of it."""
        return StageBacklog(
            self.plan.name,
            self.plan.merge_category,
            len(self.reduction) + sum(len(inputs) for _, inputs in self.merges_waiting),
            len(self.merging),
            self.processing_left,
            self.in_flight,
            self.pending_elements,
            self.reduction.mean_bytes,
            self.in_flight_elements,
            self.reduction.unsaved_since_s,
        )

    # -- release -------------------------------------------------------------------------------------------------

    def next_piece(self, shape: Shape, now_s: float) -> Waiting | None:
        """Take what is to be processed next; None where the shape has enough in flight, or nothing is due."""
        group = self.groups[shape.group]
        while group.in_flight < shape.in_flight and (group.waiting or group.pending):
            piece = group.due(now_s)
            if piece is None:
                if not group.pending or not (shape.fresh or group.idle):
                    return None
                work = take(
                    group.pending,
                    max(1, shape.elements),
                    cross_sources=shape.cross_sources and not self.plan.ordered,
                    category=group.category,
                )
                piece = Waiting(work, 1, None, shape.reason)
            elif piece.resources is None and piece.work.elements > _TOO_LARGE * shape.elements:
                self._cut_anew(group, piece.work)
                continue
            elements = piece.work.elements
            group.pending_elements -= elements
            self.pending_elements -= elements
            group.in_flight += 1
            group.in_flight_elements += elements
            self.in_flight += 1
            self.in_flight_elements += elements
            self._touch(group)
            return piece
        return None

    def next_merge(self, shape: Shape) -> tuple[Waiting, tuple[Result, ...]] | None:
        """Take what is to be merged next, with its inputs; None where the shape has enough, or nothing is due."""
        if len(self.merging) >= (shape.in_flight or 0):
            return None
        if self.merges_waiting:
            return self.merges_waiting.popleft()
        inputs = self._next_inputs(shape)
        if not inputs:
            return None
        sizes = [item.size_bytes for item in inputs]
        work = Merge(
            tuple(item.id for item in inputs),
            sum(item.elements for item in inputs),
            None if None in sizes else sum(size or 0 for size in sizes),
            self.plan.merge_category,
        )
        return Waiting(work, 1, None, shape.reason), inputs

    def _next_inputs(self, shape: Shape) -> tuple[Result, ...]:
        fan_in, last = max(2, shape.fan_in or 2), not self.processing_left
        if self.faults:
            # A stage with a merge that cannot be done has no value; merging on would only repeat the failure.
            root = self.root
            if root is None or root.unsaved_since_s is None or not last or self.merging:
                return ()
            self.reduction.remove(root.id)
            return (root,)
        if shape.save_before_s is not None:
            found = self.reduction.take_unsaved(fan_in, shape.save_before_s)
            if found:
                return found
        if last and len(self.reduction) == 1 and not self.merging:
            return self.reduction.take_unsaved(1, math.inf)  # the value of the stage itself: it is brought home
        return self.reduction.take(fan_in, last=last, merging=len(self.merging))

    def must_last(self, inputs: Sequence[Result], save_before_s: float | None) -> bool:
        """Whether a merge may not stay on its worker: durable results must not become less, nor the stage's value."""
        since_s = unsaved_since_s(inputs)
        if since_s is None or any(item.unsaved_since_s is None for item in inputs):
            return True
        if save_before_s is not None and since_s <= save_before_s:
            return True
        return not (self.processing_left or self.merging or self.merges_waiting or len(self.reduction))

    def _cut_anew(self, group: Group, work: Work) -> None:
        """A piece that was cut when more was believed to fit goes back to pending."""
        assert isinstance(work, Chunk)
        group.pending_elements -= work.elements
        self.pending_elements -= work.elements
        for span in reversed(work.spans):
            self._return(span, front=True)

    # -- settle --------------------------------------------------------------------------------------------------

    def settle_piece(self, seen: Observation, verdict: Verdict) -> None:
        """Account for an attempt at a piece of the dataset."""
        task = seen.task
        assert isinstance(task.work, Chunk)
        group = self.groups[task.group]
        group.in_flight -= 1
        group.in_flight_elements -= task.work.elements
        self.in_flight -= 1
        self.in_flight_elements -= task.work.elements
        group.seen = None
        if isinstance(verdict, Accept):
            if seen.outcome is not Outcome.DONE:
                raise Broken(f"task {task.id} was accepted, but its outcome is: {seen.outcome.value}")
            self._accept(seen, task.work, verdict)
        elif isinstance(verdict, Retry):
            self._wait(group, _again(seen, verdict))
        elif isinstance(verdict, Split):
            if sum(piece.elements for piece in verdict.pieces) != task.work.elements:
                raise Broken(f"the pieces of task {task.id} do not add up to its {task.work.elements} elements")
            if seen.outcome is Outcome.CANCELLED:
                for span in reversed(task.work.spans):
                    self._return(span, front=True)
                return
            for piece in reversed(verdict.pieces):
                self._wait(group, Waiting(piece, 1, None, verdict.reason))
        else:
            self.given_up += [(span, verdict.reason) for span in task.work.spans]
            self.dropped_elements += task.work.elements
            if verdict.whole_stage:
                self.abandon(f"not tried, the stage was stopped: {verdict.reason}")
            elif group.pending and group.pending[0].source.id == task.work.spans[-1].source.id:
                # What is bad in one piece may be bad in all of its source: others come first.
                group.pending.rotate(0 if self.plan.ordered else -1)

    def _accept(self, seen: Observation, work: Chunk, verdict: Accept) -> None:
        done = work.spans
        if verdict.skipped:
            reasons = seen.skip_reasons or ("skipped by the process function",) * len(verdict.skipped)
            self.skipped += zip(verdict.skipped, reasons, strict=False)
            self.dropped_elements += sum(map(len, verdict.skipped))
            done = without(done, verdict.skipped)
        if not done:
            return
        ranges = tuple((self.numbers[s.source.id], s.start, s.stop) for s in done)
        elements = sum(map(len, done)) if verdict.skipped else work.elements
        self.settled_elements += elements
        since_s = None if _durable(seen) else seen.finished_s
        self.reduction.add(Result(seen.task.id, coalesce(ranges), elements, _result_bytes(seen), since_s))

    def settle_merge(self, seen: Observation, verdict: Verdict) -> list[TaskId]:
        """Account for an attempt at a merge; return the ids of results that nobody needs any more."""
        task_id = seen.task.id
        inputs = self.merging.pop(task_id)
        lost = self.lost_inputs.intersection(item.id for item in inputs)
        self.lost_inputs -= lost
        if isinstance(verdict, Accept):
            self.reduction.add(merged(task_id, inputs, _result_bytes(seen), durable=_durable(seen)))
            return [item.id for item in inputs]
        if lost:
            self._reform(inputs, lost)
        elif isinstance(verdict, Retry):
            self.merges_waiting.appendleft((_again(seen, verdict), inputs))
        elif isinstance(verdict, GiveUp):
            self.stranded = len(inputs) == 1
            self.faults.append(f"merge of {len(inputs)} results: {verdict.reason}")
            for item in inputs:
                self.reduction.add(item)
        else:
            raise Broken(f"merge {task_id} cannot be split")
        if self.faults:
            # No other merge will be tried: what waits for one is a result of its own again.
            for _, waiting in self.merges_waiting:
                for item in waiting:
                    self.reduction.add(item)
            self.merges_waiting.clear()
        return []

    def abandon(self, reason: str) -> None:
        """Give up all that is neither in flight nor settled."""
        for group in self.groups.values():
            self.given_up += [(span, reason) for span in group.pending]
            for waiting in group.waiting:
                assert isinstance(waiting.work, Chunk)
                self.given_up += [(span, reason) for span in waiting.work.spans]
            group.pending.clear()
            group.waiting.clear()
            self.pending_elements -= group.pending_elements
            self.dropped_elements += group.pending_elements
            group.pending_elements = 0
            self._touch(group)

    def reopen(self, lost: set[TaskId]) -> None:
        """Put the spans of lost results back to pending.

        A merge that waits for one of them is undone; one in flight may have read it before, so it is undone only when
        it does not finish.
        """
        for result_id in list(lost):
            result = self.reduction.remove(result_id)
            if result is not None:
                self._reopen(result)
        kept: deque[tuple[Waiting, tuple[Result, ...]]] = deque()
        for waiting, inputs in self.merges_waiting:
            if lost.isdisjoint(item.id for item in inputs):
                kept.append((waiting, inputs))
            else:
                self._reform(inputs, lost)
        self.merges_waiting = kept
        for inputs in self.merging.values():
            self.lost_inputs.update(item.id for item in inputs if item.id in lost)

    def _reform(self, inputs: Iterable[Result], lost: set[TaskId]) -> None:
        """Undo a merge that misses inputs: those are done again, the others are merged anew."""
        for item in inputs:
            if item.id in lost:
                self._reopen(item)
            else:
                self.reduction.add(item)

    def _reopen(self, result: Result) -> None:
        self.settled_elements -= result.elements
        for span in reversed(self._spans(result.ranges)):
            self._return(span, front=True)

    def _return(self, span: Span, *, front: bool = False) -> None:
        group = self.groups.get(span.source.group)
        if group is None:
            plan = self.plan
            group = self.groups[span.source.group] = Group(plan.name, span.source.group, plan.category, plan.mode)
        if front:
            returned(group.pending, span)
        else:
            group.pending.append(span)
        group.pending_elements += len(span)
        self.pending_elements += len(span)
        self._touch(group)

    def _wait(self, group: Group, waiting: Waiting) -> None:
        group.waiting.appendleft(waiting)
        group.pending_elements += waiting.work.elements
        self.pending_elements += waiting.work.elements
        self._touch(group)

    def _touch(self, group: Group) -> None:
        group.seen = None
        if group.pending or group.waiting:
            self.open_groups.setdefault(group.name, group)
        else:
            self.open_groups.pop(group.name, None)

    def _spans(self, ranges: Iterable[Range]) -> list[Span]:
        return [Span(self.sources[number], start, stop) for number, start, stop in ranges]

    # -- proof ---------------------------------------------------------------------------------------------------

    def check_sums(self) -> None:
        """Check in constant time that no element was lost or counted twice.

        Raises:
            Broken: the sums do not agree.
        """
        found = self.pending_elements + self.in_flight_elements + self.settled_elements + self.dropped_elements
        if found != self.elements:
            raise Broken(f"stage {self.plan.name!r} has {self.elements} elements, but {found} are accounted for")

    def faults_of_cover(self, in_flight: Iterable[Span]) -> list[str]:
        """Name what is in no place or in several; `in_flight` are the spans of its tasks."""
        spans = [*in_flight, *(span for span, _ in self.skipped), *(span for span, _ in self.given_up)]
        for group in self.groups.values():
            spans += group.pending
            for waiting in group.waiting:
                assert isinstance(waiting.work, Chunk)
                spans += waiting.work.spans
        ranges: list[Range] = [(self.numbers[s.source.id], s.start, s.stop) for s in spans]
        merging = (*self.merging.values(), *(inputs for _, inputs in self.merges_waiting))
        for result in (*self.reduction.results.values(), *(item for inputs in merging for item in inputs)):
            ranges += result.ranges
        return uncovered(self.sources, ranges)


def _again(seen: Observation, verdict: Retry) -> Waiting:
    task = seen.task
    losses = task.losses + (seen.outcome is Outcome.LOST)
    pause = verdict.pause or task.pause
    return Waiting(task.work, task.attempt + 1, verdict.resources, verdict.reason, losses, verdict.waits, pause)


def _durable(seen: Observation) -> bool:
    return seen.result is None or seen.result.durable


def _result_bytes(seen: Observation) -> int | None:
    if seen.result is not None:
        return seen.result.size_bytes
    return seen.usage.result_bytes if seen.usage is not None else None
