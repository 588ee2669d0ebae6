"""What is settled and where its result lies, one JSON object a line, so that a run survives its manager.

    {"kind": "session", "number": 2, "unix_s": 1.7e9}
    {"kind": "stage", "name": "processing", "fingerprint": "...", "sources": [[id, start, stop, identity, group], ...]}
    {"kind": "done", "task": "1.7", "stage": "processing", "spans": [[0, 0, 10]], "result": [place, bytes, checksum]}
    {"kind": "skipped", "stage": "processing", "spans": [[0, 10, 12]], "reasons": ["..."]}
    {"kind": "lost", "tasks": ["1.7"]}

Spans are kept, not chunk numbers: a resumed run may cut at other sizes. A merge is a `done` with `inputs`, which it
replaces. A line is written and flushed before the inputs of a merge are deleted. A last line that is cut or cannot be
read is dropped; so is a merge of results that are not known (a damaged line was removed): its work is done again.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from shaper.dataset import counted
from shaper.errors import Changed, Damaged
from shaper.ledger import StagePlan
from shaper.reduction import Result
from shaper.types import Accept, Merge, Observation, ResultRef, Source, Span, TaskId, Verdict
from shaper.work import coalesce, without

NAME = "journal.jsonl"
_UNREADABLE = (ValueError, KeyError, TypeError, IndexError)


@dataclass(frozen=True, slots=True)
class Settled:
    """A result that an earlier session left."""

    stage: str
    result: Result
    ref: ResultRef


@dataclass(slots=True)
class Past:
    """What the earlier sessions of a run directory settled."""

    sessions: int = 0
    fingerprints: dict[str, str] = field(default_factory=dict)
    sources: dict[str, list[list[Any]]] = field(default_factory=dict)
    results: dict[TaskId, Settled] = field(default_factory=dict)
    lost: dict[TaskId, Settled] = field(default_factory=dict)
    skipped: dict[str, list[tuple[int, int, int, str]]] = field(default_factory=dict)

    def of_stage(self, plan: StagePlan, missing: Iterable[TaskId]) -> tuple[list[Result], list[tuple[Span, str]]]:
        """Return the results of a stage that are not missing, and its skipped spans."""
        gone = set(missing)
        results = [s.result for s in self.results.values() if s.stage == plan.name and s.result.id not in gone]
        skipped = [
            (Span(plan.sources[number], start, stop), why)
            for number, start, stop, why in self.skipped.get(plan.name, ())
        ]
        return results, skipped


def read(path: Path) -> Past:
    """Replay a journal.

    Raises:
        Damaged: a whole line cannot be read.
    """
    past = Past()
    # Bytes, because a cut line may end inside a character.
    *lines, last = path.read_bytes().split(b"\n")
    if last:
        # Also where it would parse: what is not ended was not written whole, and the next session removes it.
        warnings.warn(f"{path}: the last line is cut off and is dropped; its work is done again", stacklevel=3)
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            entry = json.loads(line)
            _replay(past, entry)
        except _UNREADABLE as error:
            if number == len(lines) and not last:
                warnings.warn(
                    f"{path}: the last line cannot be read and is dropped; its work is done again", stacklevel=3
                )
                break
            raise Damaged(
                f"{path}, line {number} cannot be read ({error}): remove the line to redo what it settled"
            ) from error
    return past


def _replay(past: Past, entry: Mapping[str, Any]) -> None:
    kind = entry["kind"]
    if kind == "session":
        past.sessions = entry["number"]
    elif kind == "stage":
        past.fingerprints[entry["name"]] = entry["fingerprint"]
        past.sources[entry["name"]] = entry["sources"]
    elif kind == "done":
        # A merge may finish although an input was lost meanwhile: it had read it before.
        known = [past.results.get(task_id) or past.lost.get(task_id) for task_id in entry.get("inputs", ())]
        inputs = [item for item in known if item is not None]
        if len(inputs) < len(known):
            return
        if "inputs" in entry:
            ranges = coalesce(r for item in inputs for r in item.result.ranges)
            elements = sum(item.result.elements for item in inputs)
        else:
            ranges = tuple((n, a, b) for n, a, b in entry["spans"])
            elements = sum(b - a for _, a, b in ranges)
        place, size_bytes, checksum = entry["result"]
        task = entry["task"]
        settled = Settled(
            entry["stage"], Result(task, ranges, elements, size_bytes), ResultRef(place, size_bytes, checksum)
        )
        for task_id in entry.get("inputs", ()):
            past.results.pop(task_id, None)
        past.results[task] = settled
    elif kind == "skipped":
        rows = [(n, a, b, why) for (n, a, b), why in zip(entry["spans"], entry["reasons"], strict=True)]
        past.skipped.setdefault(entry["stage"], []).extend(rows)
    elif kind == "lost":
        for task_id in entry["tasks"]:
            if task_id in past.results:
                past.lost[task_id] = past.results.pop(task_id)
    else:
        raise ValueError(f"unknown kind {kind!r}")


def check(past: Past, fingerprints: Mapping[str, str], run_dir: Path) -> None:
    """Refuse a run directory of other stages or functions; `fingerprints` by stage.

    Raises:
        Changed: names what changed.
    """
    if not set(past.fingerprints) <= set(fingerprints):  # a session that was killed may not have written all of them
        held, given = (
            ", ".join(name for name in names if not counted(name)) for names in (past.fingerprints, fingerprints)
        )
        raise Changed(f"{run_dir} holds the stages {held}, not {given}: {_advice(run_dir)}")
    for name, fingerprint in past.fingerprints.items():
        if fingerprint != fingerprints[name]:
            what = "dataset function" if counted(name) else "process or merge function"
            where = counted(name) or name
            raise Changed(f"the {what} of stage {where!r} has changed since {run_dir}: {_advice(run_dir)}")


def check_sources(past: Past, plan: StagePlan, run_dir: Path) -> None:
    """Refuse a run directory whose stage of this name has other sources.

    Raises:
        Changed: names what changed.
    """
    if plan.name not in past.sources:
        return
    advice = _advice(run_dir)
    before = {row[0]: row for row in past.sources[plan.name]}
    now = {source.id: _row(source) for source in plan.sources}
    for name in [*now, *before]:
        if name not in before:
            raise Changed(f"source {name!r} was not an input of {run_dir}: {advice}")
        if name not in now:
            raise Changed(f"source {name!r} of {run_dir} is no longer an input: {advice}")
        if before[name] != now[name]:
            raise Changed(
                f"source {name!r} has changed since {run_dir} (elements, identity, payload or group): {advice}"
            )
    if list(before) != list(now):
        raise Changed(f"the sources of stage {plan.name!r} come in another order than in {run_dir}: {advice}")


def _advice(run_dir: Path) -> str:
    return f"use another run_dir, or remove {run_dir} to start over"


def _row(source: Source) -> list[Any]:
    return [source.id, source.start, source.stop, source.identity, source.group]


class Journal:
    """Appends to a run's journal; every line is flushed to the system, which keeps it when this process is killed."""

    def __init__(self, path: Path, session: int) -> None:
        self._file: IO[bytes] = path.open("ab")
        self._end_cut_line(path)
        self._numbers: dict[str, dict[str, int]] = {}
        self._write({"kind": "session", "number": session, "unix_s": round(time.time(), 3)})

    def _end_cut_line(self, path: Path) -> None:
        """Remove a last line that is cut or cannot be read, so that the next one does not continue it."""
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        start = content.rfind(b"\n", 0, max(0, end - 1)) + 1
        try:
            if end:
                _replay(Past(), json.loads(content[start:end]))
        except _UNREADABLE:
            end = start
        if end < len(content):
            self._file.truncate(end)

    def open_stage(self, plan: StagePlan, fingerprint: str, *, known: bool) -> None:
        """Note a stage; `known` when an earlier session wrote it."""
        self._numbers[plan.name] = {source.id: number for number, source in enumerate(plan.sources)}
        if not known:
            rows = [_row(source) for source in plan.sources]
            self._write({"kind": "stage", "name": plan.name, "fingerprint": fingerprint, "sources": rows})

    def record(self, seen: Observation, verdict: Verdict) -> None:
        """Write down an accepted result and what was skipped."""
        if not isinstance(verdict, Accept):
            return
        task, work = seen.task, seen.task.work
        entry: dict[str, Any] = {"kind": "done", "task": task.id, "stage": task.stage}
        if isinstance(work, Merge):
            entry["inputs"] = work.inputs
        else:
            numbers = self._numbers[task.stage]
            done = without(work.spans, verdict.skipped) if verdict.skipped else work.spans
            entry["spans"] = _ranges(numbers, done)
            if verdict.skipped:
                reasons = list(seen.skip_reasons) or ["skipped by the process function"] * len(verdict.skipped)
                spans = _ranges(numbers, verdict.skipped)
                self._write({"kind": "skipped", "stage": task.stage, "spans": spans, "reasons": reasons[: len(spans)]})
        if seen.result is not None and entry.get("spans", True):
            entry["result"] = [seen.result.place, seen.result.size_bytes, seen.result.checksum]
            self._write(entry)

    def lost(self, task_ids: Sequence[TaskId]) -> None:
        """Write down that results are gone."""
        self._write({"kind": "lost", "tasks": list(task_ids)})

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        self._file.flush()


def _ranges(numbers: Mapping[str, int], spans: Iterable[Span]) -> list[tuple[int, int, int]]:
    return [(numbers[span.source.id], span.start, span.stop) for span in spans]


class NoJournal:
    """Keeps nothing, for simulated runs without a directory."""

    def record(self, seen: Observation, verdict: Verdict) -> None:
        """Keep nothing."""

    def lost(self, task_ids: Sequence[TaskId]) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Nothing to close."""
