"""What a soft-body check finds, and the file it is kept in."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError
from ..files import save_arrays

FORMAT = "warpgrasp tactile results, version 1"

DIRECTIONS = ("-x", "+x", "-y", "+y", "-z", "+z")
"""Of gravity, along the object's axes."""

AXES = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], float)
"""The same as vectors."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TactileResults:
    """N grasps closed on soft pads and pulled six ways. Pads are P, their samples S, taxels K, contacts C.

    Contacts 0 to P S - 1 are the samples pad by pad, the others points of links without pads. A place without contact
    has no force. Forces, contacts and joints are those of the closed hand before gravity pulls.
    """

    backend: str

    finger_names: tuple[str, ...]
    """Of the pads."""

    passed: np.ndarray
    """bool, shape (N,)."""

    reason: np.ndarray
    """Why not, "" where it passed, str, shape (N,)."""

    fingers_touching: np.ndarray
    """Fingers that press on the object with any of their links, shape (N,)."""

    joint_position: np.ndarray
    """Refined joint vectors: closed on the object [rad or m], shape (N, J)."""

    closure: np.ndarray
    """How far each closing motion has gone [m], shape (N, closure)."""

    finger_wrench: np.ndarray
    """On each pad: force [N] and torque about the pad frame's origin [N m], pad frame, shape (N, P, 6)."""

    taxel_force: np.ndarray
    """``biotac3d``: on each taxel, pad frame [N], shape (N, P, K, 3)."""

    taxel_position: np.ndarray
    """On the undeformed skin, pad frame [m], shape (P, K, 3)."""

    taxel_normal: np.ndarray
    """Unit outward normals there, shape (P, K, 3)."""

    net_force: np.ndarray
    """``net1d``: pressing force on the region in the middle of each pad [N], shape (N, P)."""

    contact_position: np.ndarray
    """Object frame [m], NaN where nothing touches, shape (N, C, 3)."""

    contact_normal: np.ndarray
    """Unit, into the object, object frame, NaN where nothing touches, shape (N, C, 3)."""

    contact_force: np.ndarray
    """On the object, object frame [N], 0 where nothing touches, shape (N, C, 3)."""

    contact_link: np.ndarray
    """Link that touches, -1 where none does, shape (N, C)."""

    contact_pad: np.ndarray
    """Pad of each contact, -1 for links without one, shape (C,)."""

    slip_ratio: np.ndarray
    """|tangential| / (mu normal) of each contact, NaN where nothing touches, shape (N, C)."""

    pad_displacement: np.ndarray
    """Of the samples, pad frame [m], shape (N, P, S, 3)."""

    indentation: np.ndarray
    """Deepest displacement of each pad's skin against its normal [m], shape (N, P)."""

    strain: np.ndarray
    """Principal strain, by size, that a twentieth of each pad's elements exceed, shape (N, P). The largest of all says
    little: it grows at the edge of a contact as elements get smaller."""

    closing_displacement: np.ndarray
    """How far closing has pushed the object [m], shape (N,)."""

    closing_rotation: np.ndarray
    """And turned it [rad], shape (N,)."""

    object_position: np.ndarray
    """Of the object's frame in its frame at the start, hand closed [m], shape (N, 3)."""

    object_quaternion: np.ndarray
    """The same, w x y z, shape (N, 4)."""

    object_displacement: np.ndarray
    """Of the centre of mass under gravity from ``DIRECTIONS`` [m], shape (N, 6)."""

    object_rotation: np.ndarray
    """[rad], shape (N, 6)."""

    residual: np.ndarray
    """Largest unbalanced force, or torque per length, closed and then in the six directions, as a share of the sum of
    all contact forces, shape (N, 7)."""

    carried: np.ndarray
    """Share of the weight that the contacts carry in the six directions, shape (N, 6)."""

    info: dict[str, Any] = field(default_factory=dict)
    """Material, loads, solver and versions: what JSON can hold."""

    def __len__(self) -> int:
        return len(self.passed)

    @property
    def normal_force(self) -> np.ndarray:
        """Size of each contact's normal force [N], shape (N, C)."""
        return np.maximum(np.nansum(self.contact_force * self.contact_normal, axis=2), 0.0)

    @property
    def grip_force(self) -> np.ndarray:
        """Sum of the normal forces [N], shape (N,)."""
        return self.normal_force.sum(axis=1)

    @property
    def loaded(self) -> np.ndarray:
        """Which pads press with more than a hundredth of the grip force, bool, shape (N, P)."""
        per_pad = np.linalg.norm(self.finger_wrench[..., :3], axis=2)
        return per_pad > np.maximum(0.01 * self.grip_force[:, None], 1.0e-6)

    def save(self, path: str | Path) -> None:
        """Write every field to a ``.npz`` file that NumPy reads without pickle; it appears whole or not at all.

        Raises:
            FileFormatError: The name does not end in ``.npz``, or the folder does not exist.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise FileFormatError(path, "tactile results are saved as .npz; give a name that ends in .npz")
        if not path.parent.is_dir():
            raise FileFormatError(path, f"the folder {path.parent} does not exist")
        arrays: dict[str, Any] = {"format": FORMAT}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            arrays[item.name] = json.dumps(value) if item.name == "info" else np.asarray(value)
        save_arrays(path, arrays)


def load_tactile(path: str | Path) -> TactileResults:
    """Read what :meth:`TactileResults.save` wrote.

    Raises:
        FileFormatError: The file is missing, damaged or something else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        if str(arrays.pop("format")) != FORMAT:
            raise FileFormatError(path, f"this version reads {FORMAT!r}")
        values: dict[str, Any] = dict(arrays)
        values["backend"] = str(values["backend"])
        values["finger_names"] = tuple(str(name) for name in values["finger_names"])
        values["info"] = json.loads(str(values["info"]))
        return TactileResults(**values)
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, OSError, TypeError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(path, f"it is no file of tactile results, or it is damaged ({error})") from error


