"""The error tree, split by who can act.

ShaperError
|-- UserError                 the script, its functions or its inputs
|   |-- BadInput              a value that cannot be used (also a ValueError)
|   |-- CannotPickle          a function, an argument or a result that cannot travel
|   |-- ProcessFailed         the user's function raised; `__cause__` is the original where it unpickles
|   |-- Changed               a run directory whose code or inputs are not those of the script
|-- SiteError                 the machine or the cluster
|   |-- EngineMissing         an engine or an extra that is not installed
|   |-- Stalled               nothing that waits can ever run on the workers there are
|   |-- Damaged               a run directory that cannot be read
|-- Incomplete                parts of the dataset have no result; `.partial` and `.missing` say which
|-- Cancelled                 a job that was cancelled
|-- Broken                    a law of the core does not hold: a bug in shaper, please report it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ShaperError(Exception):
    """Base of everything shaper raises on purpose."""


class UserError(ShaperError):
    """Something in the script, its functions or its inputs; the message says what to change."""


class BadInput(UserError, ValueError):
    """A value that cannot be used."""


class CannotPickle(UserError):
    """A function, an argument or a result that cannot be sent to or from a task."""


class Incomplete(ShaperError):
    """Some elements have no result, so the whole is not passed off as one.

    Attributes:
        partial: per stage, the merged value of what did finish (None where nothing did).
        missing: one line for each part without a result: source, range and reason.
    """

    def __init__(self, message: str, partial: object = None, missing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.partial = partial
        self.missing = tuple(missing)


class ProcessFailed(Incomplete, UserError):
    """Incomplete because the user's function raised; that exception is `__cause__` where it could be unpickled.

    Attributes:
        detail: what is known of the first such failure: the end of its traceback, of its standard error.
    """

    detail: str = ""


class Changed(UserError):
    """The run directory belongs to other code or other inputs than the script that wants to resume it."""


class SiteError(ShaperError):
    """Something about the machine or the cluster, not about the script."""


class EngineMissing(SiteError):
    """An engine or an optional extra is not installed; the message says how to install it."""


class Stalled(SiteError):
    """Tasks wait that no worker, present or announced, can ever run."""


class Damaged(SiteError):
    """A run directory whose files cannot be read."""


class Cancelled(ShaperError):
    """A job of a manager was cancelled; what it had done is kept in its directory."""


class Broken(ShaperError):
    """A law of the core does not hold. This is a bug in shaper; nothing a user does should cause it."""
