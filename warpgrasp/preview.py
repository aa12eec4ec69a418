"""Pictures of grasps and hands, drawn without a display."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import rotation
from .device import choose
from .errors import FileFormatError, OptionError
from .render import Camera, Part, Scene, Surface, surface_distance

if TYPE_CHECKING:
    from .hand import Finger, Hand, Shape
    from .mesh import ObjectMesh
    from .obstacles import Obstacles
    from .resting import RestingPose
    from .result import Grasps

Color = tuple[float, float, float]

OBJECT_COLOR = (0.93, 0.60, 0.30)
PALM_COLOR = (0.72, 0.76, 0.82)
FINGER_COLORS = ((0.30, 0.52, 0.80), (0.24, 0.62, 0.60), (0.52, 0.45, 0.78), (0.38, 0.62, 0.36), (0.70, 0.42, 0.62))
TABLE_COLOR = (0.80, 0.80, 0.78)
OBSTACLE_COLOR = (0.62, 0.60, 0.58)
MARK_COLOR = (0.86, 0.16, 0.16)
INK, VALID_INK, INVALID_INK = "#404040", "#1b7837", "#b2182b"

CONTACT_DISTANCE = 2.0e-3
"""A link this close to the object [m] counts as touching it in the picture."""

POINTS_SHOWN, LEAST_BALL = 2000, 1.0e-3
"""Obstacle points in a picture, and the least radius of their balls [m]."""

OBJECT_LABEL, PALM_LABEL = 0, 1


def preview(
    grasps: Grasps,
    path: str | Path,
    *,
    count: int = 8,
    size: int = 400,
    obstacles: Obstacles | None = None,
    device: str | None = None,
) -> None:
    """Draw the best grasps as a grid of labelled pictures.

    The camera looks from where most of the object and of every finger is seen, with the object upright, or on its table
    where it has one. Links within 2 mm of the object have a stronger colour.

    Args:
        grasps: Sorted best first, as :func:`synthesize` returns them.
        path: PNG file to write.
        count: Largest number of grasps to draw.
        size: Side of each picture in pixels.
        obstacles: What stands around the object, drawn too.
        device: Warp device; the first GPU, else the CPU, when omitted.

    Raises:
        OptionError: There is nothing to draw.
        FileFormatError: The name does not end in ``.png``.
    """
    count = min(count, len(grasps.wrist_position))
    if count < 1:
        raise OptionError("there is no grasp to draw")
    check_name(path)
    chosen = choose(device)
    body = HandBody(grasps.hand)
    mesh = grasps.object.trimesh()
    target = Surface(np.asarray(mesh.vertices, float), np.asarray(mesh.faces))
    table = np.eye(4) if grasps.table is None else rotation.inverse(grasps.table.matrix)
    around = [] if obstacles is None else obstacle_parts(obstacles)

    def draw(grasp: int) -> Tile:
        base = rotation.matrix(grasps.wrist_position[grasp], grasps.wrist_quaternion[grasp])
        pose = base @ grasps.hand.link_transforms(grasps.joint_position[grasp])
        touching = body.touching(pose, target, chosen)
        parts = [Part(target, OBJECT_COLOR), *body.parts(pose, touching), *around]
        camera = clearest_camera(Scene(parts, device=chosen), table[:3, :3], above=bool(grasps.table))
        scene = Scene([*parts, table_part(target.vertices, table)] if grasps.table else parts, device=chosen)
        return Tile(scene.render(camera, size), *caption(grasps, grasp, int(touching.sum())))

    # On a CPU a kernel runs on one core, and pictures do not depend on each other.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tiles = list(pool.map(draw, range(count)))
    write_grid(path, tiles, columns=min(4, count))


def preview_hand(hand: Hand, path: str | Path, *, size: int = 400, device: str | None = None) -> None:
    """Draw a hand as it was understood: each finger in its colour, palm point and normal in red, pads as dots.

    Columns are the zero position, the open position and a closed one; rows look at the palm and from the side.

    Args:
        hand: The hand.
        path: PNG file to write.
        size: Side of each picture in pixels.
        device: Warp device; the first GPU, else the CPU, when omitted.

    Raises:
        FileFormatError: The name does not end in ``.png``.
    """
    check_name(path)
    chosen = choose(device)
    body = HandBody(hand)
    everything = np.ones(len(hand.links), bool)
    positions = {
        "zero": np.clip(0.0, *joint_range(hand)),
        "open": hand.open_position,
        "closed": closed_position(hand),
    }
    poses = [hand.link_transforms(position) for position in positions.values()]
    parts = [body.parts(pose, everything) for pose in poses]
    size_of_marks = 0.012 * float(np.ptp(np.concatenate([part.vertices() for part in parts[0]]), axis=0).max())
    scenes = [
        Scene(shown + marks(hand, pose, size_of_marks), device=chosen) for shown, pose in zip(parts, poses, strict=True)
    ]
    outline = np.concatenate([scene.outline for scene in scenes])
    tiles = []
    for view, toward_eye, up in palm_views(hand, poses[0]):
        camera = Camera.framing(outline, toward_eye, up)
        tiles += [
            Tile(scene.render(camera, size), f"{name}, {view}") for name, scene in zip(positions, scenes, strict=True)
        ]
    write_grid(path, tiles, columns=len(scenes), legend=finger_legend(hand))


def preview_resting(
    obj: ObjectMesh,
    poses: Sequence[RestingPose],
    path: str | Path,
    *,
    count: int = 8,
    size: int = 300,
    device: str | None = None,
) -> None:
    """Draw an object on its table, in each of its resting poses, with their probabilities.

    Args:
        obj: The object.
        poses: As :func:`warpgrasp.settle` returns them.
        path: PNG file to write.
        count: Largest number of poses to draw.
        size: Side of each picture in pixels.
        device: Warp device; the first GPU, else the CPU, when omitted.

    Raises:
        FileFormatError: The name does not end in ``.png``.
    """
    check_name(path)
    chosen = choose(device)
    body = Surface(obj.vertices, obj.faces)
    poses = poses[:count]
    tiles = []
    for number, pose in enumerate(poses):
        part = Part(body, OBJECT_COLOR, pose.matrix)
        camera = Camera.framing(part.vertices(), np.array([1.0, -1.6, 0.9]), np.array([0.0, 0.0, 1.0]), margin=1.3)
        scene = Scene([part, table_part(part.vertices(), np.eye(4))], device=chosen)
        tiles.append(Tile(scene.render(camera, size), f"{number}: {100.0 * pose.probability:.0f} %"))
    write_grid(path, tiles, columns=min(4, len(tiles)))


class HandBody:
    """The surfaces of a hand's links, made once and placed many times."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.surfaces = [[shape_surface(shape) for shape in link.visuals or link.shapes] for link in hand.links]
        self.finger_of = finger_of_link(hand)

    @cached_property
    def samples(self) -> list[np.ndarray]:
        """Points spread over the touching surface of each link, in its frame [m], shape (point, 3) each."""
        import trimesh

        samples = []
        for link in self.hand.links:
            shapes = [shape.trimesh() for shape in link.shapes]
            points = [trimesh.sample.sample_surface(shape, 400, seed=0)[0] for shape in shapes]
            samples.append(np.concatenate([np.zeros((0, 3)), *points]))
        return samples

    def touching(self, pose: np.ndarray, target: Surface, device: str) -> np.ndarray:
        """Which links are within ``CONTACT_DISTANCE`` of the surface, shape (link,).

        Args:
            pose: Link frames in the frame of the surface, shape (link, 4, 4).
            target: The object.
            device: Warp device.
        """
        placed = [points @ p[:3, :3].T + p[:3, 3] for points, p in zip(self.samples, pose, strict=True)]
        link = np.repeat(np.arange(len(placed)), [len(points) for points in placed])
        distance = surface_distance(
            target.vertices, target.faces, np.concatenate(placed), reach=2.0 * CONTACT_DISTANCE, device=device
        )
        return np.bincount(link, distance < CONTACT_DISTANCE, len(placed)) > 0

    def parts(self, pose: np.ndarray, vivid: np.ndarray) -> list[Part]:
        """What to draw, labelled ``PALM_LABEL`` for the palm and the next integers for the fingers.

        Args:
            pose: Link frames in the scene's frame, shape (link, 4, 4).
            vivid: Which links have their full colour, shape (link,).
        """
        parts = []
        for link, surfaces in enumerate(self.surfaces):
            color = self.color(link, bool(vivid[link]))
            label = PALM_LABEL + 1 + self.finger_of[link]
            parts += [Part(surface, color, pose[link], label) for surface in surfaces]
        return parts

    def color(self, link: int, vivid: bool) -> Color:
        """Colour of a link."""
        finger = self.finger_of[link]
        full = FINGER_COLORS[finger % len(FINGER_COLORS)] if finger >= 0 else PALM_COLOR
        share = 1.0 if vivid or finger < 0 else 0.35
        return mix(full, PALM_COLOR, share)


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a grid."""

    picture: np.ndarray
    """sRGB, uint8, shape (row, column, 3)."""

    title: str
    detail: str = ""
    ink: str = INK


def mix(first: Color, second: Color, share: float) -> Color:
    """``share`` of the first colour and the rest of the second."""
    r, g, b = (share * np.array(first) + (1.0 - share) * np.array(second)).tolist()
    return r, g, b


def shape_surface(shape: Shape) -> Surface:
    """A shape's triangles in the link frame."""
    mesh = shape.trimesh()
    return Surface(np.asarray(mesh.vertices, float), np.asarray(mesh.faces))


