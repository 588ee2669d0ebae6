"""What calls print: two files each, cut to their beginning and end when the call has ended."""

from __future__ import annotations

import os
from pathlib import Path

# Of each file, with the line between the two.
MOST_BYTES = 2**16
_HEAD_BYTES = 2**15
_TAIL_BYTES = MOST_BYTES - _HEAD_BYTES - 64


def paths(stem: str | Path) -> tuple[Path, Path]:
    """Standard output and standard error."""
    return Path(f"{stem}.out"), Path(f"{stem}.err")


def disk_bytes(stem: str) -> int:
    """What both take on disk."""
    total = 0
    for path in (f"{stem}.out", f"{stem}.err"):
        try:
            total += os.stat(path).st_blocks * 512  # noqa: PTH116
        except OSError:
            continue
    return total


def cut(path: Path) -> int:
    """Leave the beginning and the end of a file, and a line that says how much was in between; return its size.

    In place: where a disk is full there is no room for another.
    """
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= MOST_BYTES:
                return size
            file.seek(-_TAIL_BYTES, os.SEEK_END)
            tail = file.read()
            file.seek(_HEAD_BYTES)
            file.write(b"\n... %d bytes are left out ...\n" % (size - _HEAD_BYTES - _TAIL_BYTES))
            file.write(tail)
            return file.truncate()
    except OSError:
        return 0
