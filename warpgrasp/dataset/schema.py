"""The Parquet schema of grasps: what each column means, and how ``Grasps`` become rows and rows ``Grasps`` again.

A row is a grasp. Rows of one file are of one hand, so that joint vectors are lists of a fixed size; the names of the
joints, the hand and how the grasps were made stand in the file's metadata. docs/datasets.md lists every column.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FileFormatError, ShapeError
from ..pose import Pose
from ..result import POSE_FIELDS, Grasps

if TYPE_CHECKING:
    from ..arm_plan import ArmPlan
    from ..resting import RestingPose

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning; new columns do not raise it."""

KEY = b"warpgrasp"
"""Metadata of a file: JSON with ``schema``, ``joint_names``, ``hand``, ``info`` and ``shards``."""

MAX_BYTES = 4 * 1024**3
"""Largest file that is read, as it is and unpacked."""

ROW_GROUP = 50_000
"""Rows that are compressed together."""

PHASES = {"grasp": "", "pregrasp": "pregrasp_", "squeeze": "squeeze_", "lift": "lift_"}
"""Prefix of a phase's three columns; ``lift`` is there where the grasps have one."""

SAME_AS = {
    "squeeze_wrist_position": "wrist_position",
    "squeeze_wrist_quaternion_wxyz": "wrist_quaternion_wxyz",
    "lift_wrist_quaternion_wxyz": "squeeze_wrist_quaternion_wxyz",
    "lift_joint_position": "squeeze_joint_position",
}
"""Columns that are left out where they would repeat another: the wrist stays in the squeeze, the hand in the lift."""

ARM = ("joint_names", "arm_source", "arm_hash", "base_position", "base_quaternion", "mount_position",
       "mount_quaternion", "world_from_object")  # fmt: skip
"""What a shard's metadata keeps of an arm's plan."""

POSE_COLUMNS = dict(zip(POSE_FIELDS, ("wrist_position", "wrist_quaternion_wxyz", "joint_position"), strict=True))

IDENTITY = ("shard", "index", "hand", "object", "object_hash", "scale", "seed")
"""Columns that say which grasp it is; the metadata says so once for a shard."""

STATISTICS = ("shard", "object", "object_hash", "scale")
"""Columns whose least and greatest value stand in the footer, so that readers can skip row groups."""

METRIC = "metric_"
"""Prefix of a metric's column."""

SIDE = "tactile"
"""Metrics with this word in their key are kept in a side table of their own."""

LEFT_OUT = ("seed", "seconds")
"""Of ``Grasps.info``: the seed is a column, and times would make equal shards differ."""

FIELDS: dict[str, tuple[str, str]] = {
    "shard": ("string", "Key of the shard that the grasp was made in: a hash of all that it depends on."),
    "index": ("int32", "Place of the grasp in its shard, best first. With `shard` it names the grasp."),
    "hand": ("string", "Name of the hand. Its source and hash are in the file's metadata."),
    "object": ("string", "Name of the object."),
    "object_hash": ("string", "SHA-256 of the scaled mesh; `objects/<object_hash>.parquet` holds it."),
    "scale": ("float64", "Factor that made the mesh file's coordinates metres."),
    "seed": ("int64", "Seed of every random draw in the shard; -1 where unknown."),
    "wrist_position": ("float32[3]", "Origin of the hand's base link in the object's frame [m]."),
    "wrist_quaternion_wxyz": ("float32[4]", "Unit quaternion **w, x, y, z**: hand base to object."),
    "joint_position": ("float32[J]", "All movable joints in the order of `joint_names` [rad or m]."),
    "pregrasp_*": ("", "The same three: backed off and opened, clear of the object."),
    "squeeze_*": ("", "The same three: position targets that press. Without a wrist where it stays as at the grasp."),
    "lift_*": ("", "The same three: squeezed and raised. Without columns that would be as in the squeeze."),
    "valid": ("bool", "Whether the grasp passed every check."),
    "reason": ("string", "The first check that it failed, empty where it is valid."),
    "arm_joint_position": ("float32[3 n]", "Where there is an arm: its n joints at pregrasp, grasp, lift [rad or m]."),
    "arm_reason": ("string", "Where there is an arm: why it has no plan, empty where it has."),
    "metric_*": ("float32, int64, bool or string", "What was measured; the key names unit and convention."),
}
"""Columns of the grasp table: type and meaning."""