def finger_of_link(hand: Hand) -> np.ndarray:
    """Index of the finger that each link belongs to, -1 for the palm and links of several fingers, shape (link,)."""
    finger_of = np.full(len(hand.links), -1)
    owners = np.bincount([link for finger in hand.fingers for link in finger.links], minlength=len(hand.links))
    for i, finger in enumerate(hand.fingers):
        finger_of[[link for link in finger.links if owners[link] == 1]] = i
    return finger_of


def table_part(vertices: np.ndarray, table: np.ndarray) -> Part:
    """The table below an object.

    Args:
        vertices: Of the object [m], shape (vertex, 3).
        table: From the table's frame, z up and z = 0 on top, to the object's, shape (4, 4).
    """
    import trimesh

    local = (vertices - table[:3, 3]) @ table[:3, :3]
    slab = trimesh.creation.box([0.5, 0.5, 0.01])
    slab.apply_translation([*(0.5 * (local.min(axis=0) + local.max(axis=0)))[:2], -0.005])
    return Part(Surface(np.asarray(slab.vertices), np.asarray(slab.faces)), TABLE_COLOR, table)


def obstacle_parts(obstacles: Obstacles) -> list[Part]:
    """Meshes and points, at most ``POINTS_SHOWN`` of them; they hide what is behind, but no view is chosen for them."""
    import trimesh

    parts = [Part(Surface(mesh.vertices, mesh.faces), OBSTACLE_COLOR, label=PALM_LABEL) for mesh in obstacles.meshes]
    if count := len(obstacles.points):
        shown = np.unique(np.linspace(0, count - 1, min(count, POINTS_SHOWN)).round().astype(int))
        ball = trimesh.creation.icosphere(subdivisions=1)
        radius = np.maximum(obstacles.radius[shown], LEAST_BALL)
        vertices = obstacles.points[shown, None] + radius[:, None, None] * ball.vertices
        faces = ball.faces + len(ball.vertices) * np.arange(len(shown))[:, None, None]
        balls = Surface(vertices.reshape(-1, 3), faces.reshape(-1, 3))
        parts.append(Part(balls, OBSTACLE_COLOR, label=PALM_LABEL))
    return parts


