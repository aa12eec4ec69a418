"""The default backend: condensed pads, exact Coulomb contact, load steps instead of time steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import warp as wp

from .. import __version__, rotation
from .. import device as devices
from ..distance import DeviceMesh
from ..evaluation import torque_length
from ..hand import Hand
from ..mesh import ObjectMesh
from ..model import HandModel, hand_model
from ..pose import Pose
from ..proximity import find_proximity
from ..result import Grasps
from ..state import State, allocate
from ..surface import surface_points
from .closing import LEAST_FORCE, Closures, find_closures
from .condense import condense
from .options import Solver
from .pads import FingerPad
from .result import AXES, TactileResults, join, pad_strain, take, verdict
from .sensors import net1d, read_net1d
from .soft_hand import PadOptions, SoftHand
from .solver import LARGEST_STEP, Batch, PadModel, RigidContacts

BATCH = 64
"""Grasps that are closed at once; six times as many are pulled."""

SKIN_POINTS = 2048
"""Points on the hand among which the rigid contacts are looked for."""

NEAR = 0.004
"""Distance within which a point of a rigid link may come to touch [m]."""

PER_LINK, APART = 3, 0.004
"""Most rigid contacts on a link, and their least distance from each other [m]."""

COVERED = 0.003
"""A point of the skin this near to a pad's sample belongs to the pad [m]."""

LONGEST_WAY = 0.015
"""How far a finger goes to find the object [m]."""

TOUCHING = 2.0e-4
"""Distance from which on a finger is said to touch [m]."""


