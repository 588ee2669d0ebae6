"""What was observed and decided, one JSON object a line, for reports and for replays.

Every line has `kind` and `at_s`, seconds on the engine's clock since its session began; a `run` line begins a session.
A session that was killed has no `end` line, and its last line may be cut off.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from shaper.errors import BadInput, Damaged
from shaper.ledger import StagePlan
from shaper.models import Beliefs, GroupBeliefs
from shaper.models.line import Line
from shaper.types import (
    Accept,
    Backlog,
    Capacity,
    Chunk,
    Merge,
    Mode,
    Observation,
    Outcome,
    Resources,
    Retry,
    Shape,
    Source,
    Span,
    Split,
    StageRun,
    Task,
    TaskId,
    Usage,
    Verdict,
    last_shapes,
)

NAME = "records.jsonl"

Entry = Mapping[str, Any]

# What the last so many attempts have shown is enough to begin another run with.
_LEARNT_FROM = 10_000
_RUNS_LEARNT_FROM = 200
# A chunksize is written down when it changed by more than this share, or when its reason is of another kind.
_CHANGE = 0.1


class Recorder:
    """A watch that writes the records of one session; a kill loses at most the line that is being written."""

    def __init__(self, path: Path, risk: float | None) -> None:
        self._file = path.open("ab")
        self._risk = risk or 0.02
        self._kinds: list[Any] = []
        self._shapes: dict[tuple[str, str, bool], tuple[int, str]] = {}
        self._runs: dict[tuple[str, Mode], StageRun] = {}
        self._lines: dict[tuple[str, str], tuple[Line | None, Line | None]] = {}
        self._expected: dict[TaskId, tuple[float | None, float | None]] = {}
        self._at_s = 0.0

    def run(self, entry: Mapping[str, Any]) -> None:
        """Begin a session."""
        self._write({"kind": "run", "at_s": 0.0, **entry})

    def added(self, plan: StagePlan, done_elements: int) -> None:
        """Write that a stage has begun while the run goes on."""
        self._write(
            {"kind": "stage", "at_s": _t(self._at_s), **stage_row(plan), "already_done_elements": done_elements}
        )

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Write what changed: workers, chunksizes."""
        self._at_s = now_s
        kinds = [[kind.name, kind.cores, kind.memory_mib, kind.count] for kind in capacity.kinds]
        if kinds != self._kinds:
            self._kinds = kinds
            rows = [dict(zip(("name", "cores", "memory_mib", "count"), row, strict=True)) for row in kinds]
            self._write({"kind": "capacity", "at_s": _t(now_s), "kinds": rows})
        for shape in last_shapes(shapes):
            key = (shape.stage, shape.group, shape.fan_in is not None)
            size = shape.fan_in or shape.elements
            why = shape.reason.split(":")[0]
            before = self._shapes.get(key)
            if before is not None and before[1] == why and abs(size - before[0]) <= _CHANGE * before[0]:
                continue
            self._shapes[key] = (size, why)
            self._write(
                {
                    "kind": "shape",
                    "at_s": _t(now_s),
                    "stage": shape.stage,
                    "group": shape.group,
                    "elements": shape.elements,
                    "in_flight": shape.in_flight,
                    "reason": shape.reason,
                    "fan_in": shape.fan_in,
                }
            )

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Remember what was expected of a task, to be written beside what it used."""
        self._expected[task.id] = beliefs.expected(task.category, task.group, task.work)

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Write one attempt and its verdict, and the lines where they were fitted again."""
        self._write(task_entry(seen, verdict, self._expected.pop(seen.task.id, (None, None))))
        task = seen.task
        runs = beliefs.parallelism.get((task.category, task.mode))
        if runs is not None and runs.last is not None and runs.last is not self._runs.get((task.category, task.mode)):
            self._runs[task.category, task.mode] = runs.last
            self._write({"kind": "stage_run", "at_s": _t(seen.finished_s), **asdict(runs.last)})
        known = beliefs.categories.get(task.category)
        if known is None:
            return
        own = known.groups.get(task.group) if task.group else None
        for group, about in (("", known.shared), (task.group, own)):
            if about is not None:
                self._belief(seen.finished_s, task.category, group, about)

    def _belief(self, at_s: float, category: str, group: str, about: GroupBeliefs) -> None:
        memory, wall = about.memory.line, about.wall.line
        before = self._lines.get((category, group))
        if before is not None and before[0] is memory and before[1] is wall:
            return
        self._lines[(category, group)] = (memory, wall)
        self._write(
            {
                "kind": "belief",
                "at_s": _t(at_s),
                "category": category,
                "group": group,
                "memory": _line(memory, self._risk, about.largest_done),
                "wall": _line(wall, self._risk, about.largest_done),
            }
        )

    def end(self, now_s: float, entry: Mapping[str, Any]) -> None:
        """End the session; may be called once."""
        self._write({"kind": "end", "at_s": _t(now_s), **entry})

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def _write(self, entry: Entry) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        self._file.flush()


