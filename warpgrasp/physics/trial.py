"""One grasp under one protocol: begin, close, settle once, then every pull from the same state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import rotation
from .engine import mujoco
from .protocols import DIRECTIONS, Protocol
from .scene import Addresses

NEAR = 0.01
"""Distance up to which contacts are counted [m]."""

TOUCH = 0.002
"""Distance at which a link touches [m]."""

DIVERGED = "the simulation diverged"
AWAY = "the object moved away"

FrameCallback = Callable[[Any], None]
"""Called with the ``mujoco.MjData`` between steps."""


@dataclass(frozen=True, slots=True)
class HandPose:
    """Wrist and joints of one hand, in the object frame at the start."""

    position: np.ndarray
    """[m], shape (3,)."""

    quaternion: np.ndarray
    """Unit, w x y z, shape (4,)."""

    joints: np.ndarray
    """[rad or m], shape (J,)."""

    def towards(self, other: HandPose, share: float) -> HandPose:
        """Straight in position and joints, along the great arc in rotation."""
        return HandPose(
            (1.0 - share) * self.position + share * other.position,
            rotation.slerp(self.quaternion[None], other.quaternion[None], np.array([share]))[0],
            (1.0 - share) * self.joints + share * other.joints,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one grasp. Not a number where a trial did not come that far."""

    success: bool = False

    failure: str = ""
    """Why it failed, in words; "" where it held."""

    failed_pull: str = ""
    """Direction of the pull that it failed in, "" otherwise."""

    failure_time_s: float = np.nan
    """Since the beginning of that pull."""

    displacement_m: float = np.nan
    """Largest displacement of the object's centre of mass at any check, or at the failure."""

    rotation_rad: float = np.nan
    """Largest rotation of the object at any check, or at the failure."""

    squeeze_displacement_m: float = np.nan
    """How far closing and squeezing have pushed the object, before any pull."""

    squeeze_rotation_rad: float = np.nan
    """See above."""

    grip_force_N: float = np.nan
    """Sum of the normal forces of the hand on the object after the squeeze, where the protocol has one."""

    start_penetration_m: float = np.nan
    """Hand in object, link in link or hand in table, where the trial begins."""

    penetration_m: float = np.nan
    """Hand in object at the grasp pose, between convex pieces."""

    self_penetration_m: float = np.nan
    """Link in link at the grasp pose, neighbours left out."""

    links_in_contact_2mm: int = 0
    """Links within 2 mm of the object's surface at the grasp pose."""

    contact_distance_m: float = np.nan
    """Mean over the fingers of their distance to the object's surface at the grasp pose, at most 1 cm."""

    contact_consistency_m: float = np.nan
    """Largest less smallest of those distances."""


