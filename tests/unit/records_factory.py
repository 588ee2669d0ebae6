"""Records with defaults, and those of whole simulated runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import shaper
from shaper.engines import Simulated, WorkerSpec
from shaper.records import NAME
from shaper.types import Merge, Source, Task, Usage

Line = dict[str, Any]


def run_line(session: int = 1, started_unix_s: float = 1.7e9, elements: int = 10_000) -> Line:
    return {
        "kind": "run",
        "at_s": 0.0,
        "session": session,
        "started_unix_s": started_unix_s,
        "name": "ttH",
        "engine": "local",
        "policy": "adaptive",
        "stages": [{"name": "processing", "category": "processing", "elements": elements, "sources": 3}],
        "already_done_elements": 0,
    }


def task_line(number: int = 1, at_s: float = 1.0, **changes: Any) -> Line:
    usage = {"wall_s": 0.9, "memory_mib": 400.0, "overhead_s": 0.1, **changes.pop("used", {})}
    line: Line = {
        "kind": "task",
        "at_s": at_s,
        "id": f"1.{number}",
        "stage": "processing",
        "group": "",
        "category": "processing",
        "work": "process",
        "elements": 1000,
        "input_bytes": None,
        "what": "a.root[0:1000]",
        "attempt": 1,
        "worker": "local/1",
        "cores": 1,
        "memory_mib": 500,
        "disk_mib": None,
        "wall_limit_s": None,
        "expected_memory_mib": 420.0,
        "expected_wall_s": 1.0,
        "reason": "a probe: nothing is known yet",
        "outcome": "done",
        "submitted_s": at_s - 1.0,
        "started_s": at_s - 1.0,
        "finished_s": at_s,
        "detail": "",
        "used": usage,
        "verdict": "accept",
        "verdict_reason": "finished",
        "pieces": [],
        "skipped": [],
    }
    return {**line, **changes}


def capacity_line(at_s: float = 0.0, cores: int = 4, count: int = 1) -> Line:
    return {
        "kind": "capacity",
        "at_s": at_s,
        "kinds": [{"name": "w", "cores": cores, "memory_mib": 8000, "count": count}],
    }


def end_line(at_s: float = 2.0, status: str = "done", **changes: Any) -> Line:
    line: Line = {"kind": "end", "at_s": at_s, "status": status, "message": "", "elements_done": 1000}
    return {**line, "elements": 10_000, "missing": [], "skipped": [], **changes}


def write(run_dir: Path, lines: Iterable[Mapping[str, Any]], tail: bytes = b"") -> Path:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / NAME).write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + tail)
    return run_dir


def simulated(run_dir: Path, *, elements: int = 40_000_000, seed: int = 0, limit_mib: int = 8000) -> Any:
    """A run as a physicist has it: three datasets of different weight, noise, losses, a first guess far too large."""
    weight = {"ttH": 3.0, "tllq": 1.6, "data": 1.0}

    def cost(task: Task, rng: Any) -> Usage:
        if isinstance(task.work, Merge):
            mib = 300 + (task.work.input_bytes or 0) / 2**20
            return Usage(wall_s=0.4 + 1e-3 * mib, memory_mib=mib, result_bytes=30 * 2**20, overhead_s=0.05)
        n, factor = task.work.elements, weight[task.group]
        if any(span.source.id == "ttH/part-12.root" for span in task.work.spans):
            factor *= 6
        a, b = rng.lognormal(0, 0.12, 2)
        mib = float((280 + 0.008 * factor * n) * b)
        wall_s = float((6 + 2e-4 * factor * n) * a)
        return Usage(wall_s=wall_s, cpu_s=wall_s, memory_mib=mib, result_bytes=25 * 2**20, overhead_s=0.3)

    dataset = [
        Source(f"{group}/part-{n:02d}.root", elements // 60, group=group)
        for group, files in (("ttH", 15), ("tllq", 15), ("data", 30))
        for n in range(files)
    ]
    workers = [WorkerSpec(4, limit_mib, 8), WorkerSpec(8, 2 * limit_mib, 4, joins_s=120.0)]
    engine = Simulated(workers, cost, seed, loss_rate=0.01)
    return shaper.run(dataset, engine=engine, policy=shaper.policy.Adaptive(first_guess=2_000_000), run_dir=run_dir)
