"""What the I/O errors of a group's attempts say about the source of its data: whether it may be away."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shaper.types import Chunk, Observation, Outcome

# So many I/O errors in a row, of pieces that have no source in common or of one source, and nothing new is begun.
_ROW, _ROW_OF_ONE = 4, 16
_SOURCES_KEPT = 32


@dataclass(frozen=True, slots=True)
class Outage:
    """I/O errors of one group of a stage, and what speaks against an outage.

    Args:
        row: I/O errors since the last success.
        since_s: when the first was seen after which nothing that began later has succeeded; None where there is none.
        sources: those of the first piece that failed since then.
        several: whether a piece that has none of them has failed too.
        served_s: when the latest of the attempts that succeeded began.
    """

    row: int = 0
    since_s: float | None = None
    sources: frozenset[str] = frozenset()
    several: bool = False
    served_s: float | None = None

    @property
    def holds(self) -> bool:
        """Whether hardly anything but I/O errors is seen: new pieces would only fail too."""
        return self.row >= (_ROW if self.several else _ROW_OF_ONE)

    def updated(self, seen: Observation) -> Outage:
        """What is believed after one observation."""
        work = seen.task.work
        if not isinstance(work, Chunk):
            return self
        if seen.outcome is Outcome.DONE:
            began_s = seen.started_s if seen.started_s is not None else seen.submitted_s
            served_s = began_s if self.served_s is None else max(began_s, self.served_s)
            # What began before may have read all it needed before.
            if self.since_s is not None and began_s < self.since_s:
                return replace(self, row=0, served_s=served_s)
            return Outage(served_s=served_s)
        if seen.outcome is not Outcome.FAILED or not seen.io_error:
            return self
        own = frozenset(span.source.id for span in work.spans[:_SOURCES_KEPT])
        if self.since_s is None:
            return replace(self, row=1, since_s=seen.finished_s, sources=own)
        return replace(self, row=self.row + 1, several=self.several or own.isdisjoint(self.sources))


NONE = Outage()
