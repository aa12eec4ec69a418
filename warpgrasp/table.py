"""The table that the object rests on, and the term of the loss that keeps the hand above it."""

from __future__ import annotations

from .model import HandModel
from .pose import Pose
from .term import Term


class Table:
    """To be written."""

    def term(self, model: HandModel, start: Pose) -> Term:
        raise NotImplementedError
