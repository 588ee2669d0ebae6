"""Jobs with defaults, and the rules of scheduling once more, written as plainly as can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations, product

from shaper.scheduling import JobId, MoldableJob, Placement

Booked = list[tuple[float, float, int]]  # from, to, processors


def job(name: JobId, *times: float, release_s: float = 0.0) -> MoldableJob:
    return MoldableJob(name, release_s, times)


def linear(name: JobId, serial_s: float, processors: int = 4, release_s: float = 0.0) -> MoldableJob:
    return MoldableJob(name, release_s, [serial_s / j for j in range(1, processors + 1)])


def running(held: int, end_s: float, *, start_s: float = 0.0, name: JobId = -1) -> Placement:
    return Placement(MoldableJob(name, 0.0, [end_s - start_s] * held), held, start_s)


def shown(plan: Iterable[Placement]) -> list[tuple[JobId, int, float]]:
    return [(one.job.id, one.processors, one.start_s) for one in plan]


def booked(plan: Iterable[Placement]) -> Booked:
    return [(one.start_s, one.end_s, one.processors) for one in plan]


def peak(taken: Booked) -> int:
    """The most processors that are taken at once."""
    return max((sum(p for a, b, p in taken if a <= at < b) for at, _, _ in taken), default=0)


def useful(job: MoldableJob, limit: int) -> list[int]:
    """Allotments that are faster than every smaller one."""
    times = list(job.times[:limit])
    return [j for j in range(1, len(times) + 1) if all(times[j - 1] < earlier for earlier in times[: j - 1])]


def earliest(taken: Booked, machine: int, processors: int, span_s: float, from_s: float) -> float:
    """The first start from which on so many processors are free for so long."""
    for start in sorted({from_s, *(b for _, b, _ in taken if b > from_s)}):
        inside = [start, *(a for a, _, _ in taken if start < a < start + span_s)]
        if all(sum(p for a, b, p in taken if a <= at < b) + processors <= machine for at in inside):
            return start
    raise AssertionError(f"{processors} processors are never free")


def medf(
    jobs: Sequence[MoldableJob], taken: Booked, machine: int, now_s: float, stretch: float, cap: int | None = None
) -> list[tuple[JobId, int, float]] | None:
    """The rule of the paper, word for word."""
    taken, plan = list(taken), []
    for due, _, one in sorted(((j.release_s + stretch * j.times[0], j.id, j) for j in jobs), key=lambda item: item[:2]):
        for processors in useful(one, min(machine, cap or machine)):
            span = one.times[processors - 1]
            start = earliest(taken, machine, processors, span, max(now_s, one.release_s))
            if start + span <= due + 1e-9:
                break
        else:
            return None
        plan.append((one.id, processors, start))
        taken.append((start, start + span, processors))
    return plan


def best_max_stretch(jobs: Sequence[MoldableJob], taken: Booked, machine: int, now_s: float) -> float:
    """The optimum: every order and all allotments, each job at its earliest start; worse beginnings are cut off."""
    best = float("inf")
    for order in permutations(jobs):
        for processors in product(*(useful(one, machine) for one in order)):
            mine, worst = list(taken), 0.0
            for one, held in zip(order, processors, strict=True):
                span = one.times[held - 1]
                start = earliest(mine, machine, held, span, max(now_s, one.release_s))
                worst = max(worst, (start + span - one.release_s) / one.times[0])
                if worst >= best:
                    break
                mine.append((start, start + span, held))
            best = min(best, worst)
    return best


def backfilled(
    jobs: Sequence[MoldableJob], held: Sequence[int], taken: Booked, machine: int, now_s: float
) -> list[float]:
    """Starts of conservative backfilling, jobs first come first."""
    taken, starts = list(taken), []
    for one, processors in zip(jobs, held, strict=True):
        span = one.times[processors - 1]
        starts.append(earliest(taken, machine, processors, span, max(now_s, one.release_s)))
        taken.append((starts[-1], starts[-1] + span, processors))
    return starts


def iterative(
    jobs: Sequence[MoldableJob], taken: Booked, machine: int, now_s: float, *, improved: bool = False
) -> list[tuple[JobId, int, float]]:
    """The rule of Sabin et al., word for word; or its improved form."""
    jobs = sorted(jobs, key=lambda one: (one.release_s, one.id))
    held, marked = [1] * len(jobs), [False] * len(jobs)

    def ends(held: Sequence[int]) -> float:
        starts = backfilled(jobs, held, taken, machine, now_s)
        return sum(start + one.times[p - 1] for start, one, p in zip(starts, jobs, held, strict=True))

    now = ends(held)
    while True:
        gains = [
            (-(one.times[held[at] - 1] - one.times[held[at] + k - 1]) / k, at, k)
            for at, one in enumerate(jobs)
            for k in range(1, (min(machine, len(one.times)) - held[at] if improved else 1) + 1)
            if not marked[at] and held[at] + k <= min(machine, len(one.times))
        ]
        gain, at, k = min(gains, default=(0.0, 0, 0))
        if gain >= 0.0:
            break
        more = [p + k if n == at else p for n, p in enumerate(held)]
        if ends(more) < now * (1 - 1e-12):
            held, now = more, ends(more)
        else:
            marked[at] = True
    return [
        (one.id, p, start)
        for one, p, start in zip(jobs, held, backfilled(jobs, held, taken, machine, now_s), strict=True)
    ]


def offered_load(jobs: Sequence[MoldableJob]) -> float:
    """How many processors the jobs would keep busy from the first release to the last, each run on one."""
    releases = [one.release_s for one in jobs]
    return sum(one.times[0] for one in jobs) / (max(releases) - min(releases))
