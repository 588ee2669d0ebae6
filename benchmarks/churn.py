"""Workers that are killed through the whole run: what it costs, on the real engines and in the simulator.

    python -m benchmarks.churn [--quick] [--only workqueue,taskvine,simulated]
    scripts/debian13 python -m benchmarks.churn

Real: four workers of two slots on this machine; every few seconds one of them, drawn at random, gets SIGKILL with its
whole process group, and another is started in its place. Tasks sleep for a fixed time and a time per element, so that
slots do not share this machine's cores; each returns sums that tell whether every element was counted once. Simulated:
300 workers of four cores whose lifetimes are exponential, under the calibrated workload, in virtual time.

Every policy runs with and without kills, one after the other in the same round. `time_lost`: its seconds with kills
over those without, less one. A manager that crashes is started again, and its run goes on. `redone`: elements of
attempts that were lost with their worker, over all elements. `lost_core_s`: the share of the busy core-seconds that
came to nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import shaper
from benchmarks.common import Target, emit, say, spread
from benchmarks.workers import ROOT, Worker, end_all, free_port, own_password
from shaper.engines import WorkerSpec, taskvine, workqueue
from shaper.errors import EngineMissing
from shaper.policy import Adaptive, Fixed, Policy
from shaper.records import read
from shaper.simulation import scenario
from shaper.simulation.simulate import watched
from shaper.types import Chunk, Outcome, Resources

ENGINES: dict[str, Callable[[], object]] = {"workqueue": workqueue.load, "taskvine": taskvine.load}
WORKERS, SLOTS, MEMORY_MIB = 4, 2, 4000
SOURCES = 12
FIXED_S, ELEMENT_S = 0.2, 0.01
SMALL, MIDDLE, LARGE = 40, 300, 2000  # tasks of 0.6, 3.2 and 20 s
SIMULATED = (8_192, 32_768, 131_072)  # of 41, 102 and 348 s
POLL_S = 0.02
CRASHES = 5  # of a manager, in one run

Figures = dict[str, float]


def process(chunk: Chunk) -> dict[str, tuple[int, int]]:
    """Sleep as long as the elements take; count them and add up their numbers, by source."""
    time.sleep(FIXED_S + ELEMENT_S * chunk.elements)
    found: dict[str, tuple[int, int]] = {}
    for span in chunk.spans:
        count, total = found.get(span.source.id, (0, 0))
        found[span.source.id] = count + span.stop - span.start, total + sum(range(span.start, span.stop))
    return found


def merge(a: dict[str, tuple[int, int]], b: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Add counts and sums."""
    pairs = {name: (a.get(name, (0, 0)), b.get(name, (0, 0))) for name in {*a, *b}}
    return {name: (one[0] + other[0], one[1] + other[1]) for name, (one, other) in pairs.items()}


