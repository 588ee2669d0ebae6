"""The bytes of a file from a place in it, plain or gzip, in blocks that say where one can begin to read again.

A gzip file is a sequence of members, each compressed by itself. BGZF, which bgzip and samtools write, has members of at
most 64 KiB and can be entered almost anywhere; a file that gzip wrote is one member and can only be read from its
beginning.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from shaper.errors import BadInput

_GZIP_MAGIC = b"\x1f\x8b"
_PLAIN_BYTES = 1 << 20
# More would be copied again and again: zlib hands back what follows a member.
_COMPRESSED_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes of a file, and how to come to them: read from `place`, and leave out the first `skip` bytes."""

    place: int
    skip: int
    data: bytes
    plain: bool

    def way_to(self, at: int) -> tuple[int, int]:
        """The place, and what to leave out from there, of one of these bytes."""
        return (self.place + at, 0) if self.plain else (self.place, self.skip + at)


def blocks(file: IO[bytes], path: str | os.PathLike[str], place: int = 0) -> Iterator[Block]:
    """Yield what a file holds from `place` on, uncompressed.

    Args:
        file: open for reading bytes.
        path: for messages.
        place: 0, or that of a block of the same file.

    Raises:
        BadInput: a gzip file is damaged or was cut short.
    """
    file.seek(0)
    compressed = file.read(2) == _GZIP_MAGIC
    file.seek(place)
    if compressed:
        yield from _members(file, path, place)
        return
    while data := file.read(_PLAIN_BYTES):
        yield Block(place, 0, data, True)
        place += len(data)


def _members(file: IO[bytes], path: str | os.PathLike[str], place: int) -> Iterator[Block]:
    data = b""
    while data := (data or file.read(_COMPRESSED_BYTES)):
        padding = len(data) - len(data.lstrip(b"\0"))
        place, data = place + padding, data[padding:]
        if not data:
            continue
        member, skip, begin = zlib.decompressobj(wbits=31), 0, place
        while not member.eof:
            data = data or file.read(_COMPRESSED_BYTES)
            if not data:
                raise BadInput(f"{path}: the file was cut short: its compressed data end in the middle")
            try:
                found = member.decompress(data, _PLAIN_BYTES)
            except zlib.error as error:
                raise BadInput(f"{path}: damaged compressed data at byte {place}: {error}") from error
            rest = member.unused_data if member.eof else member.unconsumed_tail
            place, data = place + len(data) - len(rest), rest
            if found:
                yield Block(begin, skip, found, False)
                skip += len(found)
