"""Adaptive against every fixed chunksize, on the physics example, on this machine, under a memory cap per worker.

    python -m benchmarks.local [--quick] [--data DIR]

Each run is a process of its own that analyses the same files with two worker processes. coffea's FuturesExecutor is
run once at each chunksize of a grid; the best one that finished is then run again, interleaved with Adaptive from a
first guess 100 times too small and 100 times too large and with Published. FuturesExecutor gets the same cap by the
same rule: a worker process that is seen over it is killed, and the run counts as not finished. Times are those of
the Runner's call, after imports and with file metadata known.
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
import warnings
from pathlib import Path
from typing import Any

from benchmarks.common import Target, emit, paired_ratio, say, spread
from shaper.monitor import sample

WORKERS = 2
COEFFICIENTS = 26
POLL_S = 0.005


def analyse(data: Path, executor: Any, chunksize: int) -> float:
    """Run the example's analysis; return the seconds of the Runner's call."""
    from coffea.processor import IterativeExecutor, Runner

    from examples.topeft.generate import read_manifest
    from examples.topeft.processor import QuietNanoAODSchema, TopEFTProcessor

    manifest = read_manifest(data)
    assert manifest is not None
    known: dict[Any, Any] = {}
    fileset, processor = manifest.fileset(), TopEFTProcessor(COEFFICIENTS)
    settings: dict[str, Any] = {"schema": QuietNanoAODSchema, "metadata_cache": known, "chunksize": chunksize}
    list(Runner(executor=IterativeExecutor(status=False), **settings).preprocess(fileset))
    start = time.perf_counter()
    out = Runner(executor=executor, **settings)(fileset, processor)
    took_s = time.perf_counter() - start
    assert sum(out["events"].values()) == sum(file.events for file in manifest.files)
    return took_s


def one_run(kind: str, chunksize: int, data: Path, cap_mib: int) -> dict[str, Any]:
    """In a process of its own: one run, its time and what it lost."""
    warnings.simplefilter("ignore")
    if kind == "futures":
        from coffea.processor import FuturesExecutor

        return {"s": analyse(data, FuturesExecutor(workers=WORKERS, status=False), chunksize)}
    import shaper
    from shaper.coffea import ShaperExecutor

    policy = shaper.policy.Adaptive(first_guess=chunksize) if kind == "adaptive" else shaper.policy.Published(chunksize)
    with tempfile.TemporaryDirectory() as folder:
        memory = f"{WORKERS * cap_mib}MiB"
        executor = ShaperExecutor(policy=policy, cores=WORKERS, memory=memory, run_dir=folder, status=False)
        took_s = analyse(data, executor, 10**9)
        from shaper.records import read
        from shaper.report.html import costs_core_s

        costs = costs_core_s(read(Path(folder) / "processing"))
        held = sum(costs.values()) - costs["idle"]
        return {"s": took_s, "lost_fraction": costs["over a limit"] / held, "costs_core_s": costs}


def timed(kind: str, chunksize: int, data: Path, cap_mib: int, deadline_s: float) -> dict[str, Any] | None:
    """Start one run and watch it; None when it did not finish. Only FuturesExecutor needs the cap enforced here."""
    end = time.monotonic() + deadline_s
    command = [sys.executable, "-m", "benchmarks.local", "--one", kind, str(chunksize), str(data), str(cap_mib)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        while process.poll() is None:
            if time.monotonic() > end:
                return None
            if kind == "futures":
                for pid in sample.descendants(process.pid):
                    statm = sample.text(f"/proc/{pid}/statm")
                    if statm and sample.rss_mib(statm) > cap_mib:
                        return None
            time.sleep(POLL_S)
        out = process.stdout.read() if process.stdout else ""
        return json.loads(out.splitlines()[-1]) if process.returncode == 0 else None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few events: the best setting works for seconds")
    parser.add_argument("--data", type=Path, default=Path("demo-output/benchmark"), help="where the files are kept")
    parser.add_argument("--cap-mib", type=int, default=800, help="memory of each of the two workers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        kind, chunksize, data, cap = given.one
        print(json.dumps(one_run(kind, int(chunksize), Path(data), int(cap))))
        return
    events, files = (200_000, 12) if given.quick else (3_200_000, 48)
    data = given.data / str(events)
    from examples.topeft.generate import Settings, generate

    say(f"generating {events} events in {files} files, if they are not there")
    generate(Settings(events=events, files=files, coefficients=COEFFICIENTS), data)
    rounds = min(given.rounds, 3) if given.quick else given.rounds

    finished: dict[int, float] = {}

    def run(kind: str, chunksize: int) -> dict[str, Any] | None:
        # Whoever takes twice as long as the best so far has lost.
        deadline_s = max(60.0, 2 * min(finished.values())) if finished else 1800.0
        found = timed(kind, chunksize, data, given.cap_mib, deadline_s)
        if kind == "futures" and found is not None:
            finished[chunksize] = min(found["s"], finished.get(chunksize, found["s"]))
        say(f"{kind} {chunksize}: " + ("did not finish" if found is None else f"{found['s']:.1f} s"))
        return found

    # From the middle outwards, so that the deadline is known early.
    grid = {size: run("futures", size) for size in (32_000, 64_000, 16_000, 128_000, 256_000, 8_000)}
    best = min(finished, key=lambda size: finished[size])
    say(f"the best fixed chunksize is {best}; timing it again beside the others, {rounds} rounds")
    contenders = {
        "best_fixed": ("futures", best),
        "adaptive_from_small": ("adaptive", max(1, best // 100)),
        "adaptive_from_large": ("adaptive", best * 100),
        "published": ("published", best),
    }
    rows: dict[str, list[dict[str, Any] | None]] = {name: [] for name in contenders}
    for number in range(rounds):
        # Each round in another order, so that none always follows the same other.
        order = list(contenders.items())
        for name, (kind, chunksize) in order[number % len(order) :] + order[: number % len(order)]:
            rows[name].append(run(kind, chunksize))
    times = {name: [found["s"] for found in found_rows if found] for name, found_rows in rows.items()}
    ratios = {
        name: paired_ratio(times[name], times["best_fixed"])
        for name in ("adaptive_from_small", "adaptive_from_large", "published")
        if len(times[name]) == len(times["best_fixed"])
    }
    lost = [found["lost_fraction"] for found in rows["adaptive_from_large"] if found]
    emit(
        "local",
        {
            "quick": given.quick,
            "events": events,
            "cap_mib": given.cap_mib,
            "grid_s": {str(size): None if found is None else round(found["s"], 2) for size, found in grid.items()},
            "best_fixed_chunksize": best,
            "s": {name: spread(values) for name, values in times.items() if values},
            "over_best_fixed": ratios,
            "adaptive_costs_core_s": (rows["adaptive_from_large"][-1] or {}).get("costs_core_s"),
        },
        [
            Target("adaptive_over_best_fixed_from_small", _median(ratios, "adaptive_from_small"), 1.05),
            Target("adaptive_over_best_fixed_from_large", _median(ratios, "adaptive_from_large"), 1.05),
            Target("lost_fraction_from_large", max(lost) if lost else None, 0.03),
        ],
    )


def _median(ratios: dict[str, dict[str, float]], name: str) -> float | None:
    return ratios[name]["median"] if name in ratios else None


if __name__ == "__main__":
    main()
