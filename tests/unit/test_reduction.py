from shaper.pieces import StagePlan
from shaper.reduction import Reduction, Result, merged
from shaper.types import Source

SOURCES = [Source("a", 40), Source("empty", 0), Source("b", 40)]


def result(name: str, number: int, start: int, stop: int, size: int = 10) -> Result:
    return Result(name, ((number, start, stop),), stop - start, size)


def test_the_smallest_are_merged_first_and_it_waits_for_enough() -> None:
    reduction = Reduction(SOURCES)
    for name, size in (("big", 900), ("s1", 1), ("s2", 2)):
        reduction.add(result(name, 0, 0, 1, size))
    assert reduction.take(4, last=False) == ()
    assert [r.id for r in reduction.take(2, last=False)] == ["s1", "s2"]
    assert len(reduction) == 1


def test_at_the_end_fewer_are_merged() -> None:
    reduction = Reduction(SOURCES)
    reduction.add(result("x", 0, 0, 1))
    assert reduction.take(8, last=True) == ()
    reduction.add(result("y", 0, 1, 2))
    assert len(reduction.take(8, last=True)) == 2


def test_touching_ranges_join_so_that_a_result_stays_small() -> None:
    inputs = (result("x", 0, 10, 20), result("y", 0, 0, 10), result("z", 2, 0, 5))
    root = merged("r", inputs, 99)
    assert root.ranges == ((0, 0, 20), (2, 0, 5))
    assert (root.elements, root.size_bytes) == (25, 99)


def test_what_is_done_so_far_is_not_copied_by_every_merge() -> None:
    count, copied = 20_000, 0
    reduction = Reduction([Source(f"s{n}", 1) for n in range(count)])
    for n in range(count):
        reduction.add(result(f"r{n}", n, 0, 1))
        while inputs := reduction.take(8, last=n == count - 1):
            root = merged(f"m{n}.{len(reduction)}", inputs, 10)
            copied += len(root.ranges)
            reduction.add(root)
    assert len(reduction) == 1
    assert len(root.ranges) == count
    assert copied <= 100 * count


def test_ordered_results_merge_with_their_neighbours_only() -> None:
    reduction = Reduction(SOURCES, ordered=True)
    for row in (("c", 2, 0, 40), ("a1", 0, 0, 10), ("a3", 0, 20, 40)):
        reduction.add(result(*row))
    # a3 ends its source and the next one is empty, so c follows it; a1 waits for what lies between.
    assert [r.id for r in reduction.take(2, last=False)] == ["a3", "c"]
    reduction.add(result("a3c", 0, 20, 40))
    assert reduction.take(2, last=True, merging=1) == ()
    # Nothing else will come: the gap was skipped, and the order is still right.
    assert [r.id for r in reduction.take(2, last=True, merging=0)] == ["a1", "a3c"]


def test_merges_of_a_stage_are_no_category_of_another() -> None:
    """Beliefs go by category: a stage named after the merges of another would begin with what those have shown."""
    plan = StagePlan("individuals", (Source("a", 10),), category="individuals")
    assert plan.merge_category not in ("individuals", "individuals_merge")
