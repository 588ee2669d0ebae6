"""Reads aligned in pieces give what one run of bwa gives; an index is made once; what goes wrong is said."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import reduce
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path

import pytest

from examples.alignment import __main__ as command
from examples.alignment import index, tools
from examples.alignment.align import Align, merge_by_place, merge_in_order
from shaper import Chunk, Source, Span, readers
from shaper.errors import BadInput, Changed
from tests.conftest import ROOT, needs

READS = 3000


def needs_tools() -> None:
    programs = all(map(shutil.which, ("bwa", "samtools")))
    needs(programs, "bwa and samtools (as root: apt-get install bwa samtools)")


@pytest.fixture(scope="module")
def bees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Source]:
    """Four genomes so similar that most reads fit several of them equally well, and real reads."""
    needs_tools()
    needs(command.GASIC.is_dir(), "real reads and genomes (as root: apt-get install gasic-examples)")
    folder = tmp_path_factory.mktemp("bees")
    genome = folder / "genome.fa"
    parts = [gzip.decompress(path.read_bytes()).rstrip() for path in sorted((command.GASIC / "genomes").glob("*.gz"))]
    genome.write_bytes(b"\n".join(parts) + b"\n")
    reads = folder / "reads.fastq"
    with gzip.open(command.GASIC / "reads" / "SRR059298_subset.fastq.gz") as packed, reads.open("wb") as out:
        out.writelines(islice(packed, 4 * READS))
    return genome, readers.fastq(reads)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPER_ALIGNMENT_CACHE", str(tmp_path_factory.getbasetemp() / "alignment-cache"))


def said(*words: str, **options: object) -> bytes:
    return subprocess.run(words, capture_output=True, check=True, **options).stdout  # type: ignore[call-overload, no-any-return]


def records_of(bam: bytes) -> list[bytes]:
    return command.records(said("samtools", "view", "-", input=bam))


def head_of(bam: bytes) -> list[bytes]:
    return said("samtools", "view", "--no-PG", "-H", "-", input=bam).splitlines()


def one_run(genome: Path, *reads: str) -> list[bytes]:
    prefix = index.index_of(genome, index.digest_of(genome))
    return [record for path in reads for record in command.records(said("bwa", "mem", str(prefix), path))]


def pieces(source: Source, seed: int) -> list[Chunk]:
    rng = random.Random(seed)
    cuts = sorted({0, 1, source.stop, *(rng.randrange(source.stop) for _ in range(5))})
    return [Chunk((Span(source, *cut),), cores=1 + number % 2) for number, cut in enumerate(pairwise(cuts))]


@pytest.mark.parametrize("seed", range(2))
def test_pieces_in_order_are_one_run_of_bwa_to_the_last_tie(bees: tuple[Path, Source], seed: int) -> None:
    genome, source = bees
    align = Align(str(genome), index.digest_of(genome))
    found = records_of(reduce(merge_in_order, map(align, pieces(source, seed))))
    assert found == one_run(genome, source.id)
    assert len(found) >= READS


def test_sorted_pieces_are_one_run_of_bwa_and_stay_sorted_however_they_are_merged(bees: tuple[Path, Source]) -> None:
    genome, source = bees
    align = Align(str(genome), index.digest_of(genome), by_place=True)
    results = [align(piece) for piece in pieces(source, 3)]
    left = reduce(merge_by_place, results)
    right = reduce(lambda a, b: merge_by_place(b, a), reversed(results))
    expected = Counter(one_run(genome, source.id))
    for merged in (left, right):
        found = records_of(merged)
        assert Counter(found) == expected
        mapped = [line.split(b"\t") for line in found if line.split(b"\t")[2] != b"*"]
        names = [line.split(b"SN:")[1].split()[0] for line in head_of(merged) if line.startswith(b"@SQ")]
        places = [(names.index(fields[2]), int(fields[3])) for fields in mapped]
        assert places == sorted(places)
    assert sum(line.startswith(b"@PG") for line in head_of(left)) == 1


def test_without_fillers_reads_get_other_ones_of_their_best_places(bees: tuple[Path, Source]) -> None:
    genome, source = bees
    align = Align(str(genome), index.digest_of(genome), ties=False)
    found = Counter(records_of(reduce(merge_in_order, map(align, pieces(source, 1)))))
    expected = Counter(one_run(genome, source.id))
    differing = list((expected - found).elements())
    assert 0.1 * READS < len(differing) < READS, "if this is none, fillers are not needed"
    assert found.total() == expected.total()


def test_a_chunk_of_two_files_is_a_run_of_bwa_for_each(bees: tuple[Path, Source], tmp_path: Path) -> None:
    genome, source = bees
    other = tmp_path / "other.fastq.gz"
    with Path(source.id).open("rb") as lines:
        other.write_bytes(gzip.compress(b"".join(islice(lines, 400, 1200))))
    second = readers.fastq(other)
    chunk = Chunk((Span(source, 0, source.stop), Span(second, 0, 200)))
    found = records_of(Align(str(genome), index.digest_of(genome))(chunk))
    assert found == one_run(genome, source.id, str(other))


# the index -------------------------------------------------------------------------------------------------------


def make_index(genome: Path, cache: Path) -> str:
    os.environ["SHAPER_ALIGNMENT_CACHE"] = str(cache)
    return str(index.index_of(genome, index.digest_of(genome)))


def test_an_index_is_made_once_by_all_who_want_it_at_once(bees: tuple[Path, Source], tmp_path: Path) -> None:
    genome, _ = bees
    real = shutil.which("bwa")
    calls = tmp_path / "bin" / "bwa"
    calls.parent.mkdir()
    calls.write_text(f'#!/bin/sh\necho made >> {tmp_path}/log\nexec {real} "$@"\n')
    calls.chmod(0o755)
    cache = tmp_path / "cache"
    left = cache / f".partial-{index.digest_of(genome)}-dead"
    left.mkdir(parents=True)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{calls.parent}:{before}"
    try:
        with get_context("fork").Pool(4) as pool:
            prefixes = pool.starmap(make_index, [(genome, cache)] * 8, chunksize=1)
    finally:
        os.environ["PATH"] = before
    assert len(set(prefixes)) == 1
    assert (tmp_path / "log").read_text() == "made\n"
    assert not left.exists(), "what a killed process has left is removed"
    assert Path(f"{prefixes[0]}.bwt").is_file()


def test_a_genome_that_changed_is_refused(tmp_path: Path) -> None:
    genome = tmp_path / "genome.fa"
    genome.write_text(">a\nACGT\n")
    digest = index.digest_of(genome)
    genome.write_text(">a\nACGA\n")
    with pytest.raises(Changed, match=r"genome.fa: the genome has changed"):
        index.index_of(genome, digest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines, "records are those of one run of bwa"),
        (lambda lines: lines[:-1], "1 are missing, and 0 are none of them"),
        (lambda lines: [*lines, lines[-1]], "0 are missing, and 1 are none of them"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"\t", b"x\t", 1)], "1 are missing, and 1 are none of them"),
    ],
)
def test_a_check_tells_what_is_missing_and_what_is_too_many(
    change: Callable[[list[bytes]], list[bytes]],
    said: str,
    bees: tuple[Path, Source],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    genome, source = bees
    align = Align(str(genome), index.digest_of(genome))
    prefix = index.index_of(genome, align.digest)
    lines = subprocess.run(["bwa", "mem", str(prefix), source.id], capture_output=True, check=True).stdout.splitlines()
    (tmp_path / "out.sam").write_bytes(b"\n".join(change(lines)) + b"\n")
    assert command.check(tmp_path / "out.sam", [source], align, 1) == ("missing" in said)
    assert said in capsys.readouterr().out


def test_a_program_that_was_killed_is_told_with_the_signal() -> None:
    with pytest.raises(tools.ToolFailed, match="sh -c ended with SIGSEGV: it said nothing"):
        tools.run("sh", "-c", "kill -SEGV $$")


def test_what_bwa_says_when_it_fails_is_told(
    bees: tuple[Path, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome, source = bees
    monkeypatch.setenv("SHAPER_ALIGNMENT_CACHE", str(tmp_path))
    align = Align(str(genome), index.digest_of(genome))
    index.index_of(genome, align.digest).with_suffix(".bwt").unlink()
    with pytest.raises(tools.ToolFailed, match=r"bwa mem ended with 1: .*fail to locate the index files"):
        align(Chunk((Span(source, 0, source.stop),)))


def test_what_samtools_says_when_it_fails_is_told(
    bees: tuple[Path, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome, source = bees
    broken = tmp_path / "samtools"
    broken.write_text("#!/bin/sh\necho no room left >&2\nexit 3\n")
    broken.chmod(0o755)
    align = Align(str(genome), index.digest_of(genome))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(tools.ToolFailed, match="samtools view ended with 3: no room left"):
        align(Chunk((Span(source, 0, source.stop),)))


def test_a_read_that_is_none_is_named_and_bwa_is_not_left_behind(bees: tuple[Path, Source], tmp_path: Path) -> None:
    genome, _ = bees
    path = tmp_path / "bad.fastq"
    path.write_bytes(b"@a\nACGT\n+\nIIII\n" * 5 + b"@b\nACGT\n+\nIII\n")
    align = Align(str(genome), index.digest_of(genome))
    with pytest.raises(BadInput, match="read 5 is not four lines of FASTQ"):
        align(Chunk((Span(readers.fastq(path), 0, 6),)))


# the command -----------------------------------------------------------------------------------------------------


def test_the_command_aligns_simulated_reads_with_threads_and_checks_itself(
    bees: tuple[Path, Source], tmp_path: Path
) -> None:
    options = ["--simulate", "2000", "--check", "--sort", "--threads", "2", "--cores", "2", "--memory", "1GB"]
    options += ["--genome", str(bees[0])]
    words = [sys.executable, "-m", "examples.alignment", *options, "--out", "out", "--run-dir", "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert 2000 <= int(first.split()[0]) < 2010, "wgsim rounds for each of the genomes"
    assert "records are those of one run of bwa" in second
    assert 0.9 < float(first.split("s, ")[1].split("%")[0]) / 100 <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--reads", "missing.fastq"], "--reads and --genome belong together"),
        (["--reads", "missing.fastq", "--genome", "missing.fa"], "missing.fastq: no such file"),
        (["--simulate", "10", "--genome", "missing.fa"], "missing.fa: no such file"),
        (["--simulate", "-5"], "--simulate must be at least 1, got -5"),
        (["--simulate", "5", "--reads", "reads.fastq"], "give --simulate or --reads, not both"),
        (["--threads", "99", "--cores", "2"], "--threads 99: there are 2 cores"),
        (["--memory", "2XB"], "'2XB' is not a size"),
        (["--out", "reads.fastq"], "--out reads.fastq: File exists"),
        (["--simulate", "10", "--genome", "empty.fa"], "empty.fa: not a genome in FASTA"),
        (["--reads", "reads.fastq", "--genome", "reads.fastq"], "reads.fastq: not a genome in FASTA"),
        (["--reads", "reads.fastq", "--genome", "names.fa"], "names.fa: not a genome in FASTA"),
        (["--reads", "reads.fastq", "--genome", "short.fa.gz"], "short.fa.gz: it is damaged or cut short"),
        (["--reads", "empty.fa", "--genome", "genome.fa"], "empty.fa: it has no reads"),
    ],
)
def test_wrong_options_get_one_clear_line(
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_tools()
    monkeypatch.chdir(tmp_path)
    contents = {"reads.fastq": b"@a\nACGT\n+\nIIII\n", "empty.fa": b"", "names.fa": b">a\n>b\n"}
    contents |= {"genome.fa": b">a\nACGT\n", "short.fa.gz": gzip.compress(b">a\nACGT\n")[:-4]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert command.main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_machine_without_bwa_is_told_how_to_get_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "as root: apt-get install bwa samtools" in capsys.readouterr().err
