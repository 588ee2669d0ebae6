"""What knowledge is about: a category of a workflow, under the code, the versions and the workers it was seen with."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from shaper.pieces import StagePlan
from shaper.types import Code, Stage

# Packages whose version may change what a task needs; those count that the script has imported.
_PACKAGES = ("awkward", "coffea", "dask", "hist", "numba", "numpy", "pandas", "polars", "pyarrow", "scipy", "uproot")


@dataclass(frozen=True, slots=True)
class Subject:
    """A category of a workflow under one fingerprint.

    Args:
        workflow: which analysis it belongs to, whatever its code is today.
        code: digest of the functions; empty where there are none (a simulated run).
        worker: what kind of workers: the engine, and for this machine its processor.
        versions: of Python and packages.
    """

    workflow: str
    category: str
    code: str = ""
    worker: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Digest of code, versions and worker: where it is the same, what was seen is expected again."""
        about = [self.code or self.workflow, self.worker, sorted(self.versions.items())]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]


def subjects_of(run: str, stages: Sequence[Stage], codes: Mapping[str, Code], engine: str) -> dict[str, Subject]:
    """What each category of a run is about, its merges included; stages that share one are one subject."""
    named: dict[str, list[str]] = {}
    for stage in stages:
        plan = StagePlan(stage.name, (), category=stage.category or stage.name)
        code = codes[stage.name].fingerprint if stage.name in codes else ""
        for category in (plan.category, plan.merge_category):
            named.setdefault(category, []).append(code)
    workflow, worker, known = workflow_name(run), worker_kind(engine), versions()
    return {name: Subject(workflow, name, digest(found), worker, known) for name, found in named.items()}


def workflow_name(run: str) -> str:
    """Name the workflow of a run: its own name and the script it was started from, or the folder of a session."""
    main = sys.modules.get("__main__")
    started_as = getattr(main, "__spec__", None)  # by `python -m`
    if started_as is not None and started_as.name != "__main__":
        return f"{run} of {started_as.name.removesuffix('.__main__')}"
    script = getattr(main, "__file__", None)
    return f"{run} of {Path(script).absolute() if script else Path.cwd()}"


def worker_kind(engine: str) -> str:
    """Say what runs the tasks: the engine, and where that is this machine, its processor."""
    return f"{engine}, {_processor()}" if engine == "local" else engine


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that are imported."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in _PACKAGES:
        if name in sys.modules:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return found


def digest(fingerprints: Iterable[str]) -> str:
    """One digest for the functions of several stages that share a category; empty where there are none."""
    known = sorted({one for one in fingerprints if one})
    return known[0] if len(known) == 1 else hashlib.sha256("".join(known).encode()).hexdigest()[:16] if known else ""


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.machine()
