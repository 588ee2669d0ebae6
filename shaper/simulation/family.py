"""Scenarios that nobody has tuned on: drawn at random, as wide as real clusters and analyses are.

Seeds are halved: policies are tuned on even ones only, and reported on both halves.
"""

from __future__ import annotations

import math
from typing import Any

from shaper.engines import WorkerSpec
from shaper.simulation.scenarios import Scenario
from shaper.simulation.workload import Workload


def drawn(seed: int) -> Scenario:
    """Return the scenario of a seed: every element fits, and its best run takes from minutes to hours."""
    from numpy.random import PCG64, Generator

    rng = Generator(PCG64([seed, 77]))

    def between(low: float, high: float) -> float:
        """Log-uniform."""
        return float(low * (high / low) ** rng.random())

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    cores = int(rng.choice([1, 2, 4, 8, 16, 32]))
    mib_per_core = between(700, 6000)
    total_cores = between(10, 10_000)
    count = max(1, round(total_cores / cores))
    workers = [_workers(cores, mib_per_core, count, rng, chance)]
    if chance(0.25):
        other = int(rng.choice([1, 4, 16, 64]))
        workers.append(
            _workers(other, between(700, 6000), max(1, round(between(0.1, 1.0) * total_cores / other)), rng, chance)
        )
    smallest = min(spec.memory_mib / spec.cores for spec in workers)
    # Tight intercepts too: an empty task needs up to four fifths of a core's share.
    empty_mib = between(60, max(61, 0.8 * smallest))
    core_s = sum(spec.cores * spec.count for spec in workers) * between(120, 3600)
    elements = int(between(1e5, 1e8))
    s_per_element = core_s / elements
    fixed_s = between(0.05, 60)
    fits = between(max(20.0, fixed_s / s_per_element / 10), max(40.0, elements / 50))  # elements in a core's share
    power = float(rng.choice([1.0, 1.0, 0.7, 1.2]))
    mib_per_element = max(0.0, smallest - empty_mib) / fits * (fits / 1000.0) ** (1.0 - power)
    load = Workload(
        sources=min(elements, int(between(1, 5000))),
        elements=elements,
        size_sigma=between(0.05, 1.5),
        size_cap=elements,
        fixed_s=fixed_s,
        fixed_noise=between(0.02, 0.3),
        open_s=min(fixed_s, between(0.01, 2)),
        s_per_element=s_per_element,
        time_noise=between(0.02, 0.4),
        complexity=between(0.02, 0.4),
        memory_mib=empty_mib,
        empty_noise=between(0.005, 0.08),
        mib_per_element=mib_per_element,
        memory_noise=between(0.01, 0.3),
        memory_power=power,
        flat_below=int(fits * between(0.05, 0.5)) if chance(0.2) else 0,
        heavy_from=float(rng.random()) if chance(0.2) else 1.0,
        heavy_factor=between(1.5, 5),
        labelled=chance(0.5),
        result_mib=between(0.1, 300),
        merge_s=between(0.1, 3),
    )
    return Scenario(
        f"drawn-{seed}",
        "drawn at random",
        {"processing": load},
        tuple(workers),
        dispatch_s=between(1e-4, 0.05),
        slot_overhead_s=between(0.01, 2),
    )


def _workers(cores: int, mib_per_core: float, count: int, rng: Any, chance: Any) -> WorkerSpec:
    lifetime_s = math.exp(rng.uniform(math.log(900), math.log(7200))) if chance(0.2) else None
    return WorkerSpec(
        cores,
        round(cores * mib_per_core),
        count,
        lifetime_mean_s=lifetime_s,
        rejoin_s=30.0 if lifetime_s is not None else None,
    )