CONTACT_FIELDS: dict[str, tuple[str, str]] = {
    "shard": ("string", "Shard of the grasp."),
    "index": ("int32", "Its place there."),
    "link": ("string", "Link of the hand that touches."),
    "position": ("float32[3]", "Nearest point of the link, in the object's frame [m]."),
    "normal": ("float32[3]", "Unit normal **into** the object there."),
    "distance_m": ("float32", "Signed distance of the point from the object, negative inside [m]."),
}
"""Columns of the contact table: a row for each link within reach of the object."""


def write_table(
    grasps: Grasps, *, shard: str = "", hand: str | None = None, scale: float = 1.0, seed: int | None = None
) -> pa.Table:
    """The grasps as a table, a row each.

    Args:
        grasps: Grasps of one object by one hand.
        shard: Key that names where they were made.
        hand: Name of the hand; the stem of its source where omitted.
        scale: Factor that made the mesh file's coordinates metres.
        seed: Seed of every random draw; ``info["seed"]`` where omitted.

    Returns:
        A table that :func:`write_parquet` writes and :func:`table_grasps` turns into grasps again. Numbers are rounded
        to float32, and ``info`` loses ``seconds``.
    """
    count = len(grasps)
    seed = int(grasps.info.get("seed", -1)) if seed is None else seed
    hand = hand or Path(grasps.hand_source).stem
    object_hash = mesh_hash(grasps.object_vertices, grasps.object_faces)
    columns: dict[str, pa.Array] = {
        "shard": _constant(shard, count),
        "index": pa.array(np.arange(count, dtype=np.int32)),
        "hand": _constant(hand, count),
        "object": _constant(grasps.object_name, count),
        "object_hash": _constant(object_hash, count),
        "scale": _constant(float(scale), count),
        "seed": _constant(seed, count),
    }
    columns |= _pose_columns(grasps)
    columns |= {"valid": pa.array(grasps.valid), "reason": _column(grasps.reason)}
    columns |= {METRIC + key: _column(value) for key, value in grasps.metrics.items() if SIDE not in key.split("_")}
    if grasps.arm is not None:
        columns |= {
            "arm_joint_position": _vectors(grasps.arm.joint_position.reshape(count, -1)),
            "arm_reason": _column(grasps.arm.reason),
        }
    made = {
        "object": grasps.object_name,
        "object_hash": object_hash,
        "scale": float(scale),
        "seed": seed,
        "rows": count,
        "info": 0,
    }
    if grasps.table is not None:
        made["table"] = {name: _plain(value) for name, value in vars(grasps.table).items()}
    if grasps.arm is not None:
        made["arm"] = {name: _plain(getattr(grasps.arm, name)) for name in ARM}
    metadata = {
        "schema": SCHEMA_VERSION,
        "joint_names": list(grasps.joint_names),
        "hand": {"name": hand, "source": grasps.hand_source, "hash": grasps.hand_hash},
        "info": [{key: value for key, value in grasps.info.items() if key not in LEFT_OUT}],
        "shards": {shard: made},
    }
    return _table(columns, metadata)


def side_table(grasps: Grasps, *, shard: str = "") -> pa.Table | None:
    """Tactile results, a row for each grasp in the same order; ``None`` where there are none."""
    found = {METRIC + key: _column(value) for key, value in grasps.metrics.items() if SIDE in key.split("_")}
    if not found:
        return None
    index = pa.array(np.arange(len(grasps), dtype=np.int32))
    return _table({"shard": _constant(shard, len(grasps)), "index": index} | found, {"schema": SCHEMA_VERSION})


