"""``recheck(grasps)``: soft fingertips and the q-score, before a grasp is trusted."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from . import __version__, tactile
from .device import choose
from .distance import DeviceMesh, signed_distance
from .errors import FileFormatError, OptionError, ShapeError
from .evaluation import torque_length
from .hand import Hand
from .label import measure
from .pose import Pose
from .qscore import QScore, qscore, qscore_label
from .raise_q import REACH, LinkContacts, raise_q
from .result import Grasps
from .tactile import Load, Material, TactileResults, find_material


def recheck(
    grasps: Grasps,
    *,
    backend: str = "quasistatic",
    material: Material | str = "silicone",
    load: Load | None = None,
    raise_steps: int = 0,
    results: TactileResults | None = None,
    device: str | None = None,
    on_progress: tactile.ProgressCallback | None = None,
    **options: Any,
) -> Grasps:
    """Close every grasp on soft fingertips, pull it six ways, and score the contact forces that are found.

    See docs/tactile.md for every key. Poses stay as they are unless ``raise_steps`` is positive: then wrist and joints
    go that many small steps up the gradient of the q-score, a grasp is checked again, and it keeps its new pose and
    squeeze where the second check raises q and passes whatever the first one passed. What is left of its metrics is
    measured anew; those of other functions, such as ``success_fc6``, are gone, because they were of another pose.

    Args:
        grasps: With their squeeze; they are not changed.
        backend: Of :mod:`warpgrasp.tactile`.
        material: Of the pads, or the name of a preset.
        load: How to close and pull.
        raise_steps: Steps that raise the q-score; 0: none.
        results: What ``tactile.open(...).run(grasps)`` gave, so as not to run it again.
        device: Warp device such as "cpu" or "cuda:0"; the first GPU, else the CPU, where omitted.
        on_progress: Called with the grasps done and the grasps in all.
        options: Passed to the backend: ``pads``, ``solver`` and so on.

    Returns:
        The same grasps with new metrics, each key naming the backend unless it is the default one: ``success_tactile``
        and ``success_qscore_tactile`` (0 or 1), ``tactile_failure``, ``qscore_tactile`` and others.
        ``info["recheck"]["tactile"]`` keeps the settings. ``tactile.open(...).run`` gives the arrays behind them.

    Raises:
        OptionError: There is no such backend or material, or an option is out of range.
        FileFormatError: The hand is not the one that the grasps were made with.
        WarpgraspError: The backend is not available here; the message says why and what to do.
    """
    if raise_steps < 0:
        raise OptionError(f"raise_steps must be 0 or larger, got {raise_steps}")
    hand, obj = grasps.hand, grasps.object
    if hand.hash != grasps.hand_hash or hand.joint_names != tuple(grasps.joint_names):
        raise FileFormatError(grasps.hand_source, "this hand has changed since the grasps were made with it")
    load, chosen = load or Load(), find_material(material)
    session = None
    if results is None or raise_steps:
        device_option = {} if backend == "isaacgym" else {"device": device}
        session = tactile.open(hand, obj, backend=backend, material=chosen, load=load, **device_option, **options)
    if results is None:
        assert session is not None
        results = session.run(grasps, on_progress=on_progress)
    if len(results) != len(grasps):
        raise ShapeError("results", f"those of {len(grasps)} grasps", (len(results),))
    score = score_contacts(grasps, results)
    prefix = key(results.backend)
    new = metrics(prefix, results, score)
    if raise_steps and len(grasps):
        assert session is not None
        grasps, new = _raised(grasps, results, score, new, session, raise_steps, device)
    settings = {prefix: results.info | {"raise_steps": raise_steps, "warpgrasp": __version__}}
    info = {**grasps.info, "recheck": {**grasps.info.get("recheck", {}), **settings}}
    checked = dataclasses.replace(grasps, metrics={**grasps.metrics, **new}, info=info)
    checked.hand, checked.object = hand, obj
    return checked


def key(backend: str) -> str:
    """Start of a backend's keys."""
    return "tactile" if backend == "quasistatic" else f"tactile_{backend.replace('-', '_')}"


