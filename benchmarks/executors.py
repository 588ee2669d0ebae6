"""Coffea's TaskVineExecutor and FuturesExecutor beside ShaperExecutor, on the physics example, from a cold start.

Each run is a process of its own, with its own new worker of two cores, and is timed from before the executor is made to
the result: listening, connecting, imports on the worker, file metadata, processing, merging. TaskVineExecutor has its
defaults but for the chunksize; ours is told nothing but a first guess. FuturesExecutor has two processes and no worker.

The case with a cap: a worker of little memory, and a batch system's rule: one that is seen using more than it declared
is killed with all it runs, and replaced. TaskVineExecutor measures and splits only with cctools' resource_monitor, and
is given it where it is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.common import paired_ratio, say, spread
from benchmarks.workers import ROOT, Worker, end_all, free_port, own_password, used_mib
from examples.topeft.generate import Settings, generate
from shaper.engines import taskvine
from shaper.errors import EngineMissing
from shaper.monitor import sample
from shaper.monitor.supervisor import adopt_orphans

CHUNKSIZES = (100_000, 10_000, 1_000)  # so that the fastest is likely known early
CORES, MEMORY_MIB = 2, 4000
# A run that has used up so many workers has failed.
WORKERS = 4
POLL_S, LONG_S = 0.05, 3600.0


@dataclass(frozen=True)
class Run:
    """One run: which executor, with what chunksize or first guess, on what, for how long at most.

    Args:
        kind: `taskvine` and `futures` are coffea's executors, `ours-taskvine` and `ours-workqueue` ShaperExecutor.
        cap: whether the worker is ended when it uses more than `memory_mib`.
    """

    kind: str
    chunksize: int
    data: Path
    deadline_s: float
    memory_mib: int = MEMORY_MIB
    cap: bool = False

    @property
    def engine(self) -> str | None:
        """Whose worker it needs."""
        return {"futures": None, "ours-workqueue": "workqueue"}.get(self.kind, "taskvine")


@dataclass
class Found:
    """What a run came to: its seconds, or why it did not finish."""

    s: float | None = None
    why: str = ""
    workers_ended: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.s is None:
            return f"did not finish: {self.why}"
        return f"{self.s:.1f} s" + (f", {self.workers_ended} workers ended for memory" if self.workers_ended else "")

    def as_json(self) -> dict[str, Any]:
        """For the figures."""
        return {"s": self.s, "why": self.why, "workers_ended_for_memory": self.workers_ended, **self.more}


def timed(run: Run) -> Found:
    """Start the manager's process and its worker, and watch them."""
    adopt_orphans()  # warm servers leave their worker's session
    ours = frozenset(sample.children(os.getpid()))
    port, end_s, found = free_port(), time.monotonic() + run.deadline_s, Found()
    with tempfile.TemporaryDirectory(prefix="shaper-bench-") as folder:
        said, log = Path(folder) / "said", Path(folder) / "log"
        words = [run.kind, run.chunksize, run.data, port, folder, run.memory_mib, int(run.cap)]
        with said.open("w") as out, log.open("w") as err:
            command = [sys.executable, "-m", "benchmarks.executors", "--one", *map(str, words)]
            manager = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT)
        ours |= {manager.pid}
        worker = _started(run, port, folder, 0)
        try:
            while manager.poll() is None:
                if time.monotonic() > end_s:
                    found.why = f"not done after {run.deadline_s:.0f} s"
                    return found
                if run.cap and worker is not None and used_mib(_others(ours), run.memory_mib) > run.memory_mib:
                    end_all(_others(ours))
                    worker.end()
                    found.workers_ended += 1
                    if found.workers_ended == WORKERS:
                        found.why = f"{WORKERS} workers ended for memory"
                        return found
                    worker = _started(run, port, folder, found.workers_ended)
                time.sleep(POLL_S)
            if manager.returncode != 0:
                lines = log.read_text().strip().splitlines()
                found.why = lines[-1] if lines else f"exit code {manager.returncode}"
                return found
            found.more = json.loads(said.read_text().splitlines()[-1])
            found.s = found.more.pop("s")
            return found
        finally:
            end_all([manager.pid, *_others(ours)])
            manager.wait()
            if worker is not None:
                worker.end()


