"""Hand, soft pads and object as one MuJoCo model with flexes, and what each grasp puts into it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import rotation
from ..physics.engine import mujoco
from ..physics.hand_model import add_shape
from ..physics.object_model import OBJECT, ObjectShape, add_object
from ..physics.protocols import FC6
from ..result import Grasps
from .closing import Closures, free_groups
from .pads import FingerPad
from .result import AXES
from .soft_hand import SoftHand

TIME_STEP = 0.005
"""[s]"""

CLOSE_STEPS, PULL_STEPS = 80, 50
"""How many time steps fingers close, and gravity pulls each way."""

RAMP = 0.05
"""How long forces rise [s]."""

FINGER_DAMPING = 100.0
"""Of a closure's motion [N s/m]."""

CLOSURE_MASS = 0.01
"""Of a closure's own slide [kg]; the links that follow it weigh more."""

PAD, HAND = 2, 1
"""Bits of contact: what the hand has, and what the object has."""


@dataclass(frozen=True, eq=False)
class Presses:
    """What N grasps put into the scene; directions are along the world's axes."""

    position: np.ndarray
    """Generalised positions at the start, shape (N, nq)."""

    equality: np.ndarray
    """Of MuJoCo's equalities: the joints', then those that hold closures, shape (N, equality, data)."""

    active: np.ndarray
    """Which of them act from the start, bool, shape (N, equality)."""

    force: np.ndarray
    """Behind each closure [N], shape (N, closure)."""

    weight: np.ndarray
    """Of the object in each direction of gravity [N], shape (N, 6, 3)."""

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, rows: Any) -> Presses:
        return Presses(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


class FlexScene:
    """One model for all grasps of a hand on an object. The world is the frame of the hand's base.

    Each closure is a slide of its own, in metres of its pads' motion, that joints follow by equalities: what differs
    between grasps is where the object starts, and the equalities' numbers.

    Args:
        soft: Hand, pads, material and load.
        shape: What the object touches with.
        solver: Of the constraints, as MuJoCo names it: ``"NEWTON"`` or ``"CG"``.
        iterations: Its largest number.
    """

    def __init__(self, soft: SoftHand, shape: ObjectShape, *, solver: str, iterations: int) -> None:
        self.hand, self.pads, self.load, self.material = soft.hand, soft.pads, soft.load, soft.material
        self.center = soft.object.center_of_mass
        self.groups = free_groups(self.hand)
        self.closure_of = np.full(self.hand.joint_count, -1)
        for number, (_, coordinates) in reversed(list(enumerate(self.groups))):
            self.closure_of[self.hand.joint_map[:, coordinates].any(axis=1)] = number
        self.model = self._compile(soft, shape, solver, iterations)
        self.joint = np.array([self.model.joint(name).qposadr[0] for name in self.hand.joint_names])
        self.closure = np.array([self.model.joint(f"closure {g}").qposadr[0] for g in range(len(self.groups))], int)
        self.hold = np.arange(self.hand.joint_count, self.model.neq)
        self.object = int(self.model.joint(OBJECT).qposadr[0])
        self.object_body = int(self.model.body(OBJECT).id)
        self.link_body = np.array([self.model.body(_link_name(link)).id for link in range(len(self.hand.links))])
        self.vertex_dof = [
            np.array([self.model.body_dofadr[self.model.body(f"pad {number} {v}").id] for v in _free(pad)])
            for number, pad in enumerate(self.pads)
        ]
        """First of the three degrees of freedom of each vertex that is not glued, by pad."""

    def presses(self, grasps: Grasps, closures: Closures) -> Presses:
        """What N grasps put into the scene."""
        count, joints = len(grasps), self.hand.joint_count
        position = np.zeros((count, self.model.nq))
        position[:, self.joint] = grasps.joint_position
        place = rotation.inverse(rotation.matrix(grasps.wrist_position, grasps.wrist_quaternion))
        at = slice(self.object, self.object + 7)
        position[:, at.start : at.start + 3] = place[:, :3, :3] @ self.center + place[:, :3, 3]
        position[:, at.start + 3 : at.stop] = rotation.quaternion_from_matrix(place[:, :3, :3])
        equality = np.tile(self.model.eq_data, (count, 1, 1))
        equality[:, :joints, 0] = grasps.joint_position
        moved = closures.direction @ self.hand.joint_map.T
        owned = self.closure_of >= 0
        equality[:, :joints, 1] = np.where(owned, moved[:, self.closure_of, np.arange(joints)], 0.0)
        active = np.ones((count, self.model.neq), bool)
        active[:, self.hold] = closures.force == 0.0
        weight = self.load.mass * self.load.gravity * np.einsum("nxy,ky->nkx", place[:, :3, :3], AXES)
        return Presses(position, equality, active, closures.force, weight)

    def travel(self, press: Presses, position: np.ndarray) -> np.ndarray:
        """How far each closure has gone, by its joints [m], shape (closure,), of positions (nq,) of one grasp."""
        start, per = press.equality[: self.hand.joint_count, :2].T
        mine = self.closure_of == np.arange(len(self.groups))[:, None]
        way = (mine * per) @ (position[self.joint] - start)
        return np.where(press.force > 0.0, way / np.maximum(mine @ per**2, 1.0e-12), 0.0)

    def _compile(self, soft: SoftHand, shape: ObjectShape, solver: str, iterations: int) -> Any:
        mj = mujoco()
        spec = mj.MjSpec()
        spec.compiler.degree = False
        spec.memory = 400 * 1024**2
        option = spec.option
        option.timestep, option.integrator = TIME_STEP, mj.mjtIntegrator.mjINT_DISCRETE
        option.solver, option.cone = getattr(mj.mjtSolver, f"mjSOL_{solver}"), mj.mjtCone.mjCONE_ELLIPTIC
        option.impratio, option.iterations, option.tolerance, option.ls_iterations = 100.0, iterations, 1.0e-8, 20
        option.gravity = np.zeros(3)
        option.disableflags = int(mj.mjtDisableBit.mjDSBL_AUTORESET)
        padded = {pad.link for pad in self.pads}
        bodies = [spec.worldbody.add_body(name=_link_name(0))]
        for joint in self.hand.joints:
            body = bodies[joint.parent].add_body(
                name=_link_name(len(bodies)), pos=joint.position, quat=joint.quaternion
            )
            hinge = joint.kind == "revolute"
            body.add_joint(
                name=joint.name, axis=joint.axis, armature=2.0e-4 if hinge else 0.05,
                type=mj.mjtJoint.mjJNT_HINGE if hinge else mj.mjtJoint.mjJNT_SLIDE,
            )  # fmt: skip
            bodies.append(body)
        for link, body in enumerate(bodies):
            body.explicitinertial, body.mass, body.inertia = True, 0.02, np.full(3, 1.0e-5)
            if link not in padded:
                for number, part in enumerate(self.hand.links[link].shapes):
                    add_shape(
                        spec, body, part, f"rigid {link} {number}", contype=PAD, conaffinity=HAND, priority=1, condim=3,
                        friction=[self.load.rigid_friction, 1.0e-4, 1.0e-4],
                    )  # fmt: skip
        self._add_closures(spec)
        for number, pad in enumerate(self.pads):
            self._add_pad(spec, bodies[pad.link], number, pad)
        add_object(spec, soft.object, shape, dataclasses.replace(FC6, name="soft", mass=self.load.mass))
        for geom in spec.body(OBJECT).geoms:
            geom.contype, geom.conaffinity, geom.condim = HAND, PAD, 3
        return spec.compile()

    def _add_closures(self, spec: Any) -> None:
        """A pushed slide for each closure, an equality for each joint, and one that can hold each closure."""
        mj = mujoco()
        for g in range(len(self.groups)):
            body = spec.worldbody.add_body(name=f"closure {g}")
            body.explicitinertial, body.mass, body.inertia = True, CLOSURE_MASS, np.full(3, 1.0e-5)
            slide = body.add_joint(name=f"closure {g}", type=mj.mjtJoint.mjJNT_SLIDE, axis=[1.0, 0.0, 0.0])
            slide.damping = [FINGER_DAMPING, 0.0, 0.0]
            spec.add_actuator(name=f"close {g}", target=slide.name, trntype=mj.mjtTrn.mjTRN_JOINT)
        owners = [f"closure {g}" if g >= 0 else "" for g in self.closure_of]
        held = [(f"closure {g}", "") for g in range(len(self.groups))]
        for joint, of in [*zip(self.hand.joint_names, owners, strict=True), *held]:
            equality = spec.add_equality(type=mj.mjtEq.mjEQ_JOINT, name1=joint, name2=of)
            equality.objtype, equality.data = mj.mjtObj.mjOBJ_JOINT, np.zeros(12)
            equality.solref, equality.solimp = [0.01, 1.0], [0.999, 0.9999, 1.0e-4, 0.5, 2.0]

    def _add_pad(self, spec: Any, body: Any, number: int, pad: FingerPad) -> None:
        """A flex whose free vertices are small bodies that slide three ways, and whose glued ones the link carries."""
        mj, mesh, material = mujoco(), pad.mesh, self.material
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


def _link_name(link: int) -> str:
    return f"link {link}" if link else "hand"


def _free(pad: FingerPad) -> np.ndarray:
    return np.flatnonzero(~pad.mesh.glued)
