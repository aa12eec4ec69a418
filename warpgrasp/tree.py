"""From a file's description to a hand's tree: order, merged fixed joints, flattened mimics."""

from __future__ import annotations

from typing import Literal

import numpy as np

from . import rotation
from .description import Body, Connection, Description
from .errors import HandError
from .hand import Frame, Hand, Joint, Link, Mimic, Palm, Shape, unknown_name

MOST_JOINTS = 64
"""Movable joints of the largest hand that is accepted."""

Geometry = Literal["collision", "visual"]


def build(description: Description, geometry: Geometry = "collision") -> Hand:
    """The hand's tree, without fingers, pads, palm and open pose, which the annotation or inference adds.

    Raises:
        HandError: The connections are no tree, or the hand has no or too many movable joints.
    """
    _check_names(description)
    order = _depth_first(description)
    movable = [c for c in order if c.kind != "fixed"]
    if not movable:
        raise HandError(description.path, "it has no movable joint, so it is no hand; are all joints 'fixed'?")
    if len(movable) > MOST_JOINTS:
        raise HandError(
            description.path,
            f"it has {len(movable)} movable joints, more than the {MOST_JOINTS} that are supported; "
            "remove the arm or the second hand",
        )
    frames = _frames(description, order)
    use_visual = _use_visual(description, geometry)
    bodies = [next(iter(_roots(description))), *(c.child for c in movable)]
    links = tuple(_link(description, frames, i, name, use_visual) for i, name in enumerate(bodies))
    joints = tuple(_joint(c, frames) for c in movable)
    mimics = _flatten_mimics(description)
    return Hand(
        name=description.name,
        path=description.path,
        links=links,
        joints=joints,
        frames=frames,
        mimics=mimics,
        actuators=tuple(a for a in description.actuators if set(a.joints) <= {joint.name for joint in joints}),
        couplings=(),
        fingers=(),
        pads=(),
        palm=Palm(0, np.zeros(3), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])),
        open_position=np.zeros(len(joints)),
        neighbours=frozenset(),
        inferred=tuple(description.inferred),
    )


def _check_names(description: Description) -> None:
    children: dict[str, str] = {}
    names: set[str] = set()
    for c in description.connections:
        for body in (c.parent, c.child):
            if body not in description.bodies:
                raise HandError(
                    description.path, f"joint {c.name!r}: " + unknown_name("link", body, description.bodies)
                )
        if c.child in children:
            raise HandError(
                description.path,
                f"link {c.child!r} is the child of two joints, {children[c.child]!r} and {c.name!r}; "
                "a hand is a tree, so cut the loop and use a mimic joint",
            )
        if c.name in names:
            raise HandError(description.path, f"two joints are called {c.name!r}")
        children[c.child] = c.name
        names.add(c.name)


def _roots(description: Description) -> list[str]:
    children = {c.child for c in description.connections}
    return [name for name in description.bodies if name not in children]


def _depth_first(description: Description) -> list[Connection]:
    """All connections, parents first, each finger in one piece, otherwise in file order."""
    roots = _roots(description)
    if not roots:
        raise HandError(description.path, "its joints form a cycle: every link is the child of another one")
    if len(roots) > 1:
        raise HandError(
            description.path,
            f"it has {len(roots)} roots ({', '.join(roots[:5])}); connect them with fixed joints or remove all but one",
        )
    below: dict[str, list[Connection]] = {}
    for c in description.connections:
        below.setdefault(c.parent, []).append(c)
    order: list[Connection] = []
    pending = below.get(roots[0], [])[::-1]
    while pending:
        c = pending.pop()
        order.append(c)
        pending += below.get(c.child, [])[::-1]
    if len(order) < len(description.connections):
        left = next(c for c in description.connections if c not in order)
        raise HandError(description.path, f"its joints form a cycle that contains link {left.child!r}")
    return order


def _frames(description: Description, order: list[Connection]) -> dict[str, Frame]:
    """Where every body lies in the link that it is merged into."""
    frames = {_roots(description)[0]: Frame(0, np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))}
    count = 1
    for c in order:
        if c.kind != "fixed":
            frames[c.child] = Frame(count, np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))
            count += 1
        else:
            frames[c.child] = Frame(frames[c.parent].link, *_in_link(frames[c.parent], c.position, c.quaternion))
    return frames


