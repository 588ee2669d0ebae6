"""The plots of a report, from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from shaper.records import Entry, Records
from shaper.report.svg import BAD, COLOURS, Plot, axis
from shaper.units import show_count, show_mib, show_seconds

POINTS = 3000  # of one plot; more tell no more and make the page heavy


def thinned(rows: Sequence[Any]) -> Sequence[Any]:
    """At most `POINTS` rows, evenly chosen."""
    step = -(-len(rows) // POINTS)
    return rows[::step] if step > 1 else rows


def groups_of(tasks: Sequence[Entry]) -> list[str]:
    """Groups by number of tasks; beyond the palette they share its last colour."""
    counts: dict[str, int] = defaultdict(int)
    for task in tasks:
        counts[task["group"]] += 1
    return sorted(counts, key=lambda name: -counts[name])


def _colours(names: Sequence[str]) -> Mapping[str, str]:
    return {name: COLOURS[min(n, len(COLOURS) - 1)] for n, name in enumerate(names)}


def _keys(plot: Plot, colours: Mapping[str, str], shape: str = "dot") -> None:
    for name, colour in list(colours.items())[: len(COLOURS) - 1]:
        plot.key(name or "all", colour, shape)
    if len(colours) >= len(COLOURS):
        plot.key(f"{len(colours) - len(COLOURS) + 1} others", COLOURS[-1], shape)


def _tip(task: Entry) -> str:
    used = task["used"] or {}
    return (
        f"{task['id']} {task['what']}\n{task['elements']} elements, {task['outcome']}, "
        f"{show_seconds(used.get('wall_s'))}, used {show_mib(used.get('memory_mib'))} of {show_mib(task['memory_mib'])}"
    )


def processing(records: Records) -> list[Entry]:
    """The lines of processing tasks."""
    return [task for task in records.tasks if task["work"] == "process"]


def _size(value: float) -> str:
    return show_count(value)


def chunksizes(records: Records) -> Plot:
    """Chunksize of every task over time; crosses where one was split."""
    tasks = processing(records)
    started = [t for t in tasks if t["started_s"] is not None]
    plot = Plot(
        "chunksize over time",
        axis([t["finished_s"] for t in tasks], "time, s"),
        axis([t["elements"] for t in tasks], "elements per task", log=True, show=_size),
    )
    colours = _colours(groups_of(tasks))
    for group, colour in colours.items():
        mine = [t for t in started if t["group"] == group]
        plot.points([(t["started_s"], t["elements"], f"{_tip(t)}\n{t['reason']}") for t in thinned(mine)], colour)
    splits = [t for t in tasks if t["verdict"] == "split"]
    plot.crosses([(t["finished_s"], t["elements"], f"{_tip(t)}\n{t['verdict_reason']}") for t in thinned(splits)])
    _keys(plot, colours)
    if splits:
        plot.key("split", BAD, "cross")
    return plot


def against_size(records: Records, what: str, category: str) -> Plot:
    """Memory (`memory_mib`) or time a slot is held (`wall_s`) against size, with the last fit and its risk band."""
    memory = what == "memory_mib"
    tasks = [{**t, "y": _y(t, memory)} for t in records.tasks if t["category"] == category and _y(t, memory)]
    done = [t for t in tasks if t["outcome"] == "done"]
    bad = [t for t in tasks if t["outcome"] == ("out of memory" if memory else "out of time")]
    sizes = [t["elements"] for t in tasks]
    plot = Plot(
        f"{'memory' if memory else 'time'} against size, {category}",
        axis(sizes, "elements per task", log=True, show=_size),
        axis([1.1 * t["y"] for t in tasks], "memory, MiB" if memory else "time a slot is held, s", log=not memory),
    )
    colours = _colours(groups_of(tasks))
    for group, colour in colours.items():
        mine = [t for t in done if t["group"] == group]
        plot.points([(t["elements"], t["y"], _tip(t)) for t in thinned(mine)], colour)
        belief = _last_belief(records, category, group)
        line = (belief or {}).get("memory" if memory else "wall")
        if line and len(colours) <= 4 and sizes:
            _fit(plot, line, [t["elements"] for t in mine], colour)
    plot.crosses([(t["elements"], t["y"], _tip(t)) for t in thinned(bad)])
    _keys(plot, colours)
    if bad:
        plot.key("over its limit", BAD, "cross")
    if len(colours) <= 4:
        plot.key("fit, and the allocation at the stated risk", COLOURS[0], "band")
    return plot


def _y(task: Entry, memory: bool) -> float | None:
    if memory:
        return (task["used"] or {}).get("memory_mib")
    return task["finished_s"] - task["started_s"] if task["started_s"] is not None else None


def _fit(plot: Plot, line: Mapping[str, float], sizes: Sequence[int], colour: str) -> None:
    if not sizes:
        return
    low, high = max(1, min(sizes)), max(sizes) * 1.2
    xs = [low * (high / low) ** (n / 60) for n in range(61)]
    middle = [(x, max(line["floor"], line["intercept"] + line["slope"] * x)) for x in xs]
    plot.band([(x, y, y * line["risk_factor"]) for x, y in middle], colour)
    plot.line(middle, colour)


def _last_belief(records: Records, category: str, group: str) -> Entry | None:
    for name in (group, ""):
        for entry in reversed(records.beliefs):
            if entry["category"] == category and entry["group"] == name:
                return entry
    return None


def allocation(records: Records) -> Plot:
    """What tasks were given against what they used; on the diagonal nothing is wasted."""
    tasks = [t for t in records.tasks if t["used"] and t["used"].get("memory_mib")]
    values = [t["memory_mib"] for t in tasks] + [t["used"]["memory_mib"] for t in tasks]
    both = axis(values, "given, MiB", log=True, show=_size), axis(values, "used, MiB", log=True, show=_size)
    plot = Plot("memory given against memory used", *both)
    plot.line([(both[0].low, both[0].low), (both[0].high, both[0].high)], "currentColor", dashed=True)
    colours = _colours(sorted({t["category"] for t in tasks}))
    for category, colour in colours.items():
        mine = [t for t in tasks if t["category"] == category and t["outcome"] != "out of memory"]
        plot.points([(t["memory_mib"], t["used"]["memory_mib"], _tip(t)) for t in thinned(mine)], colour)
    bad = [t for t in tasks if t["outcome"] == "out of memory"]
    plot.crosses([(t["memory_mib"], t["used"]["memory_mib"], _tip(t)) for t in thinned(bad)])
    _keys(plot, colours)
    if bad:
        plot.key("over its limit", BAD, "cross")
    plot.key("used = given", "currentColor", "line")
    return plot


def running(records: Records) -> Plot:
    """How many tasks of each category ran, over time."""
    changes: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for task in records.tasks:
        if task["started_s"] is not None:
            changes[task["category"]] += [(task["started_s"], 1), (task["finished_s"], -1)]
    curves = {}
    for category, steps in changes.items():
        count, rows = 0, [(0.0, 0.0)]
        for at, change in sorted(steps):
            count += change
            rows.append((at, float(count)))
        curves[category] = rows
    every = [row for rows in curves.values() for row in rows]
    plot = Plot("tasks running", axis([x for x, _ in every], "time, s"), axis([y for _, y in every], "tasks running"))
    colours = _colours(sorted(curves))
    for category, colour in colours.items():
        plot.line(thinned(curves[category]), colour, steps=True)
    _keys(plot, colours, "line")
    return plot


def slots(records: Records) -> Plot:
    """Every task as a bar on its slot."""
    tasks = [t for t in records.tasks if t["started_s"] is not None]
    names = sorted({t["worker"] for t in tasks}, key=lambda name: (len(name), name))[:64]
    rows = {name: n for n, name in enumerate(reversed(names))}
    height = 70 + 22 * max(1, len(names))
    scale = axis(
        [len(names) - 0.5],
        "slot",
        show=lambda v: names[len(names) - 1 - int(v)] if v == int(v) and v < len(names) else "",
    )
    plot = Plot("timeline", axis([t["finished_s"] for t in tasks], "time, s"), scale, height=height)
    colours = _colours(sorted({t["category"] for t in tasks}))
    for task in thinned(tasks):
        if task["worker"] in rows:
            colour = colours[task["category"]] if task["outcome"] == "done" else BAD
            plot.bar(task["started_s"], task["finished_s"], rows[task["worker"]] + 0.25, 12, colour, _tip(task))
    _keys(plot, colours)
    if any(t["outcome"] != "done" for t in tasks):
        plot.key("came to nothing", BAD)
    return plot
