"""USD: a scene with the object and the hand, one grasp per time code, and the numbers of all grasps."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import rotation
from ..errors import FileFormatError, OptionError
from ..mesh import load_object
from ..result import POSE_FIELDS
from .conventions import named_pose
from .gather import gather, open_hand
from .meshes import find_mesh
from .target import whole_file

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..pose import Pose
    from ..result import Grasps

LOSES = "metrics that are not numbers, lift, table and arm"

FORMAT = "warpgrasp grasps in USD, version 1"
SUFFIXES = (".usda", ".usdc", ".usd")
PHASES = ("pregrasp", "grasp", "squeeze")
SHOWN = 100
"""Grasps that are played along the time line; the numbers of all are kept."""

MAX_BYTES = 512 * 1024**2
OBJECT_COLOR, HAND_COLOR = (0.93, 0.60, 0.30), (0.55, 0.62, 0.75)


def write(grasps: Grasps, path: Path) -> None:
    """The scene. Time code 3 i, 3 i + 1 and 3 i + 2 are pregrasp, grasp and squeeze of grasp i."""
    Gf, Sdf, Usd, UsdGeom, Vt = _pxr()
    poses = {phase: grasps.phases[phase] for phase in PHASES}
    with whole_file(path, *SUFFIXES) as temporary:
        stage = Usd.Stage.CreateNew(str(temporary))
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
        world = UsdGeom.Xform.Define(stage, "/World")
        stage.SetDefaultPrim(world.GetPrim())
        shown = min(len(grasps), SHOWN)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(3 * shown - 1)
        stage.SetTimeCodesPerSecond(3)
        if len(grasps.object_faces):
            _mesh(stage, "/World/object", grasps.object_vertices, grasps.object_faces, OBJECT_COLOR)
        frames = _link_frames(grasps.hand, poses, shown)
        UsdGeom.Xform.Define(stage, "/World/hand")
        for link, name in enumerate(grasps.hand.link_names):
            place = f"/World/hand/{_identifier(name)}"
            op = UsdGeom.Xform.Define(stage, place).AddTransformOp()
            for code, matrix in enumerate(frames[:, link]):
                op.Set(Gf.Matrix4d(matrix.T.tolist()), code)
            surface = grasps.hand.link_surface(link)
            if len(surface.faces):
                _mesh(stage, f"{place}/surface", surface.vertices, surface.faces, HAND_COLOR)
        prim = stage.DefinePrim("/World/grasps", "Scope")
        _set(prim, "format", Sdf.ValueTypeNames.String, FORMAT)
        for key, value in {
            "hand": grasps.hand_source,
            "handHash": grasps.hand_hash,
            "object": grasps.object_name,
            "info": json.dumps(grasps.info),
        }.items():
            _set(prim, key, Sdf.ValueTypeNames.String, value)
        _set(prim, "jointNames", Sdf.ValueTypeNames.StringArray, list(grasps.joint_names))
        _set(prim, "valid", Sdf.ValueTypeNames.BoolArray, Vt.BoolArray(grasps.valid.tolist()))
        _set(prim, "reason", Sdf.ValueTypeNames.StringArray, [str(text) for text in grasps.reason])
        for phase, pose in poses.items():
            for field in POSE_FIELDS:
                flat = np.ascontiguousarray(getattr(pose, field), np.float64).ravel()
                _set(prim, f"{phase}:{field}", Sdf.ValueTypeNames.DoubleArray, Vt.DoubleArray.FromNumpy(flat))
        for key, values in grasps.metrics.items():
            if values.dtype.kind in "biuf":
                flat = np.ascontiguousarray(values, np.float64)
                _set(
                    prim, f"metrics:{_identifier(key)}", Sdf.ValueTypeNames.DoubleArray, Vt.DoubleArray.FromNumpy(flat)
                )
        stage.GetRootLayer().Save()


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of a scene that :func:`write` wrote."""
    import trimesh as tm

    _, Sdf, _, _, _ = _pxr()
    if not path.is_file():
        raise FileFormatError(path, "there is no such file")
    if path.suffix.lower() not in SUFFIXES:
        raise FileFormatError(path, f"a USD scene ends in {', '.join(SUFFIXES)}")
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(path, f"it has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        # the layer alone: a stage would open every file that it refers to
        layer = Sdf.Layer.OpenAsAnonymous(str(path))
    except Exception as error:
        raise FileFormatError(path, "it is not a USD file, or it is damaged") from error
    if layer is None:
        raise FileFormatError(path, "it is not a USD file, or it is damaged")
    prim = layer.GetPrimAtPath("/World/grasps")
    values = {one.name.removeprefix("warpgrasp:"): one.default for one in prim.attributes} if prim else {}
    if values.get("format") != FORMAT:
        raise FileFormatError(path, f"it has no grasps of warpgrasp in it; readable is {FORMAT!r}")
    loaded, source = open_hand(path, hand, str(values["hand"]), str(values["handHash"]))
    names = [str(one) for one in values["jointNames"]]
    valid = np.array(values["valid"], bool)
    widths = dict(zip(POSE_FIELDS, (3, 4, len(names)), strict=True))

    def pose(phase: str) -> Pose:
        rows = []
        for field, width in widths.items():
            flat = np.array(values.get(f"{phase}:{field}", ()), float)
            if flat.size != width * len(valid):
                raise FileFormatError(path, f"{phase}:{field} has {flat.size} numbers, expected {width * len(valid)}")
            rows.append(flat.reshape(len(valid), width))
        return named_pose(path, loaded, rows[0], rows[1], dict(zip(names, rows[2].T, strict=True)))

    title = str(values["object"])
    points = layer.GetAttributeAtPath("/World/object.points")
    corners = layer.GetAttributeAtPath("/World/object.faceVertexIndices")
    own = None
    if points and corners:
        vertices, faces = np.array(points.default, float), np.array(corners.default).reshape(-1, 3)
        own = load_object(tm.Trimesh(vertices, faces, process=False), name=title)
    return gather(
        path,
        loaded,
        source,
        {phase: pose(phase) for phase in PHASES},
        mesh=find_mesh(mesh, (), 1.0, title) or own,
        object_name=title,
        valid=valid,
        reason=[str(one) for one in values["reason"]],
        metrics={
            key.removeprefix("metrics:"): np.array(one) for key, one in values.items() if key.startswith("metrics:")
        },
        info=json.loads(str(values.get("info", "{}"))),
    )


def _link_frames(hand: Hand, poses: dict[str, Pose], shown: int) -> np.ndarray:
    """Pose of each link in the object frame, shape (3 shown, L, 4, 4), phase by phase within each grasp."""
    frames = []
    for phase in PHASES:
        pose = poses[phase][:shown]
        base = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
        frames.append(base[:, None] @ hand.link_transforms(pose.joint_position))
    return np.stack(frames, axis=1).reshape(3 * shown, len(hand.links), 4, 4)


def _mesh(stage: Any, place: str, vertices: np.ndarray, faces: np.ndarray, color: tuple[float, float, float]) -> None:
    Gf, _, _, UsdGeom, Vt = _pxr()
    mesh = UsdGeom.Mesh.Define(stage, place)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vertices, np.float32)))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(faces, np.int32).ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDisplayColorAttr([Gf.Vec3f(*color)])


def _set(prim: Any, name: str, kind: Any, value: Any) -> None:
    prim.CreateAttribute(f"warpgrasp:{name}", kind, True).Set(value)


def _identifier(name: str) -> str:
    """A name that USD takes."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return clean if clean and not clean[0].isdigit() else f"_{clean}"


def _pxr() -> Any:
    if find_spec("pxr") is None:
        raise OptionError("USD needs usd-core: pip install 'warpgrasp[usd]'")
    from pxr import Gf, Sdf, Usd, UsdGeom, Vt

    return Gf, Sdf, Usd, UsdGeom, Vt
