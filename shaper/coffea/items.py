"""coffea's work items as sources and back: coalesce what belongs together, carve it anew.

A Runner hands an executor items of a size it chose beforehand. Items of one file that follow each other become one
source, whose elements are events; a chunk of that source becomes a new item. Everything else (file metadata to fetch,
an empty file, an item of another kind) is indivisible: one element.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from coffea.processor.executor import DEFAULT_METADATA_CACHE, FileMeta, WorkItem

from shaper.code import file_stamp, fingerprint_of
from shaper.types import Chunk, Source, Span


@dataclass(frozen=True, slots=True)
class Piece:
    """The payload of a source: the item it was made of, and whether ranges of it may be carved."""

    item: Any
    divisible: bool

    def carve(self, span: Span) -> Any:
        """The item that stands for a span of this source."""
        if not self.divisible:
            return self.item
        return replace(self.item, entrystart=span.start, entrystop=span.stop)


def sources(items: Iterable[Any], *, reshape: bool, align: bool = False) -> list[Source]:
    """Return the sources that hold exactly the elements of `items`.

    Args:
        reshape: whether items of one file may be joined and cut elsewhere.
        align: keep the edges of the given items as preferred cuts, where cluster edges are not known.
    """
    joined: list[tuple[WorkItem, list[int]]] = []
    last: dict[tuple[Any, ...], int] = {}
    others: list[Any] = []
    metas: dict[int, str | None] = {}  # a Runner gives all items of a file the same object
    items = list(items)
    for item in items:
        if not (reshape and isinstance(item, WorkItem) and len(item) > 0):
            others.append(item)
            continue
        if id(item.usermeta) not in metas:
            metas[id(item.usermeta)] = _hashable(item.usermeta)
        meta = metas[id(item.usermeta)]
        key = (item.dataset, item.filename, item.treename, item.fileuuid, item.preload, meta)
        at = last.get(key)
        if at is not None and joined[at][0].entrystop == item.entrystart:
            before, edges = joined[at]
            joined[at] = (replace(before, entrystop=item.entrystop), edges)
            edges.append(item.entrystart)
        else:
            last[key] = len(joined)
            joined.append((item, []))
    names: dict[str, int] = {}
    made = [
        Source(
            _name(f"{item.filename}:{item.treename}", names),
            len(item),
            start=item.entrystart,
            cuts=_clusters(item) or (tuple(edges) if align else ()),
            group=item.dataset,
            payload=Piece(item, divisible=True),
            identity=_identity(item),
        )
        for item, edges in joined
    ]
    if all(isinstance(item, FileMeta) for item in others):  # a set, in no order
        others.sort(key=lambda item: (item.dataset, _label(item)))
    for item in others:
        group = getattr(item, "dataset", "")
        piece = Piece(item, divisible=False)
        made.append(Source(_name(_label(item), names), 1, group=group, payload=piece, identity=_identity(item)))
    return made


def _identity(item: Any) -> str | None:
    """What must be the same on a resume: the file, and what the user says of it (cross-section, weights)."""
    if isinstance(item, WorkItem):
        uuid = item.fileuuid.hex() if isinstance(item.fileuuid, bytes) else str(item.fileuuid)
        return f"{uuid}, metadata {fingerprint_of(item.usermeta)}"
    if isinstance(item, FileMeta):
        return f"{file_stamp(item.filename) or 'not a local file'}, metadata {fingerprint_of(item.metadata)}"
    return None


def _hashable(meta: Any) -> str | None:
    """User metadata as a key: items whose metadata look the same belong together."""
    return None if meta is None else repr(sorted(meta.items(), key=lambda pair: str(pair[0])))


def _clusters(item: WorkItem) -> tuple[int, ...]:
    """The cluster edges inside an item, where a Runner with `align_clusters` has left them in coffea's own cache."""
    metadata = DEFAULT_METADATA_CACHE.get(FileMeta(item.dataset, item.filename, item.treename)) or {}
    if metadata.get("uuid") != item.fileuuid:
        return ()
    return tuple(sorted(int(edge) for edge in metadata.get("clusters", ()) if item.entrystart < edge < item.entrystop))


def _label(item: Any) -> str:
    if isinstance(item, WorkItem):
        return f"{item.filename}:{item.treename}[{item.entrystart}:{item.entrystop}]"
    if isinstance(item, FileMeta):
        return f"{item.filename}:{item.treename}"
    return str(item)[:200] or type(item).__name__


def _name(label: str, names: dict[str, int]) -> str:
    """Make a label unique: one file may be in two datasets, or be listed twice."""
    count = names[label] = names.get(label, 0) + 1
    return label if count == 1 else f"{label} ({count})"


def carve(chunk: Chunk) -> list[tuple[Span, Any]]:
    """The items of a chunk, each with its span."""
    return [(span, span.source.payload.carve(span)) for span in chunk.spans]


def uncovered(
    given: Sequence[Source], processed: Iterable[WorkItem], skipped: Iterable[Span], *, moved: bool = False
) -> list[str]:
    """Say, one line each, where what was processed and skipped does not tile what was given, file by file.

    A file that was given twice is asked for once only: coffea keeps what was processed as a set.

    Args:
        processed: what coffea's own function says it has run.
        moved: whether outputs may come from a checkpoint, and name the place where the file was when it was made.
    """

    def file(item: WorkItem) -> tuple[Any, ...]:
        return item.dataset, item.fileuuid if moved else item.filename, item.treename

    ranges: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for item in processed:
        ranges.setdefault(file(item), []).append((item.entrystart, item.entrystop))
    for span in skipped:
        ranges.setdefault(file(span.source.payload.item), []).append(_entries(span))
    faults = []
    wanted: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    names = {}
    for source in given:
        item = source.payload.item
        if isinstance(item, WorkItem):
            whole = Span(source, source.start, source.stop)
            wanted.setdefault(file(item), []).append(_entries(whole))
            names[file(item)] = f"{item.dataset}: {item.filename}:{item.treename}"
    for key in [*wanted, *(key for key in ranges if key not in wanted)]:
        name = names.get(key) or ":".join(map(str, key))
        faults += _differences(name, wanted.get(key, []), ranges.get(key, []))
    return faults


def _entries(span: Span) -> tuple[int, int]:
    piece: Piece = span.source.payload
    return (span.start, span.stop) if piece.divisible else (piece.item.entrystart, piece.item.entrystop)


def _differences(file: str, wanted: list[tuple[int, int]], got: list[tuple[int, int]]) -> list[str]:
    """Compare how often every entry is wanted and got, from edge to edge."""
    edges = sorted({edge for start, stop in (*wanted, *got) if start < stop for edge in (start, stop)})
    asked, found = _depths(wanted, edges), _depths(got, edges)
    faults = []
    for (start, stop), want, have in zip(pairwise(edges), asked, found, strict=False):
        if have < min(want, 1):
            faults.append(f"{file} entries {start} to {stop} were not processed")
        elif have > want:
            faults.append(f"{file} entries {start} to {stop} were processed {_times(have)}, not {_times(want)}")
    return faults


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _depths(ranges: list[tuple[int, int]], edges: list[int]) -> list[int]:
    """How many ranges hold the entries between each edge and the next."""
    change = dict.fromkeys(edges, 0)
    for start, stop in ranges:
        if start < stop:
            change[start] += 1
            change[stop] -= 1
    return list(accumulate(change[edge] for edge in edges))
