"""Hosts on which nothing can run, beside one that works: here hosts are names, and what is missing is mounted over."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

from shaper.engines.batch import Batch
from shaper.errors import SiteError
from shaper.types import Code, Outcome
from tests.conftest import needs
from tests.engines.test_batch import MAKERS, add, behave, connected, seen, task
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until


@pytest.fixture(params=list(MAKERS))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Batch]:
    """One whose workers run `tmp_path/there/python`."""
    needs_engine(request.param)
    needs(os.geteuid() == 0, "root, for a host without Python")
    (tmp_path / "there").mkdir()
    python = tmp_path / "there" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    opened = MAKERS[request.param](port=free_port(), python=str(python))
    opened.run_dir = tmp_path / "run"
    opened.run_dir.mkdir()
    cloudpickle.register_pickle_by_value(sys.modules["tests.engines.test_batch"])
    opened.open("s", Code("s", cloudpickle.dumps((behave, add)), "f"))
    yield opened
    opened.close()


def sick(engine: Batch, folder: Path, host: str) -> Worker:
    (folder / "nothing").mkdir()
    # Workers of Debian 12 whose host's name means nothing to itself send another that is none.
    (folder / "hosts").write_text(f"127.0.0.1 localhost {host}\n")
    hidden = (
        'mount --make-rprivate / 2>&-; hostname "$1" && mount --bind "$2/hosts" /etc/hosts && '
        'mount --bind "$2/nothing" "$2/there" && shift 2 && exec "$@"'
    )
    under = ("unshare", "--uts", "--mount", "--propagation", "unchanged", "sh", "-c", hidden, "sh", host, str(folder))
    return Worker(PROGRAMS[engine.name], engine.system.port, folder, cores=1, under=under)


def test_a_host_without_the_python_is_named_and_the_others_do_its_work(engine: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def wait_for_the_gate() -> int:
        until(gate.exists)
        return 1

    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path, cores=1) as well:
        connected(engine)
        engine.submit(task(1))
        assert seen(engine, 1)[0].outcome is Outcome.DONE
        engine.submit(task(2, wait_for_the_gate))
        until(lambda: engine.wait(0.1) == [] and not engine.capacity().waiting)
        with sick(engine, tmp_path, "other-host") as other:
            until(lambda: engine.wait(0.1) == [] and sum(kind.count for kind in engine.capacity().kinds) == 2)
            engine.submit(task(3))
            with pytest.warns(UserWarning, match=r"^other-host gets no more tasks.*has no such Python"):
                (lost,) = seen(engine, 1)
            # The only free slot is there: what is sent now would come back at once.
            engine.submit(task(4))
            for _ in range(3):
                assert engine.wait(0.1) == []
            gate.touch()
            done = seen(engine, 2)
            assert other.process.poll() is None
        assert well.process.poll() is None
    assert (lost.task.id, lost.outcome) == ("1.3", Outcome.LOST)
    assert lost.detail.startswith("worker other-host/")
    assert {(one.task.id, one.outcome) for one in done} == {("1.2", Outcome.DONE), ("1.4", Outcome.DONE)}


def test_a_sick_worker_on_the_host_of_good_ones_is_an_error(engine: Batch, tmp_path: Path) -> None:
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path, cores=1):
        connected(engine)
        engine.submit(task(1))
        assert seen(engine, 1)[0].outcome is Outcome.DONE
        engine.submit(task(2, signal.pause))
        until(lambda: engine.wait(0.1) == [] and not engine.capacity().waiting)
        with sick(engine, tmp_path, os.uname().nodename):
            until(lambda: engine.wait(0.1) == [] and sum(kind.count for kind in engine.capacity().kinds) == 2)
            engine.submit(task(3))
            with pytest.raises(SiteError, match="has no such Python"):
                until(lambda: engine.wait(0.5))
