"""A coffea Runner on Work Queue and TaskVine, with the options of coffea's own executors."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("coffea", reason="the Coffea executor needs the coffea extra")

import numpy as np
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner

from shaper.api import engine_of
from shaper.coffea import ShaperExecutor, names
from shaper.errors import BadInput
from shaper.policy import Adaptive
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine


class Sums(ProcessorABC):
    def process(self, events):
        return {"events": len(events), "sum": int(np.sum(np.asarray(events.n)))}

    def postprocess(self, accumulator):
        return accumulator


@pytest.fixture(scope="module")
def fileset(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "one.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"n": np.arange(5000)}
    return {"one": {"treename": "Events", "files": [str(path)]}}


@pytest.mark.parametrize("engine", ["workqueue", "taskvine"])
def test_the_same_analysis_runs_on_a_batch_system(fileset, tmp_path, engine):
    needs_engine(engine)
    port = free_port()
    executor = ShaperExecutor(
        engine=engine,
        port=port,
        memory=900,
        cores=1,
        retries=2,
        treereduction=4,
        run_dir=tmp_path / "run",
        status=False,
    )
    with Worker(PROGRAMS[engine], port, tmp_path, memory_mib=3000, more=()):
        found = Runner(executor, schema=BaseSchema, savemetrics=False)(fileset, Sums())
    expected = Runner(IterativeExecutor(status=False), schema=BaseSchema)(fileset, Sums())
    assert found == expected == {"events": 5000, "sum": sum(range(5000))}


def test_options_of_coffeas_executors_have_their_meaning_or_a_warning():
    needs_engine("workqueue")
    # As the TopEFT analysis configures its Work Queue executor.
    options: dict[str, Any] = {
        "manager_name": "user-workqueue-coffea",
        "port": [9123, 9130],
        "debug_log": "debug.log",
        "environment_file": "env.tar.gz",
        "extra_input_files": ["topeft.py"],
        "retries": 15,
        "compression": 9,
        "resource_monitor": "measure",
        "resources_mode": "auto",
        "filepath": "/tmp/of-the-user",
        "fast_terminate_workers": 0,
        "verbose": True,
        "print_stdout": False,
        "dynamic_chunksize": {"wall_time": 120},
        "cores": 2,
        "memory": 8000,
    }
    with pytest.warns(UserWarning, match="changes nothing here") as said:
        executor = ShaperExecutor(engine="workqueue", **options)
    named = {str(one.message).split()[1].partition("=")[0] for one in said}
    assert named == {"debug_log", "filepath", "verbose"}
    assert isinstance(executor.policy, Adaptive)
    assert executor.policy.settings.retries == 15
    assert executor.policy.settings.cores == 2
    assert executor.policy.settings.cap_mib == 8000
    assert executor.policy.settings.target_wall_s == 120
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copied = executor.copy(desc="Preprocessing")
    assert (copied.port, copied.policy) == ([9123, 9130], executor.policy)
    given = names.engine_options(copied) | {"environment": None, "extra_input_files": ()}
    assert engine_of("workqueue", given).port == (9123, 9130)  # type: ignore[attr-defined]


def test_port_0_and_no_password_are_what_they_say_and_no_encryption_is_said():
    needs_engine("workqueue")
    with pytest.warns(UserWarning, match="ssl: Work Queue encrypts nothing"):
        executor = ShaperExecutor(engine="workqueue", port=0, password_file=False, ssl=True)
    given = names.engine_options(executor)
    assert (given["port"], given["password_file"]) == (0, False)
    assert "ssl" not in given
    engine = engine_of("workqueue", given)
    assert (engine.port, engine.password_file) == (0, None)  # type: ignore[attr-defined]


class Looks(Sums):
    """Says what it finds of what should travel."""

    def process(self, events):
        proxy, file = Path(os.environ["X509_USER_PROXY"]), Path("topeft.json")
        return super().process(events) | {"found": {f"{proxy.read_text()} {file.read_text()} {sys.prefix}"}}


@pytest.mark.parametrize("engine", ["workqueue", "taskvine"])
def test_files_of_coffeas_options_travel(fileset, tmp_path, engine, monkeypatch):
    needs_engine(engine)
    port = free_port()
    (tmp_path / "topeft.json").write_text("corrections")
    (tmp_path / "proxy").write_text("key")
    (tmp_path / "proxy").chmod(0o600)
    # As for coffea's executor, the proxy that is there need not be named.
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "proxy"))
    executor = ShaperExecutor(
        engine=engine,
        port=port,
        extra_input_files=[str(tmp_path / "topeft.json")],
        run_dir=tmp_path / "run",
        status=False,
    )
    given = {**os.environ, "X509_USER_PROXY": "/nowhere"}
    with Worker(PROGRAMS[engine], port, tmp_path, memory_mib=3000, more=(), environment=given):
        found = Runner(executor, schema=BaseSchema, savemetrics=False)(fileset, Looks())
    assert found["events"] == 5000
    assert found["found"] == {f"key corrections {sys.prefix}"}


def test_an_environment_file_goes_to_the_engine(fileset, tmp_path):
    needs_engine("workqueue")
    executor = ShaperExecutor(
        engine="workqueue", environment_file=str(tmp_path / "env.tar.gz"), run_dir=tmp_path / "run", status=False
    )
    with pytest.raises(BadInput, match=r"environment .*env.tar.gz cannot be read"):
        Runner(executor, schema=BaseSchema)(fileset, Sums())


def test_options_of_batch_systems_are_refused_on_the_local_engine(fileset):
    with pytest.raises(BadInput, match="port: only for engine='workqueue' or 'taskvine'"):
        Runner(ShaperExecutor(port=9123, status=False), schema=BaseSchema)(fileset, Sums())
