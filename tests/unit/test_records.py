"""Records: what is written can be read, replayed and added up; what a kill cut off is left out and said."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shaper import records
from shaper.errors import BadInput, Damaged
from shaper.models.beliefs import Beliefs
from shaper.types import Accept, Backlog, Capacity, Merge, Outcome, Resources, Retry, Shape, Split
from tests.unit.factories import capacity, chunk, seen, task
from tests.unit.records_factory import capacity_line, end_line, run_line, simulated, task_line, write

NOTHING_LEFT = Backlog()
FOUR_CORES = capacity()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[records.Recorder]:
    made = records.Recorder(tmp_path / records.NAME, 0.02)
    made.run(run_line())
    yield made
    made.close()


def kinds(run_dir: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (run_dir / records.NAME).read_text().splitlines()]


def decide(recorder: records.Recorder, at_s: float, elements: int, reason: str, workers: Capacity = FOUR_CORES) -> None:
    shapes = [Shape("processing", "", None, elements, 4, reason)]
    recorder.decided(at_s, workers, NOTHING_LEFT, shapes)


def test_a_run_is_read_as_it_was_written(tmp_path: Path, recorder: records.Recorder) -> None:
    tried = task(chunk(1000, "a.root"), memory_mib=500)
    decide(recorder, 0.5, 1000, "a probe")
    recorder.submitted(tried, Beliefs())
    halves = (chunk(500, "a.root"), chunk(500, "a.root"))
    verdict = Split(halves, "the model believes in 500")
    recorder.settled(seen(tried, Outcome.OUT_OF_MEMORY, memory_mib=512.0, wall_s=2.0), verdict, Beliefs())
    recorder.end(3.0, {"status": "done", "message": ""})
    recorder.close()

    found = records.read(tmp_path)

    assert found.status == "done"
    assert [s.run["name"] for s in found.sessions] == ["ttH"]
    assert found.capacities[0]["kinds"] == [{"name": "4x8000", "cores": 4, "memory_mib": 8000, "count": 1}]
    assert (found.shapes[0]["elements"], found.shapes[0]["reason"]) == (1000, "a probe")
    [line] = found.tasks
    assert (line["outcome"], line["verdict"], line["pieces"]) == ("out of memory", "split", [500, 500])
    assert (line["memory_mib"], line["used"]["memory_mib"]) == (500, 512.0)
    assert line["verdict_reason"] == "the model believes in 500"


def test_only_what_changed_is_written(tmp_path: Path, recorder: records.Recorder) -> None:
    decide(recorder, 0.0, 1000, "a probe: nothing is known")
    decide(recorder, 1.0, 1050, "a probe: one is known")
    assert kinds(tmp_path) == ["run", "capacity", "shape"]
    decide(recorder, 2.0, 2000, "a probe: one is known")
    decide(recorder, 3.0, 2000, "the tail: little is left")
    decide(recorder, 4.0, 2000, "the tail: little is left", capacity(count=2))
    assert kinds(tmp_path) == ["run", "capacity", "shape", "shape", "shape", "capacity"]


def test_a_line_of_the_model_is_written_when_it_was_fitted_again(tmp_path: Path, recorder: records.Recorder) -> None:
    beliefs = Beliefs()
    for number in range(1, 30):
        n = 100 * number
        done = seen(task(chunk(n), number=number), memory_mib=100 + 0.1 * n, wall_s=1 + 0.01 * n)
        beliefs = beliefs.updated(done)
        recorder.settled(done, Accept(), beliefs)
    found = records.read(tmp_path)
    assert 1 <= len(found.beliefs) < 29
    memory = found.beliefs[-1]["memory"]
    assert memory["intercept"] + memory["slope"] * 2000 == pytest.approx(300, rel=0.05)
    assert memory["risk_factor"] > 1


@given(
    elements=st.integers(1, 10**9),
    outcome=st.sampled_from(Outcome),
    memory_mib=st.none() | st.floats(1, 1e6),
    cores=st.integers(1, 64),
    inputs=st.integers(0, 20),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_attempt_comes_back_with_its_size_resources_use_and_times(
    elements: int, outcome: Outcome, memory_mib: float | None, cores: int, inputs: int
) -> None:
    work = Merge(tuple(map(str, range(inputs))), elements, 12345) if inputs else chunk(elements, group="ttH")
    before = seen(task(work, cores=cores), outcome, memory_mib=memory_mib, wall_s=2.5)
    verdict = Retry(Resources(cores, 2000), "again")
    entry = json.loads(json.dumps(records.task_entry(before, verdict, (None, 2.0))))
    after = records.observation(entry)

    def told(of: object) -> object:
        t = of.task  # type: ignore[attr-defined]
        inputs_ = (len(t.work.inputs), t.work.input_bytes) if isinstance(t.work, Merge) else None
        return (t.id, t.stage, t.group, t.category, t.attempt, t.reason, t.resources, t.work.elements, t.work.category,
                inputs_)  # fmt: skip

    assert told(after) == told(before)
    assert (after.outcome, after.worker) == (before.outcome, before.worker)
    assert (after.submitted_s, after.started_s, after.finished_s) == (0.0, 0.0, 2.5)
    assert after.usage is not None
    assert before.usage is not None
    assert after.usage.memory_mib == (None if memory_mib is None else pytest.approx(memory_mib, abs=1e-6))


def test_a_replay_teaches_what_the_run_taught(tmp_path: Path) -> None:
    simulated(tmp_path)
    beliefs = Beliefs()
    for entry in records.read(tmp_path).tasks:
        beliefs = beliefs.updated(records.observation(entry))
    expected, _ = beliefs.expected("processing", "data", chunk(50_000, group="data"))
    assert expected == pytest.approx(280 + 0.008 * 50_000, rel=0.15)


def test_a_second_session_follows_the_first_at_its_distance(tmp_path: Path) -> None:
    first = [run_line(1, 1000.0), task_line(1, 5.0)]
    second = [run_line(2, 1100.0), task_line(2, 5.0), end_line(6.0)]
    found = records.read(write(tmp_path, [*first, *second]))
    assert [t["finished_s"] for t in found.tasks] == [5.0, 105.0]
    assert [(s.offset_s, s.stopped_s) for s in found.sessions] == [(0.0, 5.0), (100.0, 106.0)]
    assert found.sessions[0].end is None


def test_sessions_in_virtual_time_do_not_overlap(tmp_path: Path) -> None:
    lines = [run_line(1, 1000.0), task_line(1, 500.0), run_line(2, 1001.0), task_line(2, 5.0)]
    found = records.read(write(tmp_path, lines))
    assert [t["finished_s"] for t in found.tasks] == [500.0, 505.0]
    assert found.status == "not finished"


@pytest.mark.parametrize("keep", [1, 20, 200])
def test_a_cut_last_line_is_left_out_and_said(tmp_path: Path, keep: int) -> None:
    cut = json.dumps(task_line(2)).encode()[:keep]
    run_dir = write(tmp_path, [run_line(), task_line(1)], cut)
    with pytest.warns(UserWarning, match="line 3 is cut off"):
        found = records.read(run_dir)
    assert [t["id"] for t in found.tasks] == ["1.1"]
    assert "line 3" in found.warnings[0]


def test_a_session_that_follows_on_a_cut_line_is_found_even_if_cut_itself(tmp_path: Path) -> None:
    cut = json.dumps(task_line(2)).encode()[:50]
    run_dir = write(tmp_path, [run_line(), task_line(1)], cut)
    recorder = records.Recorder(run_dir / records.NAME, None)
    recorder.run(run_line(2, 1.7e9 + 60))
    recorder.close()
    with pytest.warns(UserWarning, match="line 3"):
        assert [s.run["session"] for s in records.read(run_dir).sessions] == [1, 2]

    again = (run_dir / records.NAME).read_bytes()[:-30]
    (run_dir / records.NAME).write_bytes(again)
    with pytest.warns(UserWarning, match="line 3"):
        assert len(records.read(run_dir).sessions) == 1


def no_record() -> list[bytes]:
    return [b"not json", b"5", b"[]", b'{"kind":"task"}', b'{"kind":"task","at_s":1.0}', b'{"kind":"task","at_s":"x"}']


@pytest.mark.parametrize("line", no_record())
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    rest = b"".join(json.dumps(task_line(n)).encode() + b"\n" for n in range(3))
    run_dir = write(tmp_path, [run_line(), task_line(1)], line + b"\n" + rest)
    with pytest.raises(Damaged, match="line 3 cannot be read"):
        records.read(run_dir)


def test_many_lines_are_read_in_order(tmp_path: Path) -> None:
    count = 2500
    found = records.read(write(tmp_path, [run_line(), *(task_line(n, float(n)) for n in range(count))]))
    assert [t["id"] for t in found.tasks] == [f"1.{n}" for n in range(count)]


def test_no_records_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no records\.jsonl"):
        records.read(tmp_path)


def test_kinds_of_lines_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    found = records.read(write(tmp_path, [run_line(), {"kind": "later", "at_s": 1.0}, capacity_line(2.0)]))
    assert len(found.capacities) == 1


def test_a_kill_loses_at_most_the_line_being_written(tmp_path: Path, recorder: records.Recorder) -> None:
    for number, size in zip(range(1, 4), itertools.count(1)):
        recorder.settled(seen(task(number=number)), Accept(), Beliefs())
        assert len(kinds(tmp_path)) == 1 + size  # on disk before the file is closed
