"""Two plain ways to find grasps that every recipe has to beat: closing at random, and simulated annealing.

Both return a ``Grasps`` whose pregrasp, squeeze and labels come from the same functions as those of ``synthesize``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import warp as wp

from . import device as devices
from . import rotation
from .descend import ProgressCallback
from .distance import DeviceMesh
from .errors import OptionError
from .finish import check_model, finish
from .hand import Hand
from .hand_file import load_hand
from .initialize import approach, back_off, palm_transforms, starting_poses
from .label import OBJECT_POINTS, Limits
from .mesh import ObjectMesh, load_object
from .model import HandModel, hand_model
from .options import Recipe
from .pose import Pose
from .proximity import find_proximity
from .result import Grasps
from .state import allocate
from .surface import grasping_links, object_points, surface_points

if TYPE_CHECKING:
    import trimesh

START = Recipe(name="baseline")
"""Where both start: the distance and the joint noise of every recipe."""

TOUCH = 0.0005
"""Clearance at which an approaching hand stops [m]."""

ADVANCE_ROUNDS = 400
"""Most moves of an approach; a finger that passes close by makes them short."""

SELF_DEPTH = 0.0003
"""Depth of a link in another at which a finger stops, unless it was deeper from the start [m]."""

REVOLUTE_STEP, PRISMATIC_STEP = 0.04, 0.002
"""How far a joint closes in one round, as long as nothing is hit [rad, m]."""

HALVINGS = 6
"""How often the step of a joint is halved on contact before it stops for good."""

CLOSING_SHARE = 0.5
"""A joint closes its finger if the pad moves within 60 degrees of the pad's normal, one way or the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnealingOptions:
    """How simulated annealing searches; energies are in the units of :func:`annealing_energy`."""

    steps: int = 1000
    """Poses that each grasp tries: about one core-second, as much as ``synthesize`` takes for a grasp."""

    points: int = 256
    """Points on the hand, and on the object, that the energy is measured with."""

    hot: float = 1.0
    """Temperature of the first step; it falls geometrically."""

    cold: float = 0.01
    """Temperature of the last step."""

    wander: tuple[float, float, float] = (0.02, 0.3, 0.15)
    """Standard deviations of the first moves: wrist [m], wrist [rad], closing [share]; they fall to a tenth."""


def random_closing(
    hand: Hand | str | Path,
    mesh: ObjectMesh | trimesh.Trimesh | str | Path,
    *,
    count: int = 64,
    seed: int = 0,
    device: str | None = None,
    limits: Limits | None = None,
    on_progress: ProgressCallback | None = None,
) -> Grasps:
    """Approach along the palm's normal until contact, then close every joint until contact or limit.

    The hands start as those of ``synthesize``. The palm goes no further than level with the centre of mass. All
    fingers close at once; a link that touches stops the joints before it, those after it go on (GraspIt!'s autograsp).

    Args:
        hand: A hand, the name of a bundled one, or the path of a URDF or MJCF file.
        mesh: An object, a trimesh, or the path of a mesh file; metres.
        count: Number of grasps, all of which are returned.
        seed: Seed of the starting poses.
        device: Warp device; the first GPU, else the CPU, where omitted.
        limits: What a valid grasp may not exceed.
        on_progress: Called with the stages done and the stages in all.

    Returns:
        The grasps, best first; ``metrics["loss"]`` is 0.

    Raises:
        WarpgraspError: The hand, the mesh, the device or an option cannot be used.
    """
    task = _task(hand, mesh, count, seed, device, on_progress)
    task.report(0, 2)
    touching = advance(task, task.start())
    task.report(1, 2)
    grasp = close(task, touching)
    task.report(2, 2)
    return _finish(task, grasp, np.zeros(count), limits, {"name": "random-closing"})


