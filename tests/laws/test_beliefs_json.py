"""Beliefs as JSON: what is written is read back equal, and nothing else is taken for beliefs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import BadInput
from shaper.models import Beliefs, GroupBeliefs, Line
from shaper.models.as_json import from_json, to_json
from shaper.models.plain import decoded, encoded
from shaper.types import Chunk, Merge, Observation, Outcome, Resources, Source, Span, Task, Usage

AMOUNTS = st.floats(1e-3, 1e6)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    elements, group = draw(st.integers(1, 10**7)), draw(st.sampled_from(["", "ttbar", "log_y", "a.bends.0.1"]))
    work: Chunk | Merge
    if draw(st.booleans()):
        work = Chunk((Span(Source(f"s{draw(st.integers(0, 5))}", elements, group=group), 0, elements),))
    else:
        work = Merge(("1", "2"), elements, draw(st.none() | st.integers(1, 10**9)))
    category = "processing" if isinstance(work, Chunk) else "accumulating"
    task = Task("1.1", "processing", group, category, work, Resources(1, draw(st.integers(1, 10**5))), beside=3)
    usage = Usage(
        wall_s=draw(AMOUNTS), cpu_s=draw(st.none() | AMOUNTS), memory_mib=draw(st.none() | AMOUNTS), result_bytes=1
    )
    outcome = draw(st.sampled_from([Outcome.DONE, Outcome.DONE, Outcome.OUT_OF_MEMORY, Outcome.LOST, Outcome.FAILED]))
    started_s = draw(st.floats(0, 1e6))
    return Observation(task, outcome, usage, started_s, started_s, started_s + draw(AMOUNTS), "w", "")


@st.composite
def learnt(draw: st.DrawFn) -> Beliefs:
    beliefs = Beliefs()
    for seen in draw(st.lists(observations(), max_size=12)):
        beliefs = beliefs.updated(seen)
    return beliefs


@given(learnt())
def test_beliefs_are_read_back_as_they_were_written(beliefs: Beliefs) -> None:
    for known in (beliefs, beliefs.remembered(), beliefs.doubtful()):
        again = from_json(json.loads(json.dumps(to_json(known), allow_nan=False)))
        assert (again.categories, again.version, again.dispatch_s) == (
            known.categories,
            known.version,
            known.dispatch_s,
        )


@given(learnt())
def test_what_is_taken_over_may_be_taken_over_again(beliefs: Beliefs) -> None:
    once = beliefs.remembered()
    again = from_json(json.loads(json.dumps(to_json(once)))).remembered()
    for name, known in once.categories.items():
        one, two = known.shared, again.categories[name].shared
        assert (one.memory.line, one.wall.line, one.largest_done) == (two.memory.line, two.wall.line, two.largest_done)
        assert sum(b.weight for b in two.memory.bins.values()) == pytest.approx(
            sum(b.weight for b in one.memory.bins.values())
        )


@given(learnt())
def test_lines_and_groups_stand_on_their_own(beliefs: Beliefs) -> None:
    for known in beliefs.categories.values():
        assert decoded(GroupBeliefs, json.loads(json.dumps(encoded(known.shared)))) == known.shared
        for line in (known.shared.memory.line, known.shared.wall.line):
            if line is not None:
                assert decoded(Line, json.loads(json.dumps(encoded(line)))) == line


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a document."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(way for key, inner in items for way in places(inner, (*at, key)))]


@given(learnt(), st.data())
def test_nonsense_in_any_place_is_refused_or_harmless(beliefs: Beliefs, data: st.DataObject) -> None:
    document = json.loads(json.dumps(to_json(beliefs)))
    way = data.draw(st.sampled_from(places(document)))
    nonsense = data.draw(st.sampled_from([None, "x", [], {}, -1, -1e300, 1e300, float("nan"), float("inf"), True, [1]]))
    holder: Any = document
    if not way:
        document = nonsense
    else:
        for key in way[:-1]:
            holder = holder[key]
        holder[way[-1]] = nonsense
    try:
        known = from_json(document)
    except BadInput:
        return
    for how in (known.remembered(), known.doubtful()):
        for category in how.categories.values():
            for line in (category.shared.memory.line, category.shared.wall.line):
                if line is not None:
                    assert line.upper(1000.0, 0.01) > 0
                    assert line.largest(1e4, 0.01, 1e6) >= 0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"version": 2}, "beliefs of version 2 are not known here, only 1"),
        ([], "beliefs are an object, got list"),
        ({"version": 1}, "categories: wanted an object"),
        ({"version": 1, "categories": {"p": {"shared": {"pickle": "x"}}}}, "p.shared: 'pickle' is not known"),
        ({"version": 1, "categories": {"p": {"shared": {"done": -1}}}}, "p.shared.done: -1 is out of range"),
        ({"version": 1, "categories": {"p": {"shared": {"done": 1.5}}}}, "p.shared.done: wanted a number, got float"),
        (
            {"version": 1, "categories": {"p": {"shared": {"memory": {"bins": {"9": [1, 1e6, 0, 0]}}}}}},
            "memory.bins.9: no bin of that number holds",
        ),
    ],
)
def test_what_is_wrong_is_named(document: object, message: str) -> None:
    with pytest.raises(BadInput, match=message.replace(".", r"\.")):
        from_json(document)
