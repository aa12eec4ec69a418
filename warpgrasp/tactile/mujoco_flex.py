"""The dynamic backend: pads as MuJoCo flexes of stable Neo-Hookean tetrahedra, closed and pulled in time.

Slow, and its linear elements are too stiff, but large strains are no trouble to it, and nothing of it is shared with
the quasistatic backend but the pads.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Unpack

import numpy as np

from .. import __version__, rotation
from ..distance import DeviceMesh, evaluate_signed_distance, find_closest_faces
from ..errors import HandError
from ..hand import Hand, Shape
from ..mesh import ObjectMesh
from ..physics.engine import mujoco
from ..physics.hand_model import add_hull
from ..physics.object_model import OBJECT, ObjectShape, add_object, object_shape
from ..physics.protocols import FC6
from ..result import Grasps
from .closing import Closures, find_closures
from .pads import FingerPad, PadMesh
from .result import AXES, STRAIN_SHARE, TactileResults, join, verdict
from .sensors import Taxels, region_radius
from .soft_hand import PadOptions, SoftHand

TIME_STEP = 0.005
"""[s]"""

CLOSE_TIME, PULL_TIME, RAMP = 0.4, 0.25, 0.05
"""How long fingers close, gravity pulls, and forces rise [s]."""

FINGER_DAMPING = 100.0
"""Of a closure's motion [N s/m]."""

LEAST_CARRIED = 0.9
"""Share of the weight that the contacts carry in the last step where the object does not fall."""

RIGID_SLOTS = 24
"""Contacts of links without pads that are reported."""

PAD, HAND = 2, 1
"""Bits of contact: what the hand has, and what the object has."""


class MujocoFlex(SoftHand):
    """Soft pads of one hand on one object in MuJoCo.

    Args:
        hand: The hand.
        obj: The object.
        shape: What the object touches with; found from its mesh where omitted.
        device: Warp device, used for normals only.
        options: ``pads``, ``material`` and ``load``, see :class:`PadOptions`.
    """

    name = "mujoco"

    def __init__(
        self,
        hand: Hand,
        obj: ObjectMesh,
        *,
        shape: ObjectShape | None = None,
        device: str | None = None,
        **options: Unpack[PadOptions],
    ) -> None:
        super().__init__(hand, obj, **options)
        self.shape = shape or object_shape(obj)
        self.mesh = DeviceMesh(obj, device)
        self.skins = [np.unique(pad.mesh.faces) for pad in self.pads]

    @staticmethod
    def is_available() -> tuple[bool, str]:
        """MuJoCo 4 or newer: older ones have another elasticity."""
        version = str(mujoco().__version__)
        if int(version.split(".", maxsplit=1)[0]) < 4:
            return False, f"it needs MuJoCo 4.0, found {version}; pip install 'mujoco>=4.0'"
        return True, ""

    def run(self, grasps: Grasps, *, on_progress: Any = None) -> TactileResults:
        """Close every grasp on soft pads, pull it six ways, and read its sensors."""
        toward = self.pad_axes(grasps.pose)
        closures = find_closures(
            self.hand, self.pads, grasps.pose, grasps.squeeze, force=self.load.force, toward=toward
        )
        parts = []
        for row in range(len(grasps)):
            parts.append(_Trial(self, grasps, closures, row).run())
            if on_progress:
                on_progress(row + 1, len(grasps))
        if not parts:
            raise HandError(self.hand.path, "there is no grasp to press")
        return join(parts)

    def normals(self, position: np.ndarray) -> np.ndarray:
        """Unit normals out of the object at points (point, 3) in its frame."""
        import warp as wp

        shape = (1, len(position))
        at = wp.array(position[None].astype(np.float32), dtype=wp.vec3, device=self.mesh.device)
        face = wp.empty(shape, dtype=int, device=self.mesh.device)
        outward, gradient = wp.empty_like(at), wp.empty_like(at)
        distance = wp.empty(shape, dtype=float, device=self.mesh.device)
        find_closest_faces(self.mesh, at, 0.05, face, outward)
        evaluate_signed_distance(self.mesh, at, face, outward, distance_out=distance, gradient_out=gradient)
        return gradient.numpy()[0].astype(float)


