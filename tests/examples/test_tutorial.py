"""The tutorial's code, as a reader runs it, from top to bottom in one directory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_the_tutorial_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    script = tmp_path / "tutorial.py"
    script.write_text("\n\n".join(blocks))
    ended = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert "tasks" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["paced", "adaptive", "paced", "adaptive"]
