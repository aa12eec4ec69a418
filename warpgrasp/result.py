"""What synthesis returns: labelled grasps, and the file they are kept in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import FileFormatError, ShapeError
from .files import save_arrays
from .hand import Hand
from .mesh import ObjectMesh
from .pose import Pose

if TYPE_CHECKING:
    from .arm_plan import ArmPlan
    from .resting import RestingPose

FORMAT = "warpgrasp grasps, version 1"
MAX_BYTES = 4 * 1024**3
"""Largest unpacked file that is read."""

POSE_FIELDS = ("wrist_position", "wrist_quaternion", "joint_position")


@dataclass(eq=False)
class Grasps:
    """N labelled grasps of one object by one hand, best first.

    Positions are in metres, angles in radians, quaternions w x y z. Every pose is the hand's base link in the
    object's frame, which is the frame of the mesh file after scaling.
    """

    joint_names: tuple[str, ...]
    """Names of all J movable joints, mimic joints included."""

    wrist_position: np.ndarray
    """Hand base frame in the object frame at the grasp [m], shape (N, 3)."""

    wrist_quaternion: np.ndarray
    """Unit quaternion w x y z of the same, shape (N, 4)."""

    joint_position: np.ndarray
    """Joint vectors at the grasp [rad or m], shape (N, J)."""

    pregrasp: Pose
    """Backed off and opened: where to be before closing."""

    squeeze: Pose
    """Position targets that press: where to command the joints after the grasp."""

    valid: np.ndarray
    """Whether the grasp passed every check, bool, shape (N,)."""

    reason: np.ndarray
    """The first check that it failed, "" where it is valid, str, shape (N,)."""

    metrics: dict[str, np.ndarray]
    """Arrays of shape (N,); the key names the unit and the convention."""

    hand_source: str
    """Bundled name or path that the hand was loaded from."""

    hand_hash: str
    """Hash of the hand, see ``Hand.hash``."""

    object_name: str

    object_vertices: np.ndarray
    """Of the object as it was grasped [m], shape (vertex, 3)."""

    object_faces: np.ndarray
    """Vertex indices, shape (face, 3)."""

    info: dict[str, Any] = field(default_factory=dict)
    """How the grasps were made: recipe, seed, version, device and so on (what JSON can hold)."""

    lift: Pose | None = None
    """Squeezed and raised off the table: where to be last; ``None`` for a grasp of other origin."""

    table: RestingPose | None = None
    """How the object rests on the table that the grasps respect; ``None`` where it floats."""

    arm: ArmPlan | None = None
    """Joints of the arm that brings the hand there; ``None`` without an arm."""

    def __post_init__(self) -> None:
        count, joints = len(self.wrist_position), len(self.joint_names)
        expected = {"wrist_position": (count, 3), "wrist_quaternion": (count, 4), "joint_position": (count, joints)}
        for phase, pose in self.phases.items():
            for name, shape in expected.items():
                if getattr(pose, name).shape != shape:
                    raise ShapeError(f"{phase}.{name}", str(shape), getattr(pose, name).shape)
        columns = {"valid": self.valid, "reason": self.reason} | {f"metrics[{k!r}]": v for k, v in self.metrics.items()}
        for name, column in columns.items():
            if column.shape != (count,):
                raise ShapeError(name, str((count,)), column.shape)

    def __len__(self) -> int:
        return len(self.wrist_position)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> Grasps:
        """The chosen grasps: a slice, indices, or a boolean mask such as ``grasps.valid``."""
        pick = np.arange(len(self))[index]
        return Grasps(
            joint_names=self.joint_names,
            **{name: getattr(self, name)[pick] for name in POSE_FIELDS},
            pregrasp=self.pregrasp[pick],
            squeeze=self.squeeze[pick],
            valid=self.valid[pick],
            reason=self.reason[pick],
            metrics={key: value[pick] for key, value in self.metrics.items()},
            hand_source=self.hand_source,
            hand_hash=self.hand_hash,
            object_name=self.object_name,
            object_vertices=self.object_vertices,
            object_faces=self.object_faces,
            info=self.info,
            lift=self.lift and self.lift[pick],
            table=self.table,
            arm=self.arm and self.arm[pick],
        )

    def __repr__(self) -> str:
        return f"<{len(self)} grasps of {self.object_name} by {self.hand_source}, {int(self.valid.sum())} valid>"

    @property
    def pose(self) -> Pose:
        """The grasp phase as a :class:`Pose`, like ``pregrasp`` and ``squeeze``."""
        return Pose(self.wrist_position, self.wrist_quaternion, self.joint_position)

    @property
    def actuator_position(self) -> np.ndarray:
        """What to send to the hand's motors at the grasp [rad or m], shape (N, M), in ``hand.actuator_names``' order.

        ``hand.actuator_position(grasps.squeeze.joint_position)`` is the same for another phase.
        """
        return self.hand.actuator_position(self.joint_position)

    @property
    def phases(self) -> dict[str, Pose]:
        """Poses by phase, in the order in which a robot takes them: pregrasp, grasp, squeeze and, where known, lift."""
        lift = {"lift": self.lift} if self.lift is not None else {}
        return {"pregrasp": self.pregrasp, "grasp": self.pose, "squeeze": self.squeeze} | lift

    @cached_property
    def hand(self) -> Hand:
        """The hand, loaded again where the grasps come from a file.

        Raises:
            FileFormatError: The hand is not the one that the grasps were made with.
        """
        from .hand_file import load_hand

        hand = load_hand(self.hand_source)
        if hand.hash != self.hand_hash:
            raise FileFormatError(self.hand_source, "this hand has changed since the grasps were made with it")
        return hand

    @cached_property
    def object(self) -> ObjectMesh:
        """The object, rebuilt from its vertices and faces."""
        import trimesh

        from .mesh import load_object

        return load_object(
            trimesh.Trimesh(self.object_vertices, self.object_faces, process=False), name=self.object_name
        )

    def save(self, path: str | Path) -> None:
        """Write everything to one ``.npz`` file that NumPy reads without pickle.

        The file appears whole or not at all. It holds the object's mesh, so it can be looked at anywhere.

        Raises:
            FileFormatError: The name does not end in ``.npz``, or the folder does not exist.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise FileFormatError(path, "grasps are saved as .npz; give a name that ends in .npz")
        if not path.parent.is_dir():
            raise FileFormatError(path, f"the folder {path.parent} does not exist")
        save_arrays(path, self._arrays())

    def _arrays(self) -> dict[str, Any]:
        arrays: dict[str, Any] = {"format": FORMAT, "joint_names": np.array(self.joint_names, dtype=str)}
        for phase, pose in self.phases.items():
            prefix = "" if phase == "grasp" else f"{phase}_"
            arrays |= {prefix + name: getattr(pose, name) for name in POSE_FIELDS}
        if self.table is not None:
            arrays |= {f"table_{name}": value for name, value in vars(self.table).items()}
        if self.arm is not None:
            arrays |= {f"arm_{name}": value for name, value in vars(self.arm).items() if name != "metrics"}
        arrays |= {"valid": self.valid, "reason": self.reason.astype(str)}
        arrays |= {f"metric_{key}": value for key, value in self.metrics.items()}
        for name in ("hand_source", "hand_hash", "object_name", "object_vertices", "object_faces"):
            arrays[name] = getattr(self, name)
        arrays["info"] = json.dumps(self.info)
        return {name: np.asarray(value) for name, value in arrays.items()}


