"""The genome examples on Work Queue and TaskVine: stages that wait for others, programs and their caches on workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.alignment import __main__ as alignment
from examples.genome.__main__ import main as genome
from tests.conftest import needs
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine
from tests.examples.test_alignment import needs_tools


@pytest.mark.parametrize("engine", ["workqueue", "taskvine"])
def test_the_workflow_runs_on_a_batch_system(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_engine(engine)
    port = free_port()
    small = ["--variants", "300", "--chromosomes", "1", "--samples", "60", "--annotated", "0.3", "--draw", "5"]
    small += ["--runs", "5", "--no-measure", "--data", str(tmp_path / "data"), "--out", str(tmp_path)]
    with Worker(PROGRAMS[engine], port, tmp_path, memory_mib=3000, more=()):
        assert genome([*small, "--engine", engine, "--port", str(port), "--run-dir", str(tmp_path / "run")]) == 0
    assert "300 variants of 60 people" in capsys.readouterr().err


def test_reads_are_aligned_by_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_engine("workqueue")
    needs_tools()
    needs(alignment.GASIC.is_dir(), "real genomes (as root: apt-get install gasic-examples)")
    monkeypatch.setenv("SHAPER_ALIGNMENT_CACHE", str(tmp_path / "cache"))
    port = free_port()
    source = alignment.GASIC / "genomes" / "dwv.fasta.gz"
    options = ["--simulate", "500", "--genome", str(source), "--check", "--out", str(tmp_path)]
    with Worker(PROGRAMS["workqueue"], port, tmp_path, memory_mib=3000, more=()):
        run = ["--engine", "workqueue", "--port", str(port), "--run-dir", str(tmp_path / "run")]
        assert alignment.main([*options, *run]) == 0
    assert "records are those of one run of bwa" in capsys.readouterr().out
