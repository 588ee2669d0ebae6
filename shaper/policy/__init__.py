"""Decisions: one file per decision; `Adaptive`, `Published` and `Fixed` compose them."""

from shaper.policy.adaptive import Adaptive
from shaper.policy.fixed import Fixed
from shaper.policy.policy import Policy
from shaper.policy.published import Published

__all__ = ["Adaptive", "Fixed", "Policy", "Published"]
