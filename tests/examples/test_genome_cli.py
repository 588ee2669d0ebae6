"""The genome example as a command: what it says, measures and draws."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from argparse import Namespace
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from examples.genome import plots
from examples.genome.__main__ import main
from examples.genome.generate import Settings
from examples.genome.inputs import inputs_of
from examples.genome.measure import Measured, learnt
from shaper.models import Choice, Estimate, ParallelismModel, Run
from tests.conftest import ROOT
from tests.examples.test_genome import ODD, vcf
from tests.examples.test_topeft_cli import size_of

SMALL = ["--variants", "600", "--chromosomes", "2", "--samples", "120", "--annotated", "0.2", "--draw", "10"]
SMALL += ["--runs", "20", "--memory", "1GB"]


def command(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "examples.genome", *SMALL, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_the_command_tells_what_people_share_and_draws_what_it_measured(tmp_path: Path) -> None:
    history = tmp_path / "history.sqlite"
    done = command(tmp_path, "--cores", "1", "--repetitions", "1", "--run-dir", "run", SHAPER_HISTORY=str(history))
    assert done.returncode == 0, done.stderr
    assert not history.exists(), "an example leaves the user's own history alone"
    assert "1200 variants of 120 people in" in done.stderr
    assert "left out: GBR, with fewer than 10 samples" in done.stdout
    rows = {line.split()[1]: line.split("│")[2:] for line in done.stdout.splitlines() if line.startswith("│")}
    assert rows.keys() == {"ALL", "AFR", "AMR", "EAS", "EUR", "SAS"}
    assert [int(rows[name][0]) for name in ("ALL", "AFR")] == [120, 32]
    assert int(rows["ALL"][1]) > int(rows["AFR"][1]) > 0
    figures = {path.name for path in (tmp_path / "demo-output" / "genome" / "plots").iterdir()}
    assert {"overlap.png", "individuals.png", "stages.png", "frequency.png", "pareto.png", "graph-1.png"} <= figures
    # Every stage was cut into as many tasks as were to be measured.
    (measured,) = (tmp_path / "shaper-runs").glob("genome-measured-*")
    found: dict[str, int] = {}
    for line in (measured / "records.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == "task" and row["work"] == "process":
            found[row["stage"]] = found.get(row["stage"], 0) + 1
    by_name: dict[str, list[int]] = {}
    for stage, tasks in found.items():
        by_name.setdefault(stage.split()[1], []).append(tasks)
    assert {name: sorted(tasks) for name, tasks in by_name.items()} == {
        **{name: [1, 2] for name in ("individuals", "sifting", "individuals_merge", "mutation_overlap")},
        "frequency_all": [1, 2, 2],
        "frequency": [1, 1, 2],
    }


def test_other_files_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genotypes = vcf(tmp_path / "mine.vcf", ODD[:2] * 50, samples=3)
    options = ["--vcf", str(genotypes), "--annotated", "1", "--draw", "2", "--runs", "3", "--no-measure"]
    folders = ["--data", str(tmp_path / "data"), "--out", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    assert main([*options, *folders, "--cores", "1", "--memory", "1GB"]) == 0
    said = capsys.readouterr()
    assert "no --annotation: made up" in said.out
    assert "left out: first half" in said.out
    assert "100 variants of 3 people" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vcf", "missing.vcf"], "missing.vcf: No such file"),
        (["--real", "--vcf", "missing.vcf"], "give --real or --vcf, not both"),
        (["--draw", "1"], "--draw at least 2"),
        (["--repetitions", "0"], "--repetitions and --runs must be at least 1"),
        (["--samples", "3"], "at least 50 samples"),
        (["--seed", "-1"], "a seed of at least 0, got -1"),
        (["--draw", "3000"], "--draw 3000: there are 2504 samples"),
        (["--annotation", "a.vcf"], "--annotation goes with --vcf or --real"),
        (["--populations", "lists"], "--populations goes with --vcf or --real"),
        (["--engine", "slurm"], "engine 'slurm' is not known"),
        (["--cores", "0"], "cores must be a whole number of at least 1"),
        (["--memory", "2XB"], "'2XB' is not a size"),
        (["--out", "a.vcf/plots"], "--out a.vcf/plots: Not a directory"),
        (["--vcf", "a.vcf", "b.vcf", "--annotation", "a.vcf"], "names 1 files, the genotypes are 2: one for each"),
        (["--vcf", "a.vcf", "--annotation", "b.vcf"], "b.vcf: it is of chromosome 2, the genotypes of 1"),
        (["--vcf", "a.vcf", "a.vcf"], "are both of chromosome 1: one file for each"),
        (["--vcf", "empty.vcf"], "empty.vcf: it has no variants"),
        (["--vcf", "lists/binary"], "binary: not a VCF file"),
        (["--vcf", "a.vcf", "--populations", "missing"], "missing: no such folder"),
        (["--vcf", "a.vcf", "--populations", "none"], "none: it is empty"),
        (["--vcf", "a.vcf", "--populations", "lists"], "lists/binary: not a list of names"),
        (["--vcf", "a.vcf", "--populations", "others"], "others: its lists name nobody of"),
    ],
)
def test_wrong_options_get_one_clear_line_before_anything_is_done(
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    vcf(tmp_path / "a.vcf", ODD[:2])
    vcf(tmp_path / "b.vcf", [line.replace("1\t", "2\t", 1) for line in ODD[:2]])
    vcf(tmp_path / "empty.vcf", [])
    for name, content in {"lists/binary": b"\x80\xff", "none/folder/file": b"", "others/P": b"nobody"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    assert main(options) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (len(said.err.splitlines()), said.out) == (1, "")
    assert not (tmp_path / "shaper-runs").exists()


def test_people_who_are_not_in_the_files_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genotypes = vcf(tmp_path / "mine.vcf", ODD[:2] * 5, samples=3)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "P").write_text("s0 s1 A B C D")
    options = Namespace(
        real=False,
        vcf=[genotypes],
        annotation=None,
        populations=tmp_path / "lists",
        data=tmp_path,
        **asdict(Settings()),
    )
    files = inputs_of(options, Console(soft_wrap=True))
    assert files.populations == {"P": ("s0", "s1", "A", "B", "C", "D"), "ALL": ["s0", "s1", "s2"]}
    assert "P: 4 of 6 people are not in the genotypes: A, B, C, ..." in capsys.readouterr().out


def test_genotypes_without_a_predicted_variant_are_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genotypes = vcf(tmp_path / "mine.vcf", ODD[:2] * 50, samples=3)
    notes = tmp_path / "notes.vcf"
    notes.write_text(
        '##INFO=<ID=CSQ,Number=.,Type=String,Description="Format: Gene|SIFT">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n1\t5\trs99999\tA\tC\t.\t.\tCSQ=G|\n"
    )
    options = ["--vcf", str(genotypes), "--annotation", str(notes), "--draw", "2", "--runs", "3", "--cores", "1"]
    folders = ["--out", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    assert main([*options, *folders, "--memory", "1GB"]) == 0
    assert "no variant of the genotypes has a SIFT prediction" in capsys.readouterr().out


def test_a_history_is_kept_where_one_is_asked_for_and_never_of_what_is_cut_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    done = command(tmp_path, "--cores", "1", "--repetitions", "1", "--history", "h.sqlite")
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "h.sqlite")) as history:
        assert history.execute("select distinct workflow from subjects").fetchall() == [("genome of examples.genome",)]


# figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Amdahl:
    """T = 1 + 3 / s, told before anything was run."""

    def updated(self, run: object) -> Amdahl:
        return self

    def predict(self, s: int, gamma: float, load: float) -> Estimate:
        return Estimate(1 + 3 / s, 1.1 * (1 + 3 / s), 1)

    def choose(self, gamma: float, load: float, s_max: int, urgency: float = 1.0) -> Choice:
        return Choice(min(range(1, s_max + 1), key=lambda s: (1 + 3 / s) ** urgency * s**0.5), None, "least")


RUNS = [
    Measured(name, Run(s, 1.0, 0.0 if name == "individuals" else float(other), 1 + 3 / s + 0.01 * other))
    for name in ("individuals", "frequency_all", "frequency")
    for s in (1, 2, 3, 4)
    for other in (1, 2)
]


def test_a_model_learns_of_each_stage() -> None:
    runs = [*RUNS, Measured("sifting", Run(1, 1.0, 0.0, 9.0))]
    models = learnt(runs, ParallelismModel())
    assert {name: model.seen for name, model in models.items()} == {
        **dict.fromkeys(("individuals", "frequency_all", "frequency"), 8),
        "sifting": 1,
    }
    assert models["individuals"].predict(4, 1.0, 0.0).mean == pytest.approx(1.765, rel=0.05)


def test_all_figures_are_drawn(tmp_path: Path) -> None:
    models = dict.fromkeys(("individuals", "frequency_all", "frequency"), Amdahl())
    drawn = plots.draw_all(RUNS, models, models, tmp_path)
    scaling = {"individuals", "stages", "frequency"}
    graphs = {"graph-1", "graph-cost", "graph-published", "graph-time"}
    assert {path.stem for path in drawn} == scaling | graphs | {"pareto", "residuals", "chosen"}
    assert all(min(size_of(path)) > 300 for path in drawn)


def test_the_model_is_drawn_beside_what_was_measured() -> None:
    figure = plots.draw_scaling(["individuals"], RUNS, {"individuals": Amdahl()})
    time, speedup = figure.axes
    model = time.lines[1]
    assert model.get_ydata().tolist() == pytest.approx([4, 2.5, 2, 1.75])
    (band,) = time.collections
    low, high = band.get_datalim(time.transData).intervaly
    assert (low, high) == pytest.approx((1.75 / 1.1, 4.4))
    assert speedup.lines[0].get_ydata().tolist() == [1, 2, 3, 4], "the ideal"


def test_residuals_are_what_the_expectation_leaves() -> None:
    naive, model = plots.draw_residuals(["individuals"], RUNS, {"Amdahl": {"individuals": Amdahl()}}).axes
    assert sorted(model.lines[0].get_ydata()) == pytest.approx([0.01] * 4 + [0.02] * 4)
    at_four = [y for x, y in zip(*naive.lines[0].get_data(), strict=True) if x == 4]
    assert at_four == pytest.approx([1.76 - 4.015 / 4, 1.77 - 4.015 / 4])


def test_the_pareto_front_is_what_nothing_beats() -> None:
    points = {(1, 1): (9.0, 1.0), (2, 1): (5.0, 2.0), (2, 2): (6.0, 3.0), (3, 1): (4.0, 2.0), (3, 3): (1.0, 9.0)}
    assert plots.pareto(points) == [(3, 3), (3, 1), (1, 1)]


def test_what_is_chosen_is_in_the_figure_also_where_it_was_not_measured() -> None:
    both = ["frequency_all", "frequency"]
    runs = [Measured(name, Run(s, 1.0, float(s), 1 + 3 / s)) for s in (1, 2, 3) for name in both]
    axes = plots.draw_pareto(both, runs, dict.fromkeys(both, Amdahl())).axes[0]
    assert axes.get_legend_handles_labels()[1][-1] == "chosen: 3,3"
    runs = [run for run in runs if run.run.s != 2] + [
        Measured(both[0], Run(2, 1.0, 1.0, 2.5)),
        Measured(both[1], Run(1, 1.0, 2.0, 4.0)),
    ]

    class Two(Amdahl):
        def choose(self, *_: object, **__: object) -> Choice:
            return Choice(2, None, "always")

    axes = plots.draw_pareto(both, runs, dict.fromkeys(both, Two())).axes[0]
    assert axes.get_legend_handles_labels()[1][-1] == "chosen: 2,2, as the models expect it"
    assert (axes.lines[-1].get_xdata()[0], axes.lines[-1].get_ydata()[0]) == (2.5, 2 * 2 * 2.5)


def test_names_of_points_are_on_nothing_else_and_within_the_frame() -> None:
    both = ["frequency_all", "frequency"]
    pairs = [(heavy, light) for heavy in range(1, 9) for light in range(1, heavy + 1)]
    runs = [
        Measured(name, Run(s, 1.0, float(other), 1 + 3 / s + 0.01 * other))
        for heavy, light in pairs
        for name, s, other in zip(both, (heavy, light), (light, heavy), strict=True)
    ]
    figure = plots.draw_pareto(both, runs, dict.fromkeys(both, Amdahl()))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    names = [text.get_window_extent() for text in axes.texts]
    points = axes.transData.transform(np.column_stack(axes.lines[0].get_data()))
    assert len(names) > len(pairs) / 3
    for number, box in enumerate(names):
        assert axes.bbox.contains(*box.min)
        assert axes.bbox.contains(*box.max)
        assert not box.count_overlaps([*names[:number], axes.get_legend().get_window_extent()])
        assert not any(box.contains(*point) for point in points)


def test_the_graph_shows_every_task() -> None:
    (axes,) = plots.draw_graph({"individuals": 3, "individuals_merge": 2}, "title").axes
    boxes = [patch for patch in axes.patches if type(patch).__name__ == "Rectangle"]
    assert len(boxes) == 1 + 3 + 2
    assert {text.get_text() for text in axes.texts} == {"count", "individuals, s = 3", "individuals_merge, s = 2"}