def _started(run: Run, port: int, folder: str, number: int) -> Worker | None:
    if run.engine is None:
        return None
    return Worker(run.engine, port, Path(folder) / f"worker-{number}", cores=CORES, memory_mib=run.memory_mib)


def _others(ours: frozenset[int]) -> list[int]:
    """All processes below this one but for some children: those of the workers."""
    tops = [pid for pid in sample.children(os.getpid()) if pid not in ours]
    return [pid for top in tops for pid in (top, *sample.descendants(top))]


def analyse(kind: str, chunksize: int, data: Path, port: int, folder: Path, memory_mib: int, cap: bool) -> Any:
    """The manager's process: run the example's analysis, and say how long it took and what came out."""
    warnings.simplefilter("ignore")
    from coffea.processor import FuturesExecutor, Runner, TaskVineExecutor

    from examples.topeft.generate import read_manifest
    from examples.topeft.processor import QuietNanoAODSchema, TopEFTProcessor
    from shaper.coffea import ShaperExecutor
    from shaper.engines import password
    from shaper.policy import Adaptive
    from shaper.records import read

    manifest = read_manifest(data)
    assert manifest is not None
    settings: dict[str, Any] = {"schema": QuietNanoAODSchema, "metadata_cache": {}, "chunksize": chunksize}
    processor = TopEFTProcessor(manifest.settings.coefficients)
    secret = str(password.of())
    more: dict[str, Any] = {}
    start_s = time.perf_counter()
    if kind == "futures":
        out = Runner(FuturesExecutor(workers=CORES, status=False), **settings)(manifest.fileset(), processor)
    elif kind == "taskvine":
        options: dict[str, Any] = {"port": port, "password_file": secret, "filepath": str(folder), "status": False}
        if cap and shutil.which("resource_monitor"):
            options |= {"resource_monitor": "watchdog", "memory": memory_mib // CORES}
        out = Runner(TaskVineExecutor(**options), **settings)(manifest.fileset(), processor)
    else:
        engine = kind.removeprefix("ours-")
        policy = Adaptive(first_guess=chunksize)
        with ShaperExecutor(engine=engine, port=port, policy=policy, run_dir=folder / "run", status=False) as executor:
            out = Runner(executor, **settings | {"chunksize": 10**9})(manifest.fileset(), processor)
    more["s"] = round(time.perf_counter() - start_s, 3)
    assert sum(out["events"].values()) == sum(file.events for file in manifest.files), "events are missing"
    more["selected"] = hashlib.sha256(repr(sorted(out["selected"].items())).encode()).hexdigest()[:12]
    if kind.startswith("ours"):
        tasks = list(read(folder / "run" / "processing").tasks)
        more["tasks"] = len(tasks)
        more["exhausted"] = sum("memory" in entry["outcome"] for entry in tasks)
    return more


def compare(*, quick: bool, data: Path, events: int | None, rounds: int | None) -> dict[str, Any]:
    """The grid, its winner again beside ours, and the case with a cap; what could not be measured is None."""
    settings = Settings(20_000, 4, 6) if quick else Settings(1_600_000, 24, 26)
    if events is not None:
        settings = replace(settings, events=events)
    rounds = rounds or (1 if quick else 5)
    say(f"generating {settings.events} events in {settings.files} files, if they are not there")
    folder = data / str(settings.events)
    generate(settings, folder)
    coffeas, ours = (["taskvine", "futures"], "ours-taskvine") if _taskvine() else (["futures"], "ours-workqueue")
    finished: dict[tuple[str, int], float] = {}
    outcomes: set[str] = set()

    def go(kind: str, chunksize: int, deadline_s: float = LONG_S) -> Found:
        found = timed(Run(kind, chunksize, folder, deadline_s))
        if found.s is not None:
            finished[kind, chunksize] = min(found.s, finished.get((kind, chunksize), found.s))
            outcomes.add(found.more["selected"])
        say(f"{kind} from {chunksize}: {found}")
        return found

    grid: dict[str, dict[str, Any]] = {kind: {} for kind in (*coffeas, ours)}
    for kind in grid:
        for size in CHUNKSIZES:
            # A size that takes three times as long as another one has lost.
            own = [s for (name, _), s in finished.items() if name == kind]
            grid[kind][str(size)] = go(kind, size, max(60.0, 3 * min(own)) if own else LONG_S).as_json()
    figures: dict[str, Any] = {"events": settings.events, "files": settings.files, "ours": ours, "grid": grid}
    contenders = {f"ours_from_{size}": (ours, size) for size in CHUNKSIZES}
    for kind in coffeas:
        sizes = [size for size in CHUNKSIZES if (kind, size) in finished]
        if sizes:
            best = min(sizes, key=lambda size: finished[kind, size])
            contenders[f"{kind}_best"] = kind, best
            figures[f"{kind}_best_chunksize"] = best
    say(f"the best of each and ours again, in turns, {rounds} rounds")
    rows: dict[str, list[float | None]] = {name: [] for name in contenders}
    for number in range(rounds):
        # Each round in another order, so that none always follows the same other.
        order = list(contenders.items())
        for name, what in order[number % len(order) :] + order[: number % len(order)]:
            rows[name].append(go(*what).s)
    figures["s"] = {name: spread([s for s in times if s]) for name, times in rows.items() if any(times)}
    for theirs in ("taskvine_best", "futures_best"):
        if theirs in rows:
            over = {name: _ratio(rows[name], rows[theirs]) for name in rows if name.startswith("ours")}
            figures[f"over_{theirs}"] = over
    assert len(outcomes) == 1, f"results differ: {outcomes}"
    if "taskvine_best" in contenders:
        figures["cap"] = capped(contenders["taskvine_best"][1], data, quick=quick)
    return figures


def _ratio(above: list[float | None], below: list[float | None]) -> dict[str, float] | None:
    """None where one did not finish."""
    first, second = ([s for s in times if s is not None] for times in (above, below))
    return paired_ratio(first, second) if len(first) == len(second) == len(above) else None


def capped(best: int, data: Path, *, quick: bool) -> dict[str, Any]:
    """Four large files and a worker of little memory: a tenth of the best chunksize, and 100 times it."""
    settings, memory_mib = (Settings(240_000, 4, 26), 1000) if quick else (Settings(800_000, 4, 26), 1600)
    folder = data / f"large-{settings.events}"
    generate(settings, folder)
    figures: dict[str, Any] = {
        "worker_mib": memory_mib,
        "resource_monitor": shutil.which("resource_monitor") is not None,
    }
    for name, kind, chunksize in (
        ("taskvine_tenth", "taskvine", best // 10),
        ("ours_too_large", "ours-taskvine", best * 100),
        ("taskvine_too_large", "taskvine", best * 100),
    ):
        found = timed(Run(kind, chunksize, folder, 240.0 if quick else 900.0, memory_mib, cap=True))
        say(f"with a cap of {memory_mib} MiB per worker, {kind} from {chunksize}: {found}")
        figures[name] = {"chunksize": chunksize, **found.as_json()}
    return figures


def _taskvine() -> bool:
    try:
        taskvine.load()
    except EngineMissing as error:
        say(f"TaskVineExecutor is left out: {error}")
        return False
    return True


def target(figures: Mapping[str, Any]) -> float | None:
    """Ours over TaskVineExecutor at its best: the worst of the medians over our first guesses."""
    ratios = list(figures.get("over_taskvine_best", {}).values())
    return max(one["median"] for one in ratios) if ratios and all(ratios) else None


def main() -> None:
    """Compare and print the figures, or run one of the managers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few events")
    parser.add_argument("--data", type=Path, default=Path("demo-output/benchmark/engines"), help="kept files")
    parser.add_argument("--events", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--one", nargs=7, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        kind, chunksize, data, port, folder, memory, cap = given.one
        found = analyse(kind, int(chunksize), Path(data), int(port), Path(folder), int(memory), cap == "1")
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(prefix="shaper-bench-") as folder:
        own_password(Path(folder))
        print(json.dumps(compare(quick=given.quick, data=given.data, events=given.events, rounds=given.rounds)))


if __name__ == "__main__":
    main()
