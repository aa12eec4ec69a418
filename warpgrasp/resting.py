"""``settle(obj)``: how an object comes to rest on a table, and how often each way, from drops in MuJoCo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import rotation
from .errors import MeshError, OptionError
from .mesh import ObjectMesh, load_object, unit
from .physics.engine import mujoco, set_options
from .physics.hand_model import add_hull, principal
from .physics.protocols import FC6

if TYPE_CHECKING:
    import trimesh

HEIGHT = 0.01
"""Of the lowest point above the table when an object is let go [m]."""

SHALLOW = 0.01
"""Wells less deep than this share of the radius of gyration are no resting pose of their own."""

AT_REST = 1.0e-3
"""Speed below which an object rests [m/s]; turning counts at the radius of gyration."""

LOOK = 0.2
"""Time between two looks at the speeds [s]."""

LONGEST = 10.0
"""Simulated time after which a drop is given up [s]."""

LARGEST_SHARE_MOVING = 0.1
"""Of the drops; with more of them given up, there are no probabilities."""

HULL_VERTICES = 2000
"""Most corners of the hull that is dropped."""

UPSIDE_DOWN = 1.0e-6
"""An object is turned over about its x axis if its z axis points down but for an angle a with 1 - cos a below this."""

FRICTION = (0.6, 0.02, 0.001)
"""Sliding, torsional [m] and rolling [m]; without the last, round objects would roll for ever."""


@dataclass(frozen=True, eq=False)
class RestingPose:
    """How an object rests on a table.

    The world frame is the table's: z up, table top at z = 0, origin below the centre of mass. Its turn about z is the
    one that leaves the object's frame turned least.
    """

    position: np.ndarray
    """Origin of the object frame in the world frame [m], shape (3,)."""

    quaternion: np.ndarray
    """Unit quaternion w x y z, object frame to world frame, shape (4,)."""

    probability: float
    """Share of the drops that end like this."""

    @property
    def matrix(self) -> np.ndarray:
        """From the object frame to the world frame, shape (4, 4)."""
        return rotation.matrix(self.position, self.quaternion)

    @property
    def normal(self) -> np.ndarray:
        """Unit vector up from the table, in the object frame, shape (3,)."""
        return self.matrix[2, :3]

    @property
    def offset(self) -> float:
        """Of the table's top, normal . x = offset, in the object frame [m]."""
        return -float(self.position[2])


def settle(
    obj: str | Path | trimesh.Trimesh | ObjectMesh, *, drops: int = 512, seed: int = 0, drag: float = 0.0
) -> list[RestingPose]:
    """Stable resting poses on a plane, most probable first, as found by letting the object fall.

    Its convex hull is dropped from 1 cm in random orientations: on a plane nothing else can touch. A resting pose is a
    well of the height of the centre of mass over the orientations; each drop counts for the well that it ends in, whose
    lowest facet then lies exactly on the table. Wells that less than 1 % of the radius of gyration parts from a deeper
    one belong to it, so that a cylinder of 48 facets lies on its side in one way and not in 48, and a ball, which rests
    anywhere, has one pose.

    Args:
        obj: The object, or a mesh as :func:`load_object` takes it.
        drops: How often it is dropped; probabilities p have a standard error of sqrt(p (1 - p) / drops).
        seed: Of the orientations; equal seeds give equal poses.
        drag: Share of its speed that the object loses in a second [1/s]. None by default; 20 and more takes the swing
            out of the fall, and gives the quasi-static probabilities of Goldberg and others.

    Raises:
        OptionError: ``drops`` is not a positive whole number, or ``drag`` is negative.
        MeshError: The object is flat, or does not come to rest.

    Source:
        Only the hull matters, and wells are facets over which the centre of mass stands: Goldberg, Mirtich, Zhuang,
        Craig, Carlisle & Canny, Part Pose Statistics, IEEE Transactions on Robotics and Automation 15 (1999).
    """
    if isinstance(drops, bool) or not isinstance(drops, int) or drops < 1:
        raise OptionError(f"drops must be a positive whole number, got {drops!r}")
    if not drag >= 0.0:
        raise OptionError(f"drag must not be negative, got {drag!r}")
    obj = load_object(obj)
    wells = _Wells(obj)
    well = wells.find(_drop(obj, wells.vertices, drops, seed, drag))
    lowest, count = np.unique(well, return_counts=True)
    order = np.argsort(-count, kind="stable")
    return [_resting_pose(wells, wells.normal[lowest[i]], float(count[i] / len(well))) for i in order]