def contact_table(
    link_names: tuple[str, ...],
    distance: np.ndarray,
    position: np.ndarray,
    normal: np.ndarray,
    *,
    reach: float,
    shard: str = "",
) -> pa.Table:
    """Contacts of N grasps, a row for each link within ``reach`` of the object.

    Args:
        link_names: Names of the L links.
        distance: Signed distance of each link's nearest point from the object [m], shape (N, L).
        position: That point in the object's frame [m], shape (N, L, 3).
        normal: Unit normals into the object there, shape (N, L, 3).
        reach: Largest distance of a contact [m].
        shard: Shard of the grasps.
    """
    grasp, link = np.nonzero(distance <= reach)
    names = pa.DictionaryArray.from_arrays(pa.array(link.astype(np.int32)), pa.array(link_names, pa.string()))
    columns = {
        "shard": _constant(shard, len(grasp)),
        "index": pa.array(grasp.astype(np.int32)),
        "link": names.cast(pa.string()),
        "position": _vectors(position[grasp, link]),
        "normal": _vectors(normal[grasp, link]),
        "distance_m": pa.array(distance[grasp, link].astype(np.float32)),
    }
    return _table(columns, {"schema": SCHEMA_VERSION, "reach_m": reach})


def object_table(vertices: np.ndarray, faces: np.ndarray) -> pa.Table:
    """A mesh as a table of one row: ``object_hash``, ``vertices`` [m] and ``faces``, float32 and int32, row by row."""
    columns = {
        "object_hash": pa.array([mesh_hash(vertices, faces)]),
        "vertices": pa.array([np.asarray(vertices, np.float32).ravel()], pa.list_(pa.float32())),
        "faces": pa.array([np.asarray(faces, np.int32).ravel()], pa.list_(pa.int32())),
    }
    return _table(columns, {"schema": SCHEMA_VERSION})


def mesh_hash(vertices: np.ndarray, faces: np.ndarray) -> str:
    """What ``ObjectMesh.content_hash`` is of the same mesh."""
    import hashlib

    digest = hashlib.sha256(np.ascontiguousarray(vertices, "<f4").tobytes())
    digest.update(np.ascontiguousarray(faces, "<i4").tobytes())
    return digest.hexdigest()


def write_parquet(table: pa.Table, sink: Any) -> None:
    """Write a table to a path or an open file: zstd, floats split into byte streams, texts and counts as dictionaries.

    Equal tables give equal bytes.
    """
    pq.write_table(table, sink, **parquet_settings(table))


def parquet_settings(table: pa.Table) -> dict[str, Any]:
    """How ``pyarrow.parquet.write_table`` is to write a table."""
    others = [_leaf(field) for field in table.schema if not _is_float(field.type) and field.name != "index"]
    return {
        "compression": "zstd",
        "row_group_size": ROW_GROUP,
        "use_dictionary": others,
        "use_byte_stream_split": [_leaf(field) for field in table.schema if _is_float(field.type)],
        "write_statistics": [name for name in STATISTICS if name in table.column_names],
        "write_page_checksum": True,
    }


