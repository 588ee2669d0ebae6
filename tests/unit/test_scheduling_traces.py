"""Traces in the Standard Workload Format, and what is drawn of schedules."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import shaper
from shaper.errors import BadInput
from shaper.report.schedules import by_rank
from shaper.report.svg import standalone
from shaper.simulation.moldable import Rule, downey_jobs
from shaper.simulation.schedule_cli import app
from shaper.simulation.schedule_plots import drawn
from shaper.simulation.study import Study
from shaper.simulation.swf import Record, Trace, parse, read
from tests.unit.scheduling_factory import offered_load
from tests.unit.test_report_page import checked

UNKNOWN = "-1 -1 -1"


def line(
    number: object = 1, submit: object = 0, run: object = 60, used: object = 4, asked: object = -1, state: object = 1
) -> str:
    return f"{number} {submit} -1 {run} {used} -1 -1 {asked} -1 -1 {state} {UNKNOWN} {UNKNOWN} -1"


def test_lines_become_records() -> None:
    found = parse(["; Version: 2.2", "", line(7, 10, 60.5, 4), line(8, 12, -1, -1, 16), "  ;", line(9, 3, 0, -1, -1)])
    assert found == Trace((Record(7, 10.0, 60.5, 4), Record(8, 12.0, None, 16), Record(9, 3.0, 0.0, None)), (), 0)


def test_a_malformed_line_is_told_with_its_number_and_the_others_are_kept() -> None:
    found = parse(
        [
            "; a comment counts as a line",
            line(1),
            "2 5 60",
            line(3, run="1h"),
            line(4, run="nan"),
            line(1),
            line(5, submit=-1),
            line(6),
            line(6, state=2),
            line(7, run="1_0"),
            line(8, run="\u0661\u0660"),
            line(9, run=-5),
            line(10, run="1e999"),
            line(11, run="1e308", used=400),
        ]
    )
    assert [record.number for record in found.records] == [1, 6]
    assert found.troubles == (
        "line 3: 3 fields instead of 18",
        "line 4: field 4 is no number: '1h'",
        "line 5: field 4 is no number: 'nan'",
        "line 6: job 1 was there before",
        "line 7: job 5 has no submit time",
        "line 10: field 4 is no number: '1_0'",
        "line 11: field 4 is no number: '\u0661\u0660'",
        "line 12: job 9 cannot have run for -5 s on 4 processors",
        "line 13: field 4 is no number: '1e999'",
        "line 14: job 11 cannot have run for 1e+308 s on 400 processors",
    )
    assert found.parts == 1


def test_plain_and_compressed_files_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    text = f"; header\n{line(1)}\n{line(2)}\n"
    (tmp_path / "plain.gz").write_text(text)
    (tmp_path / "packed.swf").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "plain.gz") == read(str(tmp_path / "packed.swf"))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    for first in ("; header\n", ""):
        path = tmp_path / "marked.swf"
        path.write_text(f"{first}{line(1)}\n", encoding="utf-8-sig")
        assert read(path) == Trace((Record(1, 0.0, 60.0, 4),), ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"; only a comment\n", "holds no jobs in the Standard Workload Format"),
        (b"a,b,c\n", "holds no jobs in the Standard Workload Format; line 1: 1 fields instead of 18"),
        (gzip.compress(b"1 2 3\n" * 99)[:-9], "cannot be read: "),
        (b"\x1f\x8bnot compressed", "cannot be read: "),
        (bytes(range(256)), "holds no jobs in the Standard Workload Format"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "trace.swf"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read(path)
    assert "trace.swf" in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_trace_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no trace"):
        read(tmp_path / "none.swf")
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path)


def test_the_real_trace_has_no_malformed_lines(shared_data: Path) -> None:
    found = read(shared_data / "traces" / "SDSC-Par-1996-3.1-cln.swf.gz")
    assert len(found.records) == 32135
    assert found.troubles == ()
    assert found.records[0] == Record(1, 0.0, 19025.0, 64)
    jobs = downey_jobs(found.records, 0, count=200)
    assert len(jobs) == 200
    assert offered_load(jobs) > 0


def test_a_study_tells_what_it_leaves_out_and_its_figures_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "short <trace>.swf"
    path.write_text("\n".join([*(line(n, 10 * n, 50 * n, 1 + n % 4) for n in range(1, 30)), line(99, run=-1), "bad"]))
    study = Study(path, processors=8, seeds=(0, 1))
    assert study.about() == {
        "trace": path.name,
        "malformed_lines": 1,
        "lines_of_parts": 0,
        "jobs_without_run_time": 1,
        "troubles": ["line 31: 1 fields instead of 18"],
    }
    found = {str(rule): study.run(rule) for rule in (Rule("dbos"), Rule("eq-spt", cap=2))}
    assert [len(fared.stretch) for fared in found["dbos 1.5"]] == [2 * 29]
    page = drawn(study, found)
    checked(page)
    for heading in ("Sorted stretch", "Sorted flow", "Jobs with a stretch above 1", "Downey&#x27;s speed-up"):
        assert f"<h2>{heading}</h2>" in page
    assert "short &lt;trace&gt;.swf" in page
    assert "29 jobs, 2 seeds, 8 processors" in page


def test_a_study_over_loads_is_drawn_by_load_with_the_steps_of_the_speed_up() -> None:
    study = Study(loads=[50.0, 100.0], processors=16, count=30)
    page = drawn(study, {str(rule): study.run(rule) for rule in (Rule("dbos"), Rule("lex"))})
    checked(page)
    for heading in ("Sorted stretch, load 100", "Average stretch by load", "Speed-up of sequence mapping"):
        assert f"<h2>{heading}</h2>" in page


COMPARED = ["compare", "--load", "10", "--jobs", "5", "--processors", "8", "--method", "eq-spt"]


def test_a_page_that_cannot_be_written_costs_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    page.symlink_to(page)
    for words, told in (([], "eq-spt"), (["--json"], '"method": "eq-spt"')):
        with pytest.raises(BadInput, match=r"the page .* cannot be written: "):
            app([*COMPARED, "--page", str(page), *words], standalone_mode=False)
        assert told in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused_before_anything_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["--page", str(tmp_path)], "is a directory"),
        (["--method", "dbos:nan"], "rho must be at least 1, got nan"),
        (["--method", "dbos", "--method", "dbos:1.50000001"], "two methods are dbos 1.5: name each once"),
    ):
        with pytest.raises(BadInput, match=message):
            app([*COMPARED, *words], standalone_mode=False)
        assert capsys.readouterr().err == ""


def test_a_study_needs_either_a_trace_or_loads() -> None:
    for arguments in ({}, {"trace": Path("x"), "loads": [1.0]}):
        with pytest.raises(BadInput, match="give a trace"):
            Study(**arguments)
    with pytest.raises(BadInput, match="must be at least 1"):
        Study(loads=[1.0], processors=0)
    with pytest.raises(BadInput, match="load and number of jobs must be more than zero and finite"):
        Study(loads=[-1.0]).run(Rule("dbos"))
    with pytest.raises(BadInput, match="a seed must be at least 0, got -1"):
        Study(loads=[1.0], seeds=[0, -1])


def test_a_plot_stands_alone_and_more_methods_than_colours_are_dashed() -> None:
    names = [f"method <{at}>" for at in range(9)]
    plot = by_rank({name: [at + 1.0, at + 2.0] for at, name in enumerate(names)}, "stretch")
    root = ElementTree.fromstring(standalone(plot))
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(names) <= set(texts)
    lines = [one.attrib for one in root.iter("{http://www.w3.org/2000/svg}path") if "stroke-width" in one.attrib]
    strokes = [(one["stroke"], "stroke-dasharray" in one) for one in lines if one["stroke-width"] == "1.8"]
    assert len(strokes) == len(set(strokes)) == 9
    assert [shape for _, _, shape in plot.keys] == ["line"] * 7 + ["dashed"] * 2


def test_scheduling_is_loaded_when_it_is_asked_for() -> None:
    code = "import sys, shaper; before = 'numpy' in sys.modules; shaper.scheduling.plan; print(before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
    with pytest.raises(AttributeError, match="has no attribute 'plans'"):
        shaper.plans  # noqa: B018