def _resting_pose(wells: _Wells, down: np.ndarray, probability: float) -> RestingPose:
    """The pose in which a direction of the object frame points down."""
    turn = _least_turn(down)
    position = -turn @ wells.center
    position[2] -= float((wells.vertices @ turn[2]).min())
    return RestingPose(position, rotation.quaternion_from_matrix(turn), probability)


def _least_turn(down: np.ndarray) -> np.ndarray:
    """The rotation by the smallest angle that takes a unit vector to -z, shape (3, 3).

    Where that is upside down but for rounding, all axes are alike: it is about x.
    """
    if down[2] > 1.0 - UPSIDE_DOWN:
        return np.diag([1.0, -1.0, -1.0]) @ _shortest(down, 1.0)
    return _shortest(down, -1.0)


def _shortest(direction: np.ndarray, z: float) -> np.ndarray:
    """The rotation by the smallest angle that takes a unit vector to (0, 0, z), which is not opposite, (3, 3)."""
    axis = np.cross(direction, [0.0, 0.0, z])
    sine = float(np.linalg.norm(axis))
    return rotation.matrix_from_axis_angle(axis / max(sine, 1.0e-30), np.asarray(np.arctan2(sine, z * direction[2])))


class _Wells:
    """Facets of the convex hull as orientations of the object, and the wells of its height that they belong to.

    The height of the centre of mass with direction u down is h(u) = max over the hull's vertices v of u . v. Its minima
    are normals of facets; between two neighbouring facets it passes over their edge.
    """

    def __init__(self, obj: ObjectMesh) -> None:
        from scipy.spatial import ConvexHull, KDTree, QhullError

        try:
            hull = ConvexHull(obj.vertices - obj.center_of_mass)
        except QhullError:
            raise MeshError(
                obj.name, "it is flat, so it has no hull that could be dropped; give it a thickness"
            ) from None
        self.center = obj.center_of_mass
        self.vertices = hull.points[hull.vertices]
        """Of the hull, about the centre of mass [m], shape (vertex, 3)."""
        self.normal = unit(hull.equations[:, :3])
        self.height = -hull.equations[:, 3]
        self.tree = KDTree(self.normal)
        root = _merge(self.height, *_passes(hull, self.height), shallow=SHALLOW * obj.radius_of_gyration)
        self.lowest = self._representatives(root)

    def find(self, down: np.ndarray) -> np.ndarray:
        """The facet that stands for the well of each direction, shape (N,), of unit vectors (N, 3)."""
        return self.lowest[self.tree.query(down)[1]]

    def _representatives(self, root: np.ndarray) -> np.ndarray:
        """For each facet the lowest one of its well; where several are, the one that turns the object least."""
        level = self.height <= self.height[root] + 1.0e-6 * self.height.max()
        order = np.lexsort((self.normal[:, 2], ~level, root))
        first = order[np.unique(root[order], return_index=True)[1]]
        return first[np.searchsorted(root[first], root)]


