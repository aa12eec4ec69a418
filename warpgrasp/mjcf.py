"""Reading MJCF, by way of MuJoCo's own compiler: defaults, includes and mesh folders are its business."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from . import rotation
from .description import Body, Connection, Description, identity, zeros
from .errors import HandError
from .hand import Actuator, Mimic, Shape, ShapeKind


def read_mjcf(path: Path) -> Description:
    """What an MJCF file says about the hand in it.

    The hand is the top-level body with the most hinges and slides below it; free joints, floors, objects and other
    bodies of the scene are left out. A body with several joints becomes a chain of links.

    Raises:
        HandError: MuJoCo refuses the file, or it holds no hinge or slide, or a ball joint.
    """
    model = _compile(path)
    base = _base_body(model, path)
    reader = _Reader(model, path, base)
    description = reader.description()
    description.inferred += _left_out(model, base)
    return description


def _mujoco() -> Any:
    # Its compiled half carries no types. Imported late: most users read URDF.
    return importlib.import_module("mujoco")


def _compile(path: Path) -> Any:
    mujoco = _mujoco()
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise HandError(path, f"MuJoCo cannot read it: {' '.join(str(error).split())}") from error


def _joints_below(model: Any) -> np.ndarray:
    """Number of hinges and slides in the subtree of each body."""
    mujoco = _mujoco()
    movable = np.isin(model.jnt_type, [mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE])
    count = np.bincount(model.jnt_bodyid[movable], minlength=model.nbody)
    for body in range(model.nbody - 1, 0, -1):
        count[model.body_parentid[body]] += count[body]
    return count


def _base_body(model: Any, path: Path) -> int:
    count = _joints_below(model)
    if count[0] == 0:
        raise HandError(path, "it has no movable joint (hinge or slide), so it is no hand")
    top = [body for body in range(1, model.nbody) if model.body_parentid[body] == 0]
    return max(top, key=lambda body: count[body])


def _left_out(model: Any, base: int) -> list[str]:
    """Sentences for what the file holds and the hand does not."""
    notes = []
    count = _joints_below(model)
    others = [b for b in range(1, model.nbody) if model.body_parentid[b] == 0 and b != base and count[b] > 0]
    if others:
        names = ", ".join(model.body(b).name or f"body {b}" for b in others)
        notes.append(f"The file holds further jointed bodies, which are left out: {names}.")
    pulled = np.unique(model.actuator_trnid[_pulls_tendon(model), 0])
    if model.ntendon > len(pulled):
        idle = model.ntendon - len(pulled)
        notes.append(f"{idle} tendons of the file are ignored: joints that they couple move independently.")
    return notes


def _pulls_tendon(model: Any) -> np.ndarray:
    """Which actuators pull a fixed tendon, a weighted sum of joints."""
    mujoco = _mujoco()
    pulls = model.actuator_trntype == mujoco.mjtTrn.mjTRN_TENDON
    for a in np.flatnonzero(pulls):
        first = model.tendon_adr[model.actuator_trnid[a, 0]]
        pulls[a] = model.wrap_type[first] == mujoco.mjtWrap.mjWRAP_JOINT
    return pulls


class _Reader:
    """Turns compiled bodies into links, joints and shapes."""

    def __init__(self, model: Any, path: Path, base: int) -> None:
        self.model = model
        self.path = path
        self.base = base
        self.names = {body: model.body(body).name or f"body_{body}" for body in self._subtree()}
        self.assumed: list[str] = []

    def description(self) -> Description:
        description = Description(self._name(), self.path, {}, [])
        for body in self.names:
            self._add_body(description, body)
        description.mimics = self._mimics(description)
        description.actuators = [self._tendon_motor(int(a)) for a in np.flatnonzero(_pulls_tendon(self.model))]
        description.inferred += self.assumed
        return description

    def _name(self) -> str:
        # The names of a compiled model start with that of the model itself.
        name = self.model.names[: self.model.names.index(b"\0")].decode()
        return self.path.stem if name in ("", "MuJoCo Model") else name

    def _subtree(self) -> list[int]:
        inside = [self.base]
        for body in range(self.base + 1, self.model.nbody):
            if self.model.body_parentid[body] in inside:
                inside.append(body)
        return inside

    def _add_body(self, description: Description, body: int) -> None:
        """A body and the joints that move it: parent -> (pivot links, one per joint) -> body."""
        name = self.names[body]
        content = self._body(body)
        joints = self._joints(body)
        if body == self.base:
            # The base frame is the pose of the base body; where the scene puts it does not matter.
            parent, position, quaternion = f"{name} base", zeros(), identity()
            if not joints:
                description.bodies[name] = content
                return
            description.bodies[parent] = Body(parent)
        else:
            parent = self.names[int(self.model.body_parentid[body])]
            position, quaternion = self.model.body_pos[body].copy(), self.model.body_quat[body].copy()
        anchor = zeros()
        for number, j in enumerate(joints):
            pivot = self.model.jnt_pos[j].copy()
            start = position + rotation.matrix_from_quaternion(quaternion) @ (pivot - anchor)
            last_in_place = number == len(joints) - 1 and not pivot.any()
            child = name if last_in_place else f"{name} pivot {number}"
            description.connections.append(self._connection(int(j), parent, child, start, quaternion))
            description.bodies[child] = content if last_in_place else Body(child)
            parent, position, quaternion, anchor = child, zeros(), identity(), pivot
        if name not in description.bodies:
            # Without a joint the body sits in its parent; else it hangs on the last pivot.
            position = position - anchor
            description.bodies[name] = content
            description.connections.append(Connection(f"{name} fixed", "fixed", parent, name, position, quaternion))

    def _joints(self, body: int) -> list[int]:
        mujoco = _mujoco()
        first, count = int(self.model.body_jntadr[body]), int(self.model.body_jntnum[body])
        joints = []
        for j in range(first, first + count):
            kind = self.model.jnt_type[j]
            if kind == mujoco.mjtJoint.mjJNT_BALL:
                raise HandError(
                    self.path, f"joint {self._joint_name(j)!r} is a ball joint; write it as three hinges instead"
                )
            if kind != mujoco.mjtJoint.mjJNT_FREE:
                joints.append(j)
        return joints

    def _joint_name(self, j: int) -> str:
        return self.model.joint(j).name or f"joint_{j}"

    def _connection(self, j: int, parent: str, child: str, position: np.ndarray, quaternion: np.ndarray) -> Connection:
        mujoco = _mujoco()
        name, axis = self._joint_name(j), self.model.jnt_axis[j].copy()
        hinge = self.model.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE
        # At q = ref the body is where the file puts it; our zero is q = 0.
        reference = float(self.model.qpos0[self.model.jnt_qposadr[j]])
        if hinge:
            back = rotation.quaternion_from_matrix(rotation.matrix_from_axis_angle(axis, np.array(-reference)))
            quaternion = rotation.multiply(quaternion, back)
        else:
            position = position - rotation.matrix_from_quaternion(quaternion) @ axis * reference
        lower, upper = self._limits(j, name, hinge)
        kind = "revolute" if hinge else "prismatic"
        effort = float(self.model.jnt_actfrcrange[j][1]) if self.model.jnt_actfrclimited[j] else self._motor(j)
        return Connection(name, kind, parent, child, position, quaternion, axis, lower, upper, effort)

    def _limits(self, j: int, name: str, hinge: bool) -> tuple[float, float]:
        if self.model.jnt_limited[j]:
            lower, upper = self.model.jnt_range[j]
            return float(lower), float(upper)
        if not hinge:
            raise HandError(self.path, f'joint {name!r} slides but has no limits; add range="..." to it')
        self.assumed.append(f"No limits are given for {name}: it may turn by ±pi.")
        return -math.pi, math.pi

    def _motor(self, j: int) -> float:
        """Largest force of an actuator that drives the joint alone; 0 where there is none."""
        mujoco = _mujoco()
        direct = self.model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
        for a in np.flatnonzero(direct & (self.model.actuator_trnid[:, 0] == j)):
            if self.model.actuator_forcelimited[a]:
                return float(self.model.actuator_forcerange[a, 1] * abs(self.model.actuator_gear[a, 0]))
        return 0.0

    def _tendon_motor(self, a: int) -> Actuator:
        """An actuator that pulls several joints at once; its position is the tendon's length times its gear."""
        tendon, gear = int(self.model.actuator_trnid[a, 0]), float(self.model.actuator_gear[a, 0])
        first, count = int(self.model.tendon_adr[tendon]), int(self.model.tendon_num[tendon])
        wraps = range(first, first + count)
        joints = {self._joint_name(self.model.wrap_objid[w]): gear * float(self.model.wrap_prm[w]) for w in wraps}
        limited = self.model.actuator_forcelimited[a]
        effort = float(self.model.actuator_forcerange[a, 1]) if limited else 0.0
        return Actuator(self.model.actuator(a).name or f"actuator_{a}", joints, effort=effort)

    def _body(self, body: int) -> Body:
        turn = rotation.matrix_from_quaternion(self.model.body_iquat[body])
        inertia = turn @ np.diag(self.model.body_inertia[body]) @ turn.T
        content = Body(self.names[body], float(self.model.body_mass[body]), self.model.body_ipos[body].copy(), inertia)
        first, count = int(self.model.body_geomadr[body]), int(self.model.body_geomnum[body])
        for geom in range(first, first + count):
            touches = self.model.geom_contype[geom] | self.model.geom_conaffinity[geom]
            shape = self._shape(geom)
            if shape is not None:
                (content.collisions if touches else content.visuals).append(shape)
        return content

    def _shape(self, geom: int) -> Shape | None:
        mujoco = _mujoco()
        size = self.model.geom_size[geom].copy()
        kinds: dict[int, tuple[ShapeKind, np.ndarray]] = {
            int(mujoco.mjtGeom.mjGEOM_BOX): ("box", size),
            int(mujoco.mjtGeom.mjGEOM_SPHERE): ("sphere", size[:1]),
            int(mujoco.mjtGeom.mjGEOM_CAPSULE): ("capsule", size[:2]),
            int(mujoco.mjtGeom.mjGEOM_CYLINDER): ("cylinder", size[:2]),
        }
        kind = int(self.model.geom_type[geom])
        position, quaternion = self.model.geom_pos[geom].copy(), self.model.geom_quat[geom].copy()
        if kind in kinds:
            return Shape(*kinds[kind], position, quaternion)
        if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            return Shape("mesh", np.zeros(0), position, quaternion, *_ellipsoid(size))
        if kind == mujoco.mjtGeom.mjGEOM_MESH:
            return Shape("mesh", np.zeros(0), position, quaternion, *self._mesh(int(self.model.geom_dataid[geom])))
        # Planes, height fields and the like belong to the scene.
        return None

    def _mesh(self, mesh: int) -> tuple[np.ndarray, np.ndarray]:
        vertex, vertices = self.model.mesh_vertadr[mesh], self.model.mesh_vertnum[mesh]
        face, faces = self.model.mesh_faceadr[mesh], self.model.mesh_facenum[mesh]
        return (
            self.model.mesh_vert[vertex : vertex + vertices].astype(float),
            self.model.mesh_face[face : face + faces].astype(np.int64),
        )

    def _mimics(self, description: Description) -> list[Mimic]:
        """Linear equality constraints between two joints."""
        mujoco = _mujoco()
        names = {c.name for c in description.connections}
        mimics = []
        for e in np.flatnonzero((self.model.eq_type == mujoco.mjtEq.mjEQ_JOINT) & (self.model.eq_active0 == 1)):
            joint, of = int(self.model.eq_obj1id[e]), int(self.model.eq_obj2id[e])
            name = self._joint_name(joint)
            if name not in names:
                continue
            constant, slope, *higher = self.model.eq_data[e, :5]
            if of < 0:
                self.assumed.append(f"The constraint that holds joint {name} still is ignored.")
            elif any(higher):
                self.assumed.append(f"The curved coupling of joint {name} is ignored: it moves independently.")
            else:
                # MuJoCo: q - ref = a0 + a1 (q_of - ref_of)
                ref, ref_of = (float(self.model.qpos0[self.model.jnt_qposadr[j]]) for j in (joint, of))
                offset = ref + constant - slope * ref_of
                mimics.append(Mimic(name, self._joint_name(of), float(slope), float(offset)))
        return mimics


def _ellipsoid(radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=3)
    return np.asarray(sphere.vertices) * radii, np.asarray(sphere.faces)
