"""Watches one call at a time: forks it, samples its process tree, enforces its limits, leaves nothing behind.

Memory is the tree's resident memory, inherited pages included. One process: its RSS while it runs and its exact peak
(ru_maxrss) at the end. Several: the sum of RSS counts shared pages more than once, so their proportional sizes are
read, as often as the cost allows, and always before a limit is called exceeded.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import select
import shutil
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from shaper.monitor import child, logs, sample
from shaper.monitor import result as results
from shaper.monitor.call import Call, CallReport
from shaper.monitor.child import Functions, Note
from shaper.types import Outcome, Usage
from shaper.units import MIB, show_mib, show_seconds

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GROWTH_MIB_PER_S = 4096.0  # memory is not touched faster than this, so the next look can wait accordingly
_SHORTEST_S, _LONGEST_S = 0.002, 0.02
_DISK_EVERY_S, _CPU_EVERY_S, _PSS_EVERY_S = 0.03, 0.2, 0.01
_PSS_COST_SHARE = 5  # proportional sizes are read at most a fifth of the time
_KILL_DEADLINE_S = 5.0
_STDERR_LINES, _STDERR_BYTES = 8, 4000

_DELETED = " (deleted)"

CANCEL = b"cancel"

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of daemonised descendants, so that they can be found and ended."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def supervise(connection: Connection, codes: Mapping[str, Functions]) -> NoReturn:
    """Answer calls from `connection` with reports until it closes; then end everything and exit."""
    adopt_orphans()
    try:
        while True:
            try:
                call: Call = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                break
            attempt = _Attempt(call, codes, connection)
            report = attempt.run()
            if attempt.abandoned:
                break
            try:
                connection.send_bytes(pickle.dumps(report))
            except OSError:
                break
    finally:
        kill_descendants()
        os._exit(0)


def kill_descendants(keep: frozenset[int] = frozenset()) -> None:
    """SIGKILL everything below this process, except `keep` and what is below it, until nothing is left."""
    end = time.monotonic() + _KILL_DEADLINE_S
    while time.monotonic() < end:
        alive = [
            pid for top in sample.children(os.getpid()) if top not in keep for pid in (top, *sample.descendants(top))
        ]
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in alive:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        time.sleep(0.0005)


class _Attempt:
    """One call from fork to report."""

    def __init__(self, call: Call, codes: Mapping[str, Functions], connection: Connection) -> None:
        self.call, self.codes, self.connection = call, codes, connection
        self.abandoned = False
        self.cancelled = False
        self.exceeded: tuple[Outcome, str] | None = None
        self.peak_mib = 0.0
        self.disk_mib: float | None = None
        self._written: dict[tuple[int, int], tuple[str, int]] = {}
        self.cpu_s = 0.0
        self.cores_peak: float | None = None
        self.read_bytes: int | None = None
        self._pss_at = self._disk_at = self._cpu_at = 0.0
        self._shared_mib = 0.0
        self._pss_pids: list[int] = []

    def run(self) -> CallReport:
        # Of this attempt's time only: the system may have killed others before.
        self._oom_kills = sample.oom_kills(sample.text("/proc/vmstat") or "")
        self.started = time.monotonic()
        self._cpu_at = self.started
        sandbox = Path(self.call.sandbox)
        sandbox.mkdir(parents=True, exist_ok=True)
        note_fd = os.memfd_create("note")
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != me:
                os._exit(1)
            os.close(self.connection.fileno())
            child.run(self.call, self.codes, note_fd)
        status, rusage = self._watch(pid)
        finished = time.monotonic()
        kill_descendants()
        note = self._note(note_fd)
        os.close(note_fd)
        self._look_at_disk(sandbox, [])
        shutil.rmtree(sandbox, ignore_errors=True)
        self.peak_mib = max(self.peak_mib, rusage.ru_maxrss / 1024)
        limit = self.call.resources.memory_mib
        if self.exceeded is None and self.peak_mib > limit and not self.cancelled:
            # It ended between two looks; the limit is the limit.
            self.exceeded = Outcome.OUT_OF_MEMORY, self._over(limit)
        return self._report(note, status, rusage, finished)

    # -- watching ------------------------------------------------------------------------------------------------

    def _watch(self, pid: int) -> tuple[int, resource.struct_rusage]:
        """Sample until the child has ended; return its status and resource usage."""
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self.connection.fileno(), select.POLLIN | select.POLLHUP)
        wait_s = _SHORTEST_S
        try:
            while True:
                ready = dict(poll.poll(wait_s * 1000))
                if pidfd in ready:
                    break
                if self.connection.fileno() in ready:
                    self._called_off()
                    poll.unregister(self.connection.fileno())
                else:
                    wait_s = self._look(pid)
                if self.exceeded is not None or self.cancelled:
                    io = sample.text(f"/proc/{pid}/io")
                    self.read_bytes = sample.read_bytes(io) if io else None
                    _kill(pid)
                    break
        finally:
            os.close(pidfd)
        _, status, rusage = os.wait4(pid, 0)
        return status, rusage

    def _called_off(self) -> None:
        self.cancelled = True
        try:
            self.abandoned = self.connection.recv_bytes() != CANCEL
        except (EOFError, OSError):
            self.abandoned = True

    def _look(self, pid: int) -> float:
        """Take one sample, note what is exceeded, and return how long the next can wait."""
        now = time.monotonic()
        limits = self.call.resources
        pids = sample.descendants(os.getpid())
        used = sample.total_rss_mib(pids)
        if len(pids) > 1:
            used = self._several(pids, used, now)
        self.peak_mib = max(self.peak_mib, used)
        if used > limits.memory_mib:
            self.exceeded = Outcome.OUT_OF_MEMORY, self._over(limits.memory_mib)
        if limits.wall_s is not None and now - self.started > limits.wall_s:
            self.exceeded = Outcome.OUT_OF_TIME, f"ran longer than its limit of {show_seconds(limits.wall_s)}"
        if now >= self._disk_at:
            self._look_at_disk(Path(self.call.sandbox), pids)
        if now - self._cpu_at >= _CPU_EVERY_S:
            total = sample.total_cpu_s(pids)
            self.cores_peak = max(self.cores_peak or 0.0, (total - self.cpu_s) / (now - self._cpu_at))
            self.cpu_s, self._cpu_at = total, now
        wait_s = max(_SHORTEST_S, min(_LONGEST_S, (limits.memory_mib - used) / _GROWTH_MIB_PER_S))
        if limits.wall_s is not None:
            wait_s = min(wait_s, max(_SHORTEST_S, self.started + limits.wall_s - now))
        return wait_s

    def _several(self, pids: list[int], summed_mib: float, now: float) -> float:
        """Memory of several processes: their proportional sizes, as often as reading them may cost.

        In between, what they share is taken as unchanged since the last reading: private growth then shows at once in
        the sum of RSS. A new process brings shared pages with it, so the next reading is awaited; before a limit is
        called exceeded, the sizes are always read.
        """
        same = pids == self._pss_pids
        estimate = summed_mib - self._shared_mib
        if now < self._pss_at and not (estimate if same else summed_mib) > self.call.resources.memory_mib:
            return estimate if same else 0.0
        # The cost is the processor's time: on a loaded machine the clock also counts the waiting.
        started_s = time.thread_time()
        exact = sample.total_pss_mib(pids)
        for _ in range(2):
            # A process that comes or goes meanwhile changes every share: those read before and after do not add up.
            before, pids = pids, sample.descendants(os.getpid())
            if pids == before:
                break
            exact = min(exact, sample.total_pss_mib(pids))
        # Memory grows while the sizes are read: the sum taken afterwards errs towards less, never to a false peak.
        self._pss_pids, self._shared_mib = pids, sample.total_rss_mib(pids) - exact
        self._pss_at = now + max(_PSS_EVERY_S, _PSS_COST_SHARE * (time.thread_time() - started_s))
        return exact

    def _look_at_disk(self, sandbox: Path, pids: list[int]) -> None:
        """The sandbox, logs, and what the task has open for writing elsewhere, or had when it was last looked at."""
        now, started_s = time.monotonic(), time.thread_time()
        for inode, (path, size_bytes) in sample.open_for_writing(pids).items():
            counted = path.startswith(str(sandbox)) and not path.endswith(_DELETED)
            if not counted and not path.startswith((self.call.result_path, self.call.log_stem)):
                self._written[inode] = path, size_bytes
        elsewhere = logs.disk_bytes(self.call.log_stem)
        for inode, (path, size_bytes) in self._written.items():
            try:
                status = os.stat(path)  # noqa: PTH116
                same = (status.st_dev, status.st_ino) == inode
                elsewhere += status.st_blocks * 512 if same else 0
            except OSError:
                # Removed, but its blocks are taken for as long as it is open.
                elsewhere += size_bytes if path.endswith(_DELETED) and pids else 0
        used = sample.disk_mib(sandbox) + elsewhere / MIB
        self._disk_at = now + max(_DISK_EVERY_S, 20 * (time.thread_time() - started_s))
        self.disk_mib = max(self.disk_mib or 0.0, used)
        limit = self.call.resources.disk_mib
        if limit is not None and used > limit and self.exceeded is None:
            self.exceeded = Outcome.OUT_OF_DISK, f"{show_mib(used)} on disk, over its limit of {show_mib(limit)}"

    def _over(self, limit_mib: int) -> str:
        return f"used {show_mib(self.peak_mib)}, over its limit of {show_mib(limit_mib)}"

    # -- reporting -----------------------------------------------------------------------------------------------

    @staticmethod
    def _note(fd: int) -> Note | None:
        size = os.fstat(fd).st_size
        if not size:
            return None
        try:
            note = pickle.loads(os.pread(fd, size, 0))
        except Exception:  # cut off in the middle, or of classes that only the child could import
            return None
        return note if isinstance(note, Note) else None

    def _report(self, note: Note | None, status: int, rusage: resource.struct_rusage, finished: float) -> CallReport:
        elapsed = finished - self.started
        cpu_s = max(rusage.ru_utime + rusage.ru_stime, self.cpu_s)
        wall_s = note.wall_s if note is not None and note.wall_s is not None else elapsed
        usage = Usage(
            wall_s=wall_s,
            cpu_s=cpu_s,
            cores=cpu_s / elapsed if elapsed > 0 else None,
            cores_peak=self.cores_peak if self.cores_peak is not None else (cpu_s / elapsed if elapsed > 0 else None),
            memory_mib=self.peak_mib,
            disk_mib=self.disk_mib,
            read_bytes=note.read_bytes if note is not None else self.read_bytes,
            result_bytes=note.size_bytes if note is not None else None,
            overhead_s=max(0.0, elapsed - wall_s),
        )
        call = self.call
        imported = note.imported if note is not None else ()
        if self.exceeded is not None or self.cancelled:
            # A result that was finished in the same moment does not count: it would be taken by nobody.
            self._discard()
            self._keep_logs()
            if self.exceeded is not None:
                return CallReport(call.name, self.exceeded[0], usage, self.exceeded[1], imported=imported)
            return CallReport(call.name, Outcome.CANCELLED, usage, "taken back")
        if note is not None and note.tag == "done":
            self._keep_logs()
            return CallReport(
                call.name,
                Outcome.DONE,
                usage,
                checksum=note.checksum,
                skipped=note.skipped,
                skip_reasons=note.skip_reasons,
                imported=imported,
            )
        self._discard()
        tail = self._keep_logs()
        if note is not None and note.tag == "damaged":
            return CallReport(call.name, Outcome.LOST, usage, note.detail, damaged=note.damaged)
        if note is not None and note.tag == "unwritten":
            return CallReport(call.name, Outcome.LOST, usage, note.detail, disk_full=True)
        if note is not None:
            detail = note.detail + (f"\nstandard error ended:\n{tail}" if tail else "")
            return CallReport(
                call.name, Outcome.FAILED, usage, detail, error=note.error, io_error=note.io_error, imported=imported
            )
        return self._crashed(status, usage, tail)

    def _crashed(self, status: int, usage: Usage, tail: str) -> CallReport:
        ended = f"\nstandard error ended:\n{tail}" if tail else ""
        if not os.WIFSIGNALED(status):
            code = os.WEXITSTATUS(status)
            return CallReport(
                self.call.name, Outcome.FAILED, usage, f"the process exited with code {code} before it finished{ended}"
            )
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            name = signal.Signals(number).name
            return CallReport(self.call.name, Outcome.FAILED, usage, f"the process crashed: {name}{ended}")
        if sample.oom_kills(sample.text("/proc/vmstat") or "") > self._oom_kills:
            detail = f"the system killed it for memory at {show_mib(self.peak_mib)}"
            return CallReport(self.call.name, Outcome.OUT_OF_MEMORY, usage, detail, system_oom=True)
        return CallReport(self.call.name, Outcome.LOST, usage, "the process was killed (SIGKILL) from outside")

    def _discard(self) -> None:
        """Remove what there is of a result, whole or in part."""
        for path in (self.call.result_path, results.partial(self.call.result_path)):
            Path(path).unlink(missing_ok=True)

    def _keep_logs(self) -> str:
        """Cut logs, remove empty ones; return the end of standard error."""
        both = logs.paths(self.call.log_stem)
        for path in both:
            if not logs.cut(path):
                path.unlink(missing_ok=True)
        try:
            said = both[1].read_bytes()[-_STDERR_BYTES:]
        except FileNotFoundError:
            return ""
        return "\n".join(said.decode(errors="replace").rstrip().splitlines()[-_STDERR_LINES:])


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
