"""What a batch system runs for each task: hand the call in this directory to the worker's warm server, and wait.

    python -I -S client.py TAG IDLE_S

A plain program of the standard library that imports nothing slow: it is started once per task. The worker is the
nearest ancestor that is one (`work_queue_worker`, `vine_worker`). Its server listens on an abstract socket that is
named by user, worker and TAG (what the server runs, so that one of another version is never asked), and is started
when nobody listens there. With 0 for IDLE_S there is no server: the call runs alone, in this process. Exit codes: 0 the
answer is in `reply.pkl`; 71 no server could be started, standard output says why; 75 the server was ended in the middle
of the call.
"""

from __future__ import annotations

import _socket
import posix
import sys

_WORKERS = ("work_queue_wor", "vine_worker")
_NO_SERVER, _SERVER_ENDED = 71, 75
_PEERCRED_BYTES = 12
# What cannot be imported there is told to the client, and by it to the manager.
_START = """
import os, sys
try:
    from shaper.monitor.worker_server import main
except BaseException as error:
    os.write(int(sys.argv[4]), f"{sys.executable}: {type(error).__name__}: {error}".encode())
    raise
main()
"""
_ALONE = """
import sys
try:
    from shaper.monitor.worker_server import alone
except BaseException as error:
    print(f"{sys.executable}: {type(error).__name__}: {error}")
    sys.exit(71)
alone(int(sys.argv[1]))
"""


def main(tag: str, idle_s: str) -> int:
    """Return the exit code."""
    here = posix.getcwd()
    worker, since = _worker()
    if idle_s == "0":
        posix.execve(sys.executable, [sys.executable, "-c", _ALONE, str(worker)], _environment(here + "/shaper.zip"))
    address = f"\0shaper-{posix.getuid()}-{worker}-{since}-{tag}"
    for _ in range(20):
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            fault = _launch(here, address, worker, idle_s)
            if fault:
                return _refused(fault)
            continue
        credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEERCRED_BYTES)
        if int.from_bytes(credentials[4:8], sys.byteorder) != posix.getuid():
            return _refused("the warm server belongs to another user")
        try:
            connection.sendall(_bytes(here) + b"\n")
            if not connection.recv(1):
                continue  # it was leaving
        except OSError:
            continue
        try:
            return 0 if connection.recv(16) else _SERVER_ENDED
        except OSError:
            return _SERVER_ENDED
    return _refused("the warm server ended twenty times before it took a call")


def _refused(why: str) -> int:
    posix.write(1, why.encode() + b"\n")
    return _NO_SERVER


def _worker() -> tuple[int, str]:
    """The process id of the worker this task belongs to, and when it started."""
    first = pid = posix.getppid()
    while pid > 1:
        name, parent, since = _stat(pid)
        if name.startswith(_WORKERS):
            return pid, since
        pid = parent
    return first, _stat(first)[2]


def _stat(pid: int) -> tuple[str, int, str]:
    file = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY)
    text = posix.read(file, 4096).decode(errors="replace")
    posix.close(file)
    name, _, rest = text[text.index("(") + 1 :].rpartition(")")
    fields = rest.split()
    return name, int(fields[1]), fields[19]


def _launch(here: str, address: str, worker: int, idle_s: str) -> str:
    """Start the server and wait until it listens, or has found another that does; return what went wrong, or ''."""
    home = _home(f"{here.rpartition('/')[0]}/shaper-server-{posix.getpid()}")
    package = home + "/shaper.zip"
    _copy("shaper.zip", package)
    reader, writer = posix.pipe()
    if posix.fork() == 0:
        try:
            posix.setsid()
            if posix.fork() != 0:
                posix._exit(0)
            posix.close(reader)
            posix.set_inheritable(writer, True)
            null = posix.open("/dev/null", posix.O_RDWR)
            for number in (0, 1, 2):
                posix.dup2(null, number)
            posix.chdir("/")
            arguments = [sys.executable, "-c", _START, address[1:], str(worker), home, str(writer), idle_s]
            posix.execve(sys.executable, arguments, _environment(package))
        finally:
            posix._exit(1)
    posix.close(writer)
    posix.wait()
    said = b""
    while True:
        part = posix.read(reader, 4096)
        if not part:
            return said.decode(errors="replace")
        said += part


def _home(stem: str) -> str:
    """A new directory: a server that was killed has left its own."""
    number = 0
    while True:
        home = f"{stem}-{number}"
        try:
            posix.mkdir(home, 0o700)
        except FileExistsError:
            number += 1
        else:
            return home


def _environment(package: str) -> dict[bytes, bytes]:
    found = dict(posix.environ)
    path = found.get(b"PYTHONPATH", b"")
    found[b"PYTHONPATH"] = _bytes(package) + (b":" + path if path else b"")
    return found


def _bytes(path: str) -> bytes:
    """What `os.fsencode` does, which is slow to import."""
    return path.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def _copy(source: str, target: str) -> None:
    reader, writer = posix.open(source, posix.O_RDONLY), posix.open(target, posix.O_WRONLY | posix.O_CREAT, 0o600)
    while True:
        part = posix.read(reader, 1 << 20)
        if not part:
            break
        while part:
            part = part[posix.write(writer, part) :]
    posix.close(reader)
    posix.close(writer)


if __name__ == "__main__":
    # Without taking the interpreter down, which takes as long as a sixth of the rest.
    posix._exit(main(sys.argv[1], sys.argv[2]))
