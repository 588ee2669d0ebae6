"""FASTQ files. An element is a read: four lines."""

from __future__ import annotations

import os
from collections.abc import Iterator

from shaper.errors import BadInput
from shaper.readers.lines import counted, lines_of
from shaper.types import Source, Span

_LINES = 4


def fastq(path: str | os.PathLike[str], *, group: str = "") -> Source:
    """Count the reads of a FASTQ file, plain or gzip, of four lines each.

    A file that gzip wrote, and not bgzip, has to be uncompressed from its beginning for every piece.

    Raises:
        BadInput: the file cannot be read, or its lines are not four for each read.
    """
    return counted(path, group=group, lines_each=_LINES)


def reads_of(span: Span) -> Iterator[bytes]:
    """Yield the reads of a span of such a source, each as its four lines.

    Raises:
        BadInput: a read does not begin with `@`, or has no `+` in its third line, or as many qualities as bases.
        Changed: the file is not what was counted.
    """
    found = lines_of(span)
    for number, (name, bases, plus, qualities) in enumerate(zip(found, found, found, found, strict=True), span.start):
        if not name.startswith(b"@") or not plus.startswith(b"+") or len(bases) != len(qualities):
            raise BadInput(f"{span.source.id}: read {number} is not four lines of FASTQ: {name[:60]!r}")
        yield b"\n".join((name, bases, plus, qualities, b""))