def clearest_camera(scene: Scene, axes: np.ndarray | None = None, *, above: bool = False) -> Camera:
    """The camera that sees the object and every finger best.

    Up to sixty directions are tried in small pictures. A view is worth the visible area of the object and of each
    finger, as a share of the most that any view shows; a view a little from above is preferred.

    Args:
        scene: Object and hand, labelled.
        axes: A frame whose z axis, the last column, is up, shape (3, 3); the scene's where omitted.
        above: Whether to look from above only.
    """
    axes = np.eye(3) if axes is None else axes
    azimuth = np.radians(np.arange(0.0, 360.0, 18.0))
    elevation = np.radians([20.0, 45.0] if above else [-15.0, 20.0, 45.0])
    a, e = (grid.ravel() for grid in np.meshgrid(azimuth, elevation))
    directions = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1) @ axes.T
    cameras = [Camera.framing(scene.outline, direction, axes[:, 2]) for direction in directions]
    seen = scene.identify(cameras, 48).reshape(len(cameras), -1)
    area = np.stack([(seen == label).sum(axis=1) for label in range(seen.max() + 1)], axis=1).astype(float)
    share = area / np.maximum(area.max(axis=0), 1.0)
    fingers = np.sqrt(share[:, PALM_LABEL + 1 :]).mean(axis=1) if area.shape[1] > PALM_LABEL + 1 else 0.0
    worth = np.sqrt(share[:, OBJECT_LABEL]) + 2.0 * fingers + 0.3 * np.cos(e - np.radians(20.0))
    return cameras[int(np.argmax(worth))]


