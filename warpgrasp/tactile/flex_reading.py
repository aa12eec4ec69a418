"""From the state of a flex scene, closed and pulled, to the results of a grasp."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, rotation
from ..physics.engine import mujoco
from .flex_scene import TIME_STEP, FlexScene, Presses
from .pads import FingerPad, PadMesh
from .result import STRAIN_SHARE, TactileResults, verdict
from .sensors import Taxels, region_radius

if TYPE_CHECKING:
    from .mujoco_flex import MujocoFlex

LEAST_CARRIED = 0.9
"""Share of the weight that the contacts carry in the last step where the object does not fall."""

RIGID_SLOTS = 24
"""Contacts of links without pads that are reported."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One scene at one moment, world frame."""

    position: np.ndarray
    """Generalised, shape (nq,)."""

    body_position: np.ndarray
    """[m], shape (body, 3)."""

    body_turn: np.ndarray
    """Rotation matrices, shape (body, 3, 3)."""

    constraint_force: np.ndarray
    """Generalised [N or N m], shape (nv,)."""

    vertices: np.ndarray
    """Of all pads [m], shape (vertex, 3)."""

    contact_body: np.ndarray
    """The two bodies of each contact between rigid ones, shape (contact, 2)."""

    contact_position: np.ndarray
    """[m], shape (contact, 3)."""

    contact_force: np.ndarray
    """On the second body [N], shape (contact, 3)."""

    def object(self, scene: FlexScene) -> np.ndarray:
        """Centre of mass [m] and unit quaternion w x y z of the object, shape (7,)."""
        pose = self.position[scene.object : scene.object + 7].astype(float)
        pose[3:] /= np.linalg.norm(pose[3:])
        return pose


def find_forces(
    scene: FlexScene, now: Snapshot
) -> tuple[list[np.ndarray], np.ndarray, list[tuple[int, np.ndarray, np.ndarray]]]:
    """Forces on the skins' vertices in the pads' frames; all forces on the object; rigid links' contacts."""
    pads, total = [], []
    for pad, dof in zip(scene.pads, scene.vertex_dof, strict=True):
        force = np.zeros((len(pad.mesh.vertices), 3))
        force[~pad.mesh.glued] = now.constraint_force[dof[:, None] + np.arange(3)]
        total.append(-(now.body_turn[scene.link_body[pad.link]] @ force.sum(axis=0)))
        # Slides are along the link's axes.
        pads.append(force @ pad.pose[:3, :3])
    rigid = []
    link_of = {int(body): link for link, body in enumerate(scene.link_body)}
    for bodies, position, force in zip(now.contact_body, now.contact_position, now.contact_force, strict=True):
        if scene.object_body not in bodies:
            continue
        second = bodies[1] == scene.object_body
        push = force if second else -force
        rigid.append((link_of[int(bodies[0] if second else bodies[1])], position, push))
        total.append(push)
    return pads, np.array(total), rigid


