"""The engine of an executor stays open between its calls, and no longer than it should."""

from __future__ import annotations

import copy
import gc
import importlib
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("coffea", reason="the Coffea executor needs the coffea extra")

import numpy as np
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import Runner

from shaper.coffea import ShaperExecutor
from shaper.monitor.sample import children
from shaper.policy import Fixed
from tests.conftest import ROOT
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until


def parents(events):
    """The warm process that this call is a fork of a fork of."""
    supervisor = Path(f"/proc/{os.getppid()}/stat").read_text()
    return {"parents": {int(supervisor.rpartition(")")[2].split()[1])}, "events": len(events)}


def fails(events):
    raise RuntimeError("of the user")


@pytest.fixture(scope="module")
def fileset(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "one.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"n": np.arange(500)}
    return {"one": {"treename": "Events", "files": [str(path)]}}


@pytest.fixture
def executor(tmp_path):
    with ShaperExecutor(run_dir=tmp_path / "run", resume=False, cores=1, status=False) as made:
        yield made


def runner(executor):
    return Runner(executor, schema=BaseSchema, metadata_cache={})


def parent(executor, fileset):
    (found,) = runner(executor)(fileset, parents)["parents"]
    return found


def gone(pid):
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_processes_stay_from_preprocessing_to_processing_and_to_the_next_call(executor, fileset):
    before = set(children(os.getpid()))
    whole = runner(executor)
    list(whole.preprocess(fileset))
    (warm,) = set(children(os.getpid())) - before
    assert whole(fileset, parents) == {"parents": {warm}, "events": 500}
    assert parent(executor, fileset) == warm
    executor.close()
    gone(warm)
    assert parent(executor, fileset) != warm


def test_nothing_stays_when_nobody_refers_to_the_executor(fileset, tmp_path):
    executor = ShaperExecutor(run_dir=tmp_path / "run", cores=1, status=False)
    warm = parent(executor, fileset)
    del executor
    gc.collect()
    gone(warm)


def test_a_call_that_fails_ends_what_was_kept(executor, fileset):
    warm = parent(executor, fileset)
    with pytest.raises(Exception, match="of the user"):
        runner(executor)(fileset, fails)
    gone(warm)


class Interrupted(Fixed):
    def judge(self, seen, beliefs, capacity):
        raise KeyboardInterrupt


def test_a_call_that_is_interrupted_ends_what_was_kept(executor, fileset):
    warm = parent(executor, fileset)
    executor.policy = Interrupted(100)
    with pytest.raises(KeyboardInterrupt):
        runner(executor)(fileset, parents)
    gone(warm)


def test_a_call_finds_the_environment_and_the_modules_of_its_time(executor, fileset, tmp_path, monkeypatch):
    (tmp_path / "of_the_user.py").write_text("said = 'before'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OF_THE_USER", "before")
    module = importlib.import_module("of_the_user")

    def told(events):
        import of_the_user

        return {"told": {of_the_user.said, os.environ["OF_THE_USER"]}}

    assert runner(executor)(fileset, told)["told"] == {"before"}
    # Of another length: what was compiled in the same second is told by its size.
    (tmp_path / "of_the_user.py").write_text("said = 'afterwards'\n")
    importlib.reload(module)
    monkeypatch.setenv("OF_THE_USER", "afterwards")
    assert runner(executor)(fileset, told)["told"] == {"afterwards"}
    del sys.modules["of_the_user"]


def test_an_executor_takes_over_what_another_one_keeps(executor, fileset, tmp_path):
    warm = parent(executor, fileset)
    with ShaperExecutor(run_dir=tmp_path / "other", cores=1, status=False) as like_it:
        assert parent(like_it, fileset) == warm
        with ShaperExecutor(run_dir=tmp_path / "third", cores=2, status=False) as unlike_it:
            assert parent(unlike_it, fileset) != warm
            gone(warm)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda executor: pickle.loads(pickle.dumps(executor))])
