"""The hand as MuJoCo sees it: written from our :class:`Hand`, or the user's own MJCF around a free root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import rotation
from ..errors import HandError
from ..hand import Hand, Link, Shape
from .engine import mujoco, set_options
from .protocols import LEVER, Protocol

PREFIX = "hand/"
"""Of every name that belongs to the hand."""

ROOT = "hand root"
"""Body that carries the hand; its frame is the hand's base frame."""

LEAST_MASS = 1.0e-3
"""[kg]"""

LEAST_INERTIA = 1.0e-7
"""[kg m²]"""

DENSITY = 1000.0
"""Of links whose mass the file does not give [kg/m³]."""

MOTOR = "motor "
"""Start of the names of the actuators that are written here."""


def add_hand(spec: Any, hand: Hand, protocol: Protocol, *, couple_actuators: bool = False) -> None:
    """Write a hand into a scene: bodies, joints, shapes, actuators, equalities of mimic joints, exclusions.

    Args:
        spec: ``mujoco.MjSpec`` of the scene.
        hand: The hand.
        protocol: Gives stiffness and largest torques of the actuators.
        couple_actuators: One motor for the joints that ``Hand.actuators`` lists together, instead of one each.

    Raises:
        HandError: The hand has no joint that a motor could drive.
    """
    if hand.free_count == 0:
        raise HandError(hand.path, "it has no actuated joint, so it cannot close on anything")
    feel = protocol.motor(hand.name)
    bodies = [spec.worldbody.add_body(name=ROOT)]
    bodies[0].add_freejoint(name=ROOT)
    for joint in hand.joints:
        body = bodies[joint.parent].add_body(name="", pos=joint.position, quat=joint.quaternion)
        hinge = joint.kind == "revolute"
        lever = 1.0 if hinge else LEVER
        scale = 1.0 / lever**2
        body.add_joint(
            name=PREFIX + joint.name,
            type=mujoco().mjtJoint.mjJNT_HINGE if hinge else mujoco().mjtJoint.mjJNT_SLIDE,
            axis=joint.axis,
            limited=True,
            range=[joint.lower, max(joint.upper, joint.lower + 1e-9)],
            damping=[feel.damping * scale, 0.0, 0.0],
            armature=feel.armature * scale,
            frictionloss=feel.friction * scale * lever,
        )
        bodies.append(body)
    for body, link in zip(bodies, hand.links, strict=True):
        _fill(spec, body, link)
    names = [body.name for body in bodies]
    for a, b in sorted(hand.neighbours):
        spec.add_exclude(bodyname1=names[a], bodyname2=names[b])
    for mimic in hand.mimics:
        _follow(spec, mimic.joint, mimic.of, mimic.offset, mimic.multiplier)
    _add_actuators(spec, hand, protocol, couple_actuators)


def _follow(spec: Any, joint: str, of: str, offset: float, multiplier: float) -> None:
    spec.add_equality(
        type=mujoco().mjtEq.mjEQ_JOINT,
        name1=PREFIX + joint,
        name2=PREFIX + of,
        data=[offset, multiplier] + [0.0] * 10,
        solref=[0.005, 1.0],
        solimp=[0.99, 0.999, 0.001, 0.5, 2.0],
    )


def _fill(spec: Any, body: Any, link: Link) -> None:
    """Name, inertia and shapes of a link."""
    if body.name != ROOT:
        body.name = PREFIX + link.name
    mass, center, inertia = _inertial(link)
    moments, axes = principal(inertia)
    body.explicitinertial = True
    body.mass, body.ipos, body.inertia = mass, center, moments
    body.iquat = rotation.quaternion_from_matrix(axes)
    for number, shape in enumerate(link.shapes):
        add_shape(spec, body, shape, f"{PREFIX}{link.name} {number}")


def _inertial(link: Link) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre and inertia of a link; from its shapes where the file gives none."""
    if link.mass > 0.0:
        return max(link.mass, LEAST_MASS), link.center_of_mass, link.inertia
    hulls = [shape.trimesh().convex_hull for shape in link.shapes]
    if not hulls:
        return LEAST_MASS, np.zeros(3), np.zeros((3, 3))
    mass = DENSITY * np.array([hull.volume for hull in hulls])
    centers = np.array([hull.center_mass for hull in hulls])
    center = mass @ centers / mass.sum()
    inertia = np.zeros((3, 3))
    for m, c, hull in zip(mass, centers - center, hulls, strict=True):
        inertia += DENSITY * hull.moment_inertia + m * (c @ c * np.eye(3) - np.outer(c, c))
    return max(float(mass.sum()), LEAST_MASS), center, inertia


def principal(inertia: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moments [kg m²], made large enough and possible, and axes as columns of a rotation, of an inertia (3, 3)."""
    moments, axes = np.linalg.eigh(0.5 * (inertia + inertia.T))
    moments = np.maximum(moments, LEAST_INERTIA)
    # No body has a moment larger than the sum of the other two.
    moments[:2] += max(0.0, 0.5 * (moments[2] - moments[0] - moments[1])) * (1.0 + 1e-9)
    axes[:, 2] *= np.linalg.det(axes)
    return moments, axes


