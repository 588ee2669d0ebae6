"""How exact the function monitor is, and how fast it kills.

    python -m benchmarks.monitor [--quick]

Accuracy: a call touches a known amount of memory for a known time, in one process or in four at once; the error is the
measured peak minus what a call that touches nothing was measured with, minus the amount. Kill latency: a call
touches memory at a steady pace beyond its limit; what it got over the limit, divided by that pace, is the time between
passing the limit and dying. Wall time: the time over the limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cloudpickle

from benchmarks.common import Target, emit, say
from shaper.engines import Local
from shaper.types import Chunk, Code, Observation, Outcome, Resources, Source, Span, Task

MIB = 2**20


def burst(chunk: Chunk) -> int:
    """Touch memory as the source's payload says: (kind, MiB in all, seconds, processes)."""
    kind, mib, held_s, processes = chunk.spans[0].source.payload
    if kind == "nothing":
        return 0
    if kind == "over":
        return _grow_over(mib)
    if processes == 1:
        _hold(mib, held_s)
        return 0
    # All hold together: each says when it has touched its share, and keeps it until the pipe closes.
    touched_r, touched_w = os.pipe()
    release_r, release_w = os.pipe()
    pids = []
    for _ in range(processes):
        pid = os.fork()
        if pid == 0:
            os.close(release_w)
            block = _touched(mib / processes)
            os.write(touched_w, b"t")
            os.read(release_r, 1)
            os._exit(len(block) % 1)
        pids.append(pid)
    for _ in pids:
        os.read(touched_r, 1)
    time.sleep(held_s)
    os.close(release_w)
    for pid in pids:
        os.waitpid(pid, 0)
    return 0


def _touched(mib: float) -> bytearray:
    block = bytearray(int(mib * MIB))
    for at in range(0, len(block), 4096):
        block[at] = 1
    return block


def _hold(mib: float, held_s: float) -> None:
    block = _touched(mib)
    time.sleep(held_s)
    del block


def _grow_over(limit_mib: float) -> int:
    """Touch a MiB at a time, far beyond the limit."""
    grown = [_touched(1) for _ in range(int(limit_mib) + 600)]
    return len(grown)


def merge(a: int, b: int) -> int:
    """Never called."""
    return a + b


class Calls:
    """One local engine; a call at a time."""

    def __init__(self) -> None:
        self.engine = Local(cores=2, memory="8GB")
        self._folder = tempfile.TemporaryDirectory()
        self.engine.run_dir = Path(self._folder.name)
        self.engine.open("burst", Code("burst", cloudpickle.dumps((burst, merge)), ""))
        self.number = 0

    def __call__(self, payload: tuple[Any, ...], limit_mib: int) -> Observation:
        """Run one call to its end."""
        self.number += 1
        work = Chunk((Span(Source(f"s{self.number}", 1, payload=payload), 0, 1),))
        self.engine.submit(Task(f"1.{self.number}", "burst", "", "burst", work, Resources(1, limit_mib)))
        while True:
            for seen in self.engine.wait(1.0):
                assert isinstance(seen, Observation)
                return seen

    def close(self) -> None:
        """End the engine."""
        self.engine.close()
        self._folder.cleanup()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions")
    quick = parser.parse_args().quick
    sizes = (50, 300) if quick else (50, 150, 500, 1500)
    times = (0.05, 0.3) if quick else (0.05, 0.3, 1.0, 3.0)
    rounds = 2 if quick else 3
    calls = Calls()
    calls(("nothing", 0, 0, 1), 4000)
    base = statistics.median(_memory(calls(("nothing", 0, 0, 1), 4000)) for _ in range(5))
    rows = []
    for processes in (1, 4):
        for mib in sizes:
            for held_s in times:
                errors = [_memory(calls(("hold", mib, held_s, processes), 4000)) - base - mib for _ in range(rounds)]
                worst = max(errors, key=abs)
                rows.append({"processes": processes, "mib": mib, "held_s": held_s, "worst_error_mib": round(worst, 1)})
                say(f"{processes} process(es), {mib} MiB held {held_s} s: worst error {worst:+.1f} MiB")
    latencies = []
    for limit_mib in (100, 300) if quick else (100, 300, 1000):
        for _ in range(5 if quick else 20):
            seen = calls(("over", limit_mib, 0, 1), limit_mib)
            assert seen.outcome is Outcome.OUT_OF_MEMORY, seen.detail
            # Memory grows by a known amount per second, so the overshoot is the latency.
            latencies.append(_overshoot_ms(seen, limit_mib, base))
        say(f"limit {limit_mib} MiB: last latency {latencies[-1]:.1f} ms, overshoot included")
    wall = [_wall_latency_ms(calls) for _ in range(5 if quick else 20)]
    say(f"wall limit 0.2 s: median latency {statistics.median(wall):.1f} ms")
    calls.close()
    every = sorted(latencies + wall)
    single = max(abs(float(r["worst_error_mib"])) for r in rows if r["processes"] == 1)
    several = max(
        max(0.0, abs(float(r["worst_error_mib"])) - max(10.0, 0.05 * float(r["mib"])))
        for r in rows
        if r["processes"] > 1
    )
    p95 = every[min(len(every) - 1, int(0.95 * len(every)))]
    emit(
        "monitor",
        {"base_mib": base, "rows": rows, "kill_latency_ms": every, "quick": quick},
        [
            Target("peak_error_worst_mib", single, 12),
            Target("peak_error_four_processes_over_allowed_mib", several, 0),
            Target("kill_latency_p95_ms", p95, 100),
        ],
    )


def _memory(seen: Observation) -> float:
    assert seen.usage is not None
    assert seen.usage.memory_mib is not None, seen.detail
    return seen.usage.memory_mib


def _overshoot_ms(seen: Observation, limit_mib: int, base_mib: float) -> float:
    assert seen.usage is not None
    assert seen.usage.wall_s is not None
    rate_mib_per_s = (_memory(seen) - base_mib) / seen.usage.wall_s
    return (_memory(seen) - limit_mib) / rate_mib_per_s * 1e3


def _wall_latency_ms(calls: Calls) -> float:
    calls.number += 1
    work = Chunk((Span(Source(f"w{calls.number}", 1, payload=("hold", 1, 30, 1)), 0, 1),))
    task = Task(f"1.{calls.number}", "burst", "", "burst", work, Resources(1, 1000, None, 0.2))
    calls.engine.submit(task)
    while True:
        for seen in calls.engine.wait(1.0):
            assert isinstance(seen, Observation)
            assert seen.outcome is Outcome.OUT_OF_TIME
            assert seen.usage is not None
            assert seen.usage.wall_s is not None
            return (seen.usage.wall_s - 0.2) * 1e3


if __name__ == "__main__":
    main()
