"""What travels with the tasks of a batch engine: our client, this package, the functions of stages, an environment."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from shaper.engines.delivery import Delivery
from shaper.engines.package import is_installed, package
from shaper.engines.system import File
from shaper.errors import BadInput
from shaper.monitor import remote, versions
from shaper.monitor.call import Call
from shaper.monitor.pool import Place
from shaper.monitor.remote import RemoteCall
from shaper.types import Code, Resources


class Shipping:
    """Files and the command of tasks.

    Args:
        folder: where files that travel are kept; it must exist.
    """

    def __init__(self, folder: Path, delivery: Delivery) -> None:
        self.folder, self._delivery = folder, delivery
        self._codes: dict[str, tuple[Path, str, Mapping[str, str]]] = {}  # by stage: file, name on workers, versions
        self._tag = ""
        self._package: Path
        self._place: Place
        self.tarball = delivery.unpackable()
        self._more = delivery.inputs(folder, self.tarball)
        shutil.copyfile(Path(remote.__file__).with_name(remote.CLIENT), folder / remote.CLIENT)

    def open(self, stage: str, code: Code) -> None:
        """Keep the functions of a stage as a file that every worker gets once.

        Raises:
            BadInput: the environment that travels has other versions than this process.
        """
        needed = versions.needed(code.payload)
        if self.tarball is not None and (differ := self.tarball.differing(needed)):
            raise BadInput(
                f"environment {self.tarball.path} has {differ}: pack the one that runs this (environment='pack')"
            )
        here = Place.here()
        # Where the user's own modules lie: workers must not look into the environment of this process, but their own.
        self._place = replace(here, sys_path=tuple(path for path in here.sys_path if not is_installed(Path(path))))
        shipped = package()
        # A worker keeps one server for each: of an older one, calls would find other modules, files or arguments.
        key = self.tarball.digest if self.tarball is not None else ""
        state = repr((key, self._delivery.state(), self._place)).encode()
        self._tag = hashlib.sha256(shipped + state).hexdigest()[:12]
        self._package = self.folder / f"{self._tag}.zip"
        _keep(self._package, shipped)
        digest = hashlib.sha256(code.payload).hexdigest()[:12]
        path = self.folder / f"code-{digest}.pkl"
        _keep(path, code.payload)
        self._codes[stage] = path, f"{stage} {digest}", needed

    @property
    def command(self) -> str:
        """What a worker runs for a task."""
        return self._delivery.command(self._tag, self.tarball)

    def call(
        self,
        name: str,
        stage: str,
        work: bytes | tuple[tuple[str, str], ...],
        resources: Resources,
        most_bytes: int | None,
    ) -> str:
        """The call as the text of the file `call.txt`; arguments as those of a Call and a RemoteCall."""
        _, code_name, needed = self._codes[stage]
        here, delivery = self._place, self._delivery
        call = Call(name, code_name, work, resources, "", "", "")
        files = tuple(path.name for path in delivery.files)
        proxy = delivery.proxy is not None
        return remote.encoded(RemoteCall(call, here.sys_path, here.argv, here.cwd, needed, files, proxy, most_bytes))

    def inputs(self, stage: str) -> tuple[File, ...]:
        """The files that go with every task; workers keep most."""
        shipped = (
            (self.folder / remote.CLIENT, remote.CLIENT),
            (self._package, remote.PACKAGE),
            (self._codes[stage][0], remote.CODE),
        )
        return (*(File(path, name, kept=True) for path, name in shipped), *self._more)

    def outputs(self, result: Path, reply: Path, *, stays: bool) -> tuple[File, ...]:
        """The result, which comes to where it belongs or stays on the worker, and the reply, which comes."""
        return File(result, remote.RESULT, stays=stays), File(reply, remote.REPLY)


def _keep(path: Path, content: bytes) -> None:
    """Write a file named by its content, unless it is there: a batch system minds files that change while it runs."""
    if not path.exists() or path.stat().st_size != len(content):
        path.write_bytes(content)
