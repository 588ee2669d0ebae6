"""The password that workers and managers of one user share."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from shaper.errors import BadInput, SiteError


def of(given: str | os.PathLike[str] | bool | None = None) -> Path | None:
    """Return the file to use: `given`, else that of `SHAPER_PASSWORD_FILE`, else `~/.shaper/password`, made if missing.

    None where `given` is False.

    Raises:
        BadInput: a file that was given is not there, is empty, or can be read by others.
        SiteError: the default file cannot be made.
    """
    if given is False:
        return None
    chosen = None if given is True else given
    chosen = chosen or os.environ.get("SHAPER_PASSWORD_FILE")
    path = (
        Path(chosen).expanduser()
        if chosen
        else Path(os.environ.get("SHAPER_HOME", Path.home() / ".shaper")) / "password"
    )
    if not chosen:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # Whole or not there: two processes may want it at the same time.
            part = path.with_name(f"{path.name}.{os.getpid()}")
            if not path.exists():
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(32))
                try:
                    os.link(part, path)
                except FileExistsError:
                    pass
                finally:
                    part.unlink()
        except OSError as error:
            raise SiteError(f"the password file {path} cannot be made ({error}): give password_file=...") from error
    try:
        found = path.stat()
    except OSError as error:
        raise BadInput(f"the password file {path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_size == 0:
        raise BadInput(f"the password file {path} is empty or no file: anybody could know that password")
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(f"the password file {path} can be read by others: chmod 600 {path}")
    return path
