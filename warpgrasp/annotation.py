"""Reading hand.yaml: what a robot file cannot say about a hand."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from . import rotation
from .errors import HandError
from .hand import Actuator, Coupling, Finger, Frame, Hand, Mimic, Pad, Palm, unknown_name

KEYS = (
    "description", "source", "palm", "fingers", "pads", "open", "ranges", "couplings", "actuators", "neighbours",
)  # fmt: skip
"""Keys of hand.yaml; each may be left out."""

COUPLING_KEYS = {
    "inequality": ("type", "coefficients", "minimum", "source"),
    "breakaway": ("type", "joint", "source"),
    "mimic": ("type", "joint", "of", "multiplier", "offset", "source"),
}


def find_annotation(path: Path) -> Path | None:
    """The annotation beside a robot file: ``<stem>.yaml``, or else ``hand.yaml``."""
    for name in (f"{path.stem}.yaml", "hand.yaml"):
        if (path.parent / name).is_file():
            return path.parent / name
    return None


class Reader:
    """A YAML file of known keys, whose values are checked as they are asked for."""

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        """Read a file.

        Raises:
            HandError: It is no YAML mapping or has a key that does not exist.
        """
        import yaml

        self.path = path
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise HandError(path, f"not valid YAML: {' '.join(str(error).split())}") from error
        self.content = self._mapping(content or {}, "the file", keys)

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def _number(self, value: Any, where: str) -> float:
        return float(self._numbers([value], 1, where)[0])

    def _numbers(self, value: Any, count: int, where: str) -> np.ndarray:
        try:
            numbers = np.array([float(v) for v in value])
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise HandError(self.path, f"{where}: {value!r} should be {count} finite number{'s'[: count > 1]}")
        return numbers

    def _list(self, key: str) -> list:
        value = self.content.get(key) or []
        if not isinstance(value, list):
            raise HandError(self.path, f"{key} should be a list")
        return value

    def _need(self, entry: dict, key: str, where: str) -> Any:
        if key not in entry:
            raise HandError(self.path, f"{where} needs the key {key!r}")
        return entry[key]

    def _mapping(self, value: Any, where: str, keys: Iterable[str] | None) -> dict:
        """A mapping whose keys are all known; any keys where ``keys`` is None."""
        if not isinstance(value, dict):
            raise HandError(self.path, f"{where} should be a mapping of keys to values, not {value!r}")
        for key in value:
            if keys is not None and key not in keys:
                close = difflib.get_close_matches(str(key), list(keys), n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise HandError(self.path, f"{where}: unknown key {key!r}; {hint}Keys: {', '.join(keys)}")
        return value


class Annotation(Reader):
    """A hand.yaml, checked key by key against the hand that it describes."""

    def __init__(self, path: Path) -> None:
        """Read a file; raises as :class:`Reader` does."""
        super().__init__(path, KEYS)

    def apply(self, hand: Hand, ranges: str) -> Hand:
        """The hand with all that the annotation gives.

        Args:
            hand: The hand as its own file describes it.
            ranges: "robot" to replace joint limits by those of ``ranges: robot``.

        Raises:
            HandError: A name that the hand does not have, a key that does not exist, or a value of the wrong kind.
        """
        hand = self._with_couplings(hand)
        hand = self._with_ranges(hand, ranges)
        changes: dict[str, Any] = {}
        if "description" in self:
            changes["description"] = str(self.content["description"])
        if "palm" in self:
            changes["palm"] = self._palm(hand)
        if "fingers" in self:
            changes["fingers"] = self._fingers(hand)
        if "pads" in self:
            changes["pads"] = tuple(self._pad(hand, entry) for entry in self._list("pads"))
        if "actuators" in self:
            changes["actuators"] = tuple(self._actuator(hand, entry) for entry in self._list("actuators"))
        hand = dataclasses.replace(hand, **changes)
        if "open" in self:
            hand = dataclasses.replace(hand, open_position=self._open(hand))
        if "neighbours" in self:
            hand = dataclasses.replace(hand, neighbours=self._neighbours(hand))
        return hand

    def _with_couplings(self, hand: Hand) -> Hand:
        mimics = {m.joint: m for m in hand.mimics}
        couplings = list(hand.couplings)
        for entry in self._list("couplings"):
            kind = entry.get("type") if isinstance(entry, dict) else None
            if kind not in COUPLING_KEYS:
                raise HandError(self.path, f"a coupling has type {kind!r}; {', '.join(COUPLING_KEYS)} work")
            self._mapping(entry, f"a coupling of type {kind}", COUPLING_KEYS[kind])
            if kind == "inequality":
                coefficients = self._joint_values(hand, self._need(entry, "coefficients", "a coupling"), "a coupling")
                minimum = self._number(entry.get("minimum", 0.0), "minimum of a coupling")
                couplings.append(Coupling(coefficients, minimum, str(entry.get("source", ""))))
            elif kind == "breakaway":
                couplings.append(self._breakaway(hand, entry, mimics))
            else:
                mimic = self._mimic(hand, entry, mimics)
                mimics[mimic.joint] = mimic
        order = [mimics[name] for name in hand.joint_names if name in mimics]
        return dataclasses.replace(hand, mimics=tuple(order), couplings=tuple(couplings))

    def _breakaway(self, hand: Hand, entry: dict, mimics: dict[str, Mimic]) -> Coupling:
        """A mimic joint that may run ahead of the joint it follows, but not lag behind."""
        joint = self._joint(hand, self._need(entry, "joint", "a breakaway coupling"))
        if joint not in mimics:
            raise HandError(self.path, f"joint {joint!r} has a breakaway coupling, but mimics no joint")
        mimic = mimics.pop(joint)
        coefficients = {joint: 1.0, mimic.of: -mimic.multiplier}
        return Coupling(coefficients, mimic.offset, str(entry.get("source", "")))

    def _mimic(self, hand: Hand, entry: dict, mimics: dict[str, Mimic]) -> Mimic:
        joint = self._joint(hand, self._need(entry, "joint", "a mimic coupling"))
        of = self._joint(hand, self._need(entry, "of", "a mimic coupling"))
        if of in mimics or of == joint or any(m.of == joint for m in mimics.values()):
            raise HandError(self.path, f"joint {joint!r} mimics {of!r}: name a joint that follows no other one")
        multiplier = self._number(entry.get("multiplier", 1.0), f"multiplier of {joint}")
        return Mimic(joint, of, multiplier, self._number(entry.get("offset", 0.0), f"offset of {joint}"))

    def _with_ranges(self, hand: Hand, ranges: str) -> Hand:
        table = self._mapping(self.content.get("ranges") or {}, "ranges", ("robot",))
        robot = self._mapping(table.get("robot") or {}, "ranges: robot", ("source", "joints"))
        limits: dict[str, tuple[float, float]] = {}
        for name, pair in self._mapping(robot.get("joints") or {}, "ranges: robot: joints", None).items():
            lower, upper = self._numbers(pair, 2, f"range of {name}")
            if lower > upper:
                raise HandError(self.path, f"range of {name}: {lower:g} is above {upper:g}")
            limits[self._joint(hand, name)] = (float(lower), float(upper))
        if ranges != "robot" or not limits:
            return hand
        joints = (
            dataclasses.replace(joint, lower=limits[joint.name][0], upper=limits[joint.name][1])
            if joint.name in limits
            else joint
            for joint in hand.joints
        )
        return dataclasses.replace(hand, joints=tuple(joints))

    def _palm(self, hand: Hand) -> Palm:
        entry = self._mapping(self.content["palm"], "palm", ("link", "position", "normal", "fingers"))
        frame = self._frame(hand, self._need(entry, "link", "palm"))
        normal = self._direction(frame, self._need(entry, "normal", "palm"), "palm: normal")
        fingers = self._direction(frame, self._need(entry, "fingers", "palm"), "palm: fingers")
        fingers = fingers - normal * (normal @ fingers)
        if np.linalg.norm(fingers) < 0.5:
            raise HandError(self.path, "palm: fingers should be orthogonal to normal")
        position = self._point(frame, self._need(entry, "position", "palm"), "palm: position")
        return Palm(frame.link, position, normal, fingers / np.linalg.norm(fingers))

    def _fingers(self, hand: Hand) -> tuple[Finger, ...]:
        fingers = []
        for name, content in self._mapping(self.content["fingers"], "fingers", None).items():
            where = f"finger {name}"
            entry = self._mapping(content, where, ("joints", "links", "tip"))
            joints = [hand.joint_names.index(self._joint(hand, j)) for j in self._need(entry, "joints", where)]
            links = [self._frame(hand, link).link for link in self._need(entry, "links", where)]
            tip = self._frame(hand, self._need(entry, "tip", where))
            if not links or tip.link != links[-1]:
                raise HandError(self.path, f"{where}: its tip {entry['tip']!r} should lie on its last link")
            fingers.append(Finger(str(name), tuple(joints), tuple(links), tip.position))
        return tuple(fingers)

    def _pad(self, hand: Hand, content: Any) -> Pad:
        entry = self._mapping(content, "a pad", ("link", "position", "normal"))
        frame = self._frame(hand, self._need(entry, "link", "a pad"))
        where = f"pad of {entry['link']}"
        position = self._point(frame, self._need(entry, "position", where), f"{where}: position")
        return Pad(frame.link, position, self._direction(frame, self._need(entry, "normal", where), f"{where}: normal"))

    def _actuator(self, hand: Hand, content: Any) -> Actuator:
        entry = self._mapping(content, "an actuator", ("name", "joints", "range", "effort", "source"))
        name = str(self._need(entry, "name", "an actuator"))
        where = f"actuator {name}"
        joints = self._joint_values(hand, self._need(entry, "joints", where), where)
        lower, upper = None, None
        if "range" in entry:
            lower, upper = (float(v) for v in self._numbers(entry["range"], 2, f"{where}: range"))
        return Actuator(name, joints, lower, upper, self._number(entry.get("effort", 0.0), f"{where}: effort"))

    def _open(self, hand: Hand) -> np.ndarray:
        """Joints that are not named are zero, or as near to it as their range allows; mimics follow."""
        values = self._joint_values(hand, self.content["open"] or {}, "open")
        q = np.array([values.get(name, 0.0) for name in hand.joint_names])
        outside = [
            f"{joint.name} = {q[j]:g}"
            for j, joint in enumerate(hand.joints)
            if joint.name in values and not joint.lower - 1e-6 <= q[j] <= joint.upper + 1e-6
        ]
        if outside:
            raise HandError(self.path, f"open: out of range: {', '.join(outside)}")
        return hand.clamp(hand.joint_position(hand.free_position(q)))

    def _neighbours(self, hand: Hand) -> frozenset[tuple[int, int]]:
        pairs = set()
        for pair in self._list("neighbours"):
            if not isinstance(pair, list) or len(pair) != 2:
                raise HandError(self.path, f"neighbours: {pair!r} should be two link names")
            a, b = sorted(self._frame(hand, name).link for name in pair)
            if a != b:
                pairs.add((a, b))
        return frozenset(pairs)

    def _frame(self, hand: Hand, name: Any) -> Frame:
        if name not in hand.frames:
            raise HandError(self.path, unknown_name("link", str(name), hand.frames))
        return hand.frames[name]

    def _joint(self, hand: Hand, name: Any) -> str:
        # YAML reads the joint name 12 as a number.
        if str(name) not in hand.joint_names:
            raise HandError(self.path, unknown_name("joint", str(name), hand.joint_names))
        return str(name)

    def _joint_values(self, hand: Hand, content: Any, where: str) -> dict[str, float]:
        mapping = self._mapping(content, where, None)
        return {self._joint(hand, name): self._number(value, f"{where}: {name}") for name, value in mapping.items()}

    def _point(self, frame: Frame, value: Any, where: str) -> np.ndarray:
        """A point of the named frame, in its link's frame."""
        return frame.position + rotation.matrix_from_quaternion(frame.quaternion) @ self._numbers(value, 3, where)

    def _direction(self, frame: Frame, value: Any, where: str) -> np.ndarray:
        direction = rotation.matrix_from_quaternion(frame.quaternion) @ self._numbers(value, 3, where)
        length = np.linalg.norm(direction)
        if length < 1e-6:
            raise HandError(self.path, f"{where} has length zero")
        return direction / length
