"""The commands of batch systems: hand a script in, ask what lives, take jobs back."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shaper.errors import SiteError

_COMMAND_S = 60.0


@dataclass(frozen=True, slots=True)
class System:
    """One batch system.

    Args:
        submit: a command that reads the script from standard input, or from a file that is appended.
        from_file: whether it wants a file.
        job_id: finds the id in what it prints.
        listed: a command that lists jobs, one id per line, to which ids are appended, joined by `joined`.
        cancel: a command to which ids are appended.
    """

    submit: Sequence[str]
    from_file: bool
    job_id: str
    listed: Sequence[str]
    joined: str | None
    cancel: Sequence[str]


SYSTEMS = {
    "slurm": System(
        ("sbatch", "--parsable"), False, r"^(\d+)", ("squeue", "--noheader", "--format=%A", "--jobs"), ",", ("scancel",)
    ),
    "pbs": System(("qsub",), False, r"^(\S+)", ("qselect", "-u"), None, ("qdel",)),
    "sge": System(("qsub", "-terse"), False, r"^(\d+)", ("qstat", "-u"), None, ("qdel",)),
    "condor": System(
        ("condor_submit", "-terse"),
        True,
        r"^(\d+)\.",
        ("condor_q", "-format", "%d\n", "ClusterId"),
        " ",
        ("condor_rm",),
    ),
}


def submit(batch: str, script: str, path: str) -> str:
    """Hand a script in; return the id of the job.

    Args:
        path: where the script lies, for systems that want a file.
    """
    system = SYSTEMS[batch]
    said = _run([*system.submit, *([path] if system.from_file else [])], None if system.from_file else script)
    found = re.search(system.job_id, said, re.MULTILINE)
    if found is None:
        raise SiteError(f"{system.submit[0]} gave no job id, it said: {said.strip()!r}")
    return found[1]


def alive(batch: str, ids: Collection[str], user: str) -> set[str]:
    """Those of the jobs that wait or run."""
    system = SYSTEMS[batch]
    if not ids:
        return set()
    if system.joined is None:
        said = _run([*system.listed, user], None)
    else:
        asked = [system.joined.join(ids)] if system.joined != " " else list(ids)
        # Systems that know none of the ids any more call that an error.
        said = _run([*system.listed, *asked], None, check=False)
    words = set(re.findall(r"[\w.\-]+", said))
    return {job for job in ids if job in words or job.partition(".")[0] in words}


def cancel(batch: str, ids: Collection[str]) -> None:
    """Take jobs back."""
    if ids:
        _run([*SYSTEMS[batch].cancel, *ids], None, check=False)


def _run(words: Sequence[str], text: str | None, *, check: bool = True) -> str:
    if shutil.which(words[0]) is None:
        raise SiteError(f"{words[0]} is not there: run this where the batch system's commands are")
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise SiteError(f"{words[0]} did not answer within {_COMMAND_S:.0f} s") from error
    if check and done.returncode != 0:
        raise SiteError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
