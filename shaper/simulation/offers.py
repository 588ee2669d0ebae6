"""Which workers to start for a run: shapes and counts compared by playing what its records have shown.

The shape is chosen first, with as many cores as the run has had: the least memory that is nearly as fast as the
fastest. Then the count: it is doubled as long as twice the workers cost at most a quarter more core-hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shaper import records
from shaper.engines import WorkerSpec
from shaper.errors import BadInput, Incomplete, Stalled
from shaper.models import Beliefs
from shaper.policy import Adaptive
from shaper.records import Records
from shaper.simulation.advise import Option, option
from shaper.simulation.offer import Offer, Shape, about, spaced
from shaper.simulation.replay import Replay, replay
from shaper.simulation.simulate import simulate
from shaper.types import Outcome
from shaper.units import MIB, show_count

_GB_PER_CORE = (1, 2, 4)
_OTHER_CORES = 8, 1  # beside those that the run has had, unless that is the first
_SEEDS = 3
_AS_FAST = 1.05
_DEARER = 1.25
_FEWER, _MORE = 2, 5  # so often the number of workers is halved and doubled
_SOONER = 0.9  # twice the workers are tried as long as they brought this much
_ROWS = 5
# What a manager needs at most to start one task (docs/engines.md); beliefs may show that it is faster.
_DISPATCH_S = 0.02


def advise(run_dir: Path, *, rest: bool, cores: int | None = None, memory: str | None = None) -> list[str]:
    """Return the advice as lines: a table, what is recommended, what more and fewer would change, what is not known.

    Args:
        rest: only what the run has not done yet, with what it has learnt; else all of it, begun anew.
        cores, memory: of a worker, where they are given.

    Raises:
        BadInput: no task has finished, nothing is left, or the run finishes on none of these workers.
    """
    recorded = records.read(run_dir)
    left, unknown = _left(recorded) if rest else (_whole(recorded), [])
    if rest and not any(left.values()):
        raise BadInput(f"hardly anything is left of {run_dir}: no worker that is started now would be of use")
    begun = replay(run_dir)
    case = replay(run_dir, left)
    learnt = records.learnt_from(recorded)
    attempts = [records.was(entry) for entry in recorded.tasks]
    case = replace(
        case,
        dispatch_s=min(_DISPATCH_S, learnt.dispatch_s or _DISPATCH_S),
        loss_rate=attempts.count(Outcome.LOST) / len(attempts),
    )
    known = learnt if rest else None
    shapes = _shapes(case, known, cores, memory)
    best, others = shapes[0], shapes[1:]
    if best.makespan_s == float("inf"):
        raise BadInput("the run finishes on none of these workers: single elements need more memory than they have")
    counts = _counts(case, known, best)
    chosen = recommended(counts)
    near = range(max(0, chosen - 1), min(len(counts), chosen + 2))
    counts = [_again(case, known, one) if at in near else one for at, one in enumerate(counts)]
    first = max(0, min(chosen - _ROWS // 2, len(counts) - _ROWS))
    lines = [f"{case.name}: {_told(recorded, left, rest=rest)}", ""]
    lines += _table(counts[first : first + _ROWS], counts[chosen], others)
    lines += ["", str(counts[chosen]), *_margins(counts, chosen), ""]
    if rest:
        lines.append("What is in flight counts as not begun.")
    lines += [*_checked(begun, recorded), *_unsure(case, counts[-1], unknown, attempts)]
    shape = counts[chosen].shape
    command = f"shaper workers start --max {counts[chosen].count} --cores {shape.cores} --memory {shape.memory}"
    return [*lines, f"to start them: {command}"]


def recommended(counts: Sequence[Offer]) -> int:
    """Which of these offers, from few to many workers: the last whose core-hours are little more than those before."""
    at = 0
    while at + 1 < len(counts) and counts[at + 1].core_hours <= _DEARER * counts[at].core_hours:
        at += 1
    return at


def _left(recorded: Records) -> tuple[dict[str, int], list[str]]:
    """Elements of each stage that have no result yet, and the stages of which nothing is known."""
    done: dict[str, int] = {}
    for entry in recorded.tasks:
        if entry["work"] == "process" and entry["verdict"] == "accept":
            done[entry["stage"]] = done.get(entry["stage"], 0) + entry["elements"]
    left = {name: max(0, row["elements"] - done.get(name, 0)) for name, row in recorded.stages.items()}
    return left, [name for name in left if name not in done]


def _whole(recorded: Records) -> dict[str, int]:
    return {name: row["elements"] for name, row in recorded.stages.items()}


def _simulated(case: Replay, known: Beliefs | None, shape: Shape, count: int, seed: int = 0) -> Option:
    return option(case, WorkerSpec(shape.cores, shape.memory_mib, count), None, seed, known=known)


def _shapes(case: Replay, known: Beliefs | None, cores: int | None, memory: str | None) -> list[Offer]:
    """Shapes with as many cores altogether, the one to take first."""
    had = max(case.workers, key=lambda spec: spec.cores * spec.count, default=None)
    own = cores or (had.cores if had is not None else 1)
    total = max(own, sum(spec.cores * spec.count for spec in case.workers))

    def offer(shape: Shape) -> Offer:
        count = max(1, round(total / shape.cores))
        return Offer(shape, count, (_simulated(case, known, shape, count),))

    found = [offer(Shape(own, memory or f"{per_core * own}GB")) for per_core in (_GB_PER_CORE if not memory else (0,))]
    best = _first(found)
    number = next(number for number in _OTHER_CORES if number != own)
    if cores is None and total >= 2 * number:
        gigabytes = max(1, round(best.shape.memory_mib * MIB / 1e9 * number / own))
        found.append(offer(Shape(number, memory or f"{gigabytes}GB")))
        best = _first(found)
    return [best, *(one for one in found if one is not best)]


def _first(found: Sequence[Offer]) -> Offer:
    """The least memory per core that is nearly as fast as the fastest; of the same the first."""
    fastest = min(one.makespan_s for one in found)
    near = [one for one in found if one.makespan_s <= _AS_FAST * fastest]
    return min(near, key=lambda one: round(one.shape.memory_mib / one.shape.cores, -2))


def _counts(case: Replay, known: Beliefs | None, best: Offer) -> list[Offer]:
    """Fewer and more workers of a shape, from few to many; more as long as they bring something."""
    shape, found = best.shape, [best]
    for _ in range(_FEWER):
        if found[0].count > 1:
            count = found[0].count // 2
            found.insert(0, Offer(shape, count, (_simulated(case, known, shape, count),)))
    for _ in range(_MORE):
        count = 2 * found[-1].count
        found.append(Offer(shape, count, (_simulated(case, known, shape, count),)))
        if found[-1].makespan_s > _SOONER * found[-2].makespan_s:
            break
    return found


def _again(case: Replay, known: Beliefs | None, one: Offer) -> Offer:
    more = tuple(_simulated(case, known, one.shape, one.count, seed) for seed in range(1, _SEEDS))
    return replace(one, runs=(*one.runs, *more))


# -- words -------------------------------------------------------------------------------------------------------


def _told(recorded: Records, left: dict[str, int], *, rest: bool) -> str:
    total = sum(_whole(recorded).values())
    finished = sum(records.was(entry) is Outcome.DONE for entry in recorded.tasks)
    what = f"{show_count(sum(left.values()))} of {show_count(total)} elements are left" if rest else "all of it, again"
    return f"{what}; simulated with what {finished} tasks have shown"


def _table(counts: Sequence[Offer], chosen: Offer, others: Sequence[Offer]) -> list[str]:
    rows = [("", "workers", "cores", "memory", "done in", "core-hours", "limit")]
    for one in [*counts, *others]:
        possible = one.makespan_s < float("inf")
        rows.append(
            (
                "->" if one is chosen else "",
                str(one.count),
                str(one.shape.cores),
                spaced(one.shape.memory),
                f"{about(one.makespan_s)}{one.spread}" if possible else "-",
                f"{one.core_hours:.3g}" if possible else "-",
                one.limit,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return ["  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[6]]) for row in rows]


def _margins(counts: Sequence[Offer], chosen: int) -> list[str]:
    """What the next larger and the next smaller number would change."""
    one, lines = counts[chosen], []
    for at, later in ((chosen + 1, "sooner"), (chosen - 1, "later")):
        if 0 <= at < len(counts):
            other = counts[at]
            hours = other.core_hours - one.core_hours
            lines.append(
                f"  {other.count} instead: {about(abs(one.makespan_s - other.makespan_s))} {later}, "
                f"{abs(hours):.3g} core-hours {'more' if hours >= 0 else 'less'}"
            )
    return lines


def _checked(begun: Replay, recorded: Records) -> list[str]:
    """How far this way to look ahead was off where the truth is known."""
    if len(recorded.sessions) != 1:
        return []
    try:
        again_s = simulate(begun, Adaptive()).makespan_s
    except (Incomplete, Stalled):
        return []
    known = f"it took {about(begun.makespan_s)}"
    return [f"Played again on all workers that it had, what the run has done takes {about(again_s)}; {known}."]


def _unsure(case: Replay, largest: Offer, unknown: Sequence[str], attempts: Sequence[Outcome]) -> list[str]:
    """What the figures do not know."""
    cores = sum(spec.cores * spec.count for spec in case.workers)
    lines = ["Workers are taken to be there from the beginning: the time that they wait in a queue comes on top."]
    if case.bandwidth is None:
        lines.append(f"With {cores} cores nothing waited for the data source; what it gives to more is not known.")
    else:
        lines.append("Tasks were seen to wait for the data source: what it gave then is taken to be all that it gives.")
    if largest.count * largest.shape.cores > 4 * cores:
        lines.append(f"The run has had {cores} cores at most: the longer rows are far from what was seen.")
    if attempts.count(Outcome.LOST):
        lines.append(f"{attempts.count(Outcome.LOST)} of {len(attempts)} attempts were lost; as many are lost here.")
    if unknown:
        lines.append(f"Nothing has finished of {', '.join(unknown)}: not counted.")
    return lines
