"""A run's directory: made, found again, described, and held by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shaper.errors import BadInput, Damaged, SiteError
from shaper.types import Stage

RUNS = "shaper-runs"
DESCRIPTION = "run.json"
MANAGER = "manager.json"
_KINDS = {DESCRIPTION: "run", MANAGER: "manager's"}
_LATEST = "latest"
_LOCK = "lock"


def latest(runs: Path) -> Path:
    """Return the directory of the last run below `runs`.

    Raises:
        BadInput: there is none.
    """
    link = runs / _LATEST
    if not link.exists():
        raise BadInput(f"no run yet in this process, and none in {runs!s}")
    return link.resolve()


def find_or_make(run_dir: str | os.PathLike[str] | None, name: str, marker: str = DESCRIPTION) -> Path:
    """Return the directory asked for, or a new one below `shaper-runs`.

    Args:
        marker: the file that tells a directory of this kind; only runs become the latest.

    Raises:
        BadInput: it cannot be made, or holds something else.
    """
    runs = Path(os.environ.get("SHAPER_RUNS", RUNS)).absolute()
    if run_dir is None and marker == DESCRIPTION:
        run_dir = _asked_for(name)
    if run_dir is not None:
        path = Path(run_dir).absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"run_dir {path} cannot be made: {error.strerror}") from error
        if any(item.name != _LOCK for item in path.iterdir()) and not (path / marker).exists():
            raise BadInput(f"run_dir {path} holds other files and is no {_KINDS[marker]}: give an empty or a new one")
        if runs in path.parents and marker == DESCRIPTION:
            _link_latest(runs, path)
        return path
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        path = runs / f"{name}-{stamp}{f'-{number}' if number else ''}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput(f"{path} cannot be made ({error.strerror}): give a run_dir that can be written") from error
        if marker == DESCRIPTION:
            _link_latest(runs, path)
        return path
    raise Damaged(f"cannot make a new directory under {runs}")


def locked(run_dir: Path) -> int:
    """Take a run directory for this process; return the descriptor that holds the lock.

    Raises:
        BadInput: another process has it.
        SiteError: nothing can be written there.
    """
    try:
        lock = os.open(run_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SiteError(f"{error.strerror} in {run_dir}: make room or give another run_dir, and run again") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise BadInput(
            f"run_dir {run_dir} is in use by process {holder or 'unknown'}: wait for it, or give another run_dir"
        ) from None
    except OSError:
        return lock  # a file system without locks
    with suppress(OSError):  # on a full disk nobody learns who has it
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
    return lock


def _link_latest(runs: Path, path: Path) -> None:
    """Point `latest` at a run; two runs that begin together may both try, and either is right."""
    link = runs / f"{_LATEST}.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(path.relative_to(runs))
    link.replace(runs / _LATEST)


def _asked_for(name: str) -> str | None:
    """The run directory that `shaper run` or `shaper resume` asked for, once, for the run it belongs to."""
    asked = os.environ.get("SHAPER_RUN_DIR")
    if not asked:
        return None
    known = described(Path(asked))
    if known and known.get("name") != name:
        return None
    del os.environ["SHAPER_RUN_DIR"]
    return asked


def describe(run_dir: Path, name: str, stages: Sequence[Stage], fingerprints: Mapping[str, str]) -> None:
    """Write run.json, which `shaper resume` reads; once, and whole or not at all."""
    path = run_dir / DESCRIPTION
    if described(run_dir):
        return
    from shaper import __version__

    script = Path(sys.argv[0])
    started_as = getattr(sys.modules["__main__"], "__spec__", None)  # by `python -m`
    partial = path.with_suffix(".part")
    partial.write_text(
        json.dumps(
            {
                "name": name,
                "created_unix_s": round(time.time(), 3),
                "shaper_version": __version__,
                "script": str(script.absolute()) if script.is_file() else None,
                "module": started_as.name.removesuffix(".__main__") if started_as is not None else None,
                "argv": sys.argv[1:],
                "cwd": str(Path.cwd()),
                "stages": [
                    {
                        "name": stage.name,
                        "category": stage.category or stage.name,
                        "fingerprint": fingerprints[stage.name],
                    }
                    for stage in stages
                ],
            },
            indent=1,
        )
        + "\n"
    )
    partial.replace(path)


def described(run_dir: Path) -> dict[str, Any]:
    """What run.json says; empty where there is none that can be read."""
    try:
        found = json.loads((run_dir / DESCRIPTION).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
