"""Calls per second and start-up of the engines, all on this machine: plain tasks beside calls into a warm worker.

    python -m benchmarks.engines [--quick] [--engines workqueue,taskvine]

A call does nothing; the worker holds coffea. Plain: what the batch system alone offers, a command that starts Python,
imports coffea and does nothing. Both run on one worker of two cores that connects to this process, in turns. Each
engine is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cloudpickle

from benchmarks.common import Target, emit, say, spread
from shaper.engines import Local, TaskVine, WorkQueue
from shaper.engines import password as passwords
from shaper.engines.batch import Batch
from shaper.engines.system import File, Job
from shaper.errors import EngineMissing
from shaper.types import Chunk, Code, Observation, Outcome, Resources, Source, Span, Task
from shaper.workers.plan import PROGRAMS

ENGINES = {"local": Local, "workqueue": WorkQueue, "taskvine": TaskVine}
BOUNDS = {"workqueue": 60.0, "taskvine": 40.0}
CORES, MEMORY_MIB = 2, 4000


def nothing(chunk: Chunk) -> int:
    """A call into a process that holds coffea."""
    import coffea.processor  # noqa: F401  # imported once, by the warm parent

    return 0


def add(a: int, b: int) -> int:
    """Merge."""
    return a + b


def task(number: int) -> Task:
    """One call."""
    work = Chunk((Span(Source("s", 10**9), number, number + 1),))
    return Task(f"1.{number}", "s", "", "c", work, Resources(1, 1000))


def warm_calls(engine: Any, first: int, count: int) -> float:
    """Calls per second."""
    start_s = time.perf_counter()
    for number in range(first, first + count):
        engine.submit(task(number))
    done = 0
    while done < count:
        for seen in engine.wait(1.0):
            assert isinstance(seen, Observation)
            assert seen.outcome is Outcome.DONE, seen.detail
            done += 1
    return count / (time.perf_counter() - start_s)


def plain_tasks(engine: Batch, folder: Path, first: int, count: int) -> float:
    """Tasks per second of the batch system alone, each a Python that imports coffea."""
    script = folder / "plain.py"
    if not script.exists():
        script.write_text("import coffea.processor\nopen('out', 'w').write('0')\n")
    start_s = time.perf_counter()
    for number in range(first, first + count):
        engine.system.submit(
            Job(
                f"plain-{number}",
                "plain",
                f"{sys.executable} plain.py",
                Resources(1, 1000),
                number,
                "",
                (File(script, "plain.py", kept=True),),
                (File(folder / f"out-{number}", "out"),),
            )
        )
    done = 0
    while done < count:
        done += len(engine.system.wait())
    return count / (time.perf_counter() - start_s)


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """One engine, in this process."""
    rounds, calls, plain = (2, 60, 6) if quick else (5, 300, 20)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shaper-bench-")))
        secret = folder / "password"
        secret.write_text(os.urandom(16).hex())
        secret.chmod(0o600)
        os.environ["SHAPER_PASSWORD_FILE"] = str(secret)
        engine: Any = Local(cores=CORES) if name == "local" else ENGINES[name](port=0)
        stack.callback(engine.close)
        engine.run_dir = folder
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        engine.open("s", Code("s", cloudpickle.dumps((nothing, add)), "f"))
        if name != "local":
            words = [PROGRAMS[name], "--cores", str(CORES), "--memory", str(MEMORY_MIB), "--disk", "4000"]
            words += ["-s", str(folder), "--password", str(passwords.of()), "localhost", str(engine.system.port)]
            quiet: Any = subprocess.DEVNULL
            worker = subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)
            stack.callback(worker.wait)
            # With its transfer server, which would outlive it.
            stack.callback(os.killpg, worker.pid, signal.SIGKILL)
            while not engine.capacity().kinds:
                engine.wait(1.0)
        start_s = time.perf_counter()
        warm_calls(engine, 0, 1)
        found: dict[str, Any] = {"first_call_s": round(time.perf_counter() - start_s, 3)}
        warm_calls(engine, 1, 10)
        warm, alone = [], []
        for number in range(rounds):
            first = 100 + number * (calls + plain)
            warm.append(warm_calls(engine, first, calls))
            if name != "local":
                alone.append(plain_tasks(engine, folder, first + calls, plain))
            say(f"{name}: round {number + 1} of {rounds}: {warm[-1]:.1f} warm calls per second" + _beside(alone))
        found["warm_calls_per_s"] = spread(warm)
        if alone:
            found["plain_tasks_per_s"] = spread(alone)
            found["warm_over_plain"] = spread([a / b for a, b in zip(warm, alone, strict=True)])
        return found


def _beside(alone: list[float]) -> str:
    return f", {alone[-1]:.2f} plain tasks" if alone else ""


def main() -> None:
    """Measure each engine in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        try:
            print(json.dumps(measure(given.one, quick=given.quick)))
        except EngineMissing as error:
            say(f"{given.one} is left out: {error}")
            print("null")
        return
    figures, targets = {}, []
    for name in given.engines.split(","):
        words = [sys.executable, "-m", "benchmarks.engines", "--one", name, *(["--quick"] if given.quick else [])]
        said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
        found = json.loads(said.splitlines()[-1])
        if found is None:
            continue
        figures[name] = found
        if name in BOUNDS:
            value = found["warm_calls_per_s"]["median"]
            targets.append(Target(f"{name}_warm_calls_per_s", round(value, 1), BOUNDS[name], at_least=True))
    emit("engines", figures, targets)


if __name__ == "__main__":
    main()
