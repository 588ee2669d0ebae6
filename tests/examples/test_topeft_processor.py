"""The processor: fills against slow references, sums independent of chunks, variances, real files."""

from __future__ import annotations

from itertools import combinations_with_replacement

import awkward as ak
import hist
import numpy as np
import pytest
from coffea.nanoevents import NanoEventsFactory
from coffea.processor import IterativeExecutor, Runner, accumulate
from hypothesis import given
from hypothesis import strategies as st

from examples.topeft.processor import SYSTEMATICS, QuietNanoAODSchema, TopEFTProcessor
from examples.topeft.quadratic import Category, QuadraticHist, Selected, fill
from examples.topeft.selection import CHANNELS, leptons_of, select, variables
from examples.topeft.terms import (
    coefficients_of,
    quadratic_monomials,
    quadratic_size,
    quartic_monomials,
    quartic_size,
    square,
)

POINT = np.array([1.5, -2.0, 0.7])


def run(manifest, processor, chunksize=10**9, processes=("ttH", "ttll", "nonprompt")):
    runner = Runner(executor=IterativeExecutor(status=False), schema=QuietNanoAODSchema, chunksize=chunksize)
    fileset = {name: entry for name, entry in manifest.fileset().items() if name in processes}
    return runner(fileset, processor)


def open_events(manifest, process):
    file = next(f for f in manifest.files if f.process == process)
    metadata = manifest.fileset()[process]["metadata"] | {"dataset": process, "filename": file.path}
    path = {str(manifest.folder / file.path): "Events"}
    return NanoEventsFactory.from_root(path, schemaclass=QuietNanoAODSchema, metadata=metadata).events()


# terms ------------------------------------------------------------------------------------------------------------


def test_sizes_of_the_forms():
    assert [quadratic_size(n) for n in (0, 6, 26)] == [1, 28, 378]
    assert [quartic_size(n) for n in (0, 6, 26)] == [1, 210, 27_405]
    assert [coefficients_of(terms) for terms in (1, 28, 378)] == [0, 6, 26]
    with pytest.raises(ValueError, match="27 terms"):
        coefficients_of(27)


def test_the_triangle_is_packed_by_rows_with_the_standard_model_first():
    assert quadratic_monomials([2.0, 5.0], 2).tolist() == [1, 2, 4, 5, 10, 25]
    assert quadratic_monomials([], 2).tolist() == [1, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="needs 2 coefficients, got 3"):
        quadratic_monomials([1, 2, 3], 2)


def test_quartic_terms_are_all_products_of_four():
    w = np.array([1.0, 2.0, 3.0])
    expected = sorted(np.prod(w[list(four)]) for four in combinations_with_replacement(range(3), 4))
    assert sorted(quartic_monomials([2.0, 3.0], 2)) == expected


@given(n=st.integers(0, 6), seed=st.integers(0, 10**6), events=st.integers(0, 70))
def test_the_squared_form_is_the_square_of_the_form(n, seed, events):
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(events, quadratic_size(n))).astype(np.float32)
    point = rng.normal(size=n)
    squared = square(terms, block=16)
    assert squared.shape == (events, quartic_size(n))
    expected = (terms.astype(float) @ quadratic_monomials(point, n)) ** 2
    scale = (np.abs(terms).astype(float) @ np.abs(quadratic_monomials(point, n))) ** 2
    assert np.all(np.abs(squared @ quartic_monomials(point, n) - expected) <= 1e-5 * scale + 1e-12)


# histograms -------------------------------------------------------------------------------------------------------


def category(systematic="", channel="3l", process="p"):
    return Category(process, channel, "2j", "SR", systematic)


def random_selected(rng, events, n=2):
    categories = [category(channel=name) for name in CHANNELS]
    terms = rng.normal(size=(events, quadratic_size(n))).astype(np.float32)
    weights = {"nominal": rng.normal(size=events), "jes_up": rng.normal(size=events)}
    return Selected(terms, square(terms), rng.integers(0, 3, events), categories, weights)


