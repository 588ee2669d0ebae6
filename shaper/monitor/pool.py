"""The engine's side of the warm parent: start it, keep a supervisor per slot, send calls and collect reports."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from shaper.errors import SiteError, UserError
from shaper.monitor import server
from shaper.monitor.call import Call, CallReport
from shaper.monitor.supervisor import CANCEL
from shaper.types import Outcome, Usage

_CLOSE_S = 1.5
_STARTS = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where calls find the user's modules and files, and what they take for the program's arguments."""

    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    cwd: str

    @classmethod
    def here(cls) -> Place:
        """That of this process."""
        paths = tuple(os.path.abspath(path) for path in sys.path)  # noqa: PTH100
        return cls(paths, tuple(sys.argv), os.getcwd())  # noqa: PTH109


@dataclass(slots=True)
class _Slot:
    number: int
    connection: Connection
    version: int
    call: Call | None = None


class Pool:
    """Runs calls, each in a fork of a warm parent.

    Slots are made on demand and reused. A supervisor that has not seen a stage or an import is replaced before its
    next call, so every call finds what the parent holds.
    """

    def __init__(self, place: Place | None = None) -> None:
        self._place = place
        self._codes: dict[str, bytes] = {}
        self._unloaded: set[str] = set()  # stages whose functions every call loads for itself
        self._warm: dict[str, None] = {}
        self._never_warm = False
        self._version = 0
        self._idle: list[_Slot] = []
        self._busy: dict[Connection, _Slot] = {}
        self._slots = 0
        self._free_numbers: list[int] = []
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._warming = False

    # -- the parent ----------------------------------------------------------------------------------------------

    def open(self, stage: str, payload: bytes) -> None:
        """Load a stage's functions in the parent.

        Raises:
            UserError: they cannot be loaded there; the message says why.
        """
        self._codes[stage] = payload
        if self._process is None or not self._load(stage, payload):
            self._restart()

    def _restart(self) -> None:
        """Start the parent, again where it is gone; calls in its forks end by themselves and are reported lost."""
        for slot in self._idle:
            self._drop(slot)
        self._idle.clear()
        for _ in range(_STARTS):
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                self._process.wait()
            self._warming = False
            if self._start():
                return
        raise SiteError(f"the process that tasks are forked from was killed {_STARTS} times while it started")

    def _start(self) -> bool:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", "")}
        # One thread each until a task is given more; also keeps the parent single-threaded, which forking needs.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
            environment[name] = "1"
        package_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100,PTH120
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (package_root, os.environ.get("PYTHONPATH", "")) if part
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from shaper.monitor.server import main; main({theirs.fileno()})"],
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()
        self._control = ours
        place = self._place or Place.here()
        try:
            server.send(ours, ("init", list(place.sys_path), list(place.argv), place.cwd))
        except OSError:
            return False
        if not all(self._load(stage, payload) for stage, payload in self._codes.items()):
            return False
        if self._warm:
            self._tell_warm(tuple(self._warm))
        return True

    def _load(self, stage: str, payload: bytes) -> bool:
        """Load a stage's functions; False when the parent died meanwhile."""
        self._settle_warming()
        assert self._control is not None
        try:
            server.send(self._control, ("open", stage, payload, stage not in self._unloaded))
        except OSError:
            return False
        answer, _ = server.receive(self._control)
        if answer is None:
            return False
        self._version += 1
        if answer[1] is not None:
            raise UserError(f"the functions of stage {stage!r} cannot be loaded where tasks run: {answer[1]}")
        if answer[2]:
            warnings.warn(
                f"the modules of stage {stage!r} start threads when they are imported ({_names(answer[2])}); every "
                "task imports them anew, which takes longer: start threads inside the function",
                stacklevel=2,
            )
            self._unloaded.add(stage)
            return False
        return True

    def _tell_warm(self, names: tuple[str, ...]) -> None:
        self._settle_warming()
        if self._never_warm:
            return
        assert self._control is not None
        try:
            server.send(self._control, ("warm", names))
        except OSError:
            return
        self._warming = True

    def _settle_warming(self) -> None:
        """Take the answer to the last `warm`; imports go on in the parent meanwhile, calls in older forks too."""
        if self._warming and self._control is not None:
            answer, _ = server.receive(self._control)
            self._warming = False
            self._version += 1
            if answer is not None and answer[2]:
                # Its imports started threads: nothing may be forked from it any more.
                self._never_warm = True
                self._warm.clear()
                self._restart()

    def _is_warm(self) -> bool:
        if self._warming and self._control is not None and wait([self._control], 0):
            self._settle_warming()
        return not self._warming

    @property
    def busy(self) -> list[Connection]:
        """To wait on, with other things: readable when a report is ready."""
        return list(self._busy)

    # -- calls ---------------------------------------------------------------------------------------------------

    def start(self, call: Call) -> int:
        """Start a call; return the number of its slot."""
        data = pickle.dumps(call)
        while True:
            slot = self._fresh_slot()
            try:
                slot.connection.send_bytes(data)
                break
            except OSError:
                # Its supervisor was killed while it waited.
                self._drop(slot)
        slot.call = call
        self._busy[slot.connection] = slot
        return slot.number

    def _fresh_slot(self) -> _Slot:
        self._is_warm()
        while self._idle:
            slot = self._idle.pop()
            if slot.version == self._version or self._warming:
                return slot
            self._drop(slot)
        return self._new_slot()

    def _new_slot(self) -> _Slot:
        ours, theirs = socket.socketpair()
        try:
            while True:
                if self._control is None or self._process is None or self._process.poll() is not None:
                    self._restart()
                assert self._control is not None
                try:
                    server.send(self._control, ("fork",), (theirs.fileno(),))
                    break
                except OSError:
                    assert self._process is not None
                    self._process.wait()
        finally:
            theirs.close()
        if self._free_numbers:
            number = self._free_numbers.pop()
        else:
            self._slots += 1
            number = self._slots
        return _Slot(number, Connection(ours.detach()), self._version)

    def _drop(self, slot: _Slot) -> None:
        slot.connection.close()
        self._free_numbers.append(slot.number)

    def reports(self, timeout_s: float) -> list[CallReport]:
        """Return the reports that are ready, waiting up to `timeout_s` for the first."""
        found = []
        for connection in wait(list(self._busy), timeout_s):
            assert isinstance(connection, Connection)
            slot = self._busy.pop(connection)
            call, slot.call = slot.call, None
            assert call is not None
            try:
                report: CallReport = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                self._drop(slot)
                detail = "its supervisor was killed from outside"
                found.append(CallReport(call.name, Outcome.LOST, Usage(), detail))
                continue
            self._idle.append(slot)
            self._learn(report)
            found.append(report)
        return found

    def _learn(self, report: CallReport) -> None:
        new = tuple(name for name in report.imported if name not in self._warm)
        if new and not self._never_warm:
            self._warm.update(dict.fromkeys(new))
            self._tell_warm(new)

    def cancel(self, name: str) -> None:
        """Kill a running call; it is reported as cancelled, or as what it was when that raced."""
        for slot in self._busy.values():
            if slot.call is not None and slot.call.name == name:
                try:
                    slot.connection.send_bytes(CANCEL)
                except OSError:
                    return

    def close(self) -> None:
        """End everything below, within 2 s; may be called twice."""
        for slot in [*self._idle, *self._busy.values()]:
            slot.connection.close()
        self._idle.clear()
        self._busy.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            _end_tree(process.pid)
            process.wait()


def _names(threads: object) -> str:
    names = list(threads) if isinstance(threads, list) else []
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _end_tree(pid: int) -> None:
    from shaper.monitor.sample import descendants

    end = time.monotonic() + 0.4
    while time.monotonic() < end and (below := descendants(pid)):
        for process in below:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
    os.kill(pid, signal.SIGKILL)