class _Trial:
    """One grasp in a scene of its own; the world is the object frame at the start, the hand's base is fixed."""

    def __init__(self, backend: MujocoFlex, grasps: Grasps, closures: Closures, row: int) -> None:
        self.backend, self.row = backend, row
        self.hand, self.load = backend.hand, backend.load
        self.direction = closures.direction[row] @ self.hand.joint_map.T
        self.force = closures.force[row]
        self.grasp = grasps.joint_position[row]
        self.lead = np.abs(self.direction).argmax(axis=1)
        self.model = self._compile(grasps)
        mj = mujoco()
        self.data = mj.MjData(self.model)
        mj.set_mju_user_warning(_ignore)
        self.joint = np.array([self.model.joint(name).qposadr[0] for name in self.hand.joint_names])
        self.object = int(self.model.joint(OBJECT).qposadr[0])
        self.body = int(self.model.body(OBJECT).id)

    def _compile(self, grasps: Grasps) -> Any:
        mj, backend = mujoco(), self.backend
        spec = mj.MjSpec()
        spec.compiler.degree = False
        spec.memory = 400 * 1024**2
        option = spec.option
        option.timestep, option.integrator = TIME_STEP, mj.mjtIntegrator.mjINT_DISCRETE
        option.solver, option.cone = mj.mjtSolver.mjSOL_NEWTON, mj.mjtCone.mjCONE_ELLIPTIC
        option.impratio, option.iterations, option.tolerance, option.ls_iterations = 100.0, 50, 1.0e-8, 20
        option.gravity = np.zeros(3)
        option.disableflags = int(mj.mjtDisableBit.mjDSBL_AUTORESET)
        padded = {pad.link for pad in backend.pads}
        bodies = [
            spec.worldbody.add_body(
                name="hand", pos=grasps.wrist_position[self.row], quat=grasps.wrist_quaternion[self.row]
            )
        ]
        for joint in self.hand.joints:
            body = bodies[joint.parent].add_body(name=f"link {len(bodies)}", pos=joint.position, quat=joint.quaternion)
            hinge = joint.kind == "revolute"
            body.add_joint(
                name=joint.name, axis=joint.axis, armature=2.0e-4 if hinge else 0.05,
                type=mj.mjtJoint.mjJNT_HINGE if hinge else mj.mjtJoint.mjJNT_SLIDE,
            )  # fmt: skip
            bodies.append(body)
        for link, body in enumerate(bodies):
            body.explicitinertial, body.mass, body.inertia = True, 0.02, np.full(3, 1.0e-5)
            if link not in padded:
                for number, shape in enumerate(self.hand.links[link].shapes):
                    _add_geom(spec, body, shape, f"rigid {link} {number}", self.load.rigid_friction)
        self._add_constraints(spec)
        for number, pad in enumerate(backend.pads):
            self._add_pad(spec, bodies[pad.link], number, pad)
        add_object(spec, backend.object, backend.shape, dataclasses.replace(FC6, name="soft", mass=self.load.mass))
        for geom in spec.body(OBJECT).geoms:
            geom.contype, geom.conaffinity, geom.condim = HAND, PAD, 3
        return spec.compile()

    def _add_constraints(self, spec: Any) -> None:
        """Every joint follows its closure's leading one, or stays; the leading ones can be held later."""
        mj = mujoco()
        follows = {int(lead): g for g, lead in enumerate(self.lead) if self.force[g] > 0.0}
        names = self.hand.joint_names
        for j, name in enumerate(names):
            if j in follows:
                self._equality(spec, f"hold {follows[j]}", name, "", [0.0], active=False)
                g = follows[j]
                per = self.direction[g, j]
                actuator = spec.add_actuator(name=f"close {g}", target=name, trntype=mj.mjtTrn.mjTRN_JOINT)
                actuator.gear[0] = 1.0 / per
                spec.joint(name).damping = [FINGER_DAMPING / per**2, 0.0, 0.0]
                continue
            moved = [g for g in range(len(self.force)) if self.force[g] > 0.0 and self.direction[g, j] != 0.0]
            if not moved:
                self._equality(spec, f"stay {j}", name, "", [self.grasp[j]])
                continue
            lead = int(self.lead[moved[0]])
            ratio = self.direction[moved[0], j] / self.direction[moved[0], lead]
            line = [self.grasp[j] - ratio * self.grasp[lead], ratio]
            self._equality(spec, f"follow {j}", name, names[lead], line)

    @staticmethod
    def _equality(spec: Any, name: str, joint: str, of: str, line: list[float], *, active: bool = True) -> None:
        mj = mujoco()
        equality = spec.add_equality(name=name, type=mj.mjtEq.mjEQ_JOINT, name1=joint, name2=of)
        equality.objtype = mj.mjtObj.mjOBJ_JOINT
        equality.data = line + [0.0] * (12 - len(line))
        equality.active = active
        equality.solref, equality.solimp = [0.01, 1.0], [0.999, 0.9999, 1.0e-4, 0.5, 2.0]

    def _add_pad(self, spec: Any, body: Any, number: int, pad: FingerPad) -> None:
        """A flex whose free vertices are small bodies that slide three ways, and whose glued ones the link carries."""
        mj, mesh, material = mujoco(), pad.mesh, self.backend.material
        place = mesh.vertices @ pad.pose[:3, :3].T + pad.pose[:3, 3]
        mass = material.density * mesh.volume / len(place)
        names, local = [], np.zeros_like(place)
        for vertex, (position, glued) in enumerate(zip(place, mesh.glued, strict=True)):
            if glued:
                names.append(body.name)
                local[vertex] = position
                continue
            small = body.add_body(name=f"pad {number} {vertex}", pos=position)
            small.explicitinertial, small.mass, small.inertia = True, mass, np.full(3, mass * 1.667e-5)
            for axis in np.eye(3):
                small.add_joint(type=mj.mjtJoint.mjJNT_SLIDE, axis=axis)
            names.append(small.name)
        flex = spec.add_flex(name=f"pad {number}")
        flex.dim, flex.radius, flex.elastic3d = 3, 1.0e-5, 1
        flex.vertbody, flex.vert = names, local.ravel().tolist()
        flex.elem = mesh.tetrahedra.ravel().astype(int).tolist()
        flex.young, flex.poisson, flex.damping = material.youngs_modulus, material.poisson_ratio, material.damping
        flex.selfcollide = mj.mjtFlexSelf.mjFLEXSELF_NONE
        flex.condim, flex.friction, flex.priority = 3, [material.friction, 1.0e-4, 1.0e-4], 1
        flex.solref, flex.solimp = [0.0005, 1.0], [0.9999, 0.9999, 0.0001, 0.5, 2.0]
        flex.contype, flex.conaffinity = PAD, HAND

    def run(self) -> TactileResults:
        """Close, read, hold, pull."""
        mj, model, data = mujoco(), self.model, self.data
        data.qpos[self.joint] = self.grasp
        mj.mj_forward(model, data)
        groups = [g for g in range(len(self.force)) if self.force[g] > 0.0]
        begin = self._object()
        while data.time < CLOSE_TIME:
            share = min(1.0, data.time / RAMP)
            for g in groups:
                data.actuator(f"close {g}").ctrl = share * self.force[g]
            mj.mj_step(model, data)
        closed = self._object()
        found = self._read(closed)
        if self.load.hold == "position":
            for g in groups:
                equality = int(model.equality(f"hold {g}").id)
                model.eq_data[equality, 0] = data.qpos[self.joint[self.lead[g]]]
                data.eq_active[equality] = 1
        kind = mj.mjtState.mjSTATE_INTEGRATION
        state = np.zeros(mj.mj_stateSize(model, kind))
        mj.mj_getState(model, data, state, kind)
        moved, turned, carried = np.zeros(6), np.zeros(6), np.zeros(6)
        weight = self.load.mass * self.load.gravity
        for k, axis in enumerate(AXES):
            mj.mj_setState(model, data, state, kind)
            start = data.time
            while data.time < start + PULL_TIME:
                share = min(1.0, (data.time - start) / RAMP)
                data.xfrc_applied[self.body, :3] = share * weight * axis
                mj.mj_step(model, data)
            moved[k], turned[k] = _between(closed, self._object())
            push = self._forces()[1].sum(axis=0)
            carried[k] = 1.0 - np.linalg.norm(push + weight * axis) / weight
        return self._result(found, begin, closed, moved, turned, carried)

    def _pad_body(self, pad: FingerPad) -> Any:
        """The body that carries a pad."""
        return self.data.body("hand" if pad.link == 0 else f"link {pad.link}")

    def _object(self) -> np.ndarray:
        """Centre of mass [m] and quaternion of the object, shape (7,)."""
        return self.data.qpos[self.object : self.object + 7].copy()

    def _forces(self) -> tuple[list[np.ndarray], np.ndarray, list[tuple[int, np.ndarray, np.ndarray]]]:
        """Forces on the skins' vertices in the pads' frames; all forces on the object; rigid links' contacts."""
        mj, model, data = mujoco(), self.model, self.data
        pads, total = [], []
        for number, pad in enumerate(self.backend.pads):
            turn = self._pad_body(pad).xmat.reshape(3, 3)
            force = np.zeros((len(pad.mesh.vertices), 3))
            for vertex in np.flatnonzero(~pad.mesh.glued):
                address = int(model.body_dofadr[model.body(f"pad {number} {vertex}").id])
                force[vertex] = data.qfrc_constraint[address : address + 3]
            total.append(-(turn @ force.sum(axis=0)))
            # Slides are along the link's axes.
            pads.append(force @ pad.pose[:3, :3])
        rigid, wrench = [], np.zeros(6)
        for c in range(data.ncon):
            contact = data.contact[c]
            bodies = [int(model.geom_bodyid[g]) if g >= 0 else -1 for g in contact.geom]
            if -1 in bodies or self.body not in bodies:
                continue
            mj.mj_contactForce(model, data, c, wrench)
            second = bodies[1] == self.body
            force = contact.frame.reshape(3, 3).T @ wrench[:3] * (1.0 if second else -1.0)
            other = model.body(bodies[0] if second else bodies[1]).name
            link = 0 if other == "hand" else int(other.split()[1])
            rigid.append((link, contact.pos.copy(), force))
            total.append(force)
        return pads, np.array(total), rigid

    def _read(self, closed: np.ndarray) -> dict[str, Any]:
        """Contacts, sensors and deformation of the closed hand."""
        mj, model, data, backend = mujoco(), self.model, self.data, self.backend
        mj.mj_forward(model, data)
        pads, total, rigid = self._forces()
        count = max(map(len, backend.skins))
        contacts = len(backend.pads) * count + RIGID_SLOTS
        world, force, link = np.zeros((contacts, 3)), np.zeros((contacts, 3)), np.full(contacts, -1)
        moved, strain = np.zeros((len(backend.pads), count, 3)), np.zeros(len(backend.pads))
        for number, (pad, skin, own) in enumerate(zip(backend.pads, backend.skins, pads, strict=True)):
            body = self._pad_body(pad)
            turn = body.xmat.reshape(3, 3) @ pad.pose[:3, :3]
            origin = body.xmat.reshape(3, 3) @ pad.pose[:3, 3] + body.xpos
            vertices = data.flexvert_xpos[model.flex_vertadr[number] :][: len(pad.mesh.vertices)]
            rows = slice(number * count, number * count + len(skin))
            world[rows], force[rows] = vertices[skin], -own[skin] @ turn.T
            link[rows] = pad.link
            strain[number] = _strain(pad.mesh, vertices)
            moved[number, : len(skin)] = (vertices[skin] - origin) @ turn - pad.mesh.vertices[skin]
        for slot, (number, position, push) in enumerate(rigid[:RIGID_SLOTS]):
            at = len(backend.pads) * count + slot
            world[at], force[at], link[at] = position, push, number
        turn = rotation.matrix_from_quaternion(closed[3:])
        center = backend.object.center_of_mass
        local = (world - closed[:3]) @ turn + center
        return {
            "pads": pads, "position": local, "force": force @ turn, "link": link, "moved": moved,
            "total": total, "strain": strain, "joints": data.qpos[self.joint].copy(),
        }  # fmt: skip

    def _result(
        self,
        found: dict[str, Any],
        begin: np.ndarray,
        closed: np.ndarray,
        moved: np.ndarray,
        turned: np.ndarray,
        carried: np.ndarray,
    ) -> TactileResults:
        backend, pads = self.backend, found["pads"]
        size = np.linalg.norm(found["force"], axis=1)
        pressed = size > 1.0e-3 * max(size.sum(), 1.0e-9)
        normal = -backend.normals(np.where(pressed[:, None], found["position"], 0.0))
        pressing = np.maximum((normal * found["force"]).sum(axis=1), 0.0)
        touching = pressed & (pressing > 0.0)
        total = max(pressing[touching].sum(), 1.0e-9)
        tangent = np.linalg.norm(found["force"] - pressing[:, None] * normal, axis=1)
        soft = np.arange(len(size)) < len(size) - RIGID_SLOTS
        friction = np.where(soft, backend.material.friction, self.load.rigid_friction)
        shares = [pressing[touching & np.isin(found["link"], f.links)].sum() / total for f in self.hand.fingers]
        touching_fingers = sum(share > 0.01 for share in shares)
        push, spin = _between(begin, closed)
        balance = np.linalg.norm(found["total"].sum(axis=0)) / total
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
        least = min(self.load.least_fingers, len(self.hand.fingers))
        reason = verdict(values, self.load, np.array([touching_fingers]), least)
        count = max(map(len, backend.skins))
        turn = rotation.matrix_from_quaternion(closed[3:])
        way = (found["joints"] - self.grasp)[self.lead]
        per = np.take_along_axis(self.direction, self.lead[:, None], axis=1)[:, 0]
        closure = np.where(self.force > 0.0, way / np.where(per == 0.0, 1.0, per), 0.0)
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
            joint_position=found["joints"][None],
            closure=closure[None],
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
            object_position=(closed[:3] - turn @ backend.object.center_of_mass)[None],
            object_quaternion=closed[None, 3:],
            object_displacement=moved[None],
            object_rotation=turned[None],
            residual=np.concatenate([[balance], (1.0 - carried) * self.load.mass * self.load.gravity / total])[None],
            carried=carried[None],
            info={
                "backend": backend.name,
                "material": dataclasses.asdict(backend.material),
                "load": dataclasses.asdict(self.load),
                "time_step_s": TIME_STEP,
                "warpgrasp": __version__,
                "mujoco": str(mujoco().__version__),
            },
        )