def read_table(path: str | Path) -> pa.Table:
    """Read a table of a dataset; texts come as dictionaries.

    Raises:
        FileFormatError: It is missing, damaged, too large, or not a table of this schema.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(path, "there is no such file")
    try:
        with pq.ParquetFile(path, thrift_string_size_limit=1 << 28, thrift_container_size_limit=1 << 24) as file:
            _check_size(path, file.metadata)
            texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
            metadata = file.metadata
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
        read_metadata(table, path)
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(path, f"it is not a table of grasps, or it is damaged ({error})") from error
    return table


def read_metadata(table: pa.Table, path: str | Path) -> dict[str, Any]:
    """What the metadata of a table says.

    Raises:
        FileFormatError: It is not there or not of this version.
    """
    text = (table.schema.metadata or {}).get(KEY)
    if text is None:
        raise FileFormatError(path, "it is a Parquet file, but not one that warpgrasp wrote")
    try:
        metadata = json.loads(text)
        version = metadata["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(path, f"its metadata is damaged ({error!r})") from error
    if version != SCHEMA_VERSION:
        raise FileFormatError(path, f"it is of schema {version!r}; this version reads schema {SCHEMA_VERSION}")
    return metadata


def read_grasps(path: str | Path, *, objects: str | Path | None = None, mesh: bool = True) -> Grasps:
    """Read the grasps of a file that holds one shard.

    Args:
        path: File that ``write_parquet`` wrote.
        objects: Folder of the meshes; ``objects`` beside the folder ``grasps`` that holds the file where omitted.
        mesh: Whether to read the object's mesh; without it, ``object_vertices`` and ``object_faces`` are empty.

    Raises:
        FileFormatError: A file is missing, damaged or not what it should be, or ``path`` holds several shards.
    """
    found = list(iterate_grasps(path, objects=objects, mesh=mesh))
    if len(found) != 1:
        raise FileFormatError(path, f"it holds {len(found)} shards; iterate_grasps gives them one by one")
    return found[0]


def iterate_grasps(path: str | Path, *, objects: str | Path | None = None, mesh: bool = True) -> Iterator[Grasps]:
    """Read the grasps of a file shard by shard; see :func:`read_grasps` for the arguments and errors."""
    path = Path(path)
    folder = Path(objects) if objects is not None else _beside(path, "objects")
    side = _beside(path, "tactile") / path.parent.name / path.name
    yield from table_grasps(
        read_table(path),
        path=path,
        objects=folder if mesh else None,
        tactile=read_table(side) if side.is_file() else None,
    )


def table_grasps(
    table: pa.Table, *, path: str | Path = "table", objects: Path | None = None, tactile: pa.Table | None = None
) -> Iterator[Grasps]:
    """The grasps of a table, shard by shard.

    Args:
        table: What :func:`write_table` made or :func:`read_table` read.
        path: Its name in errors.
        objects: Folder of the meshes; without it, the grasps have empty meshes.
        tactile: Its side table.

    Raises:
        FileFormatError: The table or a mesh is damaged.
    """
    metadata = read_metadata(table, path)
    try:
        yield from _shards(table, metadata, path, objects, tactile)
    except (KeyError, IndexError, TypeError, AttributeError, ShapeError, pa.ArrowException) as error:
        raise FileFormatError(path, f"it is not a table of grasps, or it is damaged ({error!r})") from error


def _shards(
    table: pa.Table, metadata: dict[str, Any], path: str | Path, objects: Path | None, tactile: pa.Table | None
) -> Iterator[Grasps]:
    joint_names = tuple(str(name) for name in metadata["joint_names"])
    arrays = {name: _array(table[name]) for name in table.column_names if name not in IDENTITY}
    if tactile is not None:
        if not all((_array(tactile[name]) == _array(table[name])).all() for name in ("shard", "index")):
            raise FileFormatError(path, "its tactile table is not of the same grasps")
        arrays |= {name: _array(tactile[name]) for name in tactile.column_names if name.startswith(METRIC)}
    keys, place = _codes(table["shard"])
    meshes = {"": (np.zeros((0, 3)), np.zeros((0, 3), np.int32))}
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]]) if len(place) else np.zeros(1, int)
    for begin, end in zip(starts, [*starts[1:], len(place)], strict=True):
        key = keys[place[begin]] if len(place) else next(iter(metadata["shards"]))
        made = metadata["shards"][key]
        if made["rows"] != end - begin:
            raise FileFormatError(path, f"shard {key} should have {made['rows']} rows, but has {end - begin}")
        known = made["object_hash"] if objects is not None else ""
        if known not in meshes and objects is not None:
            meshes = {"": meshes[""], known: read_object(objects / f"{_hex(known, path)}.parquet")}
        info = metadata["info"][made["info"]]
        yield _grasps(
            {name: _as_given(array[begin:end]) for name, array in arrays.items()},
            joint_names=joint_names,
            hand=metadata["hand"],
            object_name=str(made["object"]),
            mesh=meshes[known],
            table=made.get("table"),
            arm=made.get("arm"),
            info=info if made["seed"] < 0 else info | {"seed": made["seed"]},
        )


def _grasps(
    arrays: Mapping[str, np.ndarray],
    *,
    joint_names: tuple[str, ...],
    hand: dict[str, str],
    object_name: str,
    mesh: tuple[np.ndarray, np.ndarray],
    table: dict[str, Any] | None,
    arm: dict[str, Any] | None,
    info: dict[str, Any],
) -> Grasps:
    def pose(prefix: str) -> Pose:
        return Pose(*(arrays[_kept(prefix + name, arrays)] for name in POSE_COLUMNS.values()))

    grasp = pose("")
    metrics = {name.removeprefix(METRIC): value for name, value in arrays.items() if name.startswith(METRIC)}
    return Grasps(
        joint_names=joint_names,
        **{name: getattr(grasp, name) for name in POSE_FIELDS},
        pregrasp=pose("pregrasp_"),
        squeeze=pose("squeeze_"),
        valid=arrays["valid"],
        reason=arrays["reason"],
        metrics=metrics,
        hand_source=str(hand["source"]),
        hand_hash=str(hand["hash"]),
        object_name=object_name,
        object_vertices=mesh[0],
        object_faces=mesh[1],
        info=info,
        lift=pose("lift_") if "lift_wrist_position" in arrays else None,
        table=_table_pose(table) if table else None,
        arm=_arm_plan(arm, arrays, metrics) if arm else None,
    )


def _kept(name: str, columns: Container[str]) -> str:
    """The column that is there for one that may have been left out."""
    while name not in columns and name in SAME_AS:
        name = SAME_AS[name]
    return name


def _table_pose(kept: dict[str, Any]) -> RestingPose:
    from ..resting import RestingPose

    return RestingPose(np.array(kept["position"]), np.array(kept["quaternion"]), float(kept["probability"]))


def _arm_plan(kept: dict[str, Any], arrays: Mapping[str, np.ndarray], metrics: dict[str, np.ndarray]) -> ArmPlan:
    from ..arm_plan import ArmPlan

    joints = arrays["arm_joint_position"]
    own: dict[str, Any] = {
        name: np.array(value) if isinstance(value, list) else str(value) for name, value in kept.items()
    }
    own["joint_names"] = tuple(map(str, kept["joint_names"]))
    return ArmPlan(
        joint_position=joints.reshape(len(joints), 3, -1),
        reason=arrays["arm_reason"],
        metrics={key: value for key, value in metrics.items() if key.startswith("arm_")},
        **{name: own[name] for name in ARM},
    )


def read_object(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [m], float64, and faces of a mesh that a dataset keeps.

    Raises:
        FileFormatError: It is missing, damaged, or not the mesh that its name says.
    """
    table = read_table(path)
    try:
        vertices, faces = (table[name].combine_chunks().values.to_numpy() for name in ("vertices", "faces"))
        vertices, faces = vertices.reshape(-1, 3), faces.reshape(-1, 3)
    except (KeyError, ValueError, AttributeError) as error:
        raise FileFormatError(path, f"it is not a mesh ({error})") from error
    if mesh_hash(vertices, faces) != Path(path).stem:
        raise FileFormatError(path, "its name is not the hash of the mesh in it")
    return vertices.astype(float), faces


