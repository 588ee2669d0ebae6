"""The managers that run on this account, written down so that `shaper workers` finds them.

Beside each lies what its run wants of workers, and perhaps how many whoever starts them means to keep.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Manager:
    """A process that waits for workers.

    Args:
        engine: `workqueue` or `taskvine`.
        password_file: that workers must show; None for none.
        run_dir: of its run.
        environment: the tarball of one that workers must be started in; None where any will do.
    """

    engine: str
    host: str
    port: int
    pid: int
    password_file: str | None = None
    ssl: bool = False
    name: str | None = None
    run_dir: str | None = None
    environment: str | None = None

    @property
    def address(self) -> str:
        """As workers want it."""
        return f"{self.host}:{self.port}"


def _folder() -> Path:
    return Path(os.environ.get("SHAPER_HOME", Path.home() / ".shaper")) / "managers"


def _path(manager: Manager, ending: str = "json") -> Path:
    return _folder() / f"{manager.host}-{manager.port}.{ending}"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all; nothing depends on it, so where it cannot be written it is left."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(content))
        part.rename(path)
    except OSError:
        return


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write(manager: Manager) -> None:
    """Say that this manager is there."""
    _write(_path(manager), asdict(manager))


def remove(manager: Manager) -> None:
    """It has left."""
    for ending in ("json", "wanted", "keep"):
        with suppress(OSError):
            _path(manager, ending).unlink(missing_ok=True)


def running() -> list[Manager]:
    """Those that are there; of this machine, those whose process lives."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            manager = Manager(**(_read(path) or {}))
        except TypeError:
            continue
        if manager.host == socket.gethostname() and not Path(f"/proc/{manager.pid}").exists():
            remove(manager)
            continue
        found.append(manager)
    return found


def say_wanted(manager: Manager, wanted: Mapping[str, Any]) -> None:
    """Write down what the run wants of workers."""
    _write(_path(manager, "wanted"), wanted)


def wanted(manager: Manager) -> Mapping[str, Any] | None:
    """What the run wants, as it said last; None where it has said nothing."""
    return _read(_path(manager, "wanted"))


def say_keep(manager: Manager, workers: int, turn: int) -> None:
    """Ask the manager to let idle workers go, beyond so many; one request for every new `turn`."""
    _write(_path(manager, "keep"), {"workers": workers, "turn": turn})


def keep(manager: Manager) -> tuple[int, int] | None:
    """How many workers are to be kept, and the turn; None where nobody has asked."""
    asked = _read(_path(manager, "keep"))
    if asked is None or not all(isinstance(asked.get(name), int) for name in ("workers", "turn")):
        return None
    return asked["workers"], asked["turn"]
