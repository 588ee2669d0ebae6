"""Policies judged in virtual time: workloads, named scenarios, recorded runs played again."""

from shaper.simulation.scenarios import SCENARIOS, Scenario, scenario, worlds_apart
from shaper.simulation.simulate import Figures, best_fixed, fixed_grid, policy_named, simulate
from shaper.simulation.workload import Workload, World, world

__all__ = [
    "SCENARIOS",
    "Figures",
    "Scenario",
    "Workload",
    "World",
    "best_fixed",
    "fixed_grid",
    "policy_named",
    "scenario",
    "simulate",
    "world",
    "worlds_apart",
]
