"""What runs tasks: one file per engine, one common interface."""

from shaper.engines.cluster import WorkerSpec
from shaper.engines.engine import Engine
from shaper.engines.local import Local
from shaper.engines.simulated import Simulated
from shaper.engines.taskvine import TaskVine
from shaper.engines.workqueue import WorkQueue

__all__ = ["Engine", "Local", "Simulated", "TaskVine", "WorkQueue", "WorkerSpec"]
