"""Plots as in a paper of a search: stacked processes with uncertainty, another point of the theory, and their ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from examples.topeft.evaluation import Spectrum, Yield, coefficient_names, scan, spectrum, yields
from examples.topeft.quadratic import QuadraticHist
from examples.topeft.selection import CHANNELS

PALETTE = ("#9c9ca1", "#f89c20", "#964a8b", "#5790fc", "#7a21dd", "#e42536", "#86c8dd", "#578dff", "#656364", "#c849a9")
PROCESS_LABELS = {
    "ttlnu": r"$t\bar{t}\ell\nu$",
    "ttll": r"$t\bar{t}\ell\ell$",
    "ttH": r"$t\bar{t}H$",
    "tllq": r"$t\ell\ell q$",
    "diboson": "Diboson",
    "nonprompt": "Nonprompt",
}
CHANNEL_LABELS = {"2lss": r"$2\ell$ same sign", "3l": r"$3\ell$", "4l": r"$\geq 4\ell$"}


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands around the plots.

    Args:
        point: name of the other point in the legend; empty leaves the point out.
        normalisation: right above the frame.
    """

    point: str
    normalisation: str


def draw_all(histograms: Mapping[str, QuadraticHist], point: ArrayLike, caption: Caption, folder: Path) -> list[Path]:
    """Write the plots as PNG files and return their paths: every variable and channel, the yields, a scan."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for name, histogram in histograms.items():
        for channel in CHANNELS:
            drawn = spectrum(histogram, channel, point)
            if (name == "z_mass" and channel == "2lss") or not drawn.processes:
                continue
            figure = draw_spectrum(drawn, str(histogram.axis.label), CHANNEL_LABELS[channel], caption)
            out.append(_save(figure, folder / f"{channel}_{name}.png"))
    first = next(iter(histograms.values()))
    rows = list(yields(first, point))
    if rows:
        out.append(_save(draw_yields(rows, caption), folder / "yields.png"))
    if first.coefficients and rows:
        out.append(_save(draw_scan(first, point, caption), folder / "scan.png"))
    return out


def draw_spectrum(drawn: Spectrum, label: str, channel: str, caption: Caption) -> Figure:
    """Return one variable in one channel; bins are drawn as they are, contents are events per bin."""
    figure, main, ratio = _frame(6.4, 6.2)
    _stack(main, ratio, drawn, caption)
    main.text(0.04, 0.93, channel, transform=main.transAxes, va="top", fontsize=13)
    main.set_xlim(drawn.edges[0], drawn.edges[-1])
    ratio.set_xlabel(label, loc="right", fontsize=13)
    return figure


def draw_yields(rows: Sequence[Yield], caption: Caption) -> Figure:
    """Return the summary of all channels and bins of jets."""
    order = [r for name in CHANNELS for r in rows if r.channel == name]
    names = sorted({name for r in order for name in r.processes})
    uncertainty = np.array([r.uncertainty for r in order])
    drawn = Spectrum(
        np.arange(len(order) + 1.0),
        {name: np.array([r.processes.get(name, 0.0) for r in order]) for name in names},
        np.array([r.at_point for r in order]),
        np.zeros((2, len(order))),
        np.stack([uncertainty, uncertainty]),
    )
    figure, main, ratio = _frame(8.4, 6.2)
    _stack(main, ratio, drawn, caption)
    main.set_xlim(0, len(order))
    ratio.set_xticks(np.arange(len(order)) + 0.5, [r.jets for r in order])
    ratio.tick_params(axis="x", which="both", length=0)
    main.tick_params(axis="x", which="both", length=0)
    for name in CHANNELS:
        mine = [i for i, r in enumerate(order) if r.channel == name]
        if not mine:
            continue
        ratio.text(np.mean(mine) + 0.5, -0.34, CHANNEL_LABELS[name], transform=ratio.get_xaxis_transform(), ha="center")
        for axes in (main, ratio) if mine[0] else ():
            axes.axvline(mine[0], ymax=0.66 if axes is main else 1.0, color="0.4", linestyle=":", linewidth=1)
    ratio.text(1.0, -0.52, "Jets, by channel", transform=ratio.transAxes, ha="right", fontsize=13)
    return figure


def draw_scan(histogram: QuadraticHist, point: ArrayLike, caption: Caption) -> Figure:
    """Return the yield of each channel against the one coefficient in which the point is farthest from 0."""
    coordinates = np.abs(np.asarray(point, float).reshape(-1))
    which = int(coordinates.argmax()) if coordinates.any() else 0
    reach = max(3.0, 1.5 * float(coordinates[which]) if coordinates.size else 0.0)
    values = np.linspace(-reach, reach, 61)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for channel, color in zip(CHANNELS, PALETTE[3:], strict=False):
        numbers = scan(histogram, channel, which, values)
        middle = numbers[len(values) // 2]
        if middle > 0:
            axes.plot(values, numbers / middle, color=color, linewidth=2, label=CHANNEL_LABELS[channel])
    axes.axhline(1, color="0.5", linewidth=1, linestyle="--")
    axes.set_xlim(-reach, reach)
    _dress(axes, caption)
    axes.set_xlabel(f"{coefficient_names(histogram.coefficients)[which]} / $\\Lambda^2$ [TeV$^{{-2}}$]", loc="right")
    axes.set_ylabel("Yield / SM yield", loc="top")
    axes.legend(frameon=False, fontsize=12)
    return figure


def _frame(width: float, height: float) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(width, height))
    grid = figure.add_gridspec(2, 1, height_ratios=(3.2, 1), hspace=0.07, left=0.13, right=0.97, top=0.93, bottom=0.12)
    main = figure.add_subplot(grid[0])
    ratio = figure.add_subplot(grid[1], sharex=main)
    main.tick_params(labelbottom=False)
    return figure, main, ratio


def _stack(main: Axes, ratio: Axes, drawn: Spectrum, caption: Caption) -> None:
    """Draw the stack, the band and the point into both panels, with axes and legend."""
    total = drawn.total
    low, high = total - drawn.uncertainty[0], total + drawn.uncertainty[1]
    bottom = np.zeros_like(total)
    ordered = sorted(drawn.processes.items(), key=lambda item: item[1].sum())
    for name, values in ordered:
        color = _color(name, list(drawn.processes))
        label = PROCESS_LABELS.get(name, name)
        main.stairs(bottom + values, drawn.edges, baseline=bottom, fill=True, color=color, label=label)
        bottom = bottom + values
    main.stairs(total, drawn.edges, color="black", linewidth=0.8)
    hatch: dict[str, Any] = {"fill": True, "facecolor": "none", "edgecolor": "0.25", "hatch": "//////", "linewidth": 0}
    main.stairs(high, drawn.edges, baseline=low, label="Stat. + syst.", **hatch)
    safe = np.where(total > 0, total, np.nan)
    ratio.stairs(high / safe, drawn.edges, baseline=low / safe, **hatch)
    ratio.axhline(1, color="black", linewidth=0.8)
    tallest = high
    if caption.point:
        main.stairs(drawn.at_point, drawn.edges, color="black", linewidth=2.2, linestyle="--", label=caption.point)
        ratio.stairs(drawn.at_point / safe, drawn.edges, color="black", linewidth=2.2, linestyle="--")
        tallest = np.maximum(high, drawn.at_point)
        if drawn.point_statistical is not None:
            middles = (drawn.edges[1:] + drawn.edges[:-1]) / 2
            bars: dict[str, Any] = {"fmt": "none", "color": "black", "linewidth": 1.4}
            main.errorbar(middles, drawn.at_point, drawn.point_statistical, **bars)
            ratio.errorbar(middles, drawn.at_point / safe, drawn.point_statistical / safe, **bars)
    main.set_ylim(0, max(1e-9, 1.62 * float(tallest.max())))
    ratio.set_ylim(*_ratio_limits(np.concatenate([low / safe, high / safe, drawn.at_point / safe])))
    _dress(main, caption)
    for side in ("top", "right"):
        ratio.tick_params(**{side: True}, direction="in", which="both")
    ratio.minorticks_on()
    main.set_ylabel("Events / bin", loc="top", fontsize=13)
    ratio.set_ylabel("Ratio to SM", fontsize=11)
    handles, labels = main.get_legend_handles_labels()
    main.legend(handles[::-1], labels[::-1], ncols=2, frameon=False, fontsize=11, loc="upper right")


def _ratio_limits(values: NDArray[np.float64]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    up = float(finite.max()) - 1 if finite.size else 0.0
    down = 1 - float(finite.min()) if finite.size else 0.0
    return 1 - float(np.clip(1.2 * down, 0.25, 1.0)), 1 + float(np.clip(1.2 * up, 0.25, 5.0))


def _dress(axes: Axes, caption: Caption) -> None:
    """Put ticks on all sides inside, and the two lines above the frame."""
    axes.minorticks_on()
    axes.tick_params(direction="in", which="both", top=True, right=True)
    axes.text(0, 1.015, "TopEFT example", transform=axes.transAxes, fontsize=14, fontweight="bold", va="bottom")
    axes.text(0.4, 1.015, "Simulation", transform=axes.transAxes, fontsize=12, style="italic", va="bottom")
    axes.text(1, 1.015, caption.normalisation, transform=axes.transAxes, fontsize=12, ha="right", va="bottom")


def _color(process: str, present: Sequence[str]) -> str:
    known = ["nonprompt", "diboson", "tllq", "ttll", "ttH", "ttlnu"]
    others = [name for name in present if name not in known]
    return PALETTE[(known + others).index(process) % len(PALETTE)]


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure).print_png(str(path))  # no global state, no display
    return path
