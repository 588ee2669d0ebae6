"""What tasks of a made-up workload cost: the calibrated model of an analysis on a cluster.

    wall   = (F + o (k - 1)) f + w n c / speedup(cores) t          fixed cost, k sources opened, n elements
    memory = A i + B n c m                                         c: complexity of the source; n**p where memory bends
    merge  = M + bytes / r,   memory A + 2 x the largest input

symbol  meaning                                         default         from
F, f    fixed cost of a task, s; its noise              20.5, .05       Fig. 6, configurations C and D (1K events)
w       time per element on one core, s                 2.5e-3          Fig. 6, A against C
S       share that does not run in parallel             .556            Fig. 6, B and D: 4 cores are 1.5 times one
A, i    memory of an empty task, MiB; its noise         238, .03        Fig. 4 and 7 (250 MB)
B, m    memory per element, MiB; its noise              .00906, .06     Fig. 4 and 7 (9.5 kB)
c       complexity of a source, log-normal              .10             spread of the points of Fig. 5
t       noise of the time per element                   .08             spread of the points of Fig. 5
        sizes of sources, log-normal, clipped           .85, 524288     219 files, 51 million events, "very uneven"
o       each further source of a chunk, s               .5              ours: opening a file is a small part of F
        size of a result, MiB                           20              ours; 412 MB in big-results, as in the paper
M, r    fixed cost of a merge, s; MiB per second        2, 200          ours: an unpickled histogram on a local disk

All noise is log-normal with mean log 0; what is drawn depends on the seed, the work and the attempt alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shaper.errors import BadInput
from shaper.types import Chunk, Merge, Source, Task, Usage
from shaper.units import MIB

_DRAWS = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """Sources and what processing and merging them costs; see the table of this module.

    Args:
        sources, elements: how many; sizes are log-normal with `size_sigma`, clipped at `size_cap`.
        heavy_from, heavy_factor: sources from this share on need so many times the memory per element.
        labelled: whether the heavy ones are a group of their own, which the policy can see.
        memory_power: p; B is then the memory per element of a task of 1000 elements.
        flat_below: no memory per element is needed below this size (a basket is read whole).
        bytes_per_element: read from the shared source; 0 where the source is no limit.
        result_mib: of every result, merged or not: histograms do not grow with what is filled in.
        merge_s, merge_mib_per_s: fixed cost of a merge and the rate at which its inputs are read.
    """

    sources: int = 219
    elements: int = 50_900_000
    size_sigma: float = 0.85
    size_cap: int = 524_288
    fixed_s: float = 20.5
    fixed_noise: float = 0.05
    open_s: float = 0.5
    s_per_element: float = 2.5e-3
    serial_share: float = 0.556
    time_noise: float = 0.08
    complexity: float = 0.10
    memory_mib: float = 238.0
    empty_noise: float = 0.03
    mib_per_element: float = 0.00906
    memory_noise: float = 0.06
    memory_power: float = 1.0
    heavy_from: float = 1.0
    heavy_factor: float = 1.0
    labelled: bool = False
    flat_below: int = 0
    bytes_per_element: float = 0.0
    result_mib: float = 20.0
    merge_s: float = 2.0
    merge_mib_per_s: float = 200.0

    def __post_init__(self) -> None:
        if self.elements < 1 or not 1 <= self.sources <= self.elements:
            raise BadInput(f"needs elements and at most as many sources, got {self.elements} in {self.sources}")
        for name in ("fixed_s", "s_per_element", "memory_mib", "mib_per_element", "time_noise", "memory_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} must be a number of at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class World:
    """A workload with its sources drawn: `sources` for the ledger, `cost` for the engine."""

    workload: Workload
    category: str
    sources: tuple[Source, ...]
    factors: Mapping[str, tuple[float, float]] = field(repr=False)  # of time and memory per element, by source
    after: tuple[str, ...] = ()

    def cost(self, task: Task, rng: Any) -> Usage:
        """What an attempt would use if it were not limited."""
        load, work = self.workload, task.work
        result_bytes = int(load.result_mib * MIB)
        if isinstance(work, Merge):
            read_mib = (work.input_bytes or 0) / MIB
            return Usage(
                wall_s=load.merge_s + read_mib / load.merge_mib_per_s,
                memory_mib=load.memory_mib + 2.0 * load.result_mib,
                result_bytes=result_bytes,
            )
        time, memory = self._weighted(work)
        if load.memory_power != 1.0:
            memory *= (work.elements / 1000.0) ** (load.memory_power - 1.0)
        f, t, i, m = (math.exp(x) for x in rng.standard_normal(_DRAWS) * self._sigmas())
        cores = task.resources.cores
        speedup = 1.0 / (load.serial_share + (1.0 - load.serial_share) / cores)
        opened = load.open_s * (len(work.spans) - 1)
        return Usage(
            wall_s=(load.fixed_s + opened) * f + load.s_per_element * time * t / speedup,
            cpu_s=load.s_per_element * time * t,
            memory_mib=load.memory_mib * i + load.mib_per_element * max(memory, load.flat_below) * m,
            read_bytes=int(load.bytes_per_element * work.elements) or None,
            result_bytes=result_bytes,
        )

    def _sigmas(self) -> Any:
        from numpy import array

        load = self.workload
        return array((load.fixed_noise, load.time_noise, load.empty_noise, load.memory_noise))

    def _weighted(self, work: Chunk) -> tuple[float, float]:
        """Elements of a chunk, each counted by the complexity of its source, for time and for memory."""
        time = memory = 0.0
        for span in work.spans:
            of_time, of_memory = self.factors[span.source.id]
            time += of_time * (span.stop - span.start)
            memory += of_memory * (span.stop - span.start)
        return time, memory

    @property
    def read_bytes(self) -> float:
        """What is read from the shared source."""
        return self.workload.bytes_per_element * self.workload.elements

    @property
    def pure_core_s(self) -> float:
        """Core-seconds of the elements alone, without any fixed cost."""
        load = self.workload
        return sum(load.s_per_element * self.factors[s.id][0] * (s.elements or 0) for s in self.sources)


def world(workload: Workload, *, name: str = "source", seed: int = 0) -> World:
    """Draw the sources of a workload; the same ones for the same seed and name."""
    from numpy import clip, cumsum, diff, exp, rint
    from numpy.random import PCG64, Generator

    rng = Generator(PCG64([seed, zlib.crc32(name.encode())]))
    count = workload.sources
    sizes = exp(workload.size_sigma * rng.standard_normal(count))
    for _ in range(20):  # clipping moves the sum: scale, clip, repeat
        sizes = clip(sizes * (workload.elements / sizes.sum()), 1.0, max(workload.size_cap, workload.elements / count))
    ends = rint(cumsum(sizes) * (workload.elements / sizes.sum())).astype(int)
    ends[-1] = workload.elements
    elements = diff(ends, prepend=0)
    complexity = exp(workload.complexity * rng.standard_normal(count))
    first_heavy = round(workload.heavy_from * count)
    sources, factors = [], {}
    for number in range(count):
        heavy = number >= first_heavy
        group = ("heavy" if heavy else "light") if workload.labelled else ""
        source = Source(f"{name}-{number}", int(elements[number]), group=group)
        sources.append(source)
        c = float(complexity[number])
        factors[source.id] = (c, c * (workload.heavy_factor if heavy else 1.0))
    return World(workload, name, tuple(sources), factors)
