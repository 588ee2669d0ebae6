"""What is in a packed environment, whoever packed it: shaper, conda-pack or poncho."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from shaper.errors import BadInput

_PYTHON = re.compile(r"(?:\./)?lib(?:64)?/python(\d+\.\d+)/os\.py$")
_DISTRIBUTION = re.compile(
    r"(?:\./)?(?:local/)?lib(?:64)?/(?:python[\d.]+/(?:site|dist)-packages|(?P<further>paths/\w+))/"
    r"(?P<name>[^/]+?)-(?P<version>[^/-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info(?:/|$)"
)
_READ_BYTES = 1 << 20
_NUMBER = re.compile(r"[-._+!]")


@dataclass(frozen=True, slots=True)
class Tarball:
    """A packed environment.

    Args:
        digest: of its content.
        python: like 3.11; empty where it holds none.
        distributions: versions of the installed packages, by normalised name.
    """

    path: Path
    digest: str
    python: str
    distributions: Mapping[str, str]

    def differing(self, versions: Mapping[str, str]) -> str:
        """Say which of these packages, and of Python, it has in another version, or nothing.

        What is missing is not said: not everything is named by a directory. Workers look for that themselves.
        """
        said = []
        for name, wanted in versions.items():
            here = self.python if name == "python" else self.distributions.get(normalised(name))
            if here is not None and _parts(here) != _parts(wanted):
                said.append(f"{name} {here} (wanted: {wanted})")
        return ", ".join(said)


def home() -> Path:
    """Where packed environments are kept, and what is known of others."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "shaper" / "environments"


def normalised(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _parts(version: str) -> tuple[int | str, ...]:
    return tuple(int(part) if part.isdigit() else part.lower() for part in _NUMBER.split(version))


def inspect(path: Path) -> Tarball:
    """Read a tarball from end to end; once for the same file.

    Raises:
        BadInput: it is not there, not a gzipped tarball, not whole, or holds no Python.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise BadInput(f"environment {path} cannot be read: {error.strerror}") from error
    if not path.is_file():
        raise BadInput(f"environment {path} is not a file: give a tarball of `shaper env pack`, or 'pack'")
    seen = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    note = home() / f"{hashlib.sha256(seen.encode()).hexdigest()[:16]}.json"
    try:
        return Tarball(path, **json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        found = _read(path)
    told = {name: value for name, value in asdict(found).items() if name != "path"}
    note.parent.mkdir(parents=True, exist_ok=True)
    part = note.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(told))
    part.rename(note)
    return found


class _Digested:
    """A file whose bytes are digested while they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _read(path: Path) -> Tarball:
    python = ""
    versions: dict[tuple[str, str], str] = {}
    with path.open("rb") as file:
        digested = _Digested(file)
        try:
            # By way of gzip, which checks that nothing is missing: tarfile takes half a file for the whole.
            with (
                gzip.GzipFile(fileobj=digested) as unzipped,  # type: ignore[call-overload]
                tarfile.open(fileobj=unzipped, mode="r|") as archive,
            ):
                for member in archive:
                    if found := _PYTHON.match(member.name):
                        python = found[1]
                    elif (found := _DISTRIBUTION.match(member.name)) is not None:
                        versions[found["further"] or "", normalised(found["name"])] = found["version"]
                while unzipped.read(_READ_BYTES):
                    pass
        except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
            raise BadInput(f"environment {path} is not a whole tar.gz file: {error}") from error
    if not python:
        raise BadInput(f"environment {path} holds no Python (lib/python3.x): pack one with `shaper env pack`")
    # What lies in the first directory of packages hides the same in further ones.
    distributions = {name: version for (_, name), version in sorted(versions.items(), reverse=True)}
    return Tarball(path, digested.digest.hexdigest(), python, distributions)
