"""The scenarios: what the paper's experiments took, what each comes to now, and that none loses anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from shaper.errors import Incomplete
from shaper.policy import Adaptive
from shaper.simulation import SCENARIOS, policy_named, scenario, simulate
from shaper.simulation.family import drawn
from tests.simulated import goldens

GOLDENS = json.loads(goldens.PATH.read_text())
# Tovar et al. 2022, table with Fig. 6: makespan, mean task time, tasks.
FIG6 = {
    "fig6-a": (1066.49, 181.73, 803),
    "fig6-b": (2674.87, 409.68, 219),
    "fig6-c": (9374.88, 23.76, 49784),
    "fig6-d": (29350.68, 20.91, 49784),
}


@pytest.mark.parametrize(("name", "policy"), goldens.cases())
def test_every_scenario_comes_to_what_is_written_down(name: str, policy: str) -> None:
    found, known = goldens.figures(name, policy), GOLDENS[f"{name} {policy}"]
    if found is None or known is None:
        assert (name, found, known) == ("fig6-e", None, None)
        return
    # Not to the last digit: logarithms may differ between machines.
    assert found["makespan_s"] == pytest.approx(known["makespan_s"], rel=0.01)
    assert found["exhausted_fraction"] == pytest.approx(known["exhausted_fraction"], abs=0.002)
    for count in ("tasks", "splits", "retries"):
        assert found[count] == pytest.approx(known[count], rel=0.01, abs=2)


@pytest.mark.parametrize("name", ["fig6-a", "fig6-b"])
def test_the_papers_makespans_are_reproduced(name: str) -> None:
    found = simulate(scenario(name), policy_named("fixed", scenario(name)))
    makespan_s, task_s, tasks = FIG6[name]
    assert found.makespan_s == pytest.approx(makespan_s, rel=0.2)
    assert found.task_s == pytest.approx(task_s, rel=0.25)
    assert found.tasks == pytest.approx(tasks, rel=0.25)


@pytest.mark.parametrize("name", ["fig6-c", "fig6-d"])
def test_the_papers_small_tasks_are_reproduced_at_a_tenth_of_the_size(name: str) -> None:
    found = simulate(scenario(name).scaled(0.1), policy_named("fixed", scenario(name)))
    makespan_s, task_s, tasks = FIG6[name]
    assert found.makespan_s == pytest.approx(makespan_s, rel=0.2)
    assert found.task_s == pytest.approx(task_s, rel=0.25)
    assert 10 * found.tasks == pytest.approx(tasks, rel=0.25)


def test_configuration_e_fails() -> None:
    with pytest.raises(Incomplete):
        simulate(scenario("fig6-e"), policy_named("fixed", scenario("fig6-e")))


@pytest.mark.parametrize("name", [name for name in SCENARIOS if not name.startswith(("fig10", "fig11"))])
def test_lost_attempts_cost_no_element(name: str) -> None:
    case = replace(scenario(name).scaled(0.1), loss_rate=0.03)
    # Some have a hundred attempts, of which none may be lost.
    found = [simulate(case, Adaptive(), seed) for seed in range(3)]
    assert {one.elements for one in found} == {sum(load.elements for load in case.workloads.values())}
    assert any(one.losses for one in found)


def test_the_same_seed_gives_the_same_run() -> None:
    case = scenario("churn").scaled(0.1)
    first, second = simulate(case, Adaptive(), 3), simulate(case, Adaptive(), 3)
    assert repr(first) == repr(second)
    assert first.decisions == second.decisions
    assert repr(simulate(case, Adaptive(), 4)) != repr(first)


def test_neither_does_the_seed_of_hashes_change_a_run() -> None:
    shown = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "shaper", "simulate", "--scenario", "mixed", "--json"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        shown.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(shown) == 1


def test_figure_9_loses_its_workers_before_it_is_done() -> None:
    found = simulate(scenario("fig9"), Adaptive())
    assert found.makespan_s > found.bound_s > 1240
    assert found.losses > 100


@pytest.mark.parametrize("seed", range(0, 10, 2))
def test_worlds_drawn_at_random_end_whole_and_lose_little(seed: int) -> None:
    case = drawn(seed).scaled(0.1)
    found = simulate(case, Adaptive())
    assert found.elements == sum(load.elements for load in case.workloads.values())
    assert found.exhausted_fraction < 0.15
