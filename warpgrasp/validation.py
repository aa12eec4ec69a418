"""``validate(grasps)``: does it hold? Physics that did not take part in making the grasps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .errors import FileFormatError, OptionError
from .hand import Hand
from .physics.engine import mujoco
from .physics.object_model import ObjectShape, object_shape
from .physics.protocols import Protocol, find_protocol
from .physics.scene import compile_scene, finger_of_body, scene_spec
from .physics.trial import Outcome
from .physics.workers import Job, ProgressCallback, judge
from .result import Grasps


def validate(
    grasps: Grasps,
    protocol: Protocol | str = "fc6",
    *,
    workers: int | None = None,
    device: str | None = None,
    hand_mjcf: str | Path | None = None,
    couple_actuators: bool = False,
    shape: ObjectShape | None = None,
    on_progress: ProgressCallback | None = None,
) -> Grasps:
    """Test every grasp in a physics simulation, valid or not.

    Args:
        grasps: Grasps with their pregrasp and squeeze.
        protocol: ``"fc6"`` (six pulls, no gravity), ``"dgn6"``, ``"gendex6"``, ``"sd_obman"``, ``"sd_2s"``, ``"lift"``,
            or settings of your own.
        workers: Processes; as many as there are cores to use, where omitted.
        device: Warp device such as ``"cuda:0"``, on which mujoco-warp simulates all grasps at once. Where omitted,
            MuJoCo does it in several processes.
        hand_mjcf: Your own MJCF of the same hand, simulated instead of what is written from the ``Hand``.
        couple_actuators: One motor for the joints that the hand's description pulls together, such as Shadow's J1
            and J2; otherwise every free joint has its own.
        shape: What the object touches with; found from its mesh where omitted.
        on_progress: Called with the grasps done and the grasps in all.

    Returns:
        The same grasps with new metrics, each key naming protocol and unit: ``success_fc6`` (0 or 1), ``fc6_failure``
        (why, in words), ``fc6_failed_pull``, ``fc6_failure_time_s``, ``fc6_displacement_m`` and the other fields of
        :class:`warpgrasp.physics.trial.Outcome`. ``info["physics"]["fc6"]`` keeps the settings.

    Raises:
        OptionError: There is no such protocol, it does not run on a device, or ``workers`` is not a positive number.
        DeviceError: There is no such device.
        FileFormatError: The hand is not the one that the grasps were made with.
        HandError: The hand cannot be driven, or ``hand_mjcf`` is of another hand.
    """
    chosen = find_protocol(protocol)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise OptionError(f"workers must be a positive whole number, got {workers!r}")
    hand = _hand(grasps)
    shape = shape or object_shape(grasps.object)
    job = prepare(grasps, chosen, shape, hand_mjcf=hand_mjcf, couple_actuators=couple_actuators)
    if device is None:
        outcomes, engine = judge(job, workers=workers, on_progress=on_progress), "mujoco"
    else:
        from .device import choose
        from .physics import batch

        device = choose(device)
        outcomes, engine = batch.judge_batch(job, device=device, on_progress=on_progress), batch.engine(device)
    record = {
        **dataclasses.asdict(chosen),
        "hand": "written from the hand" if hand_mjcf is None else str(hand_mjcf),
        "couple_actuators": couple_actuators,
        "object": f"{len(shape.pieces)} convex pieces" if shape.pieces else shape.kind,
        "note": shape.note,
        "engine": engine,
        "mujoco": mujoco().__version__,
        "warpgrasp": __version__,
    }
    return _with_metrics(grasps, hand, metrics(chosen, outcomes), {chosen.name: _plain(record)})


def _hand(grasps: Grasps) -> Hand:
    hand = grasps.hand
    if hand.hash != grasps.hand_hash or hand.joint_names != tuple(grasps.joint_names):
        raise FileFormatError(grasps.hand_source, "this hand has changed since the grasps were made with it")
    return hand


def prepare(
    grasps: Grasps,
    protocol: Protocol,
    shape: ObjectShape,
    *,
    hand_mjcf: str | Path | None = None,
    couple_actuators: bool = False,
) -> Job:
    """The compiled scene of some grasps, ready to be judged; see :func:`validate` for the arguments."""
    hand = grasps.hand
    spec = scene_spec(
        hand,
        grasps.object,
        shape,
        protocol,
        hand_mjcf=hand_mjcf,
        couple_actuators=couple_actuators,
        resting=grasps.table,
    )
    model = compile_scene(spec, protocol)
    poses = {"pregrasp": grasps.pregrasp, "grasp": grasps.pose, "squeeze": grasps.squeeze}
    return Job(model, tuple(grasps.joint_names), finger_of_body(model, hand), protocol, poses)


def metrics(protocol: Protocol, outcomes: list[Outcome]) -> dict[str, np.ndarray]:
    """Outcomes as columns; a protocol that judges nothing has no success, and one without pulls no failed pull."""
    columns = {
        field.name: np.array([getattr(outcome, field.name) for outcome in outcomes])
        for field in dataclasses.fields(Outcome)
    }
    success = columns.pop("success").astype(np.int64)
    for name in ("failure", "failed_pull"):
        columns[name] = columns[name].astype(str)
    keyed = {} if protocol.criterion == "none" else {f"success_{protocol.name}": success}
    return keyed | {f"{protocol.name}_{name}": column for name, column in columns.items()}


def _with_metrics(grasps: Grasps, hand: Hand, new: dict[str, np.ndarray], settings: dict[str, Any]) -> Grasps:
    info = {**grasps.info, "physics": {**grasps.info.get("physics", {}), **settings}}
    judged = dataclasses.replace(grasps, metrics={**grasps.metrics, **new}, info=info)
    judged.hand, judged.object = hand, grasps.object
    return judged


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold: an infinite limit is none."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in record.items()
    }
