"""The report of a run: one HTML file that needs nothing else, made from the records alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from shaper.dataset import counted
from shaper.records import Entry, Records, read
from shaper.report import plots, stages
from shaper.report.figures import all_elements, closed, costs_core_s, left_out, summary
from shaper.report.timeline import write_timeline
from shaper.units import show_count, show_mib, show_seconds

__all__ = ["costs_core_s", "make_report", "page"]

_ROWS = 400  # of the table of decisions
_TROUBLES = 100
_CATEGORIES = 8
_UNKNOWN: Entry = {"name": "run", "engine": "unknown", "policy": "unknown", "stages": [], "started_unix_s": 0}
_COSTS = {
    "useful": "var(--c2)",
    "overhead": "var(--c4)",
    "over a limit": "var(--c-bad)",
    "failed": "var(--c3)",
    "lost or taken back": "var(--c1)",
    "idle": "var(--c6)",
}


def make_report(run_dir: str | Path) -> Path:
    """Write `report.html` and `timeline.json` into a run directory; return the path of the page.

    Raises:
        BadInput: the directory has no records.
        Damaged: its records cannot be read.
    """
    run_dir = Path(run_dir)
    records = read(run_dir)
    path = run_dir / "report.html"
    path.write_text(page(records), encoding="utf-8", errors="replace")
    write_timeline(records, run_dir / "timeline.json")
    return path


def page(records: Records) -> str:
    """The whole page."""
    run = records.sessions[0].run if records.sessions else _UNKNOWN
    name = str(run["name"])
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(run["started_unix_s"])))
    head = f"{run['policy']} policy on the {run['engine']} engine, begun {began}"
    if len(records.sessions) > 1:
        head += f", {len(records.sessions)} sessions; the pauses between them are left out below"
    shown = closed(records)
    body = [
        f"<header><h1>{escape(name)}: {_status(records)}</h1><p class='sub'>{escape(head)}</p></header><main>",
        _figures(shown),
        _message(records),
        stages.table(shown),
        _waste(shown),
        f"<div class='plots'>{''.join(_plots(shown))}</div>",
        _troubles(shown),
        _left_out(records),
        _decisions(shown),
        "</main>",
    ]
    style, script = (Path(__file__).with_name(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
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
    text = "\n".join([*records.warnings, *([str(end["message"])] if end and end.get("message") else [])])
    return f"<section><pre class='bad'>{escape(text)}</pre></section>" if text else ""


def _figures(records: Records) -> str:
    sums, costs = summary(records), costs_core_s(records)
    merges = sum(t["work"] == "merge" for t in records.tasks)
    new = sums.elements - (records.sessions[0].run.get("already_done_elements", 0) if records.sessions else 0)
    rate = f"{show_count(new / sums.makespan_s)}/s" if sums.makespan_s else "-"
    all_costs = sum(costs.values())
    rows = [
        (_of(sums.elements, all_elements(records)), "elements"),
        (show_seconds(sums.makespan_s), "from begin to end"),
        (rate, "elements per second"),
        (f"{sums.tasks:,}", f"tasks, {merges:,} of them merges"),
        (f"{sums.splits:,}", "split"),
        (f"{sums.retries:,}", "run again"),
        (show_mib(sums.peak_memory_mib), "largest memory of a task"),
        (f"{costs['useful'] / all_costs:.0%}" if all_costs else "-", "of core time was useful"),
    ]
    return (
        "<div class='figures'>"
        + "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in rows)
        + "</div>"
    )


def _of(done: int, total: int) -> str:
    return f"all {show_count(total)}" if done == total else f"{show_count(done)} of {show_count(total)}"


def _plots(records: Records) -> Iterable[str]:
    if not records.tasks:
        yield "<section><p>No task has ended yet.</p></section>"
        return
    if any(t["work"] == "process" for t in records.tasks):
        yield _section("Chunksize over time", plots.chunksizes(records).render())
    yield _section("Tasks running", plots.running(records).render())
    categories = list(plots.by(plots.processing(records), "category"))
    merging = [c for c in plots.category_colours(records) if c not in categories]
    some = {t["category"] for t in records.tasks if t["outcome"] == "done"}
    for category in [c for c in categories + merging if c in some and counted(c) is None][:_CATEGORIES]:
        yield _section(f"Memory against size: {category}", plots.against_size(records, "memory_mib", category).render())
        yield _section(f"Time against size: {category}", plots.against_size(records, "wall_s", category).render())
    for key, word in (("memory_mib", "given"), ("expected_memory_mib", "expected")):
        yield _section(f"Memory {word} against memory used", plots.against_use(records, key, word).render())
    timeline, hidden = plots.slots(records)
    note = f"<p class='note'>{hidden} more lanes are in timeline.json.</p>" if hidden else ""
    yield _section("Timeline", timeline.render() + note, kind="wide")
    if len(records.tasks) > plots.POINTS:
        text = f"Plots show at most {plots.POINTS} of {len(records.tasks)} tasks each; figures and fits are of all."
        yield f"<p class='note wide'>{text}</p>"


def _section(title: str, content: str, kind: str = "") -> str:
    return f"<section class='{kind}'><h2>{escape(title)}</h2>{content}</section>"


def _waste(records: Records) -> str:
    costs = costs_core_s(records)
    total = sum(costs.values())
    if not total:
        return ""
    bars = "".join(
        f"<div style='width:{100 * value / total:.2f}%;background:{_COSTS[name]}' title='{escape(name)}'></div>"
        for name, value in costs.items()
    )
    legend = "".join(
        f"<div><span style='color:{_COSTS[name]}'>&#9632;</span> {escape(name)} <b>{value / total:.1%}</b> "
        f"<small>{value:,.1f} core-s</small></div>"
        for name, value in costs.items()
    )
    label = ", ".join(f"{name} {value / total:.1%}" for name, value in costs.items())
    bar = f"<div class='share' role='img' aria-label='{escape(label)}'>{bars}</div>"
    return _section("Where the core time went", f"{bar}<div class='costs'>{legend}</div>")


def _table(label: str, heads: Sequence[str], rows: Iterable[str], name: str = "") -> str:
    head = "".join(f"<th scope='col'{' class=n' if text in ('s', 'min') else ''}>{text}</th>" for text in heads)
    table = f"<table{name}><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(label)}'>{table}</div>"


def _troubles(records: Records) -> str:
    # One that was taken back did nothing wrong.
    troubled = [t for t in records.tasks if t["outcome"] not in ("done", "cancelled")]
    if not troubled:
        return ""
    # Those without a second chance are what one looks for.
    shown = sorted(troubled, key=lambda t: t["verdict"] != "give up")[:_TROUBLES]
    rows = (
        f"<tr><td class='n'>{t['finished_s']:.2f}</td><td class='id'>{escape(t['id'])}</td><td>{escape(t['what'])}</td>"
        f"<td>{escape(t['outcome'])}</td><td>{_detail(t['detail'])}</td>"
        f"<td>{escape(t['verdict'])}: {escape(_first(t['verdict_reason']))}</td></tr>"
        for t in shown
    )
    table = _table("what went wrong", ("s", "task", "what", "outcome", "detail", "verdict"), rows)
    return _section(f"What went wrong: {len(troubled):,} attempts", table + _more(len(troubled) - len(shown)))


def _detail(text: str) -> str:
    """The last line at once (of a traceback it is the error), the rest on demand."""
    lines = text.strip().splitlines()
    if len(lines) < 2:
        return escape("".join(lines)[:500])
    return f"<details><summary>{escape(lines[-1][:200])}</summary><pre>{escape(text[-3000:])}</pre></details>"


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
    judged = (t for t in records.tasks if t["verdict"] != "accept")
    lines += [(t["finished_s"], f"task {t['id']}", t["verdict"], t["verdict_reason"]) for t in judged]
    lines.sort(key=lambda row: row[0])
    if not lines:
        return ""
    kept = lines[: _ROWS // 2] + lines[-_ROWS // 2 :] if len(lines) > _ROWS else lines
    rows = (
        f"<tr><td class='n'>{at:.2f}</td><td>{escape(where)}</td><td>{escape(what)}</td>"
        f"<td>{escape(_first(why))}</td></tr>"
        for at, where, what, why in kept
    )
    search = "<input id='filter' type='search' placeholder='filter' aria-label='filter the decisions'>"
    count = "<output id='count' for='filter'></output>"
    table = _table("decisions", ("s", "for", "decision", "why"), rows, " id='decisions'")
    hidden = len(lines) - len(kept)
    note = f"<p class='note'>{hidden:,} from the middle of the run are in the records only.</p>" if hidden else ""
    return _section("Decisions", f"{search} {count}{table}{note}")


def _left_out(records: Records) -> str:
    content = ""
    for key, title in (("missing", "Without a result"), ("skipped", "Skipped by the user's leave")):
        lines = left_out(records, key)
        if lines:
            listed = "".join(f"<li>{escape(_first(line))}</li>" for line in lines[:_TROUBLES])
            content += _section(title, f"<ul>{listed}</ul>{_more(len(lines) - _TROUBLES)}")
    return content


def _more(count: int) -> str:
    return f"<p class='note'>{count:,} more are in the records.</p>" if count > 0 else ""


def _first(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