@given(seed=st.integers(0, 10**6), events=st.integers(0, 60))
def test_fill_equals_a_loop_over_events_and_terms(seed, events):
    rng = np.random.default_rng(seed)
    axis = hist.axis.Variable([0.0, 1.0, 3.0], name="x")
    values = rng.uniform(-1, 5, events)
    selected = random_selected(rng, events)
    filled = QuadraticHist(axis)
    fill(filled, values, selected)
    expected: dict = {}
    for e in range(events):
        row = 0 if values[e] < 0 else 1 if values[e] < 1 else 2 if values[e] < 3 else 3
        for systematic, weights in selected.weights.items():
            key = selected.categories[selected.groups[e]]._replace(systematic=systematic)
            for q in range(selected.terms.shape[1]):
                bins = expected.setdefault(key, np.zeros((4, selected.terms.shape[1])))
                bins[row, q] += weights[e] * float(selected.terms[e, q])
    assert filled.sums.keys() == expected.keys()
    for key, bins in expected.items():
        np.testing.assert_allclose(filled.sums[key], bins, rtol=1e-9, atol=1e-12)
    assert {c.systematic for c in filled.variances} <= {"nominal"}


def test_histograms_add_and_leave_their_parts_as_they_were():
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(3):
        parts.append(QuadraticHist(hist.axis.Regular(4, 0, 1, name="x")))
        fill(parts[-1], rng.random(50), random_selected(rng, 50))
    before = parts[0].sums[category("nominal")].copy()
    left, right = (parts[0] + parts[1]) + parts[2], parts[2] + (parts[1] + parts[0])
    for key, bins in left.sums.items():
        np.testing.assert_allclose(bins, right.sums[key], rtol=1e-12, atol=1e-12)
    assert np.array_equal(parts[0].sums[category("nominal")], before)
    assert accumulate([{"h": part} for part in parts])["h"] == left


def test_a_part_without_coefficients_adds_to_the_standard_model_term():
    with_terms, without = (QuadraticHist(hist.axis.Regular(1, 0, 1, name="x")) for _ in range(2))
    with_terms.sums[category()] = np.ones((3, 6))
    without.sums[category()] = np.full((3, 1), 5.0)
    for total in (with_terms + without, without + with_terms):
        assert total.sums[category()][1].tolist() == [6, 1, 1, 1, 1, 1]


def test_histograms_of_other_bins_do_not_add():
    with pytest.raises(ValueError, match="cannot add histograms of 'x' and 'y'"):
        QuadraticHist(hist.axis.Regular(1, 0, 1, name="x")) + QuadraticHist(hist.axis.Regular(1, 0, 1, name="y"))


# the processor ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def output(topeft_data):
    return run(topeft_data, TopEFTProcessor(3))


def test_the_result_does_not_depend_on_chunks(topeft_data, output):
    cut = run(topeft_data, TopEFTProcessor(3), chunksize=700)
    assert cut["events"] == output["events"]
    assert cut["selected"] == output["selected"]
    for name, whole in output["histograms"].items():
        assert cut["histograms"][name].sums.keys() == whole.sums.keys()
        for key, bins in whole.sums.items():
            scale = np.abs(bins).max()
            np.testing.assert_allclose(cut["histograms"][name].sums[key], bins, rtol=1e-9, atol=1e-12 * scale)
        for key, bins in whole.variances.items():
            np.testing.assert_allclose(cut["histograms"][name].variances[key], bins, rtol=1e-9)


def test_two_runs_are_equal_to_the_bit(topeft_data, output):
    assert run(topeft_data, TopEFTProcessor(3))["histograms"] == output["histograms"]


@pytest.mark.parametrize("point", [np.zeros(3), POINT])
def test_evaluation_equals_a_histogram_weighted_at_the_point(topeft_data, output, point):
    events = open_events(topeft_data, "ttll")
    picked = select(events, leptons_of(events))
    forms = ak.to_numpy(events.EFTfitCoefficients[picked.index]).astype(float)
    weights = ak.to_numpy(events.genWeight)[picked.index].astype(float) * events.metadata["weight"]
    weights = weights * (forms @ quadratic_monomials(point, 3))
    for name, values in variables(picked).items():
        histogram = output["histograms"][name]
        for number, channel in enumerate(CHANNELS):
            mine = picked.signal & (picked.channel == number)
            plain = hist.Hist(histogram.axis, storage=hist.storage.Double())
            plain.fill(values[mine], weight=weights[mine])
            key = (c for c in histogram.sums if c[:2] == ("ttll", channel) and c[3:] == ("SR", "nominal"))
            np.testing.assert_allclose(
                sum(histogram.values(c, point) for c in key), plain.values(flow=True), rtol=1e-9, atol=1e-9
            )


