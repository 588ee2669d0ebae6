"""Sizes and durations as users write them, and as they are shown."""

from __future__ import annotations

import re

from shaper.errors import BadInput

MIB = 2**20

_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str | int | float, name: str = "size") -> int:
    """Return a size in bytes: `"2GB"` is 2 * 10**9, `"1500MiB"` 1500 * 2**20, a plain number bytes.

    Raises:
        BadInput: no such unit, or not a positive size; the message says how to write one.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        value, unit = float(text), "B"
    else:
        match = _NUMBER.fullmatch(str(text))
        if match is None or match[2].upper() not in {*_BYTES, ""}:
            raise BadInput(f"{name} {text!r} is not a size: write it like '2GB' (10**9 bytes) or '1500MiB' (2**20)")
        value, unit = float(match[1]), match[2].upper() or "B"
    if not 0 < value < float("inf"):
        raise BadInput(f"{name} must be more than zero, got {text!r}")
    return int(value * _BYTES[unit])


def parse_mib(text: str | int | float, name: str = "size") -> int:
    """Return a size in MiB, rounded down but at least 1; a plain number is taken as MiB already.

    Raises:
        BadInput: as `parse_bytes`.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not 1 <= text < float("inf"):
            raise BadInput(f"{name} must be at least 1 MiB, got {text!r}")
        return int(text)
    size_bytes = parse_bytes(text, name)
    if size_bytes < MIB and str(text).strip()[-1].isdigit():
        raise BadInput(f"{name} {text!r} is less than 1 MiB: give a unit, like '2GB' or '1500MiB'")
    return max(1, size_bytes // MIB)


def parse_seconds(text: str | int | float, name: str = "time") -> float:
    """Return a duration in seconds: `"90s"`, `"15min"`, `"2h"`, `"1d"`; a plain number is seconds.

    Raises:
        BadInput: no such unit, or not a positive duration.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        seconds = float(text)
    else:
        match = _NUMBER.fullmatch(str(text))
        if match is None or match[2].lower() not in {*_SECONDS, ""}:
            raise BadInput(f"{name} {text!r} is not a duration: write it like '90s', '15min' or '2h'")
        seconds = float(match[1]) * _SECONDS[match[2].lower() or "s"]
    if not 0 < seconds < float("inf"):
        raise BadInput(f"{name} must be more than zero, got {text!r}")
    return seconds


def seconds_within(given: object, name: str, least_s: float, most_s: float) -> float:
    """Return a number of seconds that lies between two others.

    Raises:
        BadInput: it is no number, or does not.
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not least_s <= given <= most_s:
        raise BadInput(f"{name} must be a number of seconds from {least_s:g} to {most_s:g}, got {given!r}")
    return float(given)


def show_mib(mib: float | None) -> str:
    """Return `850 MiB`, `2.1 GiB` or `?`."""
    if mib is None:
        return "?"
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def show_seconds(seconds: float | None) -> str:
    """Return `40 ms`, `8.2 s`, `3 min 20 s`, `2 h 05 min` or `?`."""
    if seconds is None:
        return "?"
    if seconds < 0.1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def show_count(number: float) -> str:
    """Return `950`, `12.5k`, `3.2M` or `1.0G`."""
    for limit, divisor, suffix in ((1e4, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if number < limit:
            return f"{number / divisor:.{0 if divisor == 1 else 1}f}{suffix}"
    return f"{number / 1e9:.1f}G"
