"""Draws variants and genotypes that look like those of phase 3 of the 1000 Genomes Project, as lines of VCF.

- Frequencies: most variants are rare. 76 % of the ancestral frequencies lie below 0.5 %, 14 % between 0.5 and 5 %, 10 %
  above, each part log-uniform (above 5 %: uniform): about the shares of the 84.7 million variants of phase 3.
- Populations: Balding and Nichols (1995): the frequency in population k is Beta(p (1 - F_k) / F_k, (1 - p) (1 - F_k) /
  F_k), so that rare variants are mostly of one population. Haplotypes are independent: there is no linkage.
- Lines: phased GT; INFO in the order of phase 3, AF second and EUR_AF ninth; 4 % insertions or deletions, 1 % of the
  single-base variants with two alternates, 1.5 % without an rs number. Every line has a carrier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BATCH = 256  # variants that are drawn together; each batch has a seed of its own
_REGION = 32 * BATCH  # bases that a batch's variants lie in
_BASES = np.frombuffer(b"ACGT", np.uint8)
_INDELS, _TWO_ALTERNATES, _NO_RS = 0.04, 0.01, 0.015
_PHASE3_ORDER = ("EAS", "AMR", "AFR", "EUR", "SAS")  # of the frequencies in INFO
_SECOND_SHARE = 0.3  # of the alternates where there are two


@dataclass(frozen=True, slots=True)
class Population:
    """A population: its share of the samples (that of phase 3), and how far it has drifted from the others (F)."""

    name: str
    samples: int
    drift: float


POPULATIONS = (
    Population("AFR", 661, 0.06),
    Population("AMR", 347, 0.08),
    Population("EAS", 504, 0.12),
    Population("EUR", 503, 0.10),
    Population("SAS", 489, 0.09),
)
GBR_SHARE = 91 / 503  # of EUR: the one small list of the original


@dataclass(frozen=True)
class Cohort:
    """Samples in the proportions of phase 3, named by their population: AFR0001, AFR0002, ..."""

    samples: int

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Samples of each population."""
        total = sum(population.samples for population in POPULATIONS)
        edges = np.rint(np.cumsum([0] + [p.samples for p in POPULATIONS]) * self.samples / total).astype(int)
        return dict(zip((p.name for p in POPULATIONS), np.diff(edges).tolist(), strict=True))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the samples, in the order of the columns."""
        return tuple(f"{name}{number:04d}" for name, size in self.sizes.items() for number in range(1, size + 1))

    @cached_property
    def lists(self) -> Mapping[str, tuple[str, ...]]:
        """The samples of ALL, of each population, and of GBR, a part of EUR."""
        lists = {"ALL": self.names}
        for name in self.sizes:
            lists[name] = tuple(sample for sample in self.names if sample.startswith(name))
        lists["GBR"] = lists["EUR"][: round(GBR_SHARE * len(lists["EUR"]))]
        return lists


def header(chromosome: str, samples: Sequence[str]) -> bytes:
    """The header lines of a VCF file."""
    info = [f"{name}_AF" for name in _PHASE3_ORDER]
    lines = [
        "##fileformat=VCFv4.1",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        "##source=examples.genome.generate",
        f"##contig=<ID={chromosome}>",
        '##INFO=<ID=AC,Number=A,Type=Integer,Description="Alternate alleles counted">',
        '##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency of the alternate alleles">',
        '##INFO=<ID=AN,Number=1,Type=Integer,Description="Alleles counted">',
        '##INFO=<ID=NS,Number=1,Type=Integer,Description="Samples">',
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="Reads">',
        *(f'##INFO=<ID={name},Number=A,Type=Float,Description="Frequency in {name[:3]}">' for name in info),
        '##INFO=<ID=VT,Number=.,Type=String,Description="Type of the variant">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]),
    ]
    return "\n".join(lines).encode() + b"\n"


def drawn_lines(chromosome: str, batch: int, count: int, cohort: Cohort, seed: int) -> bytes:
    """The lines of the first `count` variants of a batch; same arguments, same lines."""
    rng = np.random.default_rng((seed, int(chromosome), batch))
    alleles = drawn_alleles(cohort, rng)  # (BATCH, samples, 2)
    sites = _sites(chromosome, batch, alleles, cohort, rng)
    text = np.full((BATCH, cohort.samples, 4), ord("|"), np.uint8)
    text[:, :, 0] = alleles[:, :, 0] + ord("0")
    text[:, :, 2] = alleles[:, :, 1] + ord("0")
    text[:, :-1, 3] = ord("\t")
    text[:, -1, 3] = ord("\n")
    return b"".join(sites[row] + text[row].tobytes() for row in range(count))


def drawn_alleles(cohort: Cohort, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw 0, 1 or 2 for each haplotype of a batch of variants, (BATCH, samples, 2)."""
    low = np.array([0.5 / cohort.samples, 0.005, 0.05])
    part = rng.choice(3, BATCH, p=(0.76, 0.14, 0.10))
    share = rng.random(BATCH)
    high = np.array([max(0.005, 2 * low[0]), 0.05, 1.0])
    logarithmic = low[part] * (high[part] / low[part]) ** share
    frequency = np.where(part == 2, low[part] + (high[part] - low[part]) * share, logarithmic)
    frequency = np.clip(frequency, 1e-6, 1 - 1e-6)
    columns = []
    for population in POPULATIONS:
        scale = (1 - population.drift) / population.drift
        own = rng.beta(frequency * scale, (1 - frequency) * scale)
        size = cohort.sizes[population.name]
        columns.append(rng.random((BATCH, size, 2), np.float32) < own[:, None, None].astype(np.float32))
    alleles = np.concatenate(columns, axis=1).astype(np.uint8)
    nobody = np.flatnonzero(~alleles.any(axis=(1, 2)))
    alleles[nobody, rng.integers(cohort.samples, size=nobody.size), rng.integers(2, size=nobody.size)] = 1
    two = np.flatnonzero(rng.random(BATCH) < _TWO_ALTERNATES)
    alleles[two] += (alleles[two] == 1) & (rng.random((two.size, cohort.samples, 2)) < _SECOND_SHARE)
    return alleles


