"""Aligns reads with `bwa mem`, so that pieces together are what one run of bwa over the whole file gives.

Where a read fits several places equally well, bwa chooses by a hash of the read's number in its input. A piece that
begins with read 5,000 must therefore begin with read 5,000 for bwa too: that many fillers (20 N, dropped from the
output) go before it. `ties=False` leaves them out; reads with several best places may then get another of them than in
one run.

Reads are taken to be single-end. For pairs bwa estimates the sizes of inserts from each batch of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from subprocess import PIPE
from threading import Thread
from typing import IO

from examples.alignment import tools
from examples.alignment.index import index_of
from shaper import Chunk, Span
from shaper.readers import reads_of

# Longer ones cost more time, shorter ones more memory: more of them make a batch.
_FILLER = b"@filler\n" + 20 * b"N" + b"\n+\n" + 20 * b"!" + b"\n"
_FILLERS = 4096  # written at once
_BATCH_BASES = 1_000_000  # that bwa takes in at once, whatever its threads; they take 20 MB


@dataclass(frozen=True, slots=True)
class Align:
    """The process function: reads to the bytes of a BAM file.

    Args:
        genome: FASTA file, plain or gzip.
        digest: of its content; see index.digest_of.
        by_place: sort by place on the genome; otherwise records keep the order of the reads.
        ties: choose among equally good places as one run over the whole file does.
    """

    genome: str
    digest: str
    by_place: bool = False
    ties: bool = True

    def __call__(self, chunk: Chunk) -> bytes:
        prefix = index_of(Path(self.genome), self.digest)
        parts = [self._aligned(span, prefix, chunk.cores or 1) for span in chunk.spans]
        return parts[0] if len(parts) == 1 else merged(parts, by_place=self.by_place)

    def _aligned(self, span: Span, prefix: Path, cores: int) -> bytes:
        fillers = span.start if self.ties else 0
        bwa_command = ["bwa", "mem", "-v", "1", "-t", str(cores), "-K", str(_BATCH_BASES), str(prefix), "-"]
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.bam"
            last = ["sort", "-T", folder, "-m", "64M"] if self.by_place else ["view", "-b"]
            samtools_command = ["samtools", *last, "--no-PG", "-o", str(out), "-"]
            with (
                tools.started(samtools_command, stdin=PIPE) as samtools,
                tools.started(bwa_command, stdin=PIPE, stdout=PIPE) as bwa,
            ):
                assert bwa.stdin
                assert bwa.stdout
                assert samtools.stdin
                feeder = _Feeder(bwa.stdin, fillers, span)
                feeder.start()
                with suppress(BrokenPipeError), bwa.stdout, samtools.stdin:
                    _pass_on(bwa.stdout, samtools.stdin, fillers)
                feeder.join()
                if feeder.error is not None:
                    raise feeder.error
            return out.read_bytes()


class _Feeder(Thread):
    """Writes fillers and reads while the output is read elsewhere: pipes hold little."""

    def __init__(self, out: IO[bytes], fillers: int, span: Span) -> None:
        super().__init__(daemon=True)
        self._out, self._fillers, self._span = out, fillers, span
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with suppress(BrokenPipeError), self._out as out:  # bwa has ended, and says why
                for left in range(self._fillers, 0, -_FILLERS):
                    out.write(_FILLER * min(left, _FILLERS))
                out.writelines(reads_of(self._span))
        except Exception as error:  # of the reader: raised where the chunk is processed
            self.error = error


def _pass_on(sam: IO[bytes], out: IO[bytes], fillers: int) -> None:
    """Copy SAM without its first records."""
    for line in sam:
        if not line.startswith(b"@"):
            break
        out.write(line)
    else:
        return
    if fillers:
        for _ in islice(sam, fillers - 1):
            pass
    else:
        out.write(line)
    shutil.copyfileobj(sam, out, 1 << 20)


def merge_in_order(a: bytes, b: bytes) -> bytes:
    """Put one BAM file behind another."""
    return merged((a, b), by_place=False)


def merge_by_place(a: bytes, b: bytes) -> bytes:
    """Merge two sorted BAM files."""
    return merged((a, b), by_place=True)


def merged(parts: Iterable[bytes], *, by_place: bool) -> bytes:
    """Merge BAM files with samtools; the header is that of the first."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, part in enumerate(parts):
            paths.append(Path(folder) / f"{number}.bam")
            paths[-1].write_bytes(part)
        out = Path(folder) / "out.bam"
        how = ["merge", "-c", "-p"] if by_place else ["cat"]
        tools.run("samtools", *how, "--no-PG", "-o", str(out), *map(str, paths))
        return out.read_bytes()
