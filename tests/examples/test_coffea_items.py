"""The pure parts of the Coffea executor: items to sources and back, coverage, what runs in a task, sums."""

from __future__ import annotations

import functools
import pickle
import uuid
import warnings
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest

pytest.importorskip("coffea", reason="the Coffea executor needs the coffea extra")

import cloudpickle
import lz4.frame
from coffea.processor import Runner, accumulate
from coffea.processor.executor import DEFAULT_METADATA_CACHE, FileMeta, WorkItem
from hypothesis import given
from hypothesis import strategies as st

from shaper.coffea.function import Process, merge, skips_bad_files, uses_checkpoints, with_processor_loaded
from shaper.coffea.items import carve, sources, uncovered
from shaper.types import Chunk, Skipped, Span


def items_of(entries, chunksize, *, filename="a.root", dataset="one", meta=None, limit=None):
    metadata = {"numentries": entries, "uuid": uuid.uuid5(uuid.NAMESPACE_URL, filename).bytes, **(meta or {})}
    return list(FileMeta(dataset, filename, "Events", metadata).chunks(chunksize, False))[:limit]


def whole(source):
    return Span(source, source.start, source.stop)


def cut(source, edges):
    inner = sorted({edge for edge in edges if source.start < edge < source.stop})
    bounds = [source.start, *inner, source.stop]
    return [Span(source, start, stop) for start, stop in pairwise(bounds)]


@given(
    files=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 4)), min_size=1, max_size=6),
    chunksize=st.integers(1, 200),
    limit=st.none() | st.integers(1, 3),
    edges=st.lists(st.integers(0, 500)),
)
def test_any_carving_of_the_sources_covers_exactly_the_items(files, chunksize, limit, edges):
    items = []
    for number, (entries, dataset) in enumerate(files):
        items += items_of(entries, chunksize, filename=f"{number}.root", dataset=f"d{dataset}", limit=limit)
    made = sources(items, reshape=True)
    assert sum(source.elements for source in made) == sum(max(1, len(item)) for item in items)
    assert len({source.id for source in made}) == len(made) == len(files)
    chunks = [Chunk(tuple(cut(source, edges))) for source in made]
    carved = {item for chunk in chunks for _, item in carve(chunk)}
    assert uncovered(made, carved, []) == []
    assert all(source.group == item.dataset for source in made for _, item in carve(Chunk((whole(source),))))


@given(size=st.integers(3, 300), data=st.data())
def test_a_gap_and_a_duplicate_are_seen(size, data):
    [source] = sources(items_of(size, 50), reshape=True)
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    item = source.payload.item
    rest = {replace(item, entrystart=a, entrystop=b) for a, b in ((0, start), (stop, size)) if a < b}
    assert uncovered([source], rest, []) == [f"one: a.root:Events entries {start} to {stop} were not processed"]
    assert uncovered([source], rest, [Span(source, start, stop)]) == []
    twice = {replace(item, entrystart=0, entrystop=size), replace(item, entrystart=start, entrystop=stop)}
    if len(twice) == 2:
        faults = uncovered([source], twice, [])
        assert faults == [f"one: a.root:Events entries {start} to {stop} were processed twice, not once"]


def test_a_stray_file_is_seen():
    [source] = sources(items_of(10, 5), reshape=True)
    [other] = items_of(4, 5, filename="b.root")
    [fault] = uncovered([source], {source.payload.item, other}, [])
    assert "b.root" in fault
    assert "entries 0 to 4 were processed once, not never" in fault


def test_a_file_given_twice_is_two_sources_and_may_be_processed_as_one_item_or_as_many():
    given_items = items_of(10, 100) * 2
    made = sources(given_items, reshape=True)
    assert [source.elements for source in made] == [10, 10]
    assert uncovered(made, set(given_items), []) == []
    halves = {replace(given_items[0], entrystart=a, entrystop=b) for a, b in ((0, 5), (5, 10), (0, 10))}
    assert uncovered(made, halves, []) == []


def test_items_that_differ_in_metadata_or_preload_are_not_joined_and_keep_them():
    items = items_of(20, 10, meta={"xsec": 1.5})
    joined = sources(items, reshape=True)
    assert [source.elements for source in joined] == [20]
    [(_, item)] = carve(Chunk((Span(joined[0], 3, 8),)))
    assert (item.entrystart, item.entrystop, item.usermeta) == (3, 8, {"xsec": 1.5})
    for change in ({"usermeta": {"xsec": 2.5}}, {"preload": frozenset(["x"])}, {"fileuuid": b"1" * 16}):
        made = sources([items[0], replace(items[1], **change)], reshape=True)
        assert [source.elements for source in made] == [10, 10]
        assert [carve(Chunk((whole(source),)))[0][1] for source in made] == [items[0], replace(items[1], **change)]


def test_without_reshape_items_stay_as_they_are():
    items = items_of(25, 10)
    made = sources(items, reshape=False)
    assert [source.elements for source in made] == [1] * len(items)
    assert [carve(Chunk((whole(source),)))[0][1] for source in made] == items
    assert uncovered(made, set(items), []) == []


