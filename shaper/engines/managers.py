"""The managers that run on this account, written down so that `shaper workers` finds them."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Manager:
    """A process that waits for workers.

    Args:
        engine: `workqueue` or `taskvine`.
        password_file: that workers must show; None for none.
        environment: the tarball of one that workers must be started in; None where any will do.
    """

    engine: str
    host: str
    port: int
    pid: int
    password_file: str | None = None
    ssl: bool = False
    name: str | None = None
    environment: str | None = None

    @property
    def address(self) -> str:
        """As workers want it."""
        return f"{self.host}:{self.port}"


def _folder() -> Path:
    return Path(os.environ.get("SHAPER_HOME", Path.home() / ".shaper")) / "managers"


def _path(manager: Manager) -> Path:
    return _folder() / f"{manager.host}-{manager.port}.json"


def write(manager: Manager) -> None:
    """Say that this manager is there; nothing depends on it, so where it cannot be written it is left."""
    path = _path(manager)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(manager)))
        part.rename(path)
    except OSError:
        return


def remove(manager: Manager) -> None:
    """It has left."""
    _path(manager).unlink(missing_ok=True)


def running() -> list[Manager]:
    """Those that are there; of this machine, those whose process lives."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            manager = Manager(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if manager.host == socket.gethostname() and not Path(f"/proc/{manager.pid}").exists():
            path.unlink(missing_ok=True)
            continue
        found.append(manager)
    return found
