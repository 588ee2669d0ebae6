"""Environments delivered to real workers that have no other: `only_there` is in the packed one alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from shaper.engines import TaskVine, WorkQueue
from shaper.engines import password as passwords
from shaper.engines.batch import Batch
from shaper.errors import BadInput, SiteError
from shaper.types import Cancel, Chunk, Code, Observation, Outcome, Resources, Source, Span, Task
from shaper.workers import Plan, Site, script
from tests.conftest import ROOT, needs
from tests.engines.batch_chaos import servers
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until
from tests.environment.test_pack import tarball_of

MAKERS: dict[str, type[Batch]] = {"workqueue": WorkQueue, "taskvine": TaskVine}
TASKS = 6
ROOTS = tuple({sys.prefix, sysconfig.get_path("purelib")})


def act(chunk: Chunk) -> Any:
    action = chunk.spans[0].source.payload
    return action() if callable(action) else chunk.elements


def add(a: int, b: int) -> int:
    return a + b


def where() -> tuple[int, str]:
    """What only the packed environment has, and where it lies."""
    import only_there

    # Nothing of the manager's environment may be looked into, though it is on this machine too. (No `assert`: pytest's
    # is its own, and does not travel.)
    foreign = [path for path in sys.path for root in ROOTS if path.startswith(f"{root}/")]
    if foreign:
        raise RuntimeError(f"looks into {foreign}")
    return only_there.VALUE, sys.prefix


@pytest.fixture(params=list(MAKERS))
def name(request: pytest.FixtureRequest) -> str:
    needs_engine(request.param)
    return str(request.param)


@pytest.fixture
def engines(name: str, tmp_path: Path) -> Iterator[Any]:
    """Makes engines, and closes them."""
    made: list[Batch] = []
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def make(**options: Any) -> Batch:
        engine = MAKERS[name](port=free_port(), **options)
        made.append(engine)
        engine.run_dir = tmp_path / f"run-{len(made)}"
        engine.run_dir.mkdir()
        engine.open("s", Code("s", cloudpickle.dumps((act, add)), "f"))
        return engine

    yield make
    for engine in made:
        engine.close()


def program(folder: Path, name: str, text: str) -> Path:
    """A directory for the PATH with one program."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}")
    (folder / name).chmod(0o755)
    return folder


def empty_handed(engine: Batch, folder: Path, tar: str = "") -> Worker:
    """A worker that knows nothing of this process's Python; `tar` is run before each unpacking, as shell lines."""
    counted = f'echo "$$" >> {folder}/unpackings\n{tar}\nexec {shutil.which("tar")} "$@"\n'
    tools = program(folder / "tools", "tar", counted)
    given = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(folder / "nobody"), "PYTHONPATH": "/nowhere"}
    return Worker(PROGRAMS[engine.name], engine.system.port, folder, environment=given)


def unpackings(folder: Path) -> int:
    log = folder / "unpackings"
    return len(log.read_text().splitlines()) if log.exists() else 0


def task(number: int, action: Any = where) -> Task:
    work = Chunk((Span(Source(f"source-{number}", 10, payload=action), 0, 10),))
    return Task(f"1.{number}", "s", "", "c", work, Resources(1, 400))


def seen(engine: Batch, count: int) -> list[Observation]:
    found: list[Observation] = []

    def enough() -> bool:
        found.extend(one for one in engine.wait(0.5) if isinstance(one, Observation))
        return len(found) >= count

    until(enough, 180)
    return found


def ask(engine: Batch, count: int = 1, action: Any = where) -> list[Any]:
    """What so many tasks return."""
    for number in range(1, count + 1):
        engine.submit(task(number, action))
    for one in seen(engine, count):
        assert one.outcome is Outcome.DONE, one.detail
    return [engine.fetch(f"1.{number}") for number in range(1, count + 1)]


def left(folder: Path) -> list[Path]:
    """Environments and homes of servers on a worker's disk."""
    return [path for path in below(folder) if path.name.startswith(("shaper-environment-", "shaper-server-"))]


def below(folder: Path) -> list[Path]:
    """All that lies there, while a worker may be removing it."""
    return [Path(root, name) for root, folders, files in os.walk(folder) for name in folders + files]


