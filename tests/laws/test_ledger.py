"""Whatever happens, every element is in exactly one place, and a result is in at most one merge."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper import journal as journals
from shaper.errors import Broken
from shaper.journal import Journal
from shaper.ledger import Ledger, StagePlan
from shaper.types import (
    Accept,
    Chunk,
    GiveUp,
    Merge,
    Observation,
    Outcome,
    Resources,
    ResultRef,
    Retry,
    Shape,
    Source,
    Span,
    Split,
    Task,
    Usage,
    Verdict,
    Work,
)
from shaper.work import by_source, split

GIVEN = Resources(1, 100)


def allocate(work: Work) -> Resources:
    return GIVEN


def plans(sizes: list[int], groups: int, ordered: bool) -> list[StagePlan]:
    sources = tuple(Source(f"s{n}", size, start=7 * n, group=f"g{n % groups}") for n, size in enumerate(sizes))
    return [StagePlan("one", sources, ordered=ordered), StagePlan("two", sources[:2], after=("one",), category="two")]


class Driver:
    """Plays engine and policy at random; values are the sorted lists of elements, so that a loss shows."""

    def __init__(self, ledger: Ledger, seed: int, journal: Journal | None = None) -> None:
        self.ledger, self.rng, self.journal = ledger, random.Random(seed), journal
        self.flying: list[Task] = []
        self.values: dict[str, list[tuple[str, int]]] = {}
        self.merged: set[str] = set()

    def step(self, *, trouble: bool = True) -> None:
        self.release()
        if not self.flying:
            return
        task = self.flying.pop(self.rng.randrange(len(self.flying)))
        seen, verdict = self.judged(task, trouble)
        if isinstance(verdict, Accept):
            self.evaluate(task, verdict)
        for result in self.ledger.settle(seen, verdict):
            assert result not in self.merged, "a result was merged twice"
            self.merged.add(result)
            del self.values[result]
        if self.journal is not None:
            self.journal.record(seen, verdict)

    def release(self) -> None:
        rng = self.rng
        backlog = self.ledger.backlog
        shapes = [Shape(g.stage, g.group, None, rng.randint(1, 40), 3, "r") for g in backlog.groups]
        shapes += [Shape(s.stage, "", None, 1, 2, "r", fan_in=rng.randint(2, 5)) for s in backlog.stages]
        for task in self.ledger.release(shapes, allocate):
            self.flying.append(task)

    def judged(self, task: Task, trouble: bool) -> tuple[Observation, Verdict]:
        what = self.rng.random() if trouble else 1.0
        work = task.work
        usage = Usage(result_bytes=self.rng.randint(1, 99))
        outcome, verdict = Outcome.DONE, Accept()
        if what < 0.1:
            outcome, verdict = Outcome.LOST, Retry(GIVEN, "lost")
        elif what < 0.2 and isinstance(work, Chunk):
            pieces = split(work, max(1, work.elements // 3)) if what < 0.15 else by_source(work)
            outcome, verdict = Outcome.OUT_OF_MEMORY, Split(pieces, "too large")
        elif what < 0.25 and isinstance(work, Chunk):
            outcome, verdict = Outcome.FAILED, GiveUp("bad", whole_stage=what < 0.205)
        elif what < 0.35 and isinstance(work, Chunk):
            verdict = Accept(work.spans[:1])
        ref = ResultRef(f"results/{task.id}.pkl", usage.result_bytes or 0, "00000000")
        return Observation(task, outcome, usage, 0, 0, 1, "w", result=ref), verdict

    def evaluate(self, task: Task, verdict: Accept) -> None:
        if isinstance(task.work, Merge):
            self.values[task.id] = [item for name in task.work.inputs for item in self.values[name]]
            return
        kept = [span for span in task.work.spans if span not in verdict.skipped]
        if kept:
            self.values[task.id] = [(s.source.id, n) for s in kept for n in range(s.start, s.stop)]


@given(
    st.lists(st.integers(0, 60), min_size=2, max_size=6).filter(any),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_every_element_is_in_exactly_one_place_at_every_step(
    sizes: list[int], groups: int, ordered: bool, seed: int
) -> None:
    ledger = Ledger(plans(sizes, groups, ordered))
    driver = Driver(ledger, seed)
    for turn in range(3000):
        if ledger.finished:
            break
        driver.step(trouble=turn < 60)
        ledger.check()
        ledger.check_sums()
    assert ledger.finished
    dropped = {str(span.source) for stage in ledger._stages.values() for span, _ in (*stage.skipped, *stage.given_up)}
    for name, root in ledger.roots().items():
        stage = ledger._stages[name]
        value = driver.values[root] if root is not None else []
        gone = [(s.source.id, n) for s, _ in (*stage.skipped, *stage.given_up) for n in range(s.start, s.stop)]
        want = [(source.id, n) for source in stage.sources for n in range(source.start, source.stop)]
        assert sorted(value + gone) == sorted(want), dropped
        if ordered and name == "one":
            place = {source.id: number for number, source in enumerate(stage.sources)}
            assert value == sorted(value, key=lambda item: (place[item[0]], item[1]))


@given(st.integers(0, 10**6), st.integers(1, 80), st.floats(0, 1))
def test_a_killed_run_resumes_without_loss_or_duplicate_at_other_sizes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, turns: int, cut: float
) -> None:
    path: Path = tmp_path_factory.mktemp("run") / journals.NAME
    described = plans([30, 0, 55, 20, 41], 2, False)[:1]
    journal = Journal(path, 1)
    journal.open_stage(described[0], "f", known=False)
    ledger = Ledger(described)
    driver = Driver(ledger, seed, journal)
    for _ in range(turns):
        if not ledger.finished:
            driver.step()
    journal.close()
    # The kill may come in the middle of a line.
    content = path.read_bytes()
    start_of_last = content.rstrip(b"\n").rfind(b"\n") + 1
    if path.read_text().count("\n") > 2:
        path.write_bytes(content[: start_of_last + int(cut * (len(content) - start_of_last))])
    with pytest.warns() if not path.read_bytes().endswith(b"\n") else _nothing():
        past = journals.read(path)
    missing = sorted(past.results)[::3]
    done, skipped = map(tuple, past.of_stage(described[0], missing))
    again = Ledger([replace(described[0], done=done, skipped=skipped)], session=past.sessions + 1)
    again.check()
    # What was journaled and is there is not done again.
    kept = sum(s.result.elements for name, s in past.results.items() if name not in missing)
    assert again.settled_elements == kept
    second = Driver(again, seed + 1)
    stage = again._stages["one"]
    for name, settled in past.results.items():
        if name not in missing:
            spans = stage._spans(settled.result.ranges)
            second.values[name] = [(s.source.id, n) for s in spans for n in range(s.start, s.stop)]
    for _ in range(3000):
        if again.finished:
            break
        second.step(trouble=False)
        again.check()
    root = again.roots()["one"]
    value = second.values[root] if root is not None else []
    gone = [(s.source.id, n) for s, _ in stage.skipped for n in range(s.start, s.stop)]
    want = [(source.id, n) for source in stage.sources for n in range(source.start, source.stop)]
    assert sorted(value + gone) == sorted(want)


class _nothing:  # noqa: N801
    def __enter__(self) -> None: ...

    def __exit__(self, *of: object) -> None: ...


@given(st.integers(0, 10**6), st.integers(5, 120))
def test_lost_results_are_processed_again(seed: int, turns: int) -> None:
    ledger = Ledger(plans([50, 61, 20], 1, False)[:1])
    driver = Driver(ledger, seed)
    for turn in range(2000):
        if ledger.finished and turn > turns:
            break
        driver.step(trouble=False)
        stage = ledger._stages["one"]
        if turn < turns and len(stage.reduction) and driver.rng.random() < 0.3:
            lost = driver.rng.choice(sorted(stage.reduction.results))
            del driver.values[lost]
            ledger.reopen([lost])
        ledger.check()
    root = ledger.roots()["one"]
    assert root is not None
    assert len(driver.values[root]) == len(set(driver.values[root])) == 131


def test_a_wrong_split_is_noticed() -> None:
    source = Source("a", 10)
    ledger = Ledger([StagePlan("one", (source,))])
    task = ledger.release([Shape("one", "", None, 10, 1, "r")], allocate)[0]
    seen = Observation(task, Outcome.OUT_OF_MEMORY, None, 0, 0, 1)
    with pytest.raises(Broken, match="do not add up"):
        ledger.settle(seen, Split((Chunk((Span(source, 0, 9),)),), "lost one"))


@pytest.mark.parametrize("promised", [None, Resources(1, 900)])
def test_a_lost_piece_to_which_nothing_was_promised_is_cut_to_what_is_wanted_by_then(
    promised: Resources | None,
) -> None:
    ledger = Ledger([StagePlan("one", (Source("a", 100),))])
    (task,) = ledger.release([Shape("one", "", None, 100, 1, "r")], allocate)
    ledger.settle(Observation(task, Outcome.LOST, None, 0, 0, 1), Retry(promised, "its worker is gone"))
    again = ledger.release([Shape("one", "", None, 10, 99, "r")], allocate)
    assert sum(task.work.elements for task in again) == 100
    assert max(task.work.elements for task in again) == (10 if promised is None else 100)
    if promised is not None:
        assert again[0].resources == promised


def test_memory_grows_with_what_is_in_flight_and_the_sources_not_with_the_tasks() -> None:
    """10,000 sources and 10**10 elements: what the ledger holds at 10 % and at 90 % of the run."""
    sources = tuple(Source(f"s{n}", 10**6) for n in range(10_000))
    ledger = Ledger([StagePlan("one", sources)])
    held = {}
    flying: list[Task] = []
    while not ledger.finished:
        shapes = [Shape(g.stage, g.group, None, 2 * 10**6, 20, "r") for g in ledger.backlog.groups]
        shapes += [Shape(s.stage, "", None, 1, 2, "r", fan_in=8) for s in ledger.backlog.stages]
        flying += ledger.release(shapes, allocate)
        task = flying.pop(0)
        ledger.settle(Observation(task, Outcome.DONE, Usage(result_bytes=9), 0, 0, 1), Accept())
        share = 10 * ledger.settled_elements // 10**10
        stage = ledger._stages["one"]
        ranges = sum(len(r.ranges) for r in stage.reduction.results.values())
        ranges += sum(len(r.ranges) for inputs in stage.merging.values() for r in inputs)
        pending = sum(len(group.pending) for group in stage.groups.values())
        held[share] = ranges + len(ledger.in_flight) + pending
    assert max(held.values()) <= 10_000 + 500 + 10_000
    assert held[9] <= held[1] + 10_000


def test_memory_does_not_grow_with_the_tasks_that_are_done() -> None:
    """100,000 tasks over ten sources: the whole ledger, pickled, at a quarter and at three quarters of the run."""
    sources = tuple(Source(f"s{n}", 10**6) for n in range(10))
    ledger = Ledger([StagePlan("one", sources)])
    held: dict[int, int] = {}
    flying: list[Task] = []
    while not ledger.finished:
        shapes = [Shape(g.stage, g.group, None, 100, 50, "r") for g in ledger.backlog.groups]
        shapes += [Shape(s.stage, "", None, 1, 2, "r", fan_in=8) for s in ledger.backlog.stages]
        flying += ledger.release(shapes, allocate)
        # The last of those in flight first: results come in another order than they were cut.
        task = flying.pop(-1 if len(flying) % 3 else 0)
        ledger.settle(Observation(task, Outcome.DONE, Usage(result_bytes=9), 0, 0, 1), Accept())
        quarter = 4 * ledger.settled_elements // 10**7
        if quarter not in held:
            held[quarter] = len(pickle.dumps(ledger))
    assert held[3] <= 1.5 * held[1]


@pytest.mark.parametrize("first", [0, 1])
def test_a_merge_that_waits_to_be_tried_again_does_not_keep_a_failed_stage_open(first: int) -> None:
    ledger = Ledger([StagePlan("one", (Source("a", 8),))])
    for task in ledger.release([Shape("one", "", None, 2, 4, "r")], allocate):
        done = Observation(task, Outcome.DONE, Usage(result_bytes=1), 0.0, 0.0, 1.0, "w")
        ledger.settle(done, Accept())
    merges = ledger.release([Shape("one", "", None, 1, 2, "r", fan_in=2)], allocate)
    assert len(merges) == 2
    verdicts: list[Verdict] = [GiveUp("wrong"), Retry(GIVEN, "failed, once more")]
    for number in (first, 1 - first):
        failed = Observation(merges[number], Outcome.FAILED, None, 0.0, 0.0, 1.0, "w")
        ledger.settle(failed, verdicts[number])
    assert ledger.finished
    ledger.check()
    assert "merge of 2 results: wrong" in ledger.missing()[0]
