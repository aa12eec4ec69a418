"""One scene for every protocol: hand on a free root that follows a target, free object, perhaps a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import rotation
from ..hand import Hand
from ..mesh import ObjectMesh
from .engine import mujoco, set_options
from .hand_model import PREFIX, ROOT, add_hand, add_mjcf
from .object_model import OBJECT, ObjectShape, add_object
from .protocols import LEVER, Protocol

if TYPE_CHECKING:
    from ..resting import RestingPose

TARGET = "hand target"
"""Mocap body that the hand's root is welded to."""

TABLE = "table"

STATIC = 1.0e6
"""Armature that no force of a grasp can move [kg or kg m²]."""


def scene_spec(
    hand: Hand,
    obj: ObjectMesh,
    shape: ObjectShape,
    protocol: Protocol,
    *,
    hand_mjcf: str | Path | None = None,
    couple_actuators: bool = False,
    resting: RestingPose | None = None,
) -> Any:
    """The scene as an editable ``mujoco.MjSpec``; the world frame is the object frame at the start.

    Args:
        hand: The hand.
        obj: The object.
        shape: What the object touches with.
        protocol: Settings of solver, contacts and actuators.
        hand_mjcf: The user's own description of the same hand, taken instead of ours.
        couple_actuators: One motor for the joints that ``Hand.actuators`` lists together.
        resting: How the object rests on the table, where the protocol has one; as its frame stands where omitted.

    Raises:
        HandError: The hand has no joint to drive, or ``hand_mjcf`` does not describe the same hand.
    """
    spec = mujoco().MjSpec()
    spec.compiler.degree = False
    set_options(spec.option, protocol)
    if hand_mjcf is None:
        add_hand(spec, hand, protocol, couple_actuators=couple_actuators)
    else:
        add_mjcf(spec, Path(hand_mjcf), hand, protocol)
    solimp = [*protocol.hand_solimp, 0.5, 2.0]
    for geom in spec.geoms:
        geom.solref, geom.solimp = list(protocol.hand_solref), solimp
    add_object(spec, obj, shape, protocol)
    solimp = [*protocol.object_solimp, 0.5, 2.0]
    for geom in spec.body(OBJECT).geoms:
        geom.solref, geom.solimp = list(protocol.object_solref), solimp
    if protocol.lift_height:
        frame = table_frame(obj, resting)
        spec.worldbody.add_geom(
            name=TABLE,
            type=mujoco().mjtGeom.mjGEOM_PLANE,
            size=[1.0, 1.0, 0.1],
            pos=frame[:3, 3],
            quat=rotation.quaternion_from_matrix(frame[:3, :3]),
        )
    for geom in spec.geoms:
        geom.condim, geom.friction = protocol.condim, list(protocol.friction)
    spec.worldbody.add_body(name=TARGET, mocap=True)
    spec.add_equality(
        type=mujoco().mjtEq.mjEQ_WELD,
        objtype=mujoco().mjtObj.mjOBJ_BODY,
        name1=TARGET,
        name2=ROOT,
        solimp=[0.9, 0.95, 0.001, 0.5, 2.0],
        data=[0.0] * 10 + [1.0, 0.0],
    )
    return spec


def table_frame(obj: ObjectMesh, resting: RestingPose | None) -> np.ndarray:
    """From the table's frame, z up and z = 0 on top, to the object's: below its lowest vertex where none is given."""
    if resting is not None:
        return rotation.inverse(resting.matrix)
    frame = np.eye(4)
    frame[2, 3] = obj.vertices[:, 2].min()
    return frame


def compile_scene(spec: Any, protocol: Protocol) -> Any:
    """The ``mujoco.MjModel`` of a scene, with what no specification can say: damping of a free body, static hands."""
    model = spec.compile()
    start = int(model.joint(OBJECT).dofadr[0])
    model.dof_damping[start : start + 3] = protocol.linear_damping * model.body(OBJECT).mass[0]
    for kind, lever in ((mujoco().mjtJoint.mjJNT_HINGE, 1.0), (mujoco().mjtJoint.mjJNT_SLIDE, LEVER)):
        model.dof_damping[model.jnt_dofadr[model.jnt_type == kind]] += protocol.drive_damping / lever**2
    if protocol.static_hand:
        hand = np.ones(model.nv, bool)
        hand[start : start + 6] = False
        model.dof_armature[hand] = STATIC
    mujoco().mj_setConst(model, mujoco().MjData(model))
    return model


@dataclass(frozen=True, eq=False)
class Addresses:
    """Where hand and object lie in the arrays of a compiled scene."""

    root: int
    """First of the root's 7 positions."""

    joints: np.ndarray
    """Position of each hand joint, shape (J,)."""

    object: int
    """First of the object's 7 positions."""

    object_body: int

    object_geoms: np.ndarray
    """Geoms of the object."""

    hand_geoms: np.ndarray
    """Mask over all geoms."""

    axes: np.ndarray
    """What pulls, the lift and the shake go along, as columns: the table's axes, z up; the object's without a table,
    shape (3, 3)."""

    @classmethod
    def find(cls, model: Any, joint_names: Sequence[str]) -> Addresses:
        """Look the names up that the scene builder gave."""
        body = int(model.body(OBJECT).id)
        names = [model.body(int(b)).name for b in model.geom_bodyid]
        return cls(
            root=int(model.joint(ROOT).qposadr[0]),
            joints=np.array([int(model.joint(PREFIX + name).qposadr[0]) for name in joint_names]),
            object=int(model.joint(OBJECT).qposadr[0]),
            object_body=body,
            object_geoms=np.flatnonzero(model.geom_bodyid == body),
            hand_geoms=np.array([name == ROOT or name.startswith(PREFIX) for name in names]),
            axes=_table_axes(model),
        )


def _table_axes(model: Any) -> np.ndarray:
    table = mujoco().mj_name2id(model, mujoco().mjtObj.mjOBJ_GEOM, TABLE)
    return np.eye(3) if table < 0 else rotation.matrix_from_quaternion(model.geom_quat[table])


def finger_of_body(model: Any, hand: Hand) -> np.ndarray:
    """Finger that each body belongs to, -1 for palm, object and the rest, int, shape (body,)."""
    owner = {link: number for number, finger in enumerate(hand.fingers) for link in finger.links}
    links = {name: frame.link for name, frame in hand.frames.items()}
    links |= {name: number for number, name in enumerate(hand.link_names)}
    fingers = np.full(model.nbody, -1)
    for body in range(model.nbody):
        name = model.body(body).name.removeprefix(PREFIX)
        fingers[body] = owner.get(links.get(name, -1), -1)
    return fingers
