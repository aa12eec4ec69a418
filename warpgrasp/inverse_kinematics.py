"""Arm joints for a flange pose: in closed form where three joints are parallel, by iteration for any other arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import rotation
from .arm import Arm
from .errors import ShapeError

if TYPE_CHECKING:
    from pytorch_kinematics import SerialChain

POSITION_TOLERANCE = 1.0e-5
"""Largest distance of a solution's flange from where it should be [m]."""

ROTATION_TOLERANCE = 1.0e-5
"""Largest angle between them [rad]."""

SEEDS = 4
"""Configurations that the iteration starts from, for arms without a closed form."""

MORE_SEEDS = 32
"""Further ones, where none of them leads to a solution."""

STEP = 0.5
"""Largest change of a joint in one step of :func:`refine` [rad or m]."""

LENGTH = 0.2
"""Length that an angle is multiplied by where angles and distances are compared [m]."""

FLAT = 1.0e-9
"""Sines and distances [m] below this are zero when an arm's structure is recognised."""


def solve(arm: Arm, target: np.ndarray, *, near: np.ndarray | None = None) -> np.ndarray:
    """Joints that put the flange at each target; NaN where the arm cannot.

    Args:
        arm: The arm.
        target: Flange in the arm's base frame, shape (N, 4, 4).
        near: Joint vectors, of shape (n,) or (N, n), that the solution should be near to; by default the solution
            whose joints are farthest from the ends of their ranges is taken.

    Returns:
        Joint vectors [rad or m], shape (N, n), within the ranges; their flange is within 0.01 mm and 1e-5 rad.
    """
    every = solutions(arm, target, near=near)
    if near is None:
        cost = -limit_margin(arm, every)
    else:
        cost = np.linalg.norm(every - np.broadcast_to(near, (len(every), arm.joint_count))[:, None], axis=-1)
    best = np.nan_to_num(cost, nan=np.inf).argmin(axis=1)
    return every[np.arange(len(every)), best]


def solutions(arm: Arm, target: np.ndarray, *, near: np.ndarray | None = None) -> np.ndarray:
    """Several joint vectors for each target, NaN where there are fewer, shape (N, branch, n).

    In closed form these are all eight (each with every turn chosen for nearness or margin); iteration finds one from
    each seed, in no order and some of them twice.

    Args:
        arm: The arm.
        target: Flange in the arm's base frame, shape (N, 4, 4).
        near: Where to choose full turns, and the first seed of an iteration: shape (n,) or (N, n).
    """
    target = np.asarray(target, float)
    if target.ndim != 3 or target.shape[1:] != (4, 4):
        raise ShapeError("target", "(N, 4, 4)", target.shape)
    closed = ThreeParallel.of(arm)
    if closed:
        return _polished(arm, target, choose_turns(arm, closed.solutions(target), near), iterations=3)
    every = _polished(arm, target, choose_turns(arm, _iterated(arm, target, near), near), iterations=30)
    none = np.flatnonzero(np.isnan(every[..., 0]).all(axis=1))
    if len(none):
        seeds = np.random.default_rng(1).uniform(arm.lower, arm.upper, (len(none), MORE_SEEDS, arm.joint_count))
        more = _polished(arm, target[none], seeds, iterations=60)
        solved_first = np.isnan(more[..., :1]).argsort(axis=1, kind="stable")[:, : every.shape[1]]
        every[none] = np.take_along_axis(more, solved_first, axis=1)
    return every


def _polished(arm: Arm, target: np.ndarray, theta: np.ndarray, *, iterations: int) -> np.ndarray:
    """Joint vectors (N, branch, n) after refinement; NaN where they do not reach their targets."""
    flat, goal = theta.reshape(-1, arm.joint_count), np.repeat(target, theta.shape[1], axis=0)
    some = np.isfinite(flat).all(axis=1)
    refined, position_error, rotation_error = refine(arm, goal[some], flat[some], iterations=iterations)
    good = (position_error < POSITION_TOLERANCE) & (rotation_error < ROTATION_TOLERANCE)
    polished = np.full_like(flat, np.nan)
    polished[some] = np.where(good[:, None], refined, np.nan)
    return polished.reshape(theta.shape)


def limit_margin(arm: Arm, theta: np.ndarray) -> np.ndarray:
    """Distance of the joint that is nearest to an end of its range [rad or m], shape (...,)."""
    return np.minimum(theta - arm.lower, arm.upper - theta).min(axis=-1)


