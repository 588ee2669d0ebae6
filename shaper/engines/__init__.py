"""What runs tasks: one file per engine, one common interface."""

from shaper.engines.engine import Engine

__all__ = ["Engine"]
