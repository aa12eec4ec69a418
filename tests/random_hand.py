"""Hands that nobody would build: random trees, joints, mimics and shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from warpgrasp.hand import Coupling, Hand, Joint, Link, Mimic, Palm, Shape, ShapeKind


def unit(rng: np.random.Generator, size: int) -> np.ndarray:
    vector = rng.normal(size=size)
    return vector / np.linalg.norm(vector)


def random_shape(rng: np.random.Generator, kind: ShapeKind) -> Shape:
    size = {"box": 3, "sphere": 1, "capsule": 2, "cylinder": 2, "mesh": 0}[kind]
    vertices, faces = None, None
    if kind == "mesh":
        import trimesh

        hull = trimesh.convex.convex_hull(rng.uniform(-0.012, 0.012, (12, 3)))
        vertices, faces = np.asarray(hull.vertices), np.asarray(hull.faces)
    return Shape(
        kind, rng.uniform(0.006, 0.012, size), rng.uniform(-0.01, 0.01, 3), unit(rng, 4), vertices=vertices, faces=faces
    )


def random_hand(rng: np.random.Generator, joint_count: int, *, chain: bool = False, coupled: bool = False) -> Hand:
    """A random tree (or chain) of revolute and prismatic joints; every fourth joint mimics the one before it."""
    kinds: tuple[ShapeKind, ...] = ("box", "sphere", "capsule", "cylinder", "mesh")
    joints = tuple(
        Joint(
            name=f"j{j}",
            kind="prismatic" if j % 5 == 4 else "revolute",
            parent=j if chain else int(rng.integers(j + 1)),
            position=rng.uniform(-0.03, 0.03, 3),
            quaternion=unit(rng, 4),
            axis=unit(rng, 3),
            lower=-0.8,
            upper=1.2,
        )
        for j in range(joint_count)
    )
    links = tuple(
        Link(f"l{i}", 0.1, np.zeros(3), np.eye(3), (random_shape(rng, kinds[i % len(kinds)]),))
        for i in range(joint_count + 1)
    )
    mimics = tuple(Mimic(f"j{j}", f"j{j - 1}", 0.5, 0.1) for j in range(3, joint_count, 4))
    couplings = (Coupling({"j0": 1.0, "j1": -1.0}, 0.0),) if coupled else ()
    return Hand(
        name="random",
        path=Path("random.urdf"),
        links=links,
        joints=joints,
        frames={},
        mimics=mimics,
        couplings=couplings,
        fingers=(),
        pads=(),
        palm=Palm(0, np.zeros(3), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])),
        open_position=np.array([0.1 if j % 4 == 3 else 0.0 for j in range(joint_count)]),
        neighbours=frozenset((min(joint.parent, j + 1), max(joint.parent, j + 1)) for j, joint in enumerate(joints)),
    )