def merge_tables(tables: list[pa.Table], path: str | Path) -> pa.Table:
    """Rows of several tables of one hand under one another, with the metadata of all.

    Raises:
        FileFormatError: They are not of the same hand or do not have the same columns.
    """
    metadata = [read_metadata(table, path) for table in tables]
    if any(table.column_names != tables[0].column_names for table in tables):
        # What one leaves out because it repeats another column, the others may need.
        needed = {name for table in tables for name in table.column_names}
        tables = [_with_columns(table, needed) for table in tables]
    first = tables[0]
    for table in tables[1:]:
        if not first.schema.equals(table.schema):
            differ = set(map(str, first.schema)) ^ set(map(str, table.schema))
            raise FileFormatError(path, f"tables differ in {', '.join(sorted(differ)) or 'the order of columns'}")
    joined = pa.concat_tables(tables).unify_dictionaries()
    merged = metadata[0]
    if "shards" in merged:
        same = ("joint_names", "hand")
        if any(other[key] != merged[key] for other in metadata for key in same):
            raise FileFormatError(path, "its tables are not all of the same hand")
        texts = {json.dumps(info, sort_keys=True): info for other in metadata for info in other["info"]}
        place = {text: i for i, text in enumerate(texts)}
        shards = {}
        for other in metadata:
            own = [place[json.dumps(info, sort_keys=True)] for info in other["info"]]
            shards |= {key: made | {"info": own[made["info"]]} for key, made in other["shards"].items()}
        merged = merged | {"info": list(texts.values()), "shards": shards}
    return _table({name: joined[name] for name in joined.column_names}, merged)


