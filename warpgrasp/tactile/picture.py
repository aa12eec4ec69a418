"""Pictures of contact forces on the hand, and of what its fingertips feel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import rotation
from ..device import choose
from ..errors import OptionError
from ..preview import (
    INK,
    INVALID_INK,
    OBJECT_COLOR,
    VALID_INK,
    HandBody,
    Tile,
    check_name,
    clearest_camera,
    frame_along,
    write_grid,
)
from ..render import Camera, Part, Scene, Surface
from ..result import Grasps
from .pads import FingerPad, hand_pads
from .result import TactileResults

ARROW_COLOR = (0.86, 0.16, 0.16)

ARROW_LENGTH = 0.05
"""Of the largest force in a picture [m]."""

LIFT = 3.0e-4
"""How far the coloured skins lie above the links [m]."""

LEAST_ARROW = 0.02
"""Share of the largest force below which no arrow is drawn."""


def preview_tactile(
    grasps: Grasps,
    results: TactileResults,
    path: str | Path,
    *,
    index: int = 0,
    pads: list[FingerPad] | None = None,
    size: int = 400,
    device: str | None = None,
) -> None:
    """Draw one grasp: as it is, the object with the net force of each link, and the hand with pressures on its pads.

    Then every loaded pad's tactile map as seen from the object: dots are taxels, the larger and darker the harder
    they are pressed, lines are tangential forces.

    Args:
        grasps: The grasps.
        results: Of the same grasps.
        path: PNG file to write.
        index: The grasp.
        pads: What was passed to the backend; the hand's pads where omitted.
        size: Side of each picture in pixels.
        device: Warp device; the first GPU, else the CPU, when omitted.

    Raises:
        OptionError: There is no such grasp.
        FileFormatError: The name does not end in ``.png``.
    """
    if not 0 <= index < len(results):
        raise OptionError(f"there is no grasp {index}; there are {len(results)}")
    check_name(path)
    pads = hand_pads(grasps.hand) if pads is None else pads
    chosen = choose(device)
    base = rotation.matrix(grasps.wrist_position[index], grasps.wrist_quaternion[index])
    # Seen from the object: where it has gone while the hand closed does not matter.
    moved = rotation.matrix(results.object_position[index], results.object_quaternion[index])
    pose = rotation.inverse(moved) @ base @ grasps.hand.link_transforms(results.joint_position[index])
    body = HandBody(grasps.hand)
    everything = np.ones(len(grasps.hand.links), bool)
    mesh = grasps.object.trimesh()
    target = Part(Surface(np.asarray(mesh.vertices, float), np.asarray(mesh.faces)), OBJECT_COLOR)
    hand = body.parts(pose, everything)
    whole = Scene([target, *hand], device=chosen)
    pushed = Scene([target, *_arrows(results, index, 0.0)], device=chosen)
    bare = Scene([*hand, *_pressure(pads, pose, results, index), *_arrows(results, index, 1.0)], device=chosen)
    passed = bool(results.passed[index])
    title = f"{index}: {'holds' if passed else results.reason[index]}"
    detail = f"{results.grip_force[index]:.1f} N in all, pressed in by {1e3 * results.indentation[index].max():.1f} mm"
    camera = clearest_camera(whole)
    view = Camera.framing(pushed.outline, camera.axes[:, 2], np.array([0.0, 0.0, 1.0]))
    inside = bare.render(_palm_camera(grasps, pose, bare), size)
    tiles = [
        Tile(whole.render(camera, size), title, detail, VALID_INK if passed else INVALID_INK),
        Tile(pushed.render(view, size), "net force of each link on the object"),
        Tile(inside, "pressure on the pads", "the same forces, from the hand"),
    ]
    tiles += [
        Tile(_map(results, index, pad, size), name, _caption(results, index, pad))
        for pad, name in enumerate(results.finger_names)
        if results.loaded[index, pad]
    ]
    write_grid(path, tiles, columns=min(4, len(tiles)))


def _palm_camera(grasps: Grasps, pose: np.ndarray, scene: Scene) -> Camera:
    """From where the object is, a little to the side: into the open hand."""
    palm = grasps.hand.palm
    turn = pose[palm.link][:3, :3]
    normal, fingers = turn @ palm.normal, turn @ palm.fingers
    return Camera.framing(scene.outline, normal + 0.35 * np.cross(fingers, normal), fingers)


def _arrows(results: TactileResults, index: int, ahead: float) -> list[Part]:
    """The net force of each link on the object; heads lie ``ahead`` of their length beyond where the force acts."""
    import trimesh

    force, link = results.contact_force[index], results.contact_link[index]
    position = np.nan_to_num(results.contact_position[index])
    weight = results.normal_force[index]
    nets, centers = [], []
    for number in np.unique(link[link >= 0]):
        mine = link == number
        nets.append(force[mine].sum(axis=0))
        centers.append((weight[mine, None] * position[mine]).sum(axis=0) / max(weight[mine].sum(), 1.0e-12))
    sizes = np.linalg.norm(nets, axis=1) if nets else np.zeros(0)
    parts = []
    for net, center, strength in zip(nets, centers, sizes, strict=True):
        share = strength / sizes.max()
        if share < LEAST_ARROW:
            continue
        length = ARROW_LENGTH * max(share, 0.15)
        shaft = trimesh.creation.cylinder(radius=0.0012, height=0.75 * length, sections=16)
        shaft.apply_translation([0.0, 0.0, -0.6 * length])
        head = trimesh.creation.cone(radius=0.0028, height=0.25 * length, sections=16)
        head.apply_translation([0.0, 0.0, -0.25 * length])
        arrow: Any = trimesh.util.concatenate([shaft, head])
        surface = Surface(np.asarray(arrow.vertices, float), np.asarray(arrow.faces))
        direction = net / strength
        parts.append(Part(surface, ARROW_COLOR, frame_along(center + ahead * length * direction, direction)))
    return parts


def _pressure(pads: list[FingerPad], pose: np.ndarray, results: TactileResults, index: int) -> list[Part]:
    """The pads' skins, taxel by taxel, a hair above the links."""
    import trimesh

    press = np.linalg.norm(results.taxel_force[index], axis=2)
    largest = max(float(press.max(initial=0.0)), 1.0e-9)
    parts = []
    for number, pad in enumerate(pads):
        owner = np.linalg.norm(pad.mesh.samples[:, None] - results.taxel_position[number], axis=2).argmin(axis=1)
        normals = trimesh.Trimesh(pad.mesh.vertices, pad.mesh.faces, process=False).vertex_normals
        lifted = pad.mesh.vertices + LIFT * np.asarray(normals)
        for taxel in range(len(results.taxel_position[number])):
            faces = pad.mesh.faces[owner == taxel]
            if len(faces):
                color = _heat(press[number, taxel] / largest)
                parts.append(Part(Surface(lifted, faces), color, pose[pad.link] @ pad.pose))
    return parts


