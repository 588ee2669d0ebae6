"""The warm server of one worker of a batch system: it keeps the user's modules loaded between that worker's tasks.

Started by the first `client.py`; later ones find it by the name of its socket. Each client hands in the directory of
its task; the call runs in a fork of a warm parent, under the same monitor as on the local engine, and the client is
told when it is taken and when `reply.pkl` is there. A client that goes away (its task was cancelled) takes its call
with it. The server ends with its worker, or after a time without calls, and leaves nothing behind. A worker that turns
to another manager clears its folders away, that of its server too: then the next client starts another server.
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
from multiprocessing.connection import wait
from pathlib import Path

from shaper.errors import ShaperError
from shaper.monitor import remote, versions
from shaper.monitor.call import Call, CallReport
from shaper.monitor.pool import Place, Pool
from shaper.monitor.remote import RemoteCall, Reply

_HELLO_S = 5.0
_LOG_BYTES = 2**16


def main() -> None:
    """Serve until the worker ends or nobody has called for a while; arguments as `client.py` gives them."""
    name, worker, home, ready_fd, idle_s = sys.argv[1:6]
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
        server.serve()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    folder: Path
    name: str = ""


class _Server:
    def __init__(self, listening: socket.socket, worker_fd: int, home: Path, idle_s: float) -> None:
        self.listening, self.worker_fd, self.home, self.idle_s = listening, worker_fd, home, idle_s
        self.pool: Pool | None = None
        self.codes: set[str] = set()
        self.agreed: set[tuple[tuple[str, str], ...]] = set()
        self.clients: dict[int, _Client] = {}  # those whose call runs, by file descriptor
        self.calls = 0

    def serve(self) -> None:
        """Until the worker is gone."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _leave)
        last_s = time.monotonic()
        try:
            while True:
                busy = self.pool.busy if self.pool is not None else []
                ready = wait([self.listening, self.worker_fd, *self.clients, *busy], self.idle_s)
                if self.worker_fd in ready:
                    break
                now_s = time.monotonic()
                if ready:
                    last_s = now_s
                elif not busy and now_s - last_s >= self.idle_s:
                    break
                if self.listening in ready:
                    if not self.home.is_dir():
                        break
                    self._accept()
                for fd in ready:
                    if isinstance(fd, int) and fd in self.clients:
                        self._gone(self.clients.pop(fd))
                if self.pool is not None and busy:
                    for report in self.pool.reports(0.0):
                        self._done(report)
        finally:
            # No new client may find this socket while the last calls are being ended.
            self.listening.close()
            if self.pool is not None:
                self.pool.close()

    def _accept(self) -> None:
        connection, _ = self.listening.accept()
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
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
        client = _Client(connection, Path(os.fsdecode(hello[:-1])))
        try:
            fault = self._start(client)
        except ShaperError as error:
            fault = Reply(None, "code", str(error))
        except Exception as error:  # whatever is wrong here must not end the calls of others
            fault = Reply(None, "site", f"{type(error).__name__}: {error}")
        if fault is not None:
            self._answer(client, fault)
        else:
            self.clients[connection.fileno()] = client

    def _start(self, client: _Client) -> Reply | None:
        folder = client.folder
        wanted = remote.decoded((folder / remote.CALL).read_bytes())
        asked = tuple(sorted(wanted.versions.items()))
        if asked not in self.agreed:  # looking them up takes longer than a short call
            if differ := versions.differing(wanted.versions):
                return Reply(None, "versions", f"{socket.gethostname()} has {differ}")
            self.agreed.add(asked)
        if self.pool is None:
            self.pool = Pool(self._place(wanted))
        if wanted.call.stage not in self.codes:
            self.pool.open(wanted.call.stage, (folder / remote.CODE).read_bytes())
            self.codes.add(wanted.call.stage)
        self.calls += 1
        client.name = f"{self.calls}"
        self.pool.start(_absolute(wanted.call, folder, client.name))
        return None

    def _place(self, wanted: RemoteCall) -> Place:
        # On a shared file system the user's modules are found where they lie, with their data beside them.
        shared = [path for path in wanted.sys_path if Path(path).exists()]
        cwd = wanted.cwd if Path(wanted.cwd).is_dir() else str(self.home)
        return Place((*shared, *(path for path in sys.path if path not in shared)), wanted.argv, cwd)

    def _gone(self, client: _Client) -> None:
        """Its task was cancelled, or its worker's slot is wanted: nobody waits for this call."""
        client.connection.close()
        assert self.pool is not None
        self.pool.cancel(client.name)

    def _done(self, report: CallReport) -> None:
        for fd, client in self.clients.items():
            if client.name == report.name:
                del self.clients[fd]
                self._answer(client, Reply(report, logs=_logs(client.folder)))
                return

    @staticmethod
    def _answer(client: _Client, reply: Reply) -> None:
        with client.connection:
            try:
                result = client.folder / remote.RESULT
                if not result.exists():
                    result.touch()
                part = client.folder / f"{remote.REPLY}.part"
                part.write_bytes(pickle.dumps(reply))
                part.rename(client.folder / remote.REPLY)
                client.connection.sendall(b"done")
            except OSError:
                return  # the task is gone, or its disk is full: the client ends without a word, which says so


def _absolute(call: Call, folder: Path, name: str) -> Call:
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
    )


def _logs(folder: Path) -> tuple[bytes, bytes]:
    def end(path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LOG_BYTES))
                return file.read()
        except OSError:
            return b""

    return end(folder / f"{remote.LOG}.out"), end(folder / f"{remote.LOG}.err")


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)
