"""Made-up stages whose run time is known exactly, for benchmarks of the models of parallelism.

Three families; a world is drawn from (family, number) alone. T1 is what the work takes at s = 1, gamma = 1, alone.

    usual        the law of one of: Amdahl; Amdahl with an overhead per task; universal scalability; both overheads.
                 p uniform .6 to .97; T1 log-uniform 30 to 3000 s; start-up log-uniform .003 to .1 T1; overhead per
                 task and coherency log-uniform .0005 to .01 T1; exponent of the size uniform .8 to 1.2; each unit of
                 load adds uniform -1 to 4 %. At most 8, 16 or 32 tasks. gamma is 1 in half of the worlds, else
                 log-uniform .5 to 2; load is 0 in a third of them, else uniform 0 to 8.
    second       drawn differently: p from .4 to .99; T1 log-normal; start-up 0 to .2 T1; overhead per task 0 to
                 .02 T1; exponent .7 to 1.3; load multiplies by exp(-.01 to .03) per unit; at most 4 to 128 tasks;
                 gamma 1, five steps from .25 to 4, wide, or growing; load none, bursts up to 32, or a random walk.
    misspecified laws that no model here has: a power of s, saturation, waves of indivisible items, stragglers, a tree
                 of merges, quadratic overhead, cores shared with the load, caches that come to fit, memory that
                 spills, and one run in sixteen 1.5 to 3 times as long. p uniform .7 to .97; the rest as in `usual`.

Noise is log-normal with 3 to 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RUNS = 60
FAMILIES = ("usual", "second", "misspecified")
_SHAPES = ("power", "saturation", "waves", "stragglers", "tree", "quadratic", "shared", "caches", "spills", "outliers")

# Seconds at (s, gamma, load, how much longer the work takes than at first).
Law = Callable[[int, float, float, float], float]


@dataclass(frozen=True)
class World:
    """One stage: its law, and what happens at each of its runs."""

    name: str
    law: Law
    s_max: int
    gammas: tuple[float, ...]
    loads: tuple[float, ...]
    noise: tuple[float, ...]  # factors

    def times_s(self, run: int, slower: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Without noise, for every s from 1 to s_max."""
        gamma, load = self.gammas[run], self.loads[run]
        return np.array([self.law(s, gamma, load, slower) for s in range(1, self.s_max + 1)])


def world(family: str, number: int, same_size: bool = False) -> World:
    """The world of a number; with `same_size`, gamma is always 1."""
    rng = np.random.default_rng([FAMILIES.index(family), number])
    name, law, s_max, gammas, loads = {"usual": _usual, "second": _second, "misspecified": _misspecified}[family](
        number, rng
    )
    factors = np.exp(rng.normal(0.0, rng.uniform(0.03, 0.05), RUNS))
    if name == "outliers":
        factors *= np.where(rng.random(RUNS) < 1 / 16, rng.uniform(1.5, 3.0, RUNS), 1.0)
    if same_size:
        gammas = np.ones(RUNS)
    return World(f"{family}-{number}-{name}", law, s_max, tuple(gammas), tuple(loads), tuple(factors))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(low * (high / low) ** rng.random())


def _surroundings(number: int, rng: np.random.Generator) -> tuple[Any, Any]:
    gammas = np.exp(rng.uniform(math.log(0.5), math.log(2.0), RUNS)) if number % 2 else np.ones(RUNS)
    loads = rng.integers(0, 9, RUNS).astype(float) if number % 3 else np.zeros(RUNS)
    gammas[0] = 1.0
    return gammas, loads


