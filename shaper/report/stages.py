"""How the stages of a run stand, where there are several: while it goes on, and from its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from shaper.dataset import counted, counting
from shaper.ledger import StagePlan
from shaper.records import Entry, Records
from shaper.report.figures import held_core_s, left_out
from shaper.report.plots import category_colours
from shaper.types import Backlog
from shaper.units import show_count, show_seconds

_SAID = {"done": "is done", "failed": "has failed", "not begun": "is not begun: what it waits for has failed"}


class Stages:
    """How far each stage is, for whoever watches a run.

    Args:
        after: by stage, those that it waits for.
        plans: the stages with a dataset that is known already.
    """

    def __init__(self, after: Mapping[str, Sequence[str]], plans: Iterable[StagePlan]) -> None:
        self._after = after
        self._elements: dict[str, int] = {}
        self._done = dict.fromkeys(after, 0)
        self._failed: set[str] = set()
        self._open: set[str] = set(after)
        self._told: dict[str, str] = {}
        for plan in plans:
            self.added(plan, sum(result.elements for result in plan.done))

    def added(self, plan: StagePlan, done_elements: int) -> None:
        """The dataset of a stage is known."""
        self._elements[plan.name] = sum(source.elements or 0 for source in plan.sources)
        self._done[plan.name] = done_elements

    def settled(self, stage: str, elements: int, *, failed: bool = False) -> None:
        """So many elements have a result, or never will."""
        self._done[stage] = self._done.get(stage, 0) + elements
        if failed:
            self._failed.add(counted(stage) or stage)

    def news(self, backlog: Backlog) -> list[str]:
        """One line for each stage that began or ended since the last call."""
        self._open = {row.stage for row in backlog.stages}
        self._open |= {name for name in self._after if name not in self._elements and name not in self._failed}
        lines = []
        for name in self._after:
            state = self._state(name)
            kind = "begun" if state.endswith("%") else state
            if kind == self._told.get(name, "waits"):
                continue
            self._told[name] = kind
            if kind == "begun":
                lines.append(f"stage {name!r} begins: {show_count(self._elements[name])} elements")
            elif kind in _SAID:
                lines.append(f"stage {name!r} {_SAID[kind]}")
        return lines

    def _state(self, name: str) -> str:
        """`waits`, `counted`, how much of it is processed, `done`, `failed` or `not begun`."""
        blocked = any(self._state(parent) in ("failed", "not begun") for parent in self._after[name])
        if blocked:
            return "not begun"
        if name not in self._open:
            return "failed" if name in self._failed else "done"
        if any(parent in self._open for parent in self._after[name]):
            return "waits"
        if name not in self._elements:
            return "counted" if counting(name) in self._open else "waits"
        return f"{self._done[name] / max(1, self._elements[name]):.0%}"

    def __str__(self) -> str:
        return ", ".join(f"{name} {self._state(name)}" for name in self._after)


@dataclass(frozen=True, slots=True)
class Row:
    """What a run's records say of a stage; times in seconds since it began, None where nothing of it ran."""

    name: str
    category: str
    after: tuple[str, ...]
    elements: int | None
    tasks: int
    first_s: float | None
    last_s: float | None
    core_s: float
    status: str


def rows(records: Records) -> list[Row]:
    """The stages of the user, in order."""
    run = records.sessions[-1].run if records.sessions else {}
    graph = run.get("graph", run.get("stages", ()))  # older records have no graph
    tasks: dict[str, list[Entry]] = {}
    for task in records.tasks:
        tasks.setdefault(task["stage"], []).append(task)
    missing = left_out(records, "missing")
    found = []
    for entry in graph:
        name = entry["name"]
        row = records.stages.get(name, entry)
        mine = tasks.get(name, [])
        started = [t for t in mine if t["started_s"] is not None]
        found.append(
            Row(
                name,
                row.get("category", name),
                tuple(entry.get("after", ())),
                row.get("elements"),
                len(mine),
                min((t["started_s"] for t in started), default=None),
                max((t["finished_s"] for t in started), default=None),
                sum(map(held_core_s, mine)),
                _status(name, row.get("elements"), mine, missing),
            )
        )
    return found


def _status(name: str, elements: int | None, tasks: Sequence[Entry], missing: Sequence[str]) -> str:
    lines = [line for line in missing if line.startswith(f"stage {name!r}: ")]
    if any(line.startswith(f"stage {name!r}: not begun") for line in lines):
        return "not begun"
    if lines:
        return "incomplete"
    accepted = [t for t in tasks if t["verdict"] == "accept" and t["work"] == "process"]
    done = sum(t["elements"] for t in accepted)
    if elements is not None and done >= elements:
        return "done"
    return f"{done / elements:.0%}" if elements and tasks else "not begun"


def table(records: Records) -> str:
    """The stages as a table of the report, with when each of them ran; nothing for a run with one stage."""
    found = rows(records)
    if len(found) < 2:
        return ""
    end_s = max((session.stopped_s for session in records.sessions), default=0.0) or 1.0
    colours = category_colours(records)
    numbers = "".join(
        f"<th scope='col' class='n'>{text}</th>" for text in ("elements", "tasks", "core time", "from", "to")
    )
    head = f"<th scope='col'>stage</th><th scope='col'>waits for</th>{numbers}<th scope='col'>when</th><th></th>"
    body = "".join(_row(row, end_s, colours.get(row.category, "var(--c6)")) for row in found)
    return (
        "<section><h2>Stages</h2><div class='scroll' tabindex='0' role='region' aria-label='stages'>"
        f"<table class='stages'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _row(row: Row, end_s: float, colour: str) -> str:
    bar = ""
    if row.first_s is not None and row.last_s is not None:
        left, width = 100 * row.first_s / end_s, 100 * (row.last_s - row.first_s) / end_s
        bar = f"<div style='margin-left:{left:.1f}%;width:{min(width, 100 - left):.1f}%;background:{colour}'></div>"
    status = escape(row.status) if row.status == "done" else f"<span class='bad'>{escape(row.status)}</span>"
    numbers = (
        show_count(row.elements) if row.elements is not None else "",
        f"{row.tasks:,}",
        show_seconds(row.core_s) if row.tasks else "",
        show_seconds(row.first_s) if row.first_s is not None else "",
        show_seconds(row.last_s) if row.last_s is not None else "",
    )
    cells = "".join(f"<td class='n'>{text}</td>" for text in numbers)
    after = escape(", ".join(row.after))
    return f"<tr><td>{escape(row.name)}</td><td>{after}</td>{cells}<td class='when'>{bar}</td><td>{status}</td></tr>"
