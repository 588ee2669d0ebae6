"""Run time of short sequence mapping: reads are matched to a genome on a grid of processors.

    symbol          meaning                                            unit
    G, R            bases of the genome, reads                          1
    mg, mr, ms      into how many parts the genome, the reads and the   1
                    matching of both are cut; mg mr ms processors
    cgs, crs        reading a base, a read                              s
    cg, cr          indexing a base, preparing a read                   s
    cc              comparing a read with a base                        s

    P = cgs G/mg + cg G/(mg ms) + crs R/mr + (cr + cc G/mg) R/(mr ms)

The slides print (cr + cc G/(mg ms)) R/(mr ms) as the last term. It falls with ms squared, so that twice the processors
would be more than twice as fast, which the slides exclude elsewhere; `printed=True` has that form.

Products leave most numbers of processors without a grid of their own, so p_j falls in steps.

Source: Saule, Bozdag, Catalyurek (2009). The constants were not published; these are placeholders of a likely size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shaper.scheduling.checks import positive, whole
from shaper.scheduling.job import Array

GENOMES = (4.6e6, 15e6, 100e6, 280e6, 465e6, 1.2e9, 3.4e9)
READS = (1e6, 200e6, 400e6)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds per base, read or comparison; see the notation above."""

    cgs: float = 1e-6
    cg: float = 1e-5
    crs: float = 5e-6
    cr: float = 1e-4
    cc: float = 1.2e-11


_COSTS = Costs()


def mapping_times(
    genome: float, reads: float, processors: int, costs: Costs = _COSTS, *, printed: bool = False
) -> Array:
    """Return p_j for j = 1 ... processors: the best grid of at most j.

    Args:
        genome: bases.
        reads: how many.
        printed: the last term as the slides print it.

    Raises:
        BadInput: a number that cannot be.
    """
    genome, reads = positive(genome, "genome"), positive(reads, "reads")
    processors = whole(processors, "processors")
    mg, mr, ms = _grids(processors)
    compared = costs.cc * genome / (mg * ms if printed else mg)
    times = (
        costs.cgs * genome / mg
        + costs.cg * genome / (mg * ms)
        + costs.crs * reads / mr
        + (costs.cr + compared) * reads / (mr * ms)
    )
    least = np.full(processors, np.inf)
    np.minimum.at(least, mg * mr * ms - 1, times)
    return np.minimum.accumulate(least)


@lru_cache(maxsize=8)
def _grids(processors: int) -> NDArray[np.int64]:
    """All (mg, mr, ms) with a product of at most so many processors, shape (3, grids)."""
    found = [
        (mg, mr, ms)
        for mg in range(1, processors + 1)
        for mr in range(1, processors // mg + 1)
        for ms in range(1, processors // (mg * mr) + 1)
    ]
    return np.array(found, dtype=np.int64).T
