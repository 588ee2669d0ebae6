"""What is learnt from observations: one file per model, all values are immutable."""

from shaper.models.amdahl_gp import AmdahlGP
from shaper.models.amdahl_settings import AmdahlSettings
from shaper.models.beliefs import Beliefs
from shaper.models.group import GroupBeliefs, size_of
from shaper.models.line import Line
from shaper.models.parallelism import ParallelismModel, ParallelismSettings
from shaper.models.runs import Choice, Estimate, Objective, Run

__all__ = [
    "Beliefs",
    "GroupBeliefs",
    "Line",
    "size_of",
    "ParallelismModel",
    "ParallelismSettings",
    "AmdahlGP",
    "AmdahlSettings",
    "Run",
    "Estimate",
    "Choice",
    "Objective",
]
