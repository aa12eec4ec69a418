"""Files that Isaac Gym reads: a hand with soft pads and an object as URDF, tetrahedra as .tet."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..hand import Hand, Shape
from ..mesh import ObjectMesh
from .material import Material
from .pads import FingerPad, PadMesh


def write_tet(mesh: PadMesh, path: Path) -> None:
    """Vertices as ``v x y z`` [m], then elements as ``t a b c d``, counted from 0."""
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices]
    lines += [f"t {a} {b} {c} {d}" for a, b, c, d in mesh.tetrahedra]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_hand(hand: Hand, pads: Sequence[FingerPad], material: Material, folder: Path) -> None:
    """``hand.urdf`` with its joints, rigid links and pads; links that have a pad touch with nothing else.

    A pad is a link of its own, fixed to the link that carries it. Vertices within a tenth of a millimetre of that link
    are attached to it, so it has a thin plate under each glued vertex's layer: the pad's own glued face.
    """
    robot = ET.Element("robot", name="hand")
    padded = {pad.link: number for number, pad in enumerate(pads)}
    for number, link in enumerate(hand.links):
        element = ET.SubElement(robot, "link", name=f"link_{number}")
        _inertial(element, max(link.mass, 0.02))
        if number not in padded:
            for index, shape in enumerate(link.shapes):
                _collision(element, shape, folder, f"link_{number}_{index}")
        for index, pad in enumerate(pads):
            if pad.link == number:
                _glue(element, pad, folder, f"glue_{index}")
    for child, joint in enumerate(hand.joints, start=1):
        element = ET.SubElement(robot, "joint", name=joint.name, type=joint.kind)
        ET.SubElement(element, "parent", link=f"link_{joint.parent}")
        ET.SubElement(element, "child", link=f"link_{child}")
        _origin(element, joint.position, joint.quaternion)
        ET.SubElement(element, "axis", xyz=_text(joint.axis))
        ET.SubElement(
            element, "limit", lower=f"{joint.lower:.9g}", upper=f"{joint.upper:.9g}",
            effort=f"{joint.effort or 100.0:.9g}", velocity=f"{joint.velocity or 10.0:.9g}",
        )  # fmt: skip
    for index, pad in enumerate(pads):
        write_tet(pad.mesh, folder / f"pad_{index}.tet")
        link = ET.SubElement(robot, "link", name=f"pad_{index}")
        fem = ET.SubElement(link, "fem")
        ET.SubElement(fem, "origin", xyz="0 0 0", rpy="0 0 0")
        for tag, value in (
            ("density", material.density), ("youngs", material.youngs_modulus), ("poissons", material.poisson_ratio),
            ("damping", material.damping), ("attachDistance", 1.0e-4),
        ):  # fmt: skip
            ET.SubElement(fem, tag, value=f"{value:.9g}")
        ET.SubElement(fem, "tetmesh", filename=f"pad_{index}.tet")
        joint = ET.SubElement(robot, "joint", name=f"pad_{index}_fixed", type="fixed")
        ET.SubElement(joint, "parent", link=f"link_{pad.link}")
        ET.SubElement(joint, "child", link=f"pad_{index}")
        from .. import rotation

        _origin(joint, pad.pose[:3, 3], rotation.quaternion_from_matrix(pad.pose[:3, :3]))
    _write(robot, folder / "hand.urdf")


def write_object(obj: ObjectMesh, pieces: Sequence[np.ndarray], mass: float, folder: Path) -> None:
    """``object.urdf`` of convex pieces (corner, 3) in the object frame [m]."""
    import trimesh

    robot = ET.Element("robot", name="object")
    link = ET.SubElement(robot, "link", name="object")
    inertial = ET.SubElement(link, "inertial")
    ET.SubElement(inertial, "origin", xyz=_text(obj.center_of_mass), rpy="0 0 0")
    ET.SubElement(inertial, "mass", value=f"{mass:.9g}")
    moment = mass * obj.inertia
    ET.SubElement(
        inertial, "inertia", ixx=f"{moment[0, 0]:.9g}", iyy=f"{moment[1, 1]:.9g}", izz=f"{moment[2, 2]:.9g}",
        ixy=f"{moment[0, 1]:.9g}", ixz=f"{moment[0, 2]:.9g}", iyz=f"{moment[1, 2]:.9g}",
    )  # fmt: skip
    for index, piece in enumerate(pieces):
        name = f"object_{index}.obj"
        trimesh.PointCloud(piece).convex_hull.export(folder / name)
        geometry = ET.SubElement(ET.SubElement(link, "collision"), "geometry")
        ET.SubElement(geometry, "mesh", filename=name)
    _write(robot, folder / "object.urdf")


def _inertial(link: ET.Element, mass: float) -> None:
    inertial = ET.SubElement(link, "inertial")
    ET.SubElement(inertial, "mass", value=f"{mass:.9g}")
    ET.SubElement(inertial, "inertia", ixx="1e-5", iyy="1e-5", izz="1e-5", ixy="0", ixz="0", iyz="0")


def _glue(link: ET.Element, pad: FingerPad, folder: Path, name: str) -> None:
    """The surface that a pad's glued vertices lie on, as a mesh of the link."""
    import trimesh

    corners = pad.mesh.tetrahedra
    faces = np.concatenate([corners[:, f] for f in ([0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2])])
    faces = faces[pad.mesh.glued[faces].all(axis=1)]
    place = pad.mesh.vertices @ pad.pose[:3, :3].T + pad.pose[:3, 3]
    trimesh.Trimesh(place, faces).export(folder / f"{name}.obj")
    ET.SubElement(ET.SubElement(ET.SubElement(link, "collision"), "geometry"), "mesh", filename=f"{name}.obj")


def _collision(link: ET.Element, shape: Shape, folder: Path, name: str) -> None:
    collision = ET.SubElement(link, "collision")
    geometry = ET.Element("geometry")
    match shape.kind:
        case "box":
            _origin(collision, shape.position, shape.quaternion)
            ET.SubElement(geometry, "box", size=_text(2.0 * shape.size))
        case "sphere":
            _origin(collision, shape.position, shape.quaternion)
            ET.SubElement(geometry, "sphere", radius=f"{shape.size[0]:.9g}")
        case "cylinder":
            _origin(collision, shape.position, shape.quaternion)
            ET.SubElement(geometry, "cylinder", radius=f"{shape.size[0]:.9g}", length=f"{2.0 * shape.size[1]:.9g}")
        case _:
            # URDF has no capsules; their hull is what they are.
            shape.trimesh().convex_hull.export(folder / f"{name}.obj")
            ET.SubElement(geometry, "mesh", filename=f"{name}.obj")
    collision.append(geometry)


def _origin(element: ET.Element, position: np.ndarray, quaternion: np.ndarray) -> None:
    from scipy.spatial.transform import Rotation

    rpy = Rotation.from_quat(np.roll(quaternion, -1)).as_euler("xyz")
    ET.SubElement(element, "origin", xyz=_text(position), rpy=_text(rpy))


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value + 0.0:.9g}" for value in np.asarray(values, float))


def _write(robot: ET.Element, path: Path) -> None:
    ET.indent(robot)
    ET.ElementTree(robot).write(path, encoding="utf-8", xml_declaration=True)
