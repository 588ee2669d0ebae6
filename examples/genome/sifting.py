"""Which variants may change a protein: rows of an annotation file with an rs number and a SIFT prediction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from shaper import Chunk
from shaper.readers import header, lines_of

_RS = re.compile(r"(?:^|;)rs(\d+)")


class Sifted(NamedTuple):
    """One row that was kept.

    Args:
        line: number of its variant line, from 0; header lines do not count.
        rs: the number after "rs" in ID.
        gene: of the first entry that has a prediction.
        sift: its prediction, for instance `deleterious(0.02)`.
        phenotype: that it names; empty where it names none.
    """

    line: int
    rs: int
    gene: str
    sift: str
    phenotype: str


def sifting(chunk: Chunk) -> Mapping[str, tuple[Sifted, ...]]:
    """Keep the rows whose ID has an rs number and of which an entry of CSQ is deleterious or tolerated.

    Raises:
        ValueError: the file's header does not say what CSQ holds.
    """
    found: dict[str, tuple[Sifted, ...]] = {}
    for span in chunk.spans:
        columns = csq_columns(span.source.id)
        rows = []
        for number, line in enumerate(lines_of(span), span.start):
            if b"deleterious" in line or b"tolerated" in line:
                row = _row(number, line.decode(), columns)
                if row is not None:
                    rows.append(row)
        found[span.source.group] = (*found.get(span.source.group, ()), *rows)
    return found


def join(a: Mapping[str, tuple[Sifted, ...]], b: Mapping[str, tuple[Sifted, ...]]) -> Mapping[str, tuple[Sifted, ...]]:
    """Put rows together, by line."""
    return {name: tuple(sorted((*a.get(name, ()), *b.get(name, ())))) for name in (*a, *b)}


def csq_columns(path: str) -> Mapping[str, int]:
    """What the fields of CSQ mean, from the header of a file."""
    for line in header(path):
        if line.startswith("##INFO=<ID=CSQ,") and "Format: " in line:
            names = line.partition("Format: ")[2].rstrip('">').split("|")
            if {"Gene", "SIFT"} <= set(names):
                return {name: number for number, name in enumerate(names)}
    raise ValueError(f"{path}: its header has no CSQ with the fields Gene and SIFT")


def _row(number: int, line: str, columns: Mapping[str, int]) -> Sifted | None:
    fields = line.split("\t", 8)
    named = _RS.search(fields[2])
    csq = next((entry[4:] for entry in fields[7].split(";") if entry.startswith("CSQ=")), "")
    for entry in csq.split(",") if named else ():
        values = entry.split("|")
        if values[columns["SIFT"]].startswith(("deleterious", "tolerated")):
            phenotype = values[columns["Phenotype"]] if "Phenotype" in columns else ""
            return Sifted(number, int(named[1]), values[columns["Gene"]], values[columns["SIFT"]], phenotype)
    return None
