"""bwa's index of a genome, made once on each machine and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.alignment import tools
from shaper.errors import Changed

_CACHE = "SHAPER_ALIGNMENT_CACHE"


def digest_of(genome: Path) -> str:
    """The first 24 digits of a file's SHA-256."""
    with genome.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]


def cache() -> Path:
    """Where indices are kept: on a worker's own disk, unless $SHAPER_ALIGNMENT_CACHE says otherwise."""
    if named := os.environ.get(_CACHE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shaper-alignment"


def index_of(genome: Path, digest: str) -> Path:
    """Return the prefix of a genome's index, which is made where it is not there; others wait meanwhile.

    An index appears under its name only when it is whole. What a process that was killed has left is removed by the
    next one: the lock ends with the process that held it.

    Raises:
        Changed: the genome is not the one that has this digest.
        ToolFailed: bwa could not make it.
    """
    folder = cache() / digest
    prefix = folder / "genome"
    if folder.is_dir():
        return prefix
    cache().mkdir(parents=True, exist_ok=True)
    with _locked(cache() / f"{digest}.lock"):
        if not folder.is_dir():
            if digest_of(genome) != digest:
                raise Changed(f"{genome}: the genome has changed since the run began")
            for left in cache().glob(f".partial-{digest}-*"):
                shutil.rmtree(left)
            scratch = Path(tempfile.mkdtemp(prefix=f".partial-{digest}-", dir=cache()))
            tools.run("bwa", "index", "-p", str(scratch / "genome"), str(genome))
            scratch.rename(folder)
    return prefix


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