def load_grasps(path: str | Path) -> Grasps:
    """Read what :meth:`Grasps.save` wrote. Nothing in the file is executed.

    Raises:
        FileFormatError: The file is missing, is not a grasp file, is damaged or is too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(path, "there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MAX_BYTES:
            raise FileFormatError(path, f"it unpacks to {size} bytes; at most {MAX_BYTES} are read")
        with np.load(path, allow_pickle=False) as archive:
            return _from_arrays(path, {name: archive[name] for name in archive.files})
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, OSError, MemoryError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(path, f"it is not a file of grasps, or it is damaged ({error})") from error


def _from_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Grasps:
    if str(arrays["format"]) != FORMAT:
        raise FileFormatError(path, f"it says it is {str(arrays['format'])!r}; this version reads {FORMAT!r}")

    def pose(prefix: str) -> Pose:
        return Pose(*(arrays[prefix + name] for name in POSE_FIELDS))

    metrics = {name.removeprefix("metric_"): arrays[name] for name in arrays if name.startswith("metric_")}
    return Grasps(
        joint_names=tuple(str(name) for name in arrays["joint_names"]),
        **{name: arrays[name] for name in POSE_FIELDS},
        pregrasp=pose("pregrasp_"),
        squeeze=pose("squeeze_"),
        valid=arrays["valid"].astype(bool),
        reason=arrays["reason"].astype(str),
        metrics=metrics,
        hand_source=str(arrays["hand_source"]),
        hand_hash=str(arrays["hand_hash"]),
        object_name=str(arrays["object_name"]),
        object_vertices=arrays["object_vertices"],
        object_faces=arrays["object_faces"],
        info=json.loads(str(arrays["info"])),
        lift=pose("lift_") if "lift_wrist_position" in arrays else None,
        table=_table(arrays) if "table_position" in arrays else None,
        arm=_arm(arrays, metrics) if "arm_joint_position" in arrays else None,
    )


def _table(arrays: Mapping[str, np.ndarray]) -> RestingPose:
    from .resting import RestingPose

    return RestingPose(arrays["table_position"], arrays["table_quaternion"], float(arrays["table_probability"]))


def _arm(arrays: Mapping[str, np.ndarray], metrics: dict[str, np.ndarray]) -> ArmPlan:
    from .arm_plan import ArmPlan

    return ArmPlan(
        joint_names=tuple(str(name) for name in arrays["arm_joint_names"]),
        joint_position=arrays["arm_joint_position"],
        reason=arrays["arm_reason"].astype(str),
        metrics={key: value for key, value in metrics.items() if key.startswith("arm_")},
        arm_source=str(arrays["arm_arm_source"]),
        arm_hash=str(arrays["arm_arm_hash"]),
        base_position=arrays["arm_base_position"],
        base_quaternion=arrays["arm_base_quaternion"],
        mount_position=arrays["arm_mount_position"],
        mount_quaternion=arrays["arm_mount_quaternion"],
        world_from_object=arrays["arm_world_from_object"],
    )
