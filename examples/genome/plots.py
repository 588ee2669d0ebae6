"""Figures of the workflow's parallelism, measured and modelled, of its graph, and of what it found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from examples.genome.parallelism import Measured, Model
from examples.genome.sharing import Histograms

COLORS = {
    "count": "#9c9ca1",
    "individuals": "#5790fc",
    "individuals_merge": "#7a21dd",
    "sifting": "#86c8dd",
    "mutation_overlap": "#964a8b",
    "frequency_all": "#e42536",
    "frequency": "#f89c20",
}
AFTER = {
    "count": (),
    "individuals": ("count",),
    "sifting": ("count",),
    "individuals_merge": ("individuals",),
    "mutation_overlap": ("individuals_merge", "sifting"),
    "frequency_all": ("individuals_merge", "sifting"),
    "frequency": ("individuals_merge", "sifting"),
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
URGENCIES = {"cost: T s": 0.5, "T sqrt(s)": 1.0, "time: T$^2$ sqrt(s)": 2.0}

Models = Mapping[str, Model]


def draw_all(runs: Sequence[Measured], models: Models, folder: Path) -> list[Path]:
    """Write the figures that these runs and models allow as PNG files and return their paths."""
    stages = list(dict.fromkeys(run.stage for run in runs if run.stage in COLORS))
    stages.sort(key=list(COLORS).index)
    frequency = [name for name in stages if name.startswith("frequency")]
    figures = {"individuals": draw_scaling(["individuals"], runs, models), "stages": draw_scaling(stages, runs, models)}
    if len(frequency) == 2:
        figures["frequency"] = draw_scaling(frequency, runs, models)
        figures["pareto"] = draw_pareto(frequency, runs, models)
    figures["graph-1"] = draw_graph(dict.fromkeys(stages, 1), "Every stage is one task")
    if models:
        figures["residuals"] = draw_residuals(stages, runs, models)
        s_max = max(run.s for run in runs)
        figures["chosen"] = draw_chosen(stages, models, s_max)
        for name, (words, urgency) in zip(("cost", "published", "time"), URGENCIES.items(), strict=True):
            chosen = {stage: models[stage].choose(1.0, load_of(stage, runs), s_max, urgency).s for stage in stages}
            figures[f"graph-{name}"] = draw_graph(chosen, f"Least {words}")
    return [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def load_of(stage: str, runs: Sequence[Measured]) -> float:
    """What usually ran beside a stage."""
    return float(np.median([run.load for run in runs if run.stage == stage]))


def draw_scaling(stages: Sequence[str], runs: Sequence[Measured], models: Models) -> Figure:
    """Time and speed-up against the number of tasks: measured, and where there are models their mean and band."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    time, speedup = figure.subplots(1, 2)
    s_max = max(run.s for run in runs)
    ideal = np.arange(1, s_max + 1)
    speedup.plot(ideal, ideal, color="0.6", linestyle=":", label="ideal")
    for stage in stages:
        mine = [run for run in runs if run.stage == stage]
        alone_s = fmean(run.wall_s for run in mine if run.s == 1)
        color = COLORS[stage]
        time.plot([run.s for run in mine], [run.wall_s for run in mine], "o", color=color, alpha=0.5, markersize=4)
        by_s = _by_s(mine)
        if stage not in models:
            time.plot(list(by_s), list(by_s.values()), color=color)
        speedup.plot(list(by_s), [alone_s / wall_s for wall_s in by_s.values()], "o", color=color, label=stage)
        if stage in models:
            mean, low, high = _curve(models[stage], ideal, load_of(stage, runs))
            time.plot(ideal, mean, color=color)
            time.fill_between(ideal, low, high, color=color, alpha=0.15, linewidth=0)
            speedup.plot(ideal, alone_s / mean, color=color)
            speedup.fill_between(ideal, alone_s / high, alone_s / low, color=color, alpha=0.15, linewidth=0)
    _axes(time, "Time [s]", s_max)
    _axes(speedup, "Speed-up", s_max)
    speedup.legend(frameon=False, fontsize=9, loc="upper left")
    time.set_ylim(bottom=0)
    return figure


