"""What `shaper simulate` answers: a scenario, a made-up workload or a recorded run, under a policy, on workers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from shaper.engines import WorkerSpec
from shaper.errors import BadInput
from shaper.policy import Adaptive, Fixed, Policy, Published
from shaper.simulation.advise import advice, options, orders
from shaper.simulation.scenarios import Scenario
from shaper.simulation.simulate import Case, Figures, policy_named, simulate
from shaper.simulation.workload import Workload
from shaper.types import Resources
from shaper.units import parse_mib

_WORKERS = re.compile(r"(\d+)x([^:]+?)(?::(\d+))?")


def parse_workers(text: str) -> tuple[WorkerSpec, ...]:
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
        memory_mib = parse_mib(int(memory) if memory.isdigit() else memory)
        specs.append(WorkerSpec(int(match[1]), memory_mib, int(match[3] or 1)))
    return tuple(specs)


def made_up(
    elements: int,
    sources: int,
    fixed_s: float,
    s_per_element: float,
    memory_mib: float,
    mib_per_element: float,
    noise: float,
    workers: Sequence[WorkerSpec],
) -> Scenario:
    """A workload of equal sources whose time and memory are lines over the size."""
    load = Workload(
        sources=sources,
        elements=elements,
        size_sigma=0.0,
        size_cap=elements,
        fixed_s=fixed_s,
        fixed_noise=noise,
        open_s=0.0,
        s_per_element=s_per_element,
        time_noise=noise,
        complexity=0.0,
        memory_mib=memory_mib,
        empty_noise=noise,
        mib_per_element=mib_per_element,
        memory_noise=noise,
        result_mib=1.0,
        merge_s=0.1,
    )
    return Scenario("made-up", "equal sources, lines", {"processing": load}, tuple(workers), 0.0, 0.0)


def policy_for(name: str, chunksize: int | None, task_memory: str | None, case: Case) -> Policy:
    """Return a policy by name; `chunksize` is the size of `fixed`, and the first guess of those that find their own.

    Raises:
        BadInput: there is no such policy.
    """
    if name == "adaptive":
        return Adaptive(first_guess=chunksize)
    if name == "published" and chunksize is not None:
        return Published(chunksize)
    if name == "fixed" and (chunksize is not None or task_memory is not None):
        first = case.workers[0]
        memory_mib = parse_mib(task_memory, "task_memory") if task_memory else first.memory_mib // first.cores
        return Fixed(chunksize or 100_000, Resources(1, memory_mib), "halve")
    return policy_named(name, case)


def answer(case: Case, policy: Policy, seed: int, price_per_core_hour: float | None) -> dict[str, Any]:
    """Simulate and return the figures, with the cost of the cores offered where a price is given."""
    found = simulate(case, policy, seed)
    told = _told(found)
    if price_per_core_hour is not None:
        told["cost"] = round(found.offered_core_s / 3600 * price_per_core_hour, 4)
    return told


def _told(found: Figures) -> dict[str, Any]:
    told = {item.name: getattr(found, item.name) for item in fields(found) if item.repr}
    told = {key: round(value, 6) if isinstance(value, float) else value for key, value in told.items()}
    return {**told, "efficiency": round(found.efficiency, 4), "decisions": list(found.decisions[:20])}


def advised(case: Any, price_per_core_hour: float | None, seed: int) -> dict[str, Any]:
    """Compare worker shapes and counts; `lines` is for people, `options` for programs."""
    found = options(case, price_per_core_hour, seed)
    rows = [
        {
            "cores": one.workers.cores,
            "memory_mib": one.workers.memory_mib,
            "count": one.workers.count,
            "makespan_s": round(one.makespan_s, 3) if one.figures is not None else None,
            "core_hours": round(one.figures.offered_core_s / 3600, 3) if one.figures is not None else None,
            "cost": round(one.cost, 4) if one.cost is not None else None,
        }
        for one in found
    ]
    lines = [*map(str, found), "", *advice(found), "", *str(orders(case, seed)).splitlines()]
    return {"options": rows, "lines": lines}


def with_workers(case: Any, workers: Sequence[WorkerSpec] | None, loss_rate: float) -> Any:
    """The same case on other workers, or with losses."""
    changed = replace(case, loss_rate=loss_rate) if loss_rate else case
    return replace(changed, workers=tuple(workers)) if workers else changed
