"""The models of parallelism: which run they ask for, what they make of odd ones, and that they are kept as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shaper.errors import BadInput
from shaper.models import AmdahlGP, AmdahlSettings, Choice, ParallelismModel, ParallelismSettings, Run

Model = ParallelismModel | AmdahlGP
EMPTY: dict[str, Model] = {
    "default": ParallelismModel(),
    "published, repaired": AmdahlGP(),
    "published, as written": AmdahlGP(as_written=True),
}
every_model = pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)


def amdahl_s(s: float, serial_s: float = 10.0, parallel_s: float = 90.0) -> float:
    return serial_s + parallel_s / s


def contended_s(s: float) -> float:
    return 5.0 + 100.0 / s + 0.5 * (s - 1)  # least at s = 14


def told(model: Any, *runs: tuple[float, ...]) -> Any:
    """A model after runs of (s, wall_s), (s, wall_s, gamma) or (s, wall_s, gamma, load)."""
    for s, wall_s, *others in runs:
        gamma, load = [*others, 1.0, 0.0][:2] if len(others) != 1 else (others[0], 0.0)
        model = model.updated(Run(int(s), gamma, load, wall_s))
    return model


def played(
    model: Any, wall_s: Callable[[float], float], runs: int, s_max: int = 32, noise: float = 0.0, **how: Any
) -> tuple[Any, list[Choice]]:
    """The choices of a model that learns from each."""
    rng, choices = np.random.default_rng(7), []
    for _ in range(runs):
        choices.append(model.choose(1.0, 0.0, s_max, **how))
        s = choices[-1].s
        model = told(model, (s, wall_s(s) * math.exp(noise * rng.normal())))
    return model, choices


@every_model
def test_empty_it_asks_for_the_baseline_then_for_the_probe_then_optimises(empty: Model) -> None:
    _, choices = played(empty, amdahl_s, 3)
    assert [choice.s for choice in choices[:2]] == [1, 5]
    assert choices[0].predicted_s is None
    assert "baseline" in choices[0].reason
    assert "probe" in choices[1].reason
    assert choices[2].s not in (1, 5)
    assert "p = 0.90" in choices[2].reason or "law fitted to 2 runs" in choices[2].reason


@every_model
def test_the_cost_is_least_where_the_law_says(empty: Model) -> None:
    _, choices = played(empty, amdahl_s, 12)
    # T sqrt(s) is least at 90 / 10 = 9, and within 1 % of that from 7 to 12.
    assert 7 <= choices[-1].s <= 12
    assert choices[-1].predicted_s == pytest.approx(amdahl_s(choices[-1].s), rel=0.05)


@every_model
def test_urgency_goes_from_money_to_time(empty: Model) -> None:
    model, _ = played(empty, amdahl_s, 12)
    money, rule, urgent = (model.choose(1.0, 0.0, 32, urgency).s for urgency in (0.5, 1.0, 2.0))
    assert money <= 2 < rule < urgent


def test_for_the_makespan_only_contention_limits_the_tasks() -> None:
    free, choices = played(ParallelismModel(), amdahl_s, 8, s_max=64, objective="makespan", noise=0.03)
    assert [choice.s for choice in choices[2:]] == [64] * 6
    assert "more are not known to be slower" in choices[-1].reason
    _, choices = played(ParallelismModel(), contended_s, 12, s_max=64, objective="makespan", noise=0.03)
    slower = [contended_s(choice.s) / contended_s(14) for choice in choices[-4:]]
    assert max(slower) < 1.1
    assert "more are slower" in choices[-1].reason
    # The cost wants fewer of the same stage.
    assert free.choose(1.0, 0.0, 64).s < 20


def test_the_prior_alone_does_not_limit_the_tasks_for_the_makespan() -> None:
    model = told(ParallelismModel(), (1, 10.0), (5, 4.0))
    choice = model.choose(1.0, 0.0, 512, objective="makespan")
    assert choice.s == 512
    assert "more are not known to be slower" in choice.reason
    # As fast as noise makes it is no evidence; slower than fewer by more than that is.
    assert told(model, (128, 3.0)).choose(1.0, 0.0, 512, objective="makespan").s == 512
    slow = told(model, (128, 6.0)).choose(1.0, 0.0, 512, objective="makespan")
    assert 5 < slow.s < 128
    assert "more are slower" in slow.reason


@every_model
def test_the_mean_is_never_above_what_95_of_100_stay_below(empty: Model) -> None:
    for model in (told(empty, (1, 10.0)), told(empty, *[(s, 10.0) for s in (1, 5, 2, 3)], (2, 1e9), (1, 1e-9))):
        for gamma in (1.0, 1e-6, 1e6):
            estimate = model.predict(1, gamma, 0.0)
            assert estimate.mean is not None
            assert estimate.upper is not None
            assert estimate.mean <= estimate.upper


def test_for_the_makespan_the_published_model_takes_the_least_time() -> None:
    model, _ = played(AmdahlGP(), amdahl_s, 8)
    assert model.choose(1.0, 0.0, 32, objective="makespan").s == 32


def test_a_stage_twice_as_long_is_noticed_with_the_first_run_that_is() -> None:
    model, _ = played(ParallelismModel(), amdahl_s, 15, noise=0.03)
    late, choices = played(model, lambda s: 2 * amdahl_s(s), 3, noise=0.03)
    assert late.changes == (16,)
    assert "changed at run 16" in choices[1].reason
    assert late.predict(9, 1.0, 0.0).mean == pytest.approx(2 * amdahl_s(9), rel=0.1)


def test_one_straggler_is_no_change_for_long() -> None:
    model, _ = played(ParallelismModel(), amdahl_s, 15, noise=0.03)
    after, _ = played(told(model, (9, 3 * amdahl_s(9))), amdahl_s, 2, noise=0.03)
    assert after.predict(9, 1.0, 0.0).mean == pytest.approx(amdahl_s(9), rel=0.05)
    assert after.regimes[-1] == model.regimes[-1]


@every_model
def test_size_and_load_are_learnt(empty: Model) -> None:
    runs = [(s, amdahl_s(s) * gamma**1.3 * (1 + 0.03 * load), gamma, load)
            for s in (1, 5, 9) for gamma in (1.0, 2.0, 0.5) for load in (0.0, 8.0)]  # fmt: skip
    model = told(empty, *runs)
    mean_s = model.predict(9, 2.0, 8.0).mean
    within = 0.3 if model == told(AmdahlGP(as_written=True), *runs) else 0.1
    assert mean_s == pytest.approx(amdahl_s(9) * 2**1.3 * 1.24, rel=within)


@every_model
@pytest.mark.parametrize(
    "runs",
    [
        [(1, 50.0)],
        [(7, 50.0)],
        [(1, 50.0)] * 20,
        [(5, 50.0)] * 20,
        [(1, 50.0 + n % 3) for n in range(20)],
        [(1, 50.0), (4, 80.0), (4, 90.0), (8, 150.0)],
        [(1, 50.0), (50, 1.0), (50, 1.0)],
        [(1, 50.0), (5, 50.0), (5, 50.0)],
        [(1 + n % 6, amdahl_s(1 + n % 6)) for n in range(70)],
        [(1, 1e-12), (5, 1e15), (9, 1e-12)],
        [(10**6, 3.0, 1e300, 1e300), (1, 3.0, 1e-300)],
    ],
    ids=[
        "one run", "one run, not at s = 1", "s = 1 only", "identical", "s = 1 and noise", "negative p", "superlinear",
        "no gain", "more than the window", "absurd times", "absurd inputs",
    ],
)  # fmt: skip
def test_whatever_was_run_it_answers(empty: Model, runs: list[tuple[float, ...]]) -> None:
    model = told(empty, *runs)
    for s_max in (1, 2, 40):
        for objective in ("cost", "makespan"):
            choice = model.choose(1.0, 0.0, s_max, objective=objective)
            assert 1 <= choice.s <= s_max
            assert choice.predicted_s is not None
            assert 0 < choice.predicted_s < math.inf
    estimate = model.predict(3, 2.0, 1.0)
    assert estimate.mean is not None
    assert estimate.upper is not None
    assert 0 < estimate.mean < math.inf
    assert 0 < estimate.upper < math.inf
    assert len(model.runs) <= 51


def test_more_tasks_that_were_always_slower_are_not_asked_for() -> None:
    model = told(ParallelismModel(), (1, 50.0), (4, 80.0), (2, 60.0), (4, 90.0), (8, 150.0))
    assert model.choose(1.0, 0.0, 64).s == 1
    assert model.choose(1.0, 0.0, 64, objective="makespan").s <= 2


def test_a_probe_that_straggled_is_looked_at_again() -> None:
    # T(5) sqrt(5) seems dearer than one task, by less than noise and a straggler make.
    choice = told(ParallelismModel(), (1, 50.0), (5, 30.0)).choose(1.0, 0.0, 16)
    assert choice.s == 2
    assert "second look" in choice.reason
    assert told(ParallelismModel(), (1, 50.0), (5, 30.0), (2, 39.0)).choose(1.0, 0.0, 16).s == 1
    # What is far dearer is believed at once.
    assert told(ParallelismModel(), (1, 50.0), (5, 40.0)).choose(1.0, 0.0, 16).s == 1


def test_the_window_keeps_what_tells_the_curve() -> None:
    model = told(ParallelismModel(), (1, 100.0), (5, 28.0), *[(9, 20.0)] * 100)
    assert len(model.runs) == 50
    assert {run.s for run in model.runs} == {1, 5, 9}
    assert model.seen == 102


@pytest.mark.parametrize("wall_s", [0.0, -1.0, math.nan, math.inf, None, "5", 10**400])
def test_a_time_that_cannot_be_is_refused(wall_s: Any) -> None:
    with pytest.raises(BadInput, match=r"wall_s is .* if the clock was set, leave this run out"):
        Run(2, 1.0, 0.0, wall_s)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0, 1.0, 0.0, 5.0), "s is 0"),
        ((2.5, 1.0, 0.0, 5.0), "s is 2.5"),
        ((2, 0.0, 0.0, 5.0), "gamma is 0.0"),
        ((2, math.nan, 0.0, 5.0), "gamma is nan"),
        ((2, 1.0, -1.0, 5.0), "load is -1.0"),
        ((2, 1.0, math.inf, 5.0), "load is inf"),
        ((10**400, 1.0, 0.0, 5.0), "s is 1000"),
        (("2", 1.0, 0.0, 5.0), "s is '2'"),
        ((2, None, 0.0, 5.0), "gamma is None"),
        ((2, 1.0, "0", 5.0), "load is '0'"),
    ],
)
def test_a_run_that_cannot_be_is_refused(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Run(*given)


@every_model
def test_questions_that_make_no_sense_are_refused(empty: Model) -> None:
    for model in (empty, told(empty, (1, 50.0), (5, 20.0))):
        with pytest.raises(BadInput, match="s_max is 0"):
            model.choose(1.0, 0.0, 0)
        with pytest.raises(BadInput, match="gamma is -1"):
            model.predict(1, -1.0, 0.0)
        with pytest.raises(BadInput, match="s_max is None"):
            model.choose(1.0, 0.0, None)  # type: ignore[arg-type]
        urgencies: list[Any] = [0.0, math.nan, math.inf, None, "1"]
        for urgency in urgencies:
            with pytest.raises(BadInput, match="urgency is"):
                model.choose(1.0, 0.0, 4, urgency)
        with pytest.raises(BadInput, match="objective is 'fun'"):
            model.choose(1.0, 0.0, 4, objective="fun")  # type: ignore[arg-type]


@every_model
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_a_model_is_kept_as_json_and_is_the_same_again(empty: Model, count: int) -> None:
    rng = np.random.default_rng(count)
    runs = [(int(rng.integers(1, 12)), float(rng.lognormal(3, 0.4)), float(rng.choice([1, 2]))) for _ in range(count)]
    model = told(empty, *runs)
    again = type(model).from_json(json.loads(json.dumps(model.to_json())))
    assert again == model
    for n in range(3):
        assert again.predict(4, 1.5, 2.0) == model.predict(4, 1.5, 2.0)
        assert again.choose(1.5, 2.0, 20) == model.choose(1.5, 2.0, 20)
        model, again = told(model, (3 + n, 20.0)), told(again, (3 + n, 20.0))


@every_model
def test_reading_a_model_back_searches_no_kernel(empty: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = played(empty, amdahl_s, 15, noise=0.04)
    for where in ("surface", "residual"):
        monkeypatch.setattr(f"shaper.models.{where}.tuned", lambda *_: pytest.fail("searched"))
    assert type(empty).from_json(model.to_json()).predict(7, 1.0, 0.0) == model.predict(7, 1.0, 0.0)


@every_model
def test_what_is_not_a_kept_model_is_refused_by_name(empty: Model) -> None:
    kept = told(empty, (1, 50.0), (5, 20.0)).to_json()
    broken: list[Any] = [
        {},
        None,
        {**kept, "model": "another"},
        {**kept, "runs": [[1, 1.0, 0.0, -5.0]]},
        {**kept, "runs": kept["runs"][:1]},
        {**kept, "settings": {"probe": 1}},
        {**kept, "settings": {"unknown": 1}},
        {**kept, "kernel": None},
        {**kept, "kernel": [1.0, [1.0, -1.0, 1.0], 1.0]},
    ]
    for each in broken:
        with pytest.raises(BadInput, match="not a kept model of parallelism, forget it"):
            type(empty).from_json(each)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("watch", [None, {"slower": "x"}, {"slower": math.nan}, {"slower": -1.0}, {"other": 1.0}]),
        ("seen", [None, -5, "x", 2.0, math.inf]),
        ("changes", [None, [math.inf], [1.5], ["1"], 3]),
        ("regimes", [None, [0], [0, -1], [0, 0.5], [0, 10**400]]),
        ("kernel", [None, [], [1e308, [1e-308] * 3, 1e-308], [1e3, [1.0] * 2, 1.0], [math.nan, [1.0] * 3, 1.0]]),
        ("settings", [None, {"probe": "5"}, {"probe": 3.5}, {"tie": math.nan}, {"startup_s": "1"}, {"eta": None}]),
        ("runs", [None, [], [[1, 1.0, 0.0]] * 2, [[10**400, 1.0, 0.0, 1.0]] * 2, [["1", 1.0, 0.0, 1.0]] * 2]),
        ("p", [math.nan, -0.1, 1.0, "x"]),
        ("k", [None, math.nan, 1e308, -1.0]),
        ("t1_s", [None, 0.0, -1.0, math.nan, 10**400]),
        ("kept_s", [None, [0.0], [0.0, math.nan], [0.0, 10**400]]),
        ("measured", [None, 1, "yes"]),
        ("as_written", [None, 1]),
    ],
)
@every_model
def test_every_part_of_a_kept_model_is_checked(empty: Model, part: str, values: list[Any]) -> None:
    kept = told(empty, (1, 50.0), (5, 20.0)).to_json()
    if part not in kept:
        pytest.skip("the other model's")
    for value in values:
        with pytest.raises(BadInput, match="not a kept model of parallelism, forget it"):
            type(empty).from_json({**kept, part: value})
    if part == "settings":
        assert type(empty).from_json({**kept, "settings": {}}) == type(empty).from_json(kept)


@pytest.mark.parametrize("kind", [AmdahlSettings, ParallelismSettings])
@pytest.mark.parametrize("given", [{"probe": "5"}, {"probe": 2.5}, {"window": None}])
def test_settings_that_are_no_numbers_are_refused(kind: Any, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        kind(**given)


@pytest.mark.parametrize("given", [{"startup_s": "1"}, {"startup_s": None}, {"eta": "x"}, {"retention": "x"}])
def test_settings_of_the_published_model_that_are_no_numbers_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        AmdahlSettings(**given)


def test_without_scikit_learn_the_law_alone_speaks_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def wavy(s: float) -> float:
        return amdahl_s(s) * (1 + 0.15 * math.sin(s))

    runs = [(s, wavy(s)) for s in (1, 5, *(2, 9, 3, 7, 4, 8, 6, 10) * 3)]
    monkeypatch.setitem(sys.modules, "sklearn", None)
    model = told(ParallelismModel(), *runs)
    assert "scikit-learn is not installed, pip install shaper[models]" in model.choose(1.0, 0.0, 16).reason
    assert "scikit-learn is not installed" in told(ParallelismModel(), (1, 50.0)).choose(1.0, 0.0, 4).reason
    assert model.surface is not None
    assert model.surface.process is None
    assert "scikit-learn is not installed" in told(AmdahlGP(), *runs).choose(1.0, 0.0, 16).reason
    monkeypatch.undo()
    whole = told(ParallelismModel(), *runs)
    assert "scikit-learn" not in whole.choose(1.0, 0.0, 16).reason
    assert "Gaussian process" in whole.choose(1.0, 0.0, 16).reason
    again = ParallelismModel.from_json(json.loads(json.dumps(whole.to_json())))
    assert again.predict(8, 1.0, 0.0) == whole.predict(8, 1.0, 0.0)
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(sys.modules, "sklearn", None)
        moved = ParallelismModel.from_json(whole.to_json())
        assert moved.predict(8, 1.0, 0.0) == model.predict(8, 1.0, 0.0)
        assert "scikit-learn is not installed" in moved.choose(1.0, 0.0, 16).reason
    errors = [
        sum(abs(each.predict(s, 1.0, 0.0).mean - wavy(s)) for s in range(2, 11))  # type: ignore[operator]
        for each in (whole, model)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_exploring_is_off_unless_asked_for() -> None:
    def spread(explore: Any) -> int:
        settings = ParallelismSettings(tie=0.0, explore=explore)
        _, choices = played(ParallelismModel(settings), amdahl_s, 25, noise=0.04)
        return len({choice.s for choice in choices[2:]})

    assert spread("none") <= 5
    assert spread("thompson") > spread("none")
    model = told(ParallelismModel(ParallelismSettings(explore="improvement")), (1, 100.0), (5, 28.0))
    assert "expected improvement" in model.choose(1.0, 0.0, 64).reason
    published = told(AmdahlGP(settings=AmdahlSettings(acquisition="improvement")), (1, 100.0), (5, 28.0))
    assert "expected improvement" in published.choose(1.0, 0.0, 64).reason


@pytest.mark.parametrize(
    "settings", [{"probe": 1}, {"window": 7}, {"tie": -0.1}, {"tie": 1.0}, {"explore": "everything"}]
)
def test_settings_of_the_default_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        ParallelismSettings(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"startup_s": -1.0},
        {"startup_s": math.nan},
        {"probe": 1},
        {"window": 1},
        {"retention": 1.5},
        {"eta": 1.0},
        {"search": "wide"},
        {"acquisition": "fun"},
    ],
)
def test_settings_of_the_published_model_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        AmdahlSettings(**settings)
