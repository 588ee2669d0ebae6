"""How the manager scales: a million tasks on 10,000 simulated cores, 100,000 sources, records and journal off.

    python -m benchmarks.scale [--quick]

Every size runs in a process of its own, so that peaks of memory do not mix. Time is real time on this machine; the
engine's own part of it is measured and taken out of `decisions_per_s`: what is left is policy, beliefs and ledger.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.common import Target, emit, say
from shaper import api
from shaper.engines import Simulated, WorkerSpec
from shaper.policy import Adaptive
from shaper.types import Chunk, Source, Task, Usage

WORKERS, CORES, MEMORY_MIB = 2500, 4, 8000
ELEMENTS_PER_TASK = 100


def cost(task: Task, rng: Any) -> Usage:
    """About `ELEMENTS_PER_TASK` elements fit a core's share of the memory, in about ten seconds."""
    work = task.work
    noise = 1.0 + 0.1 * (rng.random() - 0.5)
    if not isinstance(work, Chunk):
        return Usage(wall_s=1.0, memory_mib=300.0, result_bytes=2**20)
    return Usage(
        wall_s=(0.05 + 0.1 * work.elements) * noise,
        memory_mib=(250.0 + 15.0 * work.elements) * noise,
        result_bytes=2**20,
    )


class Timed(Simulated):
    """The simulated engine, which knows how long its own calls took."""

    own_s = 0.0

    def _timed(self, call: Callable[..., Any], *args: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            self.own_s += time.perf_counter() - start

    def capacity(self) -> Any:
        """See Simulated."""
        return self._timed(super().capacity)

    def submit(self, task: Task) -> None:
        """See Simulated."""
        self._timed(super().submit, task)

    def wait(self, timeout_s: float) -> Any:
        """See Simulated."""
        return self._timed(super().wait, timeout_s)

    def release(self, task_ids: Any) -> None:
        """See Simulated."""
        self._timed(super().release, task_ids)


def one(tasks: int, sources: int, workers: int) -> dict[str, Any]:
    """Run once in this process."""
    elements = tasks * ELEMENTS_PER_TASK
    each, rest = divmod(elements, sources)
    dataset = [Source(f"source-{n}", each + (n < rest)) for n in range(sources)]
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    engine = Timed([WorkerSpec(CORES, MEMORY_MIB, workers)], cost)
    start = time.perf_counter()
    report = api.run(dataset, engine=engine, policy=Adaptive()).report
    took_s = time.perf_counter() - start
    assert report.elements == elements
    return {
        "sources": sources,
        "cores": workers * CORES,
        "tasks": report.tasks,
        "real_s": round(took_s, 2),
        "us_per_task": round(1e6 * took_s / report.tasks, 1),
        "decisions_per_s": round(report.tasks / (took_s - engine.own_s)),
        "virtual_s": round(report.makespan_s, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "peak_mib_before": round(before_mib, 1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks")
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        print(json.dumps(one(*given.one)))
        return
    most = 100_000 if given.quick else 1_000_000
    rows = []
    for tasks, sources, workers in (
        (most // 8, 1000, WORKERS),
        (most // 4, 1000, WORKERS),
        (most // 2, 1000, WORKERS),
        (most, 1000, WORKERS),
        (most, 100_000, WORKERS),
        (most // 4, 1000, WORKERS // 10),
    ):
        found = subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", "--one", str(tasks), str(sources), str(workers)],
            check=True,
            capture_output=True,
            text=True,
        )
        rows.append(json.loads(found.stdout))
        say(f"{rows[-1]}")
    small, large, many, few = rows[1], rows[3], rows[4], rows[5]
    in_flight_kib = (small["peak_mib"] - few["peak_mib"]) * 1024 / (CORES * (WORKERS - WORKERS // 10))
    extra_bytes = (large["peak_mib"] - small["peak_mib"]) * 2**20 / (large["tasks"] - small["tasks"])
    emit(
        "scale",
        {"quick": given.quick, "cores": WORKERS * CORES, "rows": rows},
        [
            Target("decisions_per_s", min(large["decisions_per_s"], many["decisions_per_s"]), 10_000.0, at_least=True),
            Target("million_tasks_s", max(large["us_per_task"], many["us_per_task"]), 120.0),
            Target("us_per_task_large_over_small", round(large["us_per_task"] / small["us_per_task"], 3), 1.25),
            Target("extra_bytes_per_settled_task", round(extra_bytes, 1), 64.0),
            Target("extra_kib_per_task_in_flight", round(in_flight_kib, 1), 64.0),
        ],
    )


if __name__ == "__main__":
    main()
