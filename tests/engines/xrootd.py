"""A real XRootD server on this machine, which can be slow, stopped, killed and started again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import needs
from tests.engines.workers import free_port, until

# An attempt that finds no server says so within seconds; by default clients wait for minutes.
IMPATIENT = {"XRD_CONNECTIONWINDOW": "1", "XRD_CONNECTIONRETRY": "1", "XRD_STREAMERRORWINDOW": "1"}


def needs_xrootd() -> None:
    """Skip, or fail in CI, where server or client are not installed."""
    found = all(importlib.util.find_spec(name) for name in ("XRootD", "fsspec_xrootd"))
    needs(
        found and shutil.which("xrootd"), "XRootD (as root: apt-get install xrootd-server; pip install shaper[xrootd])"
    )


class Server:
    """Serves the files of `folder`; the name of one is `url("name")`."""

    def __init__(self, top: Path, bytes_per_s: str | None = None) -> None:
        self.folder, self._top, self.port = top / "data", top, free_port()
        for folder in (top / "data", top / "admin"):
            folder.mkdir()
        throttle = f"xrootd.fslib throttle default\nthrottle.throttle data {bytes_per_s}\n" if bytes_per_s else ""
        (top / "config").write_text(
            f"all.export /\noss.localroot {self.folder}\nxrd.port {self.port}\n"
            f"all.adminpath {top}/admin\nall.pidpath {top}/admin\nxrd.network nodnr\n{throttle}"
        )
        self._user: list[str] = []
        if os.geteuid() == 0:  # it refuses to run as root
            shutil.chown(top / "admin", "xrootd")
            self._user = ["-R", "xrootd"]
        self.process: subprocess.Popen[bytes]

    def url(self, name: str) -> str:
        return f"root://localhost:{self.port}//{name}"

    def start(self) -> None:
        """Return when it listens."""
        log = self._top / "admin" / "log"
        self.process = subprocess.Popen(
            ["xrootd", "-c", str(self._top / "config"), "-l", str(log), *self._user],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._listens)

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
            self.process.wait()

    def _listens(self) -> bool:
        assert self.process.poll() is None, "the XRootD server ended"
        with socket.socket() as probe:
            return probe.connect_ex(("localhost", self.port)) == 0


@contextmanager
def serving(bytes_per_s: str | None = None) -> Iterator[Server]:
    """A server that does not run yet; its user may read nothing below the folders of pytest."""
    top = Path(tempfile.mkdtemp(prefix="shaper-xrootd-"))
    top.chmod(0o755)
    server = Server(top, bytes_per_s)
    try:
        yield server
    finally:
        if hasattr(server, "process"):
            server.kill()
        shutil.rmtree(top)