STRAIN_SHARE = 0.95
"""Share of a pad's elements whose strain is at most the strain of the pad."""


def pad_strain(operator: np.ndarray, force: np.ndarray) -> np.ndarray:
    """Strain of a pad (N,) from its elements' strains per force (6 tetrahedron, 3 sample) and forces (N, S, 3)."""
    tensor = (force.reshape(len(force), -1).astype(np.float32) @ operator.T).reshape(len(force), -1, 6)
    full = tensor[..., [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(*tensor.shape[:2], 3, 3)
    return np.quantile(np.abs(np.linalg.eigvalsh(full)).max(axis=2), STRAIN_SHARE, axis=1)


def verdict(values: dict[str, np.ndarray], load: Any, touching: np.ndarray, least: int) -> np.ndarray:
    """Why each grasp fails, "" where it passes, shape (N,).

    Args:
        values: ``closing_residual`` (N,), ``residual`` (N, 6), ``carried``, ``object_displacement``,
            ``object_rotation`` (N, 6), ``strain`` (N,), ``closing_displacement``, ``closing_rotation`` (N,).
        load: Limits.
        touching: How many fingers press, shape (N,).
        least: How many have to.
    """
    reason = np.full(len(touching), "", dtype="<U80")

    def fail(which: np.ndarray, text: np.ndarray | str) -> None:
        reason[:] = np.where((reason == "") & which, text, reason)

    bad = np.any([np.isnan(v.reshape(len(reason), -1)).any(axis=1) for v in values.values()], axis=0)
    fail(bad, "not finite")
    pushed = (values["closing_displacement"] > 4.0 * load.largest_displacement) | (
        values["closing_rotation"] > 4.0 * load.largest_rotation
    )
    fail(pushed | np.isinf(values["closing_residual"]), "closing pushes the object away")
    count = np.char.add(np.char.add(touching.astype(str), " fingers touch, needs "), str(least))
    fail(touching < least, np.char.replace(count, "1 fingers touch", "1 finger touches"))
    fail(~(values["closing_residual"] <= load.largest_residual), "closing finds no balance")
    for index, name in enumerate(DIRECTIONS):
        fail(~(values["carried"][:, index] >= load.least_carried), f"gravity {name}: the object slips")
        fail(~(values["residual"][:, index] <= load.largest_residual), f"gravity {name}: no balance of torques")
        fail(values["object_displacement"][:, index] > load.largest_displacement, f"gravity {name}: moved too far")
        fail(values["object_rotation"][:, index] > load.largest_rotation, f"gravity {name}: turned too far")
    fail(values["strain"] > load.largest_strain, "strain too large for linear elasticity")
    return reason


PER_GRASP = (
    "passed", "reason", "fingers_touching", "joint_position", "closure", "finger_wrench", "taxel_force", "net_force",
    "contact_position", "contact_normal", "contact_force", "contact_link", "slip_ratio", "pad_displacement",
    "indentation", "strain", "closing_displacement", "closing_rotation", "object_position", "object_quaternion",
    "object_displacement", "object_rotation", "residual", "carried",
)  # fmt: skip
"""Fields with one entry for each grasp."""


def take(results: TactileResults, grasps: Any) -> TactileResults:
    """The results of some grasps."""
    return dataclasses.replace(results, **{name: getattr(results, name)[grasps] for name in PER_GRASP})


def join(parts: list[TactileResults]) -> TactileResults:
    """Results one after the other."""
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_GRASP}
    return dataclasses.replace(parts[0], **columns)