def task_entry(seen: Observation, verdict: Verdict, expected: tuple[float | None, float | None]) -> dict[str, Any]:
    """One attempt as a line of the records."""
    task, given = seen.task, seen.task.resources
    used = None
    if seen.usage is not None:
        used = {key: round(value, 6) if value is not None else None for key, value in asdict(seen.usage).items()}
    return {
        "kind": "task",
        "at_s": _t(seen.finished_s),
        "id": task.id,
        "stage": task.stage,
        "group": task.group,
        "category": task.category,
        "work": "merge" if isinstance(task.work, Merge) else "process",
        "elements": task.work.elements,
        "input_bytes": task.work.input_bytes if isinstance(task.work, Merge) else None,
        "what": str(task.work),
        "attempt": task.attempt,
        "worker": seen.worker,
        "cores": given.cores,
        "memory_mib": given.memory_mib,
        "disk_mib": given.disk_mib,
        "wall_limit_s": given.wall_s,
        "expected_memory_mib": _t(expected[0]),
        "expected_wall_s": _t(expected[1]),
        "reason": task.reason,
        "beside": task.beside,
        "outcome": seen.outcome.value,
        "submitted_s": _t(seen.submitted_s),
        "started_s": _t(seen.started_s),
        "finished_s": _t(seen.finished_s),
        "detail": seen.detail[:4000],
        "used": used,
        "verdict": verdict_name(seen, verdict),
        "verdict_reason": verdict.reason,
        "pieces": [piece.elements for piece in verdict.pieces] if isinstance(verdict, Split) else [],
        "skipped": [str(span) for span in seen.skipped],
        "skipped_elements": sum(map(len, seen.skipped)),
    }


def verdict_name(seen: Observation, verdict: Verdict) -> str:
    """`accept`, `retry`, `split`, `take back` or `give up`."""
    if seen.outcome is Outcome.CANCELLED:
        return "take back"
    if isinstance(verdict, Accept):
        return "accept"
    if isinstance(verdict, Retry):
        return "retry"
    return "split" if isinstance(verdict, Split) else "give up"


