"""Figures of the workflow's parallelism, measured and modelled, of its graph, and of what it found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from examples.genome.measure import Measured, Model
from examples.genome.sharing import Histograms
from examples.genome.workflow import AFTER
from shaper.models import Run

COLORS = {
    "count": "#9c9ca1",
    "individuals": "#5790fc",
    "individuals_merge": "#7a21dd",
    "sifting": "#86c8dd",
    "mutation_overlap": "#964a8b",
    "frequency_all": "#e42536",
    "frequency": "#f89c20",
}
_PLACES = {
    "count": (0, 0.5),
    "individuals": (1, 1.0),
    "sifting": (2, 0.0),
    "individuals_merge": (2, 1.0),
    "mutation_overlap": (3, 1.4),
    "frequency_all": (3, 0.5),
    "frequency": (3, -0.4),
}
_LEAST_SHARE = 1e-4  # of pairs; what is rarer is not shown
URGENCIES = {"cost: T s": 0.5, "T sqrt(s)": 1.0, "time: T$^2$ sqrt(s)": 2.0}

Models = Mapping[str, Model]  # by stage
Array = NDArray[Any]


def draw_all(measured: Sequence[Measured], models: Models, published: Models, folder: Path) -> list[Path]:
    """Write all figures as PNG files and return their paths.

    Args:
        measured: all runs.
        models: what shaper's model has learnt of them.
        published: what the published one has.
        folder: where they go.
    """
    stages = sorted(models, key=list(COLORS).index)
    frequency = [name for name in stages if name.startswith("frequency")]
    s_max = max(one.run.s for one in measured)
    figures = {
        "individuals": draw_scaling(["individuals"], measured, models),
        "stages": draw_scaling(stages, measured, models),
        "residuals": draw_residuals(stages, measured, {"Amdahl-GP": published, "Default model": models}),
        "chosen": draw_chosen(stages, measured, models, s_max),
        "graph-1": draw_graph(dict.fromkeys(stages, 1), "Every stage is one task"),
    }
    if len(frequency) == 2:
        figures["frequency"] = draw_scaling(frequency, measured, models)
        figures["pareto"] = draw_pareto(frequency, measured, models)
    for name, (words, urgency) in zip(("cost", "published", "time"), URGENCIES.items(), strict=True):
        chosen = {stage: models[stage].choose(1.0, load_of(stage, measured), s_max, urgency).s for stage in stages}
        figures[f"graph-{name}"] = draw_graph(chosen, f"Least {words}")
    return [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def load_of(stage: str, measured: Sequence[Measured]) -> float:
    """What usually ran beside a stage."""
    return float(np.median([run.load for run in _of(stage, measured)]))


def draw_scaling(stages: Sequence[str], measured: Sequence[Measured], models: Models) -> Figure:
    """Time and speed-up against the number of tasks: measured, and the model's mean and band."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    time, speedup = figure.subplots(1, 2)
    every_s = np.arange(1, max(one.run.s for one in measured) + 1)
    speedup.plot(every_s, every_s, color="0.6", linestyle=":", label="ideal")
    for stage in stages:
        runs, color = _of(stage, measured), COLORS[stage]
        alone_s, by_s = _alone_s(runs), _by_s(runs)
        time.plot([run.s for run in runs], [run.wall_s for run in runs], "o", color=color, alpha=0.5, markersize=4)
        speedup.plot(list(by_s), [alone_s / wall_s for wall_s in by_s.values()], "o", color=color, label=stage)
        mean, low, high = _curve(models[stage], every_s, load_of(stage, measured))
        time.plot(every_s, mean, color=color)
        time.fill_between(every_s, low, high, color=color, alpha=0.15, linewidth=0)
        speedup.plot(every_s, alone_s / mean, color=color)
        speedup.fill_between(every_s, alone_s / high, alone_s / low, color=color, alpha=0.15, linewidth=0)
    _axes(time, "Time [s]", every_s)
    _axes(speedup, "Speed-up", every_s)
    speedup.legend(frameon=False, fontsize=9, loc="upper left")
    time.set_title("Points: measured; line and band: the model", fontsize=10)
    if len(stages) > 2:
        time.set_yscale("log")  # they differ by factors
    else:
        time.set_ylim(bottom=0)
    return figure


