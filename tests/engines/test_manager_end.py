"""Jobs of a manager that closes, breaks or is left: each ends, or is refused; and what a job hears of lost results."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shaper import Job, Manager
from shaper.engines.hub import Hub
from shaper.engines.shared import Share
from shaper.errors import BadInput, Broken
from shaper.policy import Adaptive
from shaper.types import Capacity, ResultLost
from tests.conftest import ROOT
from tests.engines.test_manager_submit import WAIT_S, ended, virtual


def test_a_job_that_is_handed_in_while_the_manager_closes_is_refused_or_ends() -> None:
    for _ in range(3):
        manager, found, closing = virtual(), list[Job | BadInput](), threading.Event()

        def submit(manager: Manager = manager, found: Any = found, closing: threading.Event = closing) -> None:
            while not found or isinstance(found[-1], Job):
                try:
                    found.append(manager.submit({"x": 10}))
                except BadInput as error:
                    found.append(error)
                if len(found) > 3:
                    closing.set()

        thread = threading.Thread(target=submit, daemon=True)
        thread.start()
        assert closing.wait(WAIT_S)
        ended(manager.close)
        thread.join(WAIT_S)
        *jobs, refusal = found
        assert isinstance(refusal, BadInput)
        assert "the manager is closed" in str(refusal)
        assert [job.result(WAIT_S).value for job in jobs if isinstance(job, Job)] == [10] * len(jobs)


def test_a_manager_that_is_closed_while_a_job_is_made_refuses_it() -> None:
    def policy() -> Adaptive:
        ended(manager.close)
        return Adaptive()

    manager = virtual(policy=policy)
    with pytest.raises(BadInput, match="the manager is closed"):
        manager.submit({"x": 10})
    assert not manager.jobs


def test_an_error_in_sharing_out_fails_all_jobs_with_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = virtual()
    jobs = [manager.submit({"x": 1000}), manager.submit({"x": 1000}), manager.submit({"x": 1000}, at_s=50.0)]

    def broken(*_: object) -> None:
        raise TypeError("no such thing")

    monkeypatch.setattr("shaper.manager.budgets", broken)
    for job in jobs:
        with pytest.raises(Broken, match=r"could not be shared out among the jobs \(TypeError: no such thing\)"):
            job.result(WAIT_S)
    with pytest.raises(Broken):
        manager.submit({"x": 10})
    ended(manager.close)


def test_a_job_for_which_there_is_no_thread_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Share.begin

    def refuse(share: Share, work: Callable[[], None]) -> None:
        if share.run == "one":
            raise RuntimeError("can't start new thread")
        begin(share, work)

    monkeypatch.setattr(Share, "begin", refuse)
    with virtual() as manager:
        one, other = manager.submit({"x": 1000}, name="one"), manager.submit({"x": 1000})
        with pytest.raises(Exception, match="no thread can be started for job 'one'"):
            one.result(WAIT_S)
        assert other.result(WAIT_S).value == 1000


UNCLOSED = """
import threading, time
import shaper

def process(chunk):
    time.sleep(0.01 * chunk.elements)
    return chunk.elements

def merge(a, b):
    return a + b

manager = shaper.Manager(cores=1, memory=800, run_dir={run_dir!r}, history=False)
manager.submit({{"x": 3}}, process=process, merge=merge).result()
{more}
"""


@pytest.mark.parametrize("runs", [False, True])
def test_a_program_that_ends_without_close_says_so_where_jobs_run(runs: bool, tmp_path: Path) -> None:
    more = """job = manager.submit({"x": 10**9}, process=process, merge=merge)
while not job.progress.done: time.sleep(0.05)"""
    script = UNCLOSED.format(run_dir=str(tmp_path / "m"), more=more if runs else "")
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)
    assert found.returncode == 0
    said = (
        "shaper: the manager was not closed, and 1 of its jobs had not ended; what is done is kept in "
        f"{tmp_path / 'm'}: use `with shaper.Manager(...)`, or call close()\n"
    )
    assert found.stderr == (said if runs else "")
    assert not (tmp_path / "m" / "sandbox").exists()


# -- results that are lost -------------------------------------------------------------------------------------------


def test_a_job_hears_of_no_lost_results_of_one_whose_name_begins_like_its_own() -> None:
    class Losing:
        name, now_s = "simulated", 0.0

        def wait(self, timeout_s: float) -> list[ResultLost]:
            return [ResultLost(("a.1.1", "a.b.1.2"))]

        def capacity(self) -> Capacity:
            return Capacity(())

    engine: Any = Losing()
    hub = Hub(engine, lambda shares, capacity: None, lambda shares, capacity: None)
    shares = {name: Share(hub, name) for name in ("a", "a.b")}
    hub._shares.update(shares)
    hub._hear()
    assert shares["a"]._found == [ResultLost(("1.1",))]
    assert shares["a.b"]._found == [ResultLost(("1.2",))]
