"""The program that a batch system runs for each task, by itself: here this process is the worker."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shaper.engines import package
from shaper.monitor import client, remote, server
from tests.engines.workers import until


@pytest.mark.parametrize("name", [b"plain", b"caf\xe9"])
def test_a_client_finds_its_way_past_what_a_killed_server_left(name: bytes, tmp_path: Path) -> None:
    """Under its own process id, which comes again; and in a directory whose name is no UTF-8."""
    worker = tmp_path / os.fsdecode(name)
    task = worker / "task"
    task.mkdir(parents=True)
    (task / remote.PACKAGE).write_bytes(package.package())
    shutil.copyfile(client.__file__, task / remote.CLIENT)
    words = f'mkdir -p ../shaper-server-$$ ../shaper-server-$$-0; exec "$0" -I -S {remote.CLIENT} {tmp_path.name} 1'
    done = subprocess.run(
        ["/bin/sh", "-c", words, sys.executable], cwd=task, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    reply = pickle.loads((task / remote.REPLY).read_bytes())
    # It was asked for nothing, and says so: the call is not there.
    assert (reply.kind, reply.report) == ("site", None)
    assert remote.CALL in reply.fault
    until(lambda: len(list(worker.glob("shaper-server-*"))) == 2)


@pytest.mark.parametrize("said", [b"", b"abc", b"\0\0\0\0\0\0\0\5abc"])
def test_a_message_that_ends_in_the_middle_is_none(said: bytes) -> None:
    found: list[object] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        # Beside, for one that waits for ever would stop all tests.
        reader = threading.Thread(target=lambda: found.append(server.receive(ours)), daemon=True)
        reader.start()
        reader.join(60)
        assert found == [(None, [])]
