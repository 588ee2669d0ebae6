"""Jobs that share workers as in live use, with run times that are predicted: a part of `benchmarks.scheduling`."""

from __future__ import annotations

import multiprocessing
import statistics
from dataclasses import asdict
from typing import Any

from benchmarks.common import Target, say
from shaper.scheduling.live import Sharing
from shaper.scheduling.measures import Summary, summary
from shaper.simulation.live import kinds, mispredicted, share

JOBS = 2000
CORES = 512
WORKERS = (32, 8)  # cores of one
LOADS = (300.0, 480.0)
SIGMAS = (0.0, 0.5, 1.0)  # of the logarithm of by how much jobs run longer than is predicted
METHODS = ("eq-spt", "dbos", "lex")
DEFAULT = Sharing().method
WORSE = 1.2  # most that the largest error may cost in stretch, of the default

Work = tuple[str, int, float, float, int]  # method, cores of a worker, load, sigma, seed


def one(work: Work) -> tuple[Work, Summary]:
    """Simulate one seed."""
    method, size, load, sigma, seed = work
    arrivals = mispredicted(kinds(load, seed, CORES, JOBS), sigma, seed)
    return work, summary(share(arrivals, [size] * (CORES // size), Sharing(method)))


def live(seeds: int, processes: int) -> tuple[dict[str, Any], list[Target]]:
    """Stretch by method, workers, load and error of the predictions; means over seeds."""
    works = [
        (method, size, load, sigma, seed)
        for method in METHODS
        for size in WORKERS
        for load in LOADS
        for sigma in SIGMAS
        for seed in range(seeds if method == DEFAULT else min(3, seeds))  # the others take ten times as long
    ]
    found: dict[Work, Summary] = {}
    with multiprocessing.Pool(processes) as pool:
        for work, result in pool.imap(one, works):
            found[work] = result
            say(f"live {work}: stretch {result.average_stretch:.3g}")
    rows: dict[str, Any] = {}
    for work in works:
        case = work[:4]
        mine = [asdict(result) for other, result in found.items() if other[:4] == case]
        if work[4] == 0:
            rows[name(*case)] = {
                "seeds": len(mine),
                "average_stretch": statistics.mean(row["average_stretch"] for row in mine),
                "max_stretch": max(row["max_stretch"] for row in mine),
                "share_above_1": statistics.mean(row["share_above_1"] for row in mine),
                "average_flow_s": statistics.mean(row["average_flow_s"] for row in mine),
            }
    worse = {
        f"{size} cores, load {load:g}": rows[name(DEFAULT, size, load, SIGMAS[-1])]["average_stretch"]
        / rows[name(DEFAULT, size, load, 0.0)]["average_stretch"]
        for size in WORKERS
        for load in LOADS
    }
    target = Target("live_sigma_1_over_known_stretch", max(worse.values()), WORSE)
    return {"default": DEFAULT, "rows": rows, "sigma_1_over_known_stretch": worse}, [target]


def name(method: str, size: int, load: float, sigma: float) -> str:
    """How a case is called."""
    return f"{method}, workers of {size} cores, load {load:g}, sigma {sigma:g}"
