"""What runs tasks: one file per engine, one common interface."""

from shaper.engines.engine import Engine
from shaper.engines.local import Local

__all__ = ["Engine", "Local"]
