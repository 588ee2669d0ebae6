"""Laws of the models of parallelism: whatever the runs were, choices are possible, finite, and the same again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaper.models import AmdahlGP, Choice, ParallelismModel, Run

Model = ParallelismModel | AmdahlGP
MODELS: dict[str, Model] = {
    "default": ParallelismModel(),
    "published, repaired": AmdahlGP(),
    "published, as written": AmdahlGP(as_written=True),
}
every_model = pytest.mark.parametrize("empty", MODELS.values(), ids=MODELS)

usual_runs = st.lists(
    st.builds(
        Run,
        s=st.integers(1, 64),
        gamma=st.floats(0.1, 10),
        load=st.floats(0, 100),
        wall_s=st.floats(0.1, 1e4),
    ),
    max_size=16,
)
any_runs = st.lists(
    st.builds(
        Run,
        s=st.integers(1, 10**6),
        gamma=st.floats(1e-300, 1e300),
        load=st.floats(0, 1e300),
        wall_s=st.floats(1e-12, 1e15),
    ),
    max_size=16,
)


def learnt(empty: Model, runs: list[Run]) -> Model:
    for run in runs:
        empty = empty.updated(run)
    return empty


def check(choice: Choice, s_max: int, known: bool) -> None:
    assert 1 <= choice.s <= s_max
    assert isinstance(choice.s, int)
    assert choice.reason
    assert (choice.predicted_s is not None) == known
    assert choice.predicted_s is None or (choice.predicted_s > 0 and math.isfinite(choice.predicted_s))


@every_model
@settings(max_examples=20)
@given(runs=st.one_of(usual_runs, any_runs), s_max=st.integers(1, 300), urgency=st.sampled_from([0.5, 1, 2, 100]))
def test_choices_are_possible_and_estimates_finite_whatever_was_run(
    empty: Model, runs: list[Run], s_max: int, urgency: float
) -> None:
    model = learnt(empty, runs)
    for gamma, load in ((1.0, 0.0), (1e-9, 1e9), (1e300, 1e300), *((run.gamma, run.load) for run in runs[-1:])):
        choice = model.choose(gamma, load, s_max, urgency)
        check(choice, s_max, known=bool(runs))
        assert model.choose(gamma, load, s_max, urgency) == choice
        estimate = model.predict(s_max, gamma, load)
        assert (estimate.n == 0) == (not runs)
        if estimate.mean is not None:
            assert estimate.upper is not None
            assert 0 < estimate.mean < math.inf
            assert 0 < estimate.upper < math.inf


few_runs = st.lists(
    st.builds(
        Run,
        s=st.sampled_from([1, 2, 5, 8, 13]),
        gamma=st.sampled_from([0.5, 1.0, 2.0]),
        load=st.sampled_from([0.0, 3.0]),
        wall_s=st.floats(50, 100),
    ),
    min_size=1,
    max_size=10,
)


@every_model
@settings(max_examples=20)
@given(runs=few_runs, unit=st.sampled_from([1e-6, 1 / 60, 1000.0]))
def test_the_unit_of_time_changes_no_choice(empty: Model, runs: list[Run], unit: float) -> None:
    model = learnt(empty, runs)
    other = learnt(empty, [Run(run.s, run.gamma, run.load, run.wall_s * unit) for run in runs])
    for s in (1, 4, 30):
        mean, same = model.predict(s, 2.0, 1.0).mean, other.predict(s, 2.0, 1.0).mean
        assert mean is not None
        assert same == pytest.approx(mean * unit, rel=1e-3)
    for s_max in (2, 9, 64):
        # Equal but for rounding: the one's choice is as good to the other.
        chosen, wanted = other.choose(1.0, 0.0, s_max), model.choose(1.0, 0.0, s_max)
        assert chosen.s == wanted.s or chosen.predicted_s == pytest.approx(wanted.predicted_s * unit, rel=0.02)


@every_model
@settings(max_examples=8)
@given(runs=few_runs)
def test_a_model_is_a_value(empty: Model, runs: list[Run]) -> None:
    model = learnt(empty, runs)
    before = (model, repr(model), model.predict(7, 1.5, 2.0), model.choose(1.5, 2.0, 40))
    for run in runs:
        model.updated(run)
    assert before == (model, repr(model), model.predict(7, 1.5, 2.0), model.choose(1.5, 2.0, 40))
    assert learnt(empty, runs) == model
    assert learnt(empty, runs).predict(7, 1.5, 2.0) == before[2]
    assert empty.choose(1.0, 0.0, 8).s == 1


@settings(max_examples=20)
@given(runs=few_runs, data=st.data())
def test_the_order_of_runs_matters_only_where_something_changed(runs: list[Run], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(runs))
    model, other = learnt(MODELS["default"], runs), learnt(MODELS["default"], shuffled)
    assert isinstance(model, ParallelismModel)
    assert isinstance(other, ParallelismModel)
    if not model.changes and not other.changes:
        for s in (1, 4, 30):
            assert other.predict(s, 1.0, 0.0).mean == pytest.approx(model.predict(s, 1.0, 0.0).mean, rel=1e-3)
