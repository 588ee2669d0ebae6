"""The script that unpacks an environment on a worker, by itself."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from shaper.monitor import remote
from tests.engines.workers import until

SCRIPT = Path(remote.__file__).with_name("start.sh")


def _commands_below(pid: int) -> list[bytes]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            found.append(Path(f"/proc/{child}/cmdline").read_bytes())
    return found


def test_where_no_lock_can_be_made_the_task_says_so_and_ends(tmp_path: Path) -> None:
    words = ["/bin/sh", SCRIPT, "worker", "k" * 300, "tag", "1"]  # a name that no file can have
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 72
    assert "File name too long" in done.stdout


def test_who_waits_for_another_to_unpack_ends_when_the_worker_and_its_directories_have_gone(tmp_path: Path) -> None:
    task = tmp_path / "worker" / "task"
    task.mkdir(parents=True)
    # Another that lives is unpacking, for ever.
    (tmp_path / "worker" / "shaper-environment-key.lock").symlink_to(f"{os.getpid()} {tmp_path}")
    waiting = subprocess.Popen(["/bin/sh", SCRIPT, "worker", "key", "tag", "1"], cwd=task)
    try:
        until(lambda: b"sleep" in b"".join(_commands_below(waiting.pid)))
        (tmp_path / "worker").rename(tmp_path / "gone")
        assert waiting.wait(30.0) == 72
    finally:
        if waiting.poll() is None:
            waiting.kill()
            waiting.wait()
