"""Packs an environment into one tarball that runs wherever it is unpacked."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from shaper.environment.interpreter import Interpreter, describe
from shaper.environment.layout import Entry, entries
from shaper.environment.tarball import home
from shaper.errors import BadInput, EngineMissing, SiteError

# Raise it when the same environment makes another tarball.
_FORMAT = 1
_COMPRESSION = 4
_MADE_S = 315532800  # 1980: what has no time of its own; tar warns of 1970
# What a worker's warm server imports.
_OF_SHAPER = ("cloudpickle", "numpy", "threadpoolctl")
_CHECK = """
import importlib.metadata, json, os, re, sys
found = {}
for one in importlib.metadata.distributions():
    found.setdefault(re.sub(r"[-_.]+", "-", one.metadata["Name"] or "").lower(), one.version)
found.pop("", None)
print(json.dumps({"found": found, "paths": [os.path.realpath(path) for path in sys.path]}))
"""

Say = Callable[[str], None]


def pack(python: Path | None = None, *, anew: bool = False, say: Say = lambda text: None) -> Path:
    """Return a tarball of an environment, made now or kept from before.

    Args:
        python: an interpreter, or the directory of an environment; that which runs by default.
        anew: also where one is kept.
        say: is told what goes on, in lines.

    Raises:
        BadInput: something in the environment cannot travel; the message names it.
        EngineMissing: it is one of conda's, and conda-pack is not there.
    """
    found = describe(python)
    with _kept(found.prefix, f"{found.key}-{_FORMAT}", anew) as (path, part):
        if part is not None:
            say(f"packing {found.prefix} (Python {found.version}, {len(found.distributions)} packages)")
            if found.is_conda:
                _conda_pack(found, part)
            else:
                _write(found, part, say)
                _check(found, part)
    return path


def pack_spec(spec: Path, python: Path | None = None, *, anew: bool = False, say: Say = lambda text: None) -> Path:
    """Return a tarball of a fresh environment with what a requirements file asks for, made by pip.

    What workers need of shaper is added. The file's text is what tells one from another: versions that it leaves open
    are those of the day it was packed.

    Args:
        python: from which interpreter, or environment, the fresh one is made; other arguments as for `pack`.

    Raises:
        BadInput: pip cannot install it.
    """
    try:
        wanted = spec.read_text()
    except OSError as error:
        raise BadInput(f"{spec} cannot be read: {error.strerror}") from error
    base = describe(python)
    own = [f"cloudpickle=={importlib.metadata.version('cloudpickle')}", *_OF_SHAPER[1:]]
    told = json.dumps([_FORMAT, base.version, str(base.executable), own, str(spec.resolve().parent), wanted])
    with _kept(spec.resolve(), _digest(told), anew) as (path, part):
        if part is not None:
            with tempfile.TemporaryDirectory(prefix="shaper-environment-") as folder:
                say(f"installing {spec} in a fresh environment")
                _run([base.executable, "-m", "venv", folder], "a fresh environment cannot be made")
                program = Path(folder) / "bin" / "python3"
                install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *own, "-r"]
                _run([program, *install, spec.resolve()], f"pip cannot install {spec}", spec.resolve().parent)
                found = describe(program)
                say(f"packing it (Python {found.version}, {len(found.distributions)} packages)")
                _write(found, part, say)
                _check(found, part)
    return path


@contextmanager
def _kept(origin: Path, key: str, anew: bool) -> Iterator[tuple[Path, Path | None]]:
    """Where the tarball of an origin is kept, and where to write it if it is not there; older ones are removed."""
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    family = f"{origin.name}-{_digest(str(origin))[:8]}"
    path = folder / f"{family}-{key}.tar.gz"
    if path.exists() and not anew:
        yield path, None
        return
    part = folder / f"{family}-{key}.{os.getpid()}.part"
    try:
        yield path, part
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    for old in folder.glob(f"{family}-*.tar.gz"):
        if old != path:
            old.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _write(found: Interpreter, path: Path, say: Say) -> None:
    mentions: list[str] = []
    prefix = os.fsencode(found.prefix)
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", _COMPRESSION, file, 0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for entry in entries(found):
            data, made_s = _content(entry)
            member = tarfile.TarInfo(str(entry.there))
            member.size, member.mtime, member.mode = len(data), made_s, 0o755 if entry.executable else 0o644
            archive.addfile(member, BytesIO(data))
            if prefix in data and _is_used(entry):
                mentions.append(str(entry.there))
    if mentions and found.prefix != found.base_prefix:
        named = ", ".join(mentions[:5]) + (", ..." if len(mentions) > 5 else "")
        say(f"files that name {found.prefix}, which may matter elsewhere: {len(mentions)} ({named})")


def _content(entry: Entry) -> tuple[bytes, int]:
    if isinstance(entry.source, bytes):
        return entry.source, _MADE_S
    # Compiled modules are valid for the time of their source, to the second.
    return entry.source.read_bytes(), int(entry.source.stat().st_mtime)


def _is_used(entry: Entry) -> bool:
    """Not what only tells where something was installed from, or compiled."""
    return entry.there.suffix != ".pyc" and not entry.there.parent.name.endswith((".dist-info", ".egg-info"))


def _check(found: Interpreter, path: Path) -> None:
    """Unpack it elsewhere and start it with nothing set: it must find the same packages, and look nowhere else."""
    with tempfile.TemporaryDirectory(prefix="shaper-environment-", dir=path.parent) as folder:
        root = Path(folder).resolve()
        _run(["tar", "-xzf", path, "-C", root], "the packed environment cannot be unpacked")
        words: list[str | Path] = [root / "bin" / "python3", "-c", _CHECK]
        told = json.loads(_run(words, "the packed environment does not start", root, {"PATH": "/usr/bin:/bin"}))
        outside = [one for one in told["paths"] if Path(one) != root and root not in Path(one).parents]
        differ = {name for name, version in found.distributions.items() if told["found"].get(name) != version} | told[
            "found"
        ].keys() - found.distributions.keys()
        if outside or differ:
            what = f"looks into {outside[0]}" if outside else f"has not the same {', '.join(sorted(differ)[:5])}"
            raise SiteError(f"the packed environment {what} as {found.prefix}: please report this")


def _conda_pack(found: Interpreter, path: Path) -> None:
    if shutil.which("conda-pack") is not None:
        words: list[str | Path] = ["conda-pack"]
    elif importlib.util.find_spec("conda_pack") is not None:
        words = [sys.executable, "-m", "conda_pack"]
    else:
        raise EngineMissing(
            f"{found.prefix} is a conda environment, which conda-pack packs: conda install -c conda-forge conda-pack"
        )
    more: list[str | Path] = ["--prefix", found.prefix, "--output", path, "--format", "tar.gz", "--force", "--quiet"]
    _run([*words, *more], f"conda-pack cannot pack {found.prefix}")


def _run(
    words: Sequence[str | Path], fault: str, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        # pip ends with advice.
        line = next((line for line in said if line.startswith("ERROR")), said[-1] if said else "")
        raise BadInput(f"{fault}: {line or f'exit code {done.returncode}'}")
    return done.stdout
