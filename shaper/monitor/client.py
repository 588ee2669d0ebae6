"""What a batch system runs for each task: hand the call in this directory to the worker's warm server, and wait.

    python -I -S client.py TAG IDLE_S

A plain program of the standard library that imports nothing slow and is short, because it is compiled and started once
per task; what only a worker's first task needs is in `launch.py`. The worker is the nearest ancestor that is one
(`work_queue_worker`, `vine_worker`). Its server listens on an abstract socket that is named by user, worker and TAG
(what the server runs, so that one of another version is never asked), and is started when nobody listens there. With 0
for IDLE_S there is no server: the call runs alone, in this process. Exit codes: 0 the answer is in `reply.pkl`; 71 no
server could be started, standard output says why; 75 the server was ended in the middle of the call.
"""

import _socket
import posix
import sys


def main(tag: str, idle_s: str) -> int:
    """Return the exit code."""
    here = posix.getcwd()
    worker, since = _worker()
    address = f"\0shaper-{posix.getuid()}-{worker}-{since}-{tag}"
    if idle_s == "0":
        return _refused(_launch(address, worker, idle_s))
    for _ in range(20):
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            fault = _launch(address, worker, idle_s)
            if fault:
                return _refused(fault)
            continue
        credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        if int.from_bytes(credentials[4:8], sys.byteorder) != posix.getuid():
            return _refused("the warm server belongs to another user")
        try:
            # As `os.fsencode` does, which is slow to import.
            connection.sendall(here.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()) + b"\n")
            if not connection.recv(1):
                continue  # it was leaving
        except OSError:
            continue
        try:
            return 0 if connection.recv(16) else 75
        except OSError:
            return 75
    return _refused("the warm server ended twenty times before it took a call")


def _refused(why: str) -> int:
    posix.write(1, why.encode() + b"\n")
    return 71


def _worker() -> tuple[int, str]:
    """The process id of the worker this task belongs to, and when it started."""
    first = pid = posix.getppid()
    while pid > 1:
        name, parent, since = _stat(pid)
        if name.startswith(("work_queue_wor", "vine_worker")):
            return pid, since
        pid = parent
    return first, _stat(first)[2]


def _stat(pid: int) -> tuple[str, int, str]:
    file = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY)
    name, _, rest = posix.read(file, 4096).decode(errors="replace").partition("(")[2].rpartition(")")
    posix.close(file)
    fields = rest.split()
    return name, int(fields[1]), fields[19]


def _launch(address: str, worker: int, idle_s: str) -> str:
    """Return what went wrong, or ''; without a server, does not return."""
    sys.path.insert(0, "shaper.zip/shaper/monitor")
    import launch  # type: ignore[import-not-found]

    return str(launch.launch(address, worker, idle_s))


if __name__ == "__main__":
    # Without taking the interpreter down, which takes as long as a sixth of the rest.
    posix._exit(main(sys.argv[1], sys.argv[2]))
