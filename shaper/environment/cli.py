"""`shaper env`: pack."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from shaper.environment.pack import pack as pack_environment
from shaper.environment.pack import pack_spec
from shaper.units import show_mib

app = typer.Typer(help="Environments that travel to workers.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `pack` a command of its own."""


@app.command()
def pack(
    output: Annotated[Path | None, typer.Option(help="Copy it to this file, like analysis.tar.gz.")] = None,
    python: Annotated[
        Path | None, typer.Option(help="An interpreter or the directory of an environment; that which runs by default.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="Instead: what pip installs from this requirements file.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Also where the same environment was packed before.")] = False,
) -> None:
    """Pack an environment into one tarball that runs wherever it is unpacked; prints where it is."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if spec is not None:
        path = pack_spec(spec, python, anew=anew, say=say)
    else:
        path = pack_environment(python, anew=anew, say=say)
    if output is not None:
        part = output.with_name(f"{output.name}.part")
        shutil.copyfile(path, part)
        part.rename(output)
        path = output
    print(path)
    say(f"{show_mib(path.stat().st_size // 2**20)}; for engines: environment={str(path)!r}")
