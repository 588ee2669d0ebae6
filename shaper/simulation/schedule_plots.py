"""The figures of the slides on DBOS, drawn of one's own schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shaper.report import schedules
from shaper.report.svg import Plot
from shaper.scheduling import Downey, mapping_times
from shaper.scheduling.mapping import GENOMES, READS
from shaper.scheduling.measures import Fared, by_class, summary
from shaper.simulation.study import Study

Found = Mapping[str, Sequence[Fared]]  # of each method, by load
Named = tuple[str, Plot]


def drawn(study: Study, found: Found) -> str:
    """A page: what methods make of the same jobs."""
    last = study.loads[-1]
    plots = fared(found, study.bounds_s, f", load {last:g}" if last is not None and len(study.loads) > 1 else "")
    if study.trace is None:
        plots += [*over_load(study.loads, found), mapping_steps(study.processors)]
        where = f", load {', '.join(f'{load:g}' for load in study.loads if load is not None)}"
    else:
        plots.append(downey_curves(study.processors))
        where = ""
    seeds = f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''}"
    jobs = len(next(iter(found.values()))[-1].stretch) // len(study.seeds)
    text = f"{jobs} jobs, {seeds}, {study.processors} processors{where}"
    return schedules.page(f"Schedules: {study.name}", text, plots)


def fared(found: Found, bounds_s: Sequence[float], where: str = "") -> list[Named]:
    """How the jobs fared, at the last of the loads; `where` is said in the headings."""
    last = {name: by_load[-1] for name, by_load in found.items()}
    shares = {name: [(c.name, c.share_above_1) for c in by_class(mine, bounds_s)] for name, mine in last.items()}
    return [
        (f"Sorted stretch{where}", schedules.by_rank({name: mine.stretch for name, mine in last.items()}, "stretch")),
        (f"Sorted flow{where}", schedules.by_rank({name: mine.flow_s for name, mine in last.items()}, "flow, s")),
        (f"Jobs with a stretch above 1{where}", schedules.by_class(shares)),
    ]


def over_load(loads: Sequence[float | None], found: Found) -> list[Named]:
    """Stretch and flow over the load."""

    def values(figure: str) -> dict[str, dict[float, float]]:
        return {
            name: {
                load: getattr(summary(mine), figure)
                for load, mine in zip(loads, by_load, strict=True)
                if load is not None
            }
            for name, by_load in found.items()
        }

    return [
        ("Average stretch by load", schedules.by_load(values("average_stretch"), "average stretch")),
        ("Largest stretch by load", schedules.by_load(values("max_stretch"), "largest stretch")),
        ("Average flow by load", schedules.by_load(values("average_flow_s"), "average flow, s")),
    ]


def downey_curves(processors: int) -> Named:
    """Downey's curves for one average parallelism."""
    n = np.arange(1, processors + 1)
    middle = max(1.0, processors / 4)
    curves = {f"A {middle:g}, v {v:g}": Downey(middle, v).at(n).tolist() for v in (0.0, 0.5, 1.0, 2.0)}
    return "Downey's speed-up", schedules.speedups(curves)


def mapping_steps(processors: int) -> Named:
    """Speed-up of sequence mapping, which rises in steps."""
    curves = {}
    for genome, reads in ((GENOMES[0], READS[0]), (GENOMES[2], READS[1]), (GENOMES[-1], READS[-1])):
        times = mapping_times(genome, reads, min(processors, 64))
        curves[f"{genome / 1e6:g}M bases, {reads / 1e6:g}M reads"] = (times[0] / times).tolist()
    return "Speed-up of sequence mapping", schedules.speedups(curves, steps=True)