def test_what_is_pickled_has_no_engine(executor, fileset, twin):
    warm = parent(executor, fileset)
    other = twin(executor)
    other.close()
    assert parent(executor, fileset) == warm
    assert other.shared.calls == {"preprocessing": 1, "processing": 1}


def script(text, *arguments):
    """Run a script that has what this module has; return the numbers it printed."""
    head = "import os, sys\nfrom tests.examples.test_coffea_kept import *\n"
    code = head + textwrap.dedent(text)
    words = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    assert done.returncode == 0
    return [int(line) for line in done.stdout.splitlines() if line.isdigit()]  # Work Queue prints, too


def test_nothing_is_left_when_the_interpreter_ends(fileset, tmp_path):
    (warm,) = script(
        """
        files = {"one": {"treename": "Events", "files": [sys.argv[1]]}}
        executor = ShaperExecutor(run_dir=sys.argv[2], cores=1, status=False)
        print(parent(executor, files))
        """,
        *fileset["one"]["files"],
        tmp_path / "run",
    )
    gone(warm)


@pytest.fixture(params=list(PROGRAMS))
def engine(request):
    needs_engine(request.param)
    return request.param


def test_workers_stay_connected(engine, fileset, tmp_path):
    """One that ends when its manager leaves outlives both calls of a Runner, and those of the next."""
    port = free_port()
    options = {"engine": engine, "port": port, "status": False, "cores": 1, "memory": 900}
    with Worker(PROGRAMS[engine], port, tmp_path) as worker, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPER_HOME", str(tmp_path / "home"))
        managers = tmp_path / "home" / "managers"
        with ShaperExecutor(run_dir=tmp_path / "run", resume=False, **options) as executor:
            first = runner(executor)(fileset, parents)
            assert runner(executor)(fileset, parents) == first
            with ShaperExecutor(run_dir=tmp_path / "other", **options) as other:
                assert runner(other)(fileset, parents) == first
                assert worker.process.poll() is None
                assert len(list(managers.glob("*.json"))) == 1
        until(lambda: worker.process.poll() is not None)
        assert not list(managers.glob("*.json"))


def test_workers_are_left_after_an_error(engine, fileset, tmp_path):
    port = free_port()
    executor = ShaperExecutor(
        engine=engine, port=port, run_dir=tmp_path / "run", status=False, cores=1, memory=900, retries=0
    )
    with Worker(PROGRAMS[engine], port, tmp_path) as worker:
        with pytest.raises(Exception, match="of the user"):
            runner(executor)(fileset, fails)
        until(lambda: worker.process.poll() is not None)


def test_a_port_is_free_for_an_executor_with_other_options(engine, fileset, tmp_path):
    port = free_port()
    options = {"engine": engine, "port": port, "status": False, "cores": 1, "memory": 900}
    with (
        Worker(PROGRAMS[engine], port, tmp_path, more=()),
        ShaperExecutor(run_dir=tmp_path / "run", **options) as executor,
        ShaperExecutor(run_dir=tmp_path / "other", manager_name="other", **options) as other,
    ):
        assert runner(executor)(fileset, parents)["events"] == 500
        assert runner(other)(fileset, parents)["events"] == 500


def test_a_fork_leaves_the_workers_to_its_parent(engine, fileset, tmp_path):
    port = free_port()
    with Worker(PROGRAMS[engine], port, tmp_path) as worker:
        said = script(
            """
            files = {"one": {"treename": "Events", "files": [sys.argv[1]]}}
            executor = ShaperExecutor(
                engine=sys.argv[3], port=int(sys.argv[4]), run_dir=sys.argv[2], status=False, cores=1, memory=900,
                resume=False,
            )
            print(parent(executor, files), flush=True)
            child = os.fork()
            if child == 0:
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(parent(executor, files))
            """,
            *fileset["one"]["files"],
            tmp_path / "run",
            engine,
            port,
        )
        assert said[0] == said[1]
        until(lambda: worker.process.poll() is not None)
