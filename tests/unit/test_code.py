import functools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shaper
from benchmarks import executors
from shaper.code import fingerprint_of, pack
from shaper.errors import BadInput, CannotPickle


def function_of(source: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(source, scope)
    return scope["f"]  # type: ignore[no-any-return]


def test_comments_do_not_count_but_code_does() -> None:
    plain = fingerprint_of(function_of("def f(x):\n    return x + 1"))
    assert plain == fingerprint_of(function_of("def f(x):\n    # why\n\n    return x + 1"))
    assert plain != fingerprint_of(function_of("def f(x):\n    return x + 2"))


def test_what_a_function_refers_to_counts() -> None:
    source = "K = {k}\ndef g(x):\n    return x * {g}\ndef f(x):\n    return g(x) + K"
    plain = fingerprint_of(function_of(source.format(k=1, g=1)))
    assert plain == fingerprint_of(function_of(source.format(k=1, g=1)))
    assert plain != fingerprint_of(function_of(source.format(k=2, g=1)))
    assert plain != fingerprint_of(function_of(source.format(k=1, g=2)))


def test_closures_defaults_partials_and_instances_count() -> None:
    def closed(n: int) -> Callable[[int], int]:
        return lambda x: x + n

    class Adder:
        def __init__(self, n: int) -> None:
            self.n = n

        def __call__(self, x: int) -> int:
            return x + self.n

    for make in (closed, Adder, lambda n: functools.partial(max, n)):
        assert fingerprint_of(make(1)) == fingerprint_of(make(1))
        assert fingerprint_of(make(1)) != fingerprint_of(make(2))


def test_what_cannot_travel_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(CannotPickle, match=r"stage 'x': the merge function .*lock.*inside the function"):
        pack("x", len, lambda a, b: lock)
    with pytest.raises(BadInput, match="process must be a function, got int"):
        pack("x", 3, len)  # type: ignore[arg-type]


def test_the_users_own_modules_count_and_what_they_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_helper.py").write_text("import own_deeper\ndef count(n):\n    return own_deeper.one(n)\n")
    (tmp_path / "own_deeper.py").write_text("def one(n):\n    return n\n")
    monkeypatch.syspath_prepend(tmp_path)

    def fingerprint() -> str:
        for name in ("own_helper", "own_deeper"):
            sys.modules.pop(name, None)
        outside = fingerprint_of(function_of("import own_helper\ndef f(x):\n    return own_helper.count(x)"))
        for name in ("own_helper", "own_deeper"):
            sys.modules.pop(name, None)
        inside = fingerprint_of(function_of("def f(x):\n    import own_helper\n    return own_helper.count(x)"))
        assert "own_helper" not in sys.modules, "a fingerprint must not import"
        return outside + inside

    first = fingerprint()
    (tmp_path / "own_deeper.py").write_text("# why\ndef one(n):\n    return n\n")
    assert fingerprint() == first
    (tmp_path / "own_deeper.py").write_text("def one(n):\n    return n + 1\n")
    changed = fingerprint()
    assert changed[:16] != first[:16]
    assert changed[16:] != first[16:]


def test_the_same_code_has_the_same_fingerprint_however_often_it_is_asked() -> None:
    def f(x: Any) -> Any:
        return executors.main(x)  # a module of ours that imports many

    assert len({fingerprint_of(f) for _ in range(3)}) == 1


def test_this_library_counts_by_its_version_wherever_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: Any) -> Any:
        return shaper.run(x)

    before = fingerprint_of(f)
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"raise SystemExit")
    assert fingerprint_of(f) == before
    monkeypatch.setattr(shaper, "__version__", "another")
    assert fingerprint_of(f) != before
