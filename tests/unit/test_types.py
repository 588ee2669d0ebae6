"""Values check themselves at birth, and say in one line what they got and what they wanted."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import shaper
from shaper import Stage
from shaper.engines import WorkerSpec
from shaper.errors import BadInput
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": 3}, "text without slashes; got 3"),
        ({"name": "a/b"}, "text without slashes; got 'a/b'"),
        ({"mode": "thread"}, "stage 'x': mode is 'split' or 'threads', got 'thread'"),
        ({"category": 5}, "stage 'x': category is a name, or None, got 5"),
        ({"after": None}, "stage 'x': after holds the names of stages, got None"),
        ({"after": "y"}, r"stage 'x': after is a sequence of names, write after=\['y'\]"),
        ({"after": [Stage("y", {"a": 1})]}, r"stage 'x': after holds the names of stages, got \[Stage\(name='y'"),
        ({"merge": 7}, "stage 'x': merge is a function, got 7"),
    ],
)
def test_a_stage_that_cannot_be_run_is_refused_in_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as found:
        Stage(**{"name": "x", "dataset": {"a": 1}} | arguments)
    assert "\n" not in str(found.value)


def test_what_a_stage_waits_for_may_be_any_sequence_also_one_that_is_read_once() -> None:
    assert Stage("x", {"a": 1}, after=iter(["y", "z"])).after == ("y", "z")  # type: ignore[arg-type]


def test_workers_take_their_speed_by_place() -> None:
    assert WorkerSpec(4, 8000, 1, 0.0, None, None, 2.0).speed == 2.0


def test_rooms_that_most_runs_do_not_enter_are_there_when_they_are_asked_for() -> None:
    assert callable(shaper.readers.vcf)
    with pytest.raises(AttributeError, match="no attribute 'reader'"):
        _ = shaper.reader


def test_coffea_that_is_not_installed_is_named_with_what_to_install() -> None:
    script = "import sys; sys.modules['coffea'] = None; import shaper; shaper.coffea.ShaperExecutor"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    said = "shaper.errors.EngineMissing: shaper.coffea needs coffea: pip install 'shaper[coffea]'"
    assert done.stderr.splitlines()[-1] == said
