"""What a person sees while a run goes on: a live view on a terminal, one line per change elsewhere; standard error."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shaper.dataset import counted
from shaper.ledger import StagePlan
from shaper.models.beliefs import Beliefs
from shaper.report.stages import Stages
from shaper.types import (
    Accept,
    Backlog,
    Capacity,
    GiveUp,
    Merge,
    Observation,
    Outcome,
    Retry,
    Shape,
    Split,
    Task,
    TaskId,
    Verdict,
    last_shapes,
)
from shaper.units import show_count, show_mib, show_seconds

_REDRAW_S = 0.2
_CHANGE = 1.5
_LINES_AT_MOST = 200  # away from a terminal; a log that nobody can read helps nobody
_RATE_OVER_S = 60.0  # the first chunks are small: their rate says little about what is left
_RATE_POINTS = 30
# Without workers so long: said once, and again after each such time.
_ALONE_S, _AGAIN_S = 2.0, 60.0


class Progress:
    """A watch that shows.

    Args:
        elements: of the whole run.
        done: elements that an earlier session settled.
        console: where to; standard error by default.
        hint: how to get workers, shown while there are none.
    """

    def __init__(self, elements: int, done: int = 0, console: Console | None = None, hint: str = "") -> None:
        self.elements, self.done, self.began_at = elements, done, done
        self.console = console or Console(stderr=True)
        self.hint = hint
        self.stages: Stages | None = None  # where there are several
        self._alone_since_s: float | None = None
        self._alone_told_s: float | None = None
        self.away: dict[tuple[str, str], str] = {}  # by stage and group: the I/O error that is all that comes back
        self.running: set[TaskId] = set()
        self.merging: set[TaskId] = set()
        self.tasks = self.splits = self.retries = self.given_up = 0
        self.dropped = 0  # elements that were skipped or given up: nobody waits for them
        self.shape: Shape | None = None
        self.allocated_mib: int | None = None
        self.expected_mib: float | None = None
        self.used_mib: float | None = None
        self.now_s = 0.0
        self.workers = ""
        self._sizes: dict[tuple[str, str], tuple[int, str]] = {}
        self._quarter = int(4 * done / elements) if elements else 0
        self._lines = 0
        self._drawn_at = 0.0
        self._past: deque[tuple[float, int]] = deque([(0.0, done)], maxlen=_RATE_POINTS)
        self._live: Live | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            # What the script prints goes above the view, but stays on standard output where that is a file or a pipe.
            shared = sys.stdout is not None and sys.stdout.isatty()
            live = Live(self._view(), console=self.console, auto_refresh=False, redirect_stdout=shared)
            live.start()
            self._live = live
        elif done:
            self._say(f"resumed: {show_count(done)} of {show_count(elements)} elements are done already")

    def added(self, plan: StagePlan, done_elements: int) -> None:
        """A stage has begun while the run goes on."""
        self.elements += sum(source.elements or 0 for source in plan.sources)
        self.done += done_elements
        if self.stages is not None:
            self.stages.added(plan, done_elements)

    # -- events --------------------------------------------------------------------------------------------------

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Note the chunksize and redraw, a few times a second."""
        self.now_s = now_s
        self._tell_workers(capacity)
        for line in self.stages.news(backlog) if self.stages is not None else ():
            self._say(line)
        for shape in last_shapes(shapes):
            if shape.fan_in is not None or counted(shape.stage) is not None:
                continue
            self.shape = shape
            key, why = (shape.stage, shape.group), shape.reason.split(":")[0]
            before = self._sizes.get(key)
            if before is None or not 1 / _CHANGE < shape.elements / before[0] < _CHANGE:
                self._sizes[key] = (shape.elements, why)
                named = f"{shape.stage} {shape.group}".strip() if self.stages is not None else shape.group
                where = f" of {named}" if named else ""
                self._say(f"chunks{where} are now {show_count(shape.elements)} elements: {shape.reason}")
        if self._live is not None and time.monotonic() - self._drawn_at > _REDRAW_S:
            self._draw()

    def _tell_workers(self, capacity: Capacity) -> None:
        """Say that there are none when that has lasted for a while, again and again, and that there are some again."""
        self.workers = ", ".join(
            f"{k.count} x {k.cores} cores {show_mib(k.memory_mib)}" for k in capacity.kinds if k.count
        )
        if self.workers:
            if self._alone_told_s is not None:
                self._say(f"workers: {self.workers}", always=True)
            self._alone_since_s = self._alone_told_s = None
            return
        self.workers = f"none; {self.hint}"
        if self._alone_since_s is None:
            self._alone_since_s = self.now_s
        told_s = self._alone_told_s if self._alone_told_s is not None else self._alone_since_s + _ALONE_S - _AGAIN_S
        if self.now_s >= told_s + _AGAIN_S:
            self._alone_told_s = self.now_s
            alone = show_seconds(self.now_s - self._alone_since_s)
            self._say(f"no workers for {alone}; {self.hint}", always=True)

    def _tell_away(self, seen: Observation, beliefs: Beliefs) -> None:
        """Say once that nothing but I/O errors comes back, and once that this is over."""
        key = seen.task.stage, seen.task.group
        where = f" for {key[1]}" if key[1] else ""
        if beliefs.outage(*key).holds:
            if key not in self.away:
                self.away[key] = _first(seen.detail)
                self._say(
                    f"the data source{where} seems to be away ({self.away[key]}): nothing new begins", always=True
                )
        elif self.away.pop(key, None) is not None:
            self._say(f"the data source{where} answers again", always=True)

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Note a task that starts."""
        if isinstance(task.work, Merge):
            self.merging.add(task.id)
        else:
            self.running.add(task.id)
            self.allocated_mib = task.resources.memory_mib
            self.expected_mib = beliefs.expected(task.category, task.group, task.work)[0]

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Note a task that ended."""
        self.running.discard(seen.task.id)
        self.merging.discard(seen.task.id)
        self.tasks += 1
        self.now_s = seen.finished_s
        work = seen.task.work
        self._tell_away(seen, beliefs)
        if isinstance(work, Merge):
            if isinstance(verdict, GiveUp):
                self._tell_stage(seen.task, 0, failed=True)
                self._say(f"gave up a merge: {_first(verdict.reason)}")
            return
        if isinstance(verdict, Accept):
            skipped = sum(map(len, verdict.skipped))
            self._tell_stage(seen.task, work.elements)
            self.dropped += skipped
            self.done += work.elements - skipped
            self._remember()
            if seen.usage is not None:
                self.used_mib = seen.usage.memory_mib
            self._milestone()
        elif seen.outcome is Outcome.CANCELLED:
            pass  # taken back to be cut anew: the new size is told, and there may be many
        elif isinstance(verdict, Split):
            self.splits += 1
            self._say(f"split {work}: {_first(verdict.reason)}")
        elif isinstance(verdict, Retry):
            self.retries += 1
            self._say(f"again {work}: {_first(verdict.reason)}")
        elif isinstance(verdict, GiveUp):
            self.given_up += 1
            self.dropped += work.elements
            self._tell_stage(seen.task, work.elements, failed=True)
            self._say(f"gave up {work}: {_first(verdict.reason)}")

    def _tell_stage(self, task: Task, elements: int, *, failed: bool = False) -> None:
        if self.stages is not None:
            self.stages.settled(task.stage, elements, failed=failed)

    def _milestone(self) -> None:
        if self.stages is not None:  # elements of unlike stages do not add up to a share
            return
        quarter = int(4 * self.done / self.elements) if self.elements else 0
        if quarter > self._quarter:
            self._quarter = quarter
            rate = self._rate()
            speed = f", {show_count(rate)} elements/s" if rate else ""
            self._say(f"{25 * quarter} % done after {show_seconds(self.now_s)}{speed}", always=True)

    def _remember(self) -> None:
        if self.now_s - self._past[-1][0] >= _RATE_OVER_S / _RATE_POINTS:
            self._past.append((self.now_s, self.done))

    def _rate(self) -> float | None:
        """Elements per second lately, or of the whole session where nothing was finished lately."""
        lately = next((point for point in self._past if point[0] >= self.now_s - _RATE_OVER_S), None)
        for at_s, done in (lately or self._past[0], (0.0, self.began_at)):
            if self.done > done and self.now_s > at_s:
                return (self.done - done) / (self.now_s - at_s)
        return None

    # -- showing -------------------------------------------------------------------------------------------------

    def _say(self, text: str, *, always: bool = False) -> None:
        """One line, where nobody watches a live view."""
        if self._live is not None:
            return
        if not always:
            self._lines += 1
            if self._lines > _LINES_AT_MOST + 1:
                return
            if self._lines > _LINES_AT_MOST:
                text = "further changes are not shown here; they are in the records"
        self.console.print(f"shaper: {text}", highlight=False, markup=False, soft_wrap=True)

    def _draw(self) -> None:
        assert self._live is not None
        self._drawn_at = time.monotonic()
        self._live.update(self._view(), refresh=True)

    def _view(self) -> Group:
        rate = self._rate()
        left = (self.elements - self.done - self.dropped) / rate if rate and self.stages is None else None
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{show_count(self.done)} of {show_count(self.elements)} elements", style="bold"),
            ProgressBar(max(1, self.elements), self.done, width=32),
            f"{show_count(rate)}/s" if rate else "starting",
            f"about {show_seconds(left)} left" if left is not None else "",
        )
        body = Table.grid(padding=(0, 2))
        if self.stages is not None:
            body.add_row("stages", str(self.stages))
        merges = f" and {len(self.merging)} merges" if self.merging else ""
        body.add_row("tasks", f"{len(self.running)}{merges} in flight, {self.tasks} ended")
        trouble = f"{self.splits} split, {self.retries} run again, {self.given_up} given up"
        body.add_row("", Text(trouble, style="yellow" if self.splits or self.retries or self.given_up else "dim"))
        if self.shape is not None:
            body.add_row("chunks", f"{show_count(self.shape.elements)} elements: {self.shape.reason}")
        memory = f"given {show_mib(self.allocated_mib)}, expected {show_mib(self.expected_mib)}"
        body.add_row("memory", f"{memory}, last used {show_mib(self.used_mib)}")
        for error in self.away.values():
            body.add_row("data", Text(f"away ({error}): tried again now and then", style="yellow"))
        if self.workers:
            body.add_row("workers", self.workers)
        return Group(head, body)

    def close(self) -> None:
        """Draw the last state and give the terminal back; may be called twice."""
        live, self._live = self._live, None
        if live is not None:
            try:
                live.update(self._view())
            finally:
                live.stop()


def _first(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 160 else line[:157] + "..."