def _sites(
    chromosome: str, batch: int, alleles: NDArray[np.uint8], cohort: Cohort, rng: np.random.Generator
) -> list[bytes]:
    """The first nine columns of each line, with the tab after them."""
    positions = 16_050_000 + batch * _REGION + np.sort(rng.choice(_REGION, BATCH, replace=False))
    numbers = int(chromosome) * 10**8 + batch * 4 * BATCH + rng.choice(4 * BATCH, BATCH, replace=False)
    reference = rng.integers(4, size=BATCH)
    other = _BASES[(reference[:, None] + np.array([1, 2])) % 4]
    indel = rng.random(BATCH) < _INDELS
    named = rng.random(BATCH) >= _NO_RS
    depth = rng.integers(5_000, 25_000, BATCH)
    counts = np.stack([(alleles == allele).sum(axis=(1, 2)) for allele in (1, 2)])
    edges = np.cumsum([0, *cohort.sizes.values()])
    of_population = {
        name: np.stack([(alleles[:, a:b] == allele).mean(axis=(1, 2)) for allele in (1, 2)])
        for name, a, b in zip(cohort.sizes, edges, edges[1:], strict=False)
    }
    sites = []
    for row in range(BATCH):
        alternates = 2 if counts[1, row] else 1
        base, alternate = chr(_BASES[reference[row]]), ",".join(map(chr, other[row, :alternates]))
        if indel[row] and alternates == 1:
            base, alternate = (base + "AT", base) if row % 2 else (base, base + "GG")
        each = range(alternates)
        info = [
            "AC=" + ",".join(str(counts[i, row]) for i in each),
            "AF=" + ",".join(f"{counts[i, row] / (2 * cohort.samples):.6g}" for i in each),
            f"AN={2 * cohort.samples}",
            f"NS={cohort.samples}",
            f"DP={depth[row]}",
            *(f"{k}_AF=" + ",".join(f"{of_population[k][i, row]:.4g}" for i in each) for k in _PHASE3_ORDER),
            f"VT={'INDEL' if indel[row] and alternates == 1 else 'SNP'}",
        ]
        name = f"rs{numbers[row]}" if named[row] else "."
        fields = [chromosome, str(positions[row]), name, base, alternate, "100", "PASS", ";".join(info), "GT", ""]
        sites.append("\t".join(fields).encode())
    return sites
