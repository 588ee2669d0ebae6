"""The local engine and the function monitor, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from shaper.engines import Local
from shaper.engines.logs import Logs
from shaper.errors import Damaged, Stalled, UserError
from shaper.types import (
    Cancel,
    Chunk,
    Code,
    Merge,
    Observation,
    Outcome,
    Resources,
    ResultLost,
    Skipped,
    Source,
    Span,
    Task,
)
from tests.conftest import ROOT
from tests.engines.chaos import descendants
from tests.engines.workers import until

MIB = 2**20
SOURCE = Source("a", 10**6)


def touched(mib: int) -> bytearray:
    block = bytearray(mib * MIB)
    for at in range(0, len(block), 4096):
        block[at] = 1
    return block


class Bench:
    """An engine and short words for using it."""

    def __init__(self, folder: Path) -> None:
        self.engine = Local(cores=2, memory="3GB")
        self.engine.run_dir = folder
        self.folder = folder
        self.number = 0

    def open(self, process: Callable[[Chunk], Any], merge: Callable[[Any, Any], Any] = lambda a, b: a + b) -> None:
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self.engine.open("s", Code("s", cloudpickle.dumps((process, merge)), "f"))

    def submit(self, *, memory_mib: int = 1000, work: Any = None, **more: Any) -> Task:
        self.number += 1
        work = work or Chunk((Span(SOURCE, self.number, self.number + 1),))
        task = Task(f"1.{self.number}", "s", "", "c", work, Resources(more.pop("cores", 1), memory_mib, **more))
        self.engine.submit(task)
        return task

    def ended(self, count: int = 1, deadline_s: float = 180.0) -> list[Observation]:
        found: list[Observation] = []
        end = time.monotonic() + deadline_s
        while len(found) < count:
            assert time.monotonic() < end, f"only {found} after {deadline_s} s"
            found += [one for one in self.engine.wait(0.5) if isinstance(one, Observation)]
        return found

    def run(self, process: Callable[[Chunk], Any], **more: Any) -> Observation:
        self.open(process)
        self.submit(**more)
        return self.ended()[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.engine.close()
    assert not (tmp_path / "sandbox").exists()


def memory_of(seen: Observation) -> float:
    assert seen.usage is not None
    assert seen.usage.memory_mib is not None
    return seen.usage.memory_mib


# -- what is measured --------------------------------------------------------------------------------------------------


def test_a_peak_held_for_50_ms_is_measured_exactly(bench: Bench) -> None:
    base = memory_of(bench.run(lambda chunk: 1))

    def burst(chunk: Chunk) -> int:
        block = touched(200)
        time.sleep(0.05)
        return len(block)

    assert memory_of(bench.run(burst)) - base == pytest.approx(200, abs=10)


def test_memory_of_several_processes_counts_shared_pages_once(bench: Bench) -> None:
    def family(chunk: Chunk) -> int:
        shared = touched(200)
        # All hold together: each says when it has touched its own, and keeps it until the pipe closes.
        touched_r, touched_w = os.pipe()
        release_r, release_w = os.pipe()
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                os.close(release_w)
                own = touched(50)
                os.write(touched_w, b"t")
                os.read(release_r, 1)
                os._exit(len(own) % 1)
            pids.append(pid)
        for _ in pids:
            os.read(touched_r, 1)
        time.sleep(0.3)
        os.close(release_w)
        for pid in pids:
            os.waitpid(pid, 0)
        return len(shared)

    base = memory_of(bench.run(lambda chunk: 1))
    # Counted once per process, the shared 200 MiB would make it 950.
    assert memory_of(bench.run(family)) - base == pytest.approx(350, abs=15)


def test_usage_is_complete(bench: Bench, tmp_path: Path) -> None:
    big = tmp_path / "input"
    big.write_bytes(b"x" * 3 * MIB)

    def work(chunk: Chunk) -> bytes:
        content = big.read_bytes()
        import tempfile

        with tempfile.NamedTemporaryFile() as scratch:
            scratch.write(content * 10)
            scratch.flush()
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        return content[:1000]

    usage = bench.run(work).usage
    assert usage is not None
    assert usage.wall_s is not None
    assert usage.wall_s >= 0.3
    assert usage.cpu_s is not None
    assert usage.cpu_s >= 0.3
    assert usage.read_bytes is not None
    assert usage.read_bytes >= 3 * MIB
    assert usage.disk_mib == pytest.approx(30, rel=0.2)
    assert usage.result_bytes is not None
    assert 1000 < usage.result_bytes < 1100
    assert usage.cores is not None
    assert 0 < usage.cores <= 1.3


def test_threads_of_numeric_libraries_follow_the_cores(bench: Bench) -> None:
    def threads(chunk: Chunk) -> tuple[str, int | None, list[int]]:
        import numpy  # noqa: F401
        from threadpoolctl import threadpool_info

        return os.environ["OMP_NUM_THREADS"], chunk.cores, [pool["num_threads"] for pool in threadpool_info()]

    bench.open(threads)
    for cores in (1, 2):
        task = bench.submit(cores=cores)
        assert bench.ended()[0].outcome is Outcome.DONE
        said, given, pools = bench.engine.fetch(task.id)  # type: ignore[misc]
        assert (said, given) == (str(cores), cores)
        assert set(pools) <= {cores}


def test_every_task_draws_other_random_numbers(bench: Bench) -> None:
    def draw(chunk: Chunk) -> float:
        import numpy

        return float(numpy.random.random())  # noqa: NPY002, RUF100

    bench.open(draw)
    tasks = [bench.submit() for _ in range(6)]
    bench.ended(6)
    assert len({bench.engine.fetch(task.id) for task in tasks}) == 6


# -- limits ------------------------------------------------------------------------------------------------------------


def test_memory_over_its_limit_is_killed_and_reported(bench: Bench) -> None:
    seen = bench.run(lambda chunk: len(touched(2000)), memory_mib=300)
    assert seen.outcome is Outcome.OUT_OF_MEMORY
    assert 300 < memory_of(seen) < 1500
    assert "over its limit of 300 MiB" in seen.detail


def test_wall_and_disk_limits(bench: Bench) -> None:
    seen = bench.run(lambda chunk: time.sleep(30), wall_s=0.3)
    assert seen.outcome is Outcome.OUT_OF_TIME
    assert seen.usage is not None
    assert 0.3 <= seen.usage.wall_s < 5

    def fill(chunk: Chunk) -> None:
        import tempfile

        with tempfile.TemporaryFile() as scratch:
            for _ in range(300):
                scratch.write(b"x" * MIB)
                time.sleep(0.005)

    assert bench.run(fill, disk_mib=50).outcome is Outcome.OUT_OF_DISK


def test_daemonised_grandchildren_count_and_are_killed(bench: Bench, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def daemonise(chunk: Chunk) -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                pid_file.write_text(str(os.getpid()))
                block = touched(500)
                time.sleep(60 + len(block) % 1)
            os._exit(0)
        time.sleep(60)

    seen = bench.run(daemonise, memory_mib=300)
    assert seen.outcome is Outcome.OUT_OF_MEMORY
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def test_what_a_finished_task_left_running_is_ended(bench: Bench, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def leave(chunk: Chunk) -> int:
        if os.fork() == 0:
            os.setsid()
            pid_file.write_text(str(os.getpid()))
            time.sleep(60)
        while not pid_file.exists():
            time.sleep(0.01)
        return 1

    assert bench.run(leave).outcome is Outcome.DONE
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


# -- how attempts end --------------------------------------------------------------------------------------------------


def test_the_users_exception_keeps_its_class_its_cause_and_its_traceback(bench: Bench) -> None:
    import pickle

    def fail(chunk: Chunk) -> None:
        try:
            open("/nowhere")  # noqa: PTH123, SIM115
        except OSError as error:
            raise ValueError("broken file") from error

    seen = bench.run(fail)
    assert seen.outcome is Outcome.FAILED
    assert seen.detail.startswith("ValueError: broken file")
    assert 'raise ValueError("broken file") from error' in seen.detail
    assert seen.error is not None
    chain = pickle.loads(seen.error)
    assert [type(error) for error in chain] == [ValueError, FileNotFoundError]


@pytest.mark.parametrize(
    ("process", "outcome", "said"),
    [
        (lambda chunk: os.kill(os.getpid(), signal.SIGSEGV), Outcome.FAILED, "crashed: SIGSEGV"),
        (lambda chunk: os._exit(7), Outcome.FAILED, "exited with code 7"),
        (lambda chunk: sys.exit("enough"), Outcome.FAILED, "sys.exit('enough')"),
        (lambda chunk: os.kill(os.getpid(), signal.SIGKILL), Outcome.LOST, "SIGKILL"),
        (lambda chunk: (n for n in range(3)), Outcome.FAILED, "the result (generator) cannot be pickled"),
    ],
)
def test_crashes_exits_and_results_that_cannot_travel(
    bench: Bench, process: Callable[[Chunk], Any], outcome: Outcome, said: str
) -> None:
    seen = bench.run(process)
    assert seen.outcome is outcome
    assert said in seen.detail


def test_output_is_kept_and_the_end_of_standard_error_shown(bench: Bench) -> None:
    def talk(chunk: Chunk) -> None:
        print("out there")
        print("last words", file=sys.stderr)
        os._exit(3)

    seen = bench.run(talk)
    assert "last words" in seen.detail
    assert (bench.folder / "logs" / f"{seen.task.id}.err").read_text() == "last words\n"


def test_what_is_printed_counts_as_disk_and_is_cut_at_the_end(bench: Bench) -> None:
    def talk(chunk: Chunk) -> int:
        print("first words")
        while True:
            print("on and on" * 1000)

    seen = bench.run(talk, disk_mib=5)
    assert seen.outcome is Outcome.OUT_OF_DISK
    assert seen.usage is not None
    assert seen.usage.disk_mib is not None
    assert seen.usage.disk_mib > 5
    kept = (bench.folder / "logs" / f"{seen.task.id}.out").read_bytes()
    assert kept.startswith(b"first words\n")
    assert b" bytes are left out ..." in kept
    assert len(kept) <= 2**16


def test_logs_are_bounded_over_a_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shaper.engines.local.Logs", partial(Logs, most_bytes=3 * 4096))
    for _ in range(4):
        bench.run(lambda chunk: print("said"))
    assert [path.name for path in sorted((bench.folder / "logs").iterdir())] == ["1.2.out", "1.3.out", "1.4.out"]


def test_skipped_spans_travel(bench: Bench) -> None:
    seen = bench.run(lambda chunk: Skipped(None, chunk.spans, ("bad file",)))
    assert (seen.outcome, seen.skip_reasons, seen.result) == (Outcome.DONE, ("bad file",), None)
    assert [str(span) for span in seen.skipped] == ["a[1:2]"]


def test_functions_that_cannot_be_loaded_are_said_so_at_once(bench: Bench) -> None:
    broken = b"\x80\x04cno_such_module\nf\n."
    with pytest.raises(UserError, match="stage 's' cannot be loaded where tasks run: ModuleNotFoundError"):
        bench.engine.open("s", Code("s", broken, ""))


# -- merging and results -----------------------------------------------------------------------------------------------


def test_merges_hold_two_results_at_a_time(bench: Bench) -> None:
    bench.open(lambda chunk: bytes(touched(60)), lambda a, b: b)
    tasks = [bench.submit() for _ in range(8)]
    bench.ended(8)
    bench.submit(work=Merge(tuple(task.id for task in tasks), 8, 480 * MIB))
    (seen,) = bench.ended()
    assert seen.outcome is Outcome.DONE
    assert memory_of(seen) < 60 * 4 + 60


def test_a_merge_that_changes_the_type_is_refused(bench: Bench) -> None:
    bench.open(lambda chunk: {"n": 1}, lambda a, b: f"{a}{b}")
    tasks = [bench.submit() for _ in range(2)]
    bench.ended(2)
    bench.submit(work=Merge(tuple(task.id for task in tasks), 2, 100))
    (seen,) = bench.ended()
    assert seen.outcome is Outcome.FAILED
    assert seen.detail.startswith("merge(dict, dict) returned str: it must return what it takes")


def test_a_damaged_result_is_found_and_reported_lost(bench: Bench) -> None:
    bench.open(lambda chunk: [1, 2, 3])
    tasks = [bench.submit() for _ in range(2)]
    refs = {one.task.id: one.result for one in bench.ended(2)}
    path = bench.folder / "results" / f"{tasks[1].id}.pkl"
    path.write_bytes(path.read_bytes()[:-3] + b"xx.")
    with pytest.raises(Damaged):
        bench.engine.fetch(tasks[1].id)
    bench.submit(work=Merge((tasks[0].id, tasks[1].id), 2, 100))
    found: list[Any] = []
    while not any(isinstance(one, Observation) for one in found):
        found += bench.engine.wait(1.0)
    assert ResultLost((tasks[1].id,)) in found
    again = Local(cores=1, memory="1GB")
    again.run_dir = bench.folder
    assert list(again.adopt({k: v for k, v in refs.items() if v is not None})) == [tasks[1].id]
    again.close()
    bench.engine.run_dir = bench.folder


# -- packing, cancelling, dying ----------------------------------------------------------------------------------------


def test_memory_and_cores_are_packed(bench: Bench) -> None:
    def both(chunk: Chunk) -> tuple[float, float]:
        start = time.monotonic()
        time.sleep(0.3)
        return start, time.monotonic()

    bench.open(both)
    tasks = [bench.submit(memory_mib=2000) for _ in range(2)]
    bench.ended(2)
    (_, first_end), (second_start, _) = sorted(bench.engine.fetch(task.id) for task in tasks)  # type: ignore[type-var]
    assert second_start >= first_end


def test_a_task_that_can_never_fit_is_said_so(bench: Bench) -> None:
    bench.open(lambda chunk: 1)
    bench.submit(memory_mib=10_000)
    with pytest.raises(Stalled, match=r"asks for 1 cores and 9.8 GiB; this machine was given 2 cores and 2.8 GiB"):
        bench.engine.wait(1.0)


def test_cancelled_tasks_are_observed_once(bench: Bench) -> None:
    bench.open(lambda chunk: time.sleep(60))
    tasks = [bench.submit() for _ in range(3)]
    bench.engine.cancel([Cancel(task.id, "not needed") for task in tasks])
    assert [one.outcome for one in bench.ended(3)] == [Outcome.CANCELLED] * 3


def test_the_parent_of_all_tasks_is_started_again_when_it_is_killed(bench: Bench) -> None:
    bench.open(lambda chunk: chunk.elements)
    bench.submit()
    bench.ended()
    process = bench.engine._pool._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    outcomes = set()
    for _ in range(3):
        bench.submit()
        outcomes.add(bench.ended()[0].outcome)
    assert Outcome.DONE in outcomes


def test_an_engine_can_be_used_for_a_second_run(bench: Bench) -> None:
    assert bench.run(lambda chunk: 1).outcome is Outcome.DONE
    bench.engine.close()
    assert bench.run(lambda chunk: 2).outcome is Outcome.DONE
    assert bench.engine.fetch(f"1.{bench.number}") == 2
    process = bench.engine._pool._process
    assert process is not None
    bench.engine.close()
    assert process.poll() is not None


def test_a_lasting_engine_keeps_what_is_warm_and_nothing_that_runs(bench: Bench) -> None:
    bench.engine.lasting = True
    assert bench.run(lambda chunk: 1).outcome is Outcome.DONE
    process, before_s = bench.engine._pool._process, bench.engine.now_s
    bench.engine.close()
    assert bench.run(lambda chunk: 2).outcome is Outcome.DONE
    assert bench.engine._pool._process is process
    assert bench.engine.now_s < before_s
    bench.open(lambda chunk: time.sleep(600))
    bench.submit()
    bench.engine.close()
    assert process is not None
    assert process.poll() is not None


def test_modules_that_tasks_import_are_warm_afterwards(bench: Bench) -> None:
    def import_late(chunk: Chunk) -> bool:
        warm = "wave" in sys.modules
        import wave  # noqa: F401

        return warm

    bench.open(import_late)
    end = time.monotonic() + 30
    while True:
        task = bench.submit()
        bench.ended()
        if bench.engine.fetch(task.id):
            break
        assert time.monotonic() < end


def test_nothing_is_left_when_the_manager_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, time, shaper
            def process(chunk):
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(300)
                open("started", "w").close()
                time.sleep(300)
            shaper.run({"a": 100}, process=process, merge=max, cores=2, memory="1GB", progress=False)
            """
        )
    )
    manager = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        until(lambda: (tmp_path / "started").exists())
        below = descendants(manager.pid)
        assert len(below) >= 4
    finally:
        manager.kill()
        manager.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
