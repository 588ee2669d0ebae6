"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from shaper.tally import Report
from shaper.units import show_count, show_mib, show_seconds


def print_summary(report: Report, console: Console | None = None) -> None:
    """Print what a run amounted to, on standard error by default."""
    console = console or Console(stderr=True)
    rows: list[tuple[str, str]] = []
    rate = (report.elements - report.elements_before) / report.makespan_s if report.makespan_s else 0.0
    rows.append(
        ("elements", f"{show_count(report.elements)} in {show_seconds(report.makespan_s)}, {show_count(rate)}/s")
    )
    ended = f"{report.splits} split, {report.retries} run again, {report.losses} lost, {report.failures} failed"
    rows.append(("tasks", f"{report.tasks}: {ended}"))
    if report.redone_elements:
        rows.append(
            ("done again", f"{show_count(report.redone_elements)} elements, whose results were lost with workers")
        )
    offered = report.offered_core_s or 1.0
    shares = f"{report.busy_core_s / offered:.0%} busy, {report.idle_core_s / offered:.0%} idle"
    shares += f", {report.lost_core_s / offered:.1%} lost"
    rows.append(("core time", f"{show_seconds(report.offered_core_s)} offered: {shares}"))
    if report.peak_memory_mib is not None:
        rows.append(("memory", f"{show_mib(report.peak_memory_mib)} at most in one task"))
    if report.skipped:
        rows.append(("skipped", f"{_pieces(report.skipped)}, first {report.skipped[0]}"))
    if report.missing:
        rows.append(("missing", f"{_pieces(report.missing)}, first {report.missing[0].splitlines()[0]}"))
    if report.run_dir is not None:
        rows.append(("report", f"{report.run_dir / 'report.html'}"))
    for name, said in rows:
        # A path that is broken over lines cannot be clicked or copied.
        console.print(f"  {name:11}  {said}", highlight=False, markup=False, soft_wrap=True)


def _pieces(lines: Sequence[str]) -> str:
    return "1 piece" if len(lines) == 1 else f"{len(lines)} pieces"
