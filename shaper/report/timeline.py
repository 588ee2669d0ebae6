"""The timeline of a run in the Trace Event format, for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shaper.records import Records


def write_timeline(records: Records, path: Path) -> None:
    """Write one row per slot, and counters for chunksize and tasks running."""
    slots: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    running: list[tuple[float, int]] = []
    for task in records.tasks:
        if task["started_s"] is None:
            continue
        slot = slots.setdefault(task["worker"], len(slots) + 1)
        running += [(task["started_s"], 1), (task["finished_s"], -1)]
        events.append(
            {
                "name": task["what"],
                "cat": task["category"],
                "ph": "X",
                "pid": 1,
                "tid": slot,
                "ts": round(task["started_s"] * 1e6),
                "dur": round((task["finished_s"] - task["started_s"]) * 1e6),
                "args": {key: task[key] for key in ("id", "elements", "outcome", "memory_mib", "reason", "used")},
            }
        )
        if task["work"] == "process":
            events.append(_counter("chunksize", task["started_s"], "elements", task["elements"]))
    count = 0
    for at, change in sorted(running):
        count += change
        events.append(_counter("tasks running", at, "tasks", count))
    names = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": name}}
        for name, number in slots.items()
    ]
    path.write_text(json.dumps({"traceEvents": [*names, *events], "displayTimeUnit": "ms"}))


def _counter(name: str, at_s: float, key: str, value: float) -> dict[str, Any]:
    return {"name": name, "ph": "C", "pid": 1, "ts": round(at_s * 1e6), "args": {key: value}}
