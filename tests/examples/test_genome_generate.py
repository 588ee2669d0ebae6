"""The generator of phase-3-like files: same settings, same files; what its lines say is true; rare variants, drift."""

from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from examples.genome import bgzf, variants
from examples.genome.generate import Settings, generate, main
from examples.genome.variants import BATCH, POPULATIONS, Cohort
from shaper import readers
from tests.examples.genome_reference import lines_of, rs_of

SMALL = Settings(variants=300, chromosomes=1, samples=100, annotated=0.3, seed=2)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    generate(SMALL, tmp_path / "a", workers=1)
    generate(SMALL, tmp_path / "b", workers=2)
    generate(replace(SMALL, seed=3), tmp_path / "c", workers=1)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a")["chr22.vcf.gz"] != content(tmp_path / "c")["chr22.vcf.gz"]


def test_generates_only_when_settings_change_or_a_file_is_not_whole(tmp_path: Path) -> None:
    files = generate(SMALL, tmp_path, workers=1)
    (genotypes,) = files.genotypes
    before = genotypes.stat().st_mtime_ns
    assert generate(SMALL, tmp_path, workers=1) == files
    assert genotypes.stat().st_mtime_ns == before
    genotypes.write_bytes(genotypes.read_bytes()[:-100])
    generate(SMALL, tmp_path, workers=1)
    assert readers.vcf(genotypes).elements == 300
    (other,) = generate(replace(SMALL, variants=200), tmp_path, workers=1).genotypes
    assert readers.vcf(other).elements == 200


def test_a_failed_generation_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("examples.genome.generate._write", full)
    with pytest.raises(OSError, match="no space"):
        generate(SMALL, tmp_path, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_what_a_line_says_of_its_genotypes_is_true(tmp_path: Path) -> None:
    files = generate(replace(SMALL, variants=900), tmp_path, workers=1)
    head, rows = lines_of(files.genotypes[0])
    samples = head[-1].split("\t")[9:]
    assert samples == list(files.populations["ALL"])
    places = {name: [samples.index(one) for one in files.populations[name]] for name in ("EUR", "AFR")}
    several = 0
    for row in rows:
        info = dict(entry.split("=", 1) for entry in row[7].split(";"))
        assert list(info)[1] == "AF"
        assert list(info)[8] == "EUR_AF", "what is ninth in phase 3, and was taken for AF"
        alternates = row[4].split(",")
        several += len(alternates) > 1
        for number in range(1, len(alternates) + 1):
            had = [cell.split("|").count(str(number)) for cell in row[9:]]
            assert int(info["AC"].split(",")[number - 1]) == sum(had) > 0
            assert float(info["AF"].split(",")[number - 1]) == pytest.approx(sum(had) / 200, rel=1e-5)
            for name, mine in places.items():
                frequency = sum(had[column] for column in mine) / (2 * len(mine))
                assert float(info[f"{name}_AF"].split(",")[number - 1]) == pytest.approx(frequency, abs=1e-4)
    assert several > 0
    positions = [int(row[1]) for row in rows]
    assert positions == sorted(set(positions))
    numbers = [rs_of(row[2]) for row in rows]
    assert len(set(numbers) - {None}) == len(numbers) - numbers.count(None)
    assert 0 < numbers.count(None) < 0.05 * len(rows)


def test_annotations_are_of_the_same_variants(tmp_path: Path) -> None:
    files = generate(replace(SMALL, variants=900), tmp_path, workers=1)
    rows, notes = lines_of(files.genotypes[0])[1], lines_of(files.annotations[0])[1]
    assert [row[:5] for row in rows] == [note[:5] for note in notes]
    predicted = [note[7] for note in notes if "deleterious" in note[7] or "tolerated" in note[7]]
    assert 0.2 < len(predicted) / 900 < 0.4
    assert any("," in csq for csq in predicted), "an entry without a prediction before one that has it"


def test_most_variants_are_rare() -> None:
    cohort = Cohort(2504)
    frequencies = np.concatenate(
        [
            variants.drawn_alleles(cohort, np.random.default_rng(seed)).astype(bool).mean(axis=(1, 2))
            for seed in range(6)
        ]
    )
    assert 0.70 < (frequencies < 0.005).mean() < 0.82
    assert 0.05 < (frequencies > 0.05).mean() < 0.16
    assert frequencies.min() > 0


def test_populations_drift_apart_as_they_should() -> None:
    cohort = Cohort(2504)
    edges = np.cumsum([0, *cohort.sizes.values()])
    ratios = []
    for seed in range(10):
        alleles = variants.drawn_alleles(cohort, np.random.default_rng(seed)).astype(bool)
        own = np.stack([alleles[:, a:b].mean(axis=(1, 2)) for a, b in pairwise(edges)])
        common = (own.mean(axis=0) > 0.2) & (own.mean(axis=0) < 0.8)
        mean = own.mean(axis=0)[common]
        ratios += list(own[:, common].var(axis=0, ddof=1) / (mean * (1 - mean)))
    assert np.mean(ratios) == pytest.approx(np.mean([p.drift for p in POPULATIONS]), rel=0.3)


def test_samples_are_shared_out_as_in_phase_3() -> None:
    cohort = Cohort(2504)
    assert cohort.sizes == {population.name: population.samples for population in POPULATIONS}
    assert {name: len(members) for name, members in cohort.lists.items()} == {
        "ALL": 2504,
        "GBR": 91,
        **cohort.sizes,
    }
    assert set(cohort.lists["GBR"]) < set(cohort.lists["EUR"])
    assert len(Cohort(101).names) == 101


def test_any_number_of_variants_ends_where_it_should() -> None:
    cohort = Cohort(60)
    whole = variants.drawn_lines("22", 1, BATCH, cohort, 1).splitlines()
    assert variants.drawn_lines("22", 1, 5, cohort, 1).splitlines() == whole[:5]


def test_blocks_are_those_of_bgzip(tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes(200_000) + bytes(200_000)
    packed = bgzf.compressed(data) + bgzf.END
    assert gzip.decompress(packed) == data
    at, sizes = 0, []
    while at < len(packed):
        assert packed[at : at + 4] == b"\x1f\x8b\x08\x04"
        assert packed[at + 12 : at + 16] == b"BC\x02\x00"
        sizes.append(int.from_bytes(packed[at + 16 : at + 18], "little") + 1)
        at += sizes[-1]
    assert at == len(packed)
    assert len(sizes) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variants", "0"], "got 0 in each of 2"),
        (["--chromosomes", "9"], "1 to 4 chromosomes"),
        (["--samples", "3"], "at least 50 samples"),
        (["--annotated", "0"], "a share from above 0 to 1"),
    ],
)
def test_bad_settings_are_told_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*options, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
