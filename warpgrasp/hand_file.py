"""Loading a hand: a bundled name, a file, or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .annotation import Annotation, find_annotation
from .description import Description
from .errors import FileFormatError, HandError, HandNotFoundError, OptionError
from .hand import Hand
from .infer import complete
from .tree import build
from .xml_file import read_xml

SUFFIXES = (".urdf", ".xml", ".mjcf")


def load_hand(
    hand: str | Path | Hand,
    *,
    ranges: Literal["robot", "model"] = "robot",
    geometry: Literal["collision", "visual"] = "collision",
    root: str | Path | None = None,
) -> Hand:
    """Load a hand.

    A URDF or MJCF file is enough: what it does not say (fingers, palm, pads, open pose) is inferred, and
    ``Hand.inferred`` lists it. A ``hand.yaml`` or ``<stem>.yaml`` beside the file says it instead.

    Args:
        hand: Name of a bundled hand, path of a ``.urdf`` or ``.xml`` (MJCF) file or of a folder that holds one,
            or a hand, which is returned as it is.
        ranges: Joint ranges: those that the real robot keeps to, where the annotation gives them, or the file's own.
        geometry: Which of the file's geometries touches the object.
        root: Folder below which meshes may be read and ``package://`` is looked up. By default the file's package
            folder, or else the parent of its folder.

    Raises:
        HandNotFoundError: There is no bundled hand of that name.
        FileFormatError: The file is missing or cannot be read at all.
        HandError: The file is read, but does not describe a hand that can be used.
        OptionError: ``ranges`` or ``geometry`` is none of the two words.
    """
    if isinstance(hand, Hand):
        return hand
    if ranges not in ("robot", "model"):
        raise OptionError(f"ranges must be 'robot' or 'model', got {ranges!r}")
    if geometry not in ("collision", "visual"):
        raise OptionError(f"geometry must be 'collision' or 'visual', got {geometry!r}")
    path, name = _find(hand)
    description = _read(path, Path(root) if root is not None else None, geometry)
    description.name = name or description.name
    tree = build(description, geometry)
    annotation_path = find_annotation(path)
    if annotation_path is None:
        return complete(tree)
    annotation = Annotation(annotation_path)
    return complete(annotation.apply(tree, ranges), given=annotation)


def _find(hand: str | Path) -> tuple[Path, str]:
    """The file, and the bundled name where it has one."""
    from .hands import folder, names

    if isinstance(hand, str) and hand in names():
        return folder() / hand / "hand.urdf", hand
    path = Path(hand).expanduser()
    if path.is_dir():
        return _only_description(path), ""
    if path.is_file():
        return path, ""
    looks_like_path = path.suffix.lower() in SUFFIXES or len(path.parts) > 1
    if looks_like_path:
        raise FileFormatError(path, "no such file")
    raise HandNotFoundError(str(hand), names())


def _only_description(folder: Path) -> Path:
    if (folder / "hand.urdf").is_file():
        return folder / "hand.urdf"
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if len(files) != 1:
        found = f"{len(files)}: {', '.join(file.name for file in files)}" if files else "none"
        raise FileFormatError(folder, f"the folder should hold one {' or '.join(SUFFIXES)} file, but holds {found}")
    return files[0]


def _read(path: Path, root: Path | None, geometry: str) -> Description:
    tag = read_xml(path).tag
    if tag == "robot":
        from .urdf import read_urdf

        return read_urdf(path, root=root, geometry=geometry)
    if tag == "mujoco":
        from .mjcf import read_mjcf

        return read_mjcf(path)
    raise HandError(path, f"its outermost element is <{tag}>; a URDF starts with <robot>, an MJCF with <mujoco>")