def draw_residuals(stages: Sequence[str], measured: Sequence[Measured], models: Mapping[str, Models]) -> Figure:
    """Measured less expected time: by T(1) / s, which leaves out all that does not scale, and by models."""
    figure = Figure(figsize=(12.0, 4.2), layout="constrained")
    panels = figure.subplots(1, 1 + len(models), sharey=True)
    every_s = np.arange(1, max(one.run.s for one in measured) + 1)
    for axes, (title, model) in zip(panels, [("T(1) / s", None), *models.items()], strict=True):
        for number, stage in enumerate(stages):
            runs = _of(stage, measured)
            alone_s = _alone_s(runs)
            expected_s = [alone_s / run.s if model is None else _mean_s(model[stage], *run.point) for run in runs]
            left_s = [run.wall_s - wall_s for run, wall_s in zip(runs, expected_s, strict=True)]
            beside = 0.08 * (number - (len(stages) - 1) / 2)
            axes.plot([run.s + beside for run in runs], left_s, "o", color=COLORS[stage], markersize=4, label=stage)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(title)
        _axes(axes, "Measured less expected [s]" if model is None else "", every_s)
    panels[0].legend(frameon=False, fontsize=9)
    return figure


def draw_pareto(stages: Sequence[str], measured: Sequence[Measured], models: Models) -> Figure:
    """Core-seconds of two stages together against the time until both have ended, for each pair of parallelisms."""
    found: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    heavy, light = (_of(stage, measured) for stage in stages)
    for one, other in zip(heavy, light, strict=True):  # they were measured together
        cost_core_s = one.s * one.wall_s + other.s * other.wall_s
        found[one.s, other.s].append((max(one.wall_s, other.wall_s), cost_core_s))
    points = {
        pair: (median(time for time, _ in seen), median(cost for _, cost in seen)) for pair, seen in found.items()
    }
    front = {pair: points[pair] for pair in pareto(points)}
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*points.values(), strict=True), "o", color="0.6")
    axes.plot(*zip(*front.values(), strict=True), "o-", color=COLORS[stages[0]], label="Pareto front")
    s_max = max(max(pair) for pair in points)
    chosen = tuple(models[stage].choose(1.0, load_of(stage, measured), s_max).s for stage in stages)
    expected_s = [
        _mean_s(models[stage], s, 1.0, float(other))
        for stage, s, other in zip(stages, chosen, reversed(chosen), strict=True)
    ]
    cost_core_s = sum(s * wall_s for s, wall_s in zip(chosen, expected_s, strict=True))
    axes.plot(
        *points.get((chosen[0], chosen[1]), (max(expected_s), cost_core_s)),
        "s",
        color="black",
        fillstyle="none",
        markersize=12,
        label=f"chosen: {chosen[0]},{chosen[1]}" + ("" if chosen in points else ", as the models expect it"),
    )
    axes.set_xlabel("Time until both have ended [s]")
    axes.set_ylabel("Cost, s T of both [core s]")
    axes.set_title(f"s of {stages[0]}, {stages[1]}", fontsize=11)
    axes.margins(0.1)
    legend = axes.legend(frameon=False)
    _name({f"{heavy},{light}": points[heavy, light] for heavy, light in {**front, **points}}, axes, legend)
    return figure


