"""The 1000-genome workflow in plain Python, slow and obvious, written from its description: what it must give.

- individuals: of each variant line and sample, keep it when the reference comes first and the alternates have a
  frequency (AF in INFO) of at least one half together, or when an alternate comes first whose frequency is below one
  half.
- sifting: rows of the annotation with an rs number and a deleterious or tolerated entry in CSQ; the first such entry.
- mutation_overlap: for each pair of different people of a population, how many sifted variants both have.
- frequency: in each run, how many of the people drawn have each sifted variant.
"""

from __future__ import annotations

import gzip
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np


def lines_of(path: Path) -> tuple[list[str], list[list[str]]]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        text = file.read().splitlines()
    head = [line for line in text if line.startswith("#")]
    return head, [line.split("\t") for line in text[len(head) :]]


def rs_of(identifier: str) -> int | None:
    for name in identifier.split(";"):
        if name.startswith("rs") and name[2:].isdigit():
            return int(name[2:])
    return None


def individuals(path: Path) -> tuple[dict[str, set[int]], list[int | None]]:
    """By sample the numbers of the variant lines it keeps, and the rs number of each line."""
    head, rows = lines_of(path)
    samples = head[-1].split("\t")[9:]
    kept: dict[str, set[int]] = {sample: set() for sample in samples}
    for number, row in enumerate(rows):
        info = dict(entry.split("=", 1) for entry in row[7].split(";") if "=" in entry)
        frequencies = [float(text) for text in info["AF"].split(",")]
        for sample, genotype in zip(samples, row[9:], strict=True):
            allele = genotype.split(":")[0].replace("/", "|").split("|")[0]
            if allele == ".":
                continue
            if (sum(frequencies) >= 0.5) if int(allele) == 0 else (frequencies[int(allele) - 1] < 0.5):
                kept[sample].add(number)
    return kept, [rs_of(row[2]) for row in rows]


def sifting(path: Path) -> list[tuple[int, int, str, str, str]]:
    head, rows = lines_of(path)
    (description,) = [line for line in head if line.startswith("##INFO=<ID=CSQ")]
    names = description.split("Format: ")[1].split('"')[0].split("|")
    found = []
    for number, row in enumerate(rows):
        rs = rs_of(row[2])
        if rs is None:
            continue
        (csq,) = [entry[4:] for entry in row[7].split(";") if entry.startswith("CSQ=")]
        for text in csq.split(","):
            entry = dict(zip(names, text.split("|"), strict=True))
            if "deleterious" in entry["SIFT"] or "tolerated" in entry["SIFT"]:
                found.append((number, rs, entry["Gene"], entry["SIFT"], entry["Phenotype"]))
                break
    return found


def sifted_of_people(
    kept: dict[str, set[int]], rs_numbers: list[int | None], sifted: list[tuple[int, int, str, str, str]]
) -> tuple[dict[str, set[int]], int]:
    """By sample which sifted variant lines it keeps, and how many there are."""
    harmful = {row[1] for row in sifted}
    lines = {number for number, rs in enumerate(rs_numbers) if rs in harmful}
    return {sample: mine & lines for sample, mine in kept.items()}, len(lines)


def mutation_overlap(people: list[set[int]]) -> Counter[int]:
    return Counter(len(one & other) for one, other in combinations(people, 2))


def frequency(
    people: list[set[int]], variants: int, chromosome: str, population: str, *, runs: int, draw: int, seed: int
) -> Counter[int]:
    """How often a variant was had by so many of the people drawn, over all runs and variants."""
    found: Counter[int] = Counter()
    for run in range(runs):
        rng = np.random.default_rng((seed, crc32(f"{chromosome}/{population}".encode()), run))
        drawn = rng.choice(len(people), draw, replace=False, shuffle=False)
        had = Counter(variant for person in drawn for variant in people[person])
        found.update(had.values())
        found[0] += variants - len(had)
    return found
