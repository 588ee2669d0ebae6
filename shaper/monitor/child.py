"""The forked process that runs the user's function once and never returns."""

from __future__ import annotations

import importlib
import os
import pickle
import random
import signal
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from numbers import Number
from typing import Any, NoReturn

import cloudpickle

from shaper.errors import Damaged
from shaper.monitor import result as results
from shaper.monitor.call import Call, SkippedRange
from shaper.monitor.sample import read_bytes, text
from shaper.types import Chunk, Skipped

# Pickled where the parent must not load them itself.
Functions = tuple[Callable[[Chunk], Any], Callable[[Any, Any], Any]] | bytes

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
_TRACEBACK_LINES = 30
_IMPORTS_TOLD = 2000
_LINE_CHARACTERS = 2000
_ERROR_BYTES = 2**20
# These OSErrors are about the file that was asked for, not about where it is kept.
_ABOUT_THE_FILE = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


@dataclass(slots=True)
class Note:
    """What the child leaves for its supervisor. `tag` is `done`, `raised`, `unpicklable`, `unwritten` or `damaged`."""

    tag: str
    wall_s: float | None = None
    size_bytes: int | None = None
    checksum: str | None = None
    skipped: tuple[SkippedRange, ...] = ()
    skip_reasons: tuple[str, ...] = ()
    detail: str = ""
    error: bytes | None = None
    io_error: bool = False
    damaged: int | None = None
    read_bytes: int | None = None
    imported: tuple[str, ...] = ()


def run(call: Call, codes: Mapping[str, Functions], note_fd: int) -> NoReturn:
    """Run the call in this freshly forked process and exit."""
    status = 1
    try:
        _settle_in(call)
        last, surroundings = next(reversed(sys.modules)), _surroundings()
        note = _attempt(call, codes)
        io = text("/proc/self/io")
        note.read_bytes = read_bytes(io) if io else None
        if _surroundings() == surroundings:
            note.imported = tuple(name for name in _imported_after(last) if _is_installed(name))[:_IMPORTS_TOLD]
        _write_all(note_fd, pickle.dumps(note))
        status = 0
    except BaseException:  # nothing may pass: this process must not go on as a copy of its parent
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # the user may have replaced or closed it
                continue
        os._exit(status)


def _surroundings() -> tuple[object, ...]:
    """What an import may depend on: a module that was imported after a change of these must not be imported without."""
    return dict(os.environ), list(sys.path), os.getcwd()  # noqa: PTH109


def _imported_after(last: str) -> list[str]:
    """The modules that came after one of a name, in order; looking at the others would copy the pages they lie on."""
    return list(takewhile(last.__ne__, reversed(sys.modules)))[::-1]


def _is_installed(name: str) -> bool:
    """Whether a module is a library's, which every task may find imported; the user's own are left to the task."""
    path = getattr(sys.modules[name], "__file__", None)
    roots = {sysconfig.get_path(key) for key in ("purelib", "platlib", "stdlib", "platstdlib")}
    return path is not None and any(path.startswith(root + os.sep) for root in roots)


def _settle_in(call: Call) -> None:
    """A session, a sandbox, logs and threads of its own; the working directory stays the manager's."""
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_DFL)
    os.environ["TMPDIR"] = os.environ["SHAPER_SANDBOX"] = call.sandbox
    os.environ.update(call.environment)
    tempfile.tempdir = None
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, ending in ((1, "out"), (2, "err")):
        log = os.open(f"{call.log_stem}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, number)
        os.close(log)
    cores = str(call.resources.cores)
    if os.environ.get("OMP_NUM_THREADS") != cores:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, cores))
        # Libraries that are loaded already have read the variables; their pools are told directly.
        from threadpoolctl import threadpool_limits

        threadpool_limits(limits=call.resources.cores)
    random.seed()
    if "numpy.random" in sys.modules:
        # A fork inherits the generator's state: without this every task would draw the same numbers.
        sys.modules["numpy.random"].seed()


def _attempt(call: Call, codes: Mapping[str, Functions]) -> Note:
    started = time.perf_counter()
    try:
        functions = codes[call.stage]
        process, merge = pickle.loads(functions) if isinstance(functions, bytes) else functions
        if isinstance(call.work, bytes):
            chunk: Chunk = pickle.loads(call.work)
            value = process(replace(chunk, cores=call.resources.cores))
        else:
            value = _merge(call.work, merge)
    except _DamagedInput as damaged:
        return Note("damaged", detail=str(damaged), damaged=damaged.position)
    except SystemExit as leaving:
        return Note("raised", time.perf_counter() - started, detail=f"the function called sys.exit({leaving.code!r})")
    except BaseException as error:  # whatever the user's function raises is reported, not raised here
        return _raised(error, time.perf_counter() - started)
    wall_s = time.perf_counter() - started
    note = Note("done", wall_s)
    if isinstance(value, Skipped) and isinstance(call.work, bytes):
        try:
            note.skipped, whole = _skipped(chunk, value)
        except _BadSkip as error:
            return Note("raised", wall_s, detail=str(error))
        note.skip_reasons, value = value.reasons, value.value
        if whole:
            return note
    try:
        note.size_bytes, note.checksum = results.write(value, call.result_path)
    except OSError as error:
        return Note("unwritten", wall_s, detail=f"the result cannot be written: {error}")
    except Exception as error:  # pickling runs the code of the user's types
        kind = type(value).__name__
        return Note("unpicklable", wall_s, detail=f"the result ({kind}) cannot be pickled: {error}")
    return note


