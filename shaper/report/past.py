"""A page about what the history knows of one category of a workflow: use against size, and how runs went."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from shaper.models.group import GroupBeliefs
from shaper.models.line import Line
from shaper.report.svg import BAD, COLOURS, Plot, axis
from shaper.units import show_count, show_mib, show_seconds

_RISK = 0.01
_POINTS = 60  # of a curve

Row = Mapping[str, Any]


def page(title: str, about: GroupBeliefs | None, observations: Sequence[Row], stage_runs: Sequence[Row]) -> str:
    """The page, one HTML file that needs nothing else.

    Args:
        about: what is believed; None where nothing is, or where it cannot be read.
    """
    memory, wall = (about.memory.line, about.wall.line) if about is not None else (None, None)
    parts = [
        _section("Memory against size", _against_size(observations, "memory_mib", "memory, MiB", memory)),
        _section("Time against size", _against_size(observations, "wall_s", "time a slot is held, s", wall)),
    ]
    if stage_runs:
        parts.append(_section("Chunksize by run", _by_run(stage_runs, "chunksize", "elements per task")))
        parts.append(_section("Time by run", _by_run(stage_runs, "wall_s", "s from its first task to its last")))
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><link rel='icon' href='data:,'><style>{style}</style></head><body><header>"
        f"<h1>{escape(title)}</h1><p class='sub'>{len(stage_runs)} stage runs and a sample of {len(observations)} "
        f"tasks are kept.</p></header><main><div class='plots'>{''.join(parts)}</div></main></body></html>"
    )


def _section(title: str, plot: Plot) -> str:
    return f"<section><h2>{escape(title)}</h2>{plot.render()}</section>"


def _against_size(rows: Sequence[Row], what: str, title: str, line: Line | None) -> Plot:
    """Attempts that finished and those that exceeded a limit, with the line that the next run would begin with."""
    known = [row for row in rows if row.get(what) and row["size"]]
    log = what == "wall_s"
    sizes, values = [row["size"] for row in known], [row[what] for row in known]
    plot = Plot(title, axis(sizes, "elements, or KiB of a merge", log=True), axis(values, title, log=log))
    if line is not None and sizes:
        # The whole axis: of one size alone there would be no line.
        low, high = plot.x.low, plot.x.high
        xs = [low * (high / low) ** (n / (_POINTS - 1)) for n in range(_POINTS)]
        plot.band([(x, line.median(x), line.upper(x, _RISK)) for x in xs], COLOURS[0])
        plot.line([(x, line.median(x)) for x in xs], COLOURS[0])
        plot.key("half of all tasks stay below", COLOURS[0], "line")
        plot.key("99 of 100 stay below", COLOURS[0], "band")
    done = [row for row in known if row["outcome"] == "done"]
    plot.points([(row["size"], row[what], _tip(row)) for row in done], COLOURS[2])
    plot.crosses([(row["size"], row[what], _tip(row)) for row in known if row["outcome"] != "done"])
    plot.key("finished", COLOURS[2])
    if len(done) < len(known):
        plot.key("exceeded a limit", BAD, "cross")
    return plot


def _tip(row: Row) -> str:
    about = f"{row['group_name']}\n" if row["group_name"] else ""
    used = f"{show_mib(row['memory_mib'])} of {show_mib(row['given_mib'])} in {show_seconds(row['wall_s'])}"
    return f"{about}{show_count(row['size'])} {'elements' if row['work'] == 'process' else 'KiB'}: {used}"


def _by_run(rows: Sequence[Row], what: str, title: str) -> Plot:
    plot = Plot(title, axis([len(rows)], "run"), axis([row[what] for row in rows], title, log=True))
    points = [(n, row[what], _run(row)) for n, row in enumerate(rows, start=1)]
    plot.line([(n, value) for n, value, _ in points], COLOURS[0])
    plot.points(points, COLOURS[0], radius=3.5)
    return plot


def _run(row: Row) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["at_unix_s"]))
    return (
        f"{when}, {row['engine']}, {row['status']}\n{show_count(row['elements'])} elements in {row['tasks']} tasks of "
        f"about {show_count(row['chunksize'])}, {row['s']} at once, {show_seconds(row['wall_s'])}"
    )