def score_contacts(grasps: Grasps, results: TactileResults) -> QScore:
    """The q-score of the forces that a soft-body check has found, with the friction that each contact had."""
    touching = np.isfinite(results.contact_position).all(axis=2)
    width = max(int(touching.sum(axis=1).max(initial=0)), 1)
    order = np.argsort(~touching, axis=1, kind="stable")[:, :width]

    rows = np.arange(len(order))[:, None]

    def first(array: np.ndarray) -> np.ndarray:
        return array[rows, order]

    normal = first(results.contact_normal)
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    soft, rigid = results.info["material"]["friction"], results.info["load"]["rigid_friction"]
    friction = np.where(results.contact_pad >= 0, soft, rigid)[order]
    return qscore(
        first(results.contact_position),
        normal / np.where(length > 0.5, length, 1.0),
        first(results.normal_force),
        # A contact without friction has no cone to measure it by.
        friction_coefficient=np.maximum(friction, 1.0e-3),
        center=grasps.object.center_of_mass,
        torque_length=torque_length(grasps.object),
    )


def metrics(prefix: str, results: TactileResults, score: QScore) -> dict[str, np.ndarray]:
    """Columns of a check."""
    success, failure = qscore_label(score, results.fingers_touching)
    tangent = results.contact_force - results.normal_force[..., None] * np.nan_to_num(results.contact_normal)
    used, pressed = np.linalg.norm(tangent, axis=2).sum(axis=1), results.grip_force
    columns = {
        f"success_{prefix}": results.passed.astype(np.int64),
        f"{prefix}_failure": results.reason.astype(str),
        f"{prefix}_fingers_touching": results.fingers_touching.astype(np.int64),
        f"{prefix}_grip_force_N": pressed,
        f"{prefix}_tangential_share": used / np.maximum(pressed, 1.0e-9),
        f"{prefix}_indentation_m": results.indentation.max(axis=1, initial=0.0),
        f"{prefix}_strain": results.strain.max(axis=1, initial=0.0),
        f"{prefix}_closing_displacement_m": results.closing_displacement,
        f"{prefix}_displacement_m": results.object_displacement.max(axis=1, initial=0.0),
        f"{prefix}_rotation_rad": results.object_rotation.max(axis=1, initial=0.0),
        f"{prefix}_residual": results.residual.max(axis=1, initial=0.0),
        f"{prefix}_carried_min": results.carried.min(axis=1, initial=1.0),
        f"success_qscore_{prefix}": success.astype(np.int64),
        f"qscore_{prefix}": score.q,
        f"qscore_{prefix}_lower": np.exp(-score.upper),
        f"qscore_{prefix}_upper": np.exp(-score.lower),
        f"qscore_{prefix}_residual": score.residual,
        f"qscore_{prefix}_failure": failure,
    }
    return columns


def link_contacts(grasps: Grasps, results: TactileResults) -> LinkContacts:
    """One contact for each link that presses: the centre of its forces, and their sum.

    The object may have moved while the hand closed: contacts are where they are on the object.
    """
    links = results.contact_link
    count = len(grasps.hand.links)
    force = results.normal_force
    total = np.zeros((len(force), count))
    center = np.zeros((len(force), count, 3))
    weighted = force[..., None] * np.nan_to_num(results.contact_position)
    for link in range(count):
        mine = links == link
        total[:, link] = np.where(mine, force, 0.0).sum(axis=1)
        center[:, link] = np.where(mine[..., None], weighted, 0.0).sum(axis=1)
    presses = total > 1.0e-3 * np.maximum(total.sum(axis=1, keepdims=True), 1.0e-9)
    position = np.where(presses[..., None], center / np.where(presses, total, 1.0)[..., None], np.nan)
    return LinkContacts(np.broadcast_to(np.arange(count), total.shape).copy(), position, np.where(presses, total, 0.0))