@dataclass(frozen=True)
class Setting:
    """How long a real run is, and how often a worker is killed in it."""

    elements: int
    kill_every_s: float

    @property
    def dataset(self) -> dict[str, int]:
        """The same number of elements in every source."""
        return {f"source-{number}": self.elements // SOURCES for number in range(SOURCES)}


def policy_of(name: str) -> Policy:
    """A policy by the name it has in the figures."""
    if name == "adaptive":
        return Adaptive()
    return Fixed(int(name.removeprefix("fixed_")), Resources(1, MEMORY_MIB // SLOTS))


def manage(engine: str, policy: str, elements: int, port: int, folder: Path) -> Figures:
    """The manager's process: one run, whole or not at all."""
    dataset = Setting(elements, 0.0).dataset
    start_s = time.perf_counter()
    result = shaper.run(
        dataset,
        process=process,
        merge=merge,
        engine=engine,
        port=port,
        policy=policy_of(policy),
        run_dir=folder / "run",
        progress=False,
    )
    took_s = time.perf_counter() - start_s
    assert result.value == {name: (count, count * (count - 1) // 2) for name, count in dataset.items()}, "not whole"
    lost = [task for task in read(folder / "run").tasks if task["outcome"] == Outcome.LOST.value]
    redone = sum(task["elements"] for task in lost if task["work"] == "process")
    done = sum(dataset.values())
    return {
        "s": took_s,
        "redone": redone / done,
        "lost_core_s": result.report.lost_fraction,
        "losses": len(lost),
        "tasks": result.report.tasks,
    }


def real(engine: str, setting: Setting, policy: str, seed: int, kills: bool) -> Figures:
    """One run with its workers, perhaps killed now and then."""
    rng, port, killed = random.Random(seed), free_port(), 0
    with tempfile.TemporaryDirectory(prefix="shaper-bench-") as folder:
        words = [engine, policy, setting.elements, port, folder]
        command = [sys.executable, "-m", "benchmarks.churn", "--one", *map(str, words)]
        said, log = Path(folder) / "said", Path(folder) / "log"
        begun_s, crashes, before_s = time.monotonic(), 0, 0.0
        manager = _manager(command, said, log)
        workers = [_worker(engine, port, folder, number) for number in range(WORKERS)]
        try:
            next_s = time.monotonic() + setting.kill_every_s
            while manager.poll() != 0:
                if manager.poll() is not None:
                    # TaskVine 7.14 crashes now and then when a worker dies: the run goes on where it was.
                    crashes, before_s = crashes + 1, time.monotonic() - begun_s
                    assert manager.returncode < 0, f"{policy} did not finish: {log.read_text()[-2000:]}"
                    assert crashes <= CRASHES, f"{policy}: its manager crashed {crashes} times"
                    manager = _manager(command, said, log)
                if kills and time.monotonic() >= next_s:
                    next_s += setting.kill_every_s
                    killed += 1
                    chosen = rng.randrange(WORKERS)
                    workers[chosen].end()
                    workers[chosen] = _worker(engine, port, folder, WORKERS + killed)
                time.sleep(POLL_S)
            figures = json.loads(said.read_text().splitlines()[-1])
            return {**figures, "s": before_s + figures["s"], "kills": killed, "crashes": crashes}
        finally:
            end_all([manager.pid])
            manager.wait()
            for worker in workers:
                worker.end()


def _manager(command: list[str], said: Path, log: Path) -> subprocess.Popen[bytes]:
    with said.open("w") as out, log.open("w") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT)


def _worker(engine: str, port: int, folder: str, number: int) -> Worker:
    return Worker(engine, port, Path(folder) / f"worker-{number}", cores=SLOTS, memory_mib=MEMORY_MIB)


def simulated(quick: bool, policy: str, seed: int, kills: bool) -> Figures:
    """One run in virtual time."""
    case = scenario("churn")
    (load,) = case.workloads.values()
    times = 3 if quick else 10
    load = replace(load, sources=load.sources * times, elements=load.elements * times)
    lifetime: dict[str, Any] = {"lifetime_mean_s": 300.0, "rejoin_s": 30.0} if kills else {}
    workers = (WorkerSpec(4, 8000, 100 if quick else 300, **lifetime),)
    case = replace(case, workloads=dict.fromkeys(case.workloads, load), workers=workers)
    given = (
        policy_of(policy)
        if policy == "adaptive"
        else Fixed(int(policy.removeprefix("fixed_")), Resources(1, 2000), "halve")
    )
    figures, engine = watched(case, given, seed)
    redone = sum(one.elements for one in engine.attempts if one.outcome is Outcome.LOST)
    return {
        "s": figures.makespan_s,
        "redone": redone / load.elements,
        "lost_core_s": figures.lost_fraction,
        "losses": figures.losses,
        "tasks": figures.tasks,
    }


def rounds_of(
    policies: list[str], rounds: int, run: Callable[[str, int, bool], Figures], what: str
) -> dict[str, dict[str, Any]]:
    """Every policy with and without kills in each round; medians and spreads of what it cost."""
    rows: dict[str, list[tuple[Figures, Figures]]] = {policy: [] for policy in policies}
    for number in range(rounds):
        # Each round in another order, so that none always follows the same other.
        for policy in policies[number % len(policies) :] + policies[: number % len(policies)]:
            order = (False, True) if number % 2 == 0 else (True, False)
            found = {kills: run(policy, number, kills) for kills in order}
            rows[policy].append((found[False], found[True]))
            without, with_kills = rows[policy][-1]
            say(
                f"{what}: {policy}: {without['s']:.1f} s, with kills {with_kills['s']:.1f} s, "
                f"{with_kills['losses']:.0f} attempts lost, {with_kills['redone']:.1%} redone"
            )
    return {
        policy: {
            "time_lost": spread([b["s"] / a["s"] - 1.0 for a, b in pairs]),
            "s_without": spread([a["s"] for a, _ in pairs]),
            "s_with": spread([b["s"] for _, b in pairs]),
            **{
                name: spread([b[name] for _, b in pairs])
                for name in ("redone", "lost_core_s", "losses", "kills", "crashes")
                if name in pairs[0][1]
            },
        }
        for policy, pairs in rows.items()
    }


def installed(name: str) -> bool:
    """Whether there is such an engine here; says so where not."""
    try:
        ENGINES[name]()
    except EngineMissing as error:
        say(f"{name} is left out: {error}")
        return False
    return True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs, fewer of them")
    parser.add_argument("--only", default="workqueue,taskvine,simulated", help="names, with commas")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        engine, policy, elements, port, folder = given.one
        print(json.dumps(manage(engine, policy, int(elements), int(port), Path(folder))))
        return
    setting = Setting(9_600, 3.0) if given.quick else Setting(24_000, 4.0)
    sizes = (MIDDLE,) if given.quick else (SMALL, MIDDLE, LARGE)
    policies = ["adaptive", *(f"fixed_{size}" for size in sizes)]
    rounds = given.rounds or (1 if given.quick else 5)
    figures: dict[str, Any] = {"quick": given.quick, "kill_every_s": setting.kill_every_s}
    whole = 0
    with tempfile.TemporaryDirectory(prefix="shaper-bench-") as folder:
        own_password(Path(folder))
        for name in given.only.split(","):
            if name == "simulated":
                in_virtual_time = ["adaptive", *(f"fixed_{size}" for size in SIMULATED)]
                figures[name] = rounds_of(
                    in_virtual_time, 2 if given.quick else 5, partial(simulated, given.quick), name
                )
            elif installed(name):
                figures[name] = rounds_of(policies, rounds, partial(real, name, setting), name)
                whole += all(row["losses"]["min"] > 0 for row in figures[name].values())
    asked = [name for name in given.only.split(",") if name in ENGINES]
    whole_of_all = [Target("engines_whole_with_workers_lost", whole, 1.0, at_least=True)] if asked else []
    emit("churn", figures, whole_of_all)


if __name__ == "__main__":
    main()