def pose_error(target: np.ndarray, flange: np.ndarray) -> np.ndarray:
    """From flanges to their targets: distance [m] and rotation vector [rad] in the axes of the base, shape (..., 6)."""
    from scipy.spatial.transform import Rotation

    turn = target[..., :3, :3] @ np.swapaxes(flange[..., :3, :3], -1, -2)
    vector = Rotation.from_matrix(turn.reshape(-1, 3, 3)).as_rotvec().reshape(*turn.shape[:-2], 3)
    return np.concatenate([target[..., :3, 3] - flange[..., :3, 3], vector], axis=-1)


def refine(
    arm: Arm, target: np.ndarray, theta: np.ndarray, *, iterations: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Damped least squares in float64, within the ranges, as ``kernels.reach.follow`` does them.

    Args:
        arm: The arm.
        target: Flange in the base frame, shape (N, 4, 4).
        theta: Where to start, shape (N, n).
        iterations: Most steps.

    Returns:
        Joint vectors (N, n), distances [m] (N,) and angles [rad] (N,) of their flanges from the targets.
    """
    theta = np.clip(theta, arm.lower, arm.upper)
    scale = np.repeat([1.0, LENGTH], 3)
    flange, jacobian = arm.flange_and_jacobian(theta)
    error = pose_error(target, flange)
    for _ in range(iterations):
        left = np.flatnonzero(np.abs(error).max(axis=1, initial=0.0) > 1.0e-10)
        if not len(left):
            break
        e, columns = scale * error[left], scale[:, None] * jacobian[left]
        damping = 0.5 * arm.reach * np.linalg.norm(e, axis=1) + 1.0e-12
        at_lower, at_upper = theta[left] <= arm.lower, theta[left] >= arm.upper
        step = np.einsum("nij,ni->nj", columns, e)
        for _ in range(2 if (at_lower | at_upper).any() else 1):
            stuck = (at_lower & (step < 0.0)) | (at_upper & (step > 0.0))
            columns = np.where(stuck[:, None, :], 0.0, columns)
            square = columns @ np.swapaxes(columns, 1, 2) + damping[:, None, None] * np.eye(6)
            step = np.einsum("nij,ni->nj", columns, np.linalg.solve(square, e[..., None])[..., 0])
        theta[left] = np.clip(theta[left] + np.clip(step, -STEP, STEP), arm.lower, arm.upper)
        flange, jacobian[left] = arm.flange_and_jacobian(theta[left])
        error[left] = pose_error(target[left], flange)
    return theta, np.linalg.norm(error[:, :3], axis=1), np.linalg.norm(error[:, 3:], axis=1)


def choose_turns(arm: Arm, theta: np.ndarray, near: np.ndarray | None) -> np.ndarray:
    """Full turns added to the joints that keep them in range, as near as may be to ``near`` or to mid-range.

    NaN where no turn does; shape (N, branch, n).
    """
    wish = 0.5 * (arm.lower + arm.upper) if near is None else np.asarray(near, float)
    wish = np.broadcast_to(wish, (len(theta), arm.joint_count))[:, None]
    turns = np.array([0.0 if joint.kind == "prismatic" else 2.0 * np.pi for joint in arm.tree.joints])
    offered = theta[..., None] + turns[:, None] * np.arange(-2, 3)
    allowed = (offered >= arm.lower[:, None] - 1.0e-9) & (offered <= arm.upper[:, None] + 1.0e-9)
    cost = np.where(allowed, np.abs(offered - wish[..., None]), np.inf)
    best = cost.argmin(axis=-1)[..., None]
    chosen = np.take_along_axis(offered, best, axis=-1)[..., 0]
    return np.where(np.take_along_axis(allowed, best, axis=-1)[..., 0], chosen, np.nan)


@dataclass(frozen=True, eq=False)
class ThreeParallel:
    """The closed form for six revolute joints of which 2, 3, 4 are parallel and 5, 6 intersect (Universal Robots).

    It works on axes at zero, so that it does not matter how a file places its frames.

    Source: Elias & Wen, IK-Geo: Unified Robot Inverse Kinematics Using Subproblem Decomposition (2022), the case of
    three parallel and two intersecting axes.
    """

    axis: np.ndarray
    """Directions at zero in the base frame, shape (6, 3)."""

    point: np.ndarray
    """A point of each axis [m], shape (6, 3); the same for the last two."""

    sign: np.ndarray
    """Of axes 2 to 4 along axis 2, shape (3,)."""

    home: np.ndarray
    """Flange at zero, shape (4, 4)."""

    @classmethod
    def of(cls, arm: Arm) -> ThreeParallel | None:
        """The structure of an arm, ``None`` where it is another one."""
        if arm.joint_count != 6 or any(joint.kind != "revolute" for joint in arm.tree.joints):
            return None
        zero = np.zeros(6)
        links = arm.tree.link_transforms(zero)[1:]
        axis = np.einsum("jab,jb->ja", links[:, :3, :3], [joint.axis for joint in arm.tree.joints])
        point = links[:, :3, 3].copy()
        if any(np.linalg.norm(np.cross(axis[1], axis[j])) > 1.0e-6 for j in (2, 3)):
            return None
        across = np.cross(axis[4], axis[5])
        if np.linalg.norm(across) < FLAT or abs(across @ (point[5] - point[4])) > 1.0e-6:
            return None
        along = np.linalg.lstsq(np.stack([axis[4], -axis[5]], axis=1), point[5] - point[4], rcond=None)[0]
        point[4] = point[5] = point[4] + along[0] * axis[4]
        return cls(axis, point, np.sign(axis[1:4] @ axis[1]), arm.flange_transforms(zero))

    def solutions(self, target: np.ndarray) -> np.ndarray:
        """All eight joint vectors in (-pi, pi], shape (N, 8, 6); NaN where there are fewer."""
        w1, w, w5, w6 = self.axis[0], self.axis[1], self.axis[4], self.axis[5]
        goal = target @ rotation.inverse(self.home)  # the product of all six motions
        wrist = goal[:, :3, :3] @ self.point[5] + goal[:, :3, 3]
        # Joints 2 to 4 leave what is along their axis as it is.
        q1 = _angles(w1, w, wrist - self.point[0], (self.point[5] - self.point[0]) @ w)  # (N, 2)
        rest = _screw(w1, self.point[0], -q1) @ goal[:, None]
        q5 = _angles(-w5, w, w6, np.einsum("nbij,j,i->nb", rest[..., :3, :3], w6, w))  # (N, 2, 2)
        seen = np.broadcast_to(np.swapaxes(rest[..., :3, :3], -1, -2) @ w, (*rest.shape[:2], 3))[:, :, None]
        q6 = -_between(w6, rotation.matrix_from_axis_angle(w5, -q5) @ w, seen)
        rest = rest[:, :, None] @ _screw(w6, self.point[5], -q6) @ _screw(w5, self.point[4], -q5)
        return self._planar(rest, q1[:, :, None], q5, q6)

    def _planar(self, rest: np.ndarray, q1: np.ndarray, q5: np.ndarray, q6: np.ndarray) -> np.ndarray:
        """Joints 2 to 4 from the product of their motions, shape (N, 2, 2, 4, 4): a triangle in the plane."""
        w, sign = self.axis[1], self.sign

        def flat(vector: np.ndarray) -> np.ndarray:
            return vector - (vector @ w)[..., None] * w

        upper, fore = flat(self.point[2] - self.point[1]), flat(self.point[3] - self.point[2])
        across = flat(rest[..., :3, :3] @ self.point[3] + rest[..., :3, 3] - self.point[1])
        value = 0.5 * ((across**2).sum(axis=-1) - upper @ upper - fore @ fore)
        q3 = _angles(-w, upper, fore, value)  # (N, 2, 2, 2)
        reached = upper + rotation.matrix_from_axis_angle(w, q3) @ fore
        q2 = _between(w, reached, across[..., None, :])
        side = flat(np.eye(3)[np.abs(w).argmin()])
        total = _between(w, side, rest[..., :3, :3] @ side)[..., None]
        parts = np.broadcast_arrays(
            q1[..., None], sign[0] * q2, sign[1] * q3, sign[2] * (total - q2 - q3), q5[..., None], q6[..., None]
        )
        theta = np.stack(parts, axis=-1).reshape(len(rest), 8, 6)
        return np.where(np.isfinite(theta).all(axis=-1, keepdims=True), theta, np.nan)


def _screw(axis: np.ndarray, point: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotations about an axis through a point, shape (..., 4, 4)."""
    motion = np.zeros((*angle.shape, 4, 4))
    motion[..., :3, :3] = rotation.matrix_from_axis_angle(axis, angle)
    motion[..., :3, 3] = point - motion[..., :3, :3] @ point
    motion[..., 3, 3] = 1.0
    return motion


def _angles(axis: np.ndarray, a: np.ndarray, b: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    """Both angles t with a . R(-t) b = value, R turning about the axis, shape (..., 2); NaN where there are none."""
    fixed = (a @ axis) * (b @ axis)
    cosine = (a * b).sum(axis=-1) - fixed
    sine = (np.cross(axis, a) * b).sum(axis=-1)
    size = np.hypot(cosine, sine)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (value - fixed) / size
    # Rounding may lift an arm that is just stretched out of reach.
    ratio = np.where(np.abs(ratio) < 1.0 + 1.0e-9, np.clip(ratio, -1.0, 1.0), np.nan)
    middle, half = np.arctan2(sine, cosine), np.arccos(ratio)
    return np.stack([middle + half, middle - half], axis=-1)


def _between(axis: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles about the axis that turn a to b, shape (...,); 0 where they are along the axis."""
    sine = (np.cross(a, b) * axis).sum(axis=-1)
    cosine = (a * b).sum(axis=-1) - (a @ axis) * (b @ axis)
    angle = np.arctan2(sine, cosine)
    return np.where(np.hypot(sine, cosine) < 1.0e-15, 0.0, angle)


def _iterated(arm: Arm, target: np.ndarray, near: np.ndarray | None) -> np.ndarray:
    """One joint vector from each seed by pytorch-kinematics, shape (N, SEEDS, n); not all of them solve it."""
    import pytorch_kinematics as pk
    import torch

    rng = np.random.default_rng(0)
    seeds = np.broadcast_to(
        rng.uniform(arm.lower, arm.upper, (SEEDS, arm.joint_count)), (len(target), SEEDS, arm.joint_count)
    ).copy()
    seeds[:, 1] = arm.home
    seeds[:, 0] = arm.home if near is None else near
    solver = pk.PseudoInverseIK(
        chain(arm),
        max_iterations=20,
        num_retries=SEEDS,
        retry_configs=torch.from_numpy(seeds[0]),
        joint_limits=torch.from_numpy(np.stack([arm.lower, arm.upper], axis=1)),
        pos_tolerance=1.0e-4,
        rot_tolerance=1.0e-4,
        lr=0.5,
    )
    solver.initial_config = torch.from_numpy(seeds)
    return solver.solve(pk.Transform3d(matrix=torch.from_numpy(target))).solutions.numpy()


def chain(arm: Arm) -> SerialChain:
    """The arm as pytorch-kinematics has it, in float64; its last frame is the flange."""
    import pytorch_kinematics as pk
    import torch

    return pk.build_serial_chain_from_urdf(kinematic_urdf(arm), "flange_frame").to(dtype=torch.float64)


def kinematic_urdf(arm: Arm) -> bytes:
    """A URDF of the arm's joints alone, from the link ``base_frame`` to the link ``flange_frame``."""
    from scipy.spatial.transform import Rotation

    def joint(name: str, kind: str, ends: tuple[str, str], pose: tuple[np.ndarray, np.ndarray], inside: str) -> str:
        position, quaternion = pose
        rpy = Rotation.from_quat(np.roll(quaternion, -1)).as_euler("xyz")
        return (
            f'<joint name="{name}" type="{kind}"><parent link="{ends[0]}"/><child link="{ends[1]}"/>'
            f'<origin xyz="{_words(position)}" rpy="{_words(rpy)}"/>{inside}</joint>'
        )

    links = ["base_frame", *(f"frame_{j}" for j in range(arm.joint_count)), "flange_frame"]
    parts = [f'<link name="{name}"/>' for name in links]
    for j, item in enumerate(arm.tree.joints):
        limit = f'<limit lower="{item.lower!r}" upper="{item.upper!r}" effort="1" velocity="1"/>'
        inside = f'<axis xyz="{_words(item.axis)}"/>{limit}'
        parts.append(joint(item.name, item.kind, (links[j], links[j + 1]), (item.position, item.quaternion), inside))
    frame = arm.flange_frame
    parts.append(joint("flange_joint", "fixed", (links[-2], links[-1]), (frame.position, frame.quaternion), ""))
    return f'<robot name="arm">{"".join(parts)}</robot>'.encode()


def _words(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)
