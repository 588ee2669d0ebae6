import pytest

from shaper.errors import BadInput
from shaper.units import parse_bytes, parse_mib, parse_seconds, show_count, show_mib, show_seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("2GB", 2 * 10**9), ("1500MiB", 1500 * 2**20), ("1.5 GiB", 3 * 2**29), (512, 512), ("7", 7), ("1e3KB", 10**6)],
)
def test_sizes(text: str | int, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["12XB", "", "GB", "-2GB", "0", "nan", None])
def test_what_is_no_size_is_refused_with_the_name_and_an_example(text: str | None) -> None:
    with pytest.raises(BadInput, match=r"memory.*(like '2GB'|more than zero)"):
        parse_bytes(text, "memory")  # type: ignore[arg-type]


def test_mib_rounds_down_but_not_to_nothing() -> None:
    assert (parse_mib("2GB"), parse_mib("1KB"), parse_mib(300)) == (1907, 1, 300)


def test_a_memory_of_a_few_bytes_is_a_unit_that_was_forgotten() -> None:
    with pytest.raises(BadInput, match=r"memory '8000' is less than 1 MiB: give a unit"):
        parse_mib("8000", "memory")
    assert parse_mib(str(2**30)) == 1024


def test_durations() -> None:
    assert [parse_seconds(t) for t in ("90s", "15min", "2h", "250ms", 3)] == [90, 900, 7200, 0.25, 3]
    with pytest.raises(BadInput, match="target_wall '3 fortnights' is not a duration"):
        parse_seconds("3 fortnights", "target_wall")


def test_shown_values_carry_their_unit() -> None:
    assert [show_mib(v) for v in (850, 2150, None)] == ["850 MiB", "2.1 GiB", "?"]
    assert [show_seconds(v) for v in (0.04, 8.2, 200, 7500)] == ["40 ms", "8.2 s", "3 min 20 s", "2 h 05 min"]
    assert [show_count(v) for v in (950, 12_500, 3_200_000)] == ["950", "12.5k", "3.2M"]
