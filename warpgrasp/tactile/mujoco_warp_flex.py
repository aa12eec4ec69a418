"""The dynamic backend for batches on a GPU: MuJoCo's flexes in mujoco-warp, one world per grasp, single precision.

Scene, recipe and results are those of :mod:`.mujoco_flex`. Constraints are solved by conjugate gradients, because
mujoco-warp's Newton method takes no flex that is glued to a moving link.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from ..errors import OptionError, WarpgraspError
from ..hand import Hand
from ..kernels import loads as kernels
from ..memory import FREE_SHARE, free_bytes
from ..mesh import ObjectMesh
from ..physics.engine import mujoco, mujoco_warp
from ..physics.object_model import ObjectShape
from ..result import Grasps
from .flex_reading import Snapshot, find_result
from .flex_scene import CLOSE_STEPS, PULL_STEPS, RAMP, FlexScene, Presses
from .mujoco_flex import MujocoFlex
from .result import TactileResults, join
from .soft_hand import PadOptions

STATE = ("time", "qpos", "qvel", "qacc_warmstart")
"""What the next step depends on beside loads and equalities."""

NEAR = 8
"""Room for pairs of a tetrahedron and a geom whose boxes meet, per contact: mujoco-warp has one for both."""

LEAST_CONTACTS = 256
"""Room for contacts in a world, where the pads are coarse."""

SCRATCH = 3.0
"""Estimated memory of a world in a step, as a multiple of what mujoco-warp keeps of it between steps."""

PAIR_BYTES = 10_000
"""And of a pair while the depths of convex shapes are searched, summed up from what mujoco-warp 4.0 allocates."""


class MujocoWarpFlex(MujocoFlex):
    """Soft pads of one hand on one object in mujoco-warp.

    Args:
        hand: The hand.
        obj: The object.
        shape: What the object touches with; found from its mesh where omitted.
        device: Warp device; the first GPU, else the CPU, where omitted.
        batch: Most grasps that are simulated together; fewer where the device has not the memory.
        contacts: Room for contacts in each world; a quarter of the pads' tetrahedra where omitted.
        options: ``pads``, ``material`` and ``load``, see :class:`PadOptions`.

    Raises:
        WarpgraspError: mujoco-warp is not installed, or has no support for something in the scene.
    """

    name = "mujoco-warp"

    solver, iterations = "CG", 300

    def __init__(
        self,
        hand: Hand,
        obj: ObjectMesh,
        *,
        shape: ObjectShape | None = None,
        device: str | None = None,
        batch: int = 256,
        contacts: int | None = None,
        **options: Unpack[PadOptions],
    ) -> None:
        if batch < 1 or (contacts is not None and contacts < 1):
            raise OptionError(f"batch and contacts must be at least 1, got {batch} and {contacts}")
        mujoco_warp()
        super().__init__(hand, obj, shape=shape, device=device, **options)
        elements = sum(len(pad.mesh.tetrahedra) for pad in self.pads)
        self.batch, self.contacts = batch, contacts or max(LEAST_CONTACTS, elements // 4)
        self.device = self.mesh.device

    @staticmethod
    def is_available() -> tuple[bool, str]:
        """MuJoCo and mujoco-warp 4 or newer; a GPU is no condition, but without one the other backend is faster."""
        available, reason = MujocoFlex.is_available()
        if not available:
            return available, reason
        try:
            version = str(mujoco_warp().__version__)
        except WarpgraspError as error:
            return False, str(error)
        if int(version.split(".", maxsplit=1)[0]) < 4:
            return False, f"it needs mujoco-warp 4.0, found {version}; pip install 'mujoco-warp>=4.0'"
        return True, ""

    def run(self, grasps: Grasps, *, on_progress: Any = None) -> TactileResults:
        """Close every grasp on soft pads, pull it six ways, and read its sensors."""
        presses = self.presses(grasps)
        info = {
            "mujoco_warp": str(mujoco_warp().__version__), "device": self.device, "solver_iterations": self.iterations
        }  # fmt: skip
        parts, batch = [], self._batch()
        for begin in range(0, len(grasps), batch):
            part = presses[begin : begin + batch]
            worlds = Worlds(self.scene, part, device=self.device, contacts=self.contacts)
            closed = worlds.close()
            pulled = worlds.pull(hold=self.load.hold == "position")
            for row, shut in enumerate(closed):
                parts.append(find_result(self, part[row], shut, [way[row] for way in pulled], info))
            if on_progress:
                on_progress(begin + len(part), len(grasps))
        return join(parts)

    def _batch(self) -> int:
        """Grasps that are simulated together."""
        free = free_bytes(self.device)
        if not np.isfinite(free):
            return self.batch
        one, two = (held_bytes(Worlds.data_for(self.scene, n, self.device, self.contacts)) for n in (1, 2))
        room = SCRATCH * (two - one) + PAIR_BYTES * NEAR * self.contacts
        return max(1, min(self.batch, int(FREE_SHARE * free / room)))


class Worlds:
    """One world for each of N grasps: closed together, then pulled from there six times.

    Args:
        scene: Model of all worlds.
        presses: What the grasps put into it.
        device: Warp device.
        contacts: Room for contacts in each world.

    Raises:
        WarpgraspError: mujoco-warp has no support for something in the scene.
    """

    def __init__(self, scene: FlexScene, presses: Presses, *, device: str, contacts: int) -> None:
        import warp as wp

        self.scene, self.presses, self.contacts = scene, presses, contacts
        self.device = wp.get_device(device)
        count = len(presses)
        self.model = put_scene(scene, device, count)
        self.data = self.data_for(scene, count, device, contacts)
        self.data.qpos.assign(presses.position.astype(np.float32))
        self.data.eq_active.assign(presses.active)
        self._set_equality(presses.equality)
        self.force = wp.array(presses.force.astype(np.float32), dtype=float, device=self.device)
        self.weight = wp.zeros(count, dtype=wp.vec3, device=self.device)
        self.raised = wp.zeros(count, dtype=int, device=self.device)
        self.graph: Any = None

    @staticmethod
    def data_for(scene: FlexScene, count: int, device: str, contacts: int) -> Any:
        """mujoco-warp's data of so many worlds."""
        import warp as wp

        with wp.ScopedDevice(device):
            rows = 3 * contacts + scene.model.neq
            return mujoco_warp().make_data(scene.model, nworld=count, nconmax=NEAR * contacts, njmax=rows)

    def close(self) -> list[Snapshot]:
        """Push the closures; every world afterwards."""
        import warp as wp

        self._step(CLOSE_STEPS)
        with wp.ScopedDevice(self.device):
            mujoco_warp().forward(self.model, self.data)
        return self.look()

    def pull(self, *, hold: bool) -> list[list[Snapshot]]:
        """Pull the closed hands' objects six ways, with closures held where they are or pushed on; by direction."""
        scene, data = self.scene, self.data
        if hold:
            equality, active = self.presses.equality.copy(), self.presses.active.copy()
            equality[:, scene.hold, 0] = data.qpos.numpy()[:, scene.closure]
            active[:, scene.hold] = True
            self._set_equality(equality)
            data.eq_active.assign(active)
        self.raised.fill_(1)
        data.time.zero_()
        state = self._state()
        pulled = []
        for way in range(self.presses.weight.shape[1]):
            self._restore(state)
            self.weight.assign(self.presses.weight[:, way].astype(np.float32))
            self._step(PULL_STEPS)
            pulled.append(self.look())
        return pulled

    def look(self) -> list[Snapshot]:
        """Every world as it is now.

        Raises:
            WarpgraspError: There was no room for all contacts.
        """
        data = self.data
        self._check_room()
        names = ("qpos", "xpos", "xmat", "qfrc_constraint", "flexvert_xpos")
        states = zip(*(getattr(data, name).numpy().astype(float) for name in names), strict=True)
        count = int(data.nacon.numpy()[0])
        geom, row = data.contact.geom.numpy()[:count], data.contact.efc_address.numpy()[:count, 0]
        rigid = (geom >= 0).all(axis=1) & (row >= 0)
        world = data.contact.worldid.numpy()[:count][rigid]
        force = data.efc.force.numpy()[world[:, None], row[rigid][:, None] + np.arange(3)]
        force = np.einsum("ck,ckx->cx", force, data.contact.frame.numpy()[:count][rigid])
        contacts = (self.scene.model.geom_bodyid[geom[rigid]], data.contact.pos.numpy()[:count][rigid], force)
        return [Snapshot(*state, *(part[world == w] for part in contacts)) for w, state in enumerate(states)]

    def _set_equality(self, values: np.ndarray) -> None:
        self.model.eq_data.assign(values.astype(np.float32))

    def _state(self) -> dict[str, Any]:
        import warp as wp

        return {name: wp.clone(getattr(self.data, name)) for name in STATE}

    def _restore(self, state: dict[str, Any]) -> None:
        import warp as wp

        for name, values in state.items():
            wp.copy(getattr(self.data, name), values)

    def _step(self, count: int) -> None:
        """Steps without the host: on a GPU all of them are launches of one graph."""
        import warp as wp

        with wp.ScopedDevice(self.device):
            if self.device.is_cuda and self.graph is None:
                # Compile before the capture, which allows no module to load, and take the step back.
                before = self._state()
                self._launch()
                self._restore(before)
                with wp.ScopedCapture() as capture:
                    self._launch()
                self.graph = capture.graph
            for _ in range(count):
                if self.graph is None:
                    self._launch()
                else:
                    wp.capture_launch(self.graph)

    def _launch(self) -> None:
        import warp as wp

        wp.launch(
            kernels.raise_loads,
            dim=len(self.presses),
            inputs=[self.data.time, RAMP, self.raised, self.force, self.weight, self.scene.object_body],
            outputs=[self.data.ctrl, self.data.xfrc_applied],
            device=self.device,
        )
        mujoco_warp().step(self.model, self.data)

    def _check_room(self) -> None:
        kind = mujoco_warp().OverflowType
        room = kind.NEFC | kind.NJMAX_NNZ | kind.BROADPHASE | kind.NARROWPHASE | kind.CCD
        if (self.data.overflow.numpy() & int(room)).any():
            raise WarpgraspError(
                f"more than {self.contacts} contacts in a world of mujoco-warp: pass contacts={2 * self.contacts}, or "
                "use the backend 'mujoco'"
            )


def put_scene(scene: FlexScene, device: str, count: int) -> Any:
    """mujoco-warp's model of a scene, with equalities of their own in so many worlds.

    Raises:
        WarpgraspError: It has no support for something in the scene; the message says what.
    """
    import warp as wp

    model = copy.copy(scene.model)
    # It never begins a diverged world anew, and does not know the flag that says so.
    model.opt.disableflags &= ~int(mujoco().mjtDisableBit.mjDSBL_AUTORESET)
    with wp.ScopedDevice(device):
        try:
            found = mujoco_warp().put_model(model, batch_sizes={"eq_data": count})
        except (NotImplementedError, ValueError) as error:
            raise WarpgraspError(
                f"mujoco-warp cannot simulate this hand on this object ({error}); use the backend 'mujoco'"
            ) from error
    # Room is checked where worlds are read; a solver that stops at its last iteration is no news.
    found.opt.warn_overflow = 0
    return found


def held_bytes(data: Any) -> int:
    """Bytes of all arrays in mujoco-warp's data."""
    return sum(array.capacity for array in _arrays(data))


def _arrays(data: Any) -> Iterator[Any]:
    import warp as wp

    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if isinstance(value, wp.array):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from _arrays(value)
