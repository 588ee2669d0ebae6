"""Shared libraries of the system that an environment needs, and another machine may not have."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shaper.errors import SiteError

_AT_ONCE = 200
# Parts of libc, which must be the machine's own, and what belongs to its devices and their drivers.
_OF_THE_MACHINE = re.compile(
    r"(ld-linux|linux-vdso|libc\.|libm\.|libdl\.|libpthread\.|librt\.|libutil\.|libresolv\.|libmvec\.|libanl\."
    r"|libthread_db|libBrokenLocale|libnss_|libcuda|libnvidia|libGL|libEGL|libdrm)"
)
_FOUND = re.compile(r"^\s+(\S+) => (/\S+) \(0x", re.MULTILINE)


def needed(binaries: Sequence[Path], own: Sequence[Path]) -> dict[str, Path]:
    """Return libraries by name, in all depths, that lie neither below the directories `own` nor in libc.

    Raises:
        SiteError: there is no `ldd` to ask.
    """
    if shutil.which("ldd") is None:
        raise SiteError("ldd is not there: it belongs to libc's programs (Debian: libc-bin), and packing needs it")
    found: dict[str, Path] = {}
    for first in range(0, len(binaries), _AT_ONCE):
        words = ["ldd", *map(str, binaries[first : first + _AT_ONCE])]
        # It complains of programs that need none; those are all right.
        said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        for name, place in _FOUND.findall(said):
            path = Path(place)
            if not _OF_THE_MACHINE.match(name) and not any(folder in path.parents for folder in own):
                found.setdefault(name, path)
    return found
