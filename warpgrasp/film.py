"""Films and strips of pictures of physics trials: hand and object in motion, what pulls, and what became of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import rotation
from .device import choose
from .physics.record import Recording, stages
from .physics.scene import table_frame
from .physics.workers import ProgressCallback
from .preview import (
    INK,
    INVALID_INK,
    MARK_COLOR,
    OBJECT_COLOR,
    OBJECT_LABEL,
    VALID_INK,
    HandBody,
    Tile,
    clearest_camera,
    frame_along,
    table_part,
    write_grid,
)
from .render import Camera, Part, Scene, Surface

if TYPE_CHECKING:
    from PIL import Image

SPEED = 2.0
"""Simulated seconds in a second of film where little moves."""

SHORTEST, LAST = 0.08, 2.0
"""How long every picture is shown at least, and the last one [s]."""

STILL, STEP, PAUSE = 1.0, 8.0, 0.4
"""A new picture is taken when something has moved this far, after this time, or much [pixel, pixel, s]."""

LOST = 0.3
"""What is farther from the object's initial place need not be in the picture [m]."""

ARROW, GHOST = 0.2, 0.75
"""Length of the arrow as a share of everything's, and how much of it is seen through what hides it."""

DONE, FAILED, NOW, LATER = "#dcefdf", "#f6d5d5", "#ffffff", "#f2f2f2"