def _with_columns(table: pa.Table, needed: set[str]) -> pa.Table:
    """The table with those columns that were left out because they repeat others."""
    names = [*table.column_names]
    for name in SAME_AS:
        if name in needed and name not in names:
            place = names.index("valid")
            column = table[_kept(name, names)]
            names.insert(place, name)
            table = table.add_column(place, pa.field(name, column.type, nullable=False), column)
    poses = [
        name for prefix in PHASES.values() for column in POSE_COLUMNS.values() if (name := prefix + column) in names
    ]
    first = names.index(poses[0])
    rest = [name for name in names if name not in poses]
    return table.select(rest[:first] + poses + rest[first:])


def _pose_columns(grasps: Grasps) -> dict[str, pa.Array]:
    """The poses of all phases, without columns that would repeat others."""
    made: dict[int, pa.Array] = {}  # phases share arrays, which are converted once
    columns: dict[str, pa.Array] = {}
    for phase, prefix in PHASES.items():
        pose = grasps.pose if phase == "grasp" else getattr(grasps, phase, None)
        for field, name in POSE_COLUMNS.items() if pose is not None else ():
            values = getattr(pose, field)
            if id(values) not in made:
                made[id(values)] = _vectors(values)
            columns[prefix + name] = made[id(values)]
    repeats = [name for name, other in SAME_AS.items() if name in columns and _same(columns[name], columns[other])]
    return {name: column for name, column in columns.items() if name not in repeats}


def _same(column: pa.Array, other: pa.Array) -> bool:
    if column is other:
        return True
    return np.array_equal(*(each.flatten().to_numpy().view(np.uint32) for each in (column, other)))


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    return value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value


def _table(columns: Mapping[str, pa.Array | pa.ChunkedArray], metadata: dict[str, Any]) -> pa.Table:
    def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column

    values = {name: plain(column) for name, column in columns.items()}
    fields = [pa.field(name, column.type, nullable=False) for name, column in values.items()]
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    return pa.table(list(values.values()), schema=pa.schema(fields, metadata={KEY: text}))


def _constant(value: Any, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), count)


def _vectors(values: np.ndarray) -> pa.Array:
    """Rows of a matrix as lists of a fixed size, float32."""
    entry = pa.field("element", pa.float32(), nullable=False)
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(entry, values.shape[1]))


def _column(values: np.ndarray) -> pa.Array:
    match values.dtype.kind:
        case "f":
            return pa.array(values.astype(np.float32))
        case "i" | "u":
            return pa.array(values.astype(np.int64))
        case "b":
            return pa.array(values)
        case _:
            return pa.array(values if values.dtype.kind == "U" else values.astype(str), pa.string())


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """A column as NumPy has it: lists as the rows of a matrix, texts as str."""
    if pa.types.is_dictionary(column.type):
        texts, place = _codes(column)
        return np.array([*texts, ""], dtype=str)[place]
    whole = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return whole.flatten().to_numpy().reshape(len(column), column.type.list_size)
    if pa.types.is_string(column.type):
        return np.array(whole.to_pylist(), dtype=str)
    return whole.to_numpy(zero_copy_only=False)


def _as_given(values: np.ndarray) -> np.ndarray:
    """Numbers as ``Grasps`` has them: float64, which phases share as they do where grasps are made."""
    return values.astype(float) if values.dtype.kind == "f" else values


def _codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The different texts of a column, and for each row which of them it has."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    return whole.dictionary.to_pylist(), whole.indices.to_numpy(zero_copy_only=False)


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_float32(kind.value_type if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) else kind)


def _leaf(field: pa.Field) -> str:
    nested = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    return f"{field.name}.list.element" if nested else field.name


def _check_size(path: Path, metadata: pq.FileMetaData) -> None:
    unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    size = max(path.stat().st_size, unpacked)
    if size > MAX_BYTES:
        raise FileFormatError(path, f"it unpacks to {size} bytes; at most {MAX_BYTES} are read")


def _beside(path: Path, name: str) -> Path:
    """The folder of that name in the dataset that a file ``DIR/grasps/<hand>/<name>.parquet`` belongs to."""
    return path.absolute().parents[2] / name


def _hex(text: str, path: str | Path) -> str:
    if not (isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")):
        raise FileFormatError(path, f"it names an object {text!r}, which is no hash")
    return text
