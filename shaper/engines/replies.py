"""What tasks of a batch engine have to say for themselves: replies, and why there is none."""

from __future__ import annotations

import pickle
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from shaper.engines.system import UNNAMED, Ended
from shaper.errors import SiteError, UserError
from shaper.monitor.remote import Reply

_NO_SERVER, _NO_ENVIRONMENT, _SERVER_ENDED = 71, 72, 75
_NO_PROGRAM = (126, 127)
# One worker's disk may be full; when so many in a row cannot unpack an environment, none can.
_UNPACKED_IN_VAIN = 3
_ELSEWHERE = "start workers in this process's environment, or let it travel: environment='pack'"


class Hosts:
    """Which hosts can run functions: one that cannot is done without, as long as another has shown that it can."""

    def __init__(self) -> None:
        self.well: set[str] = set()
        self.blocked: set[str] = set()

    def dispensable(self, host: str) -> bool:
        """Whether another host, that is not blocked, has answered, and this one has a name to block it by."""
        # Debian 12's Work Queue sends whatever lies in memory where a host does not know its own name.
        return host.isprintable() and host != UNNAMED and bool(self.well - self.blocked - {host})


class Replies:
    """The replies of tasks, in a folder.

    Args:
        block: called with the name of a host that is to get no more tasks.
    """

    def __init__(self, folder: Path, block: Callable[[str], None]) -> None:
        self._folder, self._block = folder, block
        self._hosts = Hosts()
        self._in_vain: Counter[str] = Counter()  # environments in a row that could not be unpacked, by host

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
        if not isinstance(found, Reply):
            return None
        self._in_vain.pop(ended.host, None)
        if found.report is not None:
            self._hosts.well.add(ended.host)
        return found

    def fault(self, ended: Ended, reply: Reply | None) -> str:
        """Say why an attempt has no report; a host that can run none is blocked, and named once.

        Raises:
            SiteError: workers cannot run functions at all.
            UserError: the functions cannot be loaded there.
        """
        if reply is not None and reply.kind == "code":
            raise UserError(reply.fault)
        without_environment = ended.code == _NO_ENVIRONMENT and not ended.fault
        if without_environment:
            self._in_vain[ended.host] += 1
        sick = self._sick(ended, reply)
        if sick:
            if not self._hosts.dispensable(ended.host):
                raise SiteError(sick)
            if ended.host not in self._hosts.blocked:
                self._hosts.blocked.add(ended.host)
                self._block(ended.host)
                warnings.warn(f"{ended.host} gets no more tasks, others do: {sick}", stacklevel=2)
            return sick
        if without_environment:
            return _without_environment(ended)
        detail = ended.fault or (reply.fault if reply is not None else "")
        if not detail and ended.code == _SERVER_ENDED:
            detail = "its warm server was killed"
        return f"{detail or f'its command ended with {ended.code}'} {ended.said.strip()}".strip()

    def _sick(self, ended: Ended, reply: Reply | None) -> str:
        """What is wrong with a worker that can run no function, and what to do, in one line; or nothing."""
        said, worker = _said(ended), ended.worker
        if reply is not None and reply.kind == "versions":
            return f"worker {worker} cannot run this: {reply.fault}; {_ELSEWHERE}"
        if ended.code == _NO_SERVER:
            return f"worker {worker} cannot run Python functions: {said}; {_ELSEWHERE}"
        if ended.code in _NO_PROGRAM and not ended.fault:
            return (
                f"worker {worker} has no such Python: {said}; start workers where it is (factory: "
                "`shaper workers start --environment FILE`), or let it travel: environment='pack'"
            )
        # Where none has ever worked it is not the host.
        in_vain = self._in_vain[ended.host] if self._hosts.well else self._in_vain.total()
        if ended.code == _NO_ENVIRONMENT and not ended.fault and in_vain >= _UNPACKED_IN_VAIN:
            return f"{_without_environment(ended)} ({in_vain} attempts failed in a row): make room there, or repack it"
        return ""


def _without_environment(ended: Ended) -> str:
    return f"worker {ended.worker} cannot use the environment: {_said(ended)}"


def _said(ended: Ended) -> str:
    return " ".join(ended.said.split()) or "no reason given"
