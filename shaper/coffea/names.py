"""Options of coffea's own executors for Work Queue and TaskVine: what they become here, or why they have no use."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

from coffea.processor.executor import ExecutorBase

from shaper.errors import BadInput
from shaper.policy import Adaptive, Policy

# Without a use here, and why; the values that say nothing pass without a word.
NO_USE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "resources_mode": ("allocations are always found from what tasks use", ("auto", "max-seen", "max-throughput")),
    "resource_monitor": ("every task is always measured, and ended at its limit", ("off", "measure", "watchdog")),
    "split_on_exhaustion": ("what does not fit is always split", (True,)),
    "wrapper": ("environments are unpacked without one", ()),
    "disk": ("set it on the workers", ()),
    "gpus": ("tasks get none", (0,)),
    "chunksize": ("it is found; policy=shaper.policy.Adaptive(first_guess=...) says where to begin", ()),
    "fast_terminate_workers": ("stragglers are taken back by themselves", (0,)),
    "filepath": ("files lie in run_dir", (".", "/tmp")),
    "events_total": ("it is counted", ()),
    "verbose": ("the records in run_dir tell of every task", (False,)),
    "print_stdout": ("what tasks print is in run_dir/logs", (False,)),
    "status_display_interval": ("progress is drawn by itself", (5, 10)),
    "debug_log": ("the records in run_dir tell of every task", ()),
    "stats_log": ("the records in run_dir tell of every task", ()),
    "transactions_log": ("the records in run_dir tell of every task", ()),
    "tasks_accum_log": ("the records in run_dir tell of every task", ()),
    "replicas": ("a lost result is made again", (1,)),
    "disable_worker_transfers": ("the batch system decides", (False,)),
    "checkpoint_proportion": ("every result comes back", (0.1,)),
    "concurrent_reads": ("results are merged by tasks", (2,)),
    "custom_init": ("give an engine object instead", ()),
    "bar_format": ("progress is drawn by itself", ()),
    "chunks_accum_in_mem": ("results are merged by tasks", ()),
    "chunks_per_accum": ("use treereduction", ()),
}
_TRAVELS = {"environment_file": "environment", "x509_proxy": "x509_proxy", "extra_input_files": "extra_input_files"}
_MEANT = (("port", 0), ("password_file", False))
_USED = ("port", "manager_name", "master_name", "password_file", "ssl", "treereduction", "dynamic_chunksize", *_TRAVELS)

Foreign: Any = make_dataclass(
    "Foreign", [(name, Any, None) for name in (*_USED, *NO_USE)], bases=(ExecutorBase,), kw_only=True
)


def engine_options(executor: Any) -> dict[str, Any]:
    """What an engine given by name is made with.

    Raises:
        BadInput: an option of batch engines on the local engine.
    """
    given = {name: getattr(executor, name) for name in ("port", "password_file", "ssl")}
    given["manager_name"] = executor.manager_name or executor.master_name
    given.update({name: getattr(executor, theirs) for theirs, name in _TRAVELS.items()})
    # Not given, and yet falsy: port 0 is any that is free, no password is asked for where its file is False.
    chosen = {name: value for name, value in given.items() if value or (name, value) in _MEANT}
    if executor.engine == "local":
        if chosen:
            raise BadInput(f"{', '.join(chosen)}: only for engine='workqueue' or 'taskvine'")
        chosen = {name: getattr(executor, name) for name in ("cores", "memory")}
        return {name: value for name, value in chosen.items() if value is not None}
    if isinstance(executor.engine, str):
        if "manager_name" in chosen and "port" not in chosen:
            chosen["port"] = 0
        if executor.engine != "taskvine":
            chosen.pop("ssl", None)
        if (proxy := chosen.get("x509_proxy") or _proxy()) is not None:
            chosen["x509_proxy"] = proxy
    return chosen


def _proxy() -> str | None:
    """The grid proxy that there is, where coffea's executor looks; not one that others could read."""
    default = Path(os.environ.get("TMPDIR", "/tmp")) / f"x509up_u{os.getuid()}"
    path = Path(os.environ.get("X509_USER_PROXY") or default)
    return str(path) if path.is_file() and not path.stat().st_mode & 0o077 else None


def policy(executor: Any) -> Policy | None:
    """The policy that the options ask for; the one that was given where there is one."""
    asked: dict[str, Any] = {}
    if executor.engine != "local":
        # There they are of one task, not of the machine.
        if executor.cores is not None:
            asked["cores"] = executor.cores
        if executor.memory is not None:
            asked["cap"] = executor.memory
        if executor.retries:
            asked["retries"] = executor.retries
    if executor.treereduction is not None:
        asked["fan_in"] = executor.treereduction
    if executor.dynamic_chunksize is not None:
        if not isinstance(executor.dynamic_chunksize, Mapping):
            raise BadInput(
                f"dynamic_chunksize is a mapping with memory or wall_time, got {executor.dynamic_chunksize!r}"
            )
        wanted = dict(executor.dynamic_chunksize)
        if "memory" in wanted:
            asked["target_memory"] = wanted["memory"]
        if "wall_time" in wanted:
            asked["target_wall"] = wanted["wall_time"]
    if executor.policy is not None:
        if asked:
            warnings.warn(f"the policy that is given decides; not used: {', '.join(asked)}", stacklevel=4)
        return executor.policy  # type: ignore[no-any-return]
    return Adaptive(**asked) if asked else None


def warn_of_no_use(executor: Any) -> None:
    """Name the options that change nothing here, once."""
    if executor.ssl and executor.engine == "workqueue":
        warnings.warn("ShaperExecutor: ssl: Work Queue encrypts nothing here; engine='taskvine' does", stacklevel=4)
    for name, (why, silent) in NO_USE.items():
        value = getattr(executor, name)
        if value is not None and value not in silent:
            warnings.warn(f"ShaperExecutor: {name}={value!r} changes nothing here: {why}", stacklevel=4)
