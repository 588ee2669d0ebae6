"""What travels with the tasks of a batch engine: our client, this package, the functions of stages; and the reply."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

from shaper.engines.package import package
from shaper.engines.system import File
from shaper.monitor import remote, versions
from shaper.monitor import result as results
from shaper.monitor.call import Call
from shaper.monitor.pool import Place
from shaper.monitor.remote import RemoteCall, Reply
from shaper.types import Code, Resources

# A warm server without calls for so long ends, and gives its memory back.
_IDLE_S = 600


class Shipping:
    """Files and the command of tasks.

    Args:
        folder: where files that travel are kept; it must exist.
        python: the interpreter that workers run.
    """

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self._python = folder, python
        self._codes: dict[str, tuple[Path, str, Mapping[str, str]]] = {}  # by stage: file, name on workers, versions
        self._tag = ""
        self._package: Path
        self._place: Place
        shutil.copyfile(Path(results.__file__).with_name(remote.CLIENT), folder / remote.CLIENT)

    def open(self, stage: str, code: Code) -> None:
        """Keep the functions of a stage as a file that every worker gets once."""
        shipped = package()
        # A worker keeps one server for each: modules that have changed are never asked of an older one.
        self._tag = hashlib.sha256(shipped + self._python.encode()).hexdigest()[:12]
        self._package = self.folder / f"{self._tag}.zip"
        self._package.write_bytes(shipped)
        digest = hashlib.sha256(code.payload).hexdigest()[:12]
        path = self.folder / f"code-{digest}.pkl"
        path.write_bytes(code.payload)
        self._codes[stage] = path, f"{stage} {digest}", versions.needed(code.payload)
        self._place = Place.here()

    @property
    def command(self) -> str:
        """What a worker runs for a task."""
        return f"{self._python} -I -S {remote.CLIENT} {self._tag} {_IDLE_S}"

    def call(self, name: str, stage: str, work: bytes | tuple[tuple[str, str], ...], resources: Resources) -> str:
        """The call as the text of the file `call.txt`; arguments as those of a Call."""
        _, code_name, needed = self._codes[stage]
        here = self._place
        call = Call(name, code_name, work, resources, "", "", "")
        return remote.encoded(RemoteCall(call, here.sys_path, here.argv, here.cwd, needed))

    def inputs(self, stage: str) -> tuple[File, ...]:
        """The files that every worker gets once."""
        shipped = (
            (self.folder / remote.CLIENT, remote.CLIENT),
            (self._package, remote.PACKAGE),
            (self._codes[stage][0], remote.CODE),
        )
        return tuple(File(path, name, kept=True) for path, name in shipped)

    def outputs(self, result: Path, name: str, *, stays: bool) -> tuple[File, ...]:
        """The result, which comes to where it belongs or stays on the worker, and the reply, which comes."""
        return File(result, remote.RESULT, stays=stays), File(self.reply_path(name), remote.REPLY)

    def reply_path(self, name: str) -> Path:
        """Where the reply of a task comes to lie."""
        return self.folder / f"{name}.reply"

    def reply(self, name: str) -> Reply | None:
        """The reply of a task; None where there is none, or half of one."""
        try:
            found = pickle.loads(self.reply_path(name).read_bytes())
        except Exception:  # cut off, or not there
            return None
        return found if isinstance(found, Reply) else None
