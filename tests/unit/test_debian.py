"""Modules from Debian's own folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shaper.engines import debian


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "ImportError"])
def test_half_a_module_is_not_kept(error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_DEBIAN", str(tmp_path))
    module = tmp_path / "module_of_debian.py"
    module.write_text(f"raise {error}")
    if error == "ImportError":
        assert debian.load(module.stem) is None
    else:
        with pytest.raises(KeyboardInterrupt):
            debian.load(module.stem)
    assert module.stem not in sys.modules
