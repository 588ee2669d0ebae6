"""Whole runs on the local engine: resume, interrupts, failures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper.errors import BadInput, Changed, Incomplete, ProcessFailed, SiteError
from shaper.types import Span
from tests.conftest import ROOT, needs
from tests.engines.chaos import descendants
from tests.engines.workers import until

OPTIONS: dict[str, Any] = {"cores": 2, "memory": "1GB", "progress": False}


def count(chunk: shaper.Chunk) -> int:
    return chunk.elements


def add(a: int, b: int) -> int:
    return a + b


def test_a_run_leaves_its_journal_records_report_and_timeline(tmp_path: Path) -> None:
    result = shaper.run({"a": 1000, "b": 500}, process=count, merge=add, run_dir=tmp_path / "r", **OPTIONS)
    assert result.value == 1500
    assert result.report.elements == 1500
    assert result.report.lost_core_s == 0
    assert {p.name for p in (tmp_path / "r").iterdir()} >= {
        "run.json",
        "journal.jsonl",
        "records.jsonl",
        "report.html",
        "timeline.json",
    }
    assert len(result.report.timeline) == result.report.tasks
    assert shaper.last_run() == tmp_path / "r"
    # Only the root is left of the results.
    assert len(list((tmp_path / "r" / "results").iterdir())) == 1


def test_the_same_call_resumes_and_does_nothing_twice(tmp_path: Path) -> None:
    first = shaper.run({"a": 1000}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    again = shaper.run({"a": 1000}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    assert (again.value, again.report.tasks) == (1000, 0)
    assert first.report.tasks > 0


def test_a_damaged_result_is_processed_again_on_resume(tmp_path: Path) -> None:
    shaper.run({"a": 1000}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    (root,) = (tmp_path / "results").iterdir()
    root.write_bytes(b"nonsense")
    again = shaper.run({"a": 1000}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    assert again.value == 1000
    assert again.report.tasks > 0


def test_a_cut_last_line_of_the_journal_is_dropped_with_a_warning(tmp_path: Path) -> None:
    shaper.run({"a": 1000}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="the last line is cut off"):
        again = shaper.run({"a": 1000}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    assert again.value == 1000


def test_changed_code_and_inputs_are_refused_by_name(tmp_path: Path) -> None:
    shaper.run({"a": 1000}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    with pytest.raises(Changed, match="function of stage 'processing' has changed"):
        shaper.run({"a": 1000}, process=lambda c: c.elements + 0, merge=add, run_dir=tmp_path, **OPTIONS)
    with pytest.raises(Changed, match="source 'b' was not an input"):
        shaper.run({"a": 1000, "b": 1}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    with pytest.raises(Changed, match="source 'a' has changed"):
        shaper.run({"a": 999}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)
    with pytest.raises(Changed, match="source 'a' has changed"):
        shaper.run([shaper.Source("a", 1000, group="g")], process=count, merge=add, run_dir=tmp_path, **OPTIONS)


def test_another_payload_is_another_input(tmp_path: Path) -> None:
    def weighted(weight: float) -> Any:
        sources = [shaper.Source("a", 1000, payload={"names": {"x", "y", "z"}, "weight": weight})]
        return shaper.run(sources, process=count, merge=add, run_dir=tmp_path, **OPTIONS)

    assert weighted(1.0).report.tasks > 0
    assert weighted(1.0).report.tasks == 0
    with pytest.raises(Changed, match="source 'a' has changed"):
        weighted(2.0)


def test_a_payload_may_be_of_a_class_of_the_script_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import shaper\n"
        "class Sample:\n    weight = 3\n"
        "def process(chunk):\n"
        "    if chunk.spans[0].source == 'b':\n        return shaper.Skipped(None, chunk.spans, ('not wanted',))\n"
        "    return chunk.spans[0].source.payload.weight * chunk.elements\n"
        "sources = [shaper.Source(name, 10, payload=Sample(), group=name) for name in 'ab']\n"
        "found = shaper.run(sources, process=process, merge=lambda a, b: a + b, run_dir='r', cores=1, memory='500MB')\n"
        "print(found.value, len(found.report.skipped))\n"
    )
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["30", "1"]


@pytest.mark.parametrize(
    ("skipped", "message"),
    [
        (lambda chunk: shaper.Skipped(None, (half(chunk.spans[0]),)), "for a part of its chunk"),
        (lambda chunk: shaper.Skipped(1, (half(chunk.spans[0]),) * 2), "twice"),
        (lambda chunk: shaper.Skipped(1, (Span(chunk.spans[0].source, 5000, 5001),)), "not in its chunk"),
    ],
)
def test_what_is_skipped_must_be_of_the_chunk_and_leave_a_value(tmp_path: Path, skipped: Any, message: str) -> None:
    with pytest.raises(ProcessFailed, match=message):
        shaper.run(
            {"a": 1000}, process=skipped, merge=add, run_dir=tmp_path, policy=shaper.policy.Fixed(500), **OPTIONS
        )


def half(span: Span) -> Span:
    return Span(span.source, span.start, span.start + max(1, len(span) // 2))


def test_a_directory_that_is_no_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(BadInput, match="holds other files and is no run"):
        shaper.run({"a": 10}, process=count, merge=add, run_dir=tmp_path, **OPTIONS)


def test_one_bad_source_does_not_take_the_others_with_it_and_is_named(tmp_path: Path) -> None:
    def process(chunk: shaper.Chunk) -> int:
        if any(span.source == "bad" for span in chunk.spans):
            raise KeyError("nope")
        return chunk.elements

    dataset = {"a": 300, "bad": 10, "c": 300}
    with pytest.raises(ProcessFailed, match=r"bad\[0:10\]: KeyError: 'nope'") as raised:
        shaper.run(dataset, process=process, merge=add, run_dir=tmp_path, **OPTIONS)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.value.partial == {"processing": 600}
    assert len(raised.value.missing) == 1
    assert list((tmp_path / "failed").iterdir())


def test_a_task_too_large_for_its_memory_is_split(tmp_path: Path) -> None:
    def process(chunk: shaper.Chunk) -> int:
        block = bytearray(chunk.elements * 2**20)
        for at in range(0, len(block), 4096):
            block[at] = 1
        time.sleep(0.02)
        return chunk.elements

    policy = shaper.policy.Fixed(400, on_exhaustion="halve")
    result = shaper.run(
        {"a": 400},
        process=process,
        merge=add,
        run_dir=tmp_path,
        policy=policy,
        cores=2,
        memory="300MiB",
        progress=False,
    )
    assert result.value == 400
    assert result.report.splits >= 1


def test_an_element_that_fits_nowhere_is_named(tmp_path: Path) -> None:
    def process(chunk: shaper.Chunk) -> int:
        if any(span.start <= 30 < span.stop for span in chunk.spans):
            block = bytearray(600 * 2**20)
            for at in range(0, len(block), 4096):
                block[at] = 1
        return chunk.elements

    with pytest.raises(Incomplete, match=r"a\[30:31\].*one element") as raised:
        shaper.run({"a": 64}, process=process, merge=add, run_dir=tmp_path, cores=2, memory="400MiB", progress=False)
    assert raised.value.partial == {"processing": 63}


SCRIPT = """
import shaper, time
def process(chunk):
    time.sleep(0.02 * chunk.elements)
    return chunk.elements
