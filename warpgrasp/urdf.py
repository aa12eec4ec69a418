"""Reading URDF."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from . import rotation
from .description import Body, Connection, Description, identity, zeros
from .errors import HandError
from .hand import Mimic, Shape
from .hand_mesh import MeshFolder
from .xml_file import read_xml

KINDS = {"revolute": "revolute", "continuous": "revolute", "prismatic": "prismatic", "fixed": "fixed"}


def read_urdf(path: Path, *, root: Path | None = None, geometry: str = "collision") -> Description:
    """What a URDF says.

    Args:
        path: The file.
        root: Folder below which meshes may lie and ``package://`` is looked up; found by walking up when omitted.
        geometry: The geometry whose meshes must exist; missing ones of the other kind are only noted.

    Raises:
        HandError: The file breaks URDF's rules or a mesh cannot be read.
        FileFormatError: The file is missing or no safe XML.
    """
    element = read_xml(path)
    if element.tag != "robot":
        raise HandError(path, f"its outermost element is <{element.tag}>; a URDF starts with <robot>")
    if any(child.tag.startswith("xacro:") for child in element.iter()):
        raise HandError(path, "it is a xacro template; expand it first: `xacro hand.urdf.xacro > hand.urdf`")
    reader = _Reader(path, MeshFolder(path, root), geometry)
    bodies = [reader.body(link) for link in element.findall("link")]
    names = [body.name for body in bodies]
    for name in names:
        if names.count(name) > 1:
            raise HandError(path, f"two links are called {name!r}")
    description = Description(element.get("name") or path.stem, path, {body.name: body for body in bodies}, [])
    if not bodies:
        raise HandError(path, "it has no links")
    for joint in element.findall("joint"):
        description.connections.append(reader.connection(joint))
        if (mimic := joint.find("mimic")) is not None:
            description.mimics.append(reader.mimic(joint, mimic))
    description.inferred += reader.notes()
    return description


class _Reader:
    """Turns elements into bodies and connections, and remembers what it had to assume."""

    def __init__(self, path: Path, meshes: MeshFolder, geometry: str) -> None:
        self.path = path
        self.meshes = meshes
        self.geometry = geometry
        self.without_limits: list[str] = []
        self.without_inertia: list[str] = []
        self.without_picture: list[str] = []

    def notes(self) -> list[str]:
        notes = []
        if self.without_limits:
            notes.append(f"No limits are given for {', '.join(self.without_limits)}: they may turn by ±pi.")
        if self.without_inertia:
            notes.append(f"No mass is given for links {', '.join(self.without_inertia)}: they weigh nothing.")
        if self.without_picture:
            notes.append(f"Meshes of the geometry that is not used are missing: {', '.join(self.without_picture)}.")
        return notes

    def body(self, link: Element) -> Body:
        body = Body(self._name(link))
        body.collisions = self._shapes(link, "collision")
        body.visuals = self._shapes(link, "visual")
        inertial = link.find("inertial")
        if inertial is None:
            if body.collisions or body.visuals:
                self.without_inertia.append(body.name)
            return body
        where = f"inertial of link {body.name!r}"
        body.center_of_mass, quaternion = self._origin(inertial, where)
        turn = rotation.matrix_from_quaternion(quaternion)
        body.mass = self._number(inertial.find("mass"), "value", where, 0.0)
        if body.mass < 0.0:
            raise HandError(self.path, f"{where}: mass is {body.mass:g} kg")
        body.inertia = turn @ self._inertia(inertial, where) @ turn.T
        return body

    def connection(self, joint: Element) -> Connection:
        name = self._name(joint)
        where = f"joint {name!r}"
        kind = joint.get("type", "")
        if kind not in KINDS:
            raise HandError(self.path, f"{where} has type {kind!r}; only {', '.join(KINDS)} work")
        position, quaternion = self._origin(joint, where)
        ends = [self._link_of(joint, tag, where) for tag in ("parent", "child")]
        connection = Connection(name, KINDS[kind], *ends, position, quaternion)  # type: ignore[arg-type]
        if kind == "fixed":
            return connection
        connection.axis = self._axis(joint, where)
        limit = joint.find("limit")
        connection.lower, connection.upper = self._limits(limit, kind, name, where)
        connection.effort = self._number(limit, "effort", where, 0.0)
        connection.velocity = self._number(limit, "velocity", where, 0.0)
        return connection

    def mimic(self, joint: Element, mimic: Element) -> Mimic:
        where = f"mimic of joint {joint.get('name')!r}"
        of = mimic.get("joint")
        if not of:
            raise HandError(self.path, f"{where} does not name the joint it follows")
        multiplier = self._number(mimic, "multiplier", where, 1.0)
        return Mimic(self._name(joint), of, multiplier, self._number(mimic, "offset", where, 0.0))

    def _limits(self, limit: Element | None, kind: str, name: str, where: str) -> tuple[float, float]:
        absent = limit is None or (limit.get("lower") is None and limit.get("upper") is None)
        if kind == "continuous" or absent:
            if kind == "prismatic":
                raise HandError(self.path, f'{where} slides but has no limits; add <limit lower="..." upper="..."/>')
            self.without_limits.append(name)
            return -math.pi, math.pi
        lower = self._number(limit, "lower", where, 0.0)
        upper = self._number(limit, "upper", where, 0.0)
        if lower > upper:
            raise HandError(self.path, f"{where} has a lower limit of {lower:g} above its upper limit of {upper:g}")
        return lower, upper

    def _axis(self, joint: Element, where: str) -> np.ndarray:
        axis = self._numbers(joint.find("axis"), "xyz", 3, where, np.array([1.0, 0.0, 0.0]))
        length = float(np.linalg.norm(axis))
        if length < 1e-9:
            raise HandError(self.path, f"{where} has an axis of length zero")
        return axis / length

    def _link_of(self, joint: Element, tag: str, where: str) -> str:
        element = joint.find(tag)
        link = element.get("link") if element is not None else None
        if not link:
            raise HandError(self.path, f"{where} has no <{tag} link=.../>")
        return link

    def _inertia(self, inertial: Element, where: str) -> np.ndarray:
        element = inertial.find("inertia")
        xx, yy, zz = (self._number(element, key, where, 0.0) for key in ("ixx", "iyy", "izz"))
        xy, xz, yz = (self._number(element, key, where, 0.0) for key in ("ixy", "ixz", "iyz"))
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

    def _shapes(self, link: Element, tag: str) -> list[Shape]:
        named: list[tuple[str, Shape]] = []
        for element in link.findall(tag):
            geometry = element.find("geometry")
            where = f"{tag} of link {link.get('name')!r}"
            if geometry is None or len(geometry) == 0:
                raise HandError(self.path, f"{where} has no geometry")
            position, quaternion = self._origin(element, where)
            try:
                shape = self._shape(geometry[0], position, quaternion, where)
            except HandError:
                if tag == self.geometry or not link.findall(self.geometry):
                    raise
                self.without_picture.append(geometry[0].get("filename", "?"))
                continue
            named.append((element.get("name", ""), shape))
        return _fuse_capsules(named)

    def _shape(self, element: Element, position: np.ndarray, quaternion: np.ndarray, where: str) -> Shape:
        kind = element.tag.rpartition(":")[2]
        if kind == "mesh":
            return self._mesh(element, position, quaternion, where)
        if kind == "box":
            size = 0.5 * self._numbers(element, "size", 3, where, None)
        elif kind == "sphere":
            size = self._numbers(element, "radius", 1, where, None)
        elif kind in ("cylinder", "capsule"):
            radius = self._numbers(element, "radius", 1, where, None)
            size = np.append(radius, 0.5 * self._numbers(element, "length", 1, where, None))
        else:
            raise HandError(
                self.path, f"{where} is a <{element.tag}>; box, sphere, cylinder, capsule and mesh can be read"
            )
        if (size <= 0.0).any():
            raise HandError(self.path, f"{where}: a {kind} needs positive sizes, got {size}")
        return Shape(kind, size, position, quaternion)  # type: ignore[arg-type]

    def _mesh(self, element: Element, position: np.ndarray, quaternion: np.ndarray, where: str) -> Shape:
        filename = element.get("filename")
        if not filename:
            raise HandError(self.path, f"{where}: its mesh has no file name")
        scale = self._numbers(element, "scale", 3, where, np.ones(3))
        if (scale == 0.0).any():
            raise HandError(self.path, f"{where}: mesh {filename!r} has a scale of zero")
        vertices, faces = self.meshes.read(filename, scale)
        return Shape("mesh", np.zeros(0), position, quaternion, vertices, faces)

    def _origin(self, parent: Element, where: str) -> tuple[np.ndarray, np.ndarray]:
        element = parent.find("origin")
        if element is None:
            return zeros(), identity()
        rpy = self._numbers(element, "rpy", 3, where, np.zeros(3))
        return self._numbers(element, "xyz", 3, where, np.zeros(3)), rotation.quaternion_from_rpy(rpy)

    def _name(self, element: Element) -> str:
        name = element.get("name")
        if not name:
            raise HandError(self.path, f"a <{element.tag}> has no name")
        return name

    def _number(self, element: Element | None, key: str, where: str, default: float) -> float:
        return float(self._numbers(element, key, 1, where, np.array([default]))[0])

    def _numbers(
        self, element: Element | None, key: str, count: int, where: str, default: np.ndarray | None
    ) -> np.ndarray:
        """Finite numbers of an attribute; the default where it is absent."""
        text = element.get(key) if element is not None else None
        if text is None:
            if default is None:
                raise HandError(self.path, f"{where}: {key!r} is missing")
            return default
        try:
            values = np.array([float(word) for word in text.split()])
        except ValueError:
            values = np.array([np.nan])
        if len(values) != count or not np.isfinite(values).all():
            raise HandError(self.path, f"{where}: {key}={text!r} should be {count} finite number{'s'[: count > 1]}")
        return values


def _fuse_capsules(named: list[tuple[str, Shape]]) -> list[Shape]:
    """URDF has no capsule: a cylinder ``X_capsule`` with spheres ``X_capsule_a`` and ``X_capsule_b`` is one."""
    caps = {name for name, shape in named if shape.kind == "sphere"}
    shapes = []
    fused: set[str] = set()
    for name, shape in named:
        ends = {f"{name}_a", f"{name}_b"}
        if shape.kind == "cylinder" and name.endswith("_capsule") and ends <= caps:
            fused |= ends
            shape = Shape("capsule", shape.size, shape.position, shape.quaternion)  # noqa: PLW2901
        shapes.append((name, shape))
    return [shape for name, shape in shapes if name not in fused]
