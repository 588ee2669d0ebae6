"""The figures 4 to 11 of Tovar et al. 2022 with ours drawn in, from the simulated cluster: writes docs/figures/*.svg.

    python -m benchmarks.figures [--only 6,8] [--to docs/figures]

Times marked "paper" are printed there; everything else is computed here. Figure 10 takes ten runs per point.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import say
from benchmarks.shaping import PAPER_FIG6_S
from shaper.policy import Adaptive, Fixed, Policy
from shaper.simulation import Scenario, policy_named, scenario
from shaper.simulation.simulate import Attempt, simulate, watched
from shaper.types import Chunk, Outcome, Resources, Span, Task

PAPER_LOST = {"fig8-a": 0.0, "fig8-b": 0.19, "fig8-c": 0.32}
COLOURS = {
    "adaptive": "#1b7f5c",
    "published": "#c0504d",
    "published-target": "#e0a030",
    "fixed": "#5b6b8c",
    "paper": "#888",
}


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="numbers of figures, with commas")
    parser.add_argument("--to", type=Path, default=Path("docs/figures"))
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    import matplotlib

    matplotlib.use("svg")
    # Same input, same bytes: no date, no random ids.
    matplotlib.rcParams.update(
        {"svg.hashsalt": "shaper", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    drawers = {
        4: figure_4,
        5: figure_5,
        6: figure_6,
        7: figure_7,
        8: figure_8,
        9: figure_9,
        10: figure_10,
        11: figure_11,
    }
    wanted = [int(number) for number in given.only.split(",")] if given.only else list(drawers)
    for number in wanted:
        say(f"figure {number}")
        figure = drawers[number]()
        figure.savefig(given.to / f"figure-{number}.svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)


def axes(columns: int = 1, width: float = 4.2, height: float = 2.8, **more: Any) -> tuple[Any, list[Any]]:
    """A figure with axes side by side."""
    from matplotlib import pyplot

    figure, found = pyplot.subplots(1, columns, figsize=(width * columns, height), squeeze=False, **more)
    return figure, list(found[0])


def alone(case: Scenario, elements: int | None, seed: int = 0) -> list[Attempt]:
    """Every source, or random pieces of sources, as one task each on a worker of its own."""
    from numpy.random import PCG64, Generator

    rng = Generator(PCG64([seed, 5]))
    (drawn,) = case.worlds(seed).values()
    found = []
    for source in drawn.sources:
        size = source.elements or 1
        if elements is not None:
            size = min(size, int(2 ** rng.uniform(10, 18)))
        work = Chunk((Span(source, 0, size),))
        usage = drawn.cost(Task("1.1", "processing", "", "processing", work, Resources(1, 10**6)), rng)
        found.append(Attempt(0.0, usage.wall_s or 0.0, size, usage.memory_mib or 0.0, 0, Outcome.DONE))
    return found


def figure_4() -> Any:
    """One task per file."""
    figure, (memory, wall) = axes(2)
    rows = alone(scenario("fig6-a"), None)[:21]
    memory.bar(range(len(rows)), sorted(one.used_mib for one in rows), color=COLOURS["fixed"])
    memory.set(title="Fig. 4: one task per file, 21 files", xlabel="file, by memory", ylabel="memory, MiB")
    wall.bar(range(len(rows)), sorted(one.finished_s for one in rows), color=COLOURS["fixed"])
    wall.set(xlabel="file, by time", ylabel="run time, s")
    return figure


def figure_5() -> Any:
    """Random sizes, and the lines that Adaptive learns from a run."""
    figure, (memory, wall) = axes(2)
    rows = alone(scenario("fig6-a"), 1)
    found = simulate(scenario("fig8-a"), Adaptive())
    sizes = [2**10 * 1.1**n for n in range(60) if 2**10 * 1.1**n < 2**18]
    for axis, line, values, label in (
        (memory, found.memory, [one.used_mib for one in rows], "memory, MiB"),
        (wall, found.wall, [one.finished_s for one in rows], "run time, s"),
    ):
        assert line is not None
        axis.plot([one.elements for one in rows], values, ".", ms=3, color=COLOURS["fixed"])
        axis.plot(sizes, [line.median(x) for x in sizes], color=COLOURS["adaptive"], label="learnt")
        axis.plot(sizes, [line.upper(x, 0.02) for x in sizes], "--", color=COLOURS["adaptive"], label="exceeded by 2 %")
        axis.set(xlabel="elements", ylabel=label)
    memory.set_title("Fig. 5: random chunksizes")
    memory.legend(frameon=False)
    return figure


def figure_6() -> Any:
    """Fixed configurations of the paper, the model, and what chooses by itself."""
    figure, (axis,) = axes(1, 6.5)
    labels, values, colours = [], [], []
    for name, seconds in PAPER_FIG6_S.items():
        labels += [f"{name[-1].upper()} paper", f"{name[-1].upper()} model"]
        values += [seconds, simulate(scenario(name), policy_named("fixed", scenario(name))).makespan_s]
        colours += [COLOURS["paper"], COLOURS["fixed"]]
    for name in ("published", "published-target", "adaptive"):
        case = scenario("fig6-a")
        labels.append(name)
        values.append(simulate(case, policy_named(name, case)).makespan_s)
        colours.append(COLOURS[name])
    axis.bar(labels, values, color=colours)
    axis.set(yscale="log", ylabel="makespan, s", title="Fig. 6: fixed settings, and none")
    axis.tick_params(axis="x", rotation=60)
    for at, value in enumerate(values):
        axis.annotate(f"{value:.0f}", (at, value), ha="center", va="bottom", fontsize=7)
    return figure


def figure_7() -> Any:
    """Memory of 128K tasks under caps."""
    figure, row = axes(3, 3.6, sharey=True)
    for axis, letter, title in zip(row, "abc", ("no cap", "2 GB cap", "1 GB cap"), strict=True):
        case = scenario(f"fig7-{letter}")
        _, _, memory_mib = case.fixed or (0, 0, 0)
        _, engine = watched(case, policy_named("fixed", case))
        points(axis, engine.attempts, lambda one: one.used_mib)
        axis.axhline(memory_mib, color=COLOURS["paper"], lw=0.8)
        splits = sum(one.outcome is Outcome.OUT_OF_MEMORY for one in engine.attempts)
        axis.set(title=f"Fig. 7{letter}: {title}, {splits} exceeded", xlabel="time, s")
    row[0].set_ylabel("memory used, MiB")
    return figure


def points(axis: Any, attempts: list[Attempt], value: Callable[[Attempt], float]) -> None:
    """Attempts over time, those that exceeded a limit in red."""
    for outcome, colour in ((Outcome.DONE, COLOURS["adaptive"]), (Outcome.OUT_OF_MEMORY, COLOURS["published"])):
        rows = [one for one in attempts if one.outcome is outcome]
        axis.plot(
            [one.finished_s for one in rows], [value(one) for one in rows], ".", ms=3, color=colour, rasterized=True
        )


def figure_8() -> Any:
    """Chunksize over time under three policies."""
    figure, row = axes(3, 3.8)
    for axis, name in zip(row, ("fig8-a", "fig8-b", "fig8-c"), strict=True):
        case = scenario(name)
        lost = []
        for policy in ("published", "published-target", "adaptive"):
            chosen: Policy = (
                policy_named(policy, case) if policy != "adaptive" else Adaptive(first_guess=case.first_guess)
            )
            found, engine = watched(case, chosen)
            rows = sorted(engine.attempts)
            axis.plot(
                [one.started_s for one in rows],
                [one.elements for one in rows],
                ".",
                ms=2,
                rasterized=True,
                color=COLOURS[policy],
                label=policy,
            )
            lost.append(f"{found.exhausted_fraction:.1%}")
        axis.set(
            yscale="log",
            xlabel="started at, s",
            title=f"Fig. {name[3:]}: lost {', '.join(lost)}\n(paper {PAPER_LOST[name]:.0%})",
        )
    row[0].set_ylabel("elements per task")
    row[0].legend(frameon=False, markerscale=4)
    return figure


def figure_9() -> Any:
    """Workers that come and go."""
    figure, (axis,) = axes(1, 6.0)
    _, engine = watched(scenario("fig9"), Adaptive())
    times = [since for since, _ in engine.offered]
    axis.step(
        [*times, engine.now_s],
        [*(cores for _, cores in engine.offered), 0],
        where="post",
        color=COLOURS["paper"],
        label="cores",
    )
    changes = sorted((at, change) for a, b, cores in engine.busy for at, change in ((a, cores), (b, -cores)))
    busy, level = [], 0
    for _, change in changes:
        level += change
        busy.append(level)
    axis.step(
        [at for at, _ in changes], busy, where="post", color=COLOURS["adaptive"], lw=0.8, label="busy under Adaptive"
    )
    axis.set(xlabel="time, s", ylabel="cores", title=f"Fig. 9: done after {engine.now_s:.0f} s")
    axis.legend(frameon=False)
    return figure


def figure_10() -> Any:
    """Makespan over the number of workers: without a setting, and with the one that an earlier run has found."""
    figure, (axis,) = axes(1, 6.0)
    counts = (10, 20, 40, 60, 80, 100, 120)
    found: dict[str, list[list[float]]] = {"adaptive": [], "fixed": []}
    bounds = []
    for count in counts:
        case = scenario(f"fig10-{count}")
        earlier = simulate(case, Adaptive(), 1000)
        fixed = Fixed(earlier.chunksize, Resources(1, earlier.task_mib), "halve")
        runs = [(simulate(case, Adaptive(), seed), simulate(case, fixed, seed)) for seed in range(10)]
        found["adaptive"].append([a.makespan_s for a, _ in runs])
        found["fixed"].append([b.makespan_s for _, b in runs])
        bounds.append(statistics.mean(a.bound_s for a, _ in runs))
    for name, label in (("adaptive", "Adaptive, from nothing"), ("fixed", "fixed at what an earlier run found")):
        means = [statistics.mean(values) for values in found[name]]
        spreads = [statistics.stdev(values) for values in found[name]]
        axis.errorbar(counts, means, spreads, color=COLOURS[name], capsize=3, label=label)
    axis.plot(counts, bounds, ":", color=COLOURS["paper"], label="pure work, or bandwidth")
    axis.set(xlabel="workers of 4 cores", ylabel="makespan, s", yscale="log", title="Fig. 10: ten runs per point")
    axis.legend(frameon=False)
    return figure


def figure_11() -> Any:
    """Delivery of the software environment."""
    figure, (axis,) = axes(1, 5.0)
    names = ("fig11-shared", "fig11-factory", "fig11-worker", "fig11-task")
    values = [simulate(scenario(name), Adaptive()).makespan_s for name in names]
    axis.bar(["shared file system", "factory", "per worker", "per task"], values, color=COLOURS["adaptive"])
    axis.set(ylabel="makespan, s", title="Fig. 11: where the environment comes from")
    for at, value in enumerate(values):
        axis.annotate(f"{value:.0f}", (at, value), ha="center", va="bottom", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
