"""Makes the annotation file of a chromosome: what its variants may do, in the CSQ fields that Ensembl's VEP writes.

Nothing of it is real: which variants change a protein, and whether that is tolerated, is drawn by a seed. Some of them
have two entries (transcripts) of which only the second has a SIFT prediction, and some predictions belong to variants
without an rs number: a reader of these files meets both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from shaper import Source, Span
from shaper.readers import lines_of

COLUMNS = ("Allele", "Consequence", "Gene", "Feature", "SIFT", "PolyPhen", "Phenotype")
_PREDICTIONS = ("deleterious", "tolerated", "deleterious_low_confidence", "tolerated_low_confidence")
_SHARES = (0.38, 0.52, 0.05, 0.05)
_PHENOTYPES = ("", "", "", "Height", "Blood_pressure", "Asthma", "Type_2_diabetes")
_GENE_LINES = 400  # lines that make a gene
_BATCH = 4096


def header(chromosome: str) -> bytes:
    """The header lines of an annotation file; CSQ's own order of fields stands in its description."""
    description = f"Consequence annotations from Ensembl VEP. Format: {'|'.join(COLUMNS)}"
    lines = [
        "##fileformat=VCFv4.1",
        "##source=examples.genome.annotation",
        f"##contig=<ID={chromosome}>",
        f'##INFO=<ID=CSQ,Number=.,Type=String,Description="{description}">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]),
    ]
    return "\n".join(lines).encode() + b"\n"


def annotated_lines(genotypes: Source, share: float, seed: int) -> Iterator[bytes]:
    """Yield lines of annotation, some thousand at a time, for all lines of a VCF file.

    Args:
        genotypes: of `shaper.readers.vcf`.
        share: of the lines that get a SIFT prediction; about 0.005 in nature.
        seed: same seed, same annotation.
    """
    assert genotypes.elements is not None
    for start in range(0, genotypes.elements, _BATCH):
        span = Span(genotypes, start, min(start + _BATCH, genotypes.elements))
        yield b"".join(_annotated(lines_of(span), span, share, np.random.default_rng((seed, start))))


def _annotated(lines: Iterable[bytes], span: Span, share: float, rng: np.random.Generator) -> Iterator[bytes]:
    predicted = rng.random(len(span)) < share
    kinds = rng.choice(len(_PREDICTIONS), len(span), p=_SHARES)
    scores, polyphen, twice = rng.random((3, len(span)))
    phenotypes = rng.integers(len(_PHENOTYPES), size=len(span))
    for row, line in enumerate(lines):
        chromosome, position, name, reference, alternate, _ = line.decode().split("\t", 5)
        gene = f"ENSG{int(position) // _GENE_LINES:011d}"
        allele = alternate.split(",")[0]
        entries = [[allele, "intergenic_variant", "", "", "", "", ""]]
        if predicted[row]:
            # Low scores are the deleterious ones.
            score = 0.05 * scores[row] if kinds[row] % 2 == 0 else 0.05 + 0.95 * scores[row]
            sift = f"{_PREDICTIONS[kinds[row]]}({score:.2f})"
            effect = f"possibly_damaging({polyphen[row]:.3f})"
            phenotype = _PHENOTYPES[phenotypes[row]]
            entries = [[allele, "missense_variant", gene, f"ENST{row:011d}", sift, effect, phenotype]]
            if twice[row] < 0.2:
                entries.insert(0, [allele, "upstream_gene_variant", f"{gene[:4]}9{gene[5:]}", "", "", "", ""])
        csq = ",".join("|".join(entry) for entry in entries)
        yield "\t".join([chromosome, position, name, reference, alternate, "100", "PASS", f"CSQ={csq}\n"]).encode()
