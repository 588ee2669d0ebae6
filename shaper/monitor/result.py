"""Results as files: a pickle and its CRC-32, computed while it is written and read, whole or not there at all."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import cloudpickle

from shaper.errors import Damaged
from shaper.types import ResultRef


class _Writer:
    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.crc = 0
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.crc = zlib.crc32(view, self.crc)
        self.size_bytes += view.nbytes
        return self.file.write(view)


class _Reader:
    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.crc = 0

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.crc = zlib.crc32(data, self.crc)
        return data

    def readinto(self, buffer: Any) -> int:
        count: int = self.file.readinto(buffer)  # type: ignore[attr-defined]
        self.crc = zlib.crc32(memoryview(buffer)[:count], self.crc)
        return count

    def readline(self) -> bytes:
        data = self.file.readline()
        self.crc = zlib.crc32(data, self.crc)
        return data


def partial(path: str) -> str:
    """The name of a result while it is written."""
    return f"{path}.part"


def write(value: object, path: str) -> tuple[int, str]:
    """Pickle a value to `path`; return size in bytes and checksum. Until it is whole it has another name."""
    part = partial(path)
    try:
        # The plain pickler is several times faster; functions and classes of a script need cloudpickle's.
        for pickler in (pickle.Pickler, cloudpickle.Pickler):
            with open(part, "wb", buffering=1 << 18) as file:  # noqa: PTH123
                writer = _Writer(file)
                try:
                    pickler(writer, protocol=5).dump(value)
                except Exception:  # pickling runs the code of the user's types
                    if pickler is cloudpickle.Pickler:
                        raise
                    continue
            break
        os.rename(part, path)  # noqa: PTH104
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return writer.size_bytes, f"{writer.crc:08x}"


def read(path: str | os.PathLike[str], checksum: str) -> Any:
    """Unpickle a result.

    Raises:
        Damaged: it is not there, or not what was written.
    """
    try:
        with open(path, "rb", buffering=1 << 18) as file:  # noqa: PTH123
            reader = _Reader(file)
            value = pickle.load(reader)
            while reader.read(1 << 20):
                pass
    except FileNotFoundError as error:
        raise Damaged(f"result {path} is not there") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise Damaged(f"result {path} cannot be read: {error}") from error
    if f"{reader.crc:08x}" != checksum:
        raise Damaged(f"result {path} is not what was written: its checksum differs")
    return value


def whole(base: Path, refs: Mapping[str, ResultRef], run: str = "") -> tuple[dict[str, ResultRef], list[str]]:
    """Tell the results below `base` that are whole from the ids of those that are not; remove what nobody refers to.

    Args:
        run: of several that share the folder, with whose name those of its files begin; others are left alone.
    """
    found, missing = {}, []
    for task_id, ref in refs.items():
        if intact(base / ref.place, ref.size_bytes, ref.checksum):
            found[task_id] = ref
        else:
            missing.append(task_id)
    known = {(base / ref.place).name for ref in found.values()}
    for path in (base / "results").glob("*"):
        if path.name not in known and (not run or path.name.rsplit(".", 3)[0] == run):
            path.unlink(missing_ok=True)
    return found, missing


def intact(path: str | os.PathLike[str], size_bytes: int, checksum: str) -> bool:
    """Say whether a file is there, whole and unchanged, without unpickling it."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if os.fstat(file.fileno()).st_size != size_bytes:
                return False
            crc = 0
            while data := file.read(1 << 20):
                crc = zlib.crc32(data, crc)
    except OSError:
        return False
    return f"{crc:08x}" == checksum
