"""The warm server of one worker of a batch system: it keeps the user's modules loaded between that worker's tasks.

Started by the first `client.py`; later ones find it by the name of its socket. Each client hands in the directory of
its task; the call runs in a fork of a warm parent, under the same monitor as on the local engine, and the client is
told when it is taken and when `reply.pkl` is there. A client that goes away (its task was cancelled) takes its call
with it. The server ends with its worker, or after a time without calls, and leaves nothing behind; an environment that
was unpacked for it and others goes with the worker. A worker that turns to another manager clears its folders away,
that of its server too: then the next client starts another server. Where nothing may outlive a task, `alone` runs a
call without a server.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import struct
import sys
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from shaper.errors import ShaperError
from shaper.monitor import logs, remote, versions
from shaper.monitor.call import Call, CallReport
from shaper.monitor.pool import Place, Pool
from shaper.monitor.remote import RemoteCall, Reply

_HELLO_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Serve until the worker ends or nobody has called for a while; arguments as `client.py` gives them."""
    name, worker, home, ready_fd, idle_s = sys.argv[1:6]
    unpacked = os.environ.pop("SHAPER_ENVIRONMENT", "")
    environment = Path(unpacked) if unpacked else None
    try:
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind("\0" + name)
        except OSError:
            return  # another one was faster; the client finds it
        listening.listen(1024)
        worker_fd = os.pidfd_open(int(worker))
        server = _Server(listening, worker_fd, Path(home), float(idle_s))
    except BaseException:
        os.write(int(ready_fd), traceback.format_exc().strip().splitlines()[-1].encode())
        raise
    else:
        os.close(int(ready_fd))
        if server.serve() and environment is not None:
            # A worker that was killed leaves its directory as it is.
            for path in environment.parent.glob(f"{environment.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def alone(worker: int) -> None:
    """Run the call of the working directory, unless its worker ends before."""
    folder = Path.cwd()
    for number in _SIGNALS:
        signal.signal(number, _leave)
    calls = _Calls(folder)
    try:
        worker_fd = os.pidfd_open(worker)
        reply = calls.start(folder, "1", _began_s(os.getpid()))
        while reply is None:
            if worker_fd in wait([worker_fd, *calls.busy]):
                return
            reply = next((found for _, found in calls.replies()), None)
    finally:
        calls.close()
    _write(folder, reply)


class _Calls:
    """The calls of one interpreter, each in a fork of the same warm parent.

    Args:
        home: a directory of its own, in which functions run that find no other.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pool: Pool | None = None
        self.codes: set[str] = set()
        self.agreed: set[tuple[tuple[str, str], ...]] = set()
        self.asked: dict[str, _Asked] = {}  # those that run, by name
        self.warm_s = _now_s()  # since when all that calls have asked for is loaded

    @property
    def busy(self) -> list[Connection]:
        """To wait on: readable when a report is ready."""
        return self.pool.busy if self.pool is not None else []

    def start(self, folder: Path, name: str, began_s: float) -> Reply | None:
        """Start the call of a task's directory, whose client began then; return why it cannot be, or None."""
        try:
            return self._start(folder, name, began_s)
        except ShaperError as error:
            return Reply(None, "code", str(error))
        except Exception as error:  # whatever is wrong here must not end the calls of others
            return Reply(None, "site", f"{type(error).__name__}: {error}")

    def _start(self, folder: Path, name: str, began_s: float) -> Reply | None:
        wanted = remote.decoded((folder / remote.CALL).read_bytes())
        asked = tuple(sorted(wanted.versions.items()))
        if asked not in self.agreed:  # looking them up takes longer than a short call
            if differ := versions.differing(wanted.versions):
                return Reply(None, "versions", f"{socket.gethostname()} has {differ}")
            self.agreed.add(asked)
        if self.pool is None:
            self.pool = Pool(self._place(wanted, folder))
        if wanted.call.stage not in self.codes:
            self.pool.open(wanted.call.stage, (folder / remote.CODE).read_bytes())
            self.codes.add(wanted.call.stage)
            self.warm_s = _now_s()
        self.asked[name] = _Asked(folder, wanted.most_bytes, max(0.0, self.warm_s - began_s))
        self.pool.start(_absolute(wanted, folder, name))
        return None

    def _place(self, wanted: RemoteCall, folder: Path) -> Place:
        # On a shared file system the user's modules are found where they lie, with their data beside them.
        shared = [path for path in wanted.sys_path if Path(path).exists()]
        cwd = Path(wanted.cwd)
        if wanted.files or not cwd.is_dir():
            cwd = self.home
        for name in wanted.files:
            if folder != cwd:
                _link(folder / name, cwd / name)
        own = (*shared, *(path for path in sys.path if path not in shared))
        return Place((*own, str(cwd)) if wanted.files else own, wanted.argv, str(cwd))

    def replies(self) -> list[tuple[str, Reply]]:
        """What is ready, with the names of the calls."""
        reports = self.pool.reports(0.0) if self.pool is not None else []
        return [
            (report.name, self.asked.pop(report.name).reply(report)) for report in reports if report.name in self.asked
        ]

    def cancel(self, name: str) -> None:
        """End a call that runs."""
        self.asked.pop(name, None)
        if self.pool is not None:
            self.pool.cancel(name)

    def close(self) -> None:
        """End all."""
        if self.pool is not None:
            self.pool.close()


@dataclass(frozen=True, slots=True)
class _Asked:
    folder: Path
    most_bytes: int | None
    warming_s: float

    def reply(self, report: CallReport) -> Reply:
        size_bytes = report.usage.result_bytes or 0
        if self.most_bytes is None or size_bytes <= self.most_bytes:
            return Reply(report, logs=_logs(self.folder), warming_s=self.warming_s)
        (self.folder / remote.RESULT).unlink(missing_ok=True)
        return Reply(None, "room", "its result does not fit", bytes_wanted=size_bytes)


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    folder: Path
    name: str


class _Server:
    def __init__(self, listening: socket.socket, worker_fd: int, home: Path, idle_s: float) -> None:
        self.listening, self.worker_fd, self.idle_s = listening, worker_fd, idle_s
        self.calls = _Calls(home)
        self.clients: dict[int, _Client] = {}  # those whose call runs, by file descriptor
        self.count = 0

    def serve(self) -> bool:
        """Until the worker is gone, or nobody has called for a while; return whether it is gone."""
        for number in _SIGNALS:
            signal.signal(number, _leave)
        last_s = time.monotonic()
        try:
            while True:
                busy = self.calls.busy
                ready = wait([self.listening, self.worker_fd, *self.clients, *busy], self.idle_s)
                if self.worker_fd in ready:
                    return True
                now_s = time.monotonic()
                if ready:
                    last_s = now_s
                elif not busy and now_s - last_s >= self.idle_s:
                    return False
                if self.listening in ready:
                    if not self.calls.home.is_dir():
                        return False
                    self._accept()
                for fd in ready:
                    if isinstance(fd, int) and fd in self.clients:
                        self._gone(self.clients.pop(fd))
                if busy:
                    for name, reply in self.calls.replies():
                        self._done(name, reply)
        finally:
            # No new client may find this socket while the last calls are being ended.
            self.listening.close()
            self.calls.close()

    def _accept(self) -> None:
        connection, _ = self.listening.accept()
        size = struct.calcsize("3i")
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        connection.settimeout(_HELLO_S)
        hello = b""
        try:
            while uid == os.getuid() and not hello.endswith(b"\n"):
                part = connection.recv(4096)
                if not part:
                    break
                hello += part
            if hello.endswith(b"\n"):
                connection.sendall(b"+")
        except OSError:
            hello = b""
        if not hello.endswith(b"\n"):
            connection.close()
            return
        self.count += 1
        client = _Client(connection, Path(os.fsdecode(hello[:-1])), f"{self.count}")
        fault = self.calls.start(client.folder, client.name, _began_s(pid))
        if fault is not None:
            self._answer(client, fault)
        else:
            self.clients[connection.fileno()] = client

    def _gone(self, client: _Client) -> None:
        """Its task was cancelled, or its worker's slot is wanted: nobody waits for this call."""
        client.connection.close()
        self.calls.cancel(client.name)

    def _done(self, name: str, reply: Reply) -> None:
        for fd, client in self.clients.items():
            if client.name == name:
                del self.clients[fd]
                self._answer(client, reply)
                return

    @staticmethod
    def _answer(client: _Client, reply: Reply) -> None:
        with client.connection:
            try:
                _write(client.folder, reply)
                client.connection.sendall(b"done")
            except OSError:
                return  # the task is gone, or its disk is full: the client ends without a word, which says so


def _write(folder: Path, reply: Reply) -> None:
    result = folder / remote.RESULT
    if not result.exists():
        result.touch()
    part = folder / f"{remote.REPLY}.part"
    part.write_bytes(pickle.dumps(reply))
    part.rename(folder / remote.REPLY)


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _began_s(pid: int) -> float:
    """When a process was started, on the clock of `_now_s`."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _now_s()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _link(path: Path, there: Path) -> None:
    """A file that outlives the directory it came in."""
    try:
        os.link(path, there)
    except OSError:
        shutil.copyfile(path, there)


def _absolute(wanted: RemoteCall, folder: Path, name: str) -> Call:
    call = wanted.call
    work = call.work
    if not isinstance(work, bytes):
        work = tuple((str(folder / path), checksum) for path, checksum in work)
    return replace(
        call,
        name=name,
        work=work,
        result_path=str(folder / remote.RESULT),
        sandbox=str(folder / remote.SANDBOX),
        log_stem=str(folder / remote.LOG),
        environment=(("X509_USER_PROXY", str(folder / remote.PROXY)),) if wanted.proxy else (),
    )


def _logs(folder: Path) -> tuple[bytes, bytes]:
    def read(path: Path) -> bytes:
        logs.cut(path)  # its supervisor may have been killed before it did
        try:
            return path.read_bytes()
        except OSError:
            return b""

    out, err = logs.paths(folder / remote.LOG)
    return read(out), read(err)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)