def annealing(
    hand: Hand | str | Path,
    mesh: ObjectMesh | trimesh.Trimesh | str | Path,
    *,
    count: int = 64,
    seed: int = 0,
    device: str | None = None,
    options: AnnealingOptions | None = None,
    limits: Limits | None = None,
    on_progress: ProgressCallback | None = None,
) -> Grasps:
    """Simulated annealing over the wrist's pose and one number for how closed the hand is.

    One chain per grasp, from the starts of ``synthesize``. The best pose of a chain is opened until it is clear of the
    object and closed until contact, as by :func:`random_closing`.

    Args:
        hand: See :func:`random_closing`.
        mesh: See there.
        count: See there.
        seed: Seed of every random draw.
        device: See there.
        options: Settings of the search.
        limits: See there.
        on_progress: Called with the steps done and the steps in all.

    Returns:
        The grasps, best first; ``metrics["loss"]`` is the least energy of the chain.

    Raises:
        WarpgraspError: The hand, the mesh, the device or an option cannot be used.

    Source:
        In the manner of Ciocarlie & Allen 2009, Hand posture subspaces for dexterous robotic grasping. One closing
        parameter stands for their two eigengrasps, epsilon of the links near the object for their quality.
    """
    chosen = options or AnnealingOptions()
    task = _task(hand, mesh, count, seed, device, on_progress)
    best, energy = anneal(task, task.start(), chosen)
    grasp = close(task, release(task, best))
    return _finish(task, grasp, energy, limits, {"name": "annealing", **asdict(chosen)})


BASELINES: dict[str, Callable[..., Grasps]] = {"random-closing": random_closing, "annealing": annealing}
"""By the names that ``warpgrasp bench`` takes."""


@dataclass(frozen=True, eq=False)
class Task:
    """A hand and an object on a device, and what is measured with."""

    hand: Hand
    obj: ObjectMesh
    mesh: DeviceMesh
    model: HandModel
    object_point: np.ndarray
    count: int
    seed: int
    begin: float
    report: ProgressCallback

    @cached_property
    def rng(self) -> np.random.Generator:
        """Random numbers, the same for equal seeds."""
        return np.random.default_rng(self.seed)

    def start(self) -> Pose:
        """Starting poses, clear of the object."""
        distance, noise = START.start_distance, START.joint_noise
        start = starting_poses(self.hand, self.obj, self.count, distance=distance, joint_noise=noise, rng=self.rng)
        return back_off(self.hand, self.mesh, start)


def _task(
    hand: Hand | str | Path,
    mesh: ObjectMesh | trimesh.Trimesh | str | Path,
    count: int,
    seed: int,
    device: str | None,
    report: ProgressCallback | None,
) -> Task:
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise OptionError(f"{name} must be a whole number of at least {least}, got {value!r}")
    target = devices.choose(device)
    hand, obj = load_hand(hand), load_object(mesh)
    begin = time.perf_counter()
    model = check_model(hand, target)
    points = object_points(obj, 2 * OBJECT_POINTS)
    return Task(hand, obj, DeviceMesh(obj, target), model, points, count, seed, begin, report or (lambda *_: None))


@dataclass(frozen=True, eq=False)
class LinkDistances:
    """Where each link of N hands is, reduced over its points."""

    to_object: np.ndarray
    """Least signed distance to the object, negative inside, inf without points [m], shape (N, L)."""

    to_links: np.ndarray
    """Minus the depth in another link, neighbours left out; 0 where it is in none [m], shape (N, L)."""

    other_link: np.ndarray
    """The link that ``to_links`` is about, L or more where there is none, shape (N, L)."""

    position: np.ndarray
    """The skin's nearest point to the object [m], NaN without points, shape (N, L, 3)."""

    normal: np.ndarray
    """Unit normal there, into the object, shape (N, L, 3)."""


def link_distances(model: HandModel, mesh: DeviceMesh, object_point: np.ndarray, pose: Pose) -> LinkDistances:
    """Distances of every link, points of the object inside it included.

    Args:
        model: The hand.
        mesh: The object.
        object_point: Points on the object's surface [m], shape (point, 3).
        pose: Wrist and joints of each hand.
    """
    state = allocate(model, pose, object_point)
    find_proximity(model, mesh, state)
    distance, own = state.distance.numpy().astype(float), state.self_depth.distance.numpy().astype(float)
    point, gradient, other = (
        state.point_position.numpy(),
        state.distance_gradient.numpy(),
        state.self_depth.link.numpy(),
    )
    begin, rows = model.link_begin.numpy(), np.arange(len(pose))
    shape = (len(pose), len(begin) - 1)
    to_object, to_links = np.full(shape, np.inf), np.full(shape, np.inf)
    other_link = np.full(shape, shape[1])
    position, normal = np.full((*shape, 3), np.nan), np.full((*shape, 3), np.nan)
    for link in np.flatnonzero(np.diff(begin)):
        a, b = begin[link], begin[link + 1]
        nearest, deepest = a + distance[:, a:b].argmin(axis=1), a + own[:, a:b].argmin(axis=1)
        to_object[:, link], to_links[:, link] = distance[rows, nearest], own[rows, deepest]
        other_link[:, link] = other[rows, deepest]
        position[:, link], normal[:, link] = point[rows, nearest], -gradient[rows, nearest]
    inside, link = state.object_depth.distance.numpy().astype(float), state.object_depth.link.numpy()
    grasp, index = np.nonzero((inside < 0.0) & (link < shape[1]))
    np.minimum.at(to_object.reshape(-1), grasp * shape[1] + link[grasp, index], inside[grasp, index])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    return LinkDistances(to_object, to_links, other_link, position, normal)


