"""The Coffea plug-in: `from shaper.coffea import ShaperExecutor`."""

from shaper.errors import EngineMissing

try:
    from shaper.coffea.executor import ShaperExecutor
except ModuleNotFoundError as error:
    raise EngineMissing(
        f"shaper.coffea needs {str(error.name).partition('.')[0]}: pip install 'shaper[coffea]'"
    ) from error

__all__ = ["ShaperExecutor"]
