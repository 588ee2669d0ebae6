"""How many tasks of a stage are worth running at once, and how many cores a task: what the models say, and when.

A lone stage whose makespan counts gets all the workers hold, unless its runs have shown that fewer are faster. Where
cost counts, at most s of a stage's tasks run at once, and it is cut into s of them where memory allows: a category
without history begins with one task (the baseline), then a wave at moderate s (the probe), both of them useful work;
then its tasks say what s is worth (onset.py), and once runs of this size have shown several s, the model. Where the
makespan counts and stages compete, each gets its share by what the models say of all of them.

symbol     meaning
s          parallelism: tasks of a stage at once (`split`), or cores of a task (`threads`)
gamma      size of the stage's input over the baseline's
L          load: the parallelism of what runs beside it
a          urgency: the cost of a choice is T^a sqrt(s)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shaper.models.beliefs import Beliefs, StageRuns
from shaper.models.runs import Choice, Run
from shaper.policy import caution, chunksize, onset
from shaper.policy.settings import Settings
from shaper.types import Backlog, Capacity, GroupBacklog, Mode
from shaper.units import show_seconds

# More tasks at once must be known to be so much slower before fewer are run where time alone counts.
_SLOWER = 1.05
# A run counts as evidence for one of this size up to so many times it, or one part of it.
_ALIKE = 4.0
# Tasks may be made so much larger than their number asks for, so that as many groups make no more of them.
_STRETCH = 2.0
# Runs of about this size tell what a stage is worth once they had so many parallelisms, so many times apart.
_TRIED, _APART = 3, 4
# How often each stage's choice is made again with what the others have chosen.
_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How many tasks of a stage at once (`split`), or cores for each (`threads`), and why.

    Args:
        s: the parallelism.
        elements: at most so many in a task, so that the stage makes s of them; None where size is not bounded by it.
        wave: none are added until all that run have ended: their time is to be that of one wave.
        reason: in words a user can read.
    """

    s: int
    elements: int | None
    reason: str
    wave: bool = False


