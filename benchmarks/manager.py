"""Many jobs through `shaper.Manager`: in virtual time with run times that are predicted wrongly, and on this machine.

    python -m benchmarks.manager [--only virtual|local] [--seeds 10] [--processes 2] [--quick]

In virtual time, 512 cores: a third of the jobs are analyses and a third genome stages, both cut into tasks, and a third
alignments, each one task of several cores (`shaper.simulation.live.kinds`). All begin with the history of jobs of their
kind (`warm_start`): with known times that history was as slow as they are; with an error of sigma it was faster or
slower by a log-normal factor of its own for each job, for all its elements and on any number of cores. What really runs
is the same in both, and a job learns while it runs. `learnt` is without any history but what earlier jobs of the kind
have left in the manager. The stretch is the flow over the run time as one task on one core.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import manager_local
from benchmarks.common import Target, emit, say
from shaper import Manager, Source, Stage
from shaper.engines import Simulated, WorkerSpec
from shaper.models.beliefs import Beliefs
from shaper.scheduling.measures import Fared, Summary, summary
from shaper.simulation.live import Arrival, kinds
from shaper.types import Merge, Mode, Task, Usage

JOBS, CORES, WORKER_CORES, LOAD = 2000, 512, 32, 300.0
ELEMENT_S = {"analysis": 3_000.0, "genome": 200.0}  # of one element, on one core
TASK_S, MERGE_S, MEMORY_MIB = 10.0, 1.0, 1000.0
NOISE = 0.1  # sigma of a task's time
LEVELS = 7  # so many factors stand for a log-normal distribution, each as likely
LEARNT_SEEDS = 3  # at most, of the case without history
BOUND = 1.2

Kind = tuple[str, float]  # and of an alignment, which is one element, its run time on one core
Case = tuple[str, float]  # a name, and sigma


def kind_of(arrival: Arrival) -> Kind:
    """The category of a job."""
    if arrival.one_task:
        return "alignment", round(arrival.job.serial_s, 3)
    return ("analysis", 0.0) if int(arrival.job.id) % 3 == 0 else ("genome", 0.0)


def stage_of(kind: Kind, arrival: Arrival, name: str, factor: float = 1.0, after: tuple[str, ...] = ()) -> Stage:
    """A job, as slow as it is times a factor; the payload of its source is the time of one element by cores."""
    times, elements = (np.asarray(arrival.job.times), 1) if arrival.one_task else (np.array([ELEMENT_S[kind[0]]]), 0)
    elements = elements or max(1, round(arrival.job.serial_s / times[0]))
    mode: Mode = "threads" if arrival.one_task else "split"
    source = Source(name, elements, payload=times * factor)
    return Stage(name, [source], after=after, category=f"{kind[0]} {kind[1]:g}", mode=mode)


def elements_of(arrival: Arrival) -> int:
    """What comes out of a job in virtual time."""
    (source,) = stage_of(kind_of(arrival), arrival, "x").dataset
    return int(source.elements)


def serial_s(arrival: Arrival, kind: Kind) -> float:
    """How long a job takes as one task on one core."""
    (source,) = stage_of(kind, arrival, "x").dataset
    return TASK_S + float(source.elements * source.payload[0])


def cost(task: Task, rng: Any) -> Usage:
    """What a task takes."""
    work, cores = task.work, task.resources.cores
    if isinstance(work, Merge):
        return Usage(wall_s=MERGE_S, cpu_s=MERGE_S, memory_mib=MEMORY_MIB)
    by_cores = work.spans[0].source.payload
    wall_s = TASK_S + work.elements * float(by_cores[min(cores, len(by_cores)) - 1]) * rng.lognormal(0.0, NOISE)
    return Usage(wall_s=wall_s, cpu_s=wall_s * min(cores, len(by_cores)), memory_mib=MEMORY_MIB)


def cluster(seed: int) -> Simulated:
    """512 cores."""
    return Simulated([WorkerSpec(WORKER_CORES, WORKER_CORES * 2000, CORES // WORKER_CORES)], cost, seed)


def factors(sigma: float) -> list[float]:
    """Factors that stand for the distribution, in ascending order."""
    normal = statistics.NormalDist()
    return [math.exp(sigma * normal.inv_cdf((level + 0.5) / LEVELS)) for level in range(LEVELS)]


def history(arrivals: Mapping[Kind, Arrival], sigma: float) -> dict[tuple[Kind, int], Beliefs]:
    """What jobs of each kind have left that were slower by each of the factors."""
    found = {}
    for kind, arrival in arrivals.items():
        for level, factor in enumerate(factors(sigma) if sigma else [1.0]):
            count = 6 if arrival.one_task else 2
            names = [f"{number}" for number in range(count)]
            stages = [
                stage_of(kind, arrival, name, factor, tuple(names[number - 1 : number]))
                for number, name in enumerate(names)
            ]
            with Manager(cluster(level)) as manager:
                found[kind, level] = manager.submit(stages).result().beliefs
    return found


def virtual(work: tuple[Case, int, int]) -> tuple[Case, int, Summary, dict[str, float]]:
    """One seed through the manager: how the jobs fared."""
    case, seed, jobs = work
    _, sigma = case
    arrivals = kinds(LOAD, seed, CORES, jobs)
    began_s = time.process_time()
    of_kind = {kind_of(arrival): arrival for arrival in arrivals if arrival.one_task}
    for name in ELEMENT_S:  # middling ones
        mine = sorted((one for one in arrivals if kind_of(one)[0] == name), key=lambda one: one.job.serial_s)
        of_kind[name, 0.0] = mine[len(mine) // 2]
    known = history(of_kind, sigma) if case[0] != "learnt" else {}
    levels = np.random.default_rng([seed, 7]).integers(LEVELS, size=jobs) if sigma else np.zeros(jobs, int)
    handles = []
    with Manager(cluster(seed)) as manager:
        for arrival, level in zip(arrivals, levels, strict=True):
            kind = kind_of(arrival)
            stage = stage_of(kind, arrival, f"job {arrival.job.id}")
            prior = known.get((kind, int(level)))
            handles.append(manager.submit(stage, warm_start=prior, at_s=arrival.job.release_s))
    flows_s = [handle.result().report.makespan_s for handle in handles]
    for arrival, handle in zip(arrivals, handles, strict=True):
        assert handle.result().value == elements_of(arrival), f"job {arrival.job.id} came out wrong"
    alone_s = [serial_s(one, kind_of(one)) for one in arrivals]
    stretch = [flow_s / serial for flow_s, serial in zip(flows_s, alone_s, strict=True)]
    more = {
        "cpu_s": round(time.process_time() - began_s, 1),
        "tasks": sum(handle.result().report.tasks for handle in handles),
        "alignments": statistics.mean(row for row, one in zip(stretch, arrivals, strict=True) if one.one_task),
    }
    return case, seed, summary(Fared(np.array(stretch), np.array(flows_s), np.array(alone_s))), more


def in_virtual_time(seeds: int, processes: int, jobs: int) -> tuple[dict[str, Any], list[Target]]:
    """Stretch by what is known of the jobs; means over seeds."""
    cases: list[Case] = [("known", 0.0), ("sigma 1", 1.0), ("learnt", 0.0)]
    works = [
        (case, seed, jobs) for seed in range(seeds) for case in cases if case[0] != "learnt" or seed < LEARNT_SEEDS
    ]
    rows: dict[str, list[tuple[Summary, dict[str, float]]]] = {}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for (name, _), seed, found, more in pool.imap_unordered(virtual, works):
            say(f"{name}, seed {seed}: average stretch {found.average_stretch:.4f}, {more}")
            rows.setdefault(name, []).append((found, more))
    means = {
        name: {
            "seeds": len(mine),
            "average_stretch": statistics.mean(found.average_stretch for found, _ in mine),
            "max_stretch": max(found.max_stretch for found, _ in mine),
            "average_flow_s": statistics.mean(found.average_flow_s for found, _ in mine),
            **{key: statistics.mean(more[key] for _, more in mine) for key in mine[0][1]},
        }
        for name, mine in rows.items()
    }
    ratio = means["sigma 1"]["average_stretch"] / means["known"]["average_stretch"]
    return {"jobs": jobs, "rows": means}, [Target("live_stretch_sigma1_over_known", ratio, BOUND)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed of 200 jobs, and 12 jobs on this machine")
    parser.add_argument("--only", choices=("virtual", "local"))
    parser.add_argument("--jobs", type=int, default=JOBS, help="in virtual time [%(default)s]")
    parser.add_argument("--seeds", type=int, default=10, help="[%(default)s]")
    parser.add_argument("--processes", type=int, default=2, help="[%(default)s]")
    parser.add_argument(
        "--data", type=Path, default=Path("demo-output/benchmark/manager"), help="kept files [%(default)s]"
    )
    given = parser.parse_args()
    figures: dict[str, Any] = {"quick": given.quick}
    targets: list[Target] = []
    if given.only != "virtual":
        figures["local"], found = manager_local.measure(given.data, 12 if given.quick else 50)
        targets += found
    if given.only != "local":
        seeds, jobs = (1, 200) if given.quick else (given.seeds, given.jobs)
        figures["virtual"], found = in_virtual_time(seeds, given.processes, jobs)
        targets += found
    emit("manager", figures, targets)


if __name__ == "__main__":
    main()
