"""`shaper workers start --min --max` for a manager with several jobs: workers come for the sum of what these want."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.test_scaling import SMALL, bench
from tests.engines.workers import until

# Two jobs of a few tasks each, that last until the test says so: neither fills four workers alone.
SCRIPT = """
import sys
from shaper import Manager
from shaper.policy import Fixed
from shaper.types import Resources

gate = sys.argv[3] + "/gate"

def process(chunk):
    import os, time
    while not os.path.exists(gate):
        time.sleep(0.05)
    return chunk.elements

policy = lambda: Fixed(1, Resources(1, 100))
with Manager(sys.argv[1], port=int(sys.argv[2]), policy=policy, run_dir="run") as manager:
    jobs = [manager.submit({"a": int(sys.argv[4])}, process=process, merge=lambda a, b: a + b) for _ in range(2)]
    print("values", [job.result().value for job in jobs])
"""


@pytest.mark.parametrize("engine", ["workqueue", "taskvine"])
def test_workers_come_for_all_jobs_of_a_manager(tmp_path: Path, engine: str) -> None:
    with bench(tmp_path, engine) as here:
        (tmp_path / "script.py").write_text(SCRIPT)
        run = here.run(2)
        scaler = here.scale("--min", "1", "--max", "9", *SMALL, "--hold", "3s", "--patience", "2s")
        until(lambda: 4 in here.counts("running") or scaler.poll() is not None)
        (tmp_path / "gate").touch()
        assert run.wait(60) == 0
        assert here.said("run.out").splitlines()[-1] == "values [2, 2]"
        assert scaler.wait(60) == 0
        assert max(here.counts("running")) == 4