def caption(grasps: Grasps, grasp: int, touching: int) -> tuple[str, str, str]:
    """Title, detail and colour of the text under a grasp."""
    valid = bool(grasps.valid[grasp])
    title = f"{grasp}: {'valid' if valid else grasps.reason[grasp]}"
    detail = f"{int(grasps.metrics.get('links_in_contact_2mm', {grasp: touching})[grasp])} links in contact"
    if "penetration_depth_m" in grasps.metrics:
        detail += f", {1000.0 * grasps.metrics['penetration_depth_m'][grasp]:.2f} mm deep"
    return title, detail, VALID_INK if valid else INVALID_INK


def joint_range(hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limit of each joint [rad or m], shape (joint,) each."""
    return np.array([joint.lower for joint in hand.joints]), np.array([joint.upper for joint in hand.joints])


def closed_position(hand: Hand, share: float = 0.6) -> np.ndarray:
    """A closed hand for pictures: each free joint goes towards the limit that brings fingertips to the palm's front.

    Args:
        hand: The hand.
        share: How far of the way from the open position to the limit.

    Returns:
        Joint vector [rad or m], shape (joint,).
    """
    start = hand.open_position[list(hand.free_joints)]
    gap = mean_tip_gap(hand, hand.open_position)
    goal = start.copy()
    for free in range(len(start)):
        for limit in (hand.free_lower[free], hand.free_upper[free]):
            trial = start.copy()
            trial[free] += 0.1 * (limit - start[free])
            gain = gap - mean_tip_gap(hand, hand.joint_map @ trial + hand.joint_offset)
            if gain > 5.0e-4:
                goal[free] = limit
    return hand.joint_map @ (start + share * (goal - start)) + hand.joint_offset


def mean_tip_gap(hand: Hand, position: np.ndarray) -> float:
    """Mean distance [m] of the fingertips to a point 5 cm in front of the palm."""
    pose = hand.link_transforms(position)
    palm = pose[hand.palm.link]
    front = palm[:3, :3] @ (hand.palm.position + 0.05 * hand.palm.normal) + palm[:3, 3]
    tips = [fingertip(finger, pose) for finger in hand.fingers]
    return float(np.linalg.norm(np.array(tips) - front, axis=1).mean()) if tips else 0.0


def fingertip(finger: Finger, pose: np.ndarray) -> np.ndarray:
    """Centre of the fingertip in the hand base frame [m], shape (3,)."""
    last = pose[finger.links[-1]]
    return last[:3, :3] @ finger.tip_position + last[:3, 3]


def palm_views(hand: Hand, pose: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, direction to the eye and up direction of the two views of a hand."""
    turn = pose[hand.palm.link][:3, :3]
    normal, fingers = turn @ hand.palm.normal, turn @ hand.palm.fingers
    side = np.cross(fingers, normal)
    return [("palm", normal + 0.2 * side + 0.1 * fingers, fingers), ("side", side + 0.25 * normal, fingers)]


def marks(hand: Hand, pose: np.ndarray, size: float) -> list[Part]:
    """Palm point and normal as an arrow, pads as dots of radius ``size`` [m]."""
    import trimesh

    dot = trimesh.creation.icosphere(subdivisions=2, radius=size)
    shaft = trimesh.creation.cylinder(radius=0.4 * size, height=12.0 * size, sections=24)
    shaft.apply_translation([0.0, 0.0, 6.0 * size])
    head = trimesh.creation.cone(radius=1.2 * size, height=3.0 * size, sections=24)
    head.apply_translation([0.0, 0.0, 12.0 * size])
    arrow = trimesh.util.concatenate([dot, shaft, head])

    palm = hand.palm
    parts = [marker(arrow, pose[palm.link] @ frame_along(palm.position, palm.normal))]
    parts += [marker(dot, pose[pad.link] @ frame_along(pad.position, pad.normal)) for pad in hand.pads]
    return parts


def marker(mesh, pose: np.ndarray) -> Part:
    """A red part."""
    return Part(Surface(np.asarray(mesh.vertices, float), np.asarray(mesh.faces)), MARK_COLOR, pose)


def frame_along(position: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A frame at ``position`` whose z axis is the unit vector ``direction``, shape (4, 4)."""
    side = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    side /= np.linalg.norm(side)
    frame = np.eye(4)
    frame[:3, :3] = np.stack([side, np.cross(direction, side), direction], axis=1)
    frame[:3, 3] = position
    return frame


def finger_legend(hand: Hand) -> list[tuple[str, Color]]:
    """Name and colour of each finger."""
    return [(finger.name, FINGER_COLORS[i % len(FINGER_COLORS)]) for i, finger in enumerate(hand.fingers)]


def check_name(path: str | Path) -> None:
    """Raise unless the name is that of a PNG file."""
    if Path(path).suffix.lower() != ".png":
        raise FileFormatError(path, "pictures are written as PNG; give a name that ends in .png")


def write_grid(
    path: str | Path, tiles: Sequence[Tile], *, columns: int, legend: Sequence[tuple[str, Color]] = ()
) -> None:
    """Write pictures of equal size as one PNG, text under each and a legend at the bottom.

    Args:
        path: File to write.
        tiles: Pictures, row by row.
        columns: Pictures in a row.
        legend: Words and their colours.
    """
    from matplotlib.figure import Figure

    size, text = tiles[0].picture.shape[0], 44 if any(tile.detail for tile in tiles) else 26
    rows = -(-len(tiles) // columns)
    canvas = np.full((rows * (size + text) + (26 if legend else 0), columns * size, 3), 255, np.uint8)
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / 100.0, height / 100.0), dpi=100)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (size + text), (i % columns) * size
        canvas[top : top + size, left : left + size] = tile.picture
        x = (left + 0.5 * size) / width
        for line, offset, ink in ((tile.title, 5, tile.ink), (tile.detail, 23, INK)):
            y = 1.0 - (top + size + offset) / height
            figure.text(x, y, line, size=9.5, color=ink, ha="center", va="top")
    figure.figimage(canvas)
    for i, (word, color) in enumerate(legend):
        figure.text((i + 0.5) / len(legend), 9 / height, word, color=color, weight="bold", ha="center", va="bottom")
    figure.savefig(path, dpi=100)
