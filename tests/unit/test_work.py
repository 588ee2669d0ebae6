from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import BadInput
from shaper.types import Chunk, Source, Span
from shaper.work import aligned_stop, by_source, coalesce, returned, split, take, uncovered, without

A, B = Source("a", 100), Source("b", 50)


def spans(*rows: tuple[Source, int, int]) -> deque[Span]:
    return deque(Span(*row) for row in rows)


def shown(chunk: Chunk) -> list[str]:
    return [str(span) for span in chunk.spans]


def test_take_crosses_sources_and_leaves_the_rest() -> None:
    pending = spans((A, 0, 100), (B, 0, 50))
    assert shown(take(pending, 120)) == ["a[0:100]", "b[0:20]"]
    assert [str(s) for s in pending] == ["b[20:50]"]


def test_take_leaves_a_sliver_of_the_next_source_alone() -> None:
    pending = spans((A, 0, 100), (B, 0, 50))
    assert shown(take(pending, 104)) == ["a[0:100]"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_pieces_that_come_back_are_taken_as_if_they_had_never_been_cut(order: tuple[int, ...]) -> None:
    pieces = [Span(A, 0, 20), Span(A, 20, 40), Span(A, 40, 60)]
    pending = spans((A, 60, 100), (B, 0, 50))
    for number in order:
        returned(pending, pieces[number])
    taken = take(pending, 100)
    assert sum(map(len, taken.spans)) == 100
    if order != (1, 0, 2) and order != (2, 0, 1):
        assert shown(taken) == ["a[0:100]"]


def test_take_within_a_source_cuts_equal_pieces_not_above_the_size() -> None:
    pending = spans((A, 0, 100), (B, 0, 50))
    sizes = []
    while pending:
        sizes.append(take(pending, 40, cross_sources=False).elements)
    assert sizes == [34, 33, 33, 25, 25]


@pytest.mark.parametrize(("asked", "stop"), [(70, 64), (64, 64), (63, 32), (40, 32), (20, 20), (100, 100)])
def test_chunks_end_at_cuts_where_that_costs_at_most_half(asked: int, stop: int) -> None:
    source = Source("c", 100, cuts=(0, 32, 64, 96, 100))
    assert aligned_stop(Span(source, 0, 100), asked) == stop


def test_by_source_gives_one_chunk_for_each() -> None:
    chunk = Chunk((Span(A, 0, 10), Span(B, 5, 9), Span(A, 20, 30)), None, "x")
    assert [shown(c) for c in by_source(chunk)] == [["a[0:10]", "a[20:30]"], ["b[5:9]"]]
    assert {c.category for c in by_source(chunk)} == {"x"}


def test_an_empty_span_and_an_empty_chunk_are_refused() -> None:
    with pytest.raises(BadInput, match="empty span"):
        Span(A, 5, 5)
    with pytest.raises(BadInput, match="at least one span"):
        Chunk(())


def test_a_source_stands_for_its_id() -> None:
    assert A == "a"
    assert {"a": 1}[A] == 1  # type: ignore[index]
    assert f"{A}" == "a"


def test_uncovered_names_gaps_and_duplicates() -> None:
    sources = [A, B]
    assert uncovered(sources, [(0, 0, 100), (1, 0, 50)]) == []
    assert uncovered(sources, [(0, 0, 40), (0, 60, 100), (1, 0, 50)]) == ["a[40:60] is nowhere"]
    assert uncovered(sources, [(0, 0, 100), (0, 90, 95), (1, 0, 50)]) == ["a[90:95] is counted twice"]
    assert uncovered(sources, [(0, 0, 100)]) == ["b[0:50] is nowhere"]


ranges = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda p: (p[0], p[0] + p[1])), max_size=6)


@given(ranges, ranges)
def test_without_is_set_difference(kept: list[tuple[int, int]], removed: list[tuple[int, int]]) -> None:
    disjoint = [Span(A, a, b) for _, a, b in coalesce(_disjoint(kept))]
    rest = without(disjoint, [Span(A, a, b) for a, b in removed])
    want = {n for s in disjoint for n in range(s.start, s.stop)} - {n for a, b in removed for n in range(a, b)}
    got = [n for s in rest for n in range(s.start, s.stop)]
    assert sorted(got) == sorted(want)


def _disjoint(rows: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    numbers = sorted({n for a, b in rows for n in range(a, b)})
    return [(0, n, n + 1) for n in numbers]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(1, 80), st.booleans())
def test_splitting_and_taking_keep_every_element_once(sizes: list[int], size: int, cross: bool) -> None:
    sources = [Source(f"s{n}", count) for n, count in enumerate(sizes)]
    chunk = Chunk(tuple(Span(s, 0, s.stop) for s in sources))
    pieces = split(chunk, size)
    pending = deque(chunk.spans)
    taken = []
    while pending:
        taken.append(take(pending, size, cross_sources=cross))
    for found in (pieces, tuple(taken)):
        assert all(0 < piece.elements <= size for piece in found)
        numbers = {s.id: n for n, s in enumerate(sources)}
        assert uncovered(sources, [(numbers[s.source.id], s.start, s.stop) for p in found for s in p.spans]) == []
