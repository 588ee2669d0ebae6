"""The plots of a report, from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shaper.dataset import counted
from shaper.records import Entry, Records
from shaper.report.figures import lanes, natural
from shaper.report.svg import BAD, COLOURS, WIDE, Axis, Frame, Plot, axis
from shaper.units import show_count, show_mib, show_seconds

POINTS = 3000  # of one plot; more tell no more and make the page heavy
_MARKS = 500  # crosses of one plot
_BINS = 600  # of a curve that has more steps than points
LANES = 48  # of the timeline
_FITS = 4  # more lines with bands than these cannot be told apart


def thinned(rows: Sequence[Any], most: int = POINTS) -> Sequence[Any]:
    """At most `most` rows: one of each stretch, not always its first, or what alternates would look all alike."""
    step = -(-len(rows) // most)
    if step < 2:
        return rows
    return [rows[min(start + start * 7919 // step % step, len(rows) - 1)] for start in range(0, len(rows), step)]


def by(tasks: Iterable[Entry], key: str) -> dict[str, list[Entry]]:
    """Tasks by one of their words, the most frequent first."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for task in tasks:
        found[task[key]].append(task)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _colours(names: Iterable[str]) -> dict[str, str]:
    return {name: COLOURS[min(n, len(COLOURS) - 1)] for n, name in enumerate(names)}


def category_colours(records: Records) -> Mapping[str, str]:
    """A colour for each category, the same in every plot."""
    first = by(processing(records), "category")  # stages are told apart before their merges are
    stages = [name for name in first if counted(name) is None]
    return _colours(dict.fromkeys([*stages, *by(records.tasks, "category")]))


def group_colours(records: Records) -> dict[str, str]:
    """A colour for each group, the same in every plot."""
    return _colours(by(processing(records), "group"))