# -- the four modes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_unpacks_it_once_for_all_its_tasks_and_leaves_nothing(
    engines: Any, packed: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    engine = engines(environment=packed)
    with empty_handed(engine, tmp_path) as worker:
        answers = ask(engine, TASKS)
        assert unpackings(tmp_path) == 1
        assert {value for value, _ in answers} == {42}
        (prefix,) = {prefix for _, prefix in answers}
        assert Path(prefix).is_relative_to(worker.folder)
        assert len(servers(worker.folder)) == 1
        worker.send(ending)
        worker.process.wait()
        until(lambda: not servers(worker.folder) and not left(worker.folder))


def test_a_second_server_of_the_worker_uses_what_the_first_has_unpacked(
    engines: Any, packed: Path, tmp_path: Path
) -> None:
    engine = engines(environment=packed)
    with empty_handed(engine, tmp_path) as worker:
        first = ask(engine)
        engine._shipping._tag += "2"  # as where modules have changed
        engine.submit(task(2))
        (one,) = seen(engine, 1)
        assert one.outcome is Outcome.DONE
        assert [engine.fetch("1.2")] == first
        assert unpackings(tmp_path) == 1
        assert len(servers(worker.folder)) == 2


def test_a_task_can_unpack_its_own_and_nothing_outlives_it(engines: Any, packed: Path, tmp_path: Path) -> None:
    engine = engines(environment=packed, delivery="task")
    with empty_handed(engine, tmp_path) as worker:
        answers = ask(engine, 3)
        assert unpackings(tmp_path) == 3
        assert {value for value, _ in answers} == {42}
        assert len({prefix for _, prefix in answers}) == 3
        assert servers(worker.folder) == []
        until(lambda: not any(Path(prefix).exists() for _, prefix in answers))


@pytest.mark.parametrize("fault", ["taken back", "worker killed"])
def test_a_task_that_unpacks_its_own_takes_its_call_along(
    engines: Any, packed: Path, tmp_path: Path, fault: str
) -> None:
    mark = tmp_path / "running"

    def wait_for_the_end() -> None:
        mark.write_text(str(os.getpid()))
        signal.pause()

    engine = engines(environment=packed, delivery="task")
    with empty_handed(engine, tmp_path) as worker:
        engine.submit(task(1, wait_for_the_end))
        until(lambda: engine.wait(0.1) == [] and mark.exists() and mark.read_text())
        if fault == "taken back":
            engine.cancel([Cancel("1.1", "no more")])
        else:
            worker.end()
        until(lambda: engine.wait(0.1) is not None and not Path(f"/proc/{mark.read_text()}").exists())


def test_workers_can_be_started_inside_it(engines: Any, packed: Path, tmp_path: Path) -> None:
    engine = engines(environment=packed, delivery="factory")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    plan = Plan(
        engine.name,
        f"localhost:{engine.system.port}",
        cores=2,
        memory_mib=2000,
        disk_mib=4000,
        password_file=passwords.of(),
        site=Site(local_directory=str(scratch)),
        environment=packed,
    )
    given = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "nobody")}
    worker = subprocess.Popen(["/bin/sh", "-c", script(plan)], env=given, start_new_session=True)
    try:
        answers = ask(engine, TASKS)
        assert {value for value, _ in answers} == {42}
        (prefix,) = {prefix for _, prefix in answers}
        assert Path(prefix).parent == scratch
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait()
    until(lambda: not servers(scratch))
    assert not left(scratch)


def test_shaper_workers_start_takes_the_environment_of_the_manager(
    engines: Any, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPER_HOME", str(tmp_path / "home"))
    engine = engines(environment=packed, delivery="factory")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def shaper_workers(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "shaper", "workers", *words], cwd=ROOT, check=True, timeout=300)

    shaper_workers("start", "--cores=2", "--memory=1GB", f"--local-directory={scratch}")
    try:
        ((value, prefix),) = ask(engine)
        assert (value, Path(prefix).parent) == (42, scratch)
    finally:
        shaper_workers("stop")
    until(lambda: not servers(scratch) and not left(scratch))


def test_a_worker_that_was_not_started_inside_it_is_named(engines: Any, packed: Path, tmp_path: Path) -> None:
    engine = engines(environment=packed, delivery="factory")
    tools = program(tmp_path / "tools", "python3", "echo python3: no such thing >&2; exit 127\n")
    given = {"PATH": f"{tools}:/usr/bin:/bin"}
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path, environment=given):
        engine.submit(task(1))
        with pytest.raises(SiteError, match=r"has no such Python: .*no such thing.*shaper workers start --environment"):
            until(lambda: engine.wait(0.5))


