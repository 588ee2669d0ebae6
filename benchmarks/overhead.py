"""What shaper costs per task: a monitored call on the local engine, and a decision of policy and ledger.

    python -m benchmarks.overhead [--quick]

Compared in the same run, interleaved: the local engine, concurrent.futures.ProcessPoolExecutor and coffea's
FuturesExecutor, two processes each, on a call that does nothing.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle

from benchmarks.common import Target, emit, say, spread
from shaper.engines import Local
from shaper.ledger import Ledger, StagePlan
from shaper.models import Beliefs
from shaper.policy import Adaptive
from shaper.types import (
    Capacity,
    Chunk,
    Code,
    Observation,
    Outcome,
    Resources,
    ResultRef,
    Source,
    Span,
    Task,
    Usage,
    WorkerKind,
)

SLOTS = 2


def numpy_noop(_: Any) -> int:
    """Do nothing, in a parent that holds numpy."""
    import numpy  # noqa: F401

    return 1


def coffea_noop(_: Any) -> int:
    """Do nothing, in a parent that holds coffea."""
    import coffea.nanoevents
    import coffea.processor  # noqa: F401

    return 1


def add(a: int, b: int) -> int:
    """Merge two results."""
    return a + b


class LocalCalls:
    """The local engine, kept warm between repetitions."""

    def __init__(self, function: Callable[[Any], int]) -> None:
        self.engine = Local(cores=SLOTS, memory="4GB")
        self._folder = tempfile.TemporaryDirectory()
        self.engine.run_dir = Path(self._folder.name)
        self.engine.open("noop", Code("noop", cloudpickle.dumps((function, add)), ""))
        self.source = Source("s", 10**9)
        self.number = 0
        # Until what the calls import is held by the parent, its forks are those of a small process.
        function(None)
        while any(seen.usage is None or seen.usage.read_bytes for seen in self._calls(2 * SLOTS)):
            time.sleep(0.05)

    def _calls(self, count: int) -> list[Observation]:
        seen: list[Observation] = []
        left = count
        flying = 0
        while len(seen) < count:
            while left and flying < SLOTS + 1:
                self.number += 1
                work = Chunk((Span(self.source, self.number, self.number + 1),))
                self.engine.submit(Task(f"1.{self.number}", "noop", "", "noop", work, Resources(1, 1000)))
                left -= 1
                flying += 1
            for one in self.engine.wait(1.0):
                assert isinstance(one, Observation)
                assert one.outcome is Outcome.DONE, one.detail
                seen.append(one)
                flying -= 1
        return seen

    def per_task_ms(self, count: int) -> float:
        """Wall time per call with both slots busy."""
        start = time.perf_counter()
        self._calls(count)
        return (time.perf_counter() - start) / count * 1e3

    def close(self) -> None:
        """End the engine."""
        self.engine.close()
        self._folder.cleanup()


def pool_per_task_ms(pool: ProcessPoolExecutor, count: int) -> float:
    """Wall time per call of a plain process pool."""
    start = time.perf_counter()
    for future in [pool.submit(numpy_noop, n) for n in range(count)]:
        future.result()
    return (time.perf_counter() - start) / count * 1e3


def futures_executor_per_task_ms(pool: ProcessPoolExecutor, count: int) -> float:
    """Wall time per item of coffea's FuturesExecutor on a pool that is warm."""
    from coffea.processor import FuturesExecutor

    executor = FuturesExecutor(pool=pool, workers=SLOTS, status=False)
    start = time.perf_counter()
    executor(list(range(count)), _counted, None)
    return (time.perf_counter() - start) / count * 1e3


def _counted(_: Any) -> dict[str, int]:
    return {"n": 1}


def decision_us(in_flight: int, decisions: int) -> float:
    """Time of policy, beliefs and ledger per task, with so many tasks in flight; one observation per turn."""
    workers = in_flight // 4
    capacity = Capacity((WorkerKind("w", 4, 16_000, workers),))
    ledger = Ledger([StagePlan("processing", tuple(Source(f"s{n}", 10**6) for n in range(10_000)))])
    policy, beliefs, rng = Adaptive(), Beliefs(), random.Random(1)
    flying: list[Task] = []

    def turn() -> None:
        nonlocal beliefs
        shapes = policy.shapes(beliefs, capacity, ledger.backlog)
        flying.extend(ledger.release(shapes, partial(policy.allocate, beliefs=beliefs, capacity=capacity)))
        at = rng.randrange(len(flying))
        flying[at], flying[-1] = flying[-1], flying[at]
        task = flying.pop()
        elements = task.work.elements if isinstance(task.work, Chunk) else 0
        usage = Usage(
            wall_s=20 + 0.0025 * elements,
            memory_mib=(250 + 0.0095 * elements) * rng.lognormvariate(0, 0.06),
            result_bytes=10**6,
        )
        seen = Observation(
            task, Outcome.DONE, usage, 0.0, 1.0, 21 + 0.0025 * elements, "w", result=ResultRef("", 10**6, "")
        )
        beliefs = beliefs.updated(seen)
        ledger.settle(seen, policy.judge(seen, beliefs, capacity))

    while len(ledger.in_flight) < in_flight:
        turn()
    start = time.perf_counter()
    for _ in range(decisions):
        turn()
    return (time.perf_counter() - start) / decisions * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls and repetitions")
    quick = parser.parse_args().quick
    calls, rounds = (100, 3) if quick else (300, 7)
    say("warming two local engines (numpy, coffea) and a pool")
    local, local_coffea = LocalCalls(numpy_noop), LocalCalls(coffea_noop)
    columns: dict[str, list[float]] = {}
    with ProcessPoolExecutor(SLOTS) as pool:
        pool_per_task_ms(pool, 50)
        futures_executor_per_task_ms(pool, 50)
        for number in range(rounds):
            for name, measure in (
                ("local_numpy_ms", partial(local.per_task_ms, calls)),
                ("local_coffea_ms", partial(local_coffea.per_task_ms, calls)),
                ("process_pool_ms", partial(pool_per_task_ms, pool, calls)),
                ("coffea_futures_executor_ms", partial(futures_executor_per_task_ms, pool, calls)),
                ("decision_us", partial(decision_us, 10_000, 1000 if quick else 4000)),
            ):
                columns.setdefault(name, []).append(measure())
            say(f"round {number + 1} of {rounds}: " + ", ".join(f"{k} {v[-1]:.3g}" for k, v in columns.items()))
    local.close()
    local_coffea.close()
    figures = {name: spread(values) for name, values in columns.items()}
    emit(
        "overhead",
        {**figures, "quick": quick, "slots": SLOTS},
        [
            Target("monitored_noop_per_task_ms", figures["local_numpy_ms"]["median"], 5),
            Target("decision_us_at_10000_in_flight", figures["decision_us"]["median"], 100),
        ],
    )


if __name__ == "__main__":
    main()