def find_result(
    backend: MujocoFlex, press: Presses, closed: Snapshot, pulled: Sequence[Snapshot], info: dict[str, Any]
) -> TactileResults:
    """The result of one grasp.

    Args:
        backend: Scene, taxels and limits.
        press: What the grasp has put into the scene, without the axis of grasps.
        closed: The hand closed, before gravity pulls.
        pulled: After each direction of gravity.
        info: What to say of the engine.
    """
    scene, load = backend.scene, backend.load
    pads, total, rigid = find_forces(scene, closed)
    found = _read(backend, closed, pads, rigid)
    start = press.position[scene.object : scene.object + 7]
    place = closed.object(scene)
    moved, turned = np.array([_between(place, after.object(scene)) for after in pulled]).T
    carried = np.array([
        1.0 - np.linalg.norm(find_forces(scene, after)[1].sum(axis=0) + weight) / np.linalg.norm(weight)
        for after, weight in zip(pulled, press.weight, strict=True)
    ])  # fmt: skip
    size = np.linalg.norm(found["force"], axis=1)
    pressed = size > 1.0e-3 * max(size.sum(), 1.0e-9)
    normal = -backend.normals(np.where(pressed[:, None], found["position"], 0.0))
    pressing = np.maximum((normal * found["force"]).sum(axis=1), 0.0)
    touching = pressed & (pressing > 0.0)
    grip = max(pressing[touching].sum(), 1.0e-9)
    tangent = np.linalg.norm(found["force"] - pressing[:, None] * normal, axis=1)
    soft = np.arange(len(size)) < len(size) - RIGID_SLOTS
    friction = np.where(soft, backend.material.friction, load.rigid_friction)
    fingers = backend.hand.fingers
    shares = [pressing[touching & np.isin(found["link"], f.links)].sum() / grip for f in fingers]
    touching_fingers = sum(share > 0.01 for share in shares)
    push, spin = _between(start, place)
    balance = np.linalg.norm(total.sum(axis=0)) / grip
    indentation = np.array([
        max(0.0, float(-(found["moved"][p, : len(skin)] * _vertex_normals(pad)[skin]).sum(axis=1).min()))
        for p, (pad, skin) in enumerate(zip(backend.pads, backend.skins, strict=True))
    ])  # fmt: skip
    # In time steps a little of every force is inertia: displacement decides, not the last of the balance.
    values = {
        "closing_residual": np.zeros(1),
        "residual": np.zeros((1, 6)),
        "carried": np.where(carried > LEAST_CARRIED, 1.0, carried)[None],
        "object_displacement": moved[None],
        "object_rotation": turned[None],
        "strain": np.zeros(1),
        "closing_displacement": np.array([push]),
        "closing_rotation": np.array([spin]),
    }
    reason = verdict(values, load, np.array([touching_fingers]), min(load.least_fingers, len(fingers)))
    count = max(map(len, backend.skins))
    turn = rotation.matrix_from_quaternion(start[3:]).T @ rotation.matrix_from_quaternion(place[3:])
    shift = rotation.matrix_from_quaternion(start[3:]).T @ (place[:3] - start[:3])
    wrench = np.stack([
        np.concatenate([f.sum(axis=0), np.cross(pad.mesh.vertices, f).sum(axis=0)])
        for pad, f in zip(backend.pads, pads, strict=True)
    ])  # fmt: skip
    taxels = np.stack([
        _taxel_read(taxel, pad, f) for taxel, pad, f in zip(backend.taxels, backend.pads, pads, strict=True)
    ])  # fmt: skip
    net = np.array([_region_force(pad, f) for pad, f in zip(backend.pads, pads, strict=True)])
    return TactileResults(
        backend=backend.name,
        finger_names=tuple(pad.name for pad in backend.pads),
        passed=reason == "",
        reason=reason,
        fingers_touching=np.array([touching_fingers]),
        joint_position=closed.position[scene.joint][None].astype(float),
        closure=scene.travel(press, closed.position)[None],
        finger_wrench=wrench[None],
        taxel_force=taxels[None],
        taxel_position=np.stack([taxel.position for taxel in backend.taxels]),
        taxel_normal=np.stack([taxel.normal for taxel in backend.taxels]),
        net_force=net[None],
        contact_position=np.where(touching[:, None], found["position"], np.nan)[None],
        contact_normal=np.where(touching[:, None], normal, np.nan)[None],
        contact_force=np.where(touching[:, None], found["force"], 0.0)[None],
        contact_link=np.where(touching, found["link"], -1)[None],
        contact_pad=np.where(soft, np.arange(len(size)) // count, -1),
        slip_ratio=np.where(touching, tangent / np.maximum(friction * pressing, 1.0e-12), np.nan)[None],
        pad_displacement=found["moved"][None],
        indentation=indentation[None],
        strain=found["strain"][None],
        closing_displacement=np.array([push]),
        closing_rotation=np.array([spin]),
        object_position=(scene.center + shift - turn @ scene.center)[None],
        object_quaternion=_quaternion(turn)[None],
        object_displacement=moved[None],
        object_rotation=turned[None],
        residual=np.concatenate([[balance], (1.0 - carried) * load.mass * load.gravity / grip])[None],
        carried=carried[None],
        info={
            "backend": backend.name,
            "material": dataclasses.asdict(backend.material),
            "load": dataclasses.asdict(load),
            "time_step_s": TIME_STEP,
            "warpgrasp": __version__,
            "mujoco": str(mujoco().__version__),
            **info,
        },
    )


def _read(backend: MujocoFlex, closed: Snapshot, pads: list[np.ndarray], rigid: Sequence[Any]) -> dict[str, Any]:
    """Contacts in the object's frame, and how the pads are deformed."""
    scene = backend.scene
    count = max(map(len, backend.skins))
    contacts = len(backend.pads) * count + RIGID_SLOTS
    world, force, link = np.zeros((contacts, 3)), np.zeros((contacts, 3)), np.full(contacts, -1)
    moved, strain = np.zeros((len(backend.pads), count, 3)), np.zeros(len(backend.pads))
    for number, (pad, skin, own) in enumerate(zip(backend.pads, backend.skins, pads, strict=True)):
        body = scene.link_body[pad.link]
        turn = closed.body_turn[body] @ pad.pose[:3, :3]
        origin = closed.body_turn[body] @ pad.pose[:3, 3] + closed.body_position[body]
        vertices = closed.vertices[scene.model.flex_vertadr[number] :][: len(pad.mesh.vertices)]
        rows = slice(number * count, number * count + len(skin))
        world[rows], force[rows] = vertices[skin], -own[skin] @ turn.T
        link[rows] = pad.link
        strain[number] = _strain(pad.mesh, vertices)
        moved[number, : len(skin)] = (vertices[skin] - origin) @ turn - pad.mesh.vertices[skin]
    for slot, (number, position, push) in enumerate(rigid[:RIGID_SLOTS]):
        at = len(backend.pads) * count + slot
        world[at], force[at], link[at] = position, push, number
    place = closed.object(scene)
    turn = rotation.matrix_from_quaternion(place[3:])
    position = (world - place[:3]) @ turn + scene.center
    return {"position": position, "force": force @ turn, "link": link, "moved": moved, "strain": strain}


def _between(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two poses of the object (7,)."""
    w, x = before[3], before[4:]
    # By the half angle's sine too: the cosine of a small angle is 1 in single precision.
    sine = np.linalg.norm(w * after[4:] - after[3] * x - np.cross(x, after[4:]))
    angle = 2.0 * np.arctan2(sine, abs(before[3:] @ after[3:]))
    return float(np.linalg.norm(after[:3] - before[:3])), float(angle)


def _quaternion(turn: np.ndarray) -> np.ndarray:
    """Unit quaternion w x y z of a rotation, NaN where the simulation has diverged."""
    return rotation.quaternion_from_matrix(turn) if np.isfinite(turn).all() else np.full(4, np.nan)


def _vertex_normals(pad: FingerPad) -> np.ndarray:
    import trimesh

    return np.asarray(trimesh.Trimesh(pad.mesh.vertices, pad.mesh.faces, process=False).vertex_normals)


def _taxel_read(taxels: Taxels, pad: FingerPad, force: np.ndarray) -> np.ndarray:
    """Forces on vertices (vertex, 3) by the nearest taxel, shape (taxel, 3)."""
    owner = np.linalg.norm(pad.mesh.vertices[:, None] - taxels.position, axis=2).argmin(axis=1)
    return Taxels(owner, taxels.position, taxels.normal).read(force)


def _region_force(pad: FingerPad, force: np.ndarray) -> float:
    inside = np.linalg.norm(pad.mesh.vertices[:, :2], axis=1) <= region_radius(pad.mesh)
    return float(max(-force[inside, 2].sum(), 0.0))


def _strain(mesh: PadMesh, vertices: np.ndarray) -> float:
    """Principal Green strain that a twentieth of the elements exceed, of deformed vertices (vertex, 3)."""
    if not np.isfinite(vertices).all():
        return float("nan")
    rest, now = (
        np.swapaxes(v[:, 1:] - v[:, :1], 1, 2) for v in (mesh.vertices[mesh.tetrahedra], vertices[mesh.tetrahedra])
    )
    gradient = now @ np.linalg.inv(rest)
    green = 0.5 * (np.swapaxes(gradient, 1, 2) @ gradient - np.eye(3))
    return float(np.quantile(np.abs(np.linalg.eigvalsh(green)).max(axis=1), STRAIN_SHARE))