def _count(value: float) -> str:
    """A round number at a tick."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):g}{suffix}"
    return f"{value:g}"


def _keys(plot: Plot, colours: Mapping[str, str], shape: str = "dot") -> None:
    """Name the colours; what has no colour of its own shares the last one."""
    own = len(COLOURS) if len(colours) <= len(COLOURS) else len(COLOURS) - 1
    for name, colour in list(colours.items())[:own]:
        plot.key(name or "tasks", colour, shape)
    if len(colours) > own:
        plot.key(f"{len(colours) - own} others", COLOURS[-1], shape)


def _tip(task: Entry) -> str:
    used = task["used"] or {}
    expected = task.get("expected_memory_mib")
    parts = [
        f"{task['id']}  {task['what']}",
        f"{show_count(task['elements'])} elements, {task['outcome']} in {show_seconds(used.get('wall_s'))}",
        f"memory {show_mib(used.get('memory_mib'))} of {show_mib(task['memory_mib'])} given"
        + (f", {show_mib(expected)} expected" if expected else ""),
    ]
    return "\n".join(parts)


def processing(records: Records) -> list[Entry]:
    """The lines of processing tasks."""
    return [task for task in records.tasks if task["work"] == "process"]


def _time_axis(records: Records, title: str = "time") -> Axis:
    scale = axis([session.stopped_s for session in records.sessions] or [1.0], title)
    unit, name = (1.0, "s") if scale.high < 300 else (60.0, "min") if scale.high < 3 * 3600 else (3600.0, "h")
    return replace(scale, title=f"{title}, {name}", unit=unit)


def _mib_axis(values: Iterable[float], title: str, *, log: bool) -> Axis:
    scale = axis(values, title, log=log)
    unit, name = (1024.0, "GiB") if scale.high > 4096 else (1.0, "MiB")
    return replace(scale, title=f"{title}, {name}", unit=unit)


def _sessions(plot: Plot, records: Records) -> None:
    for number, session in enumerate(records.sessions[1:20], start=2):
        plot.upright(session.offset_s, f"session {number}")


def chunksizes(records: Records) -> Plot:
    """Chunksize of every task over time; crosses where one was split."""
    started = [t for t in processing(records) if t["started_s"] is not None]
    plot = Plot(
        "chunksize over time",
        _time_axis(records),
        axis([t["elements"] for t in started], "elements per task", log=True, show=_count),
    )
    # Of several stages without groups each has its colour.
    grouped = any(t["group"] for t in started) or len(by(started, "category")) < 2
    shown = by(started, "category")
    named = {name: colour for name, colour in category_colours(records).items() if name in shown}
    colours = group_colours(records) if grouped else named
    for key, mine in by(thinned(started), "group" if grouped else "category").items():
        plot.points([(t["started_s"], t["elements"], f"{_tip(t)}\n{t['reason']}") for t in mine], colours[key])
    splits = [t for t in started if t["verdict"] == "split"]
    crossed = thinned(splits, _MARKS)
    plot.crosses([(t["finished_s"], t["elements"], f"{_tip(t)}\n{t['verdict_reason']}") for t in crossed])
    _sessions(plot, records)
    _keys(plot, colours)
    if splits:
        plot.key("split", BAD, "cross")
    return plot


def against_size(records: Records, what: str, category: str) -> Plot:
    """Memory (`memory_mib`) or time a slot is held (`wall_s`) against size, with the last fit and its risk band.

    The size of a merge is that of its inputs.
    """
    memory = what == "memory_mib"
    tasks: list[Entry] = [
        {**t, "x": x, "y": y}
        for t in records.tasks
        if t["category"] == category and (x := _x(t)) and (y := _y(t, memory)) and y > 0
    ]
    done = [t for t in tasks if t["outcome"] == "done"]
    bad = [t for t in tasks if t["outcome"] == ("out of memory" if memory else "out of time")]
    tasks = done + bad
    ys = [1.25 * t["y"] for t in tasks]
    plot = Plot(
        f"{'memory' if memory else 'time'} against size, {category}",
        _x_axis(tasks),
        _mib_axis(ys, "memory", log=False) if memory else axis(ys, "time a slot is held, s", log=True),
    )
    groups = by(done, "group")
    named = group_colours(records)
    colours = {group: named.get(group, COLOURS[0]) for group in groups}
    for group, mine in by(thinned(done), "group").items():
        plot.points([(t["x"], t["y"], _tip(t)) for t in mine], colours[group])
    fitted = 0
    for group, mine in groups.items() if len(groups) <= _FITS else [("", done)]:
        belief = _last_belief(records, category, group)
        line = (belief or {}).get("memory" if memory else "wall")
        if line and mine:
            fitted += 1
            _fit(plot, line, [t["x"] for t in mine], colours[group] if len(groups) <= _FITS else "currentColor")
    plot.crosses([(t["x"], t["y"], _tip(t)) for t in thinned(bad, _MARKS)])
    _keys(plot, colours)
    if bad:
        plot.key("over its limit", BAD, "cross")
    if fitted:
        plot.key("last fit, and up to the stated risk", COLOURS[0], "band")
    return plot


def _x(task: Entry) -> float | None:
    """Elements, or KiB of input of a merge: what beliefs take as its size."""
    if task["work"] == "process":
        return float(task["elements"])
    given = task.get("input_bytes")
    return given / 1024 if given else None


def _x_axis(tasks: Sequence[Entry]) -> Axis:
    sizes = [t["x"] for t in tasks]
    if any(t["work"] == "process" for t in tasks):
        return axis(sizes, "elements per task", log=True, show=_count)
    return replace(axis(sizes, "input of a merge, MiB", log=True), unit=1024.0)


def _y(task: Entry, memory: bool) -> float | None:
    if memory:
        return (task["used"] or {}).get("memory_mib")
    return task["finished_s"] - task["started_s"] if task["started_s"] is not None else None


def _fit(plot: Plot, line: Mapping[str, float], sizes: Sequence[float], colour: str) -> None:
    low, high = max(1.0, min(sizes)), max(1.0, max(sizes)) * 1.2
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


def against_use(records: Records, key: str, name: str) -> Plot:
    """Memory that was given (`memory_mib`) or expected (`expected_memory_mib`) against what was used."""
    tasks = [t for t in records.tasks if t.get(key) and (t["used"] or {}).get("memory_mib")]
    values = [t[key] for t in tasks] + [t["used"]["memory_mib"] for t in tasks]
    x, y = _mib_axis(values, name, log=True), _mib_axis(values, "used", log=True)
    plot = Plot(f"memory {name} against memory used", x, y)
    plot.line([(x.low, x.low), (x.high, x.high)], "currentColor", dashed=True)
    colours = category_colours(records)
    bad = [t for t in tasks if t["outcome"] == "out of memory"]
    fine = [t for t in tasks if t["outcome"] != "out of memory"]
    for category, mine in by(thinned(fine), "category").items():
        plot.points([(t[key], t["used"]["memory_mib"], _tip(t)) for t in mine], colours[category])
    plot.crosses([(t[key], t["used"]["memory_mib"], _tip(t)) for t in thinned(bad, _MARKS)])
    _keys(plot, colours)
    if bad:
        plot.key("over its limit", BAD, "cross")
    plot.key(f"used = {name}", "currentColor", "line")
    return plot


def running(records: Records) -> Plot:
    """How many tasks of each category ran, over time."""
    changes: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for task in records.tasks:
        if task["started_s"] is not None:
            changes[task["category"]] += [(task["started_s"], 1), (task["finished_s"], -1)]
    x = _time_axis(records)
    curves = {category: _counted(steps, x.high) for category, steps in changes.items()}
    highest = [y for rows in curves.values() for _, y in rows]
    plot = Plot("tasks running", x, replace(axis(highest, "tasks running"), whole=True))
    colours = category_colours(records)
    for category, rows in curves.items():
        plot.line(rows, colours[category], steps=True)
    _sessions(plot, records)
    _keys(plot, {name: colour for name, colour in colours.items() if name in curves}, "line")
    return plot


def _counted(changes: Sequence[tuple[float, int]], until: float) -> list[tuple[float, float]]:
    """The number that runs after each change; its average over short bins where there are very many changes."""
    count, rows = 0, [(0.0, 0.0)]
    for at, change in sorted(changes):
        count += change
        rows.append((at, float(count)))
    if len(rows) <= POINTS:
        return rows
    width = until / _BINS
    sums = [0.0] * (_BINS + 1)
    for (at, value), (end, _) in zip(rows, [*rows[1:], rows[-1]], strict=True):
        while at < end:
            number = min(_BINS, int(at / width))
            stop = end if number == _BINS else min(end, (number + 1) * width)
            if stop <= at:  # rounding put it on the edge
                number, stop = number + 1, min(end, (number + 2) * width)
            sums[min(number, _BINS)] += value * (stop - at)
            at = stop
    return [(n * width, total / width) for n, total in enumerate(sums)]


def slots(records: Records) -> tuple[Plot, int]:
    """Every task as a bar in a lane of its worker; also returns how many lanes were left out."""
    placed = lanes(records.tasks)
    every = sorted({lane for _, lane in placed}, key=natural)
    names = every[:LANES]
    row = {name: len(names) - 1 - n for n, name in enumerate(names)}
    labels = {float(at): name if len(name) <= 22 else f"…{name[-21:]}" for name, at in row.items()}
    y = Axis(-0.5, max(0.5, len(names) - 0.5), "", show=lambda at: labels.get(at, ""), fixed=tuple(labels))
    left = 24 + round(6.2 * max(map(len, labels.values()), default=4))
    plot = Plot("timeline", _time_axis(records), y, Frame(WIDE, 70 + 16 * max(2, len(names)), left))
    colours = category_colours(records)
    shown = [(t, lane) for t, lane in placed if lane in row]
    for start, stop, lane, task, count in _joined(shown, plot.x.high / WIDE):
        colour = colours[task["category"]] if task["outcome"] == "done" else BAD
        tip = _tip(task) if count == 1 else f"{count} tasks, among them\n{_tip(task)}"
        plot.bar(start, stop, row[lane], 11, colour, tip)
    _sessions(plot, records)
    _keys(plot, colours)
    if any(t["outcome"] != "done" for t, _ in shown):
        plot.key("came to nothing", BAD)
    return plot, len(every) - len(names)


Bar = tuple[float, float, str, Entry, int]  # from, to, lane, one of its tasks, how many


def _joined(placed: Sequence[tuple[Entry, str]], pixel_s: float) -> list[Bar]:
    """Bars of the timeline; where they are too many, neighbours of one kind become one, the closest first."""
    bars: list[Bar] = [(t["started_s"], t["finished_s"], lane, t, 1) for t, lane in placed]
    gap_s = pixel_s / 4
    while len(bars) > POINTS and gap_s < 64 * pixel_s:
        last: dict[str, int] = {}
        merged: list[Bar] = []
        for bar in bars:
            start, stop, lane, task, count = bar
            at = last.get(lane)
            if at is not None:
                from_s, to_s, _, other, others = merged[at]
                alike = (other["category"], other["outcome"]) == (task["category"], task["outcome"])
                if alike and start - to_s <= gap_s:
                    merged[at] = (from_s, max(to_s, stop), lane, other, others + count)
                    continue
            last[lane] = len(merged)
            merged.append(bar)
        bars, gap_s = merged, 2 * gap_s
    return bars
