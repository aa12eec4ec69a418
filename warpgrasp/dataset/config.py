"""The YAML that says what a dataset is made of."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, OptionError

MAX_BYTES = 1024**2
"""Largest configuration that is read."""

MAX_COUNT = 10**9
"""Most grasps per hand, object and scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What ``warpgrasp generate`` makes; each field is a key of the YAML."""

    hands: tuple[str, ...]
    """Bundled names, or paths of URDF or MJCF files."""

    objects: tuple[str, ...]
    """Paths of meshes, of folders with meshes and of manifests (``manifest.json``), and globs: ``scans/*/*.obj``."""

    scales: tuple[float, ...] = (1.0,)
    """Factors that make the meshes metres; every object is grasped at each."""

    table: bool = False
    """Whether the object rests on a table that the hand must not touch; otherwise it floats."""

    count: int = 64
    """Grasps to attempt for each hand, object and scale."""

    shard_size: int = 256
    """Most grasps that are made at once and kept in one file."""

    seed: int = 0

    recipe: str = "default"
    """How grasps are found; ``default-without-finish`` switches a term off."""

    iterations: int | None = None
    """Gradient steps; the recipe's where omitted."""

    points: int = 512
    """Points on the hand's surface."""

    evaluate: bool = False
    """Whether to add the metrics of ``warpgrasp evaluate``."""

    validate: tuple[str, ...] = ()
    """Protocols of the physics test, such as ``fc6``; none where omitted."""

    recheck: bool = False
    """Whether to add the tactile stage and the q-score."""

    contacts: bool = True
    """Whether to keep the contacts of every grasp in a side table."""

    folder: Path = dataclasses.field(default=Path(), metadata={"key": False})
    """Folder that relative paths start from: the one of the file."""

    def __post_init__(self) -> None:
        from ..options import recipe
        from ..physics.protocols import find_protocol

        for name in ("count", "shard_size", "points"):
            _require(name, getattr(self, name), 1 <= getattr(self, name) <= MAX_COUNT, f"from 1 to {MAX_COUNT}")
        if self.iterations is not None:
            _require("iterations", self.iterations, self.iterations >= 1, "1 or larger")
        _require("seed", self.seed, 0 <= self.seed < 2**63, "0 or larger")
        for name in ("hands", "objects", "scales"):
            values = getattr(self, name)
            _require(name, list(values), len(set(values)) == len(values) > 0, "a list of one entry or more, each once")
        _require("scales", list(self.scales), all(0.0 < scale < float("inf") for scale in self.scales), "positive")
        recipe(self.recipe)
        for protocol in self.validate:
            find_protocol(protocol)

    def values(self) -> dict[str, Any]:
        """The keys and values, as YAML and JSON have them."""
        return {name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in KEYS}


KEYS = tuple(field.name for field in dataclasses.fields(Config) if field.metadata.get("key", True))
"""Keys of the YAML; ``hands`` and ``objects`` must be given."""


def read_config(path: str | Path) -> Config:
    """Read a configuration.

    Raises:
        FileFormatError: The file is missing, too large, or no YAML mapping.
        OptionError: A key does not exist or has a value that cannot work.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileFormatError(path, "there is no such file; `warpgrasp generate` takes a YAML configuration")
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(path, f"a configuration is no larger than {MAX_BYTES} bytes")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FileFormatError(path, f"not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise FileFormatError(path, "it should be a mapping with the keys hands and objects")
    try:
        return make_config(content, path.absolute().parent)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def make_config(content: dict[Any, Any], folder: Path) -> Config:
    """A configuration from the content of its file.

    Raises:
        OptionError: See :func:`read_config`.
    """
    for key in content:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"unknown key {key!r}.{hint} Keys: {', '.join(KEYS)}")
    for key in ("hands", "objects"):
        if key not in content:
            raise OptionError(f"the key {key!r} is missing; it takes a list")
    return Config(**{key: CONVERT[key](key, value) for key, value in content.items()}, folder=folder)


def _words(key: str, value: Any) -> tuple[str, ...]:
    values = [] if value in (None, False) else value if isinstance(value, list) else [value]
    _require(key, value, all(isinstance(entry, str) for entry in values), "a name or a list of names")
    return tuple(values)


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    fine = all(isinstance(entry, int | float) and not isinstance(entry, bool) for entry in values)
    _require(key, value, fine, "a number or a list of numbers")
    return tuple(float(entry) for entry in values)


def _whole(key: str, value: Any) -> int:
    _require(key, value, isinstance(value, int) and not isinstance(value, bool), "a whole number")
    return value


def _whole_or_none(key: str, value: Any) -> int | None:
    return None if value is None else _whole(key, value)


def _flag(key: str, value: Any) -> bool:
    _require(key, value, isinstance(value, bool), "true or false")
    return value


def _word(key: str, value: Any) -> str:
    _require(key, value, isinstance(value, str), "a name")
    return value


def _require(key: str, value: Any, fine: bool, words: str) -> None:
    if not fine:
        raise OptionError(f"{key} must be {words}, got {value!r}")


CONVERT = {
    "hands": _words,
    "objects": _words,
    "scales": _numbers,
    "table": _flag,
    "count": _whole,
    "shard_size": _whole,
    "seed": _whole,
    "recipe": _word,
    "iterations": _whole_or_none,
    "points": _whole,
    "evaluate": _flag,
    "validate": _words,
    "recheck": _flag,
    "contacts": _flag,
}
"""What turns the value of a key in the YAML into the field's."""
