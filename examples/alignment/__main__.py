"""Aligns reads to a genome with bwa, cut by shaper, and writes one BAM file.

python -m examples.alignment                            100,000 real reads of bee viruses, Debian's gasic-examples
python -m examples.alignment --simulate 200000          reads of E. coli 536 made by wgsim, Debian's bowtie-examples
python -m examples.alignment --reads a.fastq b.fastq.gz --genome genome.fa.gz
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import IO, cast

import shaper
from examples import where
from examples.alignment import tools
from examples.alignment.align import Align, merge_by_place, merge_in_order
from examples.alignment.index import digest_of, index_of
from shaper import Source, Stage, readers
from shaper.errors import BadInput
from shaper.policy import Adaptive

GASIC = Path("/usr/share/doc/gasic/examples")
ECOLI = Path("/usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz")


def main(arguments: list[str] | None = None) -> int:
    """Run the example; return the exit code."""
    options = _parser().parse_args(arguments)
    return where.ended("alignment", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    tools.need("bwa", "samtools")
    _check_options(options)
    paths, genome = _inputs(options)
    sources = [readers.fastq(path) for path in paths]
    for source in sources:
        if not source.elements:
            raise BadInput(f"{source}: it has no reads")
    align = Align(str(genome), digest_of(genome), by_place=options.sort, ties=not options.any_tie)
    stage = Stage(
        "align",
        sources,
        align,
        merge_by_place if options.sort else merge_in_order,
        mode="threads",
        ordered=not options.sort,
    )
    started_s = time.perf_counter()
    bam = shaper.run(stage, policy=Adaptive(cores=options.threads), name="alignment", **where.given(options)).value
    wall_s = time.perf_counter() - started_s
    out = options.out / "aligned.bam"
    out.write_bytes(bam)
    reads = sum(source.elements or 0 for source in sources)
    mapped = int(tools.run("samtools", "view", "-c", "-F", "0x904", str(out)))
    print(f"{reads} reads in {wall_s:.1f} s, {mapped / reads:.1%} mapped, in {out}")
    if options.check:
        return check(out, sources, align, options.threads or 1)
    return 0


def check(out: Path, sources: list[Source], align: Align, threads: int) -> int:
    """Run bwa once over each file and compare records, whatever their order; return the exit code."""
    prefix = index_of(Path(align.genome), align.digest)
    expected: Counter[bytes] = Counter()
    for source in sources:
        single = tools.run("bwa", "mem", "-v", "1", "-t", str(threads), str(prefix), source.id)
        expected.update(records(single))
    found = Counter(records(tools.run("samtools", "view", str(out))))
    missing, surplus = (expected - found).total(), (found - expected).total()
    if missing or surplus:
        print(f"of {expected.total()} records of one run of bwa {missing} are missing, and {surplus} are none of them")
        return 1
    print(f"all {expected.total()} records are those of one run of bwa")
    return 0


def records(sam: bytes) -> list[bytes]:
    """The records of SAM, without its header."""
    return [line for line in sam.splitlines() if not line.startswith(b"@")]


def _check_options(options: argparse.Namespace) -> None:
    where.check(options)
    for name in ("threads", "simulate"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise BadInput(f"--{name} must be at least 1, got {value}")
    cores = options.cores or len(os.sched_getaffinity(0))
    if options.engine == "local" and (options.threads or 1) > cores:
        raise BadInput(f"--threads {options.threads}: there are {cores} cores")
    if options.simulate and options.reads:
        raise BadInput("give --simulate or --reads, not both")
    if (options.reads is None) != (options.genome is None) and not options.simulate:
        raise BadInput("--reads and --genome belong together")


def _inputs(options: argparse.Namespace) -> tuple[list[Path], Path]:
    """Reads, and a genome; made in the output folder where they are not there as they are needed."""
    if options.simulate:
        tools.need("wgsim")
        genome = options.genome or ECOLI
        _installed(genome, "bowtie-examples")
        check_genome(genome)
        return [simulated(genome, options.simulate, options.seed, options.out)], genome.resolve()
    if options.reads:
        for path in (*options.reads, options.genome):
            _installed(path, "")
        check_genome(options.genome)
        return [entered_anywhere(path, options.out) for path in options.reads], options.genome.resolve()
    reads = GASIC / "reads" / "SRR059298_subset.fastq.gz"
    _installed(reads, "gasic-examples")
    viruses = options.out / "viruses.fasta"
    genomes = [gzip.decompress(path.read_bytes()).rstrip() for path in sorted((GASIC / "genomes").glob("*.gz"))]
    viruses.write_bytes(b"\n".join(genomes) + b"\n")
    return [entered_anywhere(reads, options.out)], viruses.resolve()


def _installed(path: Path, package: str) -> None:
    if not path.is_file():
        more = f"; on Debian, as root: apt-get install {package}" if package else ""
        raise BadInput(f"{path}: no such file{more}")


def check_genome(path: Path) -> None:
    """Refuse what is no FASTA file: bwa ends without a word there.

    Raises:
        BadInput: the file is damaged, or has no sequence under a name.
    """
    named = bases = False
    try:
        with _unpacked(path) as content:
            for line in content:  # to the end, as what is cut short shows there
                if not named and not line.startswith(b">"):
                    break
                named = True
                bases = bases or (not line.startswith(b">") and line.strip().isalpha())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{path}: it is damaged or cut short: {error}") from error
    if not bases:
        raise BadInput(f"{path}: not a genome in FASTA: it has no sequence under a line that begins with '>'")


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


def entered_anywhere(reads: Path, folder: Path) -> Path:
    """Return the path of reads that a task can begin to read anywhere: what gzip wrote is unpacked into the folder."""
    source = readers.fastq(reads)
    points = source.payload.points
    if len({point.place for point in points}) == len(points) or len(points) < 2:
        return reads.resolve()
    unpacked = folder / reads.name.removesuffix(".gz")
    with gzip.open(reads) as packed, unpacked.open("wb") as out:
        shutil.copyfileobj(packed, out)
    return unpacked.resolve()


def simulated(genome: Path, reads: int, seed: int, folder: Path) -> Path:
    """Return the path of single-end reads of 100 bases that wgsim draws from a genome."""
    out = folder / f"simulated-{reads}-{seed}.fastq"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        plain = Path(scratch) / "genome.fa"
        with _unpacked(genome) as content, plain.open("wb") as file:
            shutil.copyfileobj(content, file)
        first, second = Path(scratch) / "1.fastq", Path(scratch) / "2.fastq"
        lengths = ["-1", "100", "-2", "100", "-S", str(seed), "-N", str(reads)]
        tools.run("wgsim", *lengths, str(plain), str(first), str(second))
        first.rename(out)
    return out.resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.alignment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reads", type=Path, nargs="+", metavar="FASTQ", help="single-end reads, plain or gzip")
    parser.add_argument("--genome", type=Path, metavar="FASTA", help="what to align them to, plain or gzip")
    parser.add_argument("--simulate", type=int, metavar="READS", help="so many reads of the genome [E. coli 536]")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated reads [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("demo-output/alignment"), help="folder [%(default)s]")
    parser.add_argument("--sort", action="store_true", help="by place on the genome, not in the order of the reads")
    parser.add_argument("--any-tie", action="store_true", help="any of the best places: no fillers, see README")
    parser.add_argument("--check", action="store_true", help="compare with one run of bwa")
    parser.add_argument("--threads", type=int, help="cores of a task, which are bwa's threads [what gets most done]")
    where.add_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
