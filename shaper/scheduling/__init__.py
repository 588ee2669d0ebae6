"""Moldable jobs that share a cluster: how many processors each gets, and who waits. Pure: values in, values out."""

from shaper.scheduling.job import JobId, MoldableJob, Placement
from shaper.scheduling.mapping import mapping_times
from shaper.scheduling.plan import DEFAULT_METHOD, METHODS, best_stretch, plan, usual_cap
from shaper.scheduling.simulate import Replan, Schedule, simulate
from shaper.scheduling.speedup import Amdahl, Downey, Measured, Speedup, UniversalScalability, run_times

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "Amdahl",
    "Downey",
    "JobId",
    "Measured",
    "MoldableJob",
    "Placement",
    "Replan",
    "Schedule",
    "Speedup",
    "UniversalScalability",
    "best_stretch",
    "mapping_times",
    "plan",
    "run_times",
    "simulate",
    "usual_cap",
]
