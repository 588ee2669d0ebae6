"""A PostgreSQL server of the tests' own, on a socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.workers import until

_USER = "postgres"  # the server refuses to run as root


def programs() -> Path | None:
    """Where initdb and postgres lie: Debian keeps them off the path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


@contextmanager
def server() -> Iterator[str]:
    """Start a server; yield the URL of its first database. It ends with the block, and with this process."""
    where = programs()
    assert where is not None
    folder = Path(tempfile.mkdtemp(prefix="shaper-pg-"))
    become: list[str] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam(_USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
        become = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--pdeathsig", "INT"]
    data, log = folder / "data", folder / "log"
    started = None
    try:
        subprocess.run(
            [*become, where / "initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            check=True,
            cwd=folder,
            capture_output=True,
        )
        with log.open("wb") as output:
            started = subprocess.Popen(
                [*become, where / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
                cwd=folder,
                stdout=output,
                stderr=output,
            )
        until(lambda: "ready to accept connections" in log.read_text(), 60.0)
        yield f"postgresql://{_USER}@/postgres?host={folder}"
    finally:
        if started is not None:
            started.send_signal(signal.SIGINT)  # disconnects whoever is left
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
        shutil.rmtree(folder, ignore_errors=True)