def _t(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _line(line: Line | None, risk: float, at: float) -> dict[str, float] | None:
    if line is None:
        return None
    return {
        "floor": line.floor,
        "intercept": line.intercept,
        "slope": line.slope,
        "sigma": line.sigma,
        "risk_factor": line.upper(max(at, 1.0), risk) / line.median(max(at, 1.0)),
        "n": line.n,
    }


@dataclass(frozen=True, slots=True)
class Session:
    """One session: its `run` line, when it began and stopped in seconds after the first one began, and its `end` line.

    Args:
        stopped_s: time of its last line; it may have gone on a little where it was killed.
        end: None where it was killed or still goes on.
    """

    run: Entry
    offset_s: float
    stopped_s: float
    end: Entry | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """All lines of a run by kind, their times on one axis that begins with the first session."""

    sessions: Sequence[Session] = ()
    tasks: Sequence[Entry] = ()
    shapes: Sequence[Entry] = ()
    beliefs: Sequence[Entry] = ()
    capacities: Sequence[Entry] = ()
    warnings: Sequence[str] = field(default_factory=tuple)
    stage_runs: Sequence[Entry] = ()

    @property
    def stages(self) -> Mapping[str, Entry]:
        """The stages with a dataset that is known, by name; of a run that went on also those known before."""
        return {row["name"]: row for session in self.sessions for row in session.run.get("stages", ())}

    @property
    def status(self) -> str:
        """Of the last session: `done`, `incomplete`, `interrupted`, `failed`, or `not finished` without an end line."""
        last = self.sessions[-1].end if self.sessions else None
        return "not finished" if last is None else str(last["status"])


_TIMES = ("at_s", "submitted_s", "started_s", "finished_s")
_BATCH = 1000
_BEGIN = b'{"kind":"run"'
# What a reader relies on: a task line without them is damaged.
_NEEDED = {"id", "stage", "group", "category", "work", "elements", "what", "worker", "cores", "memory_mib", "reason"}
_NEEDED |= {"submitted_s", "started_s", "finished_s", "outcome", "detail", "used", "verdict", "verdict_reason"}


def read(run_dir: Path) -> Records:
    """Read the records of a run.

    Raises:
        BadInput: there are none.
        Damaged: a line before the last cannot be read.
    """
    path = Path(run_dir) / NAME
    if not path.is_file():
        raise BadInput(f"{run_dir} has no {NAME}: it is no run directory, or its run has not begun")
    entries, faults = _entries(path)
    return collect(entries, faults)


def _entries(path: Path) -> tuple[list[Entry], list[str]]:
    entries: list[Entry] = []
    faults: list[str] = []
    with path.open("rb") as file:
        lines = file.readlines()
    for start in range(0, len(lines), _BATCH):
        batch = lines[start : start + _BATCH]
        try:
            # Many lines at once, because the parser shares equal keys within one call: a third of the memory.
            found = json.loads(b"[" + b",".join(batch) + b"]")
            if len(found) == len(batch) and all(map(_whole, found)):
                entries += found
                continue
        except ValueError:
            pass
        for number, line in enumerate(batch, start=start + 1):
            entries += _entry(path, number, line, number == len(lines), faults)
    return entries, faults


def _entry(path: Path, number: int, line: bytes, last: bool, faults: list[str]) -> list[Entry]:
    """Read one line; a killed session leaves a cut one, and the first of the next session may follow on it."""
    if not line.strip():
        return []
    try:
        entry = json.loads(line)
        if _whole(entry):
            return [entry]
        trouble = "it is no record"
    except ValueError as error:
        trouble = str(error)
    again = line.find(_BEGIN, 1)
    if again < 0 and not last:
        raise Damaged(f"{path}, line {number} cannot be read ({trouble}): remove it and try again")
    faults.append(f"line {number} of the records is cut off and was left out")
    warnings.warn(f"{path}: line {number} is cut off and is left out", stacklevel=5)
    return _entry(path, number, line[again:], last, faults) if again > 0 else []


def _whole(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("at_s"), int | float):
        return False
    return "kind" in entry and (entry["kind"] != "task" or entry.keys() >= _NEEDED)


def collect(entries: Sequence[Entry], faults: Sequence[str] = ()) -> Records:
    """Sort lines by kind and put the times of all sessions on one axis, none before the one before it stopped."""
    sessions: list[Session] = []
    by_kind: dict[str, list[Entry]] = {
        "task": [],
        "shape": [],
        "belief": [],
        "capacity": [],
        "end": [],
        "stage_run": [],
    }
    offset_s = stopped_s = 0.0
    for entry in entries:
        kind = entry["kind"]
        if kind == "run":
            if sessions:
                sessions[-1] = replace(sessions[-1], stopped_s=stopped_s)
                offset_s = max(stopped_s, entry.get("started_unix_s", 0.0) - sessions[0].run.get("started_unix_s", 0.0))
            stopped_s = offset_s
            sessions.append(Session(entry, offset_s, stopped_s))
            continue
        if offset_s:
            entry = shifted(entry, offset_s)
        stopped_s = max(stopped_s, entry["at_s"])
        if kind == "stage" and sessions:
            run = sessions[-1].run
            row = {key: value for key, value in entry.items() if key not in ("kind", "at_s", "already_done_elements")}
            sessions[-1] = replace(sessions[-1], run={**run, "stages": [*run["stages"], row]})
        if kind == "end" and sessions:
            sessions[-1] = replace(sessions[-1], end=entry)
        if kind in by_kind:
            by_kind[kind].append(entry)
    if sessions:
        sessions[-1] = replace(sessions[-1], stopped_s=stopped_s)
    return Records(
        sessions,
        by_kind["task"],
        by_kind["shape"],
        by_kind["belief"],
        by_kind["capacity"],
        tuple(faults),
        by_kind["stage_run"],
    )


def stage_row(plan: StagePlan) -> dict[str, Any]:
    """What is recorded of a stage."""
    elements = sum(source.elements or 0 for source in plan.sources)
    return {
        "name": plan.name,
        "category": plan.category,
        "after": list(plan.after),
        "elements": elements,
        "sources": len(plan.sources),
    }


def shifted(entry: Entry, by_s: float) -> Entry:
    """The same line, all its times later."""
    return {**entry, **{key: entry[key] + by_s for key in _TIMES if entry.get(key) is not None}}


def was(entry: Entry) -> Outcome:
    """The outcome of a task line."""
    return Outcome(entry["outcome"])


def learnt(run_dir: Path) -> Beliefs:
    """What a recorded run has shown, in the order in which it did; of a long one the last part.

    Raises:
        BadInput: there are no records.
    """
    return learnt_from(read(run_dir))


def learnt_from(recorded: Records) -> Beliefs:
    """The same, of records that were read."""
    beliefs = Beliefs()
    for entry in recorded.tasks[-_LEARNT_FROM:]:
        beliefs = beliefs.updated(observation(entry))
    for entry in recorded.stage_runs[-_RUNS_LEARNT_FROM:]:
        beliefs = beliefs.ran(StageRun(**{item.name: entry[item.name] for item in fields(StageRun)}))
    return beliefs


def observation(entry: Entry) -> Observation:
    """Return the attempt of a task line, to learn from or to simulate.

    Size, resources, use and times are as they were; of its spans and inputs only the number of elements and of
    results is known, so they are stand-ins of that size.
    """
    size = entry["elements"]
    work: Chunk | Merge
    if entry["work"] == "merge":
        count = int(entry["what"].split()[0])
        work = Merge(
            tuple(f"{entry['id']}/{n}" for n in range(count)), size, entry.get("input_bytes"), entry["category"]
        )
    else:
        work = Chunk((Span(Source(entry["what"], size, group=entry["group"]), 0, size),), category=entry["category"])
    given = Resources(entry["cores"], entry["memory_mib"], entry.get("disk_mib"), entry.get("wall_limit_s"))
    task = Task(
        entry["id"],
        entry["stage"],
        entry["group"],
        entry["category"],
        work,
        given,
        attempt=entry.get("attempt", 1),
        reason=entry["reason"],
        beside=entry.get("beside"),
    )
    used = entry["used"]
    known = {item.name for item in fields(Usage)}
    return Observation(
        task,
        was(entry),
        None if used is None else Usage(**{key: value for key, value in used.items() if key in known}),
        entry["submitted_s"],
        entry["started_s"],
        entry["finished_s"],
        entry["worker"],
        entry["detail"],
    )
