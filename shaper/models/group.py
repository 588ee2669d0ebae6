"""What is believed about one group, or a whole category: a model of each resource, counts, and signs of a change."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from shaper.models.line import Line
from shaper.models.resource import MANY, Model
from shaper.types import Chunk, Merge, Observation, Outcome, Usage, Work

# So many attempts over a limit that one in twenty was to exceed, with few successes between, are a change of what is
# processed, not bad luck: what was learnt before then is forgotten (any rest of it would still bend the line), such
# work is taken to need at least and at most so many times its limit, and sizes stay small until some have finished.
_SURPRISES, _SURPRISING, _CALMED = 3.0, 0.05, 0.25
_BEYOND, _BEYOND_MOST, _PROOFS = 2.0, 8.0, 4
# What another run has shown of the same code is proven by one task of a size that tells: it would have been far off.
_TELLS = 64.0
_LEAST_S = 1e-6
# An attempt that began beside fewer than so many had the data source to itself.
_FEW = 4
_FADING = 0.05  # share of a new observation in what is averaged over the recent ones
_LEAST_WAIT = 0.05  # share of its slot time that any attempt is taken to have waited
# Waiting that is longer than this share of the time without it is for a source that gives no more.
_WAITING = 0.3
# Where no more than so many times what it is believed to give is asked for, nothing shows that it gives less.
_ASKED = 2.5
# A generation of tasks that waited for less makes this share of what the source is believed to give forgotten.
_EASE = 0.1
# CPU time within this factor of what it was is that of the same computation.
_AS_EVER = 2.0
# So many tasks more on one side than on the other tell a source that gives no more from tasks that take longer alone;
# each says something where what the two foretell for it differs by this factor.
_TOLD, _TELLING = 4, 1.25
_SOURCES_KEPT = 32
_MERGED = frozenset(map(str, range(MANY)))  # merges have no sources: their number limits nothing
# What an earlier run taught counts as so many observations; where something may have changed since, as fewer.
_REMEMBERED, _DOUBTED = 8.0, 2.0


def size_of(work: Work) -> float:
    """The x of a piece of work: elements of a chunk, KiB of input of a merge."""
    if isinstance(work, Merge):
        return max(1.0, (work.input_bytes if work.input_bytes is not None else work.elements * 1024) / 1024)
    return float(work.elements)


@dataclass(frozen=True, slots=True)
class GroupBeliefs:
    """What is believed about one group, or about a whole category.

    Args:
        memory: MiB against size.
        wall: seconds a slot is held against size, all overheads included.
        done, exhausted, failed, lost: attempts of this very group that ended so.
        surprises: attempts that exceeded a limit they were believed to keep, lately.
        cautious: successes that are wanted before sizes are trusted: after too many surprises, or where another run has
            shown them.
        recalled, doubted: whether it began with what another run has shown, and whether that may be about something
            else, for instance about other code.
        suspect_since_s: when the first of these surprises was submitted.
        alarms: how often there were too many surprises.
        changed_s: submission of the first task that the last alarm was about: what was cut later may be like it.
        sources: those that attempts which finished were about, the first few.
        held_s: slot time of all attempts, those that were lost included.
        calm: slot time less CPU time, of attempts that ran beside few others.
        recent_cpu_s, recent_held_s, recent_x, recent_beside: means over recent attempts: CPU time, slot time, size,
            tasks in flight.
        source_per_s: elements that the data source gives; None where tasks are not known to wait for it.
        untold: tasks that took far longer than another run had shown, and computed as long, may wait for each other at
            the source, or take as long alone: so many more that speak for the first are wanted; 0 where that is clear.
        failed_sources: those of which attempts failed on their own, the first few.
        largest_done: largest size that finished.
        smallest_exhausted: smallest size that exceeded its memory.
        most_mib: largest memory of an attempt that finished.
    """

    memory: Model = field(default_factory=Model)
    wall: Model = field(default_factory=Model)
    done: int = 0
    exhausted: int = 0
    failed: int = 0
    lost: int = 0
    held_s: float = 0.0
    calm: Model = field(default_factory=Model)
    recent_cpu_s: float | None = None
    recent_held_s: float = 0.0
    recent_x: float = 0.0
    recent_beside: float = 0.0
    source_per_s: float | None = None
    untold: int = 0
    surprises: float = 0.0
    cautious: int = 0
    recalled: bool = False
    doubted: bool = False
    suspect_since_s: float | None = None
    alarms: int = 0
    changed_s: float | None = None
    failed_sources: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    largest_done: float = 0.0
    smallest_exhausted: float | None = None
    most_mib: float = 0.0

    def learnt(self, seen: Observation, prior: GroupBeliefs | None) -> GroupBeliefs:
        """Return the beliefs after one observation."""
        x = size_of(seen.task.work)
        if seen.outcome is Outcome.DONE:
            return self._tested(seen, x)._finished(seen, prior, x)
        about = replace(self, held_s=self.held_s + _held_s(seen))
        if seen.outcome is Outcome.OUT_OF_MEMORY:
            return about._exceeded(seen, prior, x)
        if seen.outcome is Outcome.OUT_OF_TIME and seen.task.resources.wall_s:
            wall = about.wall.passed(x, seen.task.resources.wall_s, prior.wall.bins if prior else None)
            return replace(about, wall=wall, exhausted=about.exhausted + 1)
        if seen.outcome is Outcome.FAILED:
            sources = about.failed_sources
            if isinstance(seen.task.work, Chunk) and len(sources) < _SOURCES_KEPT:
                own = {span.source.id for span in seen.task.work.spans}
                # Of several sources nobody knows which one failed; each is run again on its own.
                sources |= own if len(own) == 1 else frozenset()
            return replace(about, failed=about.failed + 1, failed_sources=sources)
        if seen.outcome is Outcome.LOST:
            return replace(about, lost=about.lost + 1)
        return about

    @property
    def unproven(self) -> bool:
        """Whether nothing of this run has shown yet that what another has shown still holds."""
        return self.recalled and self.cautious > 0

    def _tested(self, seen: Observation, x: float) -> GroupBeliefs:
        """Forget what another run has shown where a task that finished is far from it."""
        if not self.unproven:
            return self
        usage = seen.usage or Usage()
        held_s = _held_s(seen) if seen.started_s is not None else usage.wall_s
        memory, wall = self.memory, self.wall
        if usage.memory_mib and memory.off(x, usage.memory_mib):
            memory = memory.rescaled(x, usage.memory_mib)
        if held_s is not None and wall.off(x, max(held_s, _LEAST_S)):
            wall = wall.rescaled(x, max(held_s, _LEAST_S))
        if memory is self.memory and wall is self.wall:
            return self
        # Sizes grow anew from this one: with one of the two lines gone the other says little about what is best. What
        # tasks wait for when alone goes with their time: a wrong one would pass for a source that gives no more. But
        # who computes as long as ever, and takes longer beside many, may well wait for them.
        begun = GroupBeliefs(memory, wall, cautious=_PROOFS, sources=self.sources)
        if wall is self.wall:
            return replace(begun, calm=self.calm, source_per_s=self.source_per_s, untold=self.untold)
        if (seen.task.beside or 0) >= _FEW and self._computes_as_ever(x, usage.cpu_s):
            return replace(begun, calm=self.calm, source_per_s=self.source_per_s, untold=_TOLD)
        return begun

    def _computes_as_ever(self, x: float, cpu_s: float | None) -> bool:
        """Whether the CPU time of a task is as believed, whatever part of it grows with the size."""
        if cpu_s is None or self.recent_cpu_s is None:
            return False
        share = x / max(self.recent_x, 1.0)
        return min(1.0, share) / _AS_EVER <= cpu_s / max(self.recent_cpu_s, _LEAST_S) <= max(1.0, share) * _AS_EVER

    def _finished(self, seen: Observation, prior: GroupBeliefs | None, x: float) -> GroupBeliefs:
        usage = seen.usage or Usage()
        memory, wall = self.memory, self.wall
        sources = self._sources(seen.task.work)
        # What was cut before a change says little about what comes after it.
        before = self.changed_s is not None and seen.submitted_s < self.changed_s
        if usage.memory_mib and not before:
            memory = memory.observed(x, usage.memory_mib, prior.memory.bins if prior else None, len(sources))
        held_s = _held_s(seen) if seen.started_s is not None else usage.wall_s
        if held_s is not None:
            wall = wall.observed(x, max(held_s, _LEAST_S), prior.wall.bins if prior else None)
        # Only what was cut after the first of the surprises speaks against a change.
        later = self.suspect_since_s is None or seen.submitted_s > self.suspect_since_s
        calmer = max(0.0, self.surprises - _CALMED) if later else self.surprises
        paced = self._paced(seen, x, held_s, usage.cpu_s)
        about = replace(
            paced,
            source_per_s=paced._source_given_per_s(),
            memory=memory,
            wall=wall,
            held_s=self.held_s + _held_s(seen),
            done=self.done + 1,
            surprises=calmer,
            suspect_since_s=self.suspect_since_s if calmer else None,
            sources=sources,
            cautious=self.cautious if before else self._less_cautious(x),
            largest_done=max(self.largest_done, x),
            most_mib=max(self.most_mib, usage.memory_mib or 0.0),
        )
        # Tasks on trial begin all at once: these wait for each other whatever the source gives.
        told = self.untold and not self.cautious and held_s is not None
        return about._told(x, seen.task.beside or 0, held_s or 0.0) if told else about

    def _less_cautious(self, x: float) -> int:
        proven = self.recalled and not self.doubted and _TELLS * x >= self.largest_done
        return 0 if proven else max(0, self.cautious - 1)

    def _exceeded(self, seen: Observation, prior: GroupBeliefs | None, x: float) -> GroupBeliefs:
        limit = seen.task.resources.memory_mib
        reached = limit
        if seen.system_oom and seen.usage is not None and seen.usage.memory_mib:
            reached = min(limit, max(1, round(seen.usage.memory_mib)))
        about = replace(
            self,
            exhausted=self.exhausted + 1,
            smallest_exhausted=min(x, self.smallest_exhausted or x),
        )
        line = self.memory.line
        # Once there is a suspicion all that was cut later counts: the line learns meanwhile.
        suspected = self.suspect_since_s is not None and seen.submitted_s >= self.suspect_since_s
        surprised = line is not None and (suspected or line.upper(x, _SURPRISING) < reached)
        if surprised and "surprise" not in self.memory.without:
            since_s = self.suspect_since_s if self.suspect_since_s is not None else math.inf
            about = replace(about, surprises=self.surprises + 1, suspect_since_s=min(seen.submitted_s, since_s))
        # Of many side by side some exceed their limit before any that was cut later can have finished.
        enough = 1.0 if self.unproven else _SURPRISES
        if about.surprises >= (1 + self.alarms) * max(enough, _SURPRISING * (seen.task.beside or 0)):
            return replace(
                about,
                recalled=False,
                largest_done=min(self.largest_done, x) if self.unproven else self.largest_done,
                memory=self.memory.anew(x, self._need_mib(seen, x, reached)),
                surprises=0.0,
                suspect_since_s=None,
                cautious=_PROOFS,
                alarms=self.alarms + 1,
                changed_s=about.suspect_since_s,
            )
        memory = self.memory.passed(x, reached, prior.memory.bins if prior else None, len(self.sources) or 1)
        return replace(about, memory=memory)

    def _need_mib(self, seen: Observation, x: float, reached_mib: float) -> float:
        """What an attempt that died would have needed, if its memory grew steadily: it died after part of its work."""
        wall, line = self.wall.line, self.memory.line
        least = _BEYOND * reached_mib
        if wall is None or line is None or seen.started_s is None:
            return least
        done_s = seen.finished_s - seen.started_s - wall.intercept
        part = done_s / max(wall.median(x) - wall.intercept, 1e-9)
        base = min(line.intercept, reached_mib)
        return min(max(base + (reached_mib - base) / max(part, 1.0 / _BEYOND_MOST), least), _BEYOND_MOST * reached_mib)

    def remembered(self) -> GroupBeliefs:
        """What another run may take over."""
        return self._taken_over(_REMEMBERED)

    def doubtful(self) -> GroupBeliefs:
        """What a run may take over that may be about something else: it weighs less, and sizes begin smaller."""
        return replace(self._taken_over(_DOUBTED), doubted=True)

    def _taken_over(self, worth: float) -> GroupBeliefs:
        return GroupBeliefs(
            self.memory.remembered(worth),
            self.wall.remembered(worth),
            calm=self.calm.remembered(worth),
            recent_cpu_s=self.recent_cpu_s,
            recent_held_s=self.recent_held_s,
            recent_x=self.recent_x,
            recent_beside=self.recent_beside,
            source_per_s=self.source_per_s,
            untold=self.untold,
            cautious=_PROOFS,
            recalled=True,
            largest_done=self.largest_done,
            most_mib=self.most_mib,
        )

    def _sources(self, work: Work) -> frozenset[str]:
        if isinstance(work, Merge):
            return _MERGED
        if len(self.sources) >= MANY or (len(work.spans) == 1 and work.spans[0].source.id in self.sources):
            return self.sources
        return self.sources | {span.source.id for span in work.spans[:MANY]}

    def _paced(self, seen: Observation, x: float, held_s: float | None, cpu_s: float | None) -> GroupBeliefs:
        """Learn what a task waits for when few others run, and what it computes."""
        beside = seen.task.beside
        if held_s is None or cpu_s is None or beside is None:
            return self
        calm = self.calm
        if beside < _FEW:
            # Several threads compute for longer than the slot is held; that is no wait of nothing, which would weigh
            # more than all others: waits vary by a factor.
            calm = calm.observed(x, max(held_s - cpu_s, _LEAST_WAIT * held_s, _LEAST_S), None)
        # Of the first few all count alike. CPU time per element is a ratio of means: small tasks, of which a fixed part
        # is most, would spoil a mean of ratios.
        part = 1.0 if self.recent_held_s <= 0.0 else max(_FADING, 1.0 / (1.0 + self.done))
        recent_held_s, recent_x = _towards(self.recent_held_s, held_s, part), _towards(self.recent_x, x, part)
        recent_beside = _towards(self.recent_beside, float(beside), part)
        if self.done < recent_beside <= self.done + 1:
            # All of those that began together have ended. Some waited less than any that begins in their place: a queue
            # is as long as for the last of them.
            recent_held_s = max(recent_held_s, held_s * min(1.0, recent_x / x))
        return replace(
            self,
            calm=calm,
            recent_cpu_s=_towards(self.recent_cpu_s or 0.0, cpu_s, part),
            recent_held_s=recent_held_s,
            recent_x=recent_x,
            recent_beside=recent_beside,
        )

    def _told(self, x: float, beside: int, held_s: float) -> GroupBeliefs:
        """Weigh whether tasks take long because they wait for each other at the source, or would as long alone."""
        alone, given, wall = self.unhindered, self.source_per_s, self.wall.line
        if alone is None or given is None or wall is None:
            return self
        waiting_s, anyway_s = max(alone.median(x), (beside + 1) * x / given), wall.median(x)
        if anyway_s < _TELLING * waiting_s:
            return self
        untold = self.untold + (1 if held_s > math.sqrt(waiting_s * anyway_s) else -1)
        if untold >= 2 * _TOLD:
            return replace(self, calm=Model(), source_per_s=None, untold=0)
        return replace(self, untold=untold)

    @property
    def cpu_s_per_element(self) -> float | None:
        """CPU time of recent attempts, by element."""
        return None if self.recent_cpu_s is None else self.recent_cpu_s / max(self.recent_x, 1.0)

    @property
    def unhindered(self) -> Line | None:
        """Slot time against size if no task had to wait for others that read the same source."""
        calm, cpu_s = self.calm.line, self.cpu_s_per_element
        if calm is None or cpu_s is None or self.wall.line is None:
            return None
        noise = self.wall.line
        slope = calm.slope + cpu_s
        return Line(calm.floor, calm.intercept, slope, noise.sigma, calm.n, growing=noise.growing)

    @property
    def given_now_per_s(self) -> float:
        """What recent tasks got by Little's law, whether or not the source could give more."""
        return self.recent_beside * self.recent_x / max(self.recent_held_s, _LEAST_S)

    @property
    def waits(self) -> bool:
        """Whether recent tasks took much longer than they would alone."""
        alone = self.unhindered
        return alone is not None and self.recent_held_s >= (1.0 + _WAITING) * alone.median(self.recent_x)

    def _source_given_per_s(self) -> float | None:
        """What the source is known to give, after what the recent tasks show.

        By Little's law N tasks in flight of n elements that each hold a slot for w get N n / w, which is all there is
        only while the source is never idle: the most that was seen is believed, and fades while tasks wait for less.
        """
        known, wall = self.source_per_s, self.wall.line
        line = self.unhindered
        if line is None or wall is None or self.recent_beside < _FEW:
            return known
        if self.done + 1 < self.recent_beside:
            return known  # of those that began together the first to end are those that waited least
        alone_s = line.median(self.recent_x)
        given = self.given_now_per_s
        # Who waits for data waits longer for more: what every task takes longer, whatever its size, is something else.
        grown_s, grown_alone_s = wall.median(self.recent_x) - wall.median(1.0), alone_s - line.median(1.0)
        asked = self.recent_beside * self.recent_x / alone_s
        if known is not None and asked <= _ASKED * known:
            return max(given, known)
        if self.waits and grown_s >= (1.0 + _WAITING) * grown_alone_s:
            return max(given, (known or 0.0) * (1.0 - _EASE / self.recent_beside))
        return known if known is None else max(given, known)


def _towards(mean: float, value: float, part: float) -> float:
    return mean + part * (value - mean)


def _held_s(seen: Observation) -> float:
    """How long an attempt held its slot; 0 where it did not start."""
    return max(0.0, seen.finished_s - seen.started_s) if seen.started_s is not None else 0.0
