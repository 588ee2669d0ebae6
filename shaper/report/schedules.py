"""Plots of how jobs fared that share a machine: by rank, by load, by size; and speed-up curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import cycle

from shaper.report.html import document, section
from shaper.report.svg import COLOURS, Axis, Plot, axis

_RANKS = 400  # points of a sorted curve


def by_rank(values: Mapping[str, Iterable[float]], what: str) -> Plot:
    """The sorted values of each method, over the rank of the job."""
    curves = {name: sorted(map(float, mine)) for name, mine in values.items()}
    every = [mine[at] for mine in curves.values() for at in (0, -1)]
    plot = Plot(f"sorted {what}", Axis(0.0, 100.0, "rank of the job, %"), axis(every, what, log=True, show=_power))
    for (name, mine), pen in zip(curves.items(), _pens(), strict=False):
        last = len(mine) - 1
        ranks = sorted({round(n * last / _RANKS) for n in range(_RANKS + 1)})
        pen.draw(plot, name, [(100.0 * at / max(1, last), mine[at]) for at in ranks])
    return plot


def by_load(values: Mapping[str, Mapping[float, float]], what: str) -> Plot:
    """A figure of each method over the load of the machine."""
    loads = [load for mine in values.values() for load in mine]
    every = [value for mine in values.values() for value in mine.values()]
    x = axis(loads, "load: processors that the jobs would keep busy, each run on one")
    plot = Plot(f"{what} by load", x, axis(every, what, log=True, show=_power))
    for (name, mine), pen in zip(values.items(), _pens(), strict=False):
        rows = sorted(mine.items())
        pen.draw(plot, name, rows)
        tips = [(load, value, f"{name}, load {load:g}: {value:.3g}") for load, value in rows]
        plot.points(tips, pen.colour, radius=3.5)
    return plot


def by_class(shares: Mapping[str, Sequence[tuple[str, float]]], what: str = "jobs with a stretch above 1, %") -> Plot:
    """A share of each method by class of jobs: (name of the class, share from 0 to 1)."""
    names = [name for name, _ in next(iter(shares.values()), [])]
    labels = dict(enumerate(names))
    x = Axis(
        -0.3,
        max(1.0, len(names) - 0.7),
        "run time on one processor, s",
        show=lambda at: labels.get(round(at), ""),
        fixed=tuple(map(float, labels)),
    )
    every = [100.0 * share for mine in shares.values() for _, share in mine]
    plot = Plot("share by class", x, axis(every, what))
    for (name, mine), pen in zip(shares.items(), _pens(), strict=False):
        rows = [(float(at), 100.0 * share) for at, (_, share) in enumerate(mine)]
        pen.draw(plot, name, rows)
        tips = [(at, share, f"{name}, {labels[round(at)]}: {share:.1f} %") for at, share in rows]
        plot.points(tips, pen.colour, radius=3.5)
    return plot


def speedups(curves: Mapping[str, Sequence[float]], *, steps: bool = False) -> Plot:
    """Speed-up over processors; of each curve the values on 1, 2, ... processors."""
    longest = max(map(len, curves.values()), default=1)
    highest = axis([value for mine in curves.values() for value in mine], "speed-up")
    plot = Plot("speed-up", replace(axis([longest], "processors"), low=1.0, whole=True), highest)
    end = min(longest, highest.high)
    plot.line([(1.0, 1.0), (end, end)], "currentColor", dashed=True)
    for (name, mine), pen in zip(curves.items(), _pens(), strict=False):
        pen.draw(plot, name, list(enumerate(mine, start=1)), steps=steps)
    plot.key("linear", "currentColor", "dashed")
    return plot


def page(title: str, subtitle: str, plots: Iterable[tuple[str, Plot]]) -> str:
    """A page of plots, each with a heading."""
    boxes = "".join(section(heading, plot.render()) for heading, plot in plots)
    head = f"<header><h1>{escape(title)}</h1><p class='sub'>{escape(subtitle)}</p></header>"
    return document(title, [head, f"<main><div class='plots'>{boxes}</div></main>"])


@dataclass(frozen=True, slots=True)
class _Pen:
    colour: str
    dashed: bool

    def draw(self, plot: Plot, name: str, rows: Sequence[tuple[float, float]], *, steps: bool = False) -> None:
        plot.line(rows, self.colour, dashed=self.dashed, steps=steps)
        plot.key(name, self.colour, "dashed" if self.dashed else "line")


def _pens() -> Iterable[_Pen]:
    """Every colour, and then every colour dashed."""
    return cycle([_Pen(colour, dashed) for dashed in (False, True) for colour in COLOURS])


def _power(value: float) -> str:
    """A power of ten at a tick."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"
