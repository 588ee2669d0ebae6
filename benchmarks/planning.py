"""What one decision costs: 10, 100 and 1000 jobs that wait for 512 processors, under each method; and a whole trace.

    python -m benchmarks.planning [--quick] [--trace FILE]

Queues are of four kinds: jobs like those of the SDSC Paragon trace that arrived together, jobs that arrived over a
longer time, jobs of like size, and those on a machine that others hold. Each method decides on each of them in turn;
the figure of a method is that of its slowest kind. Times are CPU time: planning waits for nothing, and others who use
the machine do not count. Garbage collection is on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.random import PCG64, Generator

from benchmarks.common import Target, emit, say, spread
from shaper.scheduling import Downey, MoldableJob, Placement, plan, run_times, simulate
from shaper.simulation.moldable import PROCESSORS, downey_jobs
from shaper.simulation.swf import read

TRACE = Path("../shared/data/traces/SDSC-Par-1996-3.1-cln.swf.gz")
SIZES = (10, 100, 1000)
BOUNDS_MS = {("dbos", 10): 1.0, ("dbos", 100): 15.0, ("dbos", 1000): 300.0, ("eq-spt", 1000): 1.0}
METHODS = ("dbos", "eq-spt", "lex", "iterative", "improved-iterative")
TRACE_S = 1.0


@dataclass(frozen=True)
class Queue:
    """Jobs that wait, and those that run."""

    jobs: Sequence[MoldableJob]
    running: Sequence[Placement]
    now_s: float


def queues(size: int) -> Mapping[str, Queue]:
    """The four kinds."""
    rng = Generator(PCG64([size, 3]))

    def job(at: int, serial_s: float, release_s: float) -> MoldableJob:
        curve = Downey(float(rng.uniform(1, PROCESSORS)), float(rng.uniform(0, 2)))
        return MoldableJob(at, release_s, run_times(serial_s, curve, PROCESSORS))

    # Serial times of the trace: log-normal around an hour, over ten powers of two.
    serials = rng.lognormal(8.0, 3.5, size)
    held = [
        Placement(MoldableJob(-1 - at, 0.0, [float(rng.uniform(1, 10_000))] * 4), 4, 1000.0)
        for at in range(PROCESSORS // 4)
    ]
    return {
        "together": Queue([job(at, float(serials[at]), 0.0) for at in range(size)], (), 0.0),
        "over time": Queue([job(at, float(serials[at]), float(at)) for at in range(size)], (), float(size)),
        "alike": Queue([job(at, float(rng.uniform(1, 1000)), 0.0) for at in range(size)], (), 0.0),
        "alike, busy": Queue([job(at, float(rng.uniform(1, 1000)), 1000.0) for at in range(size)], held, 1000.0),
    }


def decisions_ms(sizes: Sequence[int], rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """CPU time of a decision by method and size, and kind of queue."""
    found: dict[str, dict[str, list[float]]] = {}
    for size in sizes:
        kinds = queues(size)
        for _ in range(rounds):
            for method in METHODS:
                if "iterative" in method and size > 100:
                    continue  # minutes
                mine = found.setdefault(f"{method} {size}", {})
                for kind, queue in kinds.items():
                    mine.setdefault(kind, []).append(_decision_ms(queue, method, repeat=max(1, 100 // size)))
        say(f"{size} jobs done")
    return {name: {kind: spread(values) for kind, values in mine.items()} for name, mine in found.items()}


def _decision_ms(queue: Queue, method: str, repeat: int) -> float:
    repeat = 1 if "iterative" in method else repeat

    def decide() -> None:
        for _ in range(repeat):
            plan(queue.jobs, queue.running, PROCESSORS, queue.now_s, method)

    return 1e3 * cpu_s(decide) / repeat


def cpu_s(call: Callable[[], object]) -> float:
    """CPU time of a call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--trace", type=Path, default=TRACE, help="the trace that is simulated as a whole")
    given = parser.parse_args()
    rounds = 3 if given.quick else 7
    decisions = decisions_ms(SIZES, rounds)
    worst = {name: max(kind["median"] for kind in mine.values()) for name, mine in decisions.items()}
    targets = [
        Target(f"{method.replace('-', '_')}_{size}_ms", worst[f"{method} {size}"], bound)
        for (method, size), bound in BOUNDS_MS.items()
    ]
    trace_s = None
    if given.trace.is_file():
        jobs = downey_jobs(read(given.trace).records, 0)
        trace_s = [cpu_s(lambda: simulate(jobs, PROCESSORS, "dbos")) for _ in range(rounds)]
    else:
        say(f"there is no {given.trace}: the whole trace is not measured")
    targets.append(Target("trace_5000_s", statistics.median(trace_s) if trace_s else None, TRACE_S))
    figures = {"cpu_ms": decisions, "trace_cpu_s": spread(trace_s) if trace_s else None}
    emit("planning", figures, targets)


if __name__ == "__main__":
    main()
