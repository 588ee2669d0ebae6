"""What may be set of the published optimiser; the symbols are those of amdahl_gp.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from shaper.errors import BadInput
from shaper.models import amdahl
from shaper.models.runs import finite, whole


@dataclass(frozen=True, slots=True)
class AmdahlSettings:
    """Settings of the published algorithm.

    Args:
        startup_s: C, measured beforehand.
        probe: parallelism of the second run.
        window: W.
        retention: alpha, 0 to 1; None is 0.9, and 0.3 in the form as written.
        search: candidates; `all` but in the form as written, where `high` is the default.
        eta: of the search by `efficiency`.
        acquisition: the least expected cost, or the largest expected improvement on the best s that was run.

    Raises:
        BadInput: a start-up below 0, probe or window below 2, eta or retention not between 0 and 1, an unknown rule.
    """

    startup_s: float = 0.0
    probe: int = 5
    window: int = 50
    retention: float | None = None
    search: amdahl.Search | None = None
    eta: float = 0.95
    acquisition: Literal["cost", "improvement"] = "cost"

    def __post_init__(self) -> None:
        if not (finite(self.startup_s) and self.startup_s >= 0):
            raise BadInput(f"startup_s is {self.startup_s!r}: wanted a finite number from 0 on")
        if not (whole(self.probe, 2) and whole(self.window, 2) and finite(self.eta) and 0 < self.eta < 1):
            raise BadInput(f"{self}: wanted probe and window from 2, eta between 0 and 1")
        if self.retention is not None and not (finite(self.retention) and 0 <= self.retention <= 1):
            raise BadInput(f"retention is {self.retention!r}: wanted the part of p that is kept, from 0 to 1")
        if self.search not in (None, *get_args(amdahl.Search)) or self.acquisition not in ("cost", "improvement"):
            raise BadInput(f"search is {self.search!r}, acquisition {self.acquisition!r}: one of them is not known")
