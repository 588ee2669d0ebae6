"""Files of lines: text, and VCF without its header. An element is a line."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from shaper.errors import BadInput, Changed
from shaper.readers.blocks import Block, blocks
from shaper.types import Source, Span

# The index travels with every task: so many points at most, at first so many bytes apart.
_POINTS = 1024
_APART_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Point:
    """Where an element begins: read from `place`, leave out `skip` bytes."""

    element: int
    place: int
    skip: int


@dataclass(frozen=True, slots=True)
class Index:
    """Where to begin to read a file; the payload of a source.

    Args:
        path: of the file.
        size_bytes: of the file when it was counted.
        lines_each: lines per element.
        points: some elements, evenly spread, the first one first.
    """

    path: str
    size_bytes: int
    lines_each: int
    points: tuple[Point, ...]


def text(path: str | os.PathLike[str], *, group: str = "") -> Source:
    """Count the lines of a text file, plain or gzip.

    Raises:
        BadInput: the file cannot be read.
    """
    return counted(path, group=group)


def vcf(path: str | os.PathLike[str], *, group: str = "") -> Source:
    """Count the variant lines of a VCF file, plain, gzip or bgzip; header lines are no elements.

    Raises:
        BadInput: the file cannot be read, or has no header.
    """
    lines_of_header = len(header(path))
    if not lines_of_header:
        raise BadInput(f"{path}: not a VCF file: it does not begin with header lines")
    return counted(path, group=group, before=lines_of_header)


def header(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the lines that a file begins with and that begin with `#`; of a VCF file the last names the columns."""
    found = []
    with closing(_all_lines(path)) as found_lines:
        for line in found_lines:
            if not line.startswith(b"#"):
                break
            found.append(line.decode(errors="replace"))
    return tuple(found)


def lines_of(span: Span) -> Iterator[bytes]:
    """Yield the lines of a span of such a source, without line ends.

    Raises:
        Changed: the file is not what was counted.
    """
    index: Index = span.source.payload
    if not isinstance(index, Index):
        raise BadInput(f"source {span.source.id!r} was not made by shaper.readers")
    point = index.points[bisect_right(index.points, span.start, key=lambda point: point.element) - 1]
    wanted = len(span) * index.lines_each
    passed = (span.start - point.element) * index.lines_each
    got = 0
    with closing(_all_lines(index.path, point, index.size_bytes)) as found_lines:
        for line in islice(found_lines, passed, passed + wanted):
            got += 1
            yield line
    if got < wanted:
        raise Changed(f"{index.path}: it has fewer lines than when it was counted: count it again")


def counted(path: str | os.PathLike[str], *, group: str = "", before: int = 0, lines_each: int = 1) -> Source:
    """Read a file once, and return it as a source that can be read from almost anywhere.

    Args:
        path: of the file; the source is named by it.
        group: of the source.
        before: lines before the first element.
        lines_each: lines per element.

    Raises:
        BadInput: the file cannot be read, or ends in the middle of an element.
    """
    points: list[Point] = []
    apart_bytes, since_bytes = _APART_BYTES, 0
    ended, last, checksum = 0, b"\n", 0  # lines that have ended, the byte before this block
    with _opened(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        for block in blocks(file, path):
            if not points or since_bytes >= apart_bytes:
                point = _first_in(block, ended, last == b"\n", before, lines_each)
                if point is not None:
                    points.append(point)
                    since_bytes = 0
                if len(points) > _POINTS:
                    points, apart_bytes = points[::2], 2 * apart_bytes
            ended += block.data.count(b"\n")
            since_bytes += len(block.data)
            checksum = zlib.crc32(block.data, checksum)
            last = block.data[-1:]
    found = ended + (last != b"\n") - before
    if found % lines_each:
        raise BadInput(f"{path}: it has {found} lines, and {lines_each} make an element: it was cut short")
    identity = f"{size_bytes} bytes, content {checksum:08x}"
    index = Index(str(path), size_bytes, lines_each, tuple(points))
    return Source(str(path), found // lines_each, group=group, payload=index, identity=identity)


def _first_in(block: Block, line: int, fresh: bool, before: int, lines_each: int) -> Point | None:
    """The first element that begins in a block; it begins with this line, or (not fresh) with the rest of it."""
    at = 0
    if not fresh:
        at, line = block.data.find(b"\n") + 1, line + 1
    while (at or fresh) and (line < before or (line - before) % lines_each):
        at, line, fresh = block.data.find(b"\n", at) + 1, line + 1, False
    if not (at or fresh) or at == len(block.data):
        return None
    return Point((line - before) // lines_each, *block.way_to(at))


def _all_lines(
    path: str | os.PathLike[str], point: Point | None = None, size_bytes: int | None = None
) -> Generator[bytes, None, None]:
    """The lines of a file, from a point on; of a file of another size than that none."""
    with _opened(path) as file:
        if size_bytes not in (None, os.fstat(file.fileno()).st_size):
            raise Changed(f"{path}: its size has changed since it was counted: count it again")
        place, skip = (point.place, point.skip) if point is not None else (0, 0)
        rest = b""
        for block in blocks(file, path, place):
            data = block.data[skip:] if skip else block.data
            skip -= min(skip, len(block.data))
            *whole, rest = (rest + data).split(b"\n")
            yield from map(_without_return, whole)
        if rest:
            yield _without_return(rest)


def _without_return(line: bytes) -> bytes:
    return line[:-1] if line.endswith(b"\r") else line


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
