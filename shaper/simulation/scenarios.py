"""Named worlds in which policies are compared: the experiments of the source paper, and what they leave out.

Figures and their settings are those of Tovar et al. 2022. What the paper does not print:

    dispatch_s        0.18   fig6-c: 49,784 tasks in 9375 s are 5.3 per second, by one manager
    slot_overhead_s   1.5    fig6-c: what is left of 160 slots' time beside F, the events and dispatch (transfers)
    fig6-warm                F 0.6 s, dispatch 0.02 s, slot 0.05 s: a warm call and opening a file, as measured here
    bandwidth         600e6 B/s (fig10: flattens between 60 and 100 workers), 160e6 (a quarter of 160 readers)
    3988              bytes per element: 203 GB of 51 million events
    fig11             1 Gbit/s manager (100 MB/s), 5 GB/s shared file system, a third of the environment is read;
                      260 MB packed, 850 MB unpacked and 10 s to activate are the paper's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shaper.engines import WorkerSpec
from shaper.errors import BadInput
from shaper.policy.fixed import OnExhaustion
from shaper.simulation.workload import Workload, World, world

GB_MIB = 954  # 10**9 bytes, rounded up
_MANY = 40


@dataclass(frozen=True, slots=True)
class Scenario:
    """A workload on a cluster.

    Args:
        name: as `shaper simulate --scenario` takes it.
        title: what it is about, one line.
        workloads: by stage name; several run at once.
        workers: what connects, and when.
        dispatch_s: the manager is busy so long for each task.
        slot_overhead_s: a slot is held so much longer than a task runs.
        bandwidth: of the source that all tasks read, bytes per second.
        loss_rate: share of the attempts that are lost.
        target_mib, first_guess: what the experiment told the published rule.
        fixed: chunksize, cores and memory, where the experiment is one fixed setting.
        on_exhaustion: what that setting does about a task over its memory.
    """

    name: str
    title: str
    workloads: Mapping[str, Workload]
    workers: tuple[WorkerSpec, ...]
    dispatch_s: float = 0.18
    slot_overhead_s: float = 1.5
    bandwidth: float | None = None
    loss_rate: float = 0.0
    target_mib: int | None = None
    first_guess: int = 128 * 1024
    fixed: tuple[int, int, int] | None = None
    on_exhaustion: OnExhaustion = "fail"

    @property
    def engine_options(self) -> dict[str, Any]:
        """Keyword arguments of the simulated engine."""
        return {
            "dispatch_s": self.dispatch_s,
            "slot_overhead_s": self.slot_overhead_s,
            "bandwidth": self.bandwidth,
            "loss_rate": self.loss_rate,
        }

    def worlds(self, seed: int) -> dict[str, World]:
        """The sources of every stage, drawn."""
        return {stage: world(load, name=stage, seed=seed) for stage, load in self.workloads.items()}

    def scaled(self, share: float) -> Scenario:
        """A smaller one of the same shape: elements, sources and workers by `share`, at least one of each."""

        def less(number: int) -> int:
            return max(1, round(number * share))

        workloads = {
            stage: replace(load, sources=less(load.sources), elements=max(less(load.elements), less(load.sources)))
            for stage, load in self.workloads.items()
        }
        workers = tuple(replace(spec, count=less(spec.count)) for spec in self.workers)
        return replace(
            self,
            workloads=workloads,
            workers=workers,
            bandwidth=self.bandwidth * share if self.bandwidth is not None else None,
            dispatch_s=self.dispatch_s / share,
        )


def worlds_apart() -> list[str]:
    """The names of scenarios whose worlds differ; those of one fixed setting differ in that setting alone."""
    return [name for name, case in SCENARIOS.items() if case.fixed is None or name == "fig6-a"]


def _workers(cores: int, memory_gb: float, count: int, **when: Any) -> WorkerSpec:
    return WorkerSpec(cores, round(memory_gb * GB_MIB), count, name=f"{cores}x{memory_gb:g}GB", **when)


_BASE = Workload()
_SMALL = (_workers(4, 8, _MANY),)
_FIG6 = (_workers(4, 16, _MANY),)

SCENARIOS: dict[str, Scenario] = {}


def _add(
    name: str, title: str, workers: Sequence[WorkerSpec] = _SMALL, workload: Workload = _BASE, **more: Any
) -> None:
    workloads = more.pop("workloads", {"processing": workload})
    SCENARIOS[name] = Scenario(name, title, workloads, tuple(workers), **more)


def _fill() -> None:
    for letter, chunksize, cores, memory_gb in (
        # 128K in the paper; but its 803 tasks of 182 s can only come from about 75K, these files give at most 607.
        ("a", 75_000, 1, 4),
        ("a-128k", 128 * 1024, 1, 4),
        ("b", 512 * 1024, 4, 8),
        ("c", 1024, 1, 2),
        ("d", 1024, 4, 8),
        ("e", 512 * 1024, 1, 2),
    ):
        _add(
            f"fig6-{letter}",
            f"{chunksize / 1024:.0f}K, {cores} cores and {memory_gb} GB per task; workers of 4 cores and 16 GB",
            _FIG6,
            fixed=(chunksize, cores, round(memory_gb * GB_MIB)),
        )
    _add(
        "fig6-warm",
        "workers that stay warm: the fixed cost is a warm call and opening the file",
        _FIG6,
        replace(_BASE, fixed_s=0.6, fixed_noise=0.3, open_s=0.5),
        dispatch_s=0.02,
        slot_overhead_s=0.05,
    )
    for letter, cap, gb in (("a", "no cap", 8.0), ("b", "a cap of 2 GB", 2.0), ("c", "a cap of 1 GB", 1.0)):
        _add(
            f"fig7-{letter}",
            f"128K per task with {cap}, workers of 4 cores and 8 GB",
            target_mib=round(gb * GB_MIB),
            fixed=(128 * 1024, 1, round(min(gb, 2.1) * GB_MIB)),
            on_exhaustion="halve" if gb > 2.1 else "split",
        )
    _add("fig8-a", "from a first guess of 1K towards 2 GB", target_mib=2 * GB_MIB, first_guess=1024)
    _add(
        "fig8-b",
        "from a first guess of 512K towards 1 GB, on workers of 1 core and 1 GB and one of 2 GB",
        (_workers(1, 1, _MANY), _workers(1, 2, 1)),
        target_mib=GB_MIB,
        first_guess=512 * 1024,
    )
    _add(
        "fig8-c",
        "an option that takes eight times the memory per event, towards 2 GB",
        workload=replace(_BASE, mib_per_element=8 * _BASE.mib_per_element),
        target_mib=2 * GB_MIB,
    )
    _add(
        "fig9",
        "10 workers, 40 more, all gone at 1000 s, 30 back a few minutes later",
        (
            _workers(4, 8, 10, leaves_s=1000.0),
            _workers(4, 8, _MANY, joins_s=470.0, leaves_s=1000.0),
            _workers(4, 8, 30, joins_s=1240.0),
        ),
    )
    for count in (10, 20, 40, 60, 80, 100, 120):
        _add(
            f"fig10-{count}",
            f"{count} workers that read one shared file system",
            (_workers(4, 8, count),),
            replace(_BASE, bytes_per_element=3988.0),
            bandwidth=600e6,
        )
    _environments()
    _beyond()


def _environments() -> None:
    """Fig. 11: a software environment of 260 MB packed, 850 MB unpacked, about 10 s to activate."""
    link_bytes_per_s, shared_bytes_per_s, unpack_s, activate_s = 100e6, 5e9, 4.0, 10.0
    packed_bytes, unpacked_bytes = 260e6, 850e6
    own = replace(_BASE, fixed_s=_BASE.fixed_s - activate_s)
    _add(
        "fig11-shared",
        "every task loads its environment from the shared file system",
        workload=own,
        slot_overhead_s=1.5 + activate_s + _MANY * unpacked_bytes / 3 / shared_bytes_per_s,
    )
    _add(
        "fig11-factory",
        "workers start inside the environment",
        (_workers(4, 8, _MANY, joins_s=activate_s + packed_bytes * _MANY / shared_bytes_per_s),),
        own,
    )
    staggered = tuple(
        _workers(4, 8, 1, joins_s=(n + 1) * packed_bytes / link_bytes_per_s + unpack_s + activate_s)
        for n in range(_MANY)
    )
    _add("fig11-worker", "the environment is sent to each worker once, by one manager", staggered, own)
    _add(
        "fig11-task",
        "every task unpacks and activates the environment",
        staggered,
        own,
        slot_overhead_s=1.5 + unpack_s + activate_s,
    )


def _beyond() -> None:
    _add("heavy-tail", "memory per event varies by 30 %", workload=replace(_BASE, memory_noise=0.3))
    drift = replace(_BASE, heavy_from=0.5, heavy_factor=4.0)
    _add("drift", "the second half of the files needs four times the memory, unlabelled", workload=drift)
    _add(
        "drift-labelled",
        "as drift, but the heavy files are a dataset of their own",
        workload=replace(drift, labelled=True),
    )
    _add(
        "heterogeneous",
        "workers of 4 cores and 8 GB beside workers of 16 cores and 64 GB",
        (_workers(4, 8, 60), _workers(16, 64, 10)),
    )
    _add(
        "churn",
        "workers live 15 minutes in the mean and are replaced after a minute",
        (_workers(4, 8, _MANY, lifetime_mean_s=900.0, rejoin_s=60.0),),
    )
    _add(
        "bandwidth",
        "the shared source is saturated by a quarter of the cores",
        workload=replace(_BASE, bytes_per_element=3988.0),
        bandwidth=160e6,
    )
    _add("tiny-files", "100,000 files of 500 events", workload=replace(_BASE, sources=100_000, open_s=0.05))
    _add(
        "straggler",
        "one worker of 40 is five times slower",
        (_workers(4, 8, _MANY - 1), _workers(4, 8, 1, speed=0.2)),
    )
    _add("big-results", "every result is 412 MB of histograms", workload=replace(_BASE, result_mib=393.0))
    _add(
        "mixed",
        "two categories at once: light events, and heavy ones of a third as many",
        workloads={
            "light": replace(_BASE, sources=150, elements=36_000_000),
            "heavy": replace(
                _BASE, sources=69, elements=12_000_000, mib_per_element=4 * _BASE.mib_per_element, s_per_element=5e-3
            ),
        },
    )


_fill()


def scenario(name: str) -> Scenario:
    """Return a scenario.

    Raises:
        BadInput: there is none of that name; the message lists them.
    """
    found = SCENARIOS.get(name)
    if found is None:
        raise BadInput(f"there is no scenario {name!r}: use one of {', '.join(SCENARIOS)}")
    return found
