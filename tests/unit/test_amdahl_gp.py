"""The published optimiser: what is corrected, and that each guard holds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shaper.models import AmdahlGP, AmdahlSettings, Run, amdahl

T1_S, P = 100.0, 0.9


def law_s(s: float, p: float = P, startup_s: float = 0.0, size: float = 1.0) -> float:
    return amdahl.time_s(s, p, T1_S, startup_s, size)


def told(*runs: tuple[Any, ...], as_written: bool = False, **settings: Any) -> AmdahlGP:
    """A model after runs of (s, wall_s) or (s, wall_s, gamma)."""
    model = AmdahlGP(as_written, AmdahlSettings(**settings))
    for s, wall_s, *gamma in runs:
        model = model.updated(Run(s, gamma[0] if gamma else 1.0, 0.0, wall_s))
    return model


def test_m1_the_start_up_counts_once() -> None:
    runs = [(1, law_s(1, startup_s=20.0)), (5, law_s(5, startup_s=20.0))]
    right, printed = told(*runs, startup_s=20.0), told(*runs, startup_s=20.0, as_written=True)
    assert right.t1_s == pytest.approx(T1_S)
    assert right.p == pytest.approx(P)
    assert printed.t1_s == pytest.approx(T1_S + 20.0)


def test_m2_and_m4_the_exponent_is_found_and_p_is_not_spoilt_by_the_size() -> None:
    runs = [(1, law_s(1)), (5, law_s(5)), *[(s, law_s(s, size=g**1.3), g) for s in (4, 8) for g in (2.0, 0.5, 3.0)]]
    model = told(*runs)
    assert model.k == pytest.approx(1.3, abs=0.05)
    assert model.p == pytest.approx(P, abs=0.02)
    printed = told(*runs, as_written=True).p
    assert printed is not None
    assert abs(printed - P) > 0.03


@pytest.mark.parametrize(
    ("as_written", "retention", "kept"), [(False, None, 0.9), (True, None, 0.3), (False, 0.5, 0.5)]
)
def test_m3_p_keeps_so_much_of_what_it_was(as_written: bool, retention: float | None, kept: float) -> None:
    model = told((1, T1_S), (5, law_s(5)), (5, law_s(5, p=0.5)), as_written=as_written, retention=retention)
    assert model.p == pytest.approx(kept * P + (1 - kept) * 0.5)


def test_m5_residuals_are_those_of_todays_law() -> None:
    runs = [(1, T1_S), (5, law_s(5)), (5, law_s(5, p=0.5)), (5, law_s(5, p=0.5))]
    model, printed = told(*runs), told(*runs, as_written=True)
    assert printed.kept_s[1] == pytest.approx(0.0, abs=1e-9)
    # The process learnt the last two runs; as written, the first two say that nothing is left over.
    assert model.residual is not None
    now = math.log(law_s(5, p=0.5) / law_s(5, p=model.p or 0.0))
    assert now > 0.3
    assert float(model.residual.process.whitened[0]) == pytest.approx(0.0, abs=1e-9)


def test_m6_the_window_holds_as_many_runs_as_it_says() -> None:
    runs = [(1 + n % 5, law_s(1 + n % 5)) for n in range(9)]
    assert len(told(*runs, window=6).runs) == 6
    assert len(told(*runs, window=6, as_written=True).runs) == 7


def test_m7_every_parallelism_is_a_candidate_and_the_window_a_choice() -> None:
    runs = [(1, T1_S), (5, law_s(5))]
    assert "s* = 9, searched 1 to 64" in told(*runs).choose(1.0, 0.0, 64).reason
    assert "s* = 9, searched 5 to 13" in told(*runs, search="around").choose(1.0, 0.0, 64).reason
    assert "s* = 9, searched 1 to 13" in told(*runs, as_written=True).choose(1.0, 0.0, 64).reason
    # With a start-up the optimum is lower than p / (1 - p).
    assert told((1, 130.0), (5, law_s(5, startup_s=30.0)), startup_s=30.0).best() == pytest.approx(90 / 40)
    efficient = told(*runs, search="efficiency", eta=0.5)
    assert "searched 1 to 9" in efficient.choose(1.0, 0.0, 64).reason


def test_m8_what_is_not_known_is_dearer_the_more_urgent() -> None:
    model = told((1, T1_S), (5, law_s(5)))
    assert (
        model.choose(1.0, 0.0, 64, urgency=6.0).s
        < told((1, T1_S), (5, law_s(5)), as_written=True, search="all").choose(1.0, 0.0, 64, urgency=6.0).s
    )


def test_g1_p_stays_between_0_and_less_than_1() -> None:
    assert told((1, T1_S), (5, 2 * T1_S)).p == 0.0
    assert told((1, T1_S), (5, 1.0)).p == 0.999
    assert told((1, T1_S), (5, 2 * T1_S)).choose(1.0, 0.0, 64).s == 1
    assert told((1, T1_S), (5, law_s(5, p=1.0))).choose(1.0, 0.0, 64).s == 64


def test_g2_one_task_leaves_p() -> None:
    assert told((1, T1_S), (5, law_s(5)), (1, 3 * T1_S)).p == pytest.approx(P)
    assert told((1, T1_S), (1, T1_S)).p is None


@pytest.mark.parametrize("as_written", [False, True])
def test_g3_the_exponent_is_left_by_sizes_near_the_baseline_and_kept_moderate(as_written: bool) -> None:
    runs = [(1, T1_S), (5, law_s(5))]
    assert told(*runs, (5, 3 * law_s(5), 1.05), as_written=as_written).k == 1.0
    assert told(*runs, (5, 100 * law_s(5), 1.5), as_written=as_written).k == 3.0
    assert told(*runs, (5, law_s(5) / 100, 1.5), as_written=as_written).k == 0.0
    assert told(*runs, (5, 1.0, 2.0), startup_s=5.0, as_written=as_written).k == 1.0


@pytest.mark.parametrize("as_written", [False, True])
def test_g4_a_prediction_is_at_least_a_part_of_the_law(as_written: bool) -> None:
    model = told((1, T1_S), *[(s, 1e-6) for s in (5, 6, 7, 8, 9)] * 3, as_written=as_written)
    mean_s = model.predict(8, 1.0, 0.0).mean
    assert mean_s is not None
    assert mean_s >= 0.04 * amdahl.time_s(8, model.p or 0.0, T1_S)


def test_g5_an_empty_window_is_one_task() -> None:
    model = told((1, T1_S), (5, law_s(5, p=0.3)), search="low", as_written=True)
    assert "searched 1 to 1" in model.choose(1.0, 0.0, 64).reason


def test_g6_without_a_baseline_it_is_guessed_until_there_is_one() -> None:
    guessed = told((5, 28.0))
    assert guessed.t1_s == pytest.approx(28.0 / 0.28)
    assert guessed.updated(Run(4, 1.0, 0.0, 35.0)).t1_s == guessed.t1_s
    assert guessed.updated(Run(1, 1.0, 0.0, 77.0)).t1_s == 77.0


def test_g7_a_start_up_longer_than_the_baseline_leaves_some_work() -> None:
    assert told((1, 10.0), startup_s=50.0).t1_s == pytest.approx(0.5)