def _name(points: Mapping[str, tuple[float, float]], axes: Axes, legend: Legend) -> None:
    """Write names beside points, the first ones first, where one fits: within the frame, and on nothing else."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # now it is known what stands where
    to_points = 72 / axes.figure.dpi
    frame, other = (Bbox(part.get_window_extent().get_points() * to_points) for part in (axes.patch, legend))
    places = {name: axes.transData.transform(point) * to_points for name, point in points.items()}
    taken = [other, *(Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places.values())]
    height = 9.0
    for name, (x, y) in places.items():
        width = 0.6 * height * len(name)
        across, along = (7.0, -7.0 - width, -width / 2), (7.0, -7.0 - height, -height / 2)
        for left, low in product(across, along):
            box = Bbox.from_bounds(x + left, y + low, width, height)
            inside = frame.contains(*box.min) and frame.contains(*box.max)
            if inside and not box.count_overlaps(taken):
                offset = (left, low)
                axes.annotate(name, points[name], xytext=offset, textcoords="offset points", fontsize=height)
                taken.append(box)
                break


def pareto(points: Mapping[tuple[int, int], tuple[float, float]]) -> list[tuple[int, int]]:
    """Those that no other point beats in both coordinates, by the first one."""
    front: list[tuple[int, int]] = []
    for pair in sorted(points, key=lambda pair: points[pair]):
        if not front or points[pair][1] < points[front[-1]][1]:
            front.append(pair)
    return front


def draw_chosen(stages: Sequence[str], measured: Sequence[Measured], models: Models, s_max: int) -> Figure:
    """The parallelism that each stage is worth, by what counts."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(URGENCIES)
    for number, (words, urgency) in enumerate(URGENCIES.items()):
        chosen = [models[stage].choose(1.0, load_of(stage, measured), s_max, urgency).s for stage in stages]
        axes.bar(np.arange(len(stages)) + (number - 1) * width, chosen, width, label=words)
    axes.set_xticks(np.arange(len(stages)), stages, rotation=20, ha="right")
    axes.set_ylabel("Chosen s")
    axes.set_yticks(range(s_max + 1))
    axes.legend(frameon=False, title="Least", ncols=len(URGENCIES), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def draw_graph(chosen: Mapping[str, int], title: str) -> Figure:
    """The stages as they wait for each other, each as its tasks."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    present = {"count": 1, **chosen}
    for name, parents in AFTER.items():
        if name not in present:
            continue
        x, y = _PLACES[name]
        s = present[name]
        for task in range(s):
            height = 0.5 / s
            low = y - 0.25 + task * height
            box = Rectangle((x - 0.3, low), 0.6, 0.86 * height, facecolor=COLORS[name], edgecolor="none")
            axes.add_patch(box)
        axes.text(x, y - 0.28, f"{name}, s = {s}" if name in chosen else name, ha="center", va="top", fontsize=9)
        for parent in parents:
            if parent in present:
                start, end = (_PLACES[parent][0] + 0.32, _PLACES[parent][1]), (x - 0.32, y)
                axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color="0.4"))
    axes.set_xlim(-0.5, 3.5)
    axes.set_ylim(-0.9, 1.8)
    axes.set_axis_off()
    axes.set_title(title)
    return figure


def draw_shared(overlaps: Histograms, folder: Path) -> Path:
    """How many variants two people of a population share, chromosome by chromosome."""
    chromosomes = sorted({chromosome for chromosome, _ in overlaps})
    others = sorted({name for _, name in overlaps} - {"ALL"})
    figure = Figure(figsize=(1.5 + 4.0 * len(chromosomes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(chromosomes), squeeze=False, sharex=True, sharey=True)[0]
    low, high = np.inf, 0.0
    for axes, chromosome in zip(panels, chromosomes, strict=True):
        for number, population in enumerate([*others, "ALL"]):
            pairs = overlaps.get((chromosome, population))
            if pairs is not None:
                share = pairs / pairs.sum()
                seen = np.flatnonzero(share > _LEAST_SHARE)
                low, high = min(low, float(seen[0])), max(high, float(seen[-1]) + 1)
                color = "black" if population == "ALL" else f"C{number}"
                axes.plot(np.arange(share.size), share, label=population, color=color, drawstyle="steps-mid", lw=1.2)
        axes.set_title(f"Chromosome {chromosome}")
        axes.set_xlabel("Sifted variants that two people share")
    panels[0].set_xlim(low - 1, high + 1)
    panels[0].set_ylabel("Share of pairs")
    panels[-1].legend(frameon=False)
    return _save(figure, folder / "overlap.png")


def _of(stage: str, measured: Sequence[Measured]) -> list[Run]:
    return [one.run for one in measured if one.stage == stage]


def _alone_s(runs: Sequence[Run]) -> float:
    return _by_s(runs)[1]


def _by_s(runs: Sequence[Run]) -> dict[int, float]:
    """Median time for each s."""
    return {s: median(run.wall_s for run in runs if run.s == s) for s in sorted({run.s for run in runs})}


def _mean_s(model: Model, s: float, gamma: float, load: float) -> float:
    mean = model.predict(int(s), gamma, load).mean
    return float("nan") if mean is None else mean


def _curve(model: Model, every_s: Array, load: float) -> tuple[Array, Array, Array]:
    """Expected seconds, and a band of nine in ten: its upper edge is the model's, the lower one as far by factor."""
    estimates = [model.predict(int(s), 1.0, load) for s in every_s]
    mean, upper = np.array([(estimate.mean, estimate.upper) for estimate in estimates], float).T
    return mean, mean**2 / upper, upper


def _axes(axes: Axes, label: str, every_s: Array) -> None:
    axes.set_xlabel("Tasks s")
    axes.set_ylabel(label)
    axes.set_xticks(every_s)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))  # no global state, no display
    return path
