"""How workers come to their Python, and to what else of the user's tasks need: the options, checked."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shaper.engines.system import File
from shaper.environment import Tarball, inspect, pack
from shaper.errors import BadInput
from shaper.monitor import remote

MODES = ("shared", "factory", "worker", "task")
# A warm server without calls for so long ends, and gives its memory back.
_IDLE_S = 600
_TRAVELS = ("worker", "task")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What travels besides functions, and what a worker runs.

    Args:
        mode: one of MODES.
        python: the interpreter of workers that share a file system.
        environment: a packed one, or `pack` to pack that of this process.
        proxy: a grid proxy that functions find through X509_USER_PROXY.
        files: that functions find in their working directory.
    """

    mode: str
    python: str
    environment: str | None
    proxy: Path | None
    files: tuple[Path, ...]

    @classmethod
    def of(
        cls,
        mode: str | None,
        python: str | None,
        environment: str | os.PathLike[str] | None,
        proxy: str | os.PathLike[str] | None,
        files: Sequence[str | os.PathLike[str]],
    ) -> Delivery:
        """Check the options of an engine.

        Raises:
            BadInput: they do not go together, or a file is not there.
        """
        mode = mode or ("shared" if environment is None else "worker")
        if mode not in MODES:
            raise BadInput(f"delivery {mode!r} is not known: use {', '.join(map(repr, MODES))}")
        if mode in _TRAVELS and environment is None:
            raise BadInput(f"delivery={mode!r} needs environment=: a tarball of `shaper env pack`, or 'pack'")
        if mode == "shared" and environment is not None:
            raise BadInput("delivery='shared' takes no environment: workers run python= where it lies")
        if mode != "shared" and python is not None:
            raise BadInput(f"delivery={mode!r} takes no python=: workers run that of their environment")
        if isinstance(files, str):
            raise BadInput(f"extra_input_files is a list of paths, got {files!r}")
        paths = tuple(_file(path, "extra_input_files") for path in files)
        names = [path.name for path in paths]
        for name in names:
            if name in remote.NAMES or name.startswith("in.") or names.count(name) > 1:
                raise BadInput(f"extra_input_files: the name {name!r} is taken on workers: use another")
            if not name.isascii():  # Debian 12's Work Queue turns every other letter into something else
                raise BadInput(f"extra_input_files: the name {name!r} does not travel: use plain letters (ASCII)")
        return cls(
            mode,
            python or sys.executable,
            None if environment is None else str(environment),
            None if proxy is None else _proxy(proxy),
            paths,
        )

    def unpackable(self) -> Tarball | None:
        """The environment as a tarball, which may have to be packed.

        Raises:
            BadInput: it cannot be read, or not be packed.
        """
        if self.environment is None:
            return None
        if self.environment == "pack":
            return inspect(pack(say=lambda text: print(f"shaper: {text}", file=sys.stderr)))
        return inspect(Path(self.environment).expanduser())

    def command(self, tag: str, tarball: Tarball | None) -> str:
        """What a worker runs for a task."""
        client = f"-I -S {remote.CLIENT} {tag}"
        if self.mode == "shared":
            return f"{shlex.quote(self.python)} {client} {_IDLE_S}"
        if self.mode == "factory":
            return f"python3 {client} {_IDLE_S}"
        assert tarball is not None
        # Nothing may be left of a task that has unpacked its own: no server that serves another.
        idle_s = 0 if self.mode == "task" else _IDLE_S
        return f"/bin/sh {remote.START} {self.mode} {tarball.digest[:12]} {tag} {idle_s}"

    def inputs(self, folder: Path, tarball: Tarball | None) -> tuple[File, ...]:
        """The files that go with every task.

        Args:
            folder: where files that travel are kept.
        """
        found = [File(path, path.name, kept=True) for path in self.files]
        if self.mode in _TRAVELS and tarball is not None:
            found.append(File(_copied(Path(remote.__file__).with_name(remote.START), folder), remote.START, kept=True))
            # Under a name of its content, in case the file is written anew while this runs.
            here = folder / f"environment-{tarball.digest[:12]}.tar.gz"
            found.append(File(_linked(tarball.path, here), remote.ENVIRONMENT, kept=True))
        if self.proxy is not None:
            # Sent anew with every task: a proxy is renewed while a run goes on, and no worker keeps the key.
            found.append(File(self.proxy, remote.PROXY))
        return tuple(found)

    def state(self) -> str:
        """Changes with what a warm server keeps of these."""
        seen = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in self.files]
        return "\n".join([self.mode, self.python if self.mode == "shared" else "", *seen])


def _file(path: str | os.PathLike[str], option: str) -> Path:
    found = Path(path).expanduser().absolute()
    if not found.is_file() or not os.access(found, os.R_OK):
        raise BadInput(f"{option}: {found} is not a file that can be read")
    return found


def _proxy(path: str | os.PathLike[str]) -> Path:
    found = _file(path, "x509_proxy")
    if found.stat().st_mode & 0o077:
        raise BadInput(f"x509_proxy: {found} holds a key and others can read it: chmod 600 {found}")
    return found


def _copied(path: Path, folder: Path) -> Path:
    return Path(shutil.copyfile(path, folder / path.name))


def _linked(path: Path, there: Path) -> Path:
    if not there.exists():
        try:
            os.link(path, there)
        except OSError:  # another file system
            shutil.copyfile(path, there)
    return there