def closing_directions(hand: Hand) -> np.ndarray:
    """Sign with which each free coordinate closes a finger, 0 where it does not, shape (K,).

    A joint closes if it moves the pads along their normals; one that spreads the fingers or turns the wrist does not.
    """
    free, nudge = hand.free_position(hand.open_position), 1e-4
    poses = hand.joint_position(free + nudge * np.concatenate([np.zeros((1, len(free))), np.eye(len(free))]))
    links = hand.link_transforms(poses)
    moved_joints = [set(np.flatnonzero(hand.joint_map[:, k])) for k in range(len(free))]
    total = np.zeros(len(free))
    for pad in hand.pads:
        joints = {joint for finger in hand.fingers if pad.link in finger.links for joint in finger.joints}
        at = links[:, pad.link, :3, :3] @ pad.position + links[:, pad.link, :3, 3]
        motion = at[1:] - at[0]
        length = np.linalg.norm(motion, axis=1)
        along = motion @ (links[0, pad.link, :3, :3] @ pad.normal) / np.maximum(length, 1e-12)
        closes = np.array([bool(moved & joints) for moved in moved_joints])
        total += np.where(closes & (length > 1e-3 * nudge) & (np.abs(along) > CLOSING_SHARE), along, 0.0)
    return np.sign(total)


def moved_links(hand: Hand) -> np.ndarray:
    """Which links each free coordinate moves, bool, shape (K, L)."""
    ancestor = np.zeros((hand.joint_count, len(hand.links)), bool)
    for j, joint in enumerate(hand.joints):
        ancestor[:, j + 1] = ancestor[:, joint.parent]
        ancestor[j, j + 1] = True
    return (hand.joint_map.T != 0.0) @ ancestor


def advance(task: Task, pose: Pose) -> Pose:
    """Move every hand along its palm's normal until it touches, at most level with the centre of mass.

    Each move is the clearance that is left. It is taken at points, so a corner of the object can come to lie inside
    between two of them; then the hand goes back by as much.
    """
    forward = approach(task.hand, pose)
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    palm = (wrist @ palm_transforms(task.hand, pose.joint_position))[:, :3, 3]
    left = np.maximum(((task.obj.center_of_mass - palm) * forward).sum(axis=1), 0.0)
    position = pose.wrist_position.copy()
    for _ in range(ADVANCE_ROUNDS):
        now = Pose(position, pose.wrist_quaternion, pose.joint_position)
        near = link_distances(task.model, task.mesh, task.object_point, now).to_object.min(axis=1)
        move = np.where(near > TOUCH, np.minimum(near - 0.5 * TOUCH, left), np.minimum(near, 0.0))
        if np.abs(move).max() < 1e-5:
            break
        position, left = position + move[:, None] * forward, left - move
    return Pose(position, pose.wrist_quaternion, pose.joint_position)


def close(task: Task, pose: Pose) -> Pose:
    """Close all fingers until contact or limit; see :func:`random_closing`.

    A round moves every joint by its step. Where a finger's link hits something, the whole finger goes back and the
    joints before that link halve their steps, so nothing ends inside the object that did not begin there.
    """
    fingers = _Closing(task, pose)
    while fingers.moving.any():
        fingers.round()
    return Pose(pose.wrist_position, pose.wrist_quaternion, task.hand.clamp(task.hand.joint_position(fingers.free)))


