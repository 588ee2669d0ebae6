"""The default policy: probe, fit, choose size and allocation together, shrink at the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from shaper.models.beliefs import LEARNING, Beliefs
from shaper.models.group import GroupBeliefs, size_of
from shaper.policy import caution, chunksize, exhaustion, merging, probing, verdict
from shaper.policy.allocation import allocate
from shaper.policy.chunksize import Size
from shaper.policy.feed import Feed
from shaper.policy.outage import PATIENCE_S
from shaper.policy.parallelism import Parallelism, Plan
from shaper.policy.revision import Revision
from shaper.policy.settings import Goal, Objective, Settings, checked
from shaper.types import (
    Backlog,
    Cancel,
    Capacity,
    Chunk,
    GiveUp,
    GroupBacklog,
    Merge,
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

# Fewer losses than this say nothing about how long workers live.
_LOSSES_TELL = 5
# No worker is taken to live shorter: attempts that are lost whatever their length would else be cut without end.
_LIFETIME_S = 60.0
# Results stay on workers while no more than this share of them would be lost before they come back.
_LOST_SHARE = 0.1
# A chunk lost so often in a row is cut: it may run longer than workers live.
_LOSSES = 3
_NO_LIMIT = 10**9


class Adaptive:
    """Finds chunksize, allocation and concurrency while the run goes on.

    All arguments are optional; what is not given is decided.

    Args:
        first_guess: a chunksize to start near; it is tried with smaller probes first, never trusted.
        min_chunksize: never cut smaller, except where a source ends.
        target_memory: memory per task, MiB or a string with a unit.
        target_wall: run time per task, seconds or a string with a unit.
        cap: memory above which a task is split rather than given more; below a whole worker.
        objective: what the allocation optimises: `throughput`, `waste` (least memory given and not used) or `retries`
            (fewest; for runs that are short). `makespan` and `cost` set the goal, and leave this at `throughput`.
        goal: of the whole workload: `makespan`, or `cost`: at most so many tasks at once as are worth it, cut large.
        urgency: where cost counts, T^urgency sqrt(s) is least for the parallelism s of a stage: 0.5 is money (T s),
            1 the usual, more favours time.
        risk: probability that a task exceeds its memory; 1 % by default.
        retries: how often a piece whose function raised is run again.
        fan_in: results per merge.
        cores: per processing task; one by default, and in stages of mode `threads` what gets most done.
        concurrency: most processing tasks at once; as many as the workers hold by default.
        checkpoint_s: results may stay on workers for so long, on engines that can leave them there: what was done since
            then is done again when its worker is lost. 0: every result comes back at once; so it does while workers
            are lost so often that more than a tenth would be done again.
        patience: how long a data source may be away (I/O errors of several of its sources) before work is given up.
        without: ingredients to switch off, to see what they are worth; see `settings.INGREDIENTS`.
    """

    name = "adaptive"

    def __init__(
        self,
        *,
        first_guess: int | None = None,
        min_chunksize: int = 1,
        target_memory: str | int | None = None,
        target_wall: str | float | None = None,
        cap: str | int | None = None,
        objective: Objective | Goal = "throughput",
        goal: Goal = "makespan",
        urgency: float = 1.0,
        risk: float | None = None,
        retries: int = 1,
        fan_in: int | None = None,
        cores: int | None = None,
        concurrency: int | None = None,
        checkpoint_s: float = 60.0,
        patience: str | float = PATIENCE_S,
        without: Collection[str] = (),
    ) -> None:
        self.settings = checked(
            first_guess=first_guess,
            min_chunksize=min_chunksize,
            target_memory=target_memory,
            target_wall=target_wall,
            cap=cap,
            objective=objective,
            goal=goal,
            risk=risk,
            retries=retries,
            fan_in=fan_in,
            cores=cores,
            concurrency=concurrency,
            checkpoint_s=checkpoint_s,
            patience=patience,
            without=without,
            urgency=urgency,
        )
        self._stay_s = self.settings.checkpoint_s  # results on workers, now
        self.prior = Beliefs(without=self.settings.without & LEARNING)
        self._begin()

    def _begin(self) -> None:
        """What is kept of a run besides the beliefs: none of it outlives the run."""
        # The best size of a group stays what it is until its lines or the workers change.
        self._sizes: dict[tuple[str, str], tuple[object, object, object, Size | None]] = {}
        self._feed = Feed()
        self._roomiest: dict[str, float] = {}  # most slots any group of a stage has had
        self._revision = Revision(self.settings)
        self._parallelism = Parallelism(self.settings)
        self._cores: dict[str, int] = {}  # of a task, by category, where that is planned

    # -- shapes --------------------------------------------------------------------------------------------------

    def shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        """Fill the workers from the first group on; new groups start with few tasks until one has finished."""
        if capacity.largest is None:
            return ()
        if oversized := self._revision.oversized:
            return oversized.beside(self._shapes(beliefs, capacity, oversized.without(backlog)))
        return self._shapes(beliefs, capacity, backlog)

    def _shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        if beliefs.version == 0 and not any(stage.in_flight for stage in backlog.stages):
            self._begin()
        self._revision.nothing_left = not backlog.groups
        checkpoint_s = self.settings.checkpoint_s
        self._stay_s = checkpoint_s if checkpoint_s * self._losses_per_s(beliefs) <= _LOST_SHARE else 0.0
        now_s, settings = self._feed.now_s, self.settings
        merges = (merging.shape(stage, beliefs, capacity, settings, now_s, self._stay_s) for stage in backlog.stages)
        shapes = [shape for shape in merges if shape is not None]
        merging_only = len(shapes)
        left = {stage.stage: stage.pending_elements for stage in backlog.stages}
        of_stage = {stage.stage: stage for stage in backlog.stages}
        flying = {stage.stage: stage.in_flight_elements for stage in backlog.stages}
        crossing = "cross-source" not in self.settings.without
        plans = self._plans(beliefs, capacity, backlog)
        at_once = {stage.stage: stage.in_flight for stage in backlog.stages}
        # Share of the workers not yet spoken for: with some tasks ahead of those that run, and without.
        free, idle = 1.0, 1.0 - capacity.others / max(1, capacity.cores)
        allowed = self._allowed(backlog)
        shown = {stage.stage: 0 for stage in backlog.stages}
        probed: list[Shape] = []  # the smallest of each group that is being probed, with all of them in flight
        open_groups = Counter(group.stage for group in backlog.groups if group.pending_elements)
        for group in backlog.groups:
            if group.in_flight:
                shown[group.stage] += group.in_flight
                slots = self._slots(group, beliefs, capacity)
                free -= group.in_flight / (slots + max(1.0, slots // 20))
                idle -= group.in_flight / slots
        for stage in backlog.stages:
            # Tasks of groups that have nothing left to cut: taken to hold little, rather than leave workers idle.
            more, slots = stage.in_flight - shown[stage.stage], self._roomiest.get(stage.stage, float(capacity.cores))
            free, idle = free - more / (slots + max(1.0, slots // 20)), idle - more / slots
        for group in backlog.groups:
            full = free <= 0 or allowed <= 0
            if full and not (capacity.waiting and group.in_flight):
                continue
            about = beliefs.about(group.category, group.group)
            size = self._best(group, about, beliefs, capacity)
            if size is None and full:
                continue
            plan = plans.get(group.stage)
            more_at_once = _NO_LIMIT
            if plan is not None and group.mode == "split":
                more_at_once = plan.s - at_once[group.stage]
                if more_at_once <= 0 or (plan.wave and flying[group.stage]):
                    continue
            if size is None:
                probes = probing.shapes(
                    group, about, capacity, left[group.stage], self.settings, durable=not self._stay_s
                )
                if plan is not None and group.mode == "split":
                    most = group.in_flight + more_at_once
                    if plan.elements is not None:
                        least = max(plan.elements, self.settings.min_chunksize)
                        probes = [replace(probes[0], elements=least, in_flight=most, reason=plan.reason)]
                    probes = [
                        replace(probe, in_flight=min(probe.in_flight, most), parallelism=plan.s)
                        for probe in probes[: max(1, most)]
                    ]
                at_once[group.stage] += max(0, probes[-1].in_flight - group.in_flight)
                shapes += probes
                allowed -= max(0, probes[-1].in_flight - group.in_flight)
                share = max(0, probes[-1].in_flight - group.in_flight) / max(1, capacity.cores)
                free, idle = free - share, idle - share
                if plan is None and group.mode == "split" and len(probes) > 1:
                    probed.append(replace(probes[0], in_flight=max(group.in_flight, probes[-1].in_flight)))
                continue
            line = about.wall.line
            if line is not None and not line.identified and group.in_flight and about.done < len(probing.SPREAD):
                # One size says nothing about others: the next probe to finish is worth more than a full machine.
                continue
            still = left[group.stage] + self._revision.flying.left(of_stage[group.stage], size.wall)
            room = max(1, round(free * size.slots))
            share_each = chunksize.even_share(size, still, round(idle * size.slots), at_once[group.stage])
            usual = chunksize.tail(size, still, math.inf, self.settings, beliefs.dispatch_s).elements
            size = chunksize.tail(size, still, share_each, self.settings, beliefs.dispatch_s)
            if about.cautious:
                smaller = max(self.settings.min_chunksize, caution.first(usual, still / size.slots, about))
                why = f"small until some finish: {caution.reason(about)}"
                size = Size(min(smaller, size.elements), size.slots, why)
                # Each group is on trial: none is to be through with it before the first of its small tasks have ended.
                most = max(caution.ON_TRIAL, -(-size.slots // max(1, open_groups[group.stage])))
                room = min(room, most - group.in_flight)
            elif self._unproven(group, beliefs):
                room = min(room, max(1, max(2, size.slots // 8) - group.in_flight))
                smaller = max(self.settings.min_chunksize, usual // caution.FIRST_SHARE, 1)
                why = f"the first of {group.group}, whose tasks may differ from the others"
                size = Size(min(smaller, size.elements), size.slots, why)
            if plan is not None:
                size = self._planned(plan, size, about, capacity, self._given(group.category))
                if plan.elements is not None:
                    room = max(room, plan.s)  # what is planned to run together is submitted together, and may wait
            elements = size.elements
            if plan is not None or group.pending_elements < left[group.stage]:
                # What other groups are left for; the last tasks of all are no such whole.
                elements = even(size.elements, group.pending_elements, size.slots, self.settings.min_chunksize)
            tasks = group.waiting + -(-group.pending_elements // elements)
            # Not the evened size: with that, what waits would be cut anew whenever its neighbours are.
            self._revision.want(group.stage, group.group, size.elements)
            if full:
                continue  # what waits may still be cut anew
            last = at_once[group.stage] and left[group.stage] <= elements * size.slots
            if last and idle * size.slots < 0.5 and not capacity.others:
                # The last round is cut when slots are free: what is left then can be shared by all of them. Of slots
                # that other jobs free one hears late.
                continue
            more = min(room, tasks, allowed, more_at_once)
            if more <= 0:
                continue
            if beliefs.outage(group.stage, group.group).holds:
                more = 1  # the workers are for other groups
            fed = chunksize.fed(about, self.settings) if plan is None else None
            if fed is not None:
                fits = self._feed.most(more, elements, fed)
                if fits == 0 and (len(shapes) > merging_only or any(flying.values())):
                    continue
                if fits < more:
                    why = f"bandwidth: tasks begin as fast as {show_count(fed)} elements per second feed them"
                    size = Size(elements, size.slots, why)
                more = max(1, fits)
            allowed -= more
            at_once[group.stage] += more
            free, idle = free - more / size.slots, idle - more / size.slots
            wanted = group.in_flight + more
            shapes.append(
                Shape(
                    group.stage,
                    group.group,
                    None,
                    elements,
                    wanted,
                    size.reason,
                    cross_sources=crossing,
                    durable=not self._stay_s,
                    parallelism=plan.s if plan is not None and group.mode == "split" else None,
                )
            )
        for probe in probed:
            room = min(allowed, int((free * capacity.cores - capacity.others) / self.settings.cores))
            if room > 0 and probing.worth_a_wave(probe, left[probe.stage], capacity):
                shapes.append(replace(probe, in_flight=probe.in_flight + room))
                allowed -= room
                free -= room * self.settings.cores / capacity.cores
        return shapes

    def _plans(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Mapping[str, Plan]:
        """How many tasks of each stage at once, and how many cores for its tasks, where that is planned."""
        plans = self._parallelism.plans(beliefs, capacity, backlog)
        for group in backlog.groups:
            if group.mode == "threads" and (plan := plans.get(group.stage)) is not None:
                self._cores[group.category] = plan.s
        return plans

    @staticmethod
    def _planned(plan: Plan, size: Size, about: GroupBeliefs, capacity: Capacity, given: Settings) -> Size:
        """The size that makes the planned number of tasks, as far as memory allows."""
        if plan.elements is None:
            return replace(size, slots=max(size.slots, plan.s), reason=plan.reason)
        most = chunksize.largest(about, capacity, given, plan.s)
        elements = max(given.min_chunksize, min(plan.elements, most))
        if size.reason == chunksize.CURIOUS and size.elements > elements:
            return size
        return replace(size, elements=elements, slots=max(size.slots, plan.s), reason=plan.reason)

    def _given(self, category: str) -> Settings:
        """The settings with the cores of this category's tasks."""
        cores = self._cores.get(category)
        return self.settings if cores is None else replace(self.settings, cores=cores)

    def _allowed(self, backlog: Backlog) -> int:
        """How many more processing tasks may be in flight."""
        if self.settings.concurrency is None:
            return _NO_LIMIT
        return self.settings.concurrency - sum(stage.in_flight for stage in backlog.stages)

    def _slots(self, group: GroupBacklog, beliefs: Beliefs, capacity: Capacity) -> float:
        """How many tasks of a group the workers hold."""
        size = self._best(group, beliefs.about(group.category, group.group), beliefs, capacity)
        slots = float(max(1, size.slots if size is not None else capacity.cores))
        self._roomiest[group.stage] = max(self._roomiest.get(group.stage, 0.0), slots)
        return slots

    def _best(self, group: GroupBacklog, about: GroupBeliefs, beliefs: Beliefs, capacity: Capacity) -> Size | None:
        key = (group.stage, group.group)
        known = self._sizes.get(key)
        memory, wall = about.memory.line, about.wall.line
        workers: object = tuple((kind.name, kind.count) for kind in capacity.kinds)
        given = self._given(group.category)
        workers = (workers, given.cores)
        if known is not None and known[0] is memory and known[1] is wall and known[2] == workers:
            return known[3]
        size = chunksize.best(about, capacity, given, self._pace(beliefs))
        if size is not None and self.settings.concurrency is not None:
            size = replace(size, slots=min(size.slots, self.settings.concurrency))
        self._sizes[key] = (memory, wall, workers, size)
        return size

    @staticmethod
    def _unproven(group: GroupBacklog, beliefs: Beliefs) -> bool:
        """Whether a group has finished nothing yet while its category has: what is believed may not hold for it."""
        if not group.group:
            return False
        known = beliefs.categories.get(group.category)
        if known is None:
            return False
        own = known.groups.get(group.group)
        return own is None or own.done == 0

    # -- allocation ----------------------------------------------------------------------------------------------

    def allocate(self, work: Work, beliefs: Beliefs, capacity: Capacity) -> Resources:
        """Give the memory that this size needs at the stated risk."""
        about = beliefs.about(work.category, work.group)
        return allocate(size_of(work), about, capacity, self._given(work.category), merge=isinstance(work, Merge))

    def revise(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> Sequence[Cancel]:
        """Take back what cannot run, will not fit, waits at a wrong size, or runs far longer than it should."""
        self._feed.now_s = now_s
        return self._revision.revise(beliefs, capacity, in_flight, now_s)

    # -- verdicts ------------------------------------------------------------------------------------------------

    def judge(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        """Apply the common table; after an exceeded limit split into pieces the model believes in, or give more."""
        task, work = seen.task, seen.task.work
        self._revision.ended(seen)
        if seen.outcome is Outcome.LOST and isinstance(work, Chunk) and task.losses + 1 >= _LOSSES:
            size = work.elements / caution.FIRST_SHARE
            if size >= self.settings.min_chunksize and work.elements > 1 and not _none_finished(task, beliefs):
                return exhaustion.cut(
                    work, size, f"lost {task.losses + 1} times, shorter tasks lose less", self.settings
                )
        if seen.outcome is Outcome.CANCELLED and task.id in self._revision.oversized:
            return GiveUp(f"{task.reason}; {seen.detail}")
        if seen.outcome is Outcome.CANCELLED and isinstance(work, Merge):
            return Retry(self.allocate(work, beliefs, capacity), seen.detail or "taken back")
        answer = verdict.judge(
            seen,
            beliefs,
            retries=self.settings.retries,
            exhausted=lambda seen: self._exhausted(seen, beliefs, capacity),
            patience_s=self.settings.patience_s,
        )
        if isinstance(answer, Retry) and seen.outcome is Outcome.LOST and task.attempt - task.losses == 1:
            # It was promised nothing; towards the end a whole piece again would be waited for.
            return Retry(None, answer.reason)
        return answer

    def _exhausted(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        task = seen.task
        largest = capacity.largest
        most_mib = largest.memory_mib if largest is not None else task.resources.memory_mib
        about = beliefs.about(task.category, task.group)
        size = chunksize.best(about, capacity, self._given(task.category), self._pace(beliefs))
        believed = float(size.elements) if size is not None else task.work.elements / 8
        if about.cautious:
            believed /= caution.first_share(about)
        # Towards the end a whole piece again would be waited for.
        believed = min(believed, self._revision.wanted.get((task.stage, task.group), believed))
        wait = capacity.grace_s > 0 and largest is not None
        return exhaustion.answer(seen, about, believed, most_mib, self.settings, wait=wait)

    def _pace(self, beliefs: Beliefs) -> chunksize.Pace:
        dispatch_s = beliefs.dispatch_s if "dispatch" not in self.settings.without else 0.0
        return chunksize.Pace(dispatch_s, min(self._losses_per_s(beliefs), 1.0 / _LIFETIME_S))

    def _losses_per_s(self, beliefs: Beliefs) -> float:
        """Of a slot. Losses are of workers, not of categories: those of all count together."""
        lost = sum(category.shared.lost for category in beliefs.categories.values())
        held_s = sum(category.shared.held_s for category in beliefs.categories.values())
        return lost / held_s if lost >= _LOSSES_TELL and "eviction" not in self.settings.without else 0.0


def _none_finished(task: Task, beliefs: Beliefs) -> bool:
    category = beliefs.categories.get(task.category)
    return category is None or category.shared.done == 0


def even(elements: int, left: int, slots: int, least: int) -> int:
    """Shrink a size a little, not below `least`, where that makes what is left a whole number of equal tasks."""
    if left <= 0:
        return elements
    tasks = max(1, min(math.ceil(left / elements), left // least))
    return math.ceil(left / tasks) if tasks <= 4 * max(1, slots) else elements
