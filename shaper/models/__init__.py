"""What is learnt from observations: one file per model, all values are immutable."""

from shaper.models.beliefs import Beliefs
from shaper.models.group import GroupBeliefs, size_of
from shaper.models.line import Line

__all__ = ["Beliefs", "GroupBeliefs", "Line", "size_of"]