def _in_link(frame: Frame, position: np.ndarray, quaternion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A pose given in a frame, in the link that the frame belongs to."""
    turned = rotation.matrix_from_quaternion(frame.quaternion) @ position
    return frame.position + turned, rotation.multiply(frame.quaternion, quaternion)


def _use_visual(description: Description, geometry: Geometry) -> bool:
    """Whether the visual geometry is what touches; says so where the file forces it."""
    has_collision = any(body.collisions for body in description.bodies.values())
    has_visual = any(body.visuals for body in description.bodies.values())
    if geometry == "collision" and not has_collision and has_visual:
        description.inferred.append("The file has no collision geometry: its visual geometry is used instead.")
        return True
    if geometry == "visual" and not has_visual and has_collision:
        description.inferred.append("The file has no visual geometry: its collision geometry is used instead.")
        return False
    return geometry == "visual"


def _link(description: Description, frames: dict[str, Frame], index: int, name: str, use_visual: bool) -> Link:
    """A link with all bodies merged into it."""
    merged = [(description.bodies[body], frame) for body, frame in frames.items() if frame.link == index]
    mass, center_of_mass, inertia = _merged_inertia(merged)
    collisions = tuple(_moved(shape, frame) for body, frame in merged for shape in body.collisions)
    visuals = tuple(_moved(shape, frame) for body, frame in merged for shape in body.visuals)
    shapes = visuals if use_visual else collisions
    return Link(name, mass, center_of_mass, inertia, shapes, () if use_visual else visuals)


def _moved(shape: Shape, frame: Frame) -> Shape:
    position, quaternion = _in_link(frame, shape.position, shape.quaternion)
    return Shape(shape.kind, shape.size, position, quaternion, shape.vertices, shape.faces)


def _merged_inertia(merged: list[tuple[Body, Frame]]) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass and inertia of bodies fixed to each other, in the link frame."""
    mass = sum(body.mass for body, _ in merged)
    centers = [_in_link(frame, body.center_of_mass, frame.quaternion)[0] for body, frame in merged]
    if mass > 0.0:
        center = sum((body.mass * c for (body, _), c in zip(merged, centers, strict=True)), np.zeros(3)) / mass
    else:
        center = np.zeros(3)
    inertia = np.zeros((3, 3))
    for (body, frame), c in zip(merged, centers, strict=True):
        turn = rotation.matrix_from_quaternion(frame.quaternion)
        arm = c - center
        # Parallel axes: each body's own inertia plus that of its mass about the common centre.
        inertia += turn @ body.inertia @ turn.T + body.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return float(mass), center, inertia


def _joint(c: Connection, frames: dict[str, Frame]) -> Joint:
    parent = frames[c.parent]
    position, quaternion = _in_link(parent, c.position, c.quaternion)
    kind: Literal["revolute", "prismatic"] = "prismatic" if c.kind == "prismatic" else "revolute"
    return Joint(c.name, kind, parent.link, position, quaternion, c.axis, c.lower, c.upper, c.effort, c.velocity)


def _flatten_mimics(description: Description) -> tuple[Mimic, ...]:
    """Every mimic joint in terms of a free joint; mimics of fixed joints disappear."""
    movable = {c.name: c for c in description.connections if c.kind != "fixed"}
    fixed = {c.name for c in description.connections if c.kind == "fixed"}
    mimics = {m.joint: m for m in description.mimics if m.joint in movable}
    return tuple(_flattened(description, mimics[name], mimics, movable, fixed) for name in movable if name in mimics)


def _flattened(
    description: Description,
    mimic: Mimic,
    mimics: dict[str, Mimic],
    movable: dict[str, Connection],
    fixed: set[str],
) -> Mimic:
    of, multiplier, offset = mimic.of, mimic.multiplier, mimic.offset
    seen = [mimic.joint]
    while of in mimics:
        if of in seen:
            raise HandError(description.path, f"mimic joints form a cycle: {' -> '.join([*seen, of])}")
        seen.append(of)
        # joint = multiplier (m q + o) + offset
        offset += multiplier * mimics[of].offset
        multiplier *= mimics[of].multiplier
        of = mimics[of].of
    if of in fixed:
        raise HandError(description.path, f"joint {mimic.joint!r} mimics {of!r}, which is fixed; make it fixed too")
    if of not in movable:
        raise HandError(
            description.path, f"joint {mimic.joint!r} mimics {of!r}, but " + unknown_name("joint", of, movable)
        )
    return Mimic(mimic.joint, of, multiplier, offset)