class _Closing:
    """Hands that are closing; x are free coordinates, N x K."""

    def __init__(self, task: Task, pose: Pose) -> None:
        hand = task.hand
        self.task, self.pose = task, pose
        self.direction = closing_directions(hand)
        self.free = np.clip(hand.free_position(pose.joint_position), hand.free_lower, hand.free_upper)
        slides = np.array([hand.joints[joint].kind == "prismatic" for joint in hand.free_joints])
        full = np.where(slides, PRISMATIC_STEP, REVOLUTE_STEP) * np.abs(self.direction)
        self.step, self.least = np.tile(full, (len(pose), 1)), full / 2.0**HALVINGS
        self.moves = moved_links(hand) & (self.direction != 0.0)[:, None]
        self.coupling, self.minimum = hand.coupling_matrix()
        self.together = _components(self.moves, self.coupling)
        at_start = self.distances(self.free)
        self.self_limit = np.minimum(at_start.to_links, 0.0) - SELF_DEPTH

    @property
    def moving(self) -> np.ndarray:
        """Which coordinates have not stopped, shape (N, K)."""
        return (self.step > self.least) & (self.step > 0.0)

    def distances(self, free: np.ndarray) -> LinkDistances:
        """Distances of all links at free coordinates."""
        joints = self.task.hand.joint_position(free)
        pose = Pose(self.pose.wrist_position, self.pose.wrist_quaternion, joints)
        return link_distances(self.task.model, self.task.mesh, self.task.object_point, pose)

    def round(self) -> None:
        """Move all joints by one step, and take back what hits."""
        hand, moving = self.task.hand, self.moving
        trial = np.clip(self.free + moving * self.step * self.direction, hand.free_lower, hand.free_upper)
        ended = moving & (trial == self.free)
        blocked = self.blocked(trial) & moving
        back = (blocked @ self.together) > 0
        self.free = np.where(back, self.free, trial)
        self.step = np.where(ended, 0.0, np.where(blocked, 0.5 * self.step, self.step))

    def blocked(self, trial: np.ndarray) -> np.ndarray:
        """Coordinates that may not move on: before a link that hits, or against a coupling, shape (N, K)."""
        links = self.distances(trial)
        touches_link = links.to_links < self.self_limit
        hit = (links.to_object < 0.0) | touches_link
        grasp, link = np.nonzero(touches_link & (links.other_link < hit.shape[1]))
        hit[grasp, links.other_link[grasp, link]] = True
        blocked = (hit @ self.moves.T) > 0
        against = (self.coupling * self.direction) < 0.0
        violated = trial @ self.coupling.T < self.minimum - 1e-9
        return blocked | ((violated @ against) > 0)


def _components(moves: np.ndarray, coupling: np.ndarray) -> np.ndarray:
    """Which coordinates share a moved link or a coupling, directly or over others, bool, shape (K, K)."""
    linked = (moves @ moves.T) | ((coupling.T != 0.0) @ (coupling != 0.0)) | np.eye(len(moves), dtype=bool)
    for _ in range(len(linked).bit_length()):
        linked = linked @ linked
    return linked


def release(task: Task, pose: Pose) -> Pose:
    """Open every hand until no link is inside the object or another, then move back those still in the object."""
    hand = task.hand
    free = hand.free_position(pose.joint_position)
    wide = hand.free_position(hand.open_position)
    back = -0.005 * approach(hand, pose)
    position = pose.wrist_position.copy()
    for step in range(60):
        now = Pose(position, pose.wrist_quaternion, hand.joint_position(free))
        links = link_distances(task.model, task.mesh, task.object_point, now)
        inside = links.to_object.min(axis=1) < 0.0
        if step < 20:
            inside |= links.to_links.min(axis=1) < -SELF_DEPTH
        if not inside.any():
            break
        if step < 20:
            free[inside] = wide + (1.0 - 1.0 / (20 - step)) * (free[inside] - wide)
        else:
            position[inside] += back[inside]
    return Pose(position, pose.wrist_quaternion, hand.joint_position(free))


def anneal(task: Task, start: Pose, options: AnnealingOptions) -> tuple[Pose, np.ndarray]:
    """Run one chain from every start.

    Returns:
        The pose of least energy of each chain, and that energy, shape (N,).
    """
    hand, device = task.hand, task.mesh.device
    skin = surface_points(hand, options.points, links=grasping_links(hand), device=device)
    model = hand_model(hand, skin, device)
    points = object_points(task.obj, options.points)

    def energy_of(pose: Pose) -> np.ndarray:
        return annealing_energy(task, link_distances(model, task.mesh, points, pose))

    closed, now = np.zeros(len(start)), start
    now = Pose(start.wrist_position, start.wrist_quaternion, closed_joints(hand, closed))
    energy = energy_of(now)
    best, least = now, energy
    for step in range(options.steps):
        cooled = step / max(options.steps - 1, 1)
        temperature = options.hot * (options.cold / options.hot) ** cooled
        trial_closed, trial = _neighbour(task, now, closed, np.array(options.wander) * 0.1**cooled)
        trial_energy = energy_of(trial)
        chance = np.exp(np.minimum((energy - trial_energy) / temperature, 0.0))
        taken = task.rng.random(len(start)) < chance
        now, closed = _where(taken, trial, now), np.where(taken, trial_closed, closed)
        energy = np.where(taken, trial_energy, energy)
        best, least = _where(energy < least, now, best), np.minimum(energy, least)
        task.report(step + 1, options.steps)
    return best, least