class _BadSkip(ValueError):
    """The user's function skipped what it was not given, or left a rest without a result."""


def _skipped(chunk: Chunk, said: Skipped) -> tuple[tuple[SkippedRange, ...], bool]:
    """Where the skipped spans lie in the chunk, and whether they are all of it."""
    found: list[SkippedRange] = []
    for span in said.spans:
        for position, given in enumerate(chunk.spans):
            if given.source.id == span.source.id and given.start <= span.start and span.stop <= given.stop:
                found.append((position, span.start, span.stop))
                break
        else:
            raise _BadSkip(f"the function returned Skipped with {span}, which is not in its chunk {chunk}")
    for (position, _, stop), (following, start, _) in pairwise(sorted(found)):
        if position == following and start < stop:
            raise _BadSkip(f"the function returned Skipped with element {start} of {chunk.spans[position]} twice")
    whole = sum(stop - start for _, start, stop in found) == chunk.elements
    if said.value is None and not whole:
        raise _BadSkip("the function returned Skipped(None, ...) for a part of its chunk: give the value of the rest")
    return tuple(found), whole


class _TypeChanged(TypeError):
    """The user's merge returned what it cannot take."""


class _DamagedInput(Exception):
    def __init__(self, position: int, error: Damaged) -> None:
        super().__init__(str(error))
        self.position = position


def _merge(inputs: tuple[tuple[str, str], ...], merge: Callable[[Any, Any], Any]) -> Any:
    """Combine results left to right; never more than the accumulated and the next one are in memory."""
    merged = _load(inputs, 0)
    for position in range(1, len(inputs)):
        following = _load(inputs, position)
        kinds = type(merged), type(following)
        merged = merge(merged, following)
        del following
        if kinds[0] is kinds[1] and not isinstance(merged, kinds[0]) and not isinstance(merged, Number):
            name = kinds[0].__name__
            raise _TypeChanged(
                f"merge({name}, {name}) returned {type(merged).__name__}: it must return what it takes, "
                "so that its result can be merged again"
            )
    return merged


def _load(inputs: tuple[tuple[str, str], ...], position: int) -> Any:
    path, checksum = inputs[position]
    try:
        return results.read(path, checksum)
    except Damaged as error:
        raise _DamagedInput(position, error) from error


def _raised(error: BaseException, wall_s: float) -> Note:
    if isinstance(error, _TypeChanged):
        return Note("raised", wall_s, detail=str(error))
    text_lines = traceback.format_exception(error)
    lines = [_cut(line) for line in "".join(text_lines).rstrip().splitlines()]
    shown = lines if len(lines) <= _TRACEBACK_LINES else ["...", *lines[-_TRACEBACK_LINES:]]
    said = _cut(traceback.format_exception_only(error)[-1].strip())
    pickled = _pickled_chain(error)
    if pickled is not None and len(pickled) > _ERROR_BYTES:
        pickled = None
    return Note("raised", wall_s, detail="\n".join([said, *shown]), error=pickled, io_error=_is_io_error(error))


def _cut(line: str) -> str:
    """A message that quotes an array or a file must not fill the records."""
    return line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]}... ({len(line)} characters)"


def _is_io_error(error: BaseException) -> bool:
    """Whether an exception, or the first of its causes that is an OSError at all, may be the site's fault."""
    found = next((link for link in _chain(error) if isinstance(link, OSError)), None)
    return found is not None and not isinstance(found, _ABOUT_THE_FILE)


def _pickled_chain(error: BaseException) -> bytes | None:
    """Pickle an exception and what caused it, each where it survives a round trip; pickle itself drops the causes."""
    chain = [link for link in _chain(error) if _survives(link)]
    return cloudpickle.dumps(chain) if chain else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what caused it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _survives(error: BaseException) -> bool:
    try:
        return type(pickle.loads(cloudpickle.dumps(error))).__name__ == type(error).__name__
    except Exception:  # exceptions with required arguments do not unpickle
        return False


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def warm(names: tuple[str, ...]) -> None:
    """Import modules that calls have needed, so that the next fork finds them; what does not import is left."""
    for name in names:
        if name in sys.modules:
            continue
        try:
            importlib.import_module(name)
        except Exception:  # a module of the user's may refuse outside its call
            continue
