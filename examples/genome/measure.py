"""Measures how long each stage of the workflow takes when it is cut into s tasks.

The stages get the datasets that the workflow gave them, of one chromosome; frequency_all and frequency run at the same
time, as they do there, in every combination of their parallelism. All runs follow each other in one run of shaper,
every repetition of all before the next one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import shaper
from examples.genome.workflow import Workflow
from shaper import Resources, Source, Stage
from shaper.models import Beliefs, Choice, Estimate, Run
from shaper.policy.fixed import Fixed, merge_shapes
from shaper.types import Backlog, Cancel, Capacity, Merge, Observation, Shape, Verdict, Work
from shaper.units import MIB

M = TypeVar("M", bound="Model")
ALONE = ("individuals", "sifting", "individuals_merge", "mutation_overlap")
_MERGE = 4  # times what is merged is what a merge may take
TOGETHER = ("frequency_all", "frequency")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a stage, which took from the start of its first task to the end of its last."""

    stage: str
    run: Run


class Model(Protocol):
    """A model of parallelism, as those of shaper.models are."""

    def updated(self, run: Run) -> Self: ...

    def predict(self, s: int, gamma: float, load: float) -> Estimate: ...

    def choose(self, gamma: float, load: float, s_max: int, urgency: float = 1.0) -> Choice: ...


class CutInto:
    """A policy: each stage is cut into a given number of tasks of one core, so many at once; merged when all are there.

    Groups are cut apart, so a stage of many groups makes some tasks more.

    Args:
        tasks: by name of the stage.
        others: of stages that are not named.
    """

    name = "cut into s"

    def __init__(self, tasks: Mapping[str, int], others: int = 1) -> None:
        self._tasks = tasks
        self._others = others
        self._elements: dict[str, int] = {}
        self._fixed = Fixed(1)

    def shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        """As many tasks of every stage that has begun as may run."""
        if capacity.largest is None:
            return ()
        done = {stage.stage for stage in backlog.stages if not stage.processing_left}
        shapes = [shape for shape in merge_shapes(backlog, 8, capacity.cores) if shape.stage in done]
        tasks = {stage.stage: self._tasks.get(stage.stage, self._others) for stage in backlog.stages}
        room = {stage.stage: tasks[stage.stage] - stage.in_flight for stage in backlog.stages}
        for stage in backlog.stages:
            left = stage.pending_elements + stage.in_flight_elements
            self._elements.setdefault(stage.stage, max(1, -(-left // tasks[stage.stage])))
        for group in backlog.groups:
            elements = self._elements[group.stage]
            more = min(room[group.stage], group.waiting + -(-group.pending_elements // elements))
            room[group.stage] -= more
            if more > 0:
                why = f"cut into {tasks[group.stage]}"
                shapes.append(Shape(group.stage, group.group, None, elements, group.in_flight + more, why))
        return shapes

    def allocate(self, work: Work, beliefs: Beliefs, capacity: Capacity) -> Resources:
        """One core, and its share of the memory; a merge of large results gets more."""
        assert capacity.largest is not None
        largest = capacity.largest
        merged_mib = (work.input_bytes or 0) // MIB if isinstance(work, Merge) else 0
        return Resources(1, min(largest.memory_mib, max(largest.memory_mib // largest.cores, _MERGE * merged_mib)))

    def revise(self, *_: object) -> Sequence[Cancel]:
        """Take nothing back."""
        return ()

    def judge(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        """As under Fixed: what exceeds its share is given up, and the run says so."""
        return self._fixed.judge(seen, beliefs, capacity)


def measure(
    work: Workflow, values: Mapping[str, Any], parallelism: Sequence[int], repetitions: int, **options: Any
) -> list[Measured]:
    """Run the stages with every parallelism and return the times, oldest first.

    Args:
        work: that was run.
        values: of its stages.
        parallelism: values of s to try.
        repetitions: of all.
        options: for `shaper.run`.
    """
    whole = {stage.name: stage for stage in _with_sources(work, values)}
    tries = [((name, s),) for name in ALONE for s in parallelism]
    if set(TOGETHER) <= whole.keys():
        tries += [tuple(zip(TOGETHER, both, strict=True)) for both in _pairs(parallelism)]
    order, rng = [], random.Random(work.seed)
    for _ in range(repetitions):
        rng.shuffle(tries)
        order += tries
    stages: list[Stage] = []
    tasks: dict[str, int] = {}
    before: tuple[str, ...] = ()
    for number, together in enumerate(order):
        now = [replace(whole[name], name=f"{number} {name}", after=before, category=name) for name, _ in together]
        tasks.update((stage.name, s) for stage, (_, s) in zip(now, together, strict=True))
        stages += now
        before = tuple(stage.name for stage in now)
    report = shaper.run(stages, policy=CutInto(tasks), name="genome-measured", **options).report
    seconds = _wall_s(report.timeline)
    return [
        Measured(name, Run(s, 1.0, _beside(name, together), seconds[f"{number} {name}"]))
        for number, together in enumerate(order)
        for name, s in together
    ]


def learnt(measured: Iterable[Measured], empty: M) -> dict[str, M]:
    """What a model learns of each stage."""
    models: dict[str, M] = {}
    for one in measured:
        models[one.stage] = models.get(one.stage, empty).updated(one.run)
    return models


def _beside(name: str, together: Iterable[tuple[str, int]]) -> float:
    return float(sum(s for other, s in together if other != name))


def _pairs(parallelism: Sequence[int]) -> Iterator[tuple[int, int]]:
    """For frequency_all and frequency: the heavy one gets as many tasks as the other or more."""
    return ((heavy, light) for heavy in parallelism for light in parallelism if light <= heavy)


def _with_sources(work: Workflow, values: Mapping[str, Any]) -> Iterator[Stage]:
    """The stages with the sources they had, of the first chromosome."""
    chromosome = next(iter(values["individuals_merge"]))
    for stage in work.stages():
        if stage.after:
            sources: Sequence[Source] = list(stage.dataset(*(values[name] for name in stage.after)))
            mine = [
                source for source in sources if chromosome in (source.group, getattr(source.payload, "chromosome", ""))
            ]
            yield replace(stage, dataset=mine)


def _wall_s(timeline: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """From the start of each stage's first processing task to the end of its last."""
    spans: dict[str, tuple[float, float]] = {}
    for task in timeline:
        if task["work"] == "process":
            start, end = spans.get(task["stage"], (float("inf"), 0.0))
            spans[task["stage"]] = min(start, task["started_s"]), max(end, task["finished_s"])
    return {stage: end - start for stage, (start, end) in spans.items()}
