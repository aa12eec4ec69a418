"""Loading an arm: a bundled name or a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from .annotation import Reader
from .arm import Arm
from .description import Connection, Description
from .errors import ArmError, ArmNotFoundError, FileFormatError, HandError
from .hand import unknown_name
from .infer_neighbours import adjacent, infer_neighbours
from .tree import build

KEYS = ("description", "source", "flange", "payload", "home", "mounts")
"""Keys of arm.yaml; each may be left out."""

USUAL_FLANGES = ("tool0", "flange", "attachment", "ee_link")
"""Names that files give to the frame that a hand is bolted to; the first that exists on the last link is taken."""


def load_arm(arm: str | Path | Arm, *, flange: str | None = None, root: str | Path | None = None) -> Arm:
    """Load an arm.

    A URDF is enough. Its joints are those on the way to the flange; what hangs on other movable joints, such as a
    gripper, is left out. An ``arm.yaml`` or ``<stem>.yaml`` beside it may give payload, home position and mounts.

    Args:
        arm: Name of a bundled arm, path of a ``.urdf`` file, or an arm, which is returned as it is.
        flange: Frame (URDF link) that hands are bolted to. By default what the YAML says, or else ``tool0``,
            ``flange`` or the end of the chain.
        root: Folder below which meshes may be read, see :func:`load_hand`.

    Raises:
        ArmNotFoundError: There is no bundled arm of that name.
        FileFormatError: The file is missing or cannot be read at all.
        ArmError: The file is read, but does not describe an arm that can be used.
    """
    if isinstance(arm, Arm):
        return arm
    path, name = _find(arm)
    try:
        return _load(path, name, flange, Path(root) if root is not None else None)
    except HandError as error:
        raise ArmError(*str(error).split(": ", 1)) from error


def _load(path: Path, name: str, flange: str | None, root: Path | None) -> Arm:
    from .urdf import read_urdf

    said = _ArmYaml.beside(path)
    description = read_urdf(path, root=root)
    flange = flange or (said.text("flange") if said else None) or _last_frame(description)
    if flange not in description.bodies:
        raise ArmError(path, unknown_name("frame", flange, description.bodies))
    _keep_chain(description, flange)
    description.name = name or description.name
    tree = build(description)
    home = np.clip(0.5 * (tree.lower + tree.upper), tree.lower, tree.upper)
    if said and "home" in said:
        # A flange further back than that of the YAML has the first of its joints.
        home = said.joints("home", tree.lower, tree.upper, cut=flange != said.text("flange"))
    tree = dataclasses.replace(tree, open_position=home)
    tree = dataclasses.replace(tree, neighbours=adjacent(tree) | infer_neighbours(tree))
    return Arm(
        name=description.name,
        tree=tree,
        flange=flange,
        payload=said.positive("payload") if said else None,
        home=home,
        mounts=said.mounts() if said else {},
        description=(said.text("description") if said else None) or "",
    )


def _find(arm: str | Path) -> tuple[Path, str]:
    from .arms import folder, names

    if isinstance(arm, str) and arm in names():
        return folder() / arm / "arm.urdf", arm
    path = Path(arm).expanduser()
    if path.is_file():
        return path, ""
    if path.suffix or len(path.parts) > 1:
        raise FileFormatError(path, "no such file")
    raise ArmNotFoundError(str(arm), names())


def _way(description: Description, frame: str) -> list[Connection]:
    """Connections from the root to a frame."""
    above = {c.child: c for c in description.connections}
    way: list[Connection] = []
    while frame in above and above[frame] not in way:
        way.append(above[frame])
        frame = above[frame].parent
    return way[::-1]


def _last_frame(description: Description) -> str:
    """The frame at the end of the longest chain of movable joints; the usual name where several are."""
    movable = {body: sum(c.kind != "fixed" for c in _way(description, body)) for body in description.bodies}
    most = max(movable.values())
    ends = [body for body, count in movable.items() if count == most]
    last_joints = {next((c.name for c in _way(description, e)[::-1] if c.kind != "fixed"), "") for e in ends}
    if len(last_joints) > 1:
        raise ArmError(
            description.path,
            f"several chains end after {most} movable joints ({', '.join(sorted(last_joints))}); "
            f"name the flange, one of {', '.join(ends[:8])}",
        )
    parents = {c.parent for c in description.connections}
    leaves = [body for body in ends if body not in parents]
    usual = [name for name in USUAL_FLANGES if name in ends]
    if not usual and len(leaves) > 1:
        raise ArmError(description.path, f"it ends in several frames ({', '.join(leaves)}); name the flange")
    return usual[0] if usual else leaves[0]


def _keep_chain(description: Description, flange: str) -> None:
    """Leave only what moves with the joints on the way to the flange."""
    chain = [c for c in _way(description, flange) if c.kind != "fixed"]
    if not chain:
        raise ArmError(description.path, f"no movable joint lies between its root and {flange!r}; name another flange")
    followers = {m.joint for m in description.mimics} & {c.name for c in chain}
    if followers:
        raise ArmError(description.path, f"joint {sorted(followers)[0]!r} mimics another one; arms need free joints")
    on_the_way = {id(c) for c in chain}
    kept = {
        body
        for body in description.bodies
        if all(c.kind == "fixed" or id(c) in on_the_way for c in _way(description, body))
    }
    description.bodies = {name: body for name, body in description.bodies.items() if name in kept}
    description.connections = [c for c in description.connections if {c.parent, c.child} <= kept]
    description.mimics = []


class _ArmYaml(Reader):
    """An arm.yaml."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, KEYS)

    @classmethod
    def beside(cls, path: Path) -> _ArmYaml | None:
        """The one beside an arm's file, where there is one."""
        files = [path.parent / name for name in (f"{path.stem}.yaml", "arm.yaml")]
        return next((cls(file) for file in files if file.is_file()), None)

    def text(self, key: str) -> str | None:
        return str(self.content[key]) if key in self else None

    def positive(self, key: str) -> float | None:
        if key not in self:
            return None
        value = self._number(self.content[key], key)
        if value <= 0.0:
            raise ArmError(self.path, f"{key} is {value:g}; it should be positive")
        return value

    def joints(self, key: str, lower: np.ndarray, upper: np.ndarray, *, cut: bool) -> np.ndarray:
        given = self.content[key][: len(lower)] if cut and isinstance(self.content[key], list) else self.content[key]
        values = self._numbers(given, len(lower), key)
        if (values < lower - 1e-6).any() or (values > upper + 1e-6).any():
            raise ArmError(self.path, f"{key} {values.tolist()} leaves the joints' ranges")
        return np.clip(values, lower, upper)

    def mounts(self) -> dict[str, Any]:
        mounts = self._mapping(self.content.get("mounts") or {}, "mounts", None)
        for hand, entry in mounts.items():
            keys = ("through", "frame") if isinstance(entry, dict) and "through" in entry else ("position", "rpy")
            self._mapping(entry, f"mount of {hand}", keys)
            for key in {"position", "rpy"} & set(entry):
                self._numbers(entry[key], 3, f"mount of {hand}: {key}")
        return mounts
