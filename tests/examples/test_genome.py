"""The 1000-genome workflow gives what a slow reference gives: on generated data, on a real slice, on odd lines."""

from __future__ import annotations

import gzip
import random
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shaper
from examples.genome import individuals, sharing, sifting, workflow
from examples.genome.generate import Files, Settings, generate, write_annotation
from examples.genome.workflow import Workflow
from shaper import Chunk, Source, Span, readers
from shaper.dataset import as_sources
from shaper.errors import BadInput, ProcessFailed
from tests.conftest import needs
from tests.examples import genome_reference as reference

REAL = Path("/usr/share/doc/shapeit4/examples/test/reference.vcf.gz")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two small chromosomes of 120 samples."""
    folder = tmp_path_factory.mktemp("genome")
    return generate(Settings(variants=700, chromosomes=2, samples=120, annotated=0.2, seed=5), folder, workers=1)


def run(work: Workflow, folder: Path, **options: Any) -> Any:
    return shaper.run(work.stages(), run_dir=folder, progress=False, cores=2, memory="2GB", **options).value


def counts(histogram: Any) -> dict[int, int]:
    return {int(value): int(histogram[value]) for value in np.flatnonzero(histogram)}


def assert_as_reference(found: Any, work: Workflow) -> None:
    """Compare every stage's value with the reference's."""
    populations = {name: columns for name, columns in work.columns().items() if columns}
    for genotypes, annotation in zip(work.genotypes, work.annotations, strict=True):
        chromosome = reference.lines_of(genotypes)[1][0][0]
        kept, numbers = reference.individuals(genotypes)
        merged = found["individuals_merge"][chromosome]
        assert merged.variants == len(numbers)
        assert merged.rs_numbers().tolist() == [number or 0 for number in numbers]
        matrix = merged.of(np.arange(merged.variants))
        assert {name: set(np.flatnonzero(row)) for name, row in zip(kept, matrix, strict=True)} == kept
        rows = reference.sifting(annotation)
        assert [tuple(row) for row in found["sifting"][chromosome]] == rows
        mine, variants = reference.sifted_of_people(kept, numbers, rows)
        everybody = list(mine.values())
        for population, columns in populations.items():
            key, people = (chromosome, population), [everybody[column] for column in columns]
            expected = reference.mutation_overlap(people)
            assert counts(found["mutation_overlap"][key]) == expected
            assert expected.total() == len(people) * (len(people) - 1) // 2
            stage = "frequency_all" if population == "ALL" else "frequency"
            assert counts(found[stage][key]) == +reference.frequency(
                people, variants, *key, runs=work.runs, draw=work.draw, seed=work.seed
            )


def test_the_workflow_gives_what_the_reference_gives(files: Files, tmp_path: Path) -> None:
    work = Workflow(files.genotypes, files.annotations, files.populations, draw=10, runs=30)
    found = run(work, tmp_path / "run")
    assert_as_reference(found, work)
    assert {population for _, population in found["frequency"]} == {"AFR", "AMR", "EAS", "EUR", "SAS"}, (
        "GBR has 4 of 120 samples, fewer than are drawn"
    )
    overlap = found["mutation_overlap"]["22", "ALL"]
    assert np.average(np.arange(overlap.size), weights=overlap) > 0.5, "pairs that share nothing prove nothing"


def by_hand(work: Workflow, rng: random.Random) -> dict[str, Any]:
    """The values of the stages, in this process, with sources cut anywhere and results merged in any order."""
    values: dict[str, Any] = {}
    for stage in work.stages():
        assert stage.process is not None
        assert stage.merge is not None
        dataset = stage.dataset(*(values[name] for name in stage.after)) if stage.after else stage.dataset
        chunks = []
        for source in as_sources(dataset):
            cuts = sorted({source.start, source.stop, *(rng.randint(source.start, source.stop) for _ in range(4))})
            chunks += [Chunk((Span(source, *cut),)) for cut in pairwise(cuts)]
        chunks[:2] = [Chunk((*chunks[0].spans, *chunks[1].spans))]
        results = [stage.process(chunk) for chunk in chunks]
        while len(results) > 1:
            rng.shuffle(results)
            results.append(stage.merge(results.pop(), results.pop()))
        values[stage.name] = results[0]
    return values


@pytest.mark.parametrize("seed", range(3))
def test_other_cuts_and_orders_of_merges_give_the_same_to_the_last_count(seed: int, files: Files) -> None:
    work = Workflow(files.genotypes, files.annotations, files.populations, draw=10, runs=30)
    assert_as_reference(by_hand(work, random.Random(seed)), work)


def test_a_real_slice_gives_what_the_reference_gives(tmp_path: Path) -> None:
    needs(REAL.is_file(), "a slice of the 1000 Genomes Project (as root: apt-get install shapeit4-example)")
    # Every eighth variant, plain: the whole of it takes the reference half a minute.
    head, *body = gzip.decompress(REAL.read_bytes()).split(b"\n#CHROM")
    columns, *rows = body[0].splitlines()
    slice_ = tmp_path / "slice.vcf"
    slice_.write_bytes(b"\n".join([head, b"#CHROM" + columns, *rows[::8], b""]))
    write_annotation(slice_, tmp_path / "annotation.vcf.gz", 0.05, 1)
    names = individuals.samples_of(slice_)
    populations = {"ALL": names, "first": names[:100], "nobody": ["stranger"]}
    work = Workflow([slice_], [tmp_path / "annotation.vcf.gz"], populations, runs=20)
    found = by_hand(work, random.Random(1))
    assert found["individuals_merge"]["20"].variants == 3124
    assert_as_reference(found, work)


def test_the_whole_real_slice_is_read(tmp_path: Path) -> None:
    needs(REAL.is_file(), "a slice of the 1000 Genomes Project (as root: apt-get install shapeit4-example)")
    counted = workflow.count(Chunk((Span(Source(str(REAL), 1, payload=workflow.GENOTYPES), 0, 1),)))
    (source,) = counted[workflow.GENOTYPES]
    assert (source.elements, source.group) == (24990, "20")
    calls = individuals.calls_of(Span(source, 0, 24990))
    found = np.unpackbits(calls.octets(), axis=0, count=24990)
    assert found.shape == (24990, 300)
    # The reference on the first three samples: all of them take it half a minute.
    three = tmp_path / "three.vcf"
    lines = gzip.decompress(REAL.read_bytes()).splitlines()
    three.write_bytes(b"\n".join(b"\t".join(line.split(b"\t")[:12]) for line in lines))
    kept, _ = reference.individuals(three)
    assert [set(np.flatnonzero(column)) for column in found.T[:3]] == list(kept.values())


def test_real_population_lists_keep_those_in_the_file(shared_data: Path, files: Files) -> None:
    from examples.genome.generate import read_populations

    lists = read_populations(shared_data / "genome" / "populations")
    assert {name: len(members) for name, members in lists.items()}["GBR"] == 107
    work = Workflow(
        files.genotypes, files.annotations, {**lists, "mine": ["AFR0001", "AFR0002", *lists["GBR"]]}, draw=2
    )
    assert {name: columns for name, columns in work.columns().items() if columns} == {"mine": (0, 1)}


# odd lines --------------------------------------------------------------------------------------------------------

HEAD = "##fileformat=VCFv4.1\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"


def vcf(path: Path, rows: list[str], samples: int = 3) -> Path:
    path.write_text(HEAD + "\t".join(f"s{n}" for n in range(samples)) + "\n" + "".join(row + "\n" for row in rows))
    return path


def row(genotypes: str, info: str = "AF=0.1", name: str = "rs1", format_: str = "GT") -> str:
    frequencies = next((entry for entry in info.split(";") if entry.startswith("AF=")), "")
    alternates = ",".join("C" * (1 + frequencies.count(",")))
    return "\t".join(["1", "1", name, "A", alternates, "100", "PASS", info, format_, *genotypes.split()])


ODD = [
    row("0|1 1|0 1|1"),
    row("0|1 1|0 1|1", "AF=0.5"),
    row("0|1 1|0 1|1", "EUR_AF=0.9;AF=0.9;X"),
    row("0/1 1/0 ./."),
    row(".|1 0|0 1|."),
    row("0|1 2|0 1|1", "AF=0.3,0.6"),
    row("0|1 2|0 1|1", "AF=0.2,0.1", "."),
    row("0 1 1", name="esv3;rs77"),
    row("0|1 10|0 1|1", "AF=" + ",".join(["0.01"] * 12)),
    row("10|1 0|0 1", "AF=" + ",".join(["0.01"] * 12), "xrs5"),
    row("0|1:9 1|0:4 1|1:3", format_="GT:DP"),
    row("2|2 0|0 3|1", "AF=0.2,0.5,0.1"),
]


@pytest.mark.parametrize("each", [1, 5, 100])
def test_odd_lines_are_read_as_the_reference_reads_them(each: int, tmp_path: Path) -> None:
    path = vcf(tmp_path / "odd.vcf", ODD * 40)
    source = readers.vcf(path, group="1")
    kept, numbers = reference.individuals(path)
    assert source.elements is not None
    parts = [
        individuals.individuals(Chunk((Span(source, at, min(at + each, source.elements)),)))
        for at in range(0, source.elements, each)
    ]
    calls = parts[-1]
    for part in parts[:-1]:
        calls = individuals.join(calls, part)
    blocks = list(individuals.sample_blocks(calls))
    found = individuals.individuals_merge(Chunk(tuple(Span(block, block.start, block.stop) for block in blocks)))["1"]
    matrix = found.of(np.arange(found.variants))
    assert [set(np.flatnonzero(mine)) for mine in matrix] == list(kept.values())
    assert found.rs_numbers().tolist() == [number or 0 for number in numbers]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([row("0|1 1|0 1|1"), row("0|1 1|0 1|1", "EUR_AF=0.1")], "variant 1: INFO has no AF: EUR_AF=0.1"),
        ([row("0|1 1|0"), row("0|1 1|0 1|1")], "variant 0: it has 2 samples, the header 3"),
        ([row("0|1 1|0 1|1"), row("0|1 x|y 1|1")], "variant 1: 'x|y' is no genotype of 2 alleles"),
        ([row("9/9 1|0 1|1")], "variant 0: '9/9' is no genotype of 2 alleles"),
        ([row("0|1 1|0 0|2")], "variant 0: '0|2' is no genotype of 2 alleles"),
        ([row("0|1 1|0 0,1")], "variant 0: '0,1' is no genotype of 2 alleles"),
        ([row("0|1 1|0 0|3", "AF=0.1,0.1")], "variant 0: '0|3' is no genotype of 3 alleles"),
        ([row("0|1:2 1|0:2 0|2:2", format_="GT:DP")], "variant 0: '0|2' is no genotype of 2 alleles"),
        ([row("0 1 7")], "variant 0: '7' is no genotype of 2 alleles"),
        ([row("0|1 1|0 1|1").replace("\tC\t", "\t.\t")], "variant 0: '0|1' is no genotype of 1 alleles"),
        ([row("0|1 1|0 1|1"), row("0|1 1|0")], "variant 1: it has 2 samples, the header 3"),
        ([row("0|1 1|0 1|1"), "no variant"], "variant 1 has 1 columns and no genotypes"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(lines: list[str], said: str, tmp_path: Path) -> None:
    source = readers.vcf(vcf(tmp_path / "bad.vcf", lines), group="1")
    with pytest.raises(ValueError, match=said) as found:
        individuals.calls_of(Span(source, 0, len(lines)))
    assert "bad.vcf" in str(found.value)


def test_fields_of_an_annotation_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    entries = ["||ENSG1|", "tolerated(0.4)||ENSG2|Asthma,deleterious(0.0)||ENSG3|", "||ENSG4|a tolerated thing"]
    lines = [f"1\t1\t{name}\tA\tC\t.\t.\tX=1;CSQ={csq}" for name in ("rs5", ".") for csq in entries]
    path.write_text(
        '##INFO=<ID=CSQ,Number=.,Type=String,Description="From VEP. Format: SIFT|Allele|Gene|Phenotype">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "\n".join(lines)
    )
    chunk = Chunk((Span(readers.vcf(path, group="1"), 0, 6),))
    assert sifting.sifting(chunk) == {"1": (sifting.Sifted(1, 5, "ENSG2", "tolerated(0.4)", "Asthma"),)}
    path.write_text("#CHROM\n1\t1\n")
    with pytest.raises(ValueError, match="its header has no CSQ with the fields Gene and SIFT"):
        sifting.sifting(Chunk((Span(readers.vcf(path), 0, 1),)))


# sharing ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(people=st.integers(2, 13), cut=st.integers(1, 40), seed=st.integers(0, 99))
def test_every_pair_is_counted_once_however_pairs_are_cut(people: int, cut: int, seed: int) -> None:
    matrix = (np.random.default_rng(seed).random((people, 20)) < 0.3).astype(np.uint8)
    genotypes = {"1": packed(matrix)}
    sifted = {"1": tuple(sifting.Sifted(n, n + 1, "", "tolerated(1)", "") for n in range(20))}
    (source,) = sharing.Pairs({"P": tuple(range(people))})(genotypes, sifted)
    total: Any = {}
    for start in range(0, source.stop, cut):
        total = sharing.add(
            total, sharing.mutation_overlap(Chunk((Span(source, start, min(start + cut, source.stop)),)))
        )
    assert counts(total["1", "P"]) == reference.mutation_overlap([set(np.flatnonzero(mine)) for mine in matrix])


def packed(matrix: Any) -> individuals.Genotypes:
    """As individuals_merge gives them, of variants rs1, rs2, ..."""
    rows = zlib.compress(np.packbits(matrix, axis=1).tobytes())
    numbers = zlib.compress(np.arange(1, matrix.shape[1] + 1, dtype=np.int64).tobytes())
    return individuals.Genotypes(matrix.shape[1], numbers, ((0, len(matrix), rows),))


def test_all_is_the_heaviest_and_what_travels_is_small(files: Files) -> None:
    work = Workflow(files.genotypes, files.annotations, files.populations, draw=4, runs=2)
    found = by_hand(work, random.Random(1))
    groups = list(sharing.groups(work.columns(), found["individuals_merge"], found["sifting"]))
    of_all = {group.chromosome: group for group in groups if group.population == "ALL"}
    for group in groups:
        assert group.variants <= of_all[group.chromosome].variants
        assert group.variants + group.absent == of_all[group.chromosome].variants + of_all[group.chromosome].absent
        assert len(group.bits) < group.people * group.variants / 8 + 100


# inputs that do not fit together ----------------------------------------------------------------------------------


def test_files_that_do_not_fit_together_are_refused(files: Files, tmp_path: Path) -> None:
    other = vcf(tmp_path / "other.vcf", ODD)
    with pytest.raises(BadInput, match=r"other.vcf: its samples are not those of .*chr22.vcf.gz"):
        Workflow([files.genotypes[0], other], files.annotations, files.populations).stages()
    with pytest.raises(BadInput, match=r"no population has 200 samples in .*: draw fewer"):
        Workflow(files.genotypes, files.annotations, files.populations, draw=200).stages()
    twice = Workflow([files.genotypes[0], files.genotypes[0].parent / "copy.vcf.gz"], [], files.populations, draw=10)
    twice.genotypes[1].write_bytes(files.genotypes[0].read_bytes())
    with pytest.raises(ProcessFailed) as found:
        run(twice, tmp_path / "run")
    assert "two of these files are of one chromosome" in str(found.value.__cause__)
