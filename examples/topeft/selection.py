"""Which leptons, jets and events are taken, into which channel they go, and what is computed of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from coffea.nanoevents.methods import candidate
from numpy.typing import NDArray

Z_MASS_GEV = 91.19
B_TAGGERS = {"btagDeepFlavB": 0.277, "btagDeepB": 0.4168, "btagCSVV2": 0.8838}  # medium working points
LEAST_JETS = {"2lss": 3, "3l": 2, "4l": 2}
MOST_JETS = {"2lss": 5, "3l": 4, "4l": 3}  # the last bin of jets is inclusive
CHANNELS = tuple(LEAST_JETS)


@dataclass(frozen=True, slots=True)
class Picked:
    """The events of a chunk that pass the selection.

    Args:
        index: (events,) their number in the chunk.
        channel: (events,) number in CHANNELS.
        jets: (events,) number of jets, not more than MOST_JETS of the channel.
        signal: (events,) whether all leptons are tight: signal region, otherwise application region.
        leptons, selected_jets: per event, by falling pt.
        met: (events,) missing transverse momentum in GeV.
    """

    index: NDArray[np.intp]
    channel: NDArray[np.intp]
    jets: NDArray[np.intp]
    signal: NDArray[np.bool_]
    leptons: ak.Array
    selected_jets: ak.Array
    met: NDArray[np.floating]


def leptons_of(events: ak.Array) -> ak.Array:
    """Return the loose electrons and muons of every event by falling pt, with `tight` and `electron`."""
    electrons = events.Electron
    loose = (electrons.pt > 10) & (abs(electrons.eta) < 2.5) & electrons.mvaFall17V2noIso_WPL
    tight = electrons.mvaFall17V2Iso_WP90 & (electrons.pfRelIso03_all < 0.15)
    some = _candidates(electrons, tight, electron=True)[loose]
    muons = events.Muon
    loose = (muons.pt > 10) & (abs(muons.eta) < 2.4) & muons.looseId
    tight = muons.mediumId & (muons.pfRelIso04_all < 0.2)
    both = ak.concatenate([some, _candidates(muons, tight, electron=False)[loose]], axis=1)
    return both[ak.argsort(both.pt, axis=1, ascending=False)]


def select(events: ak.Array, leptons: ak.Array, scale: float = 1.0) -> Picked:
    """Return the events with two leptons of the same charge, three, or four, and enough jets, of which b jets.

    Args:
        events: a chunk.
        leptons: from `leptons_of`.
        scale: of the energy of all jets, for the variation of the jet energy scale.
    """
    jets = _jets(events, leptons, scale)
    count = ak.to_numpy(ak.num(leptons))
    jet_count = ak.to_numpy(ak.num(jets))
    b_count = ak.to_numpy(ak.sum(jets.bottom, axis=1))
    leading = ak.fill_none(ak.pad_none(leptons.pt, 2, clip=True), 0.0)
    hard = ak.to_numpy((leading[:, 0] > 25) & (leading[:, 1] > 15))
    charges = ak.to_numpy(ak.fill_none(ak.pad_none(leptons.charge, 2, clip=True), 0))
    same_sign = charges[:, 0] * charges[:, 1] > 0
    channel = np.select([(count == 2) & same_sign, count == 3, count >= 4], [0, 1, 2], -1)
    least = np.array([*LEAST_JETS.values(), 10**6])[channel]
    most = np.array([*MOST_JETS.values(), 0])[channel]
    good = hard & (jet_count >= least) & (b_count >= 1)
    index = np.flatnonzero(good)
    return Picked(
        index=index,
        channel=channel[index],
        jets=np.minimum(jet_count, most)[index],
        signal=ak.to_numpy(ak.all(leptons.tight, axis=1))[index],
        leptons=leptons[index],
        selected_jets=jets[index],
        met=ak.to_numpy(_met(events, scale))[index],
    )


def variables(picked: Picked) -> Mapping[str, NDArray[np.floating]]:
    """Return the value of every variable for the picked events."""
    leptons, jets = picked.leptons, picked.selected_jets
    objects = ak.concatenate([leptons, jets[["pt", "eta", "phi", "mass", "charge"]]], axis=1)
    lepton_jet = ak.combinations(ak.with_name(objects, "PtEtaPhiMCandidate", behavior=candidate.behavior), 2)
    first, second = ak.unzip(lepton_jet)
    closest = ak.cartesian({"lepton": leptons, "jet": jets[jets.bottom]})
    return {
        "l0pt": ak.to_numpy(leptons.pt[:, 0]),
        "lj0pt": _numbers(ak.max((first + second).pt, axis=1)),
        "bl_mass": _numbers(ak.min((closest.lepton + closest.jet).mass, axis=1)),
        "ht": _numbers(ak.sum(jets.pt, axis=1) + ak.sum(leptons.pt, axis=1)),
        "met": picked.met,
        "z_mass": _pair_mass(leptons),
    }


def _pair_mass(leptons: ak.Array) -> NDArray[np.floating]:
    """Return the mass of the pair of leptons that is closest to the Z boson, in GeV."""
    first, second = ak.unzip(ak.combinations(leptons, 2))
    mass = (first + second).mass
    nearest = ak.argmin(abs(mass - Z_MASS_GEV), axis=1, keepdims=True)
    return _numbers(ak.firsts(mass[nearest]))


def _candidates(collection: ak.Array, tight: ak.Array, electron: bool) -> ak.Array:
    fields: dict[str, Any] = {name: collection[name] for name in ("pt", "eta", "phi", "mass", "charge")}
    fields["tight"] = tight
    fields["electron"] = ak.full_like(tight, electron)
    return ak.zip(fields, with_name="PtEtaPhiMCandidate", behavior=candidate.behavior)


def _jets(events: ak.Array, leptons: ak.Array, scale: float) -> ak.Array:
    """Return the jets that are no leptons, with `bottom` for those with a b tag, by falling pt."""
    jets = events.Jet
    tagger = next((name for name in B_TAGGERS if name in jets.fields), None)
    if tagger is None:
        raise ValueError(f"the file's jets have no b tag among {', '.join(B_TAGGERS)}")
    fields: dict[str, Any] = {name: jets[name] for name in ("eta", "phi")}
    fields |= {"pt": jets.pt * np.float32(scale), "mass": jets.mass * np.float32(scale)}
    fields |= {"charge": ak.zeros_like(jets.jetId), "bottom": jets[tagger] > B_TAGGERS[tagger]}
    scaled = ak.zip(fields, with_name="PtEtaPhiMCandidate", behavior=candidate.behavior)
    good = scaled[(scaled.pt > 30) & (abs(scaled.eta) < 2.4) & (jets.jetId >= 2)]
    return good[ak.all(good.metric_table(leptons) > 0.4, axis=2)]


def _met(events: ak.Array, scale: float) -> ak.Array:
    """Return the missing transverse momentum after what the jets gained or lost with their scale."""
    met_x, met_y = events.MET.pt * np.cos(events.MET.phi), events.MET.pt * np.sin(events.MET.phi)
    jets = events.Jet
    met_x = met_x - (scale - 1) * ak.sum(jets.pt * np.cos(jets.phi), axis=1)
    met_y = met_y - (scale - 1) * ak.sum(jets.pt * np.sin(jets.phi), axis=1)
    return np.hypot(met_x, met_y)


def _numbers(values: ak.Array) -> NDArray[np.floating]:
    return np.asarray(ak.to_numpy(ak.fill_none(values, -1.0)), np.float64)