def _passes(hull: Any, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbouring facets, shape (pass, 2), and the largest height on the way between them [m], (pass,)."""
    facet = np.repeat(np.arange(len(hull.simplices)), 3)
    other, corner = hull.neighbors.ravel(), np.tile(np.arange(3), len(hull.simplices))
    once = facet < other
    facet, other, corner = facet[once], other[once], corner[once]
    start, end = (hull.points[hull.simplices[facet, (corner + k) % 3]] for k in (1, 2))
    edge = unit(end - start)
    foot = start - (start * edge).sum(axis=1, keepdims=True) * edge
    # The foot of the centre of mass on the edge's line points straight down on the way if the normals are to its sides.
    side = np.cross(edge, foot)
    across = [(hull.equations[f, :3] * side).sum(axis=1) for f in (facet, other)]
    over = across[0] * across[1] < 0.0
    top = np.where(over, np.linalg.norm(foot, axis=1), np.maximum(height[facet], height[other]))
    return np.stack([facet, other], axis=1), top


def _merge(height: np.ndarray, pair: np.ndarray, top: np.ndarray, *, shallow: float) -> np.ndarray:
    """The lowest facet of the well that each facet belongs to, shape (facet,).

    Passes are opened from the lowest up. Where one joins two wells, the higher one goes under if it is not ``shallow``
    deep: the persistence of minima.
    """
    # Of equal passes, those that lead down steepest come first.
    order = np.lexsort((-np.abs(height[pair[:, 0]] - height[pair[:, 1]]), top))
    parent = list(range(len(height)))

    def root(facet: int) -> int:
        while parent[facet] != facet:
            parent[facet] = parent[parent[facet]]
            facet = parent[facet]
        return facet

    level = height.tolist()
    for (a, b), here in zip(pair[order].tolist(), top[order].tolist(), strict=True):
        low, high = sorted((root(a), root(b)), key=level.__getitem__)
        if here - level[high] < shallow:
            parent[high] = low
    return np.array([root(facet) for facet in range(len(parent))])


def _drop(obj: ObjectMesh, vertices: np.ndarray, drops: int, seed: int, drag: float) -> np.ndarray:
    """Directions of the object frame that point down where it has come to rest, shape (drops that rest, 3)."""
    from mujoco import rollout

    from .physics.workers import cores

    model = _scene(obj, _thinned(vertices), drag)
    turn = unit(np.random.default_rng(seed).normal(size=(drops, 4)))
    up = rotation.matrix_from_quaternion(turn)[:, 2]
    state = np.zeros((drops, mujoco().mj_stateSize(model, mujoco().mjtState.mjSTATE_FULLPHYSICS)))
    state[:, 3] = HEIGHT - np.array([(vertices @ one).min() for one in up])
    state[:, 4:8] = turn
    data = [mujoco().MjData(model) for _ in range(cores())]
    moving = np.arange(drops)
    for _ in range(round(LONGEST / LOOK)):
        path = rollout.rollout(model, data, state[moving], nstep=round(LOOK / model.opt.timestep))[0]
        state[moving] = np.asarray(path)[:, -1]
        speed = np.linalg.norm(state[moving, 8:11], axis=1)
        speed += obj.radius_of_gyration * np.linalg.norm(state[moving, 11:14], axis=1)
        moving = moving[~(speed < AT_REST)]
        if not len(moving):
            break
    if len(moving) > LARGEST_SHARE_MOVING * drops:
        raise MeshError(
            obj.name,
            f"{len(moving)} of {drops} drops have not come to rest on the table after {LONGEST:g} s; it has no resting "
            "pose to speak of: give an object that does not roll on, or more drag",
        )
    return -rotation.matrix_from_quaternion(np.delete(state[:, 4:8], moving, axis=0))[:, 2]


def _thinned(vertices: np.ndarray) -> np.ndarray:
    """The vertices, or where there are very many those that are farthest in directions all around."""
    if len(vertices) <= HULL_VERTICES:
        return vertices
    from .collision import fibonacci_sphere

    directions = np.array_split(fibonacci_sphere(HULL_VERTICES), 32)
    return vertices[np.unique(np.concatenate([(vertices @ part.T).argmax(axis=0) for part in directions]))]


def _scene(obj: ObjectMesh, vertices: np.ndarray, drag: float) -> Any:
    """A plane and a free hull, a ``mujoco.MjModel``; contacts as in the protocol fc6, and rolling friction."""
    spec = mujoco().MjSpec()
    set_options(spec.option, FC6)
    # Slip of micrometres decides nothing here, and takes most of the time.
    spec.option.noslip_iterations = 0
    spec.option.disableflags &= ~int(mujoco().mjtDisableBit.mjDSBL_GRAVITY)
    spec.worldbody.add_geom(type=mujoco().mjtGeom.mjGEOM_PLANE, size=[1.0, 1.0, 0.1])
    body = spec.worldbody.add_body()
    body.add_freejoint()
    moments, axes = principal(obj.inertia)
    body.explicitinertial = True
    body.mass, body.ipos, body.inertia = 1.0, np.zeros(3), moments
    body.iquat = rotation.quaternion_from_matrix(axes)
    add_hull(spec, "hull", vertices)
    body.add_geom(type=mujoco().mjtGeom.mjGEOM_MESH, meshname="hull")
    for geom in spec.geoms:
        geom.condim, geom.friction = 6, list(FRICTION)
        geom.solref, geom.solimp = list(FC6.hand_solref), [0.9, 0.95, 0.001, 0.5, 2.0]
    model = spec.compile()
    model.dof_damping[:3] = drag
    model.dof_damping[3:] = drag * obj.radius_of_gyration**2
    return model