def test_variations_surround_the_nominal_yield_and_leave_the_application_region_alone(output):
    histogram = output["histograms"]["ht"]
    assert {c.systematic for c in histogram.sums if c.region == "AR"} == {"nominal"}
    total = dict.fromkeys(["nominal", *(f"{s}_{d}" for s in SYSTEMATICS for d in ("up", "down"))], 0.0)
    for c in histogram.sums:
        if c.process == "ttll" and c.region == "SR":
            total[c.systematic] += histogram.values(c).sum()
    for name in SYSTEMATICS:
        assert total["nominal"] != total[f"{name}_up"] != total[f"{name}_down"]
    for name in ("lepton_sf", "scale", "jes"):
        assert total[f"{name}_down"] < total["nominal"] < total[f"{name}_up"]


def test_errors_give_the_variance_at_every_point(topeft_data, output):
    processor = TopEFTProcessor(3, errors=True, systematics=(), only=("met",))
    histogram = run(topeft_data, processor, processes=("ttH",))["histograms"]["met"]
    events = open_events(topeft_data, "ttH")
    picked = select(events, leptons_of(events))
    forms = ak.to_numpy(events.EFTfitCoefficients[picked.index]).astype(float)
    values = forms @ quadratic_monomials(POINT, 3) * events.metadata["weight"]
    variance = sum(histogram.variance(c, POINT).sum() for c in histogram.variances)
    assert variance == pytest.approx(np.square(values).sum(), rel=1e-5)
    plain = output["histograms"]["met"]
    for c, terms in histogram.variances.items():
        assert terms.shape[1] == quartic_size(3)
        np.testing.assert_allclose(histogram.variance(c), plain.variance(c), rtol=1e-5)


def test_dense_and_evaluated_hist_hold_the_same_numbers(output):
    histogram = output["histograms"]["met"]
    key = max((c for c in histogram.sums if c.systematic == "nominal"), key=lambda c: histogram.values(c).sum())
    assert np.array_equal(histogram.dense(key).values(flow=True), histogram.sums[key])
    evaluated = histogram.at(POINT)[key.process, key.channel, key.jets, key.region, key.systematic, :]
    np.testing.assert_allclose(evaluated.values(flow=True), histogram.values(key, POINT))
    np.testing.assert_allclose(evaluated.variances(flow=True), histogram.variance(key, POINT))


def test_files_of_other_coefficients_are_refused_by_name(topeft_data):
    events = open_events(topeft_data, "ttH")
    with pytest.raises(ValueError, match=r"ttH_0002.root has 10 EFT terms per event, 26 coefficients need 378"):
        TopEFTProcessor(26).process(events)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no such systematic: jess; there are pileup"):
        TopEFTProcessor(systematics=["jess"])
    with pytest.raises(ValueError, match="no such variable: mt"):
        TopEFTProcessor(only=["mt"])


def test_a_chunk_of_one_event_works(topeft_data):
    events = open_events(topeft_data, "ttH")[:1]
    events.metadata.update(open_events(topeft_data, "ttH").metadata)
    assert TopEFTProcessor(3).process(events)["events"] == {"ttH": 1}


@pytest.mark.parametrize(
    ("name", "events"),
    [("nanoAOD_2015_CMS_Open_Data_ttbar.root", 200), ("coffea_nano_dy.root", 40), ("coffea_nano_dimuon.root", 40)],
)
@pytest.mark.filterwarnings("ignore:Branch Photon_:RuntimeWarning")
def test_real_files_are_analysed(shared_data, name, events):
    path = shared_data / "hep" / name
    if not path.is_file():
        pytest.skip(f"{name} is not there")
    runner = Runner(executor=IterativeExecutor(status=False), schema=QuietNanoAODSchema, chunksize=70)
    output = runner({"real": {"files": {str(path): "Events"}}}, TopEFTProcessor())
    assert output["events"] == {"real": events}
    assert output["histograms"]["ht"].coefficients == 0
