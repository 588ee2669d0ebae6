"""Ports as users, and configurations of other programs, write them."""

from __future__ import annotations

from typing import Any

import pytest

from shaper.engines import ports
from shaper.errors import BadInput


@pytest.mark.parametrize(
    ("given", "port"),
    [
        (9123, 9123),
        ("9123", 9123),
        (0, 0),
        ((9123, 9130), (9123, 9130)),
        ([9123, 9130], (9123, 9130)),  # as the TopEFT analysis does
        ([9123, 9123], 9123),
        ("9123-9130", (9123, 9130)),
    ],
)
def test_a_port_is_a_number_or_a_range(given: Any, port: object) -> None:
    assert ports.of(given) == port


@pytest.mark.parametrize(
    "given", [-1, 65536, "abc", "", None, True, [], (9130, 9123), (1, 2, 3), (0, 9123), "9123-", 9123.5, (9123, None)]
)
def test_what_is_no_port_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match="is neither a number up to 65535 nor a range"):
        ports.of(given)
