"""The load steps of many grasps at once: launches ``kernels.tactile``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from .. import kinematics
from ..device import positions_and_quaternions, transforms, transforms_from_matrices
from ..distance import DeviceMesh, evaluate_signed_distance, find_closest_faces
from ..kernels import tactile as kernels
from ..model import HandModel
from ..pose import Pose
from .closing import Closures
from .condense import Compliance
from .options import Load, Solver
from .pads import FingerPad

ROWS, COLUMNS = int(kernels.ROWS), int(kernels.COLUMNS)
REACH = 0.05
"""Distance beyond which no face of the object is looked for [m]."""

LARGEST_STEP = 0.003
"""Of a closure or the object in one load step [m]."""


@dataclass(frozen=True, eq=False)
class PadModel:
    """The pads of a hand on a device."""

    pads: list[FingerPad]

    compliances: list[Compliance]

    modulus: float
    """[Pa]"""

    link: wp.array
    pose: wp.array
    sample: wp.array
    compliance: wp.array
    """C of all pads [m/N], shape [3 sample pad, 3 sample]."""

    inverse: wp.array
    """(C + rho)^-1 of all pads [N/m], same shape."""

    penalty: wp.array
    """rho [m/N], shape [pad]."""

    @classmethod
    def build(
        cls, pads: list[FingerPad], compliances: list[Compliance], modulus: float, penalty: float, device: str
    ) -> PadModel:
        """Put pads of equal numbers of samples on a device.

        Args:
            pads: The pads.
            compliances: Of each, for a modulus of 1 Pa.
            modulus: Young's modulus [Pa].
            penalty: rho as a multiple of the geometric mean of the compliances.
            device: Warp device.
        """
        below, inverse, rho = [], [], []
        known: dict[int, tuple[np.ndarray, float]] = {}
        for compliance in compliances:
            if id(compliance) not in known:
                known[id(compliance)] = _inverse(compliance.matrix / modulus, penalty)
            below.append(compliance.matrix / modulus)
            inverse.append(known[id(compliance)][0])
            rho.append(known[id(compliance)][1])

        def floats(values: Any) -> wp.array:
            return wp.array(np.asarray(values, np.float32), dtype=float, device=device)

        return cls(
            pads,
            compliances,
            modulus,
            wp.array(np.array([pad.link for pad in pads], np.int32), dtype=int, device=device),
            transforms_from_matrices(np.array([pad.pose for pad in pads]), device),
            wp.array(np.stack([c.position for c in compliances]).astype(np.float32), dtype=wp.vec3, device=device),
            floats(np.concatenate(below)),
            floats(np.concatenate(inverse)),
            floats(rho),
        )


def _inverse(matrix: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    value, vector = np.linalg.eigh(matrix)
    value = np.maximum(value, 0.0)
    rho = penalty * float(np.exp(np.log(value[value > 1.0e-3 * value.max()]).mean()))
    return (vector / (value + rho)) @ vector.T, rho


@dataclass(frozen=True, eq=False)
class RigidContacts:
    """Points of links without pads that may touch, of N grasps."""

    link: np.ndarray
    """-1 for none, shape (N, rigid)."""

    local: np.ndarray
    """In the link's frame [m], shape (N, rigid, 3)."""

    slack: np.ndarray
    """Penetration at the grasp, which counts as touching [m], shape (N, rigid)."""

    def __getitem__(self, grasps: np.ndarray) -> RigidContacts:
        return RigidContacts(self.link[grasps], self.local[grasps], self.slack[grasps])


