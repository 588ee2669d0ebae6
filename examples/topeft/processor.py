"""The analysis: quadratically parametrised histograms of every variable, category and systematic of a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import hist
import numpy as np
from coffea.nanoevents import NanoAODSchema
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from examples.topeft.quadratic import Category, QuadraticHist, Selected, fill
from examples.topeft.selection import CHANNELS, MOST_JETS, Picked, leptons_of, select, variables
from examples.topeft.terms import quadratic_size, square

AXES = {
    "l0pt": hist.axis.Variable([25, 40, 60, 80, 110, 150, 200, 300], name="l0pt", label="Leading lepton $p_T$ [GeV]"),
    "lj0pt": hist.axis.Variable(
        [0, 60, 100, 150, 200, 275, 350, 450, 600], name="lj0pt", label="$p_T$ of the hardest pair of objects [GeV]"
    ),
    "bl_mass": hist.axis.Regular(8, 0, 240, name="bl_mass", label="Smallest $m_{b\\ell}$ [GeV]"),
    "ht": hist.axis.Variable([100, 200, 300, 400, 500, 650, 800, 1000, 1300], name="ht", label="$H_T + L_T$ [GeV]"),
    "met": hist.axis.Regular(8, 0, 240, name="met", label="$p_T^{miss}$ [GeV]"),
    "z_mass": hist.axis.Regular(10, 61.19, 121.19, name="z_mass", label="$m_{\\ell\\ell}$ closest to Z [GeV]"),
}
WEIGHT_SYSTEMATICS = ("pileup", "lepton_sf", "btag_sf", "scale", "isr")
JET_SYSTEMATICS = ("jes",)
SYSTEMATICS = (*WEIGHT_SYSTEMATICS, *JET_SYSTEMATICS)
JET_SCALE = {"up": 1.03, "down": 0.97}


class QuietNanoAODSchema(NanoAODSchema):
    """NanoAODSchema that does not warn about cross references of branches the files do not have."""

    warn_missing_crossrefs = False


class TopEFTProcessor(ProcessorABC):
    """Fills histograms of events with two leptons of the same charge, three, or four, and jets.

    The result is a dict that coffea adds: `histograms` per variable, `events` per dataset, `selected` per dataset and
    channel. Files without `EFTfitCoefficients` count as forms with the standard-model term alone, data with weight 1.

    Args:
        coefficients: Wilson coefficients that files with a quadratic form must have; None takes what they have.
        errors: keep the variance of every bin as a function of the point. It needs C(n + 4, 4) more numbers per
            selected event: 110 kB for 26 coefficients, 0.8 kB for 6.
        systematics: names among SYSTEMATICS, each up and down.
        only: names of the variables to fill, all by default.

    The dataset's metadata may hold `process`, its name in the histograms, and `weight`, a factor for all its events.
    """

    def __init__(
        self,
        coefficients: int | None = None,
        errors: bool = False,
        systematics: Sequence[str] = SYSTEMATICS,
        only: Sequence[str] = tuple(AXES),
    ) -> None:
        for given, known, what in ((systematics, SYSTEMATICS, "systematic"), (only, AXES, "variable")):
            wrong = [name for name in given if name not in known]
            if wrong:
                raise ValueError(f"no such {what}: {', '.join(wrong)}; there are {', '.join(known)}")
        self.coefficients = coefficients
        self.errors = errors
        self.systematics = tuple(systematics)
        self.only = tuple(only)

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Return the histograms of a chunk."""
        dataset = events.metadata["dataset"]
        process = events.metadata.get("process", dataset)
        base = _generator_weights(events) * float(events.metadata.get("weight", 1.0))
        histograms = {name: QuadraticHist(AXES[name]) for name in self.only}
        leptons = leptons_of(events)

        picked = select(events, leptons)
        forms = self._forms(events, picked.index)
        weights = self._weights(events, picked, base)
        squares = square(forms) if self.errors else np.square(forms[:, :1], dtype=np.float64)
        self._fill(histograms, picked, forms, squares, weights, process)
        channels = np.bincount(picked.channel, minlength=len(CHANNELS))
        selected = {f"{dataset} {name}": int(n) for name, n in zip(CHANNELS, channels, strict=True)}

        if "jes" in self.systematics and _is_simulation(events):
            for direction, scale in JET_SCALE.items():
                shifted = select(events, leptons, scale)
                forms = self._forms(events, shifted.index)
                varied = {f"jes_{direction}": base[shifted.index]}
                self._fill(histograms, shifted, forms, forms[:, :0], varied, process)
        return {"histograms": histograms, "events": {dataset: len(events)}, "selected": selected}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the sum as it is."""
        return accumulator

    def _forms(self, events: ak.Array, index: NDArray[np.intp]) -> NDArray[np.floating]:
        """Return (events, Q) terms of the picked events."""
        if "EFTfitCoefficients" not in events.fields:
            return np.ones((len(index), 1), np.float32)
        terms = ak.num(events.EFTfitCoefficients, axis=1)[:1].to_list()
        wanted = None if self.coefficients is None else quadratic_size(self.coefficients)
        if terms and wanted is not None and terms[0] != wanted:
            raise ValueError(
                f"{events.metadata['filename']} has {terms[0]} EFT terms per event, "
                f"{self.coefficients} coefficients need {wanted}"
            )
        picked = ak.to_numpy(events.EFTfitCoefficients[index])
        return picked if len(index) else np.ones((0, terms[0] if terms else 1), np.float32)

    def _weights(self, events: ak.Array, picked: Picked, base: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the nominal weights and their variations."""
        nominal = base[picked.index]
        out = {"nominal": nominal}
        if not _is_simulation(events):
            return out
        for name in self.systematics:
            if name in WEIGHT_SYSTEMATICS:
                up, down = _VARIATIONS[name](events, picked)
                out |= {f"{name}_up": nominal * up, f"{name}_down": nominal * down}
        return out

    def _fill(
        self,
        histograms: dict[str, QuadraticHist],
        picked: Picked,
        forms: NDArray[np.floating],
        squares: NDArray[np.floating],
        weights: dict[str, NDArray[np.float64]],
        process: str,
    ) -> None:
        if len(picked.index) == 0:
            return
        keys = np.stack([picked.channel, picked.jets, picked.signal], axis=1)
        present, groups = np.unique(keys, axis=0, return_inverse=True)
        categories = [
            Category(process, CHANNELS[c], _jet_label(CHANNELS[c], int(j)), "SR" if signal else "AR", "")
            for c, j, signal in present
        ]
        filled = variables(picked)
        # the application region estimates fakes from its nominal yields: variations are of no use there
        for mask, some in ((picked.signal, weights), (~picked.signal, _nominal(weights))):
            if some and mask.any():
                kept = {name: weight[mask] for name, weight in some.items()}
                events = Selected(forms[mask], squares[mask], groups.reshape(-1)[mask], categories, kept)
                for name, histogram in histograms.items():
                    fill(histogram, filled[name][mask], events)