def test_on_a_shared_file_system_workers_run_it_where_it_lies(engines: Any, packed: Path, tmp_path: Path) -> None:
    lies = packed.with_name("environment")
    engine = engines(python=str(lies / "bin" / "python3"))
    with empty_handed(engine, tmp_path):
        assert ask(engine) == [(42, str(lies))]
        assert unpackings(tmp_path) == 0


SCRIPT = """
import sys
import shaper

def process(chunk):
    import only_there
    return only_there.VALUE * chunk.elements

result = shaper.run({"a": 3000}, process=process, merge=lambda a, b: a + b, engine=sys.argv[1], port=int(sys.argv[2]),
                    environment="pack", run_dir=sys.argv[3], progress=False)
print(result.value)
"""


def test_the_environment_that_runs_a_script_is_packed_and_travels(name: str, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    port = free_port()
    given = {**os.environ, "PYTHONPATH": str(ROOT), "SHAPER_HOME": str(tmp_path / "home")}
    python = packed.with_name("environment") / "bin" / "python3"
    words = [python, tmp_path / "script.py", name, str(port), tmp_path / "run"]
    tools = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "nobody")}
    with Worker(PROGRAMS[name], port, tmp_path, environment=tools, more=()):
        done = subprocess.run(words, env=given, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(42 * 3000)


def test_a_tarball_of_conda_pack_is_told_where_it_lies(engines: Any, packed: Path, tmp_path: Path) -> None:
    conda = tmp_path / "conda.tar.gz"
    with tarfile.open(packed) as own, tarfile.open(conda, "w:gz", compresslevel=1) as archive:
        for member in own:
            archive.addfile(member, own.extractfile(member))
        script = b"import sys\nopen(sys.prefix + '/told', 'a').write(sys.prefix)\n"
        for name, content in (("bin/conda-unpack", script), ("conda-meta/history", b"")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, BytesIO(content))

    def told() -> tuple[str, str, str]:
        return Path(sys.prefix, "told").read_text(), os.environ["CONDA_PREFIX"], sys.prefix

    engine = engines(environment=conda)
    with empty_handed(engine, tmp_path):
        for one in ask(engine, 3, told):
            assert len(set(one)) == 1


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_an_unpacking_that_was_cut_off_is_done_again_and_never_used(engines: Any, packed: Path, tmp_path: Path) -> None:
    stuck = f"if mkdir {tmp_path}/stuck; then touch bin-of-half; sleep 1000; fi"
    engine = engines(environment=packed)
    with empty_handed(engine, tmp_path, stuck) as worker:
        engine.submit(task(1))
        engine.submit(task(2))
        until(lambda: engine.wait(0.1) == [] and (tmp_path / "stuck").exists() and unpackings(tmp_path))
        (lock,) = worker.folder.rglob("shaper-environment-*.lock")
        os.kill(int(str(lock.readlink()).split()[0]), signal.SIGKILL)
        ended = {one.outcome: one for one in seen(engine, 2)}
        assert set(ended) == {Outcome.DONE, Outcome.LOST}
        value, prefix = engine.fetch(ended[Outcome.DONE].task.id)  # type: ignore[misc]
        assert value == 42
        assert unpackings(tmp_path) == 2
        assert {path.name for path in left(worker.folder) if "environment" in path.name} == {
            Path(prefix).name,
            Path(prefix).stem,
        }


def test_a_failed_unpacking_is_told_and_tried_again(engines: Any, packed: Path, tmp_path: Path) -> None:
    full = f'if mkdir {tmp_path}/once; then echo "tar: No space left on device" >&2; exit 2; fi'
    engine = engines(environment=packed)
    with empty_handed(engine, tmp_path, full):
        engine.submit(task(1))
        (one,) = seen(engine, 1)
        assert one.outcome is Outcome.LOST
        assert "cannot use the environment: tar: No space left on device" in one.detail
        engine.submit(task(2))
        (one,) = seen(engine, 1)
        assert one.outcome is Outcome.DONE


def test_a_tarball_that_no_worker_can_unpack_is_one_error(engines: Any, packed: Path, tmp_path: Path) -> None:
    engine = engines(environment=packed)
    assert engine.run_dir is not None
    (shipped,) = engine.run_dir.glob("ship/environment-*.tar.gz")
    half = shipped.read_bytes()[: shipped.stat().st_size // 2]
    shipped.unlink()
    shipped.write_bytes(half)
    with empty_handed(engine, tmp_path) as worker:
        for number in range(1, 4):
            engine.submit(task(number))
        with pytest.raises(SiteError, match=r"cannot use the environment: .*unexpected end of file.*3 attempts failed"):
            until(lambda: engine.wait(0.5) is None)
        until(lambda: not left(worker.folder))


def test_files_that_travel_count_against_no_limit(engines: Any) -> None:
    weight = os.urandom(3 << 20)  # more than what TaskVine allows a task that asks for no disk

    def last() -> int:
        time.sleep(11)  # beyond two of its looks
        return len(weight)

    engine = engines()
    with Worker(PROGRAMS[engine.name], engine.system.port, engine.run_dir):
        assert ask(engine, 1, last) == [3 << 20]


def test_an_environment_that_differs_is_named_before_anything_runs(engines: Any, tmp_path: Path) -> None:
    other = tarball_of(tmp_path / "other.tar.gz", "lib/python3.9/os.py")
    with pytest.raises(BadInput, match=r"other.tar.gz has python 3.9 \(wanted: 3.\d+\): pack the one that runs this"):
        engines(environment=other)
    half = tmp_path / "half.tar.gz"
    half.write_bytes(other.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"half.tar.gz is not a whole tar.gz file"):
        engines(environment=half)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delivery": "pigeon"}, "delivery 'pigeon' is not known: use 'shared'"),
        ({"delivery": "task"}, "delivery='task' needs environment="),
        ({"delivery": "shared", "environment": "e.tar.gz"}, "takes no environment"),
        ({"environment": "e.tar.gz", "python": "python3"}, "takes no python="),
        ({"x509_proxy": "/none/such"}, "x509_proxy: /none/such is not a file"),
        ({"extra_input_files": ["/none/such"]}, "extra_input_files: /none/such is not a file"),
        ({"extra_input_files": "one.json"}, "is a list of paths"),
        ({"extra_input_files": [__file__, __file__]}, "the name 'test_environments.py' is taken"),
    ],
)
def test_options_that_do_not_go_together_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        MAKERS[name](**options)


