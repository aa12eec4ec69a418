"""The arm that carries the hand, and its reach."""

from __future__ import annotations

from .model import HandModel
from .pose import Pose
from .term import Term


class MountedArm:
    """To be written."""

    def term(self, model: HandModel, start: Pose) -> Term:
        raise NotImplementedError