class Quasistatic(SoftHand):
    """Soft pads of one hand on one object; see :mod:`warpgrasp.tactile` for the protocol.

    Args:
        hand: The hand.
        obj: The object.
        solver: Iterations and weights.
        device: Warp device.
        options: ``pads``, ``material`` and ``load``, see :class:`PadOptions`.
    """

    name = "quasistatic"

    def __init__(
        self,
        hand: Hand,
        obj: ObjectMesh,
        *,
        solver: Solver | None = None,
        device: str | None = None,
        **options: Unpack[PadOptions],
    ) -> None:
        super().__init__(hand, obj, **options)
        self.solver = solver or Solver()
        self.device = devices.choose(device)
        compliances = [condense(pad.mesh, self.material.poisson_ratio, degree=self.solver.degree) for pad in self.pads]
        modulus = self.material.youngs_modulus
        self.pad_model = PadModel.build(self.pads, compliances, modulus, self.solver.penalty, self.device)
        self.mesh = DeviceMesh(obj, self.device)
        self.skin = hand_model(hand, surface_points(hand, SKIN_POINTS, even=False), self.device)
        self.bare = ~_under_pads(self.skin, self.pads)
        self.regions = [net1d(pad.mesh) for pad in self.pads]
        self.torque_length = torque_length(obj)

    @staticmethod
    def is_available() -> tuple[bool, str]:
        """It always is."""
        return True, ""

    def run(self, grasps: Grasps, *, on_progress: Any = None) -> TactileResults:
        """Close every grasp on soft pads, pull it six ways, and read its sensors.

        Args:
            grasps: Of this hand and object; poses that are not finite are reported as such.
            on_progress: Called with the grasps done and the grasps in all.
        """
        parts = []
        for begin in range(0, len(grasps), BATCH):
            part = slice(begin, begin + BATCH)
            parts.append(self._run(grasps.pose[part], grasps.squeeze[part]))
            if on_progress:
                on_progress(min(begin + BATCH, len(grasps)), len(grasps))
        if not parts:
            parts = [self._run(grasps.pose, grasps.squeeze)] if len(grasps) else [self._nothing()]
        return join(parts)

    def _nothing(self) -> TactileResults:
        rest = Pose(np.zeros((1, 3)), np.array([[1.0, 0.0, 0.0, 0.0]]), self.hand.open_position[None])
        return take(self._run(rest, rest), np.zeros(0, int))

    def _run(self, grasp: Pose, squeeze: Pose) -> TactileResults:
        rows = [grasp.wrist_position, grasp.wrist_quaternion, grasp.joint_position, squeeze.joint_position]
        finite = np.asarray(np.isfinite(np.concatenate(rows, axis=1)).all(axis=1))
        # A grasp that is not finite takes part as an open hand far away and is reported as what it is.
        far = Pose(
            np.where(finite[:, None], grasp.wrist_position, 10.0),
            np.where(finite[:, None], grasp.wrist_quaternion, [1.0, 0.0, 0.0, 0.0]),
            np.where(finite[:, None], grasp.joint_position, self.hand.open_position),
        )
        pressed = Pose(far.wrist_position, far.wrist_quaternion, np.where(finite[:, None], squeeze.joint_position,
                                                                         self.hand.open_position))  # fmt: skip
        batch, closing = self._close(far, pressed)
        stopped = np.abs(batch.motion.numpy()).max(axis=1) > LARGEST_STEP
        batch.place()
        closed = batch.read()
        pulled = self._pull(batch, closing)
        return self._results(finite, stopped, closing, batch, closed, pulled.read())

    def _pull(self, batch: Batch, closing: np.ndarray) -> Batch:
        """The grasps under gravity from six sides, grasp by grasp."""
        pulled = batch.picked(np.repeat(np.arange(batch.count), len(AXES)))
        closing = np.repeat(closing, len(AXES), axis=0)
        if self.load.hold == "position":
            pulled.lock(np.ones(pulled.closure.shape, bool))
        weight = self.load.mass * self.load.gravity
        wrench = np.zeros((pulled.count, 6))
        wrench[:, :3] = np.tile(AXES, (batch.count, 1)) * weight
        for step in range(1, self.solver.gravity_steps + 1):
            last = step == self.solver.gravity_steps
            pulled.step(
                closing, wrench * step / self.solver.gravity_steps,
                self.solver.gravity_iterations if last else self.solver.iterations,
            )  # fmt: skip
        held = np.ones(closing.shape, bool) if self.load.hold == "position" else closing == 0.0
        # Half of what would fail: nothing hangs on how near the limit a grasp has stopped.
        self._persist(pulled, closing, wrench, held, 0.5 * (1.0 - self.load.least_carried) * weight)
        return pulled

    def _persist(
        self, batch: Batch, closing: np.ndarray, wrench: np.ndarray, held: np.ndarray, allowed: np.ndarray | float
    ) -> None:
        """Further load steps for the grasps that are not in balance yet, to the force ``allowed`` [N]."""
        for iterations in self.solver.extra_iterations:
            rows = np.flatnonzero(_unbalanced(batch.residual.numpy().astype(float), held) > allowed)
            if not len(rows):
                return
            part = batch.picked(rows)
            part.step(closing[rows], wrench[rows], iterations)
            batch.put(rows, part)

    def _close(self, grasp: Pose, squeeze: Pose) -> tuple[Batch, np.ndarray]:
        """Go to the first touch, then close under rising force; the state, and the force behind each closure."""
        state = self._look(grasp)
        toward = self._toward(state, grasp)
        closures = find_closures(self.hand, self.pads, grasp, squeeze, force=self.load.force, toward=toward)
        batch = Batch(
            self.skin, self.mesh, self.pad_model, grasp, closures, self._rigid(state),
            solver=self.solver, load=self.load, friction=self.material.friction, torque_length=self.torque_length,
        )  # fmt: skip
        closing = np.where(self._touch(batch, closures), closures.force, 0.0)
        batch.lock(closing == 0.0)
        for step in range(self.solver.closing_steps):
            last = step == self.solver.closing_steps - 1
            batch.step(
                closing * (step + 1) / self.solver.closing_steps, np.zeros((len(grasp), 6)),
                self.solver.closing_iterations if last else self.solver.iterations,
            )  # fmt: skip
        # The scale of all contact forces is that of the closing forces.
        allowed = 0.5 * self.load.largest_residual * np.maximum(closing.sum(axis=1), LEAST_FORCE)
        self._persist(batch, closing, np.zeros((len(grasp), 6)), closing == 0.0, allowed)
        return batch, closing

    def _look(self, grasp: Pose) -> State:
        """Distances of the hand's skin to the object."""
        state = allocate(self.skin, grasp, np.zeros((0, 3)))
        find_proximity(self.skin, self.mesh, state, reach=0.05)
        return state

    def _toward(self, state: State, grasp: Pose) -> np.ndarray:
        """Unit directions from each pad to the nearest point of the object, shape (N, pad, 3)."""
        distance, gradient = state.distance.numpy(), state.distance_gradient.numpy()
        out = self.pad_axes(grasp)
        for number, pad in enumerate(self.pads):
            mine = np.flatnonzero(self.skin.points.link == pad.link)
            if len(mine):
                nearest = mine[distance[:, mine].argmin(axis=1)]
                slope = -gradient[np.arange(len(grasp)), nearest]
                near = np.linalg.norm(slope, axis=1) > 0.5
                out[near, number] = slope[near]
        return out

    def _rigid(self, state: State) -> RigidContacts:
        """The nearest points of links, or parts of links, that no pad covers."""
        count, slots = state.distance.shape[0], max(self.solver.rigid_contacts, 1)
        link = np.full((count, slots), -1)
        local, slack = np.zeros((count, slots, 3)), np.zeros((count, slots))
        distance = np.where(self.bare, state.distance.numpy(), np.inf)
        points = self.skin.points
        for grasp in range(count if self.solver.rigid_contacts else 0):
            chosen: list[int] = []
            order = np.argsort(distance[grasp], kind="stable")
            for point in order[: np.searchsorted(distance[grasp][order], NEAR)]:
                mates = [c for c in chosen if points.link[c] == points.link[point]]
                apart = np.linalg.norm(points.position[mates] - points.position[point], axis=1)
                if len(mates) < PER_LINK and (apart > APART).all():
                    chosen.append(int(point))
                if len(chosen) == slots:
                    break
            link[grasp, : len(chosen)] = points.link[chosen]
            local[grasp, : len(chosen)] = points.position[chosen]
            slack[grasp, : len(chosen)] = np.maximum(-distance[grasp, chosen], 0.0)
        return RigidContacts(link, local, slack)

    def _touch(self, batch: Batch, closures: Closures) -> np.ndarray:
        """Let every pressed closure go until something of it touches; whether it does, bool, shape (N, closure)."""
        pads = np.repeat(closures.of_link[[pad.link for pad in self.pads]], batch.samples)
        owner = np.concatenate([np.broadcast_to(pads, (batch.count, len(pads))), batch.rigid_closure.numpy()], axis=1)
        slack = np.concatenate([np.zeros((batch.count, len(pads))), batch.rigid.slack], axis=1)
        gap = np.full(closures.force.shape, np.inf)
        way = np.zeros(closures.force.shape)
        for _ in range(12):
            batch.place()
            distance = batch.distance.numpy().astype(float) + slack
            for g in range(len(closures.names)):
                gap[:, g] = np.where(owner == g, distance, np.inf).min(axis=1)
            step = np.where((closures.force > 0.0) & (gap > 0.0), np.minimum(gap, LONGEST_WAY - way), 0.0)
            if step.max(initial=0.0) < 0.25 * TOUCHING:
                break
            way = way + step
            batch.closure.assign(way.astype(np.float32))
        touching = gap < TOUCHING
        # Who does not find the object stays where it was.
        batch.closure.assign(np.where(touching, way, 0.0).astype(np.float32))
        return touching

    def _results(
        self,
        finite: np.ndarray,
        stopped: np.ndarray,
        closing: np.ndarray,
        batch: Batch,
        closed: dict[str, np.ndarray],
        pulled: dict[str, np.ndarray],
    ) -> TactileResults:
        count, pads, samples = batch.count, len(self.pads), batch.samples
        force = closed["pad_force"].reshape(count, pads, samples, 3)
        turn = rotation.matrix_from_quaternion(closed["object_quaternion"])

        def to_object(vector: np.ndarray) -> np.ndarray:
            return np.einsum("nyx,ncy->ncx", turn, vector)

        on_object, normal = to_object(-closed["force"]), to_object(-closed["normal"])
        pressing = np.maximum((on_object * normal).sum(axis=2), 0.0)
        total = np.maximum(pressing.sum(axis=1), 1.0e-9)
        touching = pressing > 1.0e-6 * total[:, None]
        tangent = np.linalg.norm(on_object - pressing[..., None] * normal, axis=2)
        friction = np.where(np.arange(batch.contacts) < batch.pad_contacts, self.material.friction,
                            self.load.rigid_friction)  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            slip = np.where(touching & (friction > 0.0), tangent / (friction * pressing), np.nan)

        moved, rotated = _motion(self.object, closed, None)
        sag, tilt = _motion(self.object, pulled, closed)
        held = closing == 0.0
        residual = _unbalanced(closed["residual"], held)
        pulled_held = np.ones_like(held) if self.load.hold == "position" else held
        pull_residual = _unbalanced(pulled["residual"], np.repeat(pulled_held, len(AXES), axis=0)).reshape(count, -1)
        lost = np.linalg.norm(pulled["residual"][:, closing.shape[1] :][:, :3], axis=1).reshape(count, -1)
        carried = 1.0 - lost / (self.load.mass * self.load.gravity)
        outward = [pad.mesh.sample_normals for pad in self.pads]
        strain = np.stack(
            [pad_strain(c.strain, force[:, p]) / self.material.youngs_modulus
             for p, c in enumerate(self.pad_model.compliances)], axis=1,
        )  # fmt: skip
        displacement = closed["displacement"]
        indentation = np.stack(
            [np.maximum(-np.einsum("nsx,sx->ns", displacement[:, p], outward[p]), 0.0).max(axis=1)
             for p in range(pads)], axis=1,
        )  # fmt: skip
        here = np.stack([c.position for c in self.pad_model.compliances]) + displacement
        torque = np.cross(here, force).sum(axis=2)
        fingers = self._fingers_touching(batch, pressing, total)
        values = {
            # A step that was cut short has found no equilibrium.
            "closing_residual": np.where(stopped, np.inf, residual / total),
            "residual": pull_residual / total[:, None],
            "carried": carried,
            "object_displacement": sag.reshape(count, -1),
            "object_rotation": tilt.reshape(count, -1),
            "strain": strain.max(axis=1),
            "closing_displacement": moved,
            "closing_rotation": rotated,
        }
        reason = verdict(values, self.load, fingers, min(self.load.least_fingers, len(self.hand.fingers)))
        reason = np.where(finite, reason, "not finite")
        return TactileResults(
            backend=self.name,
            finger_names=tuple(pad.name for pad in self.pads),
            passed=reason == "",
            reason=reason,
            fingers_touching=fingers,
            joint_position=self.hand.joint_position(
                batch.closures.start + np.einsum("ng,ngk->nk", closed["closure"], batch.closures.direction)
            ),
            closure=closed["closure"],
            finger_wrench=np.concatenate([force.sum(axis=2), torque], axis=2),
            taxel_force=np.stack([taxel.read(force[:, p]) for p, taxel in enumerate(self.taxels)], axis=1),
            taxel_position=np.stack([taxel.position for taxel in self.taxels]),
            taxel_normal=np.stack([taxel.normal for taxel in self.taxels]),
            net_force=np.stack([read_net1d(region, force[:, p]) for p, region in enumerate(self.regions)], axis=1),
            contact_position=np.where(touching[..., None], closed["probe"], np.nan),
            contact_normal=np.where(touching[..., None], normal, np.nan),
            contact_force=np.where(touching[..., None], on_object, 0.0),
            contact_link=np.where(touching, self._contact_link(batch), -1),
            contact_pad=np.where(
                np.arange(batch.contacts) < batch.pad_contacts, np.arange(batch.contacts) // samples, -1
            ),
            slip_ratio=slip,
            pad_displacement=displacement,
            indentation=indentation,
            strain=strain,
            closing_displacement=moved,
            closing_rotation=rotated,
            object_position=closed["object_position"],
            object_quaternion=closed["object_quaternion"],
            object_displacement=values["object_displacement"],
            object_rotation=values["object_rotation"],
            residual=np.concatenate([values["closing_residual"][:, None], values["residual"]], axis=1),
            carried=carried,
            info=self._info(),
        )

    def _contact_link(self, batch: Batch) -> np.ndarray:
        """Link of each contact, shape (N, C)."""
        pads = np.repeat([pad.link for pad in self.pads], batch.samples)
        return np.concatenate([np.broadcast_to(pads, (batch.count, len(pads))), batch.rigid.link], axis=1)

    def _fingers_touching(self, batch: Batch, pressing: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Fingers that press, with any of their links, with a hundredth of the grip force, shape (N,)."""
        link = self._contact_link(batch)
        count = np.zeros(batch.count, int)
        for finger in self.hand.fingers:
            mine = np.isin(link, finger.links)
            count += np.where(mine, pressing, 0.0).sum(axis=1) > np.maximum(0.01 * total, 1.0e-6)
        return count

    def _info(self) -> dict[str, Any]:
        return {
            "backend": self.name,
            "material": dataclasses.asdict(self.material),
            "load": dataclasses.asdict(self.load),
            "solver": dataclasses.asdict(self.solver),
            "device": self.device,
            "warpgrasp": __version__,
            "warp": wp.__version__,
        }


def _under_pads(model: HandModel, pads: Sequence[FingerPad]) -> np.ndarray:
    """Which points of the skin a pad covers, bool, shape (point,)."""
    from scipy.spatial import KDTree

    covered = np.zeros(len(model.points.link), bool)
    for pad in pads:
        mine = np.flatnonzero(model.points.link == pad.link)
        local = (model.points.position[mine] - pad.pose[:3, 3]) @ pad.pose[:3, :3]
        covered[mine] |= KDTree(pad.mesh.samples).query(local)[0] < COVERED
    return covered


def _motion(
    obj: ObjectMesh, after: dict[str, np.ndarray], before: dict[str, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of the centre of mass [m] and angle [rad] between two states, the start where ``before`` is none."""
    center = obj.center_of_mass
    turn = rotation.matrix_from_quaternion(after["object_quaternion"])
    place = turn @ center + after["object_position"]
    if before is None:
        old_turn, old_place = np.eye(3)[None], center[None]
    else:
        times = len(after["object_position"]) // max(len(before["object_position"]), 1)
        old_turn = np.repeat(rotation.matrix_from_quaternion(before["object_quaternion"]), times, axis=0)
        old_place = np.repeat(before["object_position"], times, axis=0) + old_turn @ center
    relative = turn @ np.swapaxes(old_turn, 1, 2)
    # atan2 of sine and cosine: a small angle's cosine says nothing about it in single precision.
    axis = np.stack([relative[:, 2, 1] - relative[:, 1, 2], relative[:, 0, 2] - relative[:, 2, 0],
                     relative[:, 1, 0] - relative[:, 0, 1]], axis=1)  # fmt: skip
    angle = np.arctan2(np.linalg.norm(axis, axis=1), np.trace(relative, axis1=1, axis2=2) - 1.0)
    return np.linalg.norm(place - old_place, axis=1), angle


def _unbalanced(residual: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Largest of the unbalanced forces, those of held closures left out, shape (N,)."""
    closures = held.shape[1]
    free = np.where(held, 0.0, np.abs(residual[:, :closures])).max(axis=1, initial=0.0)
    return np.maximum(free, np.abs(residual[:, closures:]).max(axis=1))