def _add_geom(spec: Any, body: Any, shape: Shape, name: str, friction: float) -> None:
    mj = mujoco()
    kinds = {"box": "BOX", "sphere": "SPHERE", "capsule": "CAPSULE", "cylinder": "CYLINDER", "mesh": "MESH"}
    place = {
        "name": name, "type": getattr(mj.mjtGeom, f"mjGEOM_{kinds[shape.kind]}"), "pos": shape.position,
        "quat": shape.quaternion, "contype": PAD, "conaffinity": HAND, "priority": 1, "condim": 3,
        "friction": [friction, 1.0e-4, 1.0e-4],
    }  # fmt: skip
    if shape.kind == "mesh":
        assert shape.vertices is not None
        add_hull(spec, name, shape.vertices)
        body.add_geom(**place, meshname=name)
    else:
        size = np.zeros(3)
        size[: len(shape.size)] = shape.size
        body.add_geom(**place, size=size)


def _between(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two poses of the object (7,)."""
    cosine = min(1.0, abs(float(before[3:] @ after[3:])))
    return float(np.linalg.norm(after[:3] - before[:3])), float(2.0 * np.arccos(cosine))


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
    rest, now = (
        np.swapaxes(v[:, 1:] - v[:, :1], 1, 2) for v in (mesh.vertices[mesh.tetrahedra], vertices[mesh.tetrahedra])
    )
    gradient = now @ np.linalg.inv(rest)
    green = 0.5 * (np.swapaxes(gradient, 1, 2) @ gradient - np.eye(3))
    return float(np.quantile(np.abs(np.linalg.eigvalsh(green)).max(axis=1), STRAIN_SHARE))


def _ignore(message: str) -> None:
    """MuJoCo warns in every step that its effective metric was not solved to the last digit."""
