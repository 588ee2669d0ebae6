"""The simulated processes, and the random events of one of them.

Nothing here is a prediction: the numbers are chosen so that files, selections and plots look like those of a search in
events with top quarks and several leptons. Every array of a block has one entry per event (flat or jagged).
"""

from __future__ import annotations

from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from examples.topeft.terms import quadratic_size

Floats = NDArray[np.float32]

LUMINOSITY_PER_FB = 138.0
GRID = 64  # vectors of the quadratic form lie on multiples of 1/GRID: products and sums are then exact in float32
Z_MASS_GEV = 91.19
LEPTON_SLOTS, PROMPT_SLOTS, JET_SLOTS = 7, 4, 20


@dataclass(frozen=True, slots=True)
class Sample:
    """A process as its generator filter (at least two leptons) leaves it.

    Args:
        name: of the process and of its dataset.
        cross_section_fb: after the filter.
        leptons: probabilities of 2, 3 and 4 prompt leptons.
        same_sign: probability that two prompt leptons have the same charge.
        z_boson: whether the first two prompt leptons come from a Z boson.
        jets, b_jets: mean number of jets, and how many of them are b jets at most.
        fakes: mean number of leptons that are not prompt.
        met_gev: scale of the missing transverse momentum.
        eft: whether events carry the coefficients of a quadratic form.
    """

    name: str
    cross_section_fb: float
    leptons: tuple[float, float, float]
    same_sign: float
    z_boson: bool
    jets: float
    b_jets: int
    fakes: float
    met_gev: float
    eft: bool = True


SAMPLES = (
    Sample("ttlnu", 19.0, (0.74, 0.24, 0.02), 0.85, False, 4.2, 2, 0.10, 55.0),
    Sample("ttll", 24.0, (0.12, 0.70, 0.18), 0.50, True, 4.8, 2, 0.10, 38.0),
    Sample("ttH", 9.0, (0.70, 0.24, 0.06), 0.80, False, 5.4, 2, 0.12, 48.0),
    Sample("tllq", 13.0, (0.15, 0.80, 0.05), 0.50, True, 2.9, 1, 0.10, 40.0),
    Sample("diboson", 90.0, (0.10, 0.68, 0.22), 0.50, True, 1.9, 0, 0.12, 33.0, eft=False),
    Sample("nonprompt", 260.0, (1.00, 0.00, 0.00), 0.02, False, 3.6, 2, 0.55, 42.0, eft=False),
)


def draw_events(
    sample: Sample, events: int, complexity: float, coefficients: int, rng: np.random.Generator
) -> dict[str, ak.Array]:
    """Return the branches of `events` random events.

    Args:
        sample: which process.
        events: how many.
        complexity: of the file: multiplies the mean number of objects.
        coefficients: number n of Wilson coefficients; EFT samples get (n + 1)(n + 2) / 2 terms per event.
        rng: the only source of randomness.
    """
    activity = complexity * rng.gamma(4.0, 0.25, events)  # mean 1 within a file
    hardness = np.minimum(rng.lognormal(0.0, 0.45, events), 4.0)  # scale of all transverse momenta
    leptons, is_electron, filled = _leptons(sample, activity, hardness, rng)
    jets = _jets(sample, activity, hardness, rng)
    branches: dict[str, ak.Array] = {
        "run": np.ones(events, np.uint32),
        "genWeight": _gen_weight(sample, events, rng),
        "Pileup_nTrueInt": _packed(np.clip(rng.normal(32, 9, events), 1, 80)),
        "PSWeight": _jagged(_packed(rng.normal(1.0, 0.06, (events, 4)))),
        "LHEScaleWeight": _jagged(_scale_weights(events, rng)),
        "Electron": _collection(leptons, filled & is_electron, _ELECTRON),
        "Muon": _collection(leptons, filled & ~is_electron, _MUON),
        "Jet": jets,
        "MET_pt": _packed(sample.met_gev * np.sqrt(hardness) * rng.rayleigh(1.0, events)),
        "MET_phi": _packed(rng.uniform(-np.pi, np.pi, events)),
    }
    if sample.eft:
        branches["EFTfitCoefficients"] = _jagged(_quadratic_form(sample, hardness, coefficients, rng))
    return branches