shaper.run({"a": 2000}, process=process, merge=lambda a, b: a + b, run_dir="run", cores=2, memory="1GB", progress=False,
           policy=shaper.policy.Fixed(10, shaper.Resources(1, 200)))
"""


def test_ctrl_c_stops_leaves_nothing_and_says_how_to_resume(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    manager = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        journal = tmp_path / "run" / "journal.jsonl"
        until(lambda: journal.exists() and journal.read_text().count('"done"') >= 2)
        below = descendants(manager.pid)
        manager.send_signal(signal.SIGINT)
        _, said = manager.communicate(timeout=300)
    finally:
        if manager.poll() is None:
            manager.kill()
            manager.wait()
    assert re.search(rf"to go on: .*shaper resume {tmp_path / 'run'}$", said, re.MULTILINE)
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)
    last = json.loads((tmp_path / "run" / "records.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["status"]) == ("end", "interrupted")


def test_a_directory_in_use_is_refused_with_the_process_that_uses_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, shaper, time\n"
        "def process(chunk):\n"
        "    open(os.environ['TMPDIR'] + '/mine', 'w').close()\n"
        "    open('started', 'w').close()\n    time.sleep(60)\n"
        "shaper.run({'a': 10}, process=process, merge=max, run_dir='r', cores=1, memory='500MB')\n"
    )
    holder = subprocess.Popen([sys.executable, script.name], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        until(lambda: (tmp_path / "started").exists())
        with pytest.raises(BadInput, match=rf"in use by process {holder.pid}"):
            shaper.run({"a": 10}, process=count, merge=add, run_dir=tmp_path / "r", **OPTIONS)
        assert list((tmp_path / "r" / "sandbox").glob("*/mine"))
    finally:
        holder.send_signal(signal.SIGTERM)
        assert holder.wait(10) != 0
    with pytest.raises(Changed):
        shaper.run({"a": 10}, process=count, merge=add, run_dir=tmp_path / "r", **OPTIONS)


def test_a_file_that_changed_is_refused_although_its_count_is_the_same(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("1\n2\n")
    shaper.run({str(data): 2}, process=count, merge=add, run_dir=tmp_path / "r", **OPTIONS)
    data.write_text("3\n4\n5")
    with pytest.raises(Changed, match=r"data.txt' has changed"):
        shaper.run({str(data): 2}, process=count, merge=add, run_dir=tmp_path / "r", **OPTIONS)


def test_one_bad_source_at_the_front_does_not_stop_the_others(tmp_path: Path) -> None:
    def process(chunk: shaper.Chunk) -> int:
        if any(span.source == "bad" for span in chunk.spans):
            raise ValueError("corrupt")
        return chunk.elements

    dataset = {"bad": 1000, **{f"good{n}": 1000 for n in range(20)}}
    with pytest.raises(ProcessFailed) as raised:
        shaper.run(dataset, process=process, merge=add, run_dir=tmp_path / "r", **OPTIONS)
    assert raised.value.partial == {"processing": 20_000}
    assert all("bad" in line for line in raised.value.missing)


def test_work_of_which_nothing_fits_ends_soon(tmp_path: Path) -> None:
    def process(chunk: shaper.Chunk) -> int:
        return len(bytearray(400 * 2**20))

    with pytest.raises(Incomplete, match="one element needs more than") as raised:
        shaper.run(
            {"a": 100_000}, process=process, merge=add, run_dir=tmp_path, cores=1, memory="200MB", progress=False
        )
    assert len(raised.value.missing) < 100
    assert "give more" in raised.value.missing[-1]


def test_a_full_disk_is_said_in_one_line_and_nothing_is_lost(tmp_path: Path) -> None:
    needs(os.geteuid() == 0, "mounting a small disk needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:

        def process(chunk: shaper.Chunk) -> bytes:
            return bytes(chunk.elements * 1000)

        with pytest.raises(SiteError, match=r"make room"):
            shaper.run({"a": 10_000}, process=process, merge=lambda a, b: a + b, run_dir=small / "r", **OPTIONS)
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
        result = shaper.run({"a": 10_000}, process=process, merge=lambda a, b: a + b, run_dir=small / "r", **OPTIONS)
        assert len(result.value) == 10_000_000
    finally:
        subprocess.run(["umount", "-l", small], check=True)