@lru_cache(maxsize=8)
def _ends(hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """Free coordinates of the open hand, and with all closing joints at their limit."""
    direction = closing_directions(hand)
    free = hand.free_position(hand.open_position)
    return free, np.where(direction > 0, hand.free_upper, np.where(direction < 0, hand.free_lower, free))


def closed_joints(hand: Hand, closed: np.ndarray) -> np.ndarray:
    """Joint vectors of hands closed by a share: 0 open, 1 all closing joints at their limit, shape (N, J)."""
    free, end = _ends(hand)
    return hand.clamp(hand.joint_position(free + closed[:, None] * (end - free)))


def annealing_energy(task: Task, links: LinkDistances) -> np.ndarray:
    """Energy of each pose, shape (N,).

    Mean distance of the fingers to the object in units of 2 cm, plus the depth of the deepest link in the object and
    in another link in units of 5 mm, minus ten times :func:`contact_epsilon`.
    """
    fingers = [list(finger.links) for finger in task.hand.fingers] or [list(range(len(task.hand.links)))]
    distance = np.stack([links.to_object[:, chosen].min(axis=1) for chosen in fingers], axis=1)
    apart = np.clip(distance, 0.0, 1.0).mean(axis=1) / 0.02
    depth = np.maximum(-links.to_object.min(axis=1), 0.0) + np.maximum(-links.to_links.min(axis=1), 0.0)
    return apart + depth / 0.005 - 10.0 * contact_epsilon(task.obj, links)


def contact_epsilon(obj: ObjectMesh, links: LinkDistances, distance: float = 0.005) -> np.ndarray:
    """Ferrari and Canny's epsilon of the links within ``distance`` of the object, one contact each, shape (N,).

    Friction 0.6, eight edges, torques about the centre of mass divided by 1.5 radii of gyration, to 5 %.
    """
    from .metrics import epsilon_l1

    near = np.abs(links.to_object) <= distance
    value = np.zeros(len(near))
    rows = np.flatnonzero(near.sum(axis=1) >= 3)
    if len(rows):
        absent = ~near[rows][..., None]
        value[rows] = epsilon_l1(
            np.where(absent, np.nan, links.position[rows]),
            np.where(absent, np.nan, links.normal[rows]),
            friction_coefficient=0.6,
            edge_count=8,
            torque_length=1.5 * obj.radius_of_gyration,
            center=obj.center_of_mass,
            tolerance=0.05,
        )
    return value


def _neighbour(task: Task, pose: Pose, closed: np.ndarray, wander: np.ndarray) -> tuple[np.ndarray, Pose]:
    """A random pose near each, and how closed it is."""
    count = len(pose)
    vector = wander[1] * task.rng.standard_normal((count, 3))
    angle = np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
    turn = np.concatenate([np.cos(0.5 * angle), np.sin(0.5 * angle) * vector / angle], axis=1)
    position = pose.wrist_position + wander[0] * task.rng.standard_normal((count, 3))
    moved = np.clip(closed + wander[2] * task.rng.standard_normal(count), 0.0, 1.0)
    quaternion = rotation.multiply(turn, pose.wrist_quaternion)
    return moved, Pose(position, quaternion, closed_joints(task.hand, moved))


def _where(chosen: np.ndarray, a: Pose, b: Pose) -> Pose:
    """The poses of ``a`` where chosen, else those of ``b``."""
    pairs = ((getattr(a, name), getattr(b, name)) for name in ("wrist_position", "wrist_quaternion", "joint_position"))
    return Pose(*(np.where(chosen[:, None], x, y) for x, y in pairs))


def _finish(task: Task, grasp: Pose, loss: np.ndarray, limits: Limits | None, recipe: dict[str, Any]) -> Grasps:
    """Pregrasp, squeeze and labels as ``synthesize`` makes them."""
    from . import __version__

    versions = {"warpgrasp": __version__, "warp": wp.__version__}
    info = {"recipe": recipe, "seed": task.seed, "device": task.mesh.device, **versions}
    grasps = finish(task.model, task.obj, task.mesh, grasp, loss, limits=limits, info=info)
    grasps.info["seconds"] = round(time.perf_counter() - task.begin, 3)
    return grasps
