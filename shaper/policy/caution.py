"""How much smaller the first tasks are where what is believed may not hold, and why."""

from __future__ import annotations

from shaper.models.group import GroupBeliefs

# The first tasks of another group, or of what another run has shown, are this much smaller than what is believed.
FIRST_SHARE = 4
# And where that other run was about other code.
_DOUBTED_SHARE = 16
# So many tasks of a group on trial may run, and its share of the workers: enough that some end soon.
ON_TRIAL = 8


def first_share(about: GroupBeliefs) -> int:
    """What to divide sizes by while beliefs are on trial."""
    return _DOUBTED_SHARE if about.doubted and about.recalled else FIRST_SHARE


def reason(about: GroupBeliefs) -> str:
    """Why sizes are small, in words a user can read."""
    if about.alarms:
        return "several needed far more memory than believed"
    if not about.recalled:
        return "what another run showed does not hold"
    return "another run showed this of other code" if about.doubted else "this is what another run showed"