def add_shape(spec: Any, body: Any, shape: Shape, name: str, **contact: Any) -> None:
    """Give a body of a scene a geom of this shape; ``contact`` are MuJoCo's attributes of how it touches."""
    kinds = {"box": "BOX", "sphere": "SPHERE", "capsule": "CAPSULE", "cylinder": "CYLINDER", "mesh": "MESH"}
    kind = getattr(mujoco().mjtGeom, f"mjGEOM_{kinds[shape.kind]}")
    place = {"name": name, "type": kind, "pos": shape.position, "quat": shape.quaternion, **contact}
    if shape.kind == "mesh":
        assert shape.vertices is not None
        add_hull(spec, name, shape.vertices)
        body.add_geom(**place, meshname=name)
    else:
        size = np.zeros(3)
        size[: len(shape.size)] = shape.size
        body.add_geom(**place, size=size)


def add_hull(spec: Any, name: str, vertices: np.ndarray) -> None:
    """Add the convex hull of points (vertex, 3) [m] to the meshes of a scene."""
    import trimesh

    hull = trimesh.PointCloud(vertices).convex_hull
    spec.add_mesh(
        name=name,
        uservert=np.asarray(hull.vertices, float).ravel(),
        userface=np.asarray(hull.faces, np.int32).ravel(),
        inertia=mujoco().mjtMeshInertia.mjMESH_INERTIA_CONVEX,
    )


def _add_actuators(spec: Any, hand: Hand, protocol: Protocol, coupled: bool) -> None:
    """A position actuator for every free joint, or for the joints that one motor pulls together."""
    limit = protocol.motor(hand.name).torque_limit
    efforts = {joint.name: joint.effort for joint in hand.joints}
    slides = {joint.name for joint in hand.joints if joint.kind == "prismatic"}
    alone = [hand.joints[j].name for j in hand.free_joints]
    for motor in hand.actuators if coupled else ():
        alone = [name for name in alone if name not in motor.joints]
        tendon = spec.add_tendon(name=MOTOR + motor.name)
        for name, coefficient in motor.joints.items():
            tendon.wrap_joint(PREFIX + name, coefficient)
        effort = motor.effort if protocol.effort_limits else 0.0
        _motor(spec, motor.name, "TENDON", MOTOR + motor.name, protocol, 1.0, effort or limit)
    for name in alone:
        lever = LEVER if name in slides else 1.0
        effort = efforts[name] if protocol.effort_limits else 0.0
        _motor(spec, name, "JOINT", PREFIX + name, protocol, lever, effort or limit / lever)


def _motor(spec: Any, name: str, kind: str, target: str, protocol: Protocol, lever: float, limit: float) -> None:
    motor = spec.add_actuator(
        name=MOTOR + name,
        target=target,
        trntype=getattr(mujoco().mjtTrn, f"mjTRN_{kind}"),
        forcelimited=bool(limit),
        forcerange=[-limit, limit],
    )
    set_gain(motor, protocol.stiffness / lever**2)


def set_gain(motor: Any, stiffness: float) -> None:
    """Make an actuator a position servo: force = stiffness (target - position)."""
    motor.set_to_position(stiffness, 0.0)


def add_mjcf(spec: Any, path: Path, hand: Hand, protocol: Protocol) -> None:
    """Put the user's own MJCF into a scene: its bodies, shapes, tendons and actuators as they are.

    Only the gains of its position actuators, their largest torques where the protocol sets them, and the contact
    parameters become the protocol's.

    Raises:
        HandError: MuJoCo refuses the file, it lacks a joint of the hand, or it has no actuator.
    """
    try:
        own = mujoco().MjSpec.from_file(str(path))
        model = own.copy().compile()
    except ValueError as error:
        raise HandError(path, f"MuJoCo cannot read it: {' '.join(str(error).split())}") from error
    joints = {model.joint(j).name for j in range(model.njnt)}
    missing = [name for name in hand.joint_names if name not in joints]
    if missing:
        raise HandError(path, f"it has no joint {', '.join(map(repr, missing))}; the grasps are of {hand.name}")
    if not own.actuators:
        raise HandError(path, "it has no actuator, so nothing can close the hand")
    base = own.bodies[_root(model, model.joint(hand.joint_names[0]).id)]
    _free(own, base)
    set_options(own.option, protocol)
    root = spec.worldbody.add_body(name=ROOT)
    root.add_freejoint(name=ROOT)
    if base.joints:
        root.explicitinertial, root.mass, root.inertia = True, 0.1, np.full(3, 1.0e-4)
    limit = 0.0 if protocol.effort_limits else protocol.motor(hand.name).torque_limit
    for motor in own.actuators:
        if motor.gainprm[0] == -motor.biasprm[1]:
            hinge = motor.trntype != mujoco().mjtTrn.mjTRN_JOINT or _is_hinge(own, motor.target)
            lever = 1.0 if hinge else LEVER
            set_gain(motor, protocol.stiffness / lever**2)
            if limit:
                motor.forcelimited, motor.forcerange = True, [-limit / lever, limit / lever]
    root.add_frame().attach_body(base, PREFIX, "")


def _is_hinge(spec: Any, joint: str) -> bool:
    return spec.joint(joint).type == mujoco().mjtJoint.mjJNT_HINGE


def _root(model: Any, joint: int) -> int:
    """Top-level body above a joint."""
    body = int(model.jnt_bodyid[joint])
    while model.body_parentid[body] != 0:
        body = int(model.body_parentid[body])
    return body


def _free(own: Any, base: Any) -> None:
    """Take away where the file puts the hand: the base frame becomes the root."""
    free = mujoco().mjtJoint.mjJNT_FREE
    for joint in [joint for joint in base.joints if joint.type == free]:
        own.delete(joint)
    base.pos, base.quat = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    base.alt.type = mujoco().mjtOrientation.mjORIENTATION_QUAT
    for key in list(own.keys):
        own.delete(key)
