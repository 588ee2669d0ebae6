"""The scalers that run on this account, written down so that `shaper workers stop` ends them before their workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from shaper.errors import SiteError
from shaper.policy.scaling import Bounds
from shaper.workers.pool import Pool, home, started_at

_END_S = 30.0


@dataclass(frozen=True, slots=True)
class Noted:
    """A process that keeps the number of workers between bounds.

    Args:
        manager: as in a Plan.
        since: when the process started, so that another of the same id is not taken for it.
    """

    manager: str
    host: str
    pid: int
    since: str
    least: int
    most: int

    @property
    def here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()


@contextmanager
def noted(pool: Pool, bounds: Bounds) -> Iterator[None]:
    """Write down that this process is a scaler, as long as it is."""
    pid = os.getpid()
    path = pool.path.with_suffix(f".{pid}.scaler")
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = Noted(pool.manager, socket.gethostname(), pid, started_at(pid) or "", bounds.least, bounds.most)
    path.write_text(json.dumps(asdict(entry)))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running(manager: str | None = None) -> list[Noted]:
    """The scalers for a manager, or for all; those of this machine that have gone are forgotten."""
    found = []
    for path in sorted(home().glob("*.scaler")):
        with suppress(OSError, ValueError, TypeError):
            one = Noted(**json.loads(path.read_text()))
            if one.here and started_at(one.pid) != one.since:
                path.unlink(missing_ok=True)
            elif manager in (None, one.manager):
                found.append(one)
    return found


def end(scalers: Sequence[Noted]) -> None:
    """End scalers, which end their workers.

    Raises:
        SiteError: one runs on another machine, or does not end.
    """
    for one in scalers:
        if not one.here:
            raise SiteError(f"process {one.pid} on {one.host} starts these workers again: end it there first")
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGTERM)
    end_s = time.monotonic() + _END_S
    while left := [one for one in scalers if started_at(one.pid) == one.since]:
        if time.monotonic() > end_s:
            raise SiteError(f"process {left[0].pid}, which starts these workers again, does not end: kill it first")
        time.sleep(0.05)