def draw_residuals(stages: Sequence[str], runs: Sequence[Measured], models: Models) -> Figure:
    """Measured less expected time: by T(1) / s, which leaves out all that does not scale, and by the model."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    naive, model = figure.subplots(1, 2, sharey=True)
    for offset, stage in enumerate(stages):
        mine = [run for run in runs if run.stage == stage]
        alone_s = fmean(run.wall_s for run in mine if run.s == 1)
        shift = 0.08 * (offset - (len(stages) - 1) / 2)
        expected: Sequence[tuple[Axes, Callable[[Measured], float]]] = (
            (naive, lambda run, alone_s=alone_s: alone_s / run.s),
            (model, lambda run, stage=stage: _mean_s(models[stage], run)),
        )
        for axes, wall_s in expected:
            left = [run.wall_s - wall_s(run) for run in mine]
            axes.plot([run.s + shift for run in mine], left, "o", color=COLORS[stage], markersize=4, label=stage)
    for axes, title in ((naive, "T(1) / s"), (model, "Model")):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(title)
        _axes(axes, "Measured less expected [s]" if axes is naive else "", max(run.s for run in runs))
    model.legend(frameon=False, fontsize=9)
    return figure


def draw_pareto(stages: Sequence[str], runs: Sequence[Measured], models: Models) -> Figure:
    """Core-seconds of two stages together against the time until both have ended, for each pair of parallelisms."""
    heavy, light = stages
    found: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    ours, others = ([run for run in runs if run.stage == stage] for stage in (heavy, light))
    for one, other in zip(ours, others, strict=True):  # they were measured together
        cost_core_s = one.s * one.wall_s + other.s * other.wall_s
        found[one.s, other.s].append((max(one.wall_s, other.wall_s), cost_core_s))
    points = {pair: tuple(np.mean(seen, axis=0)) for pair, seen in found.items()}
    front = pareto(points)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*points.values(), strict=True), "o", color="0.6")
    axes.plot(*zip(*(points[pair] for pair in front), strict=True), "o-", color=COLORS[heavy], label="Pareto front")
    for pair, point in points.items():
        axes.annotate(f"{pair[0]},{pair[1]}", point, xytext=(4, 4), textcoords="offset points", fontsize=9)
    if models:
        s_max = max(run.s for run in runs)
        chosen = tuple(models[stage].choose(1.0, load_of(stage, runs), s_max).s for stage in stages)
        if chosen in points:
            label = f"chosen, {chosen[0]},{chosen[1]}"
            axes.plot(*points[chosen], "s", color="black", fillstyle="none", markersize=12, label=label)
    axes.set_xlabel("Time until both have ended [s]")
    axes.set_ylabel("Cost, s T of both [core s]")
    axes.set_title(f"s of {heavy}, {light}", fontsize=11)
    axes.legend(frameon=False)
    return figure


def pareto(points: Mapping[tuple[int, int], tuple[float, float]]) -> list[tuple[int, int]]:
    """Those that no other point beats in both coordinates, by the first one."""
    front: list[tuple[int, int]] = []
    for pair in sorted(points, key=lambda pair: points[pair]):
        if not front or points[pair][1] < points[front[-1]][1]:
            front.append(pair)
    return front


def draw_chosen(stages: Sequence[str], models: Models, s_max: int) -> Figure:
    """The parallelism that each stage is worth, by what counts."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(URGENCIES)
    for number, (words, urgency) in enumerate(URGENCIES.items()):
        chosen = [models[stage].choose(1.0, 0.0, s_max, urgency).s for stage in stages]
        axes.bar(np.arange(len(stages)) + (number - 1) * width, chosen, width, label=words, color=f"C{number}")
    axes.set_xticks(np.arange(len(stages)), stages, rotation=20, ha="right")
    axes.set_ylabel("Chosen s")
    axes.set_yticks(range(s_max + 1))
    axes.legend(frameon=False, title="least")
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
    """How many variants two people of a population share, over all chromosomes."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    chromosomes = sorted({chromosome for chromosome, _ in overlaps})
    others = sorted({name for _, name in overlaps} - {"ALL"})
    for number, population in enumerate([*others, "ALL"]):
        for style, chromosome in zip(("-", "--", ":", "-."), chromosomes, strict=False):
            pairs = overlaps.get((chromosome, population))
            if pairs is not None:
                most = int(np.flatnonzero(pairs)[-1]) + 1
                label = population if chromosome == chromosomes[0] else None
                color = "black" if population == "ALL" else f"C{number}"
                axes.stairs(pairs[:most] / pairs.sum(), label=label, linestyle=style, color=color)
    axes.set_xlabel(f"Sifted variants that two people share ({', '.join(chromosomes)})")
    axes.set_ylabel("Share of pairs")
    axes.legend(frameon=False)
    return _save(figure, folder / "overlap.png")


def _by_s(runs: Sequence[Measured]) -> dict[int, float]:
    """Mean time for each s."""
    return {s: fmean(run.wall_s for run in runs if run.s == s) for s in sorted({run.s for run in runs})}


def _mean_s(model: Model, run: Measured) -> float:
    mean = model.predict(run.s, 1.0, float(run.load)).mean
    return float("nan") if mean is None else mean


def _curve(model: Model, s: Sequence[int], load: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected seconds, and the band of nine in ten: its upper edge is the model's, on a log scale it is symmetric."""
    estimates = [model.predict(int(each), 1.0, load) for each in s]
    mean = np.array([float("nan") if e.mean is None else e.mean for e in estimates])
    upper = np.array([float("nan") if e.upper is None else e.upper for e in estimates])
    return mean, mean**2 / upper, upper


def _axes(axes: Axes, label: str, s_max: int) -> None:
    axes.set_xlabel("Tasks s")
    axes.set_ylabel(label)
    axes.set_xticks(range(1, s_max + 1))


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))  # no global state, no display
    return path
