"""The Isaac Gym backend: writes files, starts a worker in another interpreter for each batch, reads what it wrote.

Isaac Gym needs Python 3.6 to 3.8 and an NVIDIA GPU, and does not give its memory back while its process lives. It was
not at hand when this was written: files and calls follow its documentation and are tested against a stand-in that
checks names, order and shapes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from .. import __version__, rotation
from ..errors import HandError, OptionError, WarpgraspError
from ..hand import Hand
from ..mesh import ObjectMesh
from ..physics.object_model import ObjectShape, object_shape
from ..result import Grasps
from ..squeeze import LEVER, STIFFNESS
from .closing import find_closures
from .isaac_files import write_hand, write_object
from .result import STRAIN_SHARE, TactileResults, join, verdict
from .sensors import region_radius
from .soft_hand import PadOptions, SoftHand

VARIABLE = "WARPGRASP_ISAACGYM_PYTHON"
"""Environment variable with the interpreter that has Isaac Gym."""

WORKER = Path(__file__).with_name("isaac_worker.py")

BATCH = 16
"""Grasps of one process."""

PROBE_SECONDS, JOB_SECONDS = 120.0, 7200.0
"""Time that a probe and a batch may take."""

TIMES = {
    "time_step": 1.0 / 1500.0, "substeps": 1, "closing_steps": 750, "pull_steps": 300, "rest_steps": 150,
}  # fmt: skip
"""Time step [s] and numbers of steps."""


class IsaacGym(SoftHand):
    """Soft pads of one hand on one object in Isaac Gym. Joints are sent to the squeeze by springs and stay on them.

    Args:
        hand: The hand.
        obj: The object.
        shape: What the object touches with; found from its mesh where omitted.
        gpu: Number of the GPU.
        options: ``pads``, ``material`` and ``load``, see :class:`PadOptions`.
    """

    name = "isaacgym"

    def __init__(
        self,
        hand: Hand,
        obj: ObjectMesh,
        *,
        shape: ObjectShape | None = None,
        gpu: int = 0,
        **options: Unpack[PadOptions],
    ) -> None:
        super().__init__(hand, obj, **options)
        self.gpu = gpu
        if len({len(pad.mesh.faces) for pad in self.pads}) > 1:
            raise OptionError("all pads need equal numbers of faces")
        self.pieces = _pieces(obj, shape)

    @staticmethod
    def is_available() -> tuple[bool, str]:
        """Whether the interpreter that the environment names can import Isaac Gym."""
        python = os.environ.get(VARIABLE)
        hint = f"set {VARIABLE} to the Python (3.6 to 3.8) that has Isaac Gym Preview 4"
        if not python:
            return False, hint
        if not (os.path.isfile(python) and os.access(python, os.X_OK)):
            return False, f"{VARIABLE} is {python!r}, which is no program; {hint}"
        try:
            done = subprocess.run(
                [python, str(WORKER), "--probe"], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return False, f"{python} does not answer ({type(error).__name__}); {hint}"
        if done.returncode or '"python"' not in done.stdout:
            words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return False, f"{python} cannot import Isaac Gym ({words}); {hint}"
        return True, ""

    def run(self, grasps: Grasps, *, on_progress: Any = None) -> TactileResults:
        """Close every grasp on soft pads, pull it six ways, and read its sensors; one process per batch."""
        if not len(grasps):
            raise HandError(self.hand.path, "there is no grasp to press")
        target = self._targets(grasps)
        parts = []
        for begin in range(0, len(grasps), BATCH):
            rows = slice(begin, begin + BATCH)
            with tempfile.TemporaryDirectory(prefix="warpgrasp-isaacgym-") as folder:
                self.write_job(Path(folder), grasps, target, rows)
                found = _run_worker(Path(folder))
            parts.append(self._results(grasps, rows, found))
            if on_progress:
                on_progress(min(begin + BATCH, len(grasps)), len(grasps))
        return join(parts)

    def _targets(self, grasps: Grasps) -> np.ndarray:
        """Joint targets whose springs press with no more than the load's largest force, shape (N, J)."""
        toward = np.tile([0.0, 0.0, 1.0], (len(grasps), len(self.pads), 1))
        strong, scaled = (
            find_closures(self.hand, self.pads, grasps.pose, grasps.squeeze, force=force, toward=toward).force
            for force in (1.0e9, self.load.force)
        )
        share = np.where(strong > 0.0, scaled / np.maximum(strong, 1.0e-9), 1.0).min(axis=1, initial=1.0)
        return grasps.joint_position + share[:, None] * (grasps.squeeze.joint_position - grasps.joint_position)

    def write_job(self, folder: Path, grasps: Grasps, target: np.ndarray, rows: slice) -> None:
        """All that the worker reads."""
        write_hand(self.hand, self.pads, self.material, folder)
        write_object(self.object, self.pieces, self.load.mass, folder)
        sliding = [joint.kind == "prismatic" for joint in self.hand.joints]
        stiffness = np.where(sliding, STIFFNESS / LEVER**2, STIFFNESS)
        job = {
            **TIMES,
            "gpu": self.gpu,
            "joint_names": list(self.hand.joint_names),
            "stiffness": stiffness.tolist(),
            "joint_damping": (0.02 * stiffness).tolist(),
            "vertices": [len(pad.mesh.vertices) for pad in self.pads],
            "youngs_modulus": self.material.youngs_modulus,
            "poisson_ratio": self.material.poisson_ratio,
            "damping": self.material.damping,
            "friction": self.material.friction,
            "mass": self.load.mass,
            "gravity": self.load.gravity,
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        wrist = np.concatenate([grasps.wrist_position[rows], grasps.wrist_quaternion[rows]], axis=1)
        np.savez(folder / "grasps.npz", wrist=wrist, start=grasps.joint_position[rows], target=target[rows])

    def _results(self, grasps: Grasps, rows: slice, found: dict[str, np.ndarray]) -> TactileResults:
        count, pads, samples = len(found["closed_joints"]), len(self.pads), len(self.pads[0].mesh.faces)
        base = rotation.matrix(grasps.wrist_position[rows], grasps.wrist_quaternion[rows])
        place = base[:, None] @ self.hand.link_transforms(found["closed_joints"])
        turn = rotation.matrix_from_quaternion(found["closed_object"][:, 3:])
        force = np.zeros((count, pads, samples, 3))
        local, moved = np.zeros_like(force), np.zeros_like(force)
        strain = np.zeros((count, pads))
        world, on_object, normal = (np.zeros((count, pads * samples, 3)) for _ in range(3))
        vertex = element = 0
        for number, pad in enumerate(self.pads):
            mesh = pad.mesh
            frame = place[:, pad.link] @ pad.pose
            points = found["closed_vertices"][:, vertex : vertex + len(mesh.vertices)]
            stress = found["closed_stress"][:, element : element + len(mesh.tetrahedra)]
            vertex, element = vertex + len(mesh.vertices), element + len(mesh.tetrahedra)
            skin, area, outward = _faces(mesh.faces, points)
            pressed = np.einsum("nfxy,nfy->nfx", stress[:, _parents(mesh)], outward) * area[..., None]
            # Stresses of tetrahedra are means: only what presses counts as contact.
            pressed = np.where(((pressed * outward).sum(axis=2) < 0.0)[..., None], pressed, 0.0)
            force[:, number] = np.einsum("nyx,nfy->nfx", frame[:, :3, :3], pressed)
            local[:, number] = np.einsum("nyx,nfy->nfx", frame[:, :3, :3], skin - frame[:, None, :3, 3])
            moved[:, number] = local[:, number] - mesh.samples
            part = slice(number * samples, (number + 1) * samples)
            world[:, part], on_object[:, part], normal[:, part] = skin, -pressed, outward
            strain[:, number] = _strain(mesh, points)
        center = found["closed_object"][:, None, :3]
        position = np.einsum("nyx,ncy->ncx", turn, world - center)
        on_object, normal = (np.einsum("nyx,ncy->ncx", turn, array) for array in (on_object, normal))
        pressing = np.maximum((on_object * normal).sum(axis=2), 0.0)
        total = np.maximum(pressing.sum(axis=1), 1.0e-9)
        touching = pressing > 1.0e-3 * total[:, None]
        tangent = np.linalg.norm(on_object - pressing[..., None] * normal, axis=2)
        link = np.repeat([pad.link for pad in self.pads], samples)
        loaded = pressing.reshape(count, pads, samples).sum(axis=2) > 0.01 * total[:, None]
        fingers = sum(
            loaded[:, np.isin([pad.link for pad in self.pads], finger.links)].any(axis=1).astype(int)
            for finger in self.hand.fingers
        ) + np.zeros(count, int)
        rest = np.tile([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], (count, 1))
        push, spin = self._between(rest, found["closed_object"])
        sag, tilt = zip(
            *[self._between(found["closed_object"], found["pulled_object"][:, k]) for k in range(6)], strict=True
        )
        sag, tilt = np.stack(sag, axis=1), np.stack(tilt, axis=1)
        values = {
            "closing_residual": np.zeros(count), "residual": np.zeros((count, 6)), "carried": np.ones((count, 6)),
            "object_displacement": sag, "object_rotation": tilt, "strain": np.zeros(count),
            "closing_displacement": push, "closing_rotation": spin,
        }  # fmt: skip
        reason = verdict(values, self.load, fingers, min(self.load.least_fingers, len(self.hand.fingers)))
        outward = [pad.mesh.sample_normals for pad in self.pads]
        return TactileResults(
            backend=self.name,
            finger_names=tuple(pad.name for pad in self.pads),
            passed=reason == "",
            reason=reason,
            fingers_touching=fingers,
            joint_position=found["closed_joints"],
            closure=np.zeros((count, 0)),
            finger_wrench=np.concatenate([force.sum(axis=2), np.cross(local, force).sum(axis=2)], axis=2),
            taxel_force=np.stack([taxel.read(force[:, p]) for p, taxel in enumerate(self.taxels)], axis=1),
            taxel_position=np.stack([taxel.position for taxel in self.taxels]),
            taxel_normal=np.stack([taxel.normal for taxel in self.taxels]),
            net_force=self._net_forces(found["closed_pressing"]),
            contact_position=np.where(touching[..., None], position, np.nan),
            contact_normal=np.where(touching[..., None], normal, np.nan),
            contact_force=np.where(touching[..., None], on_object, 0.0),
            contact_link=np.where(touching, link, -1),
            contact_pad=np.repeat(np.arange(pads), samples),
            slip_ratio=np.where(touching, tangent / np.maximum(self.material.friction * pressing, 1.0e-12), np.nan),
            pad_displacement=moved,
            indentation=np.maximum(-np.einsum("npsx,psx->nps", moved, np.stack(outward)), 0.0).max(axis=2),
            strain=strain,
            closing_displacement=push,
            closing_rotation=spin,
            object_position=found["closed_object"][:, :3],
            object_quaternion=found["closed_object"][:, 3:],
            object_displacement=sag,
            object_rotation=tilt,
            residual=np.concatenate(
                [np.linalg.norm(on_object.sum(axis=1), axis=1)[:, None] / total[:, None], np.full((count, 6), np.nan)],
                axis=1,
            ),
            carried=np.full((count, 6), np.nan),
            info={
                "backend": self.name,
                "material": dataclasses.asdict(self.material),
                "load": dataclasses.asdict(self.load),
                **TIMES,
                "warpgrasp": __version__,
            },
        )

    def _net_forces(self, pressing: np.ndarray) -> np.ndarray:
        """FleX's normal forces on the vertices in the middle of each pad, shape (N, P)."""
        ends = np.cumsum([len(pad.mesh.vertices) for pad in self.pads])[:-1]
        net = [
            part[:, np.linalg.norm(pad.mesh.vertices[:, :2], axis=1) <= region_radius(pad.mesh)].sum(axis=1)
            for pad, part in zip(self.pads, np.split(pressing, ends, axis=1), strict=True)
        ]
        return np.stack(net, axis=1)

    def _between(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance of the centre of mass [m] and angle [rad] between poses (N, 7)."""
        center = self.object.center_of_mass
        places = [rotation.matrix_from_quaternion(pose[:, 3:]) @ center + pose[:, :3] for pose in (before, after)]
        cosine = np.minimum(np.abs((before[:, 3:] * after[:, 3:]).sum(axis=1)), 1.0)
        return np.linalg.norm(places[1] - places[0], axis=1), 2.0 * np.arccos(cosine)


def _pieces(obj: ObjectMesh, shape: ObjectShape | None) -> tuple[np.ndarray, ...]:
    shape = shape or object_shape(obj)
    return shape.pieces or (np.asarray(obj.trimesh().convex_hull.vertices),)


def _run_worker(folder: Path) -> dict[str, np.ndarray]:
    """Start the worker on a job and read its result.

    Raises:
        WarpgraspError: It fails or takes too long; the message carries its last words.
    """
    python = os.environ.get(VARIABLE, "")
    try:
        done = subprocess.run(
            [python, str(WORKER), str(folder)], capture_output=True, text=True, timeout=JOB_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WarpgraspError(f"the Isaac Gym worker did not run: {error}") from error
    result = folder / "result.npz"
    if not result.is_file():
        words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise WarpgraspError(f"the Isaac Gym worker failed: {words}")
    with np.load(result, allow_pickle=False) as archive:
        return dict(archive)


def _faces(faces: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres, areas and unit normals of faces of deformed vertices (N, vertex, 3)."""
    a, b, c = np.moveaxis(points[:, faces], 2, 0)
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=2)
    return (a + b + c) / 3.0, 0.5 * length, cross / np.maximum(length, 1.0e-12)[..., None]


def _parents(mesh: Any) -> np.ndarray:
    """The tetrahedron that each face of the skin belongs to, shape (face,)."""
    has = np.zeros((len(mesh.tetrahedra), len(mesh.vertices)), bool)
    has[np.arange(len(mesh.tetrahedra))[:, None], mesh.tetrahedra] = True
    return np.array([int(has[:, face].all(axis=1).argmax()) for face in mesh.faces])


def _strain(mesh: Any, points: np.ndarray) -> np.ndarray:
    """Principal Green strain that a twentieth of the elements exceed, shape (N,)."""
    rest = mesh.vertices[mesh.tetrahedra]
    now = points[:, mesh.tetrahedra]
    rest = np.swapaxes(rest[:, 1:] - rest[:, :1], 1, 2)
    gradient = np.swapaxes(now[:, :, 1:] - now[:, :, :1], 2, 3) @ np.linalg.inv(rest)
    green = 0.5 * (np.swapaxes(gradient, 2, 3) @ gradient - np.eye(3))
    return np.quantile(np.abs(np.linalg.eigvalsh(green)).max(axis=2), STRAIN_SHARE, axis=1)
