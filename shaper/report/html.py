"""The report of a run: one HTML file that needs nothing else, made from the records alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from shaper.records import Entry, Records, read
from shaper.report import plots
from shaper.report.timeline import write_timeline
from shaper.units import show_count, show_mib, show_seconds

_ROWS = 400  # of the table of decisions
_TROUBLES = 100
_UNKNOWN: Entry = {"name": "run", "engine": "unknown", "policy": "unknown", "stages": [], "started_unix_s": 0}


def make_report(run_dir: str | Path) -> Path:
    """Write `report.html` and `timeline.json` into a run directory; return the path of the page.

    Raises:
        BadInput: the directory has no records.
    """
    run_dir = Path(run_dir)
    records = read(run_dir)
    path = run_dir / "report.html"
    path.write_text(page(records))
    write_timeline(records, run_dir / "timeline.json")
    return path


def page(records: Records) -> str:
    """The whole page."""
    run = records.sessions[0].run if records.sessions else _UNKNOWN
    name = str(run["name"])
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(run["started_unix_s"])))
    head = f"{run['policy']} policy on the {run['engine']} engine, begun {began}"
    if len(records.sessions) > 1:
        head += f", {len(records.sessions)} sessions"
    body = [
        f"<h1>{escape(name)}: {_status(records)}</h1><p class='sub'>{escape(head)}</p>",
        _figures(records),
        _message(records),
        f"<div class='plots'>{''.join(_plots(records))}</div><br>",
        _waste(records),
        _troubles(records),
        _decisions(records),
        _left_out(records),
    ]
    style, script = (Path(__file__).with_name(f"report.{ending}").read_text() for ending in ("css", "js"))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(name)}</title><link rel='icon' href='data:,'><style>{style}</style></head>"
        f"<body>{''.join(body)}<script>{script}</script></body></html>"
    )


def _status(records: Records) -> str:
    status = records.status
    return status if status == "done" else f"<span class='bad'>{escape(status)}</span>"


def _message(records: Records) -> str:
    end = records.sessions[-1].end if records.sessions else None
    text = "\n".join([*(records.warnings), *([str(end["message"])] if end and end.get("message") else [])])
    return f"<section><pre class='bad'>{escape(text)}</pre></section>" if text else ""


def _figures(records: Records) -> str:
    tasks = records.tasks
    last = max((t["finished_s"] for t in tasks), default=0.0)
    done = sum(t["elements"] for t in tasks if t["work"] == "process" and t["verdict"] == "accept")
    total = sum(stage["elements"] for stage in records.sessions[0].run["stages"]) if records.sessions else done
    costs = costs_core_s(records)
    offered = sum(costs.values()) or 1.0
    peak = max((t["used"]["memory_mib"] for t in tasks if t["used"] and t["used"]["memory_mib"]), default=None)
    rows = [
        (f"{show_count(done)} of {show_count(total)}", "elements"),
        (show_seconds(last), "from first to last"),
        (f"{show_count(done / last)}/s" if last else "-", "elements per second"),
        (str(len(tasks)), f"tasks, {sum(t['work'] == 'merge' for t in tasks)} of them merges"),
        (str(sum(t["verdict"] == "split" for t in tasks)), "split"),
        (str(sum(t["verdict"] == "retry" for t in tasks)), "run again"),
        (show_mib(peak), "largest memory of a task"),
        (f"{costs['useful'] / offered:.0%}", "of core time was useful"),
    ]
    return (
        "<div class='figures'>"
        + "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in rows)
        + "</div>"
    )


def costs_core_s(records: Records) -> dict[str, float]:
    """Core-seconds by what became of them; idle is what the connected workers offered and no task held."""
    costs = dict.fromkeys(("useful", "overhead", "over a limit", "failed", "lost or taken back", "idle"), 0.0)
    held_total = 0.0
    for task in records.tasks:
        if task["started_s"] is None:
            continue
        held = (task["finished_s"] - task["started_s"]) * task["cores"]
        held_total += held
        outcome = task["outcome"]
        if outcome == "done":
            overhead = min(held, ((task["used"] or {}).get("overhead_s") or 0.0) * task["cores"])
            costs["useful"] += held - overhead
            costs["overhead"] += overhead
        elif outcome.startswith("out of"):
            costs["over a limit"] += held
        elif outcome == "failed":
            costs["failed"] += held
        else:
            costs["lost or taken back"] += held
    costs["idle"] = max(0.0, _offered_core_s(records) - held_total)
    return costs


def _offered_core_s(records: Records) -> float:
    last = max((t["finished_s"] for t in records.tasks), default=0.0)
    offered = 0.0
    changes = list(records.capacities)
    for number, entry in enumerate(changes):
        # Between sessions nothing is offered: a session's last entry ends with the session's last task.
        until = changes[number + 1]["at_s"] if number + 1 < len(changes) else last
        ends = [t["finished_s"] for t in records.tasks if entry["at_s"] <= t["finished_s"] <= until]
        until = min(until, max(ends, default=until))
        cores = sum(kind["cores"] * kind["count"] for kind in entry["kinds"])
        offered += cores * max(0.0, until - entry["at_s"])
    return offered


def _plots(records: Records) -> Iterable[str]:
    if not records.tasks:
        yield "<section><p>No task has ended yet.</p></section>"
        return
    yield _section("Chunksize over time", plots.chunksizes(records).render())
    yield _section("Tasks running", plots.running(records).render())
    categories = sorted({t["category"] for t in plots.processing(records)})
    for category in categories[:6]:
        yield _section(f"Memory against size: {category}", plots.against_size(records, "memory_mib", category).render())
        yield _section(f"Time against size: {category}", plots.against_size(records, "wall_s", category).render())
    yield _section("Memory given against memory used", plots.allocation(records).render())
    yield _section("Timeline", plots.slots(records).render())
    if len(records.tasks) > plots.POINTS:
        yield f"<p class='note'>Plots show at most {plots.POINTS} of {len(records.tasks)} tasks each.</p>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _waste(records: Records) -> str:
    costs = costs_core_s(records)
    total = sum(costs.values())
    if not total:
        return ""
    colours = ("#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#E69F00", "#99a2ad")
    bars = "".join(
        f"<div style='width:{100 * value / total:.2f}%;background:{colour}' title='{escape(name)}'></div>"
        for (name, value), colour in zip(costs.items(), colours, strict=True)
    )
    rows = "".join(
        f"<tr><td><span style='color:{colour}'>&#9632;</span> {escape(name)}</td><td class='n'>{value:.1f}</td>"
        f"<td class='n'>{value / total:.1%}</td></tr>"
        for (name, value), colour in zip(costs.items(), colours, strict=True)
    )
    head = "<tr><th>core time</th><th class='n'>core-seconds</th><th class='n'>share</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return _section(
        "Where the core time went", f"<div class='share' role='img' aria-label='core time'>{bars}</div>{table}"
    )


def _troubles(records: Records) -> str:
    troubled = [t for t in records.tasks if t["outcome"] not in ("done", "taken back")]
    if not troubled:
        return ""
    rows = "".join(
        f"<tr><td class='n'>{t['finished_s']:.2f}</td><td>{escape(t['id'])}</td><td>{escape(t['what'])}</td>"
        f"<td>{escape(t['outcome'])}</td><td><pre>{escape(t['detail'][:1500])}</pre></td>"
        f"<td>{escape(t['verdict'])}: {escape(_first(t['verdict_reason']))}</td></tr>"
        for t in troubled[:_TROUBLES]
    )
    note = _more(len(troubled) - _TROUBLES)
    head = "<tr><th class='n'>s</th><th>task</th><th>what</th><th>outcome</th><th>detail</th><th>verdict</th></tr>"
    return _section(
        "What went wrong", f"<div class='scroll'><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _decisions(records: Records) -> str:
    lines: list[tuple[float, str, str, str]] = [
        (
            entry["at_s"],
            f"{entry['stage']} {entry['group']}".strip(),
            f"{entry['fan_in']} results" if entry.get("fan_in") else f"{show_count(entry['elements'])} elements",
            entry["reason"],
        )
        for entry in records.shapes
    ]
    lines += [(t["finished_s"], f"task {t['id']}", t["verdict"], t["verdict_reason"]) for t in _judged(records.tasks)]
    lines.sort(key=lambda row: row[0])
    if not lines:
        return ""
    kept = lines[: _ROWS // 2] + lines[-_ROWS // 2 :] if len(lines) > _ROWS else lines
    rows = "".join(
        f"<tr><td class='n'>{at:.2f}</td><td>{escape(where)}</td><td>{escape(what)}</td>"
        f"<td>{escape(_first(why))}</td></tr>"
        for at, where, what, why in kept
    )
    head = "<tr><th class='n'>s</th><th>for</th><th>decision</th><th>why</th></tr>"
    search = "<input id='filter' type='search' placeholder='filter' aria-label='filter the decisions'>"
    table = f"<div class='scroll'><table id='decisions'><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    return _section("Decisions", f"{search}{table}{_more(len(lines) - len(kept))}")


def _judged(tasks: Sequence[Entry]) -> list[Entry]:
    return [t for t in tasks if t["verdict"] != "accept"]


def _left_out(records: Records) -> str:
    end = records.sessions[-1].end if records.sessions else None
    content = ""
    for key, title in (("missing", "Without a result"), ("skipped", "Skipped by the user's leave")):
        lines = list(end[key]) if end and end.get(key) else []
        if lines:
            listed = "".join(f"<li>{escape(_first(line))}</li>" for line in lines[:_TROUBLES])
            content += _section(title, f"<ul>{listed}</ul>{_more(len(lines) - _TROUBLES)}")
    return content


def _more(count: int) -> str:
    return f"<p class='note'>{count} more are in the records.</p>" if count > 0 else ""


def _first(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