@dataclass(frozen=True, slots=True)
class _Open:
    """A stage that can run now."""

    name: str
    category: str
    mode: Mode
    left: int
    in_flight: int
    grown: int  # of the size that tasks of the category have had, the logarithm: with it the plans change
    share: int  # what sizes are divided by, while beliefs are on trial
    away: bool  # its data sources give nothing now
    groups: tuple[int, ...]

    def pieces(self, elements: int) -> int:
        """How many tasks of at most so many elements what is left makes: none crosses groups."""
        return sum(math.ceil(left / elements) for left in self.groups)

    def even(self, elements: int, most: int, tasks: int) -> int:
        """The size, a little larger where that makes no more than so many tasks of it."""
        largest = min(most, int(_STRETCH * elements))
        while elements < largest and self.pieces(elements) > tasks:
            elements = min(largest, elements + max(1, elements // 32))
        return elements


class Parallelism:
    """The plans of the stages that can run, made anew when one starts or ends, or a model has learnt."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._for: object = None
        self._plans: Mapping[str, Plan] = {}
        self._begun: set[str] = set()  # stages that have begun where cost counts

    def plans(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Mapping[str, Plan]:
        """By name of stage; none for a stage that is not limited."""
        if "parallelism" in self._settings.without:
            return {}
        threads = any(group.mode == "threads" for group in backlog.groups)
        if not (threads or self._settings.goal == "cost" or beliefs.parallelism):
            return {}
        stages = _open(backlog, beliefs)
        self._begun &= {stage.stage for stage in backlog.stages if stage.processing_left}
        seen = (
            tuple((stage.name, stage.grown, stage.share, stage.away, stage.in_flight > 0) for stage in stages),
            tuple(beliefs.parallelism.items()),
            tuple((kind.name, kind.count) for kind in capacity.kinds),
        )
        if seen != self._for:
            self._for, self._plans = seen, self._made(stages, beliefs, capacity)
        return self._plans

    def _made(self, stages: list[_Open], beliefs: Beliefs, capacity: Capacity) -> Mapping[str, Plan]:
        plans: dict[str, Plan] = {}
        for stage in stages:
            if stage.mode == "threads" and not self._settings.cores_given:
                plans[stage.name] = self._threads(stage, beliefs, capacity)
        side_by_side = [stage for stage in stages if stage.mode == "split"]
        if self._settings.goal == "cost":
            return plans | self._worth(side_by_side, beliefs, capacity)
        if len(side_by_side) > 1:
            known = [stage for stage in side_by_side if _shown(beliefs, stage) >= 2]
            return plans | self._shares(side_by_side, beliefs, capacity) if len(known) == len(side_by_side) else plans
        for stage in side_by_side:
            plan = self._fewer(stage, beliefs, capacity)
            if plan is not None:
                plans[stage.name] = plan
        return plans

    def _shares(self, stages: list[_Open], beliefs: Beliefs, capacity: Capacity) -> dict[str, Plan]:
        """What each stage gets of all the workers, each with the others as load."""
        s_max = max(1, capacity.cores)
        chosen: dict[str, Choice] = {}
        for _ in range(_ROUNDS):
            for stage in stages:
                beside = sum(choice.s for name, choice in chosen.items() if name != stage.name)
                load = float(beside + capacity.others)
                chosen[stage.name] = _choice(stage, beliefs, load, s_max, 1.0)
        total = sum(choice.s for choice in chosen.values())
        scale = s_max / total
        plans = {}
        for stage in stages:
            choice = chosen[stage.name]
            s = max(1, math.floor(choice.s * scale)) if scale < 1.0 else math.ceil(choice.s * scale)
            plans[stage.name] = Plan(
                s, None, f"parallelism: {s} at once, {choice.reason}, beside {total - choice.s} of others"
            )
        return plans

    def _worth(self, stages: list[_Open], beliefs: Beliefs, capacity: Capacity) -> dict[str, Plan]:
        """What each stage is worth where cost counts; those that do not fit side by side follow each other.

        A stage that has begun costs while it waits for slots. So none begins before there is room for it beside those
        that are still being cut.
        """
        s_max = max(1, capacity.cores)
        plans: dict[str, Plan] = {}
        for _ in range(_ROUNDS if len(stages) > 1 else 1):
            taken = 0  # cores that the stages before this one have, or will have soon
            for stage in sorted(stages, key=lambda stage: stage.name not in self._begun):
                beside = sum(plan.s for name, plan in plans.items() if name != stage.name)
                load = float(beside + capacity.others)
                plan, before = self._cheapest(stage, beliefs, capacity, load), self._plans.get(stage.name)
                if before is not None and before.wave and stage.in_flight:
                    plan = before  # it is not to be joined by tasks of another size
                wanted = 0 if stage.away else max(plan.s, _moderate(stage, beliefs, s_max))
                if stage.name in self._begun or not taken or taken + wanted <= s_max:
                    self._begun.add(stage.name)
                    taken += wanted
                else:
                    plan = Plan(0, None, "parallelism: when there is room beside the other stages")
                plans[stage.name] = plan
        return plans

    def _cheapest(self, stage: _Open, beliefs: Beliefs, capacity: Capacity, load: float) -> Plan:
        """The number of tasks of the least cost: by the stage's runs, and before they tell, by its tasks."""
        about, s_max, urgency = beliefs.about(stage.category), max(1, capacity.cores), self._settings.urgency
        law = onset.law(about)
        if law is None and (tasks := onset.at_first(stage.left, s_max)) and not _shown(beliefs, stage):
            return Plan(tasks, 1, f"parallelism: {tasks} at once, nothing is known yet, and there are few elements")
        if law is None or _told(beliefs, stage):
            choice = _choice(stage, beliefs, load, s_max, urgency)
            s, why = choice.s, choice.reason + (f", beside {load:.0f} of others" if load else "")
            if law is None:
                return Plan(s, None, f"parallelism: {s} at once, {why}")
        else:
            s = law.cheapest(stage.left, s_max, urgency)
            why = f"as a task takes {show_seconds(law.fixed_s)}, the work {show_seconds(law.element_s * stage.left)}"
        most = max(1, chunksize.largest(about, capacity, self._settings, s) // stage.share)
        if _shown(beliefs, stage) < 2 and (probe := onset.probe(about, stage.left, most, s)):
            return Plan(*probe, f"parallelism: {probe[0]} at once, the probe, {why}", wave=True)
        elements = max(1, math.ceil(stage.left / s))
        if elements > most and most >= int(chunksize.GROWTH * about.largest_done) // stage.share:
            return Plan(s, most, f"parallelism: {s} at once, still growing, {why}", wave=True)
        elements = min(elements, most)
        # Where memory or groups make more tasks of it, no last wave of a few.
        waves = max(1, round(stage.pieces(elements) / s))
        elements = stage.even(elements, most, waves * s)
        s = math.ceil(stage.pieces(elements) / waves)
        return Plan(s, elements, f"parallelism: {s} at once, {why}")

    def _fewer(self, stage: _Open, beliefs: Beliefs, capacity: Capacity) -> Plan | None:
        """Fewer tasks than the workers hold, where runs of this size have shown that more are slower."""
        known, s_max = beliefs.parallelism.get((stage.category, stage.mode)), max(1, capacity.cores)
        if known is None or s_max == 1:
            return None
        gamma = known.gamma(max(1, stage.left + stage.in_flight))
        alike = _alike(known, stage)
        if len({run.s for run in alike}) < 2:
            return None
        choice = known.model.choose(gamma, 0.0, s_max, objective="makespan")
        best, all_s = (known.model.predict(s, gamma, 0.0).mean for s in (choice.s, s_max))
        seen_slower = any(run.s > choice.s for run in alike) and any(run.s <= choice.s for run in alike)
        if best is None or all_s is None or all_s < _SLOWER * best or not seen_slower:
            return None
        reason = (
            f"parallelism: {choice.s} at once, as {s_max} would take {all_s / best - 1:.0%} longer; {choice.reason}"
        )
        return Plan(choice.s, None, reason)

    def _threads(self, stage: _Open, beliefs: Beliefs, capacity: Capacity) -> Plan:
        """Cores for each task: as the model chooses, or what gets most done where time alone counts."""
        most = max((kind.cores for kind in capacity.kinds if kind.count), default=1)
        known = beliefs.parallelism.get((stage.category, stage.mode))
        if known is None or self._settings.goal == "cost" or _shown(beliefs, stage) < 2:
            choice = _choice(stage, beliefs, 0.0, most, self._settings.urgency)
            return Plan(choice.s, None, f"parallelism: {_cores(choice.s)} for a task, {choice.reason}")
        gamma = known.model.runs[-1].gamma
        tasks = max(1.0, stage.left / max(1, round(gamma * known.base_elements)))

        def makespan_s(s: int) -> float:
            at_once = sum(kind.count * (kind.cores // s) for kind in capacity.kinds)
            mean = known.model.predict(s, gamma, 0.0).mean
            return math.inf if mean is None or not at_once else math.ceil(tasks / at_once) * mean

        s = min(range(1, most + 1), key=makespan_s)
        return Plan(s, None, f"parallelism: {_cores(s)} for a task, about {tasks:.0f} of them are left")


def _open(backlog: Backlog, beliefs: Beliefs) -> list[_Open]:
    found: dict[str, list[GroupBacklog]] = {}
    for group in backlog.groups:
        found.setdefault(group.stage, []).append(group)
    stages = []
    for of_stage in backlog.stages:
        groups = found.get(of_stage.stage)
        if not groups:
            continue
        first, left = groups[0], of_stage.pending_elements
        about = beliefs.about(first.category)
        stages.append(
            _Open(
                of_stage.stage,
                first.category,
                first.mode,
                left,
                of_stage.in_flight_elements,
                int(math.log2(about.largest_done)) if about.largest_done >= 1 else -1,
                caution.first_share(about) if about.cautious else 1,
                all(beliefs.outage(group.stage, group.group).holds for group in groups),
                tuple(group.pending_elements for group in groups),
            )
        )
    return stages


def _moderate(stage: _Open, beliefs: Beliefs, s_max: int) -> int:
    """How many tasks at once a stage will have of which nothing is known yet; 0 of others."""
    known = onset.law(beliefs.about(stage.category)) is not None or _shown(beliefs, stage)
    return 0 if known else min(onset.PROBE, s_max, stage.left)


def _shown(beliefs: Beliefs, stage: _Open) -> int:
    """At how many parallelisms the category has run."""
    known = beliefs.parallelism.get((stage.category, stage.mode))
    return 0 if known is None else len({run.s for run in known.model.runs})


def _told(beliefs: Beliefs, stage: _Open) -> bool:
    """Whether runs say more of the stage than its tasks: parallelisms far apart at this size, or hindrance."""
    known = beliefs.parallelism.get((stage.category, stage.mode))
    if known is None:
        return False
    tried = {run.s for run in _alike(known, stage)}
    apart = len(tried) >= _TRIED and max(tried) >= _APART * min(tried)
    return apart or onset.hindered(known.model.runs)


def _alike(known: StageRuns, stage: _Open) -> list[Run]:
    """The runs of about the size of what is to be done."""
    gamma = known.gamma(max(1, stage.left + stage.in_flight))
    return [run for run in known.model.runs if 1 / _ALIKE <= run.gamma / gamma <= _ALIKE]


def _choice(stage: _Open, beliefs: Beliefs, load: float, s_max: int, urgency: float) -> Choice:
    known = beliefs.parallelism.get((stage.category, stage.mode)) or StageRuns(max(1, stage.left))
    gamma = known.gamma(max(1, stage.left + stage.in_flight))
    return known.model.choose(gamma, load, s_max, urgency)


def _cores(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"
