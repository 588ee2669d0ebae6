"""What tasks wait for their data is told from what else makes them slow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shaper.models import Beliefs
from shaper.types import Observation
from tests.unit.factories import chunk, seen, task

# A fixed part of a task, some of it CPU time, and what it takes for each element where nobody else reads.
FIXED_S, FIXED_CPU_S, EACH_S = 0.3, 0.05, 1e-4


def one(elements: int, beside: int, extra_s: float = 0.0) -> Observation:
    held_s = FIXED_S + EACH_S * elements + extra_s
    return seen(replace(task(chunk(elements)), beside=beside), wall_s=held_s, cpu_s=FIXED_CPU_S)


def after(*observations: Observation, beliefs: Beliefs | None = None) -> Beliefs:
    beliefs = beliefs or Beliefs()
    for observation in observations:
        beliefs = beliefs.updated(observation)
    return beliefs


PROBES = after(*(one(elements, 0) for elements in (32, 128, 512)))


def many(extra_s: dict[int, float], beside: int = 16) -> list[Observation]:
    return [one(elements, beside, extra_s[elements]) for _ in range(20) for elements in extra_s]


def test_the_fixed_cpu_time_of_small_probes_is_not_that_of_every_element() -> None:
    about = after(*many({500: 0.0, 2000: 0.0}), beliefs=PROBES).about("processing")
    assert about.unhindered is not None
    assert about.unhindered.median(2000) == pytest.approx(FIXED_S + EACH_S * 2000, rel=0.25)
    assert about.source_per_s is None


def test_what_grows_with_the_size_is() -> None:
    waits = many({500: 0.5, 2000: 2.0})
    given = after(*waits, beliefs=PROBES).about("processing").source_per_s
    assert given == pytest.approx(16 * 1250 / (FIXED_S + 1250 * (EACH_S + 1e-3)), rel=0.3)


def test_pacing_that_is_in_force_does_not_make_the_source_seem_slower_still() -> None:
    known = after(*many({500: 0.5, 2000: 2.0}), beliefs=PROBES)
    given = known.about("processing").source_per_s
    assert given is not None
    slow = known
    for _ in range(10):  # few at a time, as pacing wants it, on workers that have become slow
        slow = after(*many({500: 0.5, 2000: 2.0}, beside=5), beliefs=slow)
    now = slow.about("processing").source_per_s
    assert now is not None
    assert now >= 0.5 * given


def test_nor_do_small_tasks_that_all_take_longer_whatever_their_size() -> None:
    known = after(*many({500: 0.5, 2000: 2.0}), beliefs=PROBES)
    given = known.about("processing").source_per_s
    assert given is not None
    slow = known
    for _ in range(10):
        slow = after(*many({100: 1.0, 400: 1.0}), beliefs=slow)
    now = slow.about("processing").source_per_s
    assert now is not None
    assert now >= 0.5 * given


def test_the_first_of_a_crowd_to_end_say_nothing_of_the_source() -> None:
    # One after the other, as the source serves them: 16 tasks of 1000 elements in 16 s.
    crowd = [one(1000, 15, float(number)) for number in range(16)]
    assert after(*crowd[:6], beliefs=PROBES).about("processing").source_per_s is None
    given = after(*crowd, beliefs=PROBES).about("processing").source_per_s
    assert given == pytest.approx(1000.0, rel=0.4)


def test_what_waits_by_chance_counts_by_its_time_not_by_its_logarithm() -> None:
    # Half the tasks find the source free, half wait 20 s: by Little's law on average 10 s.
    waits = [
        one(elements, 16, extra_s) for _ in range(20) for elements in (500, 2000) for extra_s in (0.0, elements / 100)
    ]
    given = after(*waits, beliefs=PROBES).about("processing").source_per_s
    assert given == pytest.approx(16 * 1250 / (FIXED_S + 6.25), rel=0.3)


def recalled(cpu_factor: float, extra_s: float) -> Beliefs:
    """A run that recalls one beside few, after tasks beside many that take so much longer."""
    known = after(*(one(elements, 0) for elements in (32, 128, 512, 1024) * 3)).remembered()
    slower = [
        seen(
            replace(task(chunk(elements)), beside=15),
            wall_s=FIXED_S + EACH_S * elements + extra_s * elements / 1000,
            cpu_s=cpu_factor * FIXED_CPU_S,
        )
        for elements in (500, 1000) * 20
    ]
    return after(*slower, beliefs=known)


def test_who_computes_as_long_as_ever_and_takes_longer_beside_many_waits_for_the_source() -> None:
    assert recalled(1.0, 4.0).about("processing").source_per_s == pytest.approx(16 * 750 / 3.4, rel=0.3)


def test_who_computes_longer_does_not() -> None:
    assert recalled(10.0, 4.0).about("processing").source_per_s is None


@pytest.mark.parametrize(("extra_s", "is_kept"), [(20.0, False), (0.0, True)])
def test_a_source_is_forgotten_where_waiting_for_it_does_not_explain_how_long_tasks_take(
    extra_s: float, is_kept: bool
) -> None:
    known = after(*many({500: 0.5, 2000: 2.0}), beliefs=PROBES).remembered()
    given = known.about("processing").source_per_s
    assert given is not None
    # Beside as many as before: as long as the source makes them wait, or all of them for a time that is not its.
    waits = {elements: 16 * elements / given + extra_s for elements in (500, 2000)}
    now = after(*many(waits, beside=15), beliefs=known).about("processing").source_per_s
    assert now == (pytest.approx(given, rel=0.3) if is_kept else None)


def test_a_few_that_take_long_do_not_make_it_forgotten() -> None:
    known = after(*many({500: 0.5, 2000: 2.0}), beliefs=PROBES).remembered()
    given = known.about("processing").source_per_s
    assert given is not None
    first = after(*[one(2000, 15, 20.0)] * 5, beliefs=known)
    assert first.about("processing").untold > 0
    waits = {elements: 1.1 * 16 * elements / given for elements in (500, 2000)}  # nothing that tells
    now = after(*many(waits, beside=15), beliefs=first).about("processing")
    assert now.untold < first.about("processing").untold
    assert now.source_per_s == pytest.approx(given, rel=0.3)


def test_who_takes_longer_alone_waits_for_nobody() -> None:
    known = after(*(one(elements, 0) for elements in (32, 128, 512, 1024) * 3)).remembered()
    alone = after(*(one(elements, 0, 20.0) for elements in (500, 1000) * 3), beliefs=known).about("processing")
    assert alone.unhindered is not None
    assert alone.unhindered.median(1000) == pytest.approx(FIXED_S + EACH_S * 1000 + 20.0, rel=0.1)
