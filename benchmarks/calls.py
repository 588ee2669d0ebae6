"""Calls that do nothing, through one engine: per second and one at a time, into a warm worker and as plain tasks.

A call does nothing; the worker holds coffea. Plain: what the batch system alone offers, a command that starts Python,
imports coffea and does nothing. Bare: `/bin/true`. All run on one worker of two cores, in turns. `benchmarks.engines`
runs this in a process of its own for each engine.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cloudpickle

from benchmarks.common import paired_ratio, say, spread
from benchmarks.workers import Worker, own_password
from shaper.engines import Local, TaskVine, WorkQueue
from shaper.engines.batch import Batch
from shaper.engines.system import File, Job
from shaper.errors import EngineMissing
from shaper.types import Chunk, Code, Observation, Outcome, Resources, Source, Span, Task

ENGINES: dict[str, Any] = {"local": Local, "workqueue": WorkQueue, "taskvine": TaskVine}
CORES = 2
PLAIN = "import coffea.processor\nopen('out', 'w').write('0')\n"


def nothing(chunk: Chunk) -> int:
    """A call into a process that holds coffea."""
    import coffea.processor  # noqa: F401  # imported once, by the warm parent

    return 0


def add(a: int, b: int) -> int:
    """Merge."""
    return a + b


class Bench:
    """One open engine with its worker; every method runs so many tasks and returns the seconds."""

    def __init__(self, engine: Any, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.number = 0
        (folder / "plain.py").write_text(PLAIN)

    def warm(self, count: int) -> float:
        """Calls."""
        start_s = time.perf_counter()
        for _ in range(count):
            self.number += 1
            work = Chunk((Span(Source("s", 10**9), self.number, self.number + 1),))
            self.engine.submit(Task(f"1.{self.number}", "s", "", "c", work, Resources(1, 1000)))
        done = 0
        while done < count:
            for seen in self.engine.wait(1.0):
                assert isinstance(seen, Observation)
                assert seen.outcome is Outcome.DONE, seen.detail
                done += 1
        return time.perf_counter() - start_s

    def plain(self, count: int) -> float:
        """Commands that start Python and import coffea."""
        script = File(self.folder / "plain.py", "plain.py", kept=True)
        return self._commands(count, f"{sys.executable} plain.py", (script,), "out")

    def bare(self, count: int) -> float:
        """Commands that end at once."""
        return self._commands(count, "/bin/true", (), None)

    def _commands(self, count: int, command: str, inputs: tuple[File, ...], output: str | None) -> float:
        system = self.engine.system
        start_s = time.perf_counter()
        for _ in range(count):
            self.number += 1
            outputs = (File(self.folder / f"out-{self.number}", output),) if output else ()
            job = (f"j{self.number}", "plain", command, Resources(1, 1000), self.number, "", inputs, outputs)
            system.submit(Job(*job))
        done = 0
        while done < count:
            done += len(system.wait())
        return time.perf_counter() - start_s


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """One engine, in this process."""
    rounds, calls, plain, single = (2, 60, 4, 10) if quick else (5, 300, 20, 40)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shaper-bench-")))
        own_password(folder)
        start_s = time.perf_counter()
        engine: Any = Local(cores=CORES) if name == "local" else ENGINES[name](port=0)
        stack.callback(engine.close)
        engine.run_dir = folder
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        engine.open("s", Code("s", cloudpickle.dumps((nothing, add)), "f"))
        batch = isinstance(engine, Batch)
        if batch:
            stack.callback(Worker(name, engine.system.port, folder / "worker", cores=CORES).end)
            while not engine.capacity().kinds:
                engine.wait(1.0)
        found: dict[str, Any] = {"connected_s": round(time.perf_counter() - start_s, 3)}
        bench = Bench(engine, folder)
        if batch:
            found["first_plain_task_s"] = round(bench.plain(1), 3)
        found["first_warm_call_s"] = round(bench.warm(1), 3)
        bench.warm(10)
        kinds: dict[str, tuple[Callable[[int], float], int]] = {"warm": (bench.warm, calls)}
        if batch:
            kinds |= {"plain": (bench.plain, plain), "bare": (bench.bare, calls)}
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(rounds):
            for kind, (run, count) in kinds.items():
                rates[kind].append(count / run(count))
            shown = ", ".join(f"{values[-1]:.2f} {kind}" for kind, values in rates.items())
            say(f"{name}: round {number + 1} of {rounds}, per second: {shown}")
        found |= {f"{kind}_per_s": spread(values) for kind, values in rates.items()}
        if batch:
            found["warm_over_plain"] = paired_ratio(rates["warm"], rates["plain"])
            found |= _one_at_a_time(bench, single)
        return found


def _one_at_a_time(bench: Bench, count: int) -> dict[str, float]:
    """What a call takes from submission to result, and what of it is not the batch system's dispatch."""
    pairs = [(bench.warm(1), bench.bare(1)) for _ in range(count)]
    return {
        "call_ms": round(1000 * statistics.median(call for call, _ in pairs), 1),
        "bare_ms": round(1000 * statistics.median(bare for _, bare in pairs), 1),
        "beyond_dispatch_ms": round(1000 * statistics.median(call - bare for call, bare in pairs), 1),
    }


def main() -> None:
    """Print the figures of one engine, or null where it is not installed."""
    name, quick = sys.argv[1], sys.argv[2:] == ["--quick"]
    try:
        print(json.dumps(measure(name, quick=quick)))
    except EngineMissing as error:
        say(f"{name} is left out: {error}")
        print("null")


if __name__ == "__main__":
    main()
