"""Arithmetic of spans and chunks: take, split, cover, coalesce, align to cuts."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

from shaper.types import Chunk, Source, Span

# A chunk may be this much smaller than asked when that makes it end at a preferred boundary.
_ALIGN_SLACK = 0.5


def aligned_stop(span: Span, elements: int) -> int:
    """Return where to stop when taking at most `elements` from the front of `span`, preferring the source's cuts."""
    stop = span.start + elements
    if stop >= span.stop:
        return span.stop
    cuts = span.source.cuts
    if cuts:
        at = bisect_right(cuts, stop) - 1
        if at >= 0 and cuts[at] >= span.start + max(1, elements * _ALIGN_SLACK):
            return cuts[at]
    return stop


def take(
    pending: deque[Span],
    elements: int,
    *,
    cross_sources: bool = True,
    category: str = "processing",
    exact: bool = False,
) -> Chunk:
    """Remove a chunk of at most `elements` from the front of `pending`.

    With `cross_sources` spans of following sources fill the chunk up; without, the front span is cut into the smallest
    number of equal pieces not above `elements`, and the first of them is taken. With `exact` slivers of sources are
    taken too, so that the number of chunks is what the size makes it. Cost: the spans taken, plus the search for a cut,
    logarithmic in the cuts of a source.
    """
    front = pending.popleft()
    length = front.stop - front.start
    if not cross_sources:
        pieces = -(-length // elements)
        elements = -(-length // pieces)
    spans: list[Span] = []
    left = elements
    while True:
        stop = aligned_stop(front, left)
        if stop < front.stop:
            if spans and spans[-1].source.id == front.source.id and spans[-1].stop == front.start:
                spans[-1] = Span(front.source, spans[-1].start, stop)
            else:
                spans.append(Span(front.source, front.start, stop))
            pending.appendleft(Span(front.source, stop, front.stop))
            break
        if spans and spans[-1].source.id == front.source.id and spans[-1].stop == front.start:
            spans[-1] = Span(front.source, spans[-1].start, front.stop)
        else:
            spans.append(front)
        left -= front.stop - front.start
        if not cross_sources or left <= 0 or not pending:
            break
        # A sliver of the next source would cost the opening of that source for little.
        if not exact and left < elements // 8 and pending[0].stop - pending[0].start > left:
            break
        front = pending.popleft()
    return Chunk(tuple(spans), None, category)


def returned(pending: deque[Span], span: Span) -> None:
    """Put a span back to the front, joined with its neighbour if that is there."""
    if pending and pending[0].source.id == span.source.id:
        first = pending[0]
        if span.stop == first.start:
            pending[0] = Span(span.source, span.start, first.stop)
            return
        if first.stop == span.start:
            pending[0] = Span(span.source, first.start, span.stop)
            return
    pending.appendleft(span)


def split(chunk: Chunk, elements: int, *, least: int = 1) -> tuple[Chunk, ...]:
    """Cut a chunk into the smallest number of near-equal chunks of at most `elements`; the sum is kept.

    Only the last has fewer than `least` elements.
    """
    count = -(-chunk.elements // max(1, elements))
    size = max(least, -(-chunk.elements // count))
    pending = deque(chunk.spans)
    pieces = []
    while pending:
        pieces.append(take(pending, size, category=chunk.category))
    return tuple(pieces)


def by_source(chunk: Chunk) -> tuple[Chunk, ...]:
    """Return one chunk for each source that `chunk` touches."""
    spans: dict[str, list[Span]] = {}
    for span in chunk.spans:
        spans.setdefault(span.source.id, []).append(span)
    return tuple(Chunk(tuple(s), None, chunk.category) for s in spans.values())


def without(spans: Iterable[Span], removed: Iterable[Span]) -> tuple[Span, ...]:
    """Return the parts of `spans` that `removed` does not cover."""
    holes: dict[str, list[tuple[int, int]]] = {}
    for hole in removed:
        holes.setdefault(hole.source.id, []).append((hole.start, hole.stop))
    for ranges in holes.values():
        ranges.sort()
    rest = []
    for span in spans:
        at = span.start
        for start, stop in holes.get(span.source.id, ()):
            if stop <= at or start >= span.stop:
                continue
            if start > at:
                rest.append(Span(span.source, at, start))
            at = max(at, stop)
        if at < span.stop:
            rest.append(Span(span.source, at, span.stop))
    return tuple(rest)


Range = tuple[int, int, int]  # number of the source, start, stop


def coalesce(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Sort ranges and join those that touch. Overlaps are kept apart, so that a duplicate stays visible."""
    merged: list[Range] = []
    for number, start, stop in sorted(ranges):
        if merged and merged[-1][0] == number and merged[-1][2] == start:
            merged[-1] = (number, merged[-1][1], stop)
        else:
            merged.append((number, start, stop))
    return tuple(merged)


def uncovered(sources: Sequence[Source], ranges: Iterable[Range]) -> list[str]:
    """Say, one line each, where `ranges` fail to tile `sources` exactly: gaps, overlaps and strays."""
    faults = []
    by_number: dict[int, list[Range]] = {}
    for item in ranges:
        by_number.setdefault(item[0], []).append(item)
    for number, source in enumerate(sources):
        at = source.start
        for _, start, stop in sorted(by_number.get(number, ())):
            if start > at:
                faults.append(f"{source}[{at}:{start}] is nowhere")
            elif start < at:
                faults.append(f"{source}[{start}:{min(at, stop)}] is counted twice")
            at = max(at, stop)
        if at < source.stop:
            faults.append(f"{source}[{at}:{source.stop}] is nowhere")
        elif at > source.stop:
            faults.append(f"{source}[{source.stop}:{at}] does not exist")
    return faults
