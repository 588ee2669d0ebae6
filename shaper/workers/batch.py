"""The commands of batch systems: hand a script in, ask what lives, take jobs back."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shaper.errors import SiteError

_COMMAND_S = 60.0
# Systems that know an id no more call that an error.
_UNKNOWN = r"(?i)invalid job|unknown job|not found|not exist|couldn't find|already|finished|completed"


@dataclass(frozen=True, slots=True)
class System:
    """One batch system.

    Args:
        submit: a command that reads the script from standard input, or from a file that is appended.
        from_file: whether it wants a file.
        job_id: finds the id in what it prints.
        listed: a command that lists jobs, one id per line, to which ids are appended, joined by `joined`.
        running: what is inserted after its first word to list only those that run.
        cancel: a command to which ids are appended.
    """

    submit: Sequence[str]
    from_file: bool
    job_id: str
    listed: Sequence[str]
    running: Sequence[str]
    joined: str | None
    cancel: Sequence[str]


SYSTEMS = {
    "slurm": System(
        ("sbatch", "--parsable"),
        False,
        r"^(\d+)",
        ("squeue", "--noheader", "--format=%A", "--jobs"),
        ("--states=RUNNING,COMPLETING",),
        ",",
        ("scancel",),
    ),
    "pbs": System(("qsub",), False, r"^(\S+)", ("qselect", "-u"), ("-s", "R"), None, ("qdel",)),
    "sge": System(("qsub", "-terse"), False, r"^(\d+)", ("qstat", "-u"), ("-s", "r"), None, ("qdel",)),
    "condor": System(
        ("condor_submit", "-terse"),
        True,
        r"^(\d+)\.",
        ("condor_q", "-format", "%d\n", "ClusterId"),
        ("-constraint", "JobStatus == 2"),
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


def alive(batch: str, ids: Collection[str], user: str, *, running: bool = False) -> set[str]:
    """Those of the jobs that wait or run; only those that run where that is asked.

    Raises:
        SiteError: the batch system does not answer; that says nothing about the jobs.
    """
    system = SYSTEMS[batch]
    if not ids:
        return set()
    command = [system.listed[0], *(system.running if running else ()), *system.listed[1:]]
    if system.joined is None:
        said = _run([*command, user], None)
    else:
        asked = [system.joined.join(ids)] if system.joined != " " else list(ids)
        said = _run([*command, *asked], None, allowed=_UNKNOWN)
    words = set(re.findall(r"[\w.\-]+", said))
    return {job for job in ids if job in words or job.partition(".")[0] in words}


def cancel(batch: str, ids: Collection[str]) -> None:
    """Take jobs back.

    Raises:
        SiteError: the batch system does not answer.
    """
    if ids:
        _run([*SYSTEMS[batch].cancel, *ids], None, allowed=_UNKNOWN)


def _run(words: Sequence[str], text: str | None, *, allowed: str | None = None) -> str:
    """What a command prints; it may fail where what it says matches `allowed`."""
    if shutil.which(words[0]) is None:
        raise SiteError(f"{words[0]} is not there: run this where the batch system's commands are")
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise SiteError(f"{words[0]} did not answer within {_COMMAND_S:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        if allowed is None or re.search(allowed, said) is None:
            raise SiteError(f"{words[0]} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout
