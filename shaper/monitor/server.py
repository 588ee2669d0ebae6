"""The warm parent: a small process that has imported what calls need, and forks one supervisor per slot.

Started by `pool.Pool` in a session of its own, single-threaded so that forking is safe. It
listens on one socket:

    ("init", sys_path, argv, cwd)     where to find the user's modules, and what they may read
    ("open", stage, payload, load)    take a stage's functions, and load them; answered with (stage, None or what went
                                      wrong, names of threads)
    ("warm", names)                   import these modules; answered with ("warm", None, names of threads)
    ("fork",) + a file descriptor     fork a supervisor that serves calls on that connection

Where an import starts threads, the parent must not be forked any more (a lock that a thread holds stays locked in the
fork): the answer names them, and the pool starts another parent without those imports. When the socket closes,
everything below is ended.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from shaper.monitor import supervisor
from shaper.monitor.child import Functions, warm

_REAP_EVERY_MS = 200


def main(fd: int) -> None:
    """Serve until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor.adopt_orphans()
    control = socket.socket(fileno=fd)
    codes: dict[str, Functions] = {}
    supervisors: set[int] = set()
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLHUP)
    try:
        while True:
            if poll.poll(_REAP_EVERY_MS):
                message, fds = receive(control)
                if message is None:
                    break
                _obey(message, fds, control, codes, supervisors)
            _reap(supervisors)
    finally:
        supervisor.kill_descendants()


def _obey(
    message: tuple[object, ...],
    fds: list[int],
    control: socket.socket,
    codes: dict[str, Functions],
    supervisors: set[int],
) -> None:
    match message:
        case ("fork",):
            pid = os.fork()
            if pid == 0:
                control.close()
                supervisor.supervise(Connection(fds[0]), codes)
            os.close(fds[0])
            supervisors.add(pid)
        case ("init", list() as sys_path, list() as argv, str() as cwd):
            sys.path[:] = sys_path
            sys.argv[:] = argv
            os.chdir(cwd)
        case ("open", str() as stage, bytes() as payload, bool() as load):
            fault = None
            try:
                codes[stage] = pickle.loads(payload) if load else payload
            except BaseException as error:  # importing the user's modules runs their code
                fault = "".join(traceback.format_exception_only(error)).strip()
            # What is frozen is not walked by the collector, so its pages stay shared with every child.
            gc.collect()
            gc.freeze()
            send(control, (stage, fault, _threads()))
        case ("warm", tuple() as names):
            warm(names)
            gc.collect()
            gc.freeze()
            send(control, ("warm", None, _threads()))


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


def _reap(supervisors: set[int]) -> None:
    """Bury supervisors that ended; what a killed one left behind has become ours: end it."""
    ended = False
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        ended = True
        supervisors.discard(pid)
    if ended:
        supervisor.kill_descendants(keep=frozenset(supervisors))


def send(control: socket.socket, message: tuple[object, ...], fds: tuple[int, ...] = ()) -> None:
    """Send one message, with file descriptors."""
    data = pickle.dumps(message)
    header = len(data).to_bytes(8, "big")
    if fds:
        socket.send_fds(control, [header], list(fds))
        control.sendall(data)
    else:
        control.sendall(header + data)


def receive(control: socket.socket) -> tuple[tuple[object, ...] | None, list[int]]:
    """Receive one message and the file descriptors that came with it; None when the other side is gone."""
    try:
        header, fds, _, _ = socket.recv_fds(control, 8, 1)
        while len(header) < 8:
            part = control.recv(8 - len(header)) if header else b""
            if not part:
                return None, fds
            header += part
        size = int.from_bytes(header, "big")
        data = bytearray()
        while len(data) < size:
            part = control.recv(min(1 << 20, size - len(data)))
            if not part:
                return None, fds
            data += part
    except OSError:
        return None, []
    message: tuple[object, ...] = pickle.loads(bytes(data))
    return message, fds