def _as_firm(hand: Hand, grasp: Pose, squeeze: Pose, other_grasp: Pose, other_squeeze: Pose) -> Pose:
    """The squeeze of N grasps, as far from them as others are from theirs: springs press in the same proportions.

    The soft check presses with a few newtons at most; a squeeze from its forces alone would be weaker than it was.
    """
    offset = squeeze.joint_position - grasp.joint_position
    size = np.linalg.norm(offset, axis=1, keepdims=True)
    other = np.linalg.norm(other_squeeze.joint_position - other_grasp.joint_position, axis=1, keepdims=True)
    factor = np.maximum(other / np.maximum(size, 1.0e-9), 1.0)
    joints = hand.clamp(grasp.joint_position + np.where(size > 0.0, factor * offset, 0.0))
    return dataclasses.replace(squeeze, joint_position=joints)


def _raised(
    grasps: Grasps,
    results: TactileResults,
    score: QScore,
    old: dict[str, np.ndarray],
    session: Any,
    steps: int,
    device: str | None,
) -> tuple[Grasps, dict[str, np.ndarray]]:
    """The grasps with those that raising q has made better, and the columns of the check of what they are now."""
    prefix = key(results.backend)
    contacts = link_contacts(grasps, results)
    presses = contacts.normal_force > 0.0
    point = np.nan_to_num(contacts.position).reshape(-1, 3)
    near = signed_distance(grasps.object, point, device=device).reshape(presses.shape) < REACH
    # What closing has pushed away may be touched where it no longer is.
    able = np.asarray(presses.any(axis=1) & (near | ~presses).all(axis=1))
    friction = np.where(np.isin(np.arange(contacts.link.shape[1]), [pad.link for pad in session.pads]),
                        session.material.friction, session.load.rigid_friction)  # fmt: skip
    part = LinkContacts(contacts.link[able], contacts.position[able], contacts.normal_force[able])
    raised = raise_q(
        grasps.hand, grasps.object, grasps.pose[able], part,
        friction_coefficient=np.broadcast_to(np.maximum(friction, 1.0e-3), part.link.shape), steps=steps,
        device=device,
    )  # fmt: skip
    squeeze = _as_firm(grasps.hand, raised.pose, raised.squeeze, grasps.pose[able], grasps.squeeze[able])
    trial = dataclasses.replace(
        grasps, **_with(grasps.pose, raised.pose, able), squeeze=Pose(**_with(grasps.squeeze, squeeze, able))
    )
    trial.hand, trial.object = grasps.hand, grasps.object
    again = session.run(trial)
    other = score_contacts(trial, again)
    new = metrics(prefix, again, other)
    better = able & (other.q > score.q) & (again.passed >= results.passed)
    chosen = {
        name: np.where(better.reshape(-1, *(1,) * (getattr(grasps, name).ndim - 1)), getattr(trial, name),
                       getattr(grasps, name)) for name in ("wrist_position", "wrist_quaternion", "joint_position")
    }  # fmt: skip
    squeeze = Pose(**_with(grasps.squeeze, trial.squeeze[better], better))
    mesh = DeviceMesh(grasps.object, choose(device))
    kept = measure(grasps.hand, grasps.object, Pose(**chosen), mesh)
    moved = dataclasses.replace(grasps, **chosen, squeeze=squeeze, metrics=kept)
    moved.hand, moved.object = grasps.hand, grasps.object
    columns = {name: np.where(better, new[name], column) for name, column in old.items()}
    columns[f"qscore_{prefix}_before"] = score.q
    return moved, columns


def _with(old: Pose, new: Pose, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of a pose with some rows replaced."""
    fields = {}
    for item in dataclasses.fields(Pose):
        fields[item.name] = getattr(old, item.name).copy()
        fields[item.name][rows] = getattr(new, item.name)
    return fields
