"""What tasks of a batch engine have to say for themselves: replies, and why there is none."""

from __future__ import annotations

import pickle
from pathlib import Path

from shaper.engines.system import Ended
from shaper.errors import SiteError, UserError
from shaper.monitor.remote import Reply

_NO_SERVER, _NO_ENVIRONMENT, _SERVER_ENDED = 71, 72, 75
_NO_PROGRAM = (126, 127)
# One worker's disk may be full; when so many in a row cannot unpack an environment, none can.
_UNPACKED_IN_VAIN = 3


class Replies:
    """The replies of tasks, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._in_vain = 0

    def path(self, name: str) -> Path:
        """Where the reply of a task comes to lie."""
        return self._folder / f"{name}.reply"

    def read(self, ended: Ended) -> Reply | None:
        """The reply of a task; None where there is none, or half of one."""
        if ended.fault or ended.code != 0:
            return None
        try:
            found = pickle.loads(self.path(ended.name).read_bytes())
        except Exception:  # cut off, or not there
            return None
        self._in_vain = 0
        return found if isinstance(found, Reply) else None

    def fault(self, ended: Ended, reply: Reply | None) -> str:
        """Say why an attempt has no report: what concerns this attempt alone.

        Raises:
            SiteError: workers cannot run functions at all.
            UserError: the functions cannot be loaded there.
        """
        said, worker = ended.said.strip(), ended.worker
        if reply is not None and reply.kind == "versions":
            raise SiteError(
                f"worker {worker} cannot run this: {reply.fault}; start workers in this process's environment, or let "
                "it travel: environment='pack'"
            )
        if reply is not None and reply.kind == "code":
            raise UserError(reply.fault)
        if ended.code == _NO_SERVER:
            raise SiteError(f"worker {worker} cannot run Python functions: {said or 'no reason given'}")
        if ended.code in _NO_PROGRAM and not ended.fault:
            raise SiteError(
                f"worker {worker} has no such Python: {said or 'no reason given'}; start workers where it is (factory: "
                "`shaper workers start --environment FILE`), or let it travel: environment='pack'"
            )
        if ended.code == _NO_ENVIRONMENT and not ended.fault:
            self._in_vain += 1
            detail = f"worker {worker} cannot use the environment: {said or 'no reason given'}"
            if self._in_vain >= _UNPACKED_IN_VAIN:
                raise SiteError(f"{detail} ({self._in_vain} attempts failed in a row)")
            return detail
        detail = ended.fault or (reply.fault if reply is not None else "")
        if not detail and ended.code == _SERVER_ENDED:
            detail = "its warm server was killed"
        return f"{detail or f'its command ended with {ended.code}'} {said}".strip()
