"""A coffea Runner whose files lie behind an XRootD server, on every engine that runs functions."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

pytest.importorskip("coffea", reason="the Coffea executor needs the coffea extra")

import numpy as np
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner

from shaper.coffea import ShaperExecutor
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine
from tests.engines.xrootd import needs_xrootd, serving

EVENTS = {"one": (3000, 1700), "two": (900,)}


class Sums(ProcessorABC):
    def process(self, events):
        return {events.metadata["dataset"]: np.array([len(events), np.sum(np.asarray(events.n))])}

    def postprocess(self, accumulator):
        return accumulator


@pytest.mark.parametrize("engine", ["local", "workqueue", "taskvine"])
def test_files_behind_a_server_give_the_same(engine, tmp_path):
    needs_xrootd()
    options = {"cores": 2, "memory": 3000}
    with serving() as server, ExitStack() as stack:
        if engine != "local":
            needs_engine(engine)
            port = free_port()
            stack.enter_context(Worker(PROGRAMS[engine], port, tmp_path, more=()))
            options = {"port": port, "memory": 900}
        here, there = {}, {}
        for dataset, sizes in EVENTS.items():
            names = [f"{dataset}_{number}.root" for number in range(len(sizes))]
            for name, size in zip(names, sizes, strict=True):
                with uproot.recreate(server.folder / name) as file:
                    file["Events"] = {"n": np.arange(size)}
            here[dataset] = {"treename": "Events", "files": [str(server.folder / name) for name in names]}
            there[dataset] = {"treename": "Events", "files": [server.url(name) for name in names]}
        server.start()
        executor = ShaperExecutor(engine=engine, run_dir=tmp_path / "run", status=False, **options)
        found = Runner(executor, schema=BaseSchema, savemetrics=False)(there, Sums())
        expected = Runner(IterativeExecutor(status=False), schema=BaseSchema)(here, Sums())
    assert {name: list(value) for name, value in found.items()} == {
        name: list(value) for name, value in expected.items()
    }
    assert {name: value[0] for name, value in found.items()} == {name: sum(sizes) for name, sizes in EVENTS.items()}
