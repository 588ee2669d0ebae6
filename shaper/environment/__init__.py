"""Python environments that travel: packed into one tarball, unpacked on workers that have no such Python."""

from shaper.environment.pack import pack, pack_spec
from shaper.environment.tarball import Tarball, inspect

__all__ = ["Tarball", "inspect", "pack", "pack_spec"]
