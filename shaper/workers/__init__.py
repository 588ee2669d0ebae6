"""Workers of Work Queue and TaskVine: started, counted and stopped, here or through a batch system."""

from shaper.workers.plan import BATCHES, Plan, Site, command, script
from shaper.workers.pool import Pool, Started

__all__ = ["BATCHES", "Plan", "Pool", "Site", "Started", "command", "script"]
