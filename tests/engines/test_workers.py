"""`shaper workers`, with real managers, workers and scripts."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shaper.errors import BadInput, SiteError
from shaper.workers import BATCHES, Plan, Site, command, script
from shaper.workers.pool import Pool
from shaper.workers.watch import Watched, ended
from tests.conftest import ROOT
from tests.engines.workers import free_port, needs_engine, until

SCRIPT = """
import sys
import shaper
result = shaper.run({"a": 3000}, process=lambda chunk: chunk.elements, merge=lambda a, b: a + b,
                    engine="workqueue", port=int(sys.argv[1]), run_dir=sys.argv[2])
print(result.value)
"""


def test_workers_are_started_for_the_manager_that_runs_and_ended(tmp_path: Path) -> None:
    needs_engine("workqueue")
    environment = {**os.environ, "SHAPER_HOME": str(tmp_path / "home")}
    environment.pop("SHAPER_PASSWORD_FILE", None)  # the one that is made by default

    def shaper_workers(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shaper", "workers", *words],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    nobody = shaper_workers("start")
    assert (nobody.returncode, nobody.stderr) == (
        2,
        "shaper: no manager runs on this account: start the analysis first, or give --manager HOST:PORT\n",
    )
    (tmp_path / "script.py").write_text(SCRIPT)
    port = free_port()
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(
            [sys.executable, "script.py", str(port), "run"], env=environment, cwd=tmp_path, stdout=said, stderr=said
        )
        try:
            until(lambda: list((tmp_path / "home").glob("managers/*.json")) or run.poll() is not None)
            started = shaper_workers("start", "--count", "2", "--cores", "1", "--memory", "500MiB")
            assert started.returncode == 0, started.stderr
            assert started.stderr.startswith("started 2 workers of 1 cores and 500 MiB for ")
            assert "workers: 2 x 1 cores 500 MiB (local)" in shaper_workers("status").stdout
            assert run.wait(60) == 0, (tmp_path / "said").read_text()
        finally:
            if run.poll() is None:
                run.kill()
                run.wait()
            ended = shaper_workers("stop")
    assert ended.stderr == "ended 2 workers\n"
    assert "3000" in (tmp_path / "said").read_text()
    assert ((tmp_path / "home" / "password").stat().st_mode & 0o777) == 0o600
    assert shaper_workers("status").stderr == "no managers and no workers\n"


def tarball(folder: Path) -> Path:
    (folder / "environment.tar.gz").write_text("no tarball")
    return folder / "environment.tar.gz"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (lambda folder: ("--password-file", str(folder / "none")), "couldn't load password from .*/none: No such file"),
        (lambda folder: ("--environment", str(tarball(folder))), "not in gzip format"),
        (lambda folder: ("--job-script-prologue", "exit 7"), "exit code 7"),
    ],
)
def test_local_workers_that_end_at_once_are_named(
    options: Callable[[Path], tuple[str, ...]], said: str, tmp_path: Path
) -> None:
    needs_engine("workqueue")
    words = ["--manager", f"localhost:{free_port()}", "--engine", "workqueue", "--count", "2", *options(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "shaper", "workers", "start", *words],
        env={**os.environ, "SHAPER_HOME": str(tmp_path / "home")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert re.fullmatch(
        rf"shaper: 2 of 2 workers ended as soon as they were started: .*{said}.*\n", done.stderr.replace(" | ", " ")
    ), done.stderr
    assert not Pool.all(tmp_path / "home" / "workers")


def test_a_worker_that_lives_is_not_waited_for(tmp_path: Path) -> None:
    needs_engine("workqueue")
    pool = Pool(f"localhost:{free_port()}", tmp_path)
    watched: list[Watched] = []
    pool.start(Plan("workqueue", pool.manager), 1, watched)
    try:
        assert ended(watched, most_s=300.0) == []
        assert watched[0].up
    finally:
        assert pool.stop() == 1
        for one in watched:
            one.process.wait()
            one.output.close()


@pytest.mark.parametrize("batch", BATCHES)
def test_every_batch_system_gets_cores_memory_and_the_command(batch: str) -> None:
    site = Site("long", "physics", "04:00:00", ("--extra=1",), ("module load python",))
    plan = Plan("workqueue", "head:9123", batch, 4, 8000, password_file=Path("/home/user/secret file"), site=site)
    words = command(plan)
    assert words[:5] == ["work_queue_worker", "--cores", "4", "--memory", "8000"]
    assert words[-2:] == ["head", "9123"]
    text = script(plan)
    assert "'/home/user/secret file'" in text.replace("''", "'")
    assert "module load python" in text
    wanted = {
        "slurm": ["--cpus-per-task=4", "--mem=8000M", "--partition=long", "--account=physics", "--time=04:00:00"],
        "pbs": ["select=1:ncpus=4:mem=8000MB", "-q long", "-A physics", "walltime=04:00:00"],
        "sge": ["-pe smp 4", "h_vmem=2000M", "-q long", "-P physics", "h_rt=04:00:00"],
        "condor": ["request_cpus = 4", "request_memory = 8000", "accounting_group = physics", "+MaxRuntime = 14400"],
    }.get(batch, [])
    assert all(line in text for line in wanted)
    assert ("--extra=1" in text) == (batch != "local")


@pytest.mark.parametrize("text", ["long\n#SBATCH --exclusive", "long\r", "long\n", "long\x0bshort"])
@pytest.mark.parametrize("option", [field.name for field in dataclasses.fields(Site)])
def test_an_option_of_several_lines_is_refused(option: str, text: str) -> None:
    given = ("fine", text) if option.startswith("job_") else text
    with pytest.raises(BadInput, match=f"^{option} must be one line, got [^\n]*$"):
        Site(**{option: given})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["manager", "password_file", "environment"])
def test_a_path_or_an_address_of_several_lines_is_refused(option: str) -> None:
    wrong = "a\nb:9123" if option == "manager" else Path("/home/user/a\nb")
    options: dict[str, object] = {"engine": "taskvine", "manager": "head:9123", option: wrong}
    with pytest.raises(BadInput, match=f"^{option} must be one line"):
        Plan(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"engine": "slurm"}, "has no workers"),
        ({"batch": "lsf"}, "is not known: use local"),
        ({"manager": "head:port"}, "neither HOST:PORT nor a name"),
        ({"cores": 0}, "at least 1 core"),
        ({"manager": ""}, "neither HOST:PORT nor a name"),
        ({"manager": ":9123"}, "neither HOST:PORT nor a name"),
        ({"manager": "head:70000"}, "neither HOST:PORT nor a name"),
        ({"idle_s": 0}, "after a second"),
        ({"site": Site(local_directory="/tmp/of the user")}, "directory with blanks"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    options: dict[str, object] = {"engine": "taskvine", "manager": "head:9123", **wrong}
    with pytest.raises(BadInput, match=said):
        Plan(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["{", "[]", '{"manager": "head:9123", "workers": [{"no": 1}]}'])
def test_a_pool_that_cannot_be_read_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "head-9123.json").write_text(content)
    with pytest.raises(SiteError, match=r"head-9123\.json cannot be read .*: remove it"):
        Pool.all(tmp_path)


def test_workers_do_not_start_in_a_directory_that_is_not_there(tmp_path: Path) -> None:
    needs_engine("workqueue")
    plan = Plan("workqueue", "head:9123", site=Site(local_directory=str(tmp_path / "none")))
    with pytest.raises(SiteError, match="it is no directory"):
        Pool("head:9123", tmp_path).start(plan, 1)
