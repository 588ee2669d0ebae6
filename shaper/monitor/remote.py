"""What travels between an engine and the warm server of a worker on another machine: files of these names and types.

A task's directory holds `client.py`, `shaper.zip` (this package), `code.pkl` (the stage's functions), `call.txt` (a
RemoteCall, as text: all that Work Queue's buffers take) and, for a merge, its inputs; where they are asked for also
`start.sh` and `environment.tar.gz` (the Python it runs under), `x509.pem` (a grid proxy) and the user's extra files.
Afterwards it holds `reply.pkl` (a Reply) and `result.pkl`, which is empty where there is no result.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

from shaper.monitor.call import Call, CallReport

CLIENT, PACKAGE, CODE, CALL = "client.py", "shaper.zip", "code.pkl", "call.txt"
START, ENVIRONMENT, PROXY = "start.sh", "environment.tar.gz", "x509.pem"
REPLY, RESULT, SANDBOX, LOG = "reply.pkl", "result.pkl", "sandbox", "log"
# What no file of the user's may be called; `environment` is where a task unpacks its own.
_TAKEN = (CLIENT, PACKAGE, CODE, CALL, START, ENVIRONMENT, PROXY, REPLY, RESULT, SANDBOX, "environment")
NAMES = (*_TAKEN, f"{LOG}.out", f"{LOG}.err", f"{REPLY}.part", f"{RESULT}.part")


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """One attempt, with what a worker must know of the manager.

    Args:
        call: its paths are relative to the task's directory; its stage is a name that changes with the code.
        sys_path, argv, cwd: of the manager; used as far as they exist on the worker.
        versions: of Python and the packages that the functions name; the worker must have the same.
        files: of the user's, that lie in the task's directory.
        proxy: whether a grid proxy lies there too.
        most_bytes: a larger result would not fit where it goes, and is not sent; None for no limit.
    """

    call: Call
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    cwd: str
    versions: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    proxy: bool = False
    most_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """How an attempt on a worker ended.

    Args:
        report: as the supervisor gave it; None where the call could not be started.
        fault: why it could not be started; then `kind` is `versions`, `code` or `site`. Or `room`: its result of
            `bytes_wanted` is larger than what there is room for.
        logs: standard output and standard error, cut.
        warming_s: how long the call had to wait until its worker's server had loaded everything.
    """

    report: CallReport | None
    kind: str = ""
    fault: str = ""
    logs: tuple[bytes, bytes] = (b"", b"")
    bytes_wanted: int = 0
    warming_s: float = 0.0


def encoded(call: RemoteCall) -> str:
    """A call as text."""
    return base64.b64encode(pickle.dumps(call)).decode()


def decoded(text: bytes) -> RemoteCall:
    """The call that was encoded."""
    call = pickle.loads(base64.b64decode(text))
    assert isinstance(call, RemoteCall)
    return call
