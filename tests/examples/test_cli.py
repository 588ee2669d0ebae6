"""The command line as a user runs it, and the README's script."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT, needs


def shaper(*words: str | Path, cwd: Path, expect: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "shaper", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    # The only traceback that a user should see is that of their own function: indented below one line that says so,
    # or asked for.
    assert words[0] == "debug" or "\nTraceback" not in f"\n{done.stderr}", done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    made = []
    for number in range(3):
        made.append(tmp_path / f"{number}.txt")
        made[-1].write_text("".join(f"line {n % 7} of {number}\n" for n in range(2000)))
    return made


def readme_script() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith("import sys"))


def test_the_readmes_script_counts_words(tmp_path: Path, texts: list[Path]) -> None:
    (tmp_path / "words.py").write_text(readme_script())
    out, said = shaper(
        "run", "--cores", "2", "--memory", "1GB", "words.py", *[path.name for path in texts], cwd=tmp_path
    )
    words = Counter(word for path in texts for word in path.read_text().split())
    assert dict(ast.literal_eval(out)) == {word: words[word] for word in ("line", "of", "0", "1", "2")}
    assert "report.html" in said
    report, _ = shaper("report", cwd=tmp_path)
    assert Path(report.strip()).is_file()


BAD = {
    "no such script": ("", "there is no script"),
    "size": (
        'run({"a": 9}, process=len, merge=max, memory="12XB")',
        "memory '12XB' is not a size: write it like '2GB'",
    ),
    "nothing": ('run({"a": 0}, process=len, merge=max)', "zero elements: there is nothing to process"),
    "no sources": ("run({}, process=len, merge=max)", "the dataset is empty"),
    "no process": ('run({"a": 9})', "run() needs a process function"),
    "engine": ('run({"a": 9}, process=len, merge=max, engine="cloud")', "engine 'cloud' is not known"),
    "option": ('run({"a": 9}, process=len, merge=max, kores=2)', "'kores' is no option of the local engine"),
    "pickle": ("import threading; lock = threading.Lock()\nrun({'a': 9}, process=lambda c: lock, merge=max)", "lock"),
    "type": (
        "run({'a': 900}, process=lambda c: {}, merge=lambda a, b: 'x', cores=2, memory='1GB')",
        "merge(dict, dict) returned str",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, name: str) -> None:
    body, said = BAD[name]
    if body:
        (tmp_path / "script.py").write_text(
            f"from functools import partial\nimport shaper\nrun = partial(shaper.run, progress=False)\n{body}\n"
        )
    _, err = shaper("run", "script.py", cwd=tmp_path, expect=2)
    assert said in err
    assert "Traceback" not in err
    first = err.splitlines()[0]
    assert first.startswith("shaper: ")


FAILING = """
import pathlib, shaper
def process(chunk):
    if any(span.source == "b" for span in chunk.spans) and not pathlib.Path("mended").exists():
        raise KeyError("nope")
    return chunk.elements
print(shaper.run({"a": 900, "b": 30}, process=process, merge=lambda x, y: x + y, cores=2, memory="1GB", progress=False,
                 run_dir="run").value)
"""


def test_a_failed_piece_is_shown_debugged_and_done_on_resume(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FAILING)
    _, err = shaper("run", "script.py", cwd=tmp_path, expect=2)
    assert "no result for 1 part of the dataset: b[0:30]: KeyError: 'nope'" in err
    assert 'raise KeyError("nope")' in err
    match = re.search(r"shaper debug (\S+) (\S+)", err)
    assert match is not None
    _, again = shaper("debug", match[1], match[2], cwd=tmp_path, expect=1)
    assert "KeyError: 'nope'" in again
    (tmp_path / "mended").touch()
    out, _ = shaper("resume", "run", cwd=tmp_path)
    assert out.strip() == "930"


def test_wrong_directories_are_said_so(tmp_path: Path) -> None:
    for command in (("resume", "nowhere"), ("report", "nowhere"), ("debug", "nowhere", "1.1"), ("report",)):
        _, err = shaper(*command, cwd=tmp_path, expect=2)
        assert err.startswith("shaper: ")


def test_simulate_prints_figures_and_json(tmp_path: Path) -> None:
    out, _ = shaper("simulate", "--elements", "100000", "--json", cwd=tmp_path)
    assert json.loads(out)["elements"] == 100000
    out, _ = shaper("simulate", "--elements", "100000", "--policy", "fixed", "--chunksize", "5000", cwd=tmp_path)
    assert "makespan_s" in out
    _, err = shaper("simulate", "--workers", "big", cwd=tmp_path, expect=2)
    assert "write CORESxMEMORY:COUNT" in err


def test_simulate_answers_for_scenarios_and_recorded_runs(tmp_path: Path, texts: list[Path]) -> None:
    out, _ = shaper("simulate", "--scenario", "list", cwd=tmp_path)
    assert "fig8-b" in out
    _, err = shaper("simulate", "--scenario", "fig12", cwd=tmp_path, expect=2)
    assert "there is no scenario 'fig12': use one of fig6-a" in err
    out, _ = shaper("simulate", "--scenario", "fig8-a", "--price", "0.05", "--json", cwd=tmp_path)
    told = json.loads(out)
    assert told["elements"] == 50_900_000
    assert told["cost"] == pytest.approx(told["offered_core_s"] / 3600 * 0.05, abs=1e-3)
    (tmp_path / "script.py").write_text(readme_script())
    shaper("run", "script.py", *map(str, texts), cwd=tmp_path)
    (run,) = (path for path in (tmp_path / "shaper-runs").iterdir() if path.name != "latest")
    recorded, _ = shaper("simulate", "--recorded", str(run), "--workers", "2x1GB:3", "--json", cwd=tmp_path)
    assert json.loads(recorded)["elements"] == sum(len(path.read_text().splitlines()) for path in texts)
    out, _ = shaper("simulate", "--recorded", str(run), "--advise", cwd=tmp_path)
    assert "fastest:" in out
    assert "acquire, then configure:" in out


def test_the_report_opens_in_a_browser_without_errors(tmp_path: Path, texts: list[Path]) -> None:
    import shutil

    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    needs(browser, "no chromium: as root, apt-get install chromium")
    assert browser is not None
    (tmp_path / "words.py").write_text(readme_script())
    shaper("run", "--cores", "2", "--memory", "1GB", "words.py", *[path.name for path in texts], cwd=tmp_path)
    page = (tmp_path / "shaper-runs" / "latest" / "report.html").resolve()
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert "Chunksize over time" in done.stdout
    assert done.stdout.count("<svg") >= 6
