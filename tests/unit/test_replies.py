"""What is made of tasks without a report: the fault of one attempt, of one host, or of all."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

from shaper.engines.replies import Replies
from shaper.engines.system import Ended
from shaper.errors import SiteError, UserError
from shaper.monitor.call import CallReport
from shaper.monitor.remote import Reply
from shaper.types import Outcome, Usage

VERSIONS = Reply(None, "versions", "node has numpy 1.0 (wanted: 2.0)")


class Site:
    def __init__(self, folder: Path) -> None:
        self.blocked: list[str] = []
        self.replies = Replies(folder, self.blocked.append)

    def works(self, host: str) -> None:
        ended = Ended("t", f"{host}/10.0.0.1:5", (0.0, 1.0))
        self.replies.path("t").write_bytes(pickle.dumps(Reply(CallReport("t", Outcome.DONE, Usage()))))
        assert self.replies.read(ended) is not None

    def fails(self, host: str, code: int = 0, reply: Reply | None = None, **more: Any) -> str:
        return self.replies.fault(Ended("t", f"{host}/10.0.0.2:5", (0.0, 1.0), code, **more), reply)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


SICK = [
    ({"code": 71, "said": "no numpy\nhere"}, "cannot run Python functions: no numpy here; start workers in"),
    ({"code": 126}, "has no such Python: no reason given; start workers where it is"),
    ({"code": 127}, "has no such Python"),
    ({"reply": VERSIONS}, "cannot run this: node has numpy"),
]


@pytest.mark.parametrize(("ending", "said"), SICK)
def test_a_sick_host_gets_no_more_tasks_where_another_works_and_is_named_once(
    ending: dict[str, Any], said: str, site: Site
) -> None:
    site.works("well")
    with pytest.warns(UserWarning, match=rf"^sick gets no more tasks, others do: worker sick/10\.0\.0\.2:5 {said}.*$"):
        assert said in site.fails("sick", **ending)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert said in site.fails("sick", **ending)
    assert site.blocked == ["sick"]


@pytest.mark.parametrize(("ending", "said"), SICK)
@pytest.mark.parametrize("well", [[], ["sick"]])
def test_a_sick_worker_is_an_error_where_no_other_host_has_answered(
    well: list[str], ending: dict[str, Any], said: str, site: Site
) -> None:
    for host in well:
        site.works(host)
    with pytest.raises(SiteError, match=f"worker sick/.*{said}"):
        site.fails("sick", **ending)
    assert not site.blocked


def test_the_last_host_that_works_is_not_blocked(site: Site) -> None:
    site.works("a")
    site.works("b")
    with pytest.warns(UserWarning, match="^a gets no more tasks"):
        site.fails("a", 127)
    with pytest.raises(SiteError, match="has no such Python"):
        site.fails("b", 127)
    assert site.blocked == ["a"]


@pytest.mark.parametrize("host", ["?", "\x10*k\udcdc\udcffU"])
def test_a_host_that_cannot_be_named_is_not_blocked(host: str, site: Site) -> None:
    site.works("well")
    with pytest.raises(SiteError):
        site.fails(host, 127)
    assert not site.blocked


def test_a_reply_that_no_function_ran_for_shows_nothing(site: Site) -> None:
    site.replies.path("t").write_bytes(pickle.dumps(VERSIONS))
    site.replies.read(Ended("t", "other/1", (0.0, 1.0)))
    with pytest.raises(SiteError):
        site.fails("sick", 71)


def test_a_host_that_cannot_unpack_three_times_in_a_row_is_blocked(site: Site) -> None:
    site.works("well")
    for _ in range(2):
        assert "cannot use the environment: full" in site.fails("sick", 72, said="full")
    site.works("sick")
    for _ in range(2):
        site.fails("sick", 72)
        site.works("well")
    with pytest.warns(UserWarning, match=r"sick gets no more tasks.*cannot use the environment.*3 attempts failed"):
        site.fails("sick", 72)
    assert site.blocked == ["sick"]


def test_an_environment_that_no_host_has_unpacked_is_an_error_after_three(site: Site) -> None:
    for host in ("a", "b"):
        site.fails(host, 72)
    with pytest.raises(SiteError, match="3 attempts failed in a row"):
        site.fails("c", 72)


def test_functions_that_cannot_be_loaded_are_the_users_wherever_that_is(site: Site) -> None:
    site.works("well")
    with pytest.raises(UserError, match="no module"):
        site.fails("sick", reply=Reply(None, "code", "no module"))


def test_what_concerns_an_attempt_alone_blocks_nobody(site: Site) -> None:
    site.works("well")
    assert site.fails("sick", 75) == "its warm server was killed"
    assert site.fails("sick", 127, fault="Work Queue says a signal ended it") == "Work Queue says a signal ended it"
    assert not site.blocked
