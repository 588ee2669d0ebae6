"""Compresses as bgzip does: gzip members of at most 64 KiB, so that a file can be read from almost anywhere.

Source: the SAM/BAM format specification, section 4.1.
"""

from __future__ import annotations

import struct
import zlib

_MOST_BYTES = 0xFF00  # as bgzip: also what does not compress fits a member's 16-bit size
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""An empty member: a file that ends without it was cut short."""


def compressed(data: bytes, level: int = 1) -> bytes:
    """Return the members that hold `data`."""
    return b"".join(_member(data[at : at + _MOST_BYTES], level) for at in range(0, len(data), _MOST_BYTES))


def _member(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    head = struct.pack("<4BI2BH2BHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
    return head + body + struct.pack("<2I", zlib.crc32(data), len(data))
