"""What every backend starts from: a hand with soft pads, and the object that they press."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from .. import rotation
from ..errors import HandError
from ..hand import Hand
from ..mesh import ObjectMesh
from ..pose import Pose
from .material import Material, find_material
from .options import Load
from .pads import FingerPad, hand_pads
from .sensors import biotac3d


class PadOptions(TypedDict, total=False):
    """What every backend accepts."""

    pads: Sequence[FingerPad] | None
    """Pads of your own; those of the hand where not given."""

    material: Material | str
    """Of the pads, or the name of a preset; ``"silicone"`` where not given."""

    load: Load | None
    """How to close and pull."""


class SoftHand:
    """Soft pads of one hand, with taxels, on one object; see :class:`PadOptions` for the options.

    Raises:
        HandError: There is no pad.
        OptionError: There is no such material.
    """

    def __init__(
        self,
        hand: Hand,
        obj: ObjectMesh,
        *,
        pads: Sequence[FingerPad] | None = None,
        material: Material | str = "silicone",
        load: Load | None = None,
    ) -> None:
        self.hand, self.object = hand, obj
        self.material, self.load = find_material(material), load or Load()
        self.pads = list(hand_pads(hand) if pads is None else pads)
        if not self.pads:
            raise HandError(hand.path, "there is no pad, so nothing soft touches")
        self.taxels = [biotac3d(pad.mesh) for pad in self.pads]

    def pad_axes(self, pose: Pose) -> np.ndarray:
        """Unit directions out of the middle of each pad, object frame, shape (N, pad, 3)."""
        place = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)[:, None] @ self.hand.link_transforms(
            pose.joint_position
        )
        axes = [(place[:, pad.link, :3, :3] @ pad.pose[:3, :3])[..., 2] for pad in self.pads]
        return np.stack(axes, axis=1)
