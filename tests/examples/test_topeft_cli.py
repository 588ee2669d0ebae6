"""The example as a command: yields, plots, other points, wrong options; with shaper and without."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import hist
import numpy as np
import pytest

from examples.topeft.__main__ import main
from examples.topeft.evaluation import coefficient_names, parse_point, scan, spectrum, yields
from examples.topeft.quadratic import Category, QuadraticHist

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


def size_of(png: Path) -> tuple[int, int]:
    head = png.read_bytes()[:24]
    assert head[:8] == PNG
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.fixture(scope="module")
def settings(topeft_data):
    s = topeft_data.settings
    return [
        *("--events", str(s.events), "--files", str(s.files), "--coefficients", str(s.coefficients)),
        *("--seed", str(s.seed), "--data", str(topeft_data.folder)),
    ]


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert main([*settings, "--out", str(out), "--executor", "iterative", "--point", "ctZ=1.5"]) == 0
    return out


def histograms_in(out):
    return pickle.loads((out / "histograms.pkl").read_bytes())["output"]["histograms"]


def test_draws_every_channel_and_a_summary(finished):
    drawn = {p.name for p in (finished / "plots").iterdir()}
    assert {"3l_ht.png", "2lss_l0pt.png", "4l_z_mass.png", "yields.png", "scan.png"} <= drawn
    assert "2lss_z_mass.png" not in drawn, "there is no Z boson in two leptons of the same charge"
    assert size_of(finished / "plots" / "3l_ht.png") == (640, 620)


def test_another_point_needs_no_processing(finished, capsys):
    before = (finished / "histograms.pkl").stat().st_mtime_ns
    assert main(["--evaluate", "--out", str(finished), "--point", "ctW=-3"]) == 0
    assert "ctW=-3" in capsys.readouterr().out
    assert (finished / "histograms.pkl").stat().st_mtime_ns == before


def test_shaper_fills_the_same_histograms(settings, finished, tmp_path):
    pytest.importorskip("shaper.coffea")
    command = [sys.executable, "-m", "examples.topeft", *settings, "--out", "out", "--run-dir", "run", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "9000 events in" in done.stderr
    expected = histograms_in(finished)
    for name, histogram in histograms_in(tmp_path / "out").items():
        assert histogram.sums.keys() == expected[name].sums.keys()
        for key, bins in histogram.sums.items():
            np.testing.assert_allclose(bins, expected[name].sums[key], rtol=1e-9, atol=1e-12 * np.abs(bins).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "missing.root"], "missing.root: no such file"),
        (["--input", __file__], "not a ROOT file with a tree 'Events'"),
        (["--chunksize", "0"], "--chunksize must be at least 1, got 0"),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--memory", "2XB"], "'2XB' is not a size"),
        (["--executor", "futures", "--memory", "2GB"], "need --executor shaper"),
        (["--events", "0", "--executor", "iterative"], "at least one file"),
        (["--evaluate", "--out", "nowhere"], "run once without --evaluate"),
        (["--evaluate", "--out", "damaged"], "damaged/histograms.pkl: it is damaged: run once without --evaluate"),
        (["--point", "ctX=1"], "no coefficient 'ctX'"),
        (["--out", "damaged/histograms.pkl"], "--out damaged/histograms.pkl: File exists"),
    ],
)
def test_wrong_options_get_one_clear_line(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "histograms.pkl").write_bytes(b"no pickle")
    assert main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


# evaluation -------------------------------------------------------------------------------------------------------


def test_points_are_written_by_name():
    assert coefficient_names(28)[-3:] == ["cQt1", "c27", "c28"]
    assert len(set(coefficient_names(26))) == 26
    assert parse_point("ctZ=-2, ctp=0.5", 4).tolist() == [0, -2, 0.5, 0]
    assert parse_point("", 2).tolist() == [0, 0]
    for text, message in (("ctX=1", "no coefficient 'ctX'; there are ctW, ctZ"), ("ctW=x", "write it like ctW=1.5")):
        with pytest.raises(ValueError, match=message):
            parse_point(text, 2)


def one_process(**sums: list[float]) -> QuadraticHist:
    """Two bins in 3l, 2 jets; per systematic the first terms of underflow, both bins and overflow."""
    out = QuadraticHist(hist.axis.Regular(2, 0, 2, name="x"))
    for systematic, values in sums.items():
        key = Category("p", "3l", "2j", "SR", systematic)
        out.sums[key] = np.outer(values, [1.0, 0.5, 0.25])  # 1 + w / 2 + w^2 / 4
    nominal = Category("p", "3l", "2j", "SR", "nominal")
    out.variances[nominal] = np.array([[1.0], [4.0], [9.0], [0.0]])
    return out


def test_spectra_fold_the_overflow_and_add_variations_in_quadrature():
    histogram = one_process(nominal=[1, 10, 20, 3], a_up=[1, 13, 20, 3], a_down=[1, 10, 20, 1], b_up=[1, 14, 20, 3])
    drawn = spectrum(histogram, "3l", [2.0])
    assert drawn.total.tolist() == [11, 23]
    assert drawn.at_point.tolist() == [33, 69]
    assert drawn.systematic.tolist() == [[0, 2], [5, 0]]
    np.testing.assert_allclose(drawn.statistical, [[5**0.5, 3], [5**0.5, 3]])
    assert drawn.point_statistical is None
    assert spectrum(histogram, "4l").total.tolist() == [0, 0]


def test_yields_vary_as_a_whole():
    (row,) = yields(one_process(nominal=[1, 10, 20, 3], a_up=[1, 13, 17, 3]), [2.0])
    assert (row.channel, row.jets, row.total, row.at_point) == ("3l", "2j", 34, 102)
    assert row.uncertainty == pytest.approx(14**0.5), "a variation of the shape alone moves no yield"


def test_a_scan_is_a_parabola():
    histogram = one_process(nominal=[0, 4, 0, 0])
    assert scan(histogram, "3l", 0, np.array([-2.0, 0.0, 2.0])).tolist() == [4, 4, 12]
