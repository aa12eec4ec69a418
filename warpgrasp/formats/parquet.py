"""Parquet: a dataset as ``warpgrasp generate`` makes them; several exports into one folder add up."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FileFormatError
from ..result import POSE_FIELDS
from .gather import listed
from .meshes import code

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "digits beyond float32"


def write(grasps: Grasps, path: Path) -> None:
    """Add the grasps to the dataset in a folder, which is made if it is not there."""
    from ..dataset import ShardSummary, Store, write_table
    from ..dataset.schema import side_table

    if path.suffix:
        raise FileFormatError(path, "this format is a folder; give a name without a suffix")
    store = Store(path)
    store.prepare()
    with store.lock(shared=True):
        digest = store.keep_object(grasps.object_vertices, grasps.object_faces)
        key = _key(grasps)
        hand = code(Path(grasps.hand_source).stem)
        tables = {"grasps": write_table(grasps, shard=key, hand=hand), "tactile": side_table(grasps, shard=key)}
        summary = ShardSummary(
            object=grasps.object_name,
            object_hash=digest,
            scale=1.0,
            rows=len(grasps),
            valid=int(grasps.valid.sum()),
            reasons=dict(Counter(str(reason) for reason in grasps.reason[~grasps.valid])),
        )
        store.commit(key, hand, {name: table for name, table in tables.items() if table is not None}, {key: summary})


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of one shard: the only one of the dataset, or of the object ``name`` and the hand named ``hand``."""
    import dataclasses

    from ..dataset import open_store, read_grasps
    from ..mesh import load_object

    if path.is_dir():
        store = open_store(path)
        found = [
            (part, shard.object)
            for part in store.parts(hand=hand if isinstance(hand, str) else None)
            for shard in part.shards.values()
            if name in (None, shard.object)
        ]
        if len(found) != 1:
            kinds = listed(sorted({f"{title} by {part.hand}" for part, title in found})) if found else "nothing"
            problem = (
                f"it holds {len(found)} shards to choose from ({kinds}); pass name and hand, or use warpgrasp.dataset"
            )
            raise FileFormatError(path, problem)
        part, title = found[0]
        grasps = next(one for one in store.read(part) if one.object_name == title)
    else:
        grasps = read_grasps(path, mesh=mesh is None)
    if mesh is None:
        return grasps
    given = load_object(mesh)
    return dataclasses.replace(grasps, object_vertices=given.vertices, object_faces=given.faces)


def _key(grasps: Grasps) -> str:
    """Equal grasps have equal keys, so that a repeated export adds nothing."""
    digest = hashlib.sha256(f"{grasps.hand_hash} {grasps.object_name} {grasps.joint_names}".encode())
    for pose in (grasps.pregrasp, grasps.pose, grasps.squeeze):
        for field in POSE_FIELDS:
            digest.update(np.ascontiguousarray(getattr(pose, field), "<f8").tobytes())
    return digest.hexdigest()[:32]
