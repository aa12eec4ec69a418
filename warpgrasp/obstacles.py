"""Obstacles around the object."""

from __future__ import annotations

from .model import HandModel
from .pose import Pose
from .term import Term


class Obstacles:
    """To be written."""

    def term(self, model: HandModel, start: Pose) -> Term:
        raise NotImplementedError