class Trial:
    """Runs grasps of one scene one after another; nothing of a grasp is left when the next one begins."""

    def __init__(self, model: Any, addresses: Addresses, finger_of_body: np.ndarray, protocol: Protocol) -> None:
        self.model = model
        self.at = addresses
        self.finger_of_body = finger_of_body
        self.protocol = protocol
        self.data = mujoco().MjData(model)
        self.scratch = mujoco().MjData(model)
        self.mass = float(model.body_mass[addresses.object_body])
        self.start = model.qpos0[addresses.object : addresses.object + 7].copy()
        self.on_frame: FrameCallback | None = None
        mujoco().set_mju_user_warning(_ignore)

    def run(self, pregrasp: HandPose, grasp: HandPose, squeeze: HandPose, *, settle_once: bool = True) -> Outcome:
        """Judge one grasp.

        Args:
            pregrasp: Where the trial begins, if the protocol closes the hand.
            grasp: The grasp.
            squeeze: Targets that press.
            settle_once: Whether the pulls share one closing; the outcome is the same, six times as fast.
        """
        outcome = self.inspect(pregrasp, grasp)
        if outcome.failure:
            return outcome
        begin = pregrasp if self.protocol.close else grasp
        self._settle(begin, grasp, squeeze)
        displacement, rotation = self.displacement()
        outcome = replace(
            outcome,
            squeeze_displacement_m=displacement,
            squeeze_rotation_rad=rotation,
            displacement_m=displacement,
            rotation_rad=rotation,
            grip_force_N=self._grip_force() if self.protocol.close else np.nan,
        )
        if self.protocol.close and not self.in_place(displacement, rotation):
            moved = np.isfinite(displacement + rotation)
            lost = AWAY if moved else DIVERGED
            return replace(outcome, failure=f"{lost} while the hand closed")
        if self.protocol.lift_height:
            return self._lift(outcome, squeeze)
        state = self._state()
        for number, name in enumerate(self.protocol.directions):
            if number and settle_once:
                self._restore(state)
            elif number:
                self._settle(begin, grasp, squeeze)
            outcome = self._pull(outcome, name)
            if outcome.failure:
                return outcome
        return replace(outcome, success=True)

    def inspect(self, pregrasp: HandPose, grasp: HandPose) -> Outcome:
        """What there is to measure and to refuse before anything moves."""
        outcome = self._measure(grasp)
        into, among = self._depths(pregrasp if self.protocol.close else grasp)
        outcome = replace(outcome, start_penetration_m=max(into, among))
        return replace(outcome, failure=self._prefilter(outcome, into, among))

    def displacement(self, raised: float = 0.0) -> tuple[float, float]:
        """Distance [m] and angle [rad] of the object from where it was at the start, or that far above the table."""
        here = self.data.qpos[self.at.object : self.at.object + 7]
        cosine = abs(float(here[3:] @ self.start[3:]))
        angle = 2.0 * np.arccos(min(1.0, cosine)) if np.isfinite(cosine) else np.nan
        start = self.start[:3] + raised * self.at.axes[:, 2]
        return float(np.linalg.norm(here[:3] - start)), float(angle)

    def reset(self, pose: HandPose) -> None:
        """Everything at rest: the hand at a pose, which is its target too, the object where it was."""
        mujoco().mj_resetData(self.model, self.data)
        root = self.at.root
        self.data.qpos[root : root + 3], self.data.qpos[root + 3 : root + 7] = pose.position, pose.quaternion
        self.data.qpos[self.at.joints] = pose.joints
        self._target(pose)
        mujoco().mj_forward(self.model, self.data)

    def _prefilter(self, outcome: Outcome, into: float, among: float) -> str:
        limit = self.protocol.largest_start_penetration
        if not into <= limit:
            return "prefilter: the hand begins inside the object or the table"
        if not among <= limit:
            return "prefilter: the hand begins inside itself"
        if not outcome.penetration_m <= self.protocol.largest_grasp_penetration:
            return "prefilter: the hand is inside the object at the grasp"
        return ""

    def _settle(self, begin: HandPose, grasp: HandPose, squeeze: HandPose) -> None:
        self.reset(begin)
        if self.protocol.close:
            self._move(begin, grasp, self.protocol.close_time)
            self._move(grasp, squeeze, self.protocol.close_time)
        else:
            # The root stays where it is: only the joints are asked to press.
            self._target(replace(grasp, joints=squeeze.joints))

    def _move(self, begin: HandPose, end: HandPose, seconds: float) -> None:
        """Targets in equal steps from one pose to the next."""
        count = self.protocol.close_targets
        for number in range(1, count + 1):
            self._target(begin.towards(end, number / count))
            self._step(self.protocol.steps(seconds / count))

    def _target(self, pose: HandPose) -> None:
        """Set the root's target and the controls at which every actuator rests at the pose."""
        self.data.mocap_pos[0], self.data.mocap_quat[0] = pose.position, pose.quaternion
        self.data.ctrl[:] = self.controls(pose.joints)

    def controls(self, joints: np.ndarray) -> np.ndarray:
        """Controls of zero force: -(bias0 + bias1 length) / gain, shape (actuator,)."""
        model = self.model
        if not model.nu:
            return np.zeros(0)
        scratch = self.scratch
        scratch.qpos[self.at.joints] = joints
        mujoco().mj_kinematics(model, scratch)
        mujoco().mj_comPos(model, scratch)
        mujoco().mj_tendon(model, scratch)
        mujoco().mj_transmission(model, scratch)
        gain, bias = model.actuator_gainprm[:, 0], model.actuator_biasprm
        return -(bias[:, 0] + bias[:, 1] * scratch.actuator_length) / gain

    def _step(self, count: int) -> None:
        if self.on_frame is None:
            mujoco().mj_step(self.model, self.data, count)
            return
        for _ in range(count):
            mujoco().mj_step(self.model, self.data)
            self.on_frame(self.data)

    def _state(self) -> np.ndarray:
        """Everything that the next step depends on."""
        kind = mujoco().mjtState.mjSTATE_INTEGRATION
        state = np.zeros(mujoco().mj_stateSize(self.model, kind))
        mujoco().mj_getState(self.model, self.data, state, kind)
        return state

    def _restore(self, state: np.ndarray) -> None:
        mujoco().mj_setState(self.model, self.data, state, mujoco().mjtState.mjSTATE_INTEGRATION)

    def _pull(self, outcome: Outcome, name: str) -> Outcome:
        """Pull the object with a constant force, look a few times, stop where it is lost."""
        protocol = self.protocol
        self._push(np.array(DIRECTIONS[name]))
        steps = protocol.steps(protocol.pull_time / protocol.checks)
        for check in range(1, protocol.checks + 1):
            self._step(steps)
            outcome, lost = self._look(outcome)
            if lost or (protocol.criterion == "contact" and check == protocol.checks and not self._touches()):
                time = check * steps * protocol.time_step
                return replace(
                    outcome,
                    failure=f"pull {name}: {lost or 'no contact is left'}",
                    failed_pull=name,
                    failure_time_s=time,
                )
        return outcome

    def _push(self, direction: np.ndarray) -> None:
        direction = self.at.axes @ direction
        self.data.xfrc_applied[self.at.object_body, :3] = self.mass * self.protocol.acceleration * direction

    def _look(self, outcome: Outcome, raised: float = 0.0) -> tuple[Outcome, str]:
        """The outcome with what the object has moved, and how it was lost, "" if it was not."""
        displacement, rotation = self.displacement(raised)
        outcome = replace(
            outcome,
            displacement_m=float(np.fmax(outcome.displacement_m, displacement)),
            rotation_rad=float(np.fmax(outcome.rotation_rad, rotation)),
        )
        if not np.isfinite(displacement + rotation):
            return outcome, DIVERGED
        if self.in_place(displacement, rotation):
            return outcome, ""
        moved = displacement >= self.protocol.largest_displacement
        how = "moved too far" if moved else "turned too far"
        return replace(outcome, displacement_m=displacement, rotation_rad=rotation), how

    def in_place(self, displacement: float, rotation: float) -> bool:
        """Whether the object is within the protocol's limits, of a distance [m] and an angle [rad]."""
        if self.protocol.criterion != "pose":
            return bool(np.isfinite(displacement + rotation))
        return displacement < self.protocol.largest_displacement and rotation < self.protocol.largest_rotation

    def _lift(self, outcome: Outcome, squeeze: HandPose) -> Outcome:
        """Raise the hand, hold it, shake it; the object must come along."""
        protocol = self.protocol
        self._push(np.array(DIRECTIONS[protocol.directions[0]]))
        raised = replace(squeeze, position=squeeze.position + protocol.lift_height * self.at.axes[:, 2])
        frames = round(25 * protocol.lift_time)
        for number in range(1, frames + 1):
            self._target(squeeze.towards(raised, number / frames))
            self._step(protocol.steps(protocol.lift_time / frames))
        shakes = 3 * protocol.shake_time * bool(protocol.shake_amplitude)
        seconds = protocol.pull_time + shakes
        count = round(25 * seconds)
        for number in range(1, count + 1):
            time = number * seconds / count
            self._target(replace(raised, position=raised.position + self._shake(time - protocol.pull_time)))
            self._step(protocol.steps(seconds / count))
            outcome, lost = self._look(outcome, protocol.lift_height)
            if lost:
                phase = "held" if time <= protocol.pull_time else "shaken"
                return replace(outcome, failure=f"while {phase}: {lost}", failure_time_s=protocol.lift_time + time)
        return replace(outcome, success=True)

    def _shake(self, time: float) -> np.ndarray:
        """Displacement of the hand: one axis of the table after the other [m], shape (3,)."""
        axis = int(time / self.protocol.shake_time)
        if time <= 0.0 or axis > 2:
            return np.zeros(3)
        turn = 2.0 * np.pi * self.protocol.shake_frequency * (time - axis * self.protocol.shake_time)
        return self.protocol.shake_amplitude * np.sin(turn) * self.at.axes[:, axis]

    def _contacts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance [m] and the two geoms of each contact, and the body of the hand in it, -1 where there is none."""
        contact = self.data.contact
        geoms = np.asarray(contact.geom).reshape(-1, 2)
        ours = self.at.hand_geoms[geoms]
        body = np.where(ours.any(axis=1), self.model.geom_bodyid[geoms[np.arange(len(geoms)), ours.argmax(axis=1)]], -1)
        return np.asarray(contact.dist), geoms, body

    def _with_object(self, geoms: np.ndarray) -> np.ndarray:
        return (self.model.geom_bodyid[geoms] == self.at.object_body).any(axis=1)

    def _depths(self, pose: HandPose) -> tuple[float, float]:
        """Largest depth of the hand in the object or the table, and in itself, at a pose [m]."""
        self.reset(pose)
        distance, geoms, _ = self._contacts()
        hands = self.at.hand_geoms[geoms].sum(axis=1)
        return _depth(distance[hands == 1]), _depth(distance[hands == 2])

    def _measure(self, grasp: HandPose) -> Outcome:
        """Penetration and contact at the grasp pose."""
        model, geoms, body = self.model, self.at.object_geoms, self.at.object_body
        # Within its gap a contact is seen, but has no force.
        model.geom_gap[geoms] = NEAR
        model.body_margin[body] += NEAR
        try:
            self.reset(grasp)
        finally:
            model.geom_gap[geoms] = 0.0
            model.body_margin[body] -= NEAR
        distance, pairs, bodies = self._contacts()
        hands = self.at.hand_geoms[pairs].sum(axis=1)
        touch = self._with_object(pairs) & (hands == 1)
        fingers = np.unique(self.finger_of_body[self.finger_of_body >= 0])
        nearest = np.array(
            [distance[touch & (self.finger_of_body[bodies] == f)].min(initial=NEAR) for f in fingers] or [np.nan]
        )
        nearest = np.clip(np.abs(nearest), 0.0, NEAR)
        return Outcome(
            penetration_m=_depth(distance[touch]),
            self_penetration_m=_depth(distance[hands == 2]),
            links_in_contact_2mm=len(np.unique(bodies[touch & (np.abs(distance) < TOUCH)])),
            contact_distance_m=float(nearest.mean()),
            contact_consistency_m=float(np.ptp(nearest)),
        )

    def _touches(self) -> bool:
        _, geoms, body = self._contacts()
        return bool((self._with_object(geoms) & (body >= 0)).any())

    def _grip_force(self) -> float:
        """Sum of the hand's normal forces on the object [N]."""
        _, geoms, body = self._contacts()
        force, total = np.zeros(6), 0.0
        for contact in np.flatnonzero(self._with_object(geoms) & (body >= 0)):
            mujoco().mj_contactForce(self.model, self.data, int(contact), force)
            total += float(force[0])
        return total


def _depth(distance: np.ndarray) -> float:
    return float(max(0.0, -distance.min(initial=0.0)))


def _ignore(message: str) -> None:
    """MuJoCo would write warnings into a file in the working folder; a trial that diverges says so itself."""