class Batch:
    """The state of N grasps, and load steps that change it. Everything stays on the device.

    Args:
        model: The hand.
        mesh: The object.
        pads: The hand's pads.
        grasp: N grasps.
        closures: Their closing motions.
        rigid: Contacts of other links.
        solver: Iterations and weights.
        load: Friction of rigid contacts.
        friction: Of the pads.
        torque_length: Length that turns a torque into a force [m].
    """

    def __init__(
        self,
        model: HandModel,
        mesh: DeviceMesh,
        pads: PadModel,
        grasp: Pose,
        closures: Closures,
        rigid: RigidContacts,
        *,
        solver: Solver,
        load: Load,
        friction: float,
        torque_length: float,
    ) -> None:
        self.model, self.mesh, self.pads, self.solver = model, mesh, pads, solver
        self.friction, self.rigid_friction, self.torque_length = friction, load.rigid_friction, torque_length
        self.closures, self.rigid, self.grasp = closures, rigid, grasp
        device = model.device
        self.device = device
        count, (pad_count, samples) = len(grasp), pads.sample.shape
        self.count, self.samples = count, samples
        self.pad_contacts = pad_count * samples
        self.contacts = self.pad_contacts + rigid.link.shape[1]
        self.rows = -(-count // ROWS) * ROWS
        groups = closures.force.shape[1]

        def zeros(*shape: int, dtype: Any = float) -> wp.array:
            return wp.zeros(shape, dtype=dtype, device=device)

        def integers(values: np.ndarray) -> wp.array:
            return wp.array(np.asarray(values, np.int32), dtype=int, device=device)

        def floats(values: np.ndarray) -> wp.array:
            return wp.array(np.asarray(values, np.float32), dtype=float, device=device)

        self.wrist = transforms(grasp.wrist_position, grasp.wrist_quaternion, device)
        self.start, self.direction = floats(closures.start), floats(closures.direction)
        self.link_twist = wp.array(np.asarray(closures.link_twist, np.float32), dtype=wp.spatial_vector, device=device)
        self.pad_closure = integers(closures.of_link[[pad.link for pad in pads.pads]])
        self.rigid_link = integers(rigid.link)
        of_rigid = np.where(rigid.link >= 0, closures.of_link[np.maximum(rigid.link, 0)], -1)
        self.rigid_closure = integers(of_rigid)
        self.rigid_local = wp.array(np.asarray(rigid.local, np.float32), dtype=wp.vec3, device=device)
        self.rigid_slack = floats(rigid.slack)
        self.center = wp.vec3(*map(float, mesh.object.center_of_mass))

        self.closure = zeros(count, groups)
        identity = np.broadcast_to([1.0, 0.0, 0.0, 0.0], (count, 4))
        self.object_pose = transforms(np.zeros((count, 3)), identity, device)
        self.force = zeros(count, self.contacts, dtype=wp.vec3)
        self.displacement = zeros(pad_count * self.rows, 3 * samples)
        self.locked = integers(np.zeros((count, groups)))

        self.free_position = zeros(*closures.start.shape)
        self.joint_position = zeros(count, model.joint_parent.shape[0])
        self.link_transform = zeros(count, model.joint_parent.shape[0] + 1, dtype=wp.transform)
        per = (count, self.contacts)
        self.turn = zeros(*per, dtype=wp.quat)
        self.position, self.probe, self.gradient, self.outward = (zeros(*per, dtype=wp.vec3) for _ in range(4))
        self.distance, self.gap, self.shift = (zeros(*per) for _ in range(3))
        self.face = zeros(*per, dtype=int)
        self.normal, self.arm, self.velocity, self.offset, self.multiplier = (
            zeros(*per, dtype=wp.vec3) for _ in range(5)
        )
        self.coupling = zeros(*per, int(kernels.COUPLED), dtype=wp.vec3)
        self.right, self.product = zeros(*self.displacement.shape), zeros(*self.displacement.shape)
        self.rigid_right = zeros(count, rigid.link.shape[1], dtype=wp.vec3)
        size = groups + 6
        self.scratch, self.inverse = zeros(count, size, size), zeros(count, size, size)
        self.weight, self.sum, self.motion = zeros(count), zeros(count, size), zeros(count, size)
        self.load, self.residual = zeros(count, size), zeros(count, size)

    def picked(self, pick: np.ndarray) -> Batch:
        """The same state of some grasps, given by their indices; a grasp may occur several times."""
        closures = Closures(
            self.closures.names,
            self.closures.of_link,
            *(getattr(self.closures, name)[pick] for name in ("start", "direction", "force", "link_twist")),
        )
        load = Load(rigid_friction=self.rigid_friction)
        other = Batch(
            self.model, self.mesh, self.pads, self.grasp[pick], closures, self.rigid[pick],
            solver=self.solver, load=load, friction=self.friction, torque_length=self.torque_length,
        )  # fmt: skip
        other._copy(np.arange(len(pick)), self, pick)
        return other

    def put(self, rows: np.ndarray, other: Batch) -> None:
        """Take over the state of some grasps from a batch of just those."""
        self._copy(rows, other, np.arange(other.count))

    def _copy(self, rows: np.ndarray, other: Batch, pick: np.ndarray) -> None:
        """Rows of the state from rows of another batch."""
        for name in ("closure", "object_pose", "force", "locked", "normal", "motion", "residual"):
            mine = getattr(self, name).numpy()
            mine[rows] = getattr(other, name).numpy()[pick]
            getattr(self, name).assign(mine)
        pads = len(self.pads.pads)
        moved = self.displacement.numpy().reshape(pads, self.rows, -1)
        moved[:, rows] = other.displacement.numpy().reshape(pads, other.rows, -1)[:, pick]
        self.displacement.assign(moved.reshape(self.displacement.shape))

    def lock(self, closures: np.ndarray) -> None:
        """Hold some closures where they are, bool, shape (N, closure)."""
        self.locked.assign(np.asarray(closures, np.int32))

    def place(self) -> None:
        """Where contacts are and how far from the object, from closures, object and forces."""
        self._launch(
            kernels.closed_positions, self.free_position.shape,
            [self.start, self.direction, self.closure], [self.free_position],
        )  # fmt: skip
        kinematics.find_link_transforms(
            self.model, self.wrist, self.free_position, self.joint_position, self.link_transform
        )
        pads = self.pads
        self._launch(
            kernels.place_contacts, self.gap.shape,
            [pads.link, pads.pose, pads.sample, self.link_transform, self.object_pose, self.displacement,
             self.rigid_link, self.rigid_local, self.rows],
            [self.turn, self.position, self.probe],
        )  # fmt: skip
        find_closest_faces(self.mesh, self.probe, REACH, self.face, self.outward)
        evaluate_signed_distance(
            self.mesh, self.probe, self.face, self.outward, distance_out=self.distance, gradient_out=self.gradient
        )

    def step(self, closing_force: np.ndarray, wrench: np.ndarray, iterations: int) -> None:
        """Bring the grasps to equilibrium under new loads.

        Args:
            closing_force: Behind each closure [N], shape (N, closure).
            wrench: On the object: force [N] and torque about its centre of mass [N m], shape (N, 6).
            iterations: Of the method of multipliers.
        """
        wrench = wrench / np.array([1.0, 1.0, 1.0, *3 * [self.torque_length]])
        self.load.assign(-np.concatenate([closing_force, wrench], axis=1).astype(np.float32))
        self.place()
        self._linearise()
        self._couple()
        self.motion.zero_()
        self._first()
        for _ in range(iterations):
            self._iterate()
        self._launch(
            kernels.find_residual, self.count,
            [self.pad_closure, self.samples, self.force, *self._directions(), self.rigid_closure, self.load,
             self.torque_length],
            [self.residual],
        )  # fmt: skip
        self._launch(
            kernels.advance, self.count, [self.center, self.motion, self.torque_length, LARGEST_STEP],
            [self.closure, self.object_pose],
        )  # fmt: skip
        self._launch(
            kernels.pack_forces, (self.count, self.pad_contacts), [self.samples, self.force, self.rows], [self.right]
        )
        self._multiply(self.pads.compliance, self.displacement)

    def _directions(self) -> tuple[wp.array, ...]:
        return self.normal, self.arm, self.velocity, self.turn

    def _linearise(self) -> None:
        self._launch(
            kernels.linearise, self.gap.shape,
            [self.pads.link, self.center, self.samples, self.link_twist, self.object_pose, self.displacement,
             self.rigid_link, self.rigid_slack, self.turn, self.position, self.distance, self.gradient, self.force,
             self.solver.rigid_compliance, self.rows],
            [self.gap, self.normal, self.arm, self.velocity, self.offset, self.multiplier, self.shift],
        )  # fmt: skip

    @property
    def _rigid_inverse(self) -> float:
        return 1.0 / (self.solver.rigid_compliance + self.solver.rigid_penalty)

    def _couple(self) -> None:
        """(C + rho)^-1 G, and the inverse of what it leaves for the motions."""
        pad_count = len(self.pads.pads)
        for index in range(int(kernels.COUPLED)):
            self._launch(
                kernels.column_right_side, (self.count, self.pad_contacts),
                [pad_count, self.samples, *self._directions(), index, self.torque_length, self.rows], [self.right],
            )  # fmt: skip
            self._multiply(self.pads.inverse, self.product)
            self._launch(
                kernels.store_column, self.gap.shape,
                [pad_count, self.samples, self.product, *self._directions(), index, self.torque_length,
                 self._rigid_inverse, self.rows],
                [self.coupling],
            )  # fmt: skip
        self._launch(
            kernels.invert_coupling, self.count,
            [self.pad_closure, self.samples, *self._directions(), self.rigid_closure, self.coupling, self.locked,
             self.torque_length, self.solver.proximal],
            [self.scratch, self.inverse, self.weight],
        )  # fmt: skip

    def _first(self) -> None:
        self._launch(
            kernels.first_right_side, self.gap.shape,
            [len(self.pads.pads), self.samples, self.normal, self.offset, self.multiplier, self.shift, self.force,
             self.pads.penalty, self.solver.rigid_penalty, self.rows],
            [self.right, self.rigid_right],
        )  # fmt: skip

    def _iterate(self) -> None:
        self._multiply(self.pads.inverse, self.product)
        self._launch(
            kernels.find_motion, self.count,
            [self.pad_closure, self.samples, self.product, self.rigid_right, *self._directions(), self.rigid_closure,
             self.load, self.inverse, self.weight, self.torque_length, self._rigid_inverse, self.rows],
            [self.sum, self.motion],
        )  # fmt: skip
        self._launch(
            kernels.project_forces, self.gap.shape,
            [self.pad_closure, self.samples, self.product, self.motion, self.coupling, self.normal, self.offset,
             self.rigid_closure, self.pads.penalty, self.friction, self.rigid_friction, self.solver.rigid_penalty,
             self._rigid_inverse, self.rows],
            [self.rigid_right, self.force, self.multiplier, self.shift, self.right],
        )  # fmt: skip

    def _multiply(self, matrix: wp.array, out: wp.array) -> None:
        entries = matrix.shape[1]
        wp.launch_tiled(
            kernels.multiply,
            dim=(len(self.pads.pads), self.rows // ROWS, -(-entries // COLUMNS)),
            inputs=[matrix, self.right, self.rows],
            outputs=[out],
            block_dim=64,
            device=self.device,
        )

    def _launch(self, kernel: Any, dim: Any, inputs: list[Any], outputs: list[Any]) -> None:
        wp.launch(kernel, dim=dim, inputs=inputs, outputs=outputs, device=self.device)

    def read(self) -> dict[str, np.ndarray]:
        """State and contacts as float64 in the world frame, which is the object's at the start."""
        position, quaternion = positions_and_quaternions(self.object_pose)
        turn = _matrices(self.turn.numpy().astype(float))
        moved = self.displacement.numpy().reshape(len(self.pads.pads), self.rows, self.samples, 3)[:, : self.count]

        def world(array: wp.array) -> np.ndarray:
            return np.einsum("ncxy,ncy->ncx", turn, array.numpy().astype(float))

        return {
            "force": world(self.force),
            "pad_force": self.force.numpy().astype(float)[:, : self.pad_contacts],
            "normal": world(self.normal),
            "position": self.position.numpy().astype(float),
            "probe": self.probe.numpy().astype(float),
            "gap": self.gap.numpy().astype(float),
            "closure": self.closure.numpy().astype(float),
            "object_position": position,
            "object_quaternion": quaternion,
            "residual": self.residual.numpy().astype(float),
            "displacement": moved.transpose(1, 0, 2, 3).astype(float),
        }


def _matrices(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices of quaternions x y z w."""
    from .. import rotation

    return rotation.matrix_from_quaternion(np.roll(quaternion, 1, axis=-1))