def _heat(share: float) -> tuple[float, float, float]:
    from matplotlib import colormaps

    red, green, blue, _ = colormaps["magma_r"](0.05 + 0.9 * share)
    return red, green, blue


def _map(results: TactileResults, index: int, pad: int, size: int) -> np.ndarray:
    """A pad's taxels from outside, its finger upwards, shape (size, size, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size / 100.0, size / 100.0), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0.14, 0.12, 0.82, 0.84))
    position, force = 1e3 * results.taxel_position[pad], results.taxel_force[index, pad]
    pressed = np.maximum(-(force * results.taxel_normal[pad]).sum(axis=1), 0.0)
    largest = max(float(np.linalg.norm(results.taxel_force[index], axis=2).max()), 1.0e-9)
    axes.scatter(
        position[:, 0], position[:, 1], s=8.0 + 500.0 * pressed / largest, c=pressed / largest, cmap="magma_r",
        vmin=-0.1, vmax=1.0, edgecolors="0.5", linewidths=0.5,
    )  # fmt: skip
    scale = 0.25 * np.ptp(position[:, 1]) / largest
    for (x, y, _), f in zip(position, force, strict=True):
        axes.plot([x, x + scale * f[0]], [y, y + scale * f[1]], color="#2166ac", linewidth=1.5)
    axes.set_aspect("equal", "datalim")
    axes.margins(0.15)
    axes.set_xlabel("mm", color=INK, fontsize=8)
    axes.tick_params(labelsize=8, colors=INK)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _caption(results: TactileResults, index: int, pad: int) -> str:
    net = np.linalg.norm(results.finger_wrench[index, pad, :3])
    return f"{net:.2f} N, region {results.net_force[index, pad]:.2f} N, {1e3 * results.indentation[index, pad]:.2f} mm"
