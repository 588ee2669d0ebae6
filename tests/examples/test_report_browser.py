"""The report page in a real browser: no console error, all is drawn, the table filters, marks tell what they are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from shaper.records import collect
from shaper.report.html import page
from tests.unit.records_factory import run_line, simulated, task_line

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--dump-dom",
]
DEADLINE_S = 180

# Uses the page as a person would, and leaves what came of it in the document.
USE = """<script>
const say=(name,value)=>document.documentElement.setAttribute("data-"+name,value);
const rows=()=>[...document.querySelectorAll("#decisions tbody tr")].filter(row=>row.offsetHeight>0);
say("rows",rows().length);
box.value="PROBE";box.dispatchEvent(new Event("input"));
say("filtered",rows().length);say("fits",rows().every(row=>row.textContent.includes("probe")));
say("counted",count.textContent);
const mark=document.querySelector("svg circle");
mark.dispatchEvent(new PointerEvent("pointerover",{bubbles:true}));
say("tip",document.getElementById("tip").textContent.includes("elements"));
say("tip-seen",document.getElementById("tip").offsetHeight>0);
mark.dispatchEvent(new PointerEvent("pointerover",{bubbles:true}));
document.body.dispatchEvent(new PointerEvent("pointerover",{bubbles:true}));
say("tip-gone",document.getElementById("tip").offsetHeight===0);
say("plain",getComputedStyle(mark).fill.startsWith("rgb"));
say("empty-plots",[...document.querySelectorAll(".plots section>svg")].filter(svg=>svg.getBBox().width<300).length);
say("wide",document.documentElement.scrollWidth<=innerWidth);
</script>"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[str, str], tuple[str, list[str]]]:
    if BROWSER is None:
        pytest.skip("no chromium to look at the page with")

    def look(text: str, size: str = "1400,3000") -> tuple[str, list[str]]:
        """Return the document after its scripts have run, and the lines of the browser's console."""
        path = tmp_path / "page.html"
        path.write_text(text)
        profile = [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}"]
        command = [str(BROWSER), *OPTIONS, *profile, path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return look


def said(document: str, names: Iterable[str]) -> dict[str, str]:
    head = document[: document.index(">", document.index("<html"))]
    return {name: head.partition(f'data-{name}="')[2].partition('"')[0] for name in names}


@pytest.mark.parametrize("size", ["1400,3000", "500,3000"])
def test_a_person_can_use_the_page(browse: Callable[..., tuple[str, list[str]]], tmp_path: Path, size: str) -> None:
    simulated(tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text()
    document, console = browse(text.replace("</body>", f"{USE}</body>"), size)
    assert console == []
    names = ("rows", "filtered", "fits", "counted", "tip", "tip-seen", "tip-gone", "plain", "empty-plots", "wide")
    found = said(document, names)
    assert 0 < int(found["filtered"]) < int(found["rows"])
    assert found["counted"] == f"{found['filtered']} of {found['rows']}"
    wanted = {"fits": "true", "tip": "true", "tip-seen": "true", "tip-gone": "true", "plain": "true", "wide": "true"}
    assert {name: found[name] for name in wanted} == wanted
    assert found["empty-plots"] == "0"


@pytest.mark.parametrize("count", [0, 1])
def test_pages_of_hardly_anything_have_no_console_error(
    browse: Callable[..., tuple[str, list[str]]], count: int
) -> None:
    text = page(collect([run_line(), *(task_line(n) for n in range(count))]))
    document, console = browse(text)
    assert console == []
    assert "</html>" in document


def test_a_console_error_would_be_seen(browse: Callable[..., tuple[str, list[str]]]) -> None:
    text = page(collect([run_line()])).replace("</body>", "<script>nothing.here()</script></body>")
    _, console = browse(text)
    assert len(console) == 1
    assert "nothing is not defined" in console[0]
