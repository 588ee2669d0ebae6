"""The timeline of a run in the Trace Event format, for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shaper.records import Entry, Records
from shaper.report.figures import lanes, natural

_KEPT = ("id", "stage", "group", "elements", "attempt", "outcome", "memory_mib", "reason", "verdict", "detail", "used")


def write_timeline(records: Records, path: Path) -> None:
    """Write one row per lane of a worker, and counters for chunksize and tasks running."""
    numbers: dict[str, int] = {}
    placed = lanes(records.tasks)
    for lane in sorted({lane for _, lane in placed}, key=natural):
        numbers[lane] = len(numbers) + 1
    encode = json.JSONEncoder(separators=(",", ":")).encode
    with path.open("w", encoding="utf-8", errors="replace") as file:
        # One by one: a long run has hundreds of megabytes of them.
        file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
        for at, event in enumerate(_events(placed, numbers)):
            file.write((",\n" if at else "") + encode(event))
        file.write("\n]}\n")


def _events(placed: Sequence[tuple[Entry, str]], numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for name, number in numbers.items():
        yield {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": name}}
        yield {"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": number, "args": {"sort_index": number}}
    changes: list[tuple[float, int]] = []
    for task, lane in placed:
        start, stop = task["started_s"], task["finished_s"]
        changes += [(start, 1), (stop, -1)]
        event = {
            "name": task["what"],
            "cat": task["category"],
            "ph": "X",
            "pid": 1,
            "tid": numbers[lane],
            "ts": round(start * 1e6),
            "dur": max(0, round((stop - start) * 1e6)),
            "args": {key: task.get(key) for key in _KEPT},
        }
        if task["outcome"] != "done":
            event["cname"] = "terrible"  # one of the format's own colours: red
        yield event
        if task["work"] == "process":
            yield _counter("chunksize", start, "elements", task["elements"])
    count = 0
    for at, change in sorted(changes):
        count += change
        yield _counter("tasks running", at, "tasks", count)


def _counter(name: str, at_s: float, key: str, value: float) -> dict[str, Any]:
    return {"name": name, "ph": "C", "pid": 1, "ts": round(at_s * 1e6), "args": {key: value}}