_KINEMATICS = ("pt", "eta", "phi", "mass", "charge")
_ELECTRON = {
    **{f: f for f in _KINEMATICS},
    "pfRelIso03_all": "isolation",
    "mvaFall17V2Iso_WP90": "tight",
    "mvaFall17V2noIso_WPL": "loose",
}
_MUON = {**{f: f for f in _KINEMATICS}, "pfRelIso04_all": "isolation", "mediumId": "tight", "looseId": "loose"}


def _leptons(
    sample: Sample, activity: NDArray[np.float64], hardness: NDArray[np.float64], rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return per-slot values, which slots are electrons, and which are filled; slots by falling pt."""
    shape = (len(activity), LEPTON_SLOTS)
    slot = np.arange(LEPTON_SLOTS)
    prompt_count = 2 + rng.choice(3, len(activity), p=sample.leptons)
    fake_count = np.minimum(rng.poisson(sample.fakes * activity), LEPTON_SLOTS - PROMPT_SLOTS)
    prompt = slot < prompt_count[:, None]
    filled = prompt | ((slot >= PROMPT_SLOTS) & (slot < PROMPT_SLOTS + fake_count[:, None]))

    scale = np.where(slot < PROMPT_SLOTS, 20.0, 6.0)
    pt = 10.0 + rng.gamma(2.0, scale, shape) * hardness[:, None]
    eta = np.clip(rng.normal(0.0, 1.1, shape), -2.4, 2.4)
    phi = rng.uniform(-np.pi, np.pi, shape)
    electron = rng.random(shape) < 0.45
    charge = np.where(rng.random(shape) < 0.5, 1, -1).astype(np.int32)
    same = (prompt_count == 2) & (rng.random(len(activity)) < sample.same_sign)
    charge[:, 1] = np.where(same, charge[:, 0], -charge[:, 0])
    charge[:, 3] = -charge[:, 2]
    if sample.z_boson:
        pt[:, 1], eta[:, 1], phi[:, 1] = _z_partner(pt[:, 0], eta[:, 0], phi[:, 0], rng)
        electron[:, 1] = np.where(same, electron[:, 1], electron[:, 0])

    tight = rng.random(shape) < np.where(prompt, 0.92, 0.15)
    values = {
        "pt": _packed(pt),
        "eta": _packed(eta),
        "phi": _packed(phi),
        "mass": np.where(electron, np.float32(0.000511), np.float32(0.10566)),
        "charge": charge,
        "isolation": _packed(rng.exponential(np.where(tight, 0.03, 0.25), shape)),
        "tight": tight,
        "loose": np.ones(shape, bool),
    }
    order = np.argsort(np.where(filled, -pt, np.inf), axis=1)
    values = {name: np.take_along_axis(value, order, axis=1) for name, value in values.items()}
    return values, np.take_along_axis(electron, order, axis=1), np.take_along_axis(filled, order, axis=1)


def _z_partner(
    pt: NDArray[np.float64], eta: NDArray[np.float64], phi: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the lepton that makes the pair's mass that of a Z boson: m^2 = 2 pt1 pt2 (cosh(d_eta) - cos(d_phi))."""
    mass = np.clip(Z_MASS_GEV + 1.25 * rng.standard_cauchy(len(pt)) + rng.normal(0.0, 1.5, len(pt)), 60.0, 130.0)
    partner_eta = np.clip(eta + rng.normal(0.0, 0.7, len(pt)), -2.4, 2.4)
    turn = rng.uniform(1.2, np.pi, len(pt)) * np.where(rng.random(len(pt)) < 0.5, 1.0, -1.0)
    partner_phi = (phi + turn + np.pi) % (2 * np.pi) - np.pi
    partner_pt = mass**2 / (2.0 * pt * (np.cosh(partner_eta - eta) - np.cos(turn)))
    return np.maximum(partner_pt, 5.0), partner_eta, partner_phi


def _jets(
    sample: Sample, activity: NDArray[np.float64], hardness: NDArray[np.float64], rng: np.random.Generator
) -> ak.Array:
    """Return the jets by falling pt; the first `b_jets` that the dice choose are b jets."""
    shape = (len(activity), JET_SLOTS)
    count = np.minimum(rng.poisson(sample.jets * activity), JET_SLOTS)
    filled = np.arange(JET_SLOTS) < count[:, None]
    pt = 22.0 + rng.exponential(38.0, shape) * hardness[:, None]
    bottom = (np.arange(JET_SLOTS) < sample.b_jets) & (rng.random(shape) < 0.9)
    score = np.where(bottom, rng.beta(4.0, 1.2, shape), rng.beta(0.7, 6.0, shape))
    values = {
        "pt": _packed(pt),
        "eta": _packed(np.clip(rng.normal(0.0, 1.4, shape), -4.7, 4.7)),
        "phi": _packed(rng.uniform(-np.pi, np.pi, shape)),
        "mass": _packed(pt * rng.uniform(0.08, 0.2, shape)),
        "btagDeepFlavB": _packed(score),
        "hadronFlavour": np.where(bottom, 5, 0).astype(np.int32),
        "jetId": np.where(rng.random(shape) < 0.98, 6, 0).astype(np.int32),
    }
    order = np.argsort(np.where(filled, -pt, np.inf), axis=1)
    values = {name: np.take_along_axis(value, order, axis=1) for name, value in values.items()}
    return _collection(values, filled, {name: name for name in values})


def _quadratic_form(
    sample: Sample, hardness: NDArray[np.float64], coefficients: int, rng: np.random.Generator
) -> Floats:
    """Return (events, (n+1)(n+2)/2) terms of sum_k (v_k . w)^2, which no point w makes negative.

    v_1 is the amplitude with the standard-model part and its interference; v_2 and v_3 are new physics alone.
    Effects grow with the hardness of the event; a process is blind to about a third of the coefficients.
    """
    character = np.random.default_rng(list(sample.name.encode()))  # of the process, not of the seed
    reach = character.lognormal(-2.6, 0.7, coefficients) * (character.random(coefficients) < 0.67)
    sign = np.where(character.random(coefficients) < 0.5, 1.0, -1.0)
    growth = character.choice([0.5, 1.0, 1.5], coefficients)
    vectors = np.zeros((3, len(hardness), coefficients + 1), np.float32)
    vectors[0, :, 0] = rng.lognormal(0.0, 0.15, len(hardness))
    strength = reach * hardness[:, None] ** growth
    vectors[0, :, 1:] = strength * (sign + 0.5 * rng.standard_normal(strength.shape))
    vectors[1:, :, 1:] = strength * rng.standard_normal((2, *strength.shape))
    vectors = np.rint(np.clip(vectors, -8, 8) * GRID) / np.float32(GRID)
    terms = np.empty((len(hardness), quadratic_size(coefficients)), np.float32)
    for i in range(coefficients + 1):
        start = i * (i + 1) // 2
        row = (vectors[:, :, i : i + 1] * vectors[:, :, : i + 1]).sum(axis=0)
        row[:, :i] *= 2  # w_i w_j and w_j w_i are one term
        terms[:, start : start + i + 1] = row
    return terms


def _gen_weight(sample: Sample, events: int, rng: np.random.Generator) -> Floats:
    negative = 0.0 if sample.eft else 0.06  # a next-to-leading-order generator subtracts some events
    return np.where(rng.random(events) < negative, -1, 1).astype(np.float32)


def _scale_weights(events: int, rng: np.random.Generator) -> Floats:
    """Return the nine variations of the renormalisation and factorisation scales; the fifth is the nominal one."""
    slope = rng.normal(0.12, 0.03, (events, 1))
    return _packed(1.0 + slope * np.linspace(1.0, -1.0, 9))


def _packed(values: NDArray[np.floating]) -> Floats:
    """Return float32 rounded to 12 bits of mantissa, as NanoAOD stores it, which compresses well."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 10)) & np.uint32(0xFFFFF800)).view(np.float32)


def _jagged(rows: Floats) -> ak.Array:
    """Return rows of equal length as a jagged array, which is how NanoAOD stores vectors."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int64)
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(rows.reshape(-1))))


def _collection(values: dict[str, NDArray[np.generic]], filled: NDArray[np.bool_], fields: dict[str, str]) -> ak.Array:
    """Return the filled slots as a jagged collection with these fields."""
    offsets = ak.index.Index64(np.concatenate([[0], np.cumsum(filled.sum(axis=1))]))
    contents = [ak.contents.NumpyArray(np.ascontiguousarray(values[source][filled])) for source in fields.values()]
    return ak.Array(ak.contents.ListOffsetArray(offsets, ak.contents.RecordArray(contents, list(fields))))
