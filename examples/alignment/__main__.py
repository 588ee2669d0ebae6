"""Aligns reads to a genome with bwa, cut by shaper, and writes one BAM file.

python -m examples.alignment                            100,000 real reads of bee viruses, Debian's gasic-examples
python -m examples.alignment --simulate 200000          reads of E. coli 536 made by wgsim, Debian's bowtie-examples
python -m examples.alignment --reads a.fastq b.fastq.gz --genome genome.fa.gz
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import shaper
from examples import where
from examples.alignment import tools
from examples.alignment.align import Align, merge_by_place, merge_in_order
from examples.alignment.index import digest_of, index_of
from shaper import Source, Stage, readers
from shaper.errors import BadInput, UserError
from shaper.policy import Adaptive

GASIC = Path("/usr/share/doc/gasic/examples")
ECOLI = Path("/usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz")


def main(arguments: list[str] | None = None) -> int:
    """Run the example; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (UserError, tools.ToolFailed) as error:
        print(f"alignment: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.threads is not None and options.threads < 1:
        raise BadInput(f"--threads must be at least 1, got {options.threads}")
    tools.need("bwa", "samtools")
    options.out.mkdir(parents=True, exist_ok=True)
    paths, genome = _inputs(options)
    sources = [readers.fastq(path) for path in paths]
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
        return _check(out, sources, align, options)
    return 0


def _check(out: Path, sources: list[Source], align: Align, options: argparse.Namespace) -> int:
    """Run bwa once over each file and compare records, whatever their order."""
    prefix = index_of(Path(align.genome), align.digest)
    expected: Counter[bytes] = Counter()
    for source in sources:
        single = tools.run("bwa", "mem", "-v", "1", "-t", str(options.threads or 1), str(prefix), source.id)
        expected.update(records(single))
    found = Counter(records(tools.run("samtools", "view", str(out))))
    differing = (expected - found).total()
    if differing:
        print(f"{differing} of {expected.total()} records are not those of one run of bwa")
        return 1
    print(f"all {expected.total()} records are those of one run of bwa")
    return 0


def records(sam: bytes) -> list[bytes]:
    """The records of SAM, without its header."""
    return [line for line in sam.splitlines() if not line.startswith(b"@")]


def _inputs(options: argparse.Namespace) -> tuple[list[Path], Path]:
    """Reads, and a genome; made in the output folder where they are not there as they are needed."""
    if (options.reads is None) != (options.genome is None) and not options.simulate:
        raise BadInput("--reads and --genome belong together")
    if options.simulate:
        tools.need("wgsim")
        genome = options.genome or ECOLI
        _installed(genome, "bowtie-examples")
        return [simulated(genome, options.simulate, options.seed, options.out)], genome
    if options.reads:
        for path in (*options.reads, options.genome):
            _installed(path, "")
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
        opener = gzip.open if genome.suffix == ".gz" else open
        with opener(genome, "rb") as packed, plain.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
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
