"""The table at the end of a run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from shaper.tally import Report
from shaper.units import show_count, show_mib, show_seconds


def print_summary(report: Report, console: Console | None = None) -> None:
    """Print what a run amounted to, on standard error by default."""
    console = console or Console(stderr=True)
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    rate = (report.elements - report.elements_before) / report.makespan_s if report.makespan_s else 0.0
    table.add_row(
        "elements", f"{show_count(report.elements)} in {show_seconds(report.makespan_s)}, {show_count(rate)}/s"
    )
    table.add_row(
        "tasks",
        f"{report.tasks}: {report.splits} split, {report.retries} run again, {report.losses} lost, "
        f"{report.failures} failed",
    )
    if report.redone_elements:
        table.add_row(
            "done again", f"{show_count(report.redone_elements)} elements, whose results were lost with workers"
        )
    offered = report.offered_core_s or 1.0
    table.add_row(
        "core time",
        f"{show_seconds(report.offered_core_s)} offered: {report.busy_core_s / offered:.0%} busy, "
        f"{report.idle_core_s / offered:.0%} idle, {report.lost_core_s / offered:.1%} lost",
    )
    if report.peak_memory_mib is not None:
        table.add_row("memory", f"{show_mib(report.peak_memory_mib)} at most in one task")
    if report.skipped:
        table.add_row("skipped", f"{len(report.skipped)} pieces, first {report.skipped[0]}")
    if report.missing:
        table.add_row("missing", f"{len(report.missing)} pieces, first {report.missing[0].splitlines()[0]}")
    if report.run_dir is not None:
        table.add_row("report", f"{report.run_dir / 'report.html'}")
    # A path that is broken over lines cannot be clicked or copied.
    console.print(table, highlight=False, width=max(console.width, 200))