def _usual(number: int, rng: np.random.Generator) -> tuple[str, Law, int, Any, Any]:
    kind = number % 4
    p, t1 = rng.uniform(0.6, 0.97), _between(rng, 30, 3000)
    startup, k, load_adds = t1 * _between(rng, 0.003, 0.1), rng.uniform(0.8, 1.2), rng.uniform(-0.01, 0.04)
    each = t1 * _between(rng, 5e-4, 1e-2) if kind in (1, 3) else 0.0
    coherency = _between(rng, 5e-4, 1e-2) if kind in (2, 3) else 0.0
    gammas, loads = _surroundings(number // 4, rng)

    def law(s: int, gamma: float, load: float, slower: float) -> float:
        work = slower * t1 * gamma**k * (1 - p + p / s + coherency * (s - 1))
        return float((startup + work + each * (s - 1)) * (1 + load_adds * load))

    return ("amdahl", "overhead", "usl", "both")[kind], law, int(rng.choice([8, 16, 32])), gammas, loads


def _second(number: int, rng: np.random.Generator) -> tuple[str, Law, int, Any, Any]:
    p = (0.4, 0.6, 0.75, 0.85, 0.9, 0.95, 0.98, 0.99)[number % 8]
    t1 = float(np.exp(rng.normal(6.0, 1.0)))
    startup, each = t1 * rng.choice([0, 0.02, 0.05, 0.2]), t1 * rng.choice([0, 0, 0.001, 0.005, 0.02])
    k, load_by = rng.choice([0.7, 1, 1, 1.3]), rng.choice([0, 0, 0.01, 0.03, -0.01])
    sizes = rng.integers(4)
    gammas = (
        np.ones(RUNS),
        rng.choice([0.25, 0.5, 1, 2, 4], RUNS),
        np.exp(rng.uniform(math.log(0.5), math.log(2), RUNS)),
        np.exp(np.linspace(0, 1.2, RUNS) + rng.normal(0, 0.15, RUNS)),
    )[sizes]
    gammas[0] = 1.0
    loads = (
        np.zeros(RUNS),
        np.where(rng.random(RUNS) < 0.3, rng.integers(4, 33, RUNS), 0).astype(float),
        np.clip(4.0 + np.cumsum(rng.integers(-1, 2, RUNS)), 0, 16),
    )[rng.integers(3)]

    def law(s: int, gamma: float, load: float, slower: float) -> float:
        return float((startup + slower * t1 * gamma**k * (1 - p + p / s) + each * s) * math.exp(load_by * load))

    return f"p={p}", law, int(rng.choice([4, 12, 24, 48, 128])), gammas, loads


def _misspecified(number: int, rng: np.random.Generator) -> tuple[str, Law, int, Any, Any]:
    name = _SHAPES[number % len(_SHAPES)]
    p, t1 = rng.uniform(0.7, 0.97), _between(rng, 30, 3000)
    startup, k, load_adds = t1 * _between(rng, 0.003, 0.1), rng.uniform(0.8, 1.2), rng.uniform(-0.01, 0.04)
    gammas, loads = _surroundings(number // len(_SHAPES), rng)
    power, most, items = rng.uniform(0.6, 0.9), int(rng.integers(4, 17)), int(rng.integers(12, 100))
    uneven, merge, squared = rng.uniform(0.03, 0.2), _between(rng, 0.005, 0.05), _between(rng, 2e-5, 1e-3)
    cores, faster, fits = int(rng.integers(6, 24)), rng.uniform(1.05, 1.3), int(rng.integers(4, 12))
    memory, spilling = rng.uniform(0.05, 0.4), rng.uniform(1.2, 1.8)
    parts: dict[str, Callable[[int, float, float], float]] = {
        "power": lambda s, g, ld: s**-power,
        "saturation": lambda s, g, ld: 1 - p + p * (s**-4.0 + most**-4.0) ** 0.25,
        "waves": lambda s, g, ld: 1 - p + p * math.ceil(items / s) / items,
        "stragglers": lambda s, g, ld: 1 - p + p / s * (1 + uneven * math.sqrt(2 * math.log(s))),
        "tree": lambda s, g, ld: 1 - p + p / s + merge * math.log2(s),
        "quadratic": lambda s, g, ld: 1 - p + p / s + squared * (s - 1) ** 2,
        "shared": lambda s, g, ld: 1 - p + p / min(s, max(1.0, s * cores / (s + ld))),
        "caches": lambda s, g, ld: 1 - p + p * (s**-faster if s <= fits else fits ** (1 - faster) / s),
        "spills": lambda s, g, ld: (1 - p + p / s) * (1 + (spilling - 1) / (1 + (memory * s / g) ** 4)),
        "outliers": lambda s, g, ld: 1 - p + p / s,
    }
    part = parts[name]

    def law(s: int, gamma: float, load: float, slower: float) -> float:
        return float((startup + slower * t1 * gamma**k * part(s, gamma, load)) * (1 + load_adds * load))

    return name, law, int(rng.choice([8, 16, 32])), gammas, loads
