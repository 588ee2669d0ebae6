"""Tables of run times, the speed-up curves they come from, and what is refused."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from shaper.errors import BadInput
from shaper.scheduling import (
    Amdahl,
    Downey,
    Measured,
    MoldableJob,
    UniversalScalability,
    best_stretch,
    mapping_times,
    plan,
    run_times,
)
from shaper.scheduling.live import Sharing
from shaper.scheduling.mapping import GENOMES, READS, Costs
from tests.unit.scheduling_factory import job


@pytest.mark.parametrize(
    ("times", "useful"),
    [
        ((4.0,), [1]),
        ((4.0, 3.0, 2.0), [1, 2, 3]),
        ((4.0, 4.0, 2.0, 2.0, 1.0), [1, 3, 5]),  # steps
        ((4.0, 5.0, 3.0, 3.5, 2.9), [1, 3, 5]),  # humps
        ((4.0, 6.0, 5.0), [1]),
    ],
)
def test_an_allotment_is_useful_if_it_is_faster_than_every_smaller_one(
    times: tuple[float, ...], useful: list[int]
) -> None:
    made = job("a", *times)
    assert list(made.allotments) == useful
    assert [-negated for negated in made.negated_s] == [times[j - 1] for j in useful]
    assert made.least_work_s == min(j * times[j - 1] for j in useful)
    assert made.serial_s == times[0]


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (100, 3)])
def test_a_limit_leaves_the_useful_allotments_within_it(limit: int, count: int) -> None:
    assert job("a", 4.0, 4.0, 2.0, 2.0, 1.0).useful(limit) == count


def test_a_stretch_may_be_measured_in_something_else_than_the_run_time_on_one_processor() -> None:
    rest = MoldableJob("a", 0.0, [2.0, 1.0], 10.0)
    assert rest.serial_s == 10.0
    assert rest != job("a", 2.0, 1.0)
    assert best_stretch([rest], [], 2, 0.0) == pytest.approx(0.1)
    assert [(one.processors, one.end_s) for one in plan([rest], [], 2, 0.0, "iterative")] == [(2, 1.0)]


def test_jobs_are_values() -> None:
    one, same = job("a", 2.0, 1.0), MoldableJob("a", 0, np.array([2.0, 1.0]))
    assert one == same
    assert hash(one) == hash(same)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != job("a", 2.0, 1.5)
    assert list(one.times) == [2.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", 0.0, []), "job 'a': times must hold its run time on 1, 2, ... processors, got []"),
        (("a", 0.0, [1.0, 0.0]), "job 'a': its run time on 2 processors must be positive and below 1e+290, got 0"),
        (
            ("a", 0.0, [1.0, math.nan]),
            "job 'a': its run time on 2 processors must be positive and below 1e+290, got nan",
        ),
        (("a", 0.0, [math.inf]), "job 'a': its run time on 1 processors must be positive and below 1e+290, got inf"),
        (
            ("a", 0.0, [1.7e308]),
            "job 'a': its run time on 1 processors must be positive and below 1e+290, got 1.7e+308",
        ),
        (("a", 0.0, ["x"]), "job 'a': times must be numbers, got ['x']"),
        (
            ("a", 0.0, [[1.0], [2.0]]),
            "job 'a': times must hold its run time on 1, 2, ... processors, got [[1.0], [2.0]]",
        ),
        (("a", 0.0, None), "job 'a': times must hold its run time on 1, 2, ... processors, got None"),
        (("a", math.inf, [1.0]), "job 'a': release_s must be finite and below 1e+290, got inf"),
        (("a", "soon", [1.0]), "job 'a': release_s must be a number, got 'soon'"),
        (("a", 0.0, [1.0], 0.0), "job 'a': measure_s must be positive and below 1e+290, got 0.0"),
        (("a", 0.0, [1.0], math.inf), "job 'a': measure_s must be positive and below 1e+290, got inf"),
        ((None, 0.0, [1.0]), "the id of a job must be a whole number or a string, got None"),
        ((True, 0.0, [1.0]), "the id of a job must be a whole number or a string, got True"),
    ],
)
def test_a_job_that_cannot_be_is_refused_in_one_line(arguments: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        MoldableJob(*arguments)
    assert str(caught.value) == message


def test_an_id_may_be_a_number_of_numpy() -> None:
    made = MoldableJob(np.int64(3), 0.0, [1.0])  # type: ignore[arg-type]
    assert type(made.id) is int
    assert made == job(3, 1.0)


def test_downeys_curve_is_continuous_and_ends_at_the_average_parallelism() -> None:
    n = np.arange(1, 513)
    for v in (0.0, 0.3, 1.0, 1.7, 2.0):
        speedup = Downey(64.5, v).at(n)
        assert speedup[0] == pytest.approx(1.0)
        assert (np.diff(speedup) >= -1e-12).all()
        assert np.diff(speedup).max() <= 1.0 + 1e-12
        assert speedup[-1] == 64.5
    assert Downey(10.0, 0.0).at(np.array([4, 10, 11])).tolist() == [4.0, 10.0, 10.0]
    # The formulas of the two ranges of the variance agree where they meet.
    n = np.arange(1, 40)
    assert Downey(9.0, 1.0).at(n) == pytest.approx(Downey(9.0, 1.0 + 1e-12).at(n))
    # v <= 1, in the middle range: A n / (v (A - 1/2) + n (1 - v/2)).
    assert Downey(10.0, 0.5).at(np.array([15]))[0] == pytest.approx(150 / (0.5 * 9.5 + 15 * 0.75))
    # v >= 1: n A (v + 1) / (v (n + A - 1) + A), constant from A + A v - v on.
    assert Downey(10.0, 2.0).at(np.array([20, 28]))[0] == pytest.approx(20 * 10 * 3 / (2 * 29 + 10))
    assert Downey(10.0, 2.0).at(np.array([28]))[0] == pytest.approx(10.0)


def test_amdahls_and_gunthers_curves() -> None:
    n = np.array([1, 2, 10])
    assert Amdahl(0.1).at(n) == pytest.approx([1.0, 1 / 0.55, 1 / 0.19])
    assert UniversalScalability(0.1, 0.0).at(n) == pytest.approx(Amdahl(0.1).at(n))
    falling = run_times(100.0, UniversalScalability(0.05, 0.02), 64)
    assert falling.argmin() < 20
    assert max(MoldableJob(0, 0.0, falling).allotments) == falling.argmin() + 1


def test_a_measured_table_holds_each_time_until_the_next_measurement() -> None:
    times = run_times(10.0, Measured({1: 10.0, 4: 4.0, 2: 6.0}), 5)
    assert times == pytest.approx([10.0, 6.0, 6.0, 4.0, 4.0])
    with pytest.raises(BadInput, match="needs the run time on one processor"):
        Measured({2: 1.0})
    with pytest.raises(BadInput, match="must be positive"):
        Measured({1: 1.0, 2: -1.0})
    with pytest.raises(BadInput, match="must be positive"):
        Measured({1: 1.0, 2: "x"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Downey(0.5, 1.0), "parallelism must be at least 1, got 0.5"),
        (lambda: Downey(2.0, -1.0), "variance must be at least 0, got -1.0"),
        (lambda: Amdahl(1.5), "serial must be from 0 to 1, got 1.5"),
        (lambda: UniversalScalability(math.nan, 0.0), "contention must be at least 0, got nan"),
        (lambda: Downey("a", 1.0), "parallelism must be at least 1, got 'a'"),  # type: ignore[arg-type]
        (lambda: run_times(10.0, Amdahl(0.1), 0), "processors must be a whole number of at least 1, got 0"),
        (lambda: run_times(-1.0, Amdahl(0.1), 4), "serial_s must be positive and below 1e+290, got -1.0"),
        (lambda: run_times(math.nan, Amdahl(0.1), 4), "serial_s must be positive and below 1e+290, got nan"),
        (lambda: mapping_times(0, 1, 4), "genome must be positive and below 1e+290, got 0"),
        (lambda: mapping_times(1e6, 1e6, 4.5), "processors must be a whole number of at least 1, got 4.5"),  # type: ignore[arg-type]
        (lambda: Sharing(cap=1.5), "cap must be a whole number of at least 1, got 1.5"),  # type: ignore[arg-type]
    ],
)
def test_curves_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        make()
    assert str(caught.value) == message


def test_sequence_mapping_takes_the_best_grid_of_at_most_so_many_processors() -> None:
    costs = Costs(cgs=2.0, cg=3.0, crs=5.0, cr=7.0, cc=11.0)

    def grid(mg: int, mr: int, ms: int, *, printed: bool) -> float:
        compared = 11.0 * 13.0 / (mg * ms if printed else mg)
        return 2.0 * 13.0 / mg + 3.0 * 13.0 / (mg * ms) + 5.0 * 17.0 / mr + (7.0 + compared) * 17.0 / (mr * ms)

    for printed in (False, True):
        times = mapping_times(13.0, 17.0, 12, costs, printed=printed)
        for j in range(1, 13):
            grids = [
                grid(a, b, c, printed=printed)
                for a in range(1, j + 1)
                for b in range(1, j // a + 1)
                for c in range(1, j // (a * b) + 1)
            ]
            assert times[j - 1] == pytest.approx(min(grids))


def test_sequence_mapping_falls_in_steps_and_is_superlinear_only_as_printed() -> None:
    n = np.arange(1, 129)
    for genome in GENOMES:
        for reads in READS:
            times = mapping_times(genome, reads, 128)
            assert (np.diff(times) <= 0).all()
            assert (times[0] / times <= n * (1 + 1e-12)).all()
    steps = MoldableJob("m", 0.0, mapping_times(GENOMES[0], READS[0], 128))
    assert len(steps.allotments) < 128
    printed = mapping_times(GENOMES[-1], READS[-1], 128, printed=True)
    assert (printed[0] / printed > n * 1.5).any()