def _jet_label(channel: str, jets: int) -> str:
    return f"{jets}j+" if jets == MOST_JETS[channel] else f"{jets}j"


def _nominal(weights: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {name: weight for name, weight in weights.items() if name == "nominal"}


def _is_simulation(events: ak.Array) -> bool:
    return "genWeight" in events.fields


def _generator_weights(events: ak.Array) -> NDArray[np.float64]:
    if not _is_simulation(events):
        return np.ones(len(events))
    return ak.to_numpy(events.genWeight).astype(np.float64)


_Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _pileup(events: ak.Array, picked: Picked) -> _Pair:
    """Vary the mean number of interactions by 4.6 %: the ratio of two Gaussians of width 9."""
    true = ak.to_numpy(events.Pileup.nTrueInt)[picked.index].astype(np.float64)
    mean, width, shift = 32.0, 9.0, 0.046 * 32.0
    ratio = [np.exp((true - mean) * s / width**2 - 0.5 * (s / width) ** 2) for s in (shift, -shift)]
    return np.clip(ratio[0], 0.0, 3.0), np.clip(ratio[1], 0.0, 3.0)


def _lepton_sf(events: ak.Array, picked: Picked) -> _Pair:
    """Vary the efficiency of every lepton by 2 % at low and 1 % at high transverse momentum."""
    relative = ak.where(picked.leptons.pt < 30, 0.02, 0.01) * ak.where(picked.leptons.electron, 1.3, 1.0)
    return _numpy(ak.prod(1 + relative, axis=1)), _numpy(ak.prod(1 - relative, axis=1))


def _btag_sf(events: ak.Array, picked: Picked) -> _Pair:
    """Vary the efficiency of b tags by 2 to 6 %, growing with transverse momentum; others move the opposite way."""
    jets = picked.selected_jets
    relative = 0.02 + 0.04 * np.minimum(jets.pt / 600, 1.0)
    move = ak.where(jets.bottom, relative, -0.25 * relative)
    return _numpy(ak.prod(1 + move, axis=1)), _numpy(ak.prod(1 - move, axis=1))


def _scale(events: ak.Array, picked: Picked) -> _Pair:
    """Take the first and the last of the generator's variations of its scales."""
    return _generator_variation(events, picked, "LHEScaleWeight", (0, -1))


def _isr(events: ak.Array, picked: Picked) -> _Pair:
    """Take the generator's variations of initial-state radiation."""
    return _generator_variation(events, picked, "PSWeight", (0, 2))


def _generator_variation(events: ak.Array, picked: Picked, branch: str, which: tuple[int, int]) -> _Pair:
    ones = np.ones(len(picked.index))
    if branch not in events.fields:
        return ones, ones
    weights = events[branch][picked.index]
    least = max(w + 1 if w >= 0 else -w for w in which)
    if len(ones) == 0 or ak.min(ak.num(weights)) < least:  # generators may leave them out
        return ones, ones
    return _numpy(weights[:, which[0]]), _numpy(weights[:, which[1]])


def _numpy(values: ak.Array) -> NDArray[np.float64]:
    return np.asarray(ak.to_numpy(values), np.float64)


_VARIATIONS = {"pileup": _pileup, "lepton_sf": _lepton_sf, "btag_sf": _btag_sf, "scale": _scale, "isr": _isr}
