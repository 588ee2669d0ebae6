"""Workers that could be started, and what runs on them came to in virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from shaper.simulation.advise import Option
from shaper.units import parse_mib, show_mib

# What takes this share of the time is what limits.
_LIMITS = 0.5


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a worker, as `shaper workers start` takes it."""

    cores: int
    memory: str

    @property
    def memory_mib(self) -> int:
        """Its memory."""
        return parse_mib(self.memory, "memory")

    def __str__(self) -> str:
        return f"{self.cores} core{'s' if self.cores > 1 else ''} and {spaced(self.memory)}"


@dataclass(frozen=True, slots=True)
class Offer:
    """So many workers of a shape, and what runs on them came to, one for each seed."""

    shape: Shape
    count: int
    runs: tuple[Option, ...]

    @property
    def makespan_s(self) -> float:
        """In the middle of all runs; infinite where one does not finish."""
        return median(one.makespan_s for one in self.runs)

    @property
    def core_hours(self) -> float:
        """Of all workers, from the beginning to the end."""
        return self.count * self.shape.cores * self.makespan_s / 3600

    @property
    def spread(self) -> str:
        """The shortest and the longest run, where there are several."""
        least, most = (about(choose(one.makespan_s for one in self.runs)) for choose in (min, max))
        if least == most:
            return ""
        unit = f" {most.split()[1]}"
        return f" ({least.removesuffix(unit)} to {most})"

    @property
    def limit(self) -> str:
        """What keeps more workers from being of more use."""
        found = self.runs[0].figures
        if found is None:
            return "does not finish: single elements need more memory"
        slots = self.shape.memory_mib // max(1, found.task_mib)
        if found.read_bound_s > _LIMITS * found.makespan_s:
            return f"the data source needs {about(found.read_bound_s)} for everything"
        if found.dispatch_bound_s > _LIMITS * found.makespan_s:
            return f"the manager needs {about(found.dispatch_bound_s)} to start all tasks"
        if found.longest_s > _LIMITS * found.makespan_s:
            return f"the longest task takes {about(found.longest_s)}"
        if slots < self.shape.cores:
            return f"memory: tasks of {show_mib(found.task_mib)} use {slots} of {self.shape.cores} cores"
        return "cores"

    def __str__(self) -> str:
        workers = f"{self.count} worker{'s' if self.count > 1 else ''} of {self.shape}"
        return f"{workers}: about {about(self.makespan_s)}{self.spread}, {self.core_hours:.3g} core-hours"


def about(seconds: float) -> str:
    """A time of which nobody knows the last digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    for limit, unit_s, unit in ((600, 60, "min"), (7200, 60, "min"), (36000, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit_s:.{0 if limit == 7200 else 1}f} {unit}"
    return f"{seconds / 3600:.0f} h"


def spaced(memory: str) -> str:
    """`8 GB` of `8GB`."""
    number = memory.rstrip("BbIiKkMmGgTt ")
    return f"{number} {memory[len(number) :].strip()}".strip()
