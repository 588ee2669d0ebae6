"""The generator: same settings, same events; cached; uneven; forms that are never negative."""

from __future__ import annotations

import warnings

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import NanoEventsFactory
from hypothesis import given
from hypothesis import strategies as st

from examples.topeft.generate import CLUSTER_EVENTS, Settings, generate, main, plan, read_manifest
from examples.topeft.processor import QuietNanoAODSchema
from examples.topeft.terms import quadratic_monomials, quadratic_size

SMALL = Settings(events=600, files=6, coefficients=2, seed=3)


def events_of(manifest):
    return {f.path: uproot.open(manifest.folder / f.path)["Events"].arrays() for f in manifest.files}


def test_same_seed_gives_the_same_events_and_another_seed_others(tmp_path):
    first = events_of(generate(SMALL, tmp_path / "a", workers=1))
    again = events_of(generate(SMALL, tmp_path / "b", workers=2))
    other = events_of(generate(Settings(600, 6, 2, seed=4), tmp_path / "c", workers=1))
    assert first.keys() == again.keys()
    assert all(ak.array_equal(first[path], again[path]) for path in first)
    assert not ak.array_equal(first["ttH_0002.root"].Jet_pt, other["ttH_0002.root"].Jet_pt)


def test_generates_only_when_settings_change_and_removes_only_its_own_files(tmp_path):
    before = generate(SMALL, tmp_path, workers=1)
    written = {f.path: (tmp_path / f.path).stat().st_mtime_ns for f in before.files}
    (tmp_path / "notes.txt").write_text("mine")
    assert generate(SMALL, tmp_path, workers=1) == before
    assert written == {path: (tmp_path / path).stat().st_mtime_ns for path in written}
    after = generate(Settings(events=500, files=2, coefficients=2, seed=3), tmp_path, workers=1)
    assert {p.name for p in tmp_path.iterdir()} == {"notes.txt", "manifest.json", *(f.path for f in after.files)}
    assert sum(f.events for f in after.files) == 500


def test_a_file_that_was_cut_short_is_generated_again(tmp_path):
    manifest = generate(SMALL, tmp_path, workers=1)
    victim = tmp_path / manifest.files[0].path
    victim.write_bytes(victim.read_bytes()[:100])
    assert read_manifest(tmp_path) is None
    generate(SMALL, tmp_path, workers=1)
    assert uproot.open(victim)["Events"].num_entries == manifest.files[0].events


def test_a_failed_generation_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("examples.topeft.generate._write", full)
    with pytest.raises(OSError, match="no space"):
        generate(SMALL, tmp_path, workers=1)
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 60), st.integers(0, 100_000), st.integers(0, 2**32))
def test_files_share_out_every_event(files, spare, seed):
    planned = list(plan(Settings(files + spare, files, 2, seed)))
    assert len(planned) == files
    assert sum(p.events for p in planned) == files + spare
    assert min(p.events for p in planned) >= 1


def test_file_sizes_have_a_heavy_tail():
    events = np.array([p.events for p in plan(Settings(events=10**8, files=2_000, seed=5))])
    assert 0.8 < np.log(events).std() < 1.0
    assert events.max() > 10 * np.median(events)
    complexity = np.array([p.complexity for p in plan(Settings(events=10**8, files=2_000, seed=5))])
    assert 0.2 < np.log(complexity).std() < 0.3


def test_no_point_makes_an_event_negative(topeft_data):
    rng = np.random.default_rng(1)
    for file in topeft_data.files:
        tree = uproot.open(topeft_data.folder / file.path)["Events"]
        if "EFTfitCoefficients" not in tree:
            assert file.process in ("diboson", "nonprompt")
            continue
        terms = ak.to_numpy(tree["EFTfitCoefficients"].array()).astype(float)
        assert terms.shape == (file.events, quadratic_size(3))
        assert (terms[:, 0] > 0).all()
        for _ in range(200):
            point = rng.normal(0, 10 ** rng.uniform(-1, 2), 3)
            monomials = quadratic_monomials(point, 3)
            assert (terms @ monomials > -1e-12 * np.abs(terms) @ np.abs(monomials)).all()
        assert np.ptp(terms[:, 1:], axis=0).max() > 0, "a form that does not depend on the event"


def test_weights_of_the_fileset_normalise_to_the_cross_section(topeft_data):
    fileset = topeft_data.fileset()
    assert list(fileset) == ["diboson", "nonprompt", "tllq", "ttH", "ttll", "ttlnu"]
    (path,) = fileset["ttH"]["files"]
    arrays = uproot.open(path)["Events"].arrays(["genWeight", "EFTfitCoefficients"])
    total = np.sum(ak.to_numpy(arrays.genWeight) * ak.to_numpy(arrays.EFTfitCoefficients[:, 0]), dtype=float)
    assert total * fileset["ttH"]["metadata"]["weight"] == pytest.approx(9.0 * 138.0)


def test_coffea_reads_the_files_without_a_warning(topeft_data):
    for file in topeft_data.files:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            path = {str(topeft_data.folder / file.path): "Events"}
            events = NanoEventsFactory.from_root(path, schemaclass=QuietNanoAODSchema).events()
            assert len(events) == file.events
            pt = events.Electron.pt
            assert ak.all(pt[:, 1:] <= pt[:, :-1])
            assert ak.all((events.Jet + events.Jet).mass >= 0)


def test_clusters_hold_32768_events(tmp_path):
    (file,) = generate(Settings(CLUSTER_EVENTS + 10, 1, 0, 1), tmp_path, workers=1).files
    branch = uproot.open(tmp_path / file.path)["Events"]["MET_pt"]
    assert list(branch.entry_offsets) == [
        0,
        CLUSTER_EVENTS,
        CLUSTER_EVENTS + 10,
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--events", "0"], "at least one file"), (["--coefficients", "-1"], "from 0 to 60")],
)
def test_bad_settings_are_told_in_one_line(options, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main([*options, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
