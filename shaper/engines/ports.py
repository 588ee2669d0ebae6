"""Where a manager listens, as users write it."""

from __future__ import annotations

from collections.abc import Sequence

from shaper.errors import BadInput

_MOST = 65535


def of(given: int | str | Sequence[int]) -> int | tuple[int, int]:
    """Return a port, 0 for any that is free, or the first and last of a range: `9123`, `"9123-9130"`, `[9123, 9130]`.

    Raises:
        BadInput: it is none of these.
    """
    parts = given.split("-") if isinstance(given, str) else [given] if isinstance(given, int) else given
    try:
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    in_order = bool(numbers) and 0 <= numbers[0] <= numbers[-1] <= _MOST
    if not in_order or isinstance(given, bool) or len(numbers) > 2 or (len(numbers) == 2 and numbers[0] == 0):
        raise BadInput(f"port {given!r} is neither a number up to {_MOST} nor a range like (9123, 9200); 0 is any")
    return numbers[0] if numbers[0] == numbers[-1] else (numbers[0], numbers[-1])