def write_film(
    recording: Recording,
    path: str | Path,
    *,
    size: int = 320,
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> None:
    """Write a film as an animated GIF.

    Where much moves it is slow motion, elsewhere twice as fast as the simulation. Stages are listed under the picture.

    Args:
        recording: What happened.
        path: File to write.
        size: Side of the picture in pixels.
        device: Warp device; the first GPU, else the CPU, where omitted.
        on_progress: Called after every picture.
    """
    from PIL import Image

    studio = Studio(recording, size, device)
    frames, seconds = studio.frames()
    pictures = [
        _framed(recording, frame, picture, verdict=frame == frames[-1])
        for frame, picture in zip(frames, studio.pictures(frames, on_progress), strict=True)
    ]
    palette = _palette(pictures)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    milliseconds = [10 * round(100.0 * value) for value in seconds]
    first.save(path, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def write_strip(
    recording: Recording,
    path: str | Path,
    *,
    size: int = 240,
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> None:
    """Write a row of pictures as PNG: where the trial began, and the end of every stage that it came to.

    Args:
        recording: What happened.
        path: File to write.
        size: Side of each picture in pixels.
        device: Warp device; the first GPU, else the CPU, where omitted.
        on_progress: Called after every picture.
    """
    studio = Studio(recording, size, device)
    frames = list(dict.fromkeys([0, *stage_ends(recording)]))
    tiles = []
    for frame, picture in zip(frames, studio.pictures(frames, on_progress), strict=True):
        title, ink = _title(recording, frame).replace("closing", "closed" if frame else "beginning"), INK
        if frame == frames[-1]:
            verdict, ink = _verdict(recording)
            title = f"{title}: held" if verdict == "held" else verdict
        tiles.append(Tile(picture, title, _motion(recording, frame), ink))
    write_grid(path, tiles, columns=len(tiles))


class Studio:
    """Hand, object and a camera that sees all of a trial."""

    def __init__(self, recording: Recording, size: int, device: str | None) -> None:
        grasps = recording.grasps
        self.recording, self.size, self.device = recording, size, choose(device)
        self.body = HandBody(grasps.hand)
        mesh = grasps.object
        self.target = Surface(np.asarray(mesh.vertices, float), np.asarray(mesh.faces))
        wrist = rotation.matrix(recording.wrist_position, recording.wrist_quaternion)
        self.links = wrist[:, None] @ grasps.hand.link_transforms(recording.joint_position)
        self.table = table_frame(mesh, grasps.table)
        self.up = self.table[:3, 2]
        self.points = self._points()
        self.arrow = ARROW * float(np.ptp(self.points[0], axis=0).max())
        self.camera = self._camera()

    def _points(self) -> np.ndarray:
        """Corners of the boxes around object and links in every frame [m], shape (frame, point, 3)."""
        boxes = [(self.recording.object_pose, self.target.vertices)]
        for link, surfaces in enumerate(self.body.surfaces):
            boxes += [(self.links[:, link], surface.vertices) for surface in surfaces]
        return np.concatenate(
            [_corners(vertices) @ _turned(pose) + pose[:, None, :3, 3] for pose, vertices in boxes], 1
        )

    def _camera(self) -> Camera:
        """From where object and fingers are seen best once the hand is closed, far enough to see all that happens."""
        closed = max(int((self.recording.stage == "close").sum()) - 1, 0)
        clearest = clearest_camera(Scene(self._parts(closed), device=self.device), self.table[:3, :3])
        center = self.recording.grasps.object.center_of_mass
        near = self.points[np.linalg.norm(self.points - center, axis=-1) < LOST]
        pulls = [self._pull(end) for end in stage_ends(self.recording) if self._pulls(end)]
        near = np.concatenate([near, *([start + self.arrow * direction] for start, direction in pulls)])
        toward_eye = clearest.axes[:, 2].copy()
        if self.recording.protocol.lift_height:
            toward_eye += max(0.3 - float(self.up @ toward_eye), 0.0) * self.up  # above the table
        return Camera.framing(near, toward_eye, self.up, margin=1.02)

    def _parts(self, frame: int) -> list[Part]:
        vivid = np.ones(len(self.body.surfaces), bool)
        parts = [Part(self.target, OBJECT_COLOR, self.recording.object_pose[frame], OBJECT_LABEL)]
        return parts + self.body.parts(self.links[frame], vivid)

    def frames(self) -> tuple[list[int], list[float]]:
        """Frames in which something has moved enough to be shown, and how long to show each [s]."""
        recording = self.recording
        pixel, time, stage = self._pixels(), recording.time_s, recording.stage
        shown, last = [0], len(time) - 1
        for frame in range(1, len(time)):
            moved = np.linalg.norm(pixel[frame] - pixel[shown[-1]], axis=1).max()
            waited = time[frame] - time[shown[-1]] >= PAUSE or frame == last
            if stage[frame] != stage[shown[-1]] or moved >= STEP or (waited and moved >= STILL):
                shown.append(frame)
        ends = [last if frame is None else frame - 1 for frame in (*shown[1:], None)]
        seconds = [max(SHORTEST, (time[end] - time[begin]) / SPEED) for begin, end in zip(shown, ends, strict=True)]
        return shown, [*seconds[:-1], LAST]

    def _pixels(self) -> np.ndarray:
        """Where the points are in the picture, shape (frame, point, 2)."""
        camera = self.camera
        local = (self.points - camera.eye) @ camera.axes
        return local[..., :2] / (-local[..., 2:] * camera.tangent) * 0.5 * self.size

    def pictures(self, frames: Sequence[int], on_progress: ProgressCallback | None = None) -> Iterator[np.ndarray]:
        """Pictures of frames, sRGB, uint8, shape (row, column, 3) each."""
        # On a CPU a kernel runs on one core, and pictures do not depend on each other.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, picture in enumerate(pool.map(self.picture, frames), start=1):
                if on_progress:
                    on_progress(done, len(frames))
                yield picture

    def picture(self, frame: int) -> np.ndarray:
        """One picture; what is behind something else shines through where it is the arrow."""
        arrow = self._arrow(frame)
        scene = Scene([*self._parts(frame), *arrow, *self._table()], device=self.device)
        picture = smooth(scene.render(self.camera, self.size, samples=2))
        if not arrow:
            return picture
        alone = Scene(arrow, device=self.device)
        seen = alone.identify([self.camera], 2 * self.size)[0] >= 0
        share = GHOST * seen.reshape(self.size, 2, self.size, 2).mean(axis=(1, 3))[..., None]
        mixed = (1.0 - share) * picture + share * alone.render(self.camera, self.size, samples=1)
        return np.rint(mixed).astype(np.uint8)

    def _arrow(self, frame: int) -> list[Part]:
        """What pulls the object, from where it leaves the object."""
        if not self._pulls(frame):
            return []
        return [Part(_arrow_surface(self.arrow), MARK_COLOR, frame_along(*self._pull(frame)))]

    def _pulls(self, frame: int) -> bool:
        return self.recording.stage[frame] in self.recording.protocol.directions

    def _pull(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the arrow begins [m] and its direction, shape (3,) each."""
        force = self.recording.force_N[frame]
        direction = force / np.linalg.norm(force)
        pose, center = self.recording.object_pose[frame], self.recording.grasps.object.center_of_mass
        reach = ((self.target.vertices - center) @ pose[:3, :3].T @ direction).max()
        return pose[:3, :3] @ center + pose[:3, 3] + reach * direction, direction

    def _table(self) -> list[Part]:
        if not self.recording.protocol.lift_height:
            return []
        return [table_part(self.target.vertices, self.table)]


def stage_ends(recording: Recording) -> list[int]:
    """Last frame of every stage that the trial came to."""
    stage = recording.stage
    return [*np.flatnonzero(stage[1:] != stage[:-1]).tolist(), len(stage) - 1]


def smooth(picture: np.ndarray, noise: float = 24.0) -> np.ndarray:
    """A picture without the grain of few shadow rays: means over neighbours that differ by less than about ``noise``.

    Source: Tomasi & Manduchi 1998, Bilateral filtering for gray and color images.
    """
    reach = 2
    wide = np.pad(picture.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(wide, (2 * reach + 1, 2 * reach + 1), axis=(0, 1))
    total, weights = np.zeros(picture.shape, np.float32), np.zeros((*picture.shape[:2], 1), np.float32)
    for row, column in np.ndindex(views.shape[-2:]):
        other = views[..., row, column]
        weight = np.exp(-((other - picture) ** 2).sum(axis=-1, keepdims=True) / noise**2)
        total, weights = total + weight * other, weights + weight
    return np.rint(total / weights).astype(np.uint8)


def _corners(vertices: np.ndarray) -> np.ndarray:
    """Of the axis-parallel box around vertices, shape (8, 3)."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return np.stack(np.meshgrid(*np.stack([low, high], axis=1), indexing="ij"), axis=-1).reshape(8, 3)


def _turned(pose: np.ndarray) -> np.ndarray:
    """Matrices that turn rows of points, shape (frame, 3, 3)."""
    return np.swapaxes(pose[:, :3, :3], 1, 2)


@cache
def _arrow_surface(length: float) -> Surface:
    """An arrow along z from the origin."""
    import trimesh

    radius = 0.05 * length
    shaft = trimesh.creation.cylinder(radius=radius, height=0.65 * length, sections=24)
    shaft.apply_translation([0.0, 0.0, 0.325 * length])
    head = trimesh.creation.cone(radius=2.6 * radius, height=0.35 * length, sections=24)
    head.apply_translation([0.0, 0.0, 0.65 * length])
    faces = np.concatenate([shaft.faces, head.faces + len(shaft.vertices)])
    return Surface(np.concatenate([shaft.vertices, head.vertices]), faces)


def _title(recording: Recording, frame: int) -> str:
    """What is done in a frame, in words."""
    stage = str(recording.stage[frame])
    if stage in recording.protocol.directions:
        return f"pull {stage}, {np.linalg.norm(recording.force_N[frame]):.2g} N"
    return {"close": "closing", "lift": "lifting", "hold": "holding"}.get(
        stage, stage.replace("shake", "shaking along")
    )


def _motion(recording: Recording, frame: int) -> str:
    """How far the object is from where it was."""
    pose, center = recording.object_pose[frame], recording.grasps.object.center_of_mass
    motion = pose[:3, :3] @ center + pose[:3, 3] - center
    if recording.protocol.lift_height:
        up = table_frame(recording.grasps.object, recording.grasps.table)[:3, 2]
        return f"raised by {1000.0 * float(motion @ up) + 0.0:.0f} mm"
    moved = np.linalg.norm(motion)
    turned = np.degrees(np.arccos(np.clip(0.5 * (np.trace(pose[:3, :3]) - 1.0), -1.0, 1.0)))
    return f"moved {1000.0 * moved:.0f} mm, turned {turned:.0f}°"


def _verdict(recording: Recording) -> tuple[str, str]:
    """What became of the grasp, and the colour of it."""
    if recording.outcome.failure:
        return recording.outcome.failure, INVALID_INK
    return (_motion(recording, -1), INK) if recording.protocol.criterion == "none" else ("held", VALID_INK)


def _framed(recording: Recording, frame: int, picture: np.ndarray, *, verdict: bool) -> Image.Image:
    """A picture with its title above, and below it the stages and what is seen."""
    from PIL import Image, ImageDraw

    size = picture.shape[0]
    head, bar, foot = 24, 22, 24
    canvas = Image.new("RGB", (size, head + size + bar + foot), "#ffffff")
    canvas.paste(Image.fromarray(picture), (0, head))
    draw = ImageDraw.Draw(canvas)
    grasps = recording.grasps
    _write(draw, (6, head / 2), recording.protocol.name, INK, "lm", size // 4)
    name = f"{grasps.hand.name}, {grasps.object_name}, grasp {recording.index}"
    _write(draw, (size - 6, head / 2), name, INK, "rm", size * 2 // 3)
    _draw_stages(draw, recording, frame, verdict=verdict, top=head + size, height=bar)
    middle = head + size + bar + foot / 2
    if verdict:
        text, ink = _verdict(recording)
        _write(draw, (size / 2, middle), text, ink, "mm", size - 12)
    else:
        _write(draw, (6, middle), _title(recording, frame), INK, "lm", size // 2)
        _write(draw, (size - 6, middle), _motion(recording, frame), INK, "rm", size // 2)
    return canvas


def _draw_stages(draw: Any, recording: Recording, frame: int, *, verdict: bool, top: int, height: int) -> None:
    """A row of boxes: done, now, to come, and the one in which the grasp was lost."""
    names = stages(recording.protocol)
    now = names.index(str(recording.stage[frame]))
    width = draw.im.size[0] / len(names)
    for number, name in enumerate(names):
        color = DONE if number < now else NOW if number == now else LATER
        if verdict and number == now:
            color = FAILED if recording.outcome.failure else DONE
        left = number * width
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=color)
        if number == now:
            draw.rectangle((left, top, left + width - 1, top + height - 1), outline=INK, width=2)
        _write(draw, (left + width / 2, top + height / 2), name, INK, "mm", int(width) - 6, bold=number == now)


def _write(
    draw: Any, place: tuple[float, float], text: str, ink: str, anchor: str, width: int, *, bold: bool = False
) -> None:
    """Write a line that is at most ``width`` pixels long, in smaller letters where it has to be."""
    size = next((size for size in range(13, 7, -1) if _font(size, bold).getlength(text) <= width), 7)
    draw.text(place, text, fill=ink, anchor=anchor, font=_font(size, bold))


@cache
def _font(size: int, bold: bool) -> Any:
    """The letters that matplotlib brings along."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """One palette for all, so that nothing flickers, from a few of them."""
    from PIL import Image

    some = [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, 6).astype(int))]
    sheet = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for i, picture in enumerate(some):
        sheet.paste(picture, (0, i * picture.height))
    return sheet.quantize(255, kmeans=1)
