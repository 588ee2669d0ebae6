"""What people share: counts over pairs of a population (`mutation_overlap`), and over random groups (`frequency`).

Both look at the sifted variants only. A variant that nobody of a population has is left out of what travels and counted
where it belongs: so ALL, in which every variant occurs, is the heaviest.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.genome.individuals import Genotypes
from examples.genome.sifting import Sifted
from shaper import Chunk, Source

Known = Mapping[str, Genotypes]  # by chromosome
Kept = Mapping[str, tuple[Sifted, ...]]  # by chromosome
Histograms = Mapping[tuple[str, str], NDArray[np.int64]]  # by chromosome and population


@dataclass(frozen=True, slots=True)
class Group:
    """The sifted variants of a chromosome in the people of a population.

    Args:
        people: of the population.
        variants: that at least one of them has.
        absent: sifted variants that none of them has.
        bits: compressed uint8 (people, ceil(variants / 8)).
    """

    chromosome: str
    population: str
    people: int
    variants: int
    absent: int
    bits: bytes

    @property
    def name(self) -> str:
        """Of the population and the chromosome."""
        return f"{self.population} in {self.chromosome}"

    def matrix(self) -> NDArray[np.uint8]:
        """0 or 1, (people, variants)."""
        rows = np.frombuffer(zlib.decompress(self.bits), np.uint8).reshape(self.people, -1)
        return np.unpackbits(rows, axis=1, count=self.variants)


@dataclass(frozen=True)
class Pairs:
    """The dataset of `mutation_overlap`: the pairs of people of each population.

    Args:
        populations: the columns of each one's samples.
    """

    populations: Mapping[str, tuple[int, ...]]

    def __call__(self, genotypes: Known, sifted: Kept) -> Iterator[Source]:
        for group in groups(self.populations, genotypes, sifted):
            yield Source(group.name, group.people * (group.people - 1) // 2, payload=group)


@dataclass(frozen=True)
class Draws:
    """The dataset of `frequency`: runs for each population.

    Args:
        populations: the columns of each one's samples.
        runs: how often a group is drawn.
    """

    populations: Mapping[str, tuple[int, ...]]
    runs: int

    def __call__(self, genotypes: Known, sifted: Kept) -> Iterator[Source]:
        for group in groups(self.populations, genotypes, sifted):
            yield Source(group.name, self.runs, payload=group)


def groups(populations: Mapping[str, Sequence[int]], genotypes: Known, sifted: Kept) -> Iterator[Group]:
    """Yield what is known of each population, for each chromosome with sifted variants."""
    for chromosome, known in genotypes.items():
        numbers = [row.rs for row in sifted.get(chromosome, ())]
        lines = np.flatnonzero(np.isin(known.rs_numbers(), numbers))
        everybody = known.of(lines)
        for population, columns in populations.items() if lines.size else ():
            matrix = everybody[list(columns)]
            present = matrix.any(axis=0)
            bits = zlib.compress(np.packbits(matrix[:, present], axis=1).tobytes())
            count = int(present.sum())
            yield Group(chromosome, population, len(columns), count, lines.size - count, bits)


def mutation_overlap(chunk: Chunk) -> Histograms:
    """How many pairs of people share 0, 1, 2, ... variants."""
    found: dict[tuple[str, str], NDArray[np.int64]] = {}
    for span in chunk.spans:
        group: Group = span.source.payload
        rows = group.matrix().astype(np.float32)  # exact to 2**24, and matrix products of floats are fast
        key = (group.chromosome, group.population)
        found[key] = _sum(
            found.get(key), np.bincount(_shared(rows, span.start, span.stop), minlength=group.variants + 1)
        )
    return found


def _shared(rows: NDArray[np.float32], start: int, stop: int) -> NDArray[np.int64]:
    """What the pairs from `start` to `stop` share.

    People stand in a circle. Pairs are numbered by person, and for each by the distance to the next ones, up to half
    of the circle; where the number of people is even the pairs of opposite ones come last. So every pair comes once,
    nobody is paired with himself, and a range of pairs touches few rows of the matrix.
    """
    people = len(rows)
    each = (people - 1) // 2
    first, last = start // max(1, each), min(people, -(-stop // max(1, each)))
    mine = np.arange(first, last)
    partners = (mine[:, None] + np.arange(1, each + 1)) % people
    shared = np.take_along_axis(rows[mine] @ rows.T, partners, axis=1).ravel()[
        start - first * each : stop - first * each
    ]
    opposite = np.arange(max(0, start - people * each), max(0, stop - people * each))
    across = np.einsum("pv,pv->p", rows[opposite], rows[opposite + people // 2])
    return np.concatenate([shared, across]).astype(np.int64)


@dataclass(frozen=True)
class Frequency:
    """The process function of `frequency`.

    Args:
        draw: people in a group.
        seed: with it, the CRC-32 of "chromosome/population" and its number, a run seeds numpy's default generator.
    """

    draw: int
    seed: int

    def __call__(self, chunk: Chunk) -> Histograms:
        """In how many (run, variant) does a variant occur in 0, 1, 2, ... people of the group?"""
        found: dict[tuple[str, str], NDArray[np.int64]] = {}
        for span in chunk.spans:
            group: Group = span.source.payload
            rows = group.matrix()
            counts = np.zeros(self.draw + 1, np.int64)
            for run in range(span.start, span.stop):
                people = drawn(group.chromosome, group.population, group.people, run, self)
                counts += np.bincount(rows[people].sum(axis=0), minlength=self.draw + 1)
            counts[0] += group.absent * len(span)
            key = (group.chromosome, group.population)
            found[key] = _sum(found.get(key), counts)
        return found


def drawn(chromosome: str, population: str, people: int, run: int, how: Frequency) -> NDArray[np.int64]:
    """The people of one group; the same whatever task draws them."""
    rng = np.random.default_rng((how.seed, zlib.crc32(f"{chromosome}/{population}".encode()), run))
    return rng.choice(people, how.draw, replace=False, shuffle=False)


def add(a: Histograms, b: Histograms) -> Histograms:
    """Add histograms."""
    return {key: _sum(a.get(key), b.get(key)) for key in (*a, *b)}


def _sum(a: NDArray[np.int64] | None, b: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if a is None or b is None:
        return np.asarray(a if b is None else b)
    return a + b