# -- a machine without Python ----------------------------------------------------------------------------------------

# What a worker itself needs, and start.sh.
TOOLS = ("sh", "tar", "gzip", "ln", "mkdir", "mv", "readlink", "rm", "sleep")


def bare_machine(root: Path, worker: str) -> None:
    """A root file system with a worker, a shell, tar, gzip and file commands, and nothing else."""
    for tool in (worker, *TOOLS):
        found = shutil.which(tool)
        assert found is not None, tool
        said = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for path in (found, *(word for word in said.split() if word.startswith("/"))):
            there = root / path.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            if not there.exists():
                shutil.copy2(os.path.realpath(path), there)
    (root / "bin").mkdir(exist_ok=True)
    if not (root / "bin" / "sh").exists():
        (root / "bin" / "sh").symlink_to(shutil.which("sh") or "")
    for folder in ("proc", "dev", "tmp", "etc"):
        (root / folder).mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/tmp:/bin/sh\n")
    shutil.copy2(passwords.of() or "", root / "etc" / "password")


@pytest.mark.parametrize("delivery", ["worker", "task"])
def test_a_machine_needs_no_python(engines: Any, packed: Path, tmp_path: Path, delivery: str) -> None:
    needs(os.geteuid() == 0, "root, for a machine without Python")
    engine = engines(environment=packed, delivery=delivery)
    root = tmp_path / "machine"
    bare_machine(root, PROGRAMS[engine.name])
    assert not [path for path in root.rglob("*") if "python" in path.name]
    # Mounts of its own, which end with it; in scripts/debian13 they are that already, and this cannot be asked for.
    mounts = 'mount --make-rprivate / 2>&-; mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev"'
    start = f'chroot=$(command -v chroot); {mounts} && exec env -i PATH=/usr/bin:/bin "$chroot" "$@"'
    words = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", start, "sh", str(root)]
    options = ["--cores", "2", "--memory", "2000", "--disk", "4000", "-s", "/tmp", "--password", "/etc/password"]
    # Tries again where a busy manager was too slow to answer; its log is found below its root.
    words += [PROGRAMS[engine.name], *options, "-d", "all", "-o", "/worker.log", "-i", "1", "-b", "2"]
    words += ["127.0.0.1", str(engine.system.port)]
    worker = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for value, prefix in ask(engine, 3):
            assert value == 42
            assert prefix.startswith("/tmp/")
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait()
    until(lambda: not left(root))
