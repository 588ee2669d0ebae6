"""What the client of a worker's first task does: start its warm server; or run its one call without a server.

Imported by `client.py` out of `shaper.zip`, under `python -I -S`: like it a plain program that imports nothing slow.
"""

from __future__ import annotations

import posix
import sys

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


def launch(address: str, worker: int, idle_s: str) -> str:
    """Start the server and wait until it listens, or has found another that does; return what went wrong, or ''.

    With 0 for `idle_s` this process becomes the one that runs the call.
    """
    here = posix.getcwd()
    if idle_s == "0":
        posix.execve(sys.executable, [sys.executable, "-c", _ALONE, str(worker)], _environment(here + "/shaper.zip"))
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
    shipped = package.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
    found[b"PYTHONPATH"] = shipped + (b":" + path if path else b"")
    return found


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
