"""Rows of the history with defaults, so that a test says only what it is about."""

from __future__ import annotations

from typing import Any

from shaper.history.store import Entry
from shaper.history.subject import Subject


def subject(**given: Any) -> Subject:
    values: dict[str, Any] = {
        "workflow": "run of a.py",
        "category": "processing",
        "code": "c0de",
        "worker": "local, x",
        "versions": {"python": "3.11"},
    }
    return Subject(**{**values, **given})


def observation(**given: Any) -> dict[str, Any]:
    return {
        "at_unix_s": 1000.0,
        "group_name": "",
        "work": "process",
        "size": 1000.0,
        "outcome": "done",
        "wall_s": 2.0,
        "cpu_s": 1.5,
        "memory_mib": 100.0,
        "cores": 1,
        "given_mib": 200,
        **given,
    }


def stage_run(**given: Any) -> dict[str, Any]:
    return {
        "stage": "processing",
        "mode": "split",
        "s": 4,
        "elements": 100_000,
        "load": 0.0,
        "wall_s": 60.0,
        "tasks": 100,
        "chunksize": 1000.0,
        "task_mib": 200.0,
        "engine": "local",
        "status": "done",
        "at_unix_s": 1000.0,
        **given,
    }


def entry(of: Subject | None = None, **given: Any) -> Entry:
    return Entry(
        of or subject(),
        given.get("documents", {"beliefs": {"version": 1, "categories": {}}}),
        given.get("observations", [observation()]),
        given.get("stage_runs", [stage_run()]),
    )