def test_metadata_to_fetch_comes_in_an_order_of_its_own():
    metas = [FileMeta(dataset, name, "Events") for dataset in ("x", "y") for name in ("b", "a", "c")]
    one, other = (sources(given, reshape=True) for given in (metas, reversed(metas)))
    assert [(s.id, s.group, s.elements) for s in one] == [(s.id, s.group, s.elements) for s in other]
    assert [s.payload.item.dataset for s in one] == ["x"] * 3 + ["y"] * 3


def test_cuts_are_the_clusters_that_coffea_has_fetched_else_the_edges_of_the_items_when_asked_for():
    items = items_of(40, 10, filename="clustered.root")
    assert sources(items, reshape=True)[0].cuts == ()
    assert sources(items, reshape=True, align=True)[0].cuts == (10, 20, 30)
    key = FileMeta("one", "clustered.root", "Events")
    DEFAULT_METADATA_CACHE[key] = {"numentries": 40, "uuid": items[0].fileuuid, "clusters": [0, 16, 32, 40]}
    try:
        assert sources(items, reshape=True)[0].cuts == (16, 32)
        DEFAULT_METADATA_CACHE[key]["uuid"] = b"another file now"
        assert sources(items, reshape=True)[0].cuts == ()
    finally:
        del DEFAULT_METADATA_CACHE[key]


# -- what runs in a task ---------------------------------------------------------------------------------------------


class Hoarder:
    """Keeps its output in itself, as some processors do."""

    def __init__(self):
        self.output = {"calls": 0, "entries": 0}

    def __call__(self, item):
        self.output["calls"] += 1
        self.output["entries"] += len(item)
        return self.output


def chunk_of(*sizes):
    made = [sources(items_of(size, 1000, filename=f"{n}.root"), reshape=True)[0] for n, size in enumerate(sizes)]
    return Chunk(tuple(whole(source) for source in made))


def closure(function, skipbadfiles=False, **keywords):
    return functools.partial(Runner.automatic_retries, 0, skipbadfiles, function, **keywords)


def test_every_item_gets_a_processor_of_its_own():
    travelled = pickle.loads(cloudpickle.dumps(Process(Hoarder(), skips=False)))
    for process in (travelled, Process(Hoarder(), skips=False)):
        assert process(chunk_of(3, 4, 5)) == {"calls": 3, "entries": 12}
        assert process(chunk_of(7)) == {"calls": 1, "entries": 7}


def picky(item):
    if len(item) == 13:
        raise OSError("bad luck")
    warnings.warn("something else", UserWarning, stacklevel=1)
    return {"entries": len(item)}


def test_a_skipped_piece_is_told_with_its_reason_and_the_rest_is_kept():
    chunk = chunk_of(3, 13, 5)
    function = closure(picky, skipbadfiles=(OSError,))
    with pytest.warns(UserWarning, match="something else"):
        out = Process(function, skips=skips_bad_files(function))(chunk)
    assert isinstance(out, Skipped)
    assert out.value == {"entries": 8}
    assert out.spans == (chunk.spans[1],)
    assert out.reasons == ("bad luck",)


def test_a_piece_that_is_not_to_be_skipped_raises():
    function = closure(picky)
    assert not skips_bad_files(function)
    with pytest.raises(OSError, match="bad luck"):
        Process(function, skips=False)(chunk_of(13))


def test_a_chunk_that_is_skipped_as_a_whole_has_no_value():
    function = closure(picky, skipbadfiles=True)
    assert Process(function, skips=True)(chunk_of(13)).value is None


def test_the_result_type_leaves_nothing_out():
    assert not skips_bad_files(closure(picky, skipbadfiles=True, use_result_type=True))


def test_the_processor_is_unpacked_wherever_it_lies():
    packed = lz4.frame.compress(cloudpickle.dumps(Hoarder()))
    nested = closure(functools.partial(picky, processor_instance=packed, checkpointer=None))
    loaded = with_processor_loaded(nested)
    assert isinstance(loaded.args[2].keywords["processor_instance"], Hoarder)
    assert not uses_checkpoints(loaded)
    assert uses_checkpoints(closure(functools.partial(picky, checkpointer=object())))


outputs = st.recursive(
    st.integers(0, 9),
    lambda values: st.tuples(
        st.sampled_from([dict, functools.partial(defaultdict, int)]),
        st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    ).map(lambda made: made[0](made[1])),
    max_leaves=8,
)


@given(outputs, outputs)
def test_a_merge_is_coffeas_sum_whichever_way_round(a, b):
    try:
        expected = accumulate([pickle.loads(pickle.dumps(a)), pickle.loads(pickle.dumps(b))])
    except ValueError:  # a number and a mapping do not add up, in coffea either
        return
    assert merge(pickle.loads(pickle.dumps(a)), pickle.loads(pickle.dumps(b))) == expected


def test_a_merge_with_nothing_is_the_other():
    assert merge(None, {"a": 1}) == {"a": 1}
    assert merge({"a": 1}, None) == {"a": 1}
    assert merge(None, None) is None


def test_processed_items_add_up():
    one, two = items_of(20, 10)
    out = merge({"out": {"n": 1}, "processed": {one}}, {"out": {"n": 2}, "processed": {two}})
    assert out == {"out": {"n": 3}, "processed": {one, two}}
    assert all(isinstance(item, WorkItem) for item in out["processed"])
