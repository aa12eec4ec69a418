"""The dynamic backend: pads as MuJoCo flexes of stable Neo-Hookean tetrahedra, closed and pulled in time.

Slow, and its linear elements are too stiff, but large strains are no trouble to it, and nothing of it is shared with
the quasistatic backend but the pads.
"""

from __future__ import annotations

import copy
from typing import Any, Unpack

import numpy as np

from ..distance import DeviceMesh, evaluate_signed_distance, find_closest_faces
from ..errors import HandError
from ..hand import Hand
from ..mesh import ObjectMesh
from ..physics.engine import mujoco
from ..physics.object_model import ObjectShape, object_shape
from ..result import Grasps
from .closing import find_closures
from .flex_reading import Snapshot, find_result
from .flex_scene import CLOSE_STEPS, PULL_STEPS, RAMP, FlexScene, Presses
from .result import TactileResults, join
from .soft_hand import PadOptions, SoftHand


class MujocoFlex(SoftHand):
    """Soft pads of one hand on one object in MuJoCo.

    Args:
        hand: The hand.
        obj: The object.
        shape: What the object touches with; found from its mesh where omitted.
        device: Warp device, used for normals only.
        options: ``pads``, ``material`` and ``load``, see :class:`PadOptions`.
    """

    name = "mujoco"

    solver, iterations = "NEWTON", 50
    """Of MuJoCo's constraints."""

    def __init__(
        self,
        hand: Hand,
        obj: ObjectMesh,
        *,
        shape: ObjectShape | None = None,
        device: str | None = None,
        **options: Unpack[PadOptions],
    ) -> None:
        super().__init__(hand, obj, **options)
        self.mesh = DeviceMesh(obj, device)
        self.skins = [np.unique(pad.mesh.faces) for pad in self.pads]
        self.scene = FlexScene(self, shape or object_shape(obj), solver=self.solver, iterations=self.iterations)

    @staticmethod
    def is_available() -> tuple[bool, str]:
        """MuJoCo 4 or newer: older ones have another elasticity."""
        version = str(mujoco().__version__)
        if int(version.split(".", maxsplit=1)[0]) < 4:
            return False, f"it needs MuJoCo 4.0, found {version}; pip install 'mujoco>=4.0'"
        return True, ""

    def run(self, grasps: Grasps, *, on_progress: Any = None) -> TactileResults:
        """Close every grasp on soft pads, pull it six ways, and read its sensors."""
        presses = self.presses(grasps)
        parts = []
        for row in range(len(grasps)):
            trial = _Trial(self.scene, presses[row])
            closed = trial.close()
            pulled = trial.pull(hold=self.load.hold == "position")
            parts.append(find_result(self, presses[row], closed, pulled, {}))
            if on_progress:
                on_progress(row + 1, len(grasps))
        return join(parts)

    def presses(self, grasps: Grasps) -> Presses:
        """What the grasps put into the scene."""
        if not len(grasps):
            raise HandError(self.hand.path, "there is no grasp to press")
        toward = self.pad_axes(grasps.pose)
        closures = find_closures(
            self.hand, self.pads, grasps.pose, grasps.squeeze, force=self.load.force, toward=toward
        )
        return self.scene.presses(grasps, closures)

    def normals(self, position: np.ndarray) -> np.ndarray:
        """Unit normals out of the object at points (point, 3) in its frame."""
        import warp as wp

        shape = (1, len(position))
        at = wp.array(position[None].astype(np.float32), dtype=wp.vec3, device=self.mesh.device)
        face = wp.empty(shape, dtype=int, device=self.mesh.device)
        outward, gradient = wp.empty_like(at), wp.empty_like(at)
        distance = wp.empty(shape, dtype=float, device=self.mesh.device)
        find_closest_faces(self.mesh, at, 0.05, face, outward)
        evaluate_signed_distance(self.mesh, at, face, outward, distance_out=distance, gradient_out=gradient)
        return gradient.numpy()[0].astype(float)


class _Trial:
    """One grasp in MuJoCo, closed and then pulled."""

    def __init__(self, scene: FlexScene, press: Presses) -> None:
        mj = mujoco()
        self.scene, self.press, self.model = scene, press, copy.copy(scene.model)
        self.model.eq_data[:] = press.equality
        self.data = mj.MjData(self.model)
        self.data.qpos[:], self.data.eq_active[:] = press.position, press.active
        mj.set_mju_user_warning(_ignore)

    def close(self) -> Snapshot:
        """Push the closures."""
        for _ in range(CLOSE_STEPS):
            self.data.ctrl[:] = min(1.0, self.data.time / RAMP) * self.press.force
            mujoco().mj_step(self.model, self.data)
        mujoco().mj_forward(self.model, self.data)
        return self.look()

    def pull(self, *, hold: bool) -> list[Snapshot]:
        """Pull the closed hand's object six ways, with closures held where they are or pushed on."""
        mj, model, data, scene = mujoco(), self.model, self.data, self.scene
        if hold:
            model.eq_data[scene.hold, 0] = data.qpos[scene.closure]
            data.eq_active[scene.hold] = 1
        kind = mj.mjtState.mjSTATE_INTEGRATION
        state = np.zeros(mj.mj_stateSize(model, kind))
        data.time = 0.0
        mj.mj_getState(model, data, state, kind)
        pulled = []
        for weight in self.press.weight:
            mj.mj_setState(model, data, state, kind)
            for _ in range(PULL_STEPS):
                data.xfrc_applied[scene.object_body, :3] = min(1.0, data.time / RAMP) * weight
                mj.mj_step(model, data)
            pulled.append(self.look())
        return pulled

    def look(self) -> Snapshot:
        """The scene as it is now."""
        data, contact = self.data, self.data.contact
        rigid = (contact.geom >= 0).all(axis=1) & (contact.efc_address >= 0)
        force = data.efc_force[contact.efc_address[rigid][:, None] + np.arange(3)]
        return Snapshot(
            data.qpos.copy(),
            data.xpos.copy(),
            data.xmat.reshape(-1, 3, 3).copy(),
            data.qfrc_constraint.copy(),
            data.flexvert_xpos.copy(),
            self.model.geom_bodyid[contact.geom[rigid]],
            contact.pos[rigid].copy(),
            np.einsum("ck,ckx->cx", force, contact.frame[rigid].reshape(-1, 3, 3)),
        )


def _ignore(message: str) -> None:
    """MuJoCo warns in every step that its effective metric was not solved to the last digit."""
