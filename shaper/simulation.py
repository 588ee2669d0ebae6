"""`shaper simulate`: a made-up workload on a made-up cluster."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shaper import api
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput
from shaper.policy import Adaptive, Fixed, Policy, Published
from shaper.types import Merge, Resources, Task, Usage
from shaper.units import parse_mib

_WORKERS = re.compile(r"(\d+)x([^:]+?)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class World:
    """A workload: memory and time are lines over the size, times log-normal noise."""

    elements: int
    sources: int
    fixed_s: float
    s_per_element: float
    memory_mib: float
    mib_per_element: float
    noise: float

    def __post_init__(self) -> None:
        if self.elements < 1 or not 1 <= self.sources <= self.elements:
            raise BadInput(f"needs elements and at most as many sources, got {self.elements} in {self.sources}")
        for name in ("fixed_s", "s_per_element", "memory_mib", "mib_per_element", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} must be a number of at least 0, got {getattr(self, name)}")

    def cost(self, task: Task, rng: Any) -> Usage:
        """What a task would use."""
        if isinstance(task.work, Merge):
            return Usage(wall_s=0.1 * self.fixed_s + 0.1, memory_mib=self.memory_mib, result_bytes=2**20)
        n = task.work.elements
        time_noise, memory_noise = rng.lognormal(0.0, self.noise, 2) if self.noise else (1.0, 1.0)
        return Usage(
            wall_s=float((self.fixed_s + self.s_per_element * n / task.resources.cores) * time_noise),
            memory_mib=float((self.memory_mib + self.mib_per_element * n) * memory_noise),
            result_bytes=2**20,
        )


def parse_workers(text: str) -> list[WorkerSpec]:
    """Parse `4x8GB:10,16x64GB:2`: cores, memory and count.

    Raises:
        BadInput: it is written otherwise.
    """
    specs = []
    for part in text.split(","):
        match = _WORKERS.fullmatch(part.strip())
        if match is None:
            raise BadInput(f"workers {part!r}: write CORESxMEMORY:COUNT, for instance 4x8GB:10")
        memory = match[2]
        specs.append(
            WorkerSpec(int(match[1]), parse_mib(int(memory) if memory.isdigit() else memory), int(match[3] or 1))
        )
    return specs


def policy_named(name: str, chunksize: int | None, task_memory: str | None, workers: Sequence[WorkerSpec]) -> Policy:
    """Return a policy by name; `chunksize` is the first guess of those that find their own.

    Raises:
        BadInput: there is no such policy.
    """
    if name == "adaptive":
        return Adaptive(first_guess=chunksize)
    if name == "published":
        return Published(chunksize or 100_000)
    if name == "fixed":
        share = workers[0].memory_mib // workers[0].cores
        memory = parse_mib(task_memory, "task_memory") if task_memory else share
        return Fixed(chunksize or 100_000, Resources(1, memory), "halve")
    raise BadInput(f"policy {name!r} is not known: use adaptive, published or fixed")


def simulate(world: World, workers: Sequence[WorkerSpec], policy: Policy, seed: int) -> dict[str, Any]:
    """Run it and return the figures."""
    each, rest = divmod(world.elements, world.sources)
    dataset = {f"source-{n}": each + (n < rest) for n in range(world.sources)}
    result = api.run(dataset, engine=Simulated(workers, world.cost, seed), policy=policy)
    report = result.report
    cores = sum(spec.cores * spec.count for spec in workers)
    return {
        "policy": policy.name,
        "makespan_s": report.makespan_s,
        "pure_work_over_cores_s": world.elements * world.s_per_element / cores,
        "elements": result.value,
        "tasks": report.tasks,
        "splits": report.splits,
        "retries": report.retries,
        "lost_fraction": report.lost_fraction,
        "idle_fraction": report.idle_core_s / report.offered_core_s if report.offered_core_s else 0.0,
        "decisions": list(report.decisions[:20]),
    }
