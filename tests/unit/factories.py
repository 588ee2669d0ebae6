"""Values with defaults, so that a test says only what it is about."""

from __future__ import annotations

from typing import Any

from shaper.types import (
    Capacity,
    Chunk,
    Merge,
    Observation,
    Outcome,
    Resources,
    Source,
    Span,
    Task,
    Usage,
    Work,
    WorkerKind,
)


def capacity(cores: int = 4, memory_mib: int = 8000, count: int = 1) -> Capacity:
    return Capacity((WorkerKind(f"{cores}x{memory_mib}", cores, memory_mib, count),))


def chunk(elements: int = 1000, *names: str, group: str = "") -> Chunk:
    names = names or ("a",)
    each = elements // len(names)
    return Chunk(tuple(Span(Source(n, 10**9, group=group), 0, each) for n in names))


def task(
    work: Work | None = None,
    *,
    memory_mib: int = 1000,
    cores: int = 1,
    attempt: int = 1,
    number: int = 1,
    losses: int = 0,
) -> Task:
    work = work or chunk()
    category = "accumulating" if isinstance(work, Merge) else "processing"
    return Task(
        f"1.{number}",
        "processing",
        work.group,
        category,
        work,
        Resources(cores, memory_mib),
        None,
        attempt,
        "because",
        losses,
    )


def seen(of: Task, outcome: Outcome = Outcome.DONE, **usage: Any) -> Observation:
    detail = usage.pop("detail", "")
    wall_s = usage.setdefault("wall_s", 1.0)
    usage.setdefault("memory_mib", 500.0)
    return Observation(of, outcome, Usage(**usage), 0.0, 0.0, wall_s, "w/1", detail)
