"""One run of a scenario under a policy, in virtual time, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from shaper import api
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput, Incomplete
from shaper.models.beliefs import Beliefs
from shaper.models.line import Bin, Line, fit, with_observation
from shaper.policy import Adaptive, Fixed, Policy, Published
from shaper.simulation.scenarios import Scenario
from shaper.types import Capacity, Chunk, Observation, Outcome, Resources, ResultLost, Source, Stage, Task, Usage

_END_SHARE = 0.1
# A fixed setting that can be better by less than this is not tried; nor is one with more tasks than that.
_SAME, _TASKS = 0.995, 300_000


class Drawn(Protocol):
    """One stage of a world: what there is, and what it costs."""

    @property
    def category(self) -> str: ...
    @property
    def sources(self) -> tuple[Source, ...]: ...
    @property
    def pure_core_s(self) -> float: ...
    @property
    def read_bytes(self) -> float: ...
    def cost(self, task: Task, rng: Any) -> Usage: ...


class Case(Protocol):
    """What can be simulated: a scenario, or a recorded run."""

    @property
    def name(self) -> str: ...
    @property
    def workers(self) -> tuple[WorkerSpec, ...]: ...
    @property
    def bandwidth(self) -> float | None: ...
    @property
    def engine_options(self) -> Mapping[str, Any]: ...
    def worlds(self, seed: int) -> Mapping[str, Drawn]: ...


class Attempt(NamedTuple):
    """One attempt at a chunk that ran."""

    started_s: float
    finished_s: float
    elements: int
    used_mib: float
    given_mib: int
    outcome: Outcome


class Watched(Simulated):
    """The simulated engine, which also notes when cores were offered and when they were busy."""

    def __init__(self, workers: Sequence[WorkerSpec], cost: Any, seed: int, **options: Any) -> None:
        self.busy: list[tuple[float, float, int]] = []  # from, to, cores
        self.offered: list[tuple[float, int]] = []  # since, cores
        self.attempts: list[Attempt] = []
        self.starts = 0
        super().__init__(workers, cost, seed, **options)

    def capacity(self) -> Capacity:
        found = super().capacity()
        if not self.offered or self.offered[-1][1] != found.cores:
            self.offered.append((self.now_s, found.cores))
        return found

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        seen = super().wait(timeout_s)
        for item in seen:
            if isinstance(item, Observation) and item.started_s is not None:
                self.busy.append((item.started_s, item.finished_s, item.task.resources.cores))
                self.starts += 1
                task = item.task
                if isinstance(task.work, Chunk):
                    used_mib = (item.usage.memory_mib if item.usage is not None else None) or 0.0
                    size, given_mib = task.work.elements, task.resources.memory_mib
                    self.attempts.append(
                        Attempt(item.started_s, item.finished_s, size, used_mib, given_mib, item.outcome)
                    )
        return seen

    @property
    def done(self) -> list[Attempt]:
        """The attempts that finished."""
        return [one for one in self.attempts if one.outcome is Outcome.DONE]

    def typical(self) -> tuple[int, int]:
        """Elements and memory given of the task that the middle element was in."""
        done = sorted(self.done, key=lambda one: one.elements)
        half, total = sum(one.elements for one in done) / 2, 0
        for one in done:
            total += one.elements
            if total >= half:
                return one.elements, one.given_mib
        return 0, 0

    def lines(self) -> tuple[Line | None, Line | None]:
        """Time and memory of the tasks that finished, against their size."""
        walls: dict[int, Bin] = {}
        memories: dict[int, Bin] = {}
        for one in self.done:
            walls = with_observation(walls, one.elements, max(one.finished_s - one.started_s, 1e-6))
            memories = with_observation(memories, one.elements, max(one.used_mib, 1.0))
        return fit(walls, {}), fit(memories, {})

    def idle_core_s(self, since_s: float, until_s: float) -> float:
        """Core-seconds offered and not busy between two times."""
        offered = 0.0
        for number, (start, cores) in enumerate(self.offered):
            end = self.offered[number + 1][0] if number + 1 < len(self.offered) else until_s
            offered += cores * max(0.0, min(end, until_s) - max(start, since_s))
        busy = sum(cores * max(0.0, min(b, until_s) - max(a, since_s)) for a, b, cores in self.busy)
        return max(0.0, offered - busy)


@dataclass(frozen=True)
class Figures:
    """What a run of a scenario came to.

    Args:
        makespan_s: until everything is processed and merged; infinite where parts have no result.
        bound_s: pure work over available cores, and what the bandwidth allows: no run is faster.
        lost_fraction: share of the busy core-seconds spent in attempts that exceeded a limit, failed or were lost.
        exhausted_fraction: the part of it that exceeded a limit.
        idle_end_core_s: idle in the last tenth of the makespan.
        task_s, longest_s: mean and most time that processing tasks held a slot.
        chunksize, task_mib: elements and memory of the task that the middle element was in.
        read_bound_s: to read everything from the shared source.
        dispatch_bound_s: in which the manager could start as many tasks.
        wall, memory: the lines that the tasks showed.
    """

    scenario: str
    policy: str
    seed: int
    makespan_s: float
    bound_s: float
    elements: int
    tasks: int
    splits: int
    retries: int
    losses: int
    lost_fraction: float
    exhausted_fraction: float
    idle_end_core_s: float
    idle_fraction: float
    offered_core_s: float
    task_s: float
    longest_s: float
    chunksize: int
    task_mib: int
    read_bound_s: float
    dispatch_bound_s: float
    wall: Line | None = field(repr=False, default=None)
    memory: Line | None = field(repr=False, default=None)
    result: api.Result | None = field(repr=False, default=None)

    @property
    def decisions(self) -> tuple[str, ...]:
        """How chunksizes changed."""
        return self.result.report.decisions if self.result is not None else ()

    @property
    def efficiency(self) -> float:
        """The bound over the makespan."""
        return self.bound_s / self.makespan_s


def simulate(scenario: Case, policy: Policy, seed: int = 0, warm_start: Figures | Beliefs | None = None) -> Figures:
    """Run a scenario under a policy, perhaps with what an earlier simulation has learnt.

    Raises:
        Incomplete: elements have no result, for instance under a fixed setting that does not fit.
    """
    return watched(scenario, policy, seed, warm_start)[0]


def watched(
    scenario: Case, policy: Policy, seed: int = 0, warm_start: Figures | Beliefs | None = None
) -> tuple[Figures, Watched]:
    """As `simulate`, with the engine that has seen every attempt."""
    worlds = scenario.worlds(seed)
    known = warm_start.result if isinstance(warm_start, Figures) else warm_start
    result, engine = _run(worlds, scenario, policy, seed, known)
    return _figures(scenario, policy, seed, worlds, result, engine), engine


def _run(
    worlds: Mapping[str, Drawn], scenario: Case, policy: Policy, seed: int, known: api.Result | Beliefs | None
) -> tuple[api.Result, Watched]:
    def cost(task: Task, rng: Any) -> Usage:
        return worlds[task.stage].cost(task, rng)

    engine = Watched(scenario.workers, cost, seed, **scenario.engine_options)
    stages = [Stage(name, drawn.sources, category=drawn.category) for name, drawn in worlds.items()]
    return api.run(stages, engine=engine, policy=policy, warm_start=known), engine


def _figures(
    scenario: Case, policy: Policy, seed: int, worlds: Mapping[str, Drawn], result: api.Result, engine: Watched
) -> Figures:
    report = result.report
    end_s = report.makespan_s
    categories = {drawn.category for drawn in worlds.values()}
    stages = [report.by_category[name] for name in categories if name in report.by_category]
    tasks = sum(row["tasks"] for row in stages)
    wall, memory = engine.lines()
    done = engine.done
    return Figures(
        scenario.name,
        policy.name,
        seed,
        end_s,
        lower_bound_s(scenario, worlds),
        report.elements,
        int(tasks),
        report.splits,
        report.retries,
        report.losses,
        report.lost_fraction,
        report.exhausted_core_s / report.busy_core_s if report.busy_core_s else 0.0,
        engine.idle_core_s((1.0 - _END_SHARE) * end_s, end_s),
        report.idle_core_s / report.offered_core_s if report.offered_core_s else 0.0,
        report.offered_core_s,
        sum(one.finished_s - one.started_s for one in done) / len(done) if done else 0.0,
        max((one.finished_s - one.started_s for one in done), default=0.0),
        *engine.typical(),
        sum(drawn.read_bytes for drawn in worlds.values()) / scenario.bandwidth if scenario.bandwidth else 0.0,
        engine.starts * engine.dispatch_s,
        wall,
        memory,
        result,
    )


def lower_bound_s(scenario: Case, worlds: Mapping[str, Drawn]) -> float:
    """The time in which the scheduled workers could do the pure work, or read the bytes, whichever is longer.

    Workers whose lifetimes are random count as always there.
    """
    work_s = sum(drawn.pure_core_s for drawn in worlds.values())
    read = sum(drawn.read_bytes for drawn in worlds.values())
    changes: list[tuple[float, float]] = []
    for spec in scenario.workers:
        power = spec.cores * spec.count * spec.speed
        changes.append((spec.joins_s, power))
        if spec.leaves_s is not None:
            changes.append((spec.leaves_s, -power))
    done = rate = at_s = 0.0
    for when_s, change in sorted(changes):
        if rate > 0 and done + rate * (when_s - at_s) >= work_s:
            break
        done += rate * (when_s - at_s)
        at_s, rate = when_s, rate + change
    by_cores = at_s + (work_s - done) / rate if rate > 0 else float("inf")
    by_bytes = read / scenario.bandwidth if scenario.bandwidth else 0.0
    return max(by_cores, by_bytes)


def fixed_grid(scenario: Case) -> list[Fixed]:
    """The fixed settings a user might have tried: powers of two, and the ways to share the workers' memory evenly.

    Up to eight tasks side by side every number of them; beyond, powers of two, three quarters and all of the cores.
    """
    shares = sorted(
        {
            (1, max(1, spec.memory_mib // k))
            for spec in scenario.workers
            for k in {*range(1, 9), *(2**n for n in range(3, 12)), spec.cores * 3 // 4, spec.cores}
            if 1 <= k <= spec.cores
        }
    )
    sources = [source.elements or 0 for drawn in scenario.worlds(0).values() for source in drawn.sources]
    elements, largest = sum(sources), max(sources)
    # Chunks of a fixed setting end with their source: beyond the largest all sizes are the same.
    sizes = [2**n for n in range(31) if elements / _TASKS <= 2**n <= min(elements, 2 * largest)]
    return [Fixed(size, Resources(*share), "halve") for size in sizes or [max(1, elements // 10)] for share in shares]


def best_fixed(scenario: Case, seed: int = 0) -> tuple[Fixed, Figures]:
    """Search the grid for the fastest setting that finishes, in hindsight.

    Raises:
        BadInput: none does.
    """
    best: tuple[Fixed, Figures] | None = None
    grid, worlds = fixed_grid(scenario), scenario.worlds(seed)
    middle = math.log(grid[len(grid) // 2].chunksize)
    for policy in sorted(grid, key=lambda policy: abs(math.log(policy.chunksize) - middle)):
        if best is not None and fixed_bound_s(scenario, policy, worlds) >= _SAME * best[1].makespan_s:
            continue
        try:
            found = simulate(scenario, policy, seed)
        except Incomplete:
            continue
        if best is None or found.makespan_s < best[1].makespan_s:
            best = policy, found
    if best is None:
        raise BadInput(f"no fixed setting finishes scenario {scenario.name!r}")
    return best


def fixed_bound_s(scenario: Case, policy: Fixed, worlds: Mapping[str, Drawn]) -> float:
    """What a fixed setting takes at least, so that a grid need not run what cannot win: 0 where it is not known."""
    if not isinstance(scenario, Scenario):
        return 0.0
    resources = policy.resources or Resources(1, 1)
    slots = sum(
        spec.count * spec.speed * min(spec.cores // resources.cores, spec.memory_mib // resources.memory_mib)
        for spec in scenario.workers
    )
    tasks = work_s = 0.0
    for stage, drawn in worlds.items():
        load = scenario.workloads[stage]
        count = sum(-(-(source.elements or 0) // policy.chunksize) for source in drawn.sources)
        speedup = 1.0 / (load.serial_share + (1.0 - load.serial_share) / resources.cores)
        work_s += 0.97 * count * (load.fixed_s + scenario.slot_overhead_s) + 0.97 * drawn.pure_core_s / speedup
        tasks += count
    return max(tasks * scenario.dispatch_s, work_s / slots if slots else math.inf)


def policy_named(name: str, scenario: Case) -> Policy:
    """Return a policy for a scenario: `adaptive`, `published` in either reading, or `fixed` as the experiment had it.

    Raises:
        BadInput: there is no such policy, or the scenario has no fixed setting.
    """
    makers: dict[str, Callable[[], Policy]] = {
        "adaptive": Adaptive,
        "published": lambda: _published(scenario, "max-seen"),
        "published-target": lambda: _published(scenario, "target"),
        "fixed": lambda: _fixed(scenario),
    }
    if name not in makers:
        raise BadInput(f"policy {name!r} is not known: use {', '.join(makers)}")
    return makers[name]()


def _published(scenario: Case, reading: Any) -> Published:
    if not isinstance(scenario, Scenario):
        return Published(reading=reading)
    return Published(scenario.first_guess, scenario.target_mib, reading=reading)


def _fixed(scenario: Case) -> Fixed:
    if not isinstance(scenario, Scenario) or scenario.fixed is None:
        return best_fixed(scenario)[0]
    chunksize, cores, memory_mib = scenario.fixed
    return Fixed(chunksize, Resources(cores, memory_mib), scenario.on_exhaustion)
