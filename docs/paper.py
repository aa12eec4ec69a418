"""Fast-Grasp'D as printed beside the other recipes: curves, and one change at a time. `make pictures` runs it.

Run it as ``python docs/paper.py [FOLDER] [GRASPS] [tables]``; it writes paper.png, and where asked for gradient.md and
rescue.md, to the folder.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from matplotlib.figure import Figure

import warpgrasp
from warpgrasp.descend import smooth_mesh, stage_skin
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand import Hand
from warpgrasp.initialize import back_off, starting_poses
from warpgrasp.label import Limits, measure
from warpgrasp.mesh import ObjectMesh
from warpgrasp.model import HandModel, hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import RECIPES, Recipe
from warpgrasp.pose import Pose
from warpgrasp.proximity import find_proximity
from warpgrasp.state import allocate
from warpgrasp.surface import grasping_links, object_points, surface_points

OBJECTS = {
    "box": trimesh.creation.box((0.05, 0.06, 0.08)),
    "can": trimesh.creation.cylinder(radius=0.03, height=0.1, sections=48),
    "ball": trimesh.creation.icosphere(subdivisions=3, radius=0.035),
}

POINTS = 512

SAMPLES = 100
"""Iterations at which a descent is looked at."""

NEAR, TOUCHING = 0.005, 0.002
"""Distance of a point near the object, and of a link in contact [m]."""


@dataclass
class Watch:
    """What became of a batch of hands on the way: rows of shape (sample, grasp)."""

    model: HandModel
    mesh: DeviceMesh
    iteration: list[int]
    loss: list[np.ndarray]
    links: list[np.ndarray]
    points: list[np.ndarray]
    away: list[np.ndarray]

    @classmethod
    def of(cls, hand: Hand, obj: ObjectMesh) -> Watch:
        """An empty one, with the points of the first stage and the exact distance."""
        skin = surface_points(hand, POINTS, links=grasping_links(hand), device="cpu")
        return cls(hand_model(hand, skin, "cpu"), DeviceMesh(obj, "cpu"), [], [], [], [], [])

    def look(self, iteration: int, descent: Descent) -> None:
        """Measure the hands as they are now."""
        state = allocate(self.model, descent.pose(), np.zeros((0, 3)))
        find_proximity(self.model, self.mesh, state)
        distance, first = state.distance.numpy(), self.model.link_begin.numpy()
        links = [distance[:, a:b].min(axis=1) < TOUCHING for a, b in itertools.pairwise(first) if b > a]
        self.iteration.append(iteration)
        self.loss.append(descent.loss())
        self.links.append(np.sum(links, axis=0))
        self.points.append((distance < NEAR).sum(axis=1))
        away = np.linalg.norm(state.wrist.numpy()[:, :3].astype(float) - self.mesh.object.center_of_mass, axis=1)
        self.away.append(np.where(np.isfinite(away), away, np.inf))


def starts(hand: Hand, obj: ObjectMesh, recipe: Recipe, count: int) -> Pose:
    """Where a recipe starts, the same in every run."""
    rng = np.random.default_rng(0)
    pose = starting_poses(
        hand, obj, count, distance=recipe.start_distance, joint_noise=recipe.joint_noise, rng=rng, start=recipe.start
    )
    return back_off(hand, DeviceMesh(obj, "cpu"), pose)


def follow(hand: Hand, obj: ObjectMesh, recipe: Recipe, count: int) -> tuple[Watch, Pose]:
    """Run a recipe's stages from ``count`` starts, one per grasp; also the poses at the end, or the start."""
    watch, pose = Watch.of(hand, obj), starts(hand, obj, recipe, count)
    first = pose
    mesh, done = smooth_mesh(obj, recipe, "cpu"), 0
    period = max(1, recipe.iterations // SAMPLES)
    for stage in recipe.stages:
        skin = stage_skin(hand, stage, POINTS, "cpu")
        model = hand_model(hand, skin, "cpu")
        phong = {"phong_alpha": recipe.phong_alpha, "phong_mode": recipe.phong_mode}
        descent = Descent(model, mesh, object_points(obj, stage.object_points), pose, stage, **phong)
        descent.find_gradient(search=True)
        watch.look(done, descent)
        descent.restart()
        descent.capture()

        def each(descent: Descent = descent) -> None:
            nonlocal done
            done += 1
            if done % period == 0:
                watch.look(done, descent)

        descent.run(each)
        pose = descent.pose()
    lost = ~np.isfinite(watch.away[-1])
    for name in ("wrist_position", "wrist_quaternion", "joint_position"):
        getattr(pose, name)[lost] = getattr(first, name)[lost]
    return watch, pose


# ---- the curves


def draw(curves: dict[str, dict[str, Watch]]) -> Figure:
    """One column per recipe, one line per object: the median over the grasps, and the quartiles around it."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots(4, len(curves), sharex="col", squeeze=False)
    rows: tuple[tuple[str, str, str], ...] = (
        ("loss", "loss, each recipe's own", "log"),
        ("links", "links within 2 mm", "linear"),
        ("points", "points within 5 mm, of 512", "linear"),
        ("away", "wrist to centre of mass [m]", "log"),
    )
    for column, (recipe, objects) in enumerate(curves.items()):
        axes[0, column].set_title(recipe)
        axes[-1, column].set_xlabel("iteration")
        for row, (name, label, scale) in enumerate(rows):
            panel = axes[row, column]
            for color, (obj, watch) in zip(("#1f6fb4", "#d9731f", "#2c9345"), objects.items(), strict=True):
                low, middle, high = np.percentile(np.array(getattr(watch, name), float), [25, 50, 75], axis=1)
                panel.plot(watch.iteration, middle, color=color, label=obj)
                panel.fill_between(watch.iteration, low, high, color=color, alpha=0.2, linewidth=0)
            panel.set_yscale(scale)
            panel.grid(alpha=0.3)
            if column == 0:
                panel.set_ylabel(label)
        for row, limit in ((1, 12), (2, 60)):
            axes[row, column].set_ylim(-0.03 * limit, limit)
    axes[0, 0].legend()
    return figure


# ---- one change at a time

Change = Callable[[Recipe], Recipe]


def stage_change(**changes: object) -> Change:
    """Fields of the stages."""
    return lambda recipe: replace(recipe, stages=tuple(replace(s, **changes) for s in recipe.stages))  # type: ignore


def dynamics_change(**changes: object) -> Change:
    """Fields of the simulations."""
    return lambda recipe: replace(
        recipe,
        stages=tuple(replace(s, dynamics=replace(s.dynamics, **changes)) for s in recipe.stages),  # type: ignore
    )


def rate(value: float) -> Change:
    """Learning rate of everything."""
    return stage_change(position_step=value, rotation_step=value)


attracts = dynamics_change(leak_attracts_only=True)
adam = stage_change(optimizer="adam", position_step=1e-3, rotation_step=1e-2)
scaled = dynamics_change(angular_length=None)
CHANGES: dict[str, tuple[Change, ...]] = {
    "as printed": (),
    "leak only where it attracts": (attracts,),
    "Adam, 1 mm and 0.01 rad": (adam,),
    "learning rate 1e-5": (rate(1e-5),),
    "learning rate 1e-7": (rate(1e-7),),
    "learning rate 1e-9": (rate(1e-9),),
    "angular speed times radius of gyration": (scaled,),
    "start at 6 cm": (lambda recipe: replace(recipe, start_distance=0.06),),
    "without range and limit": (lambda recipe: recipe.without("range", "limit"),),
    "no friction": (dynamics_change(friction=0.0),),
    "Jacobi": (dynamics_change(solver="jacobi"),),
    "Jacobi and learning rate 1e-7": (dynamics_change(solver="jacobi"), rate(1e-7)),
    "leak and learning rate 1e-7": (attracts, rate(1e-7)),
    "leak and Adam": (attracts, adam),
    "leak, Adam and radius of gyration": (attracts, adam, scaled),
    "leak, Adam, radius of gyration, and penetration penalised": (
        attracts,
        adam,
        scaled,
        stage_change(penetration_weight=1e5, self_weight=1e6),
    ),
}


def changed_recipes() -> dict[str, Recipe]:
    """The recipe as printed with changes, and ``attraction`` to compare with."""
    recipes = {}
    for name, changes in CHANGES.items():
        recipes[name] = RECIPES["paper"]
        for change in changes:
            recipes[name] = change(recipes[name])
    return recipes | {"`attraction`": RECIPES["attraction"]}


def rescue(hand: Hand, count: int) -> list[str]:
    """A Markdown table: what one change of the printed recipe, or several, make of it on all objects together."""
    lines = [
        "| change | farthest, median [m] | at the end [m] | touching | links | points | penetration [mm] | balanced |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, recipe in changed_recipes().items():
        away, links, points, depth, balanced = [], [], [], [], []
        for obj in objects():
            watch, pose = follow(hand, obj, recipe, count)
            metrics = measure(hand, obj, pose, watch.mesh)
            away.append(np.array(watch.away))
            links.append(metrics["links_in_contact_2mm"])
            points.append(watch.points[-1])
            depth.append(metrics["penetration_depth_m"])
            balanced.append(metrics["wrench_residual_mu02"] < Limits().wrench_residual)
        far = [
            np.median(np.concatenate(distances)) for distances in ([a.max(axis=0) for a in away], [a[-1] for a in away])
        ]
        touching = np.concatenate(links) > 0
        deep = f"{1e3 * np.median(np.concatenate(depth)[touching]):.1f}" if touching.any() else "none touches"
        lines.append(
            f"| {name} | {far[0]:.3g} | {far[1]:.3g} | {np.mean(touching):.0%} "
            f"| {np.mean(np.concatenate(links)):.1f} | {np.mean(np.concatenate(points)):.0f} | {deep} "
            f"| {np.mean(np.concatenate(balanced)):.0%} |".replace("%", " %")
        )
        print(lines[-1], flush=True)
    return lines


def first_gradients(hand: Hand, count: int) -> list[str]:
    """A Markdown table: the gradient with respect to the wrist's position at the start of the recipe as printed."""
    lines = [
        "| dilation | solver | friction | leak | " + " | ".join(OBJECTS) + " |",
        "|" + " --- |" * (4 + len(OBJECTS)),
    ]
    printed = RECIPES["paper"].without("range", "limit")
    for radius, solver, friction, only in itertools.product((0.0, 0.06), ("jacobi", "gauss-seidel"), (0, 0.5), (0, 1)):
        changes = {"solver": solver, "friction": friction, "leak_attracts_only": bool(only)}
        stage = dynamics_change(**changes)(stage_change(dilation=radius)(printed)).stages[0]
        cells = []
        for obj in objects():
            watch, pose = Watch.of(hand, obj), starts(hand, obj, printed, count)
            phong = {"phong_alpha": printed.phong_alpha, "phong_mode": printed.phong_mode}
            descent = Descent(watch.model, smooth_mesh(obj, printed, "cpu"), np.zeros((0, 3)), pose, stage, **phong)
            descent.find_gradient(search=True)
            down = -descent.state.wrist_gradient.numpy()[:, :3].astype(float)
            size = np.linalg.norm(down, axis=1)
            inward = obj.center_of_mass - pose.wrist_position
            cosine = (down * inward).sum(axis=1) / (np.maximum(size, 1e-30) * np.linalg.norm(inward, axis=1))
            cells.append(f"{np.median(size):.1e} ({np.median(cosine):+.2f})")
        leak = "attracts" if only else "as printed"
        lines.append(f"| {100 * radius:g} cm | {solver} | {friction:g} | {leak} | {' | '.join(cells)} |")
    return lines


def objects() -> list[ObjectMesh]:
    """The three of them."""
    return [warpgrasp.load_object(mesh, name=name) for name, mesh in OBJECTS.items()]


def main(folder: str = "out", count: str = "12", tables: str = "") -> None:
    """Write paper.png, and where asked for the tables, to a folder."""
    hand, out = warpgrasp.load_hand("allegro"), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    curves = {
        name: {obj.name: follow(hand, obj, RECIPES[name], int(count))[0] for obj in objects()}
        for name in ("paper", "attraction", "default")
    }
    draw(curves).savefig(out / "paper.png", dpi=100)
    if tables:
        (out / "gradient.md").write_text("\n".join(first_gradients(hand, int(count))) + "\n", encoding="utf-8")
        (out / "rescue.md").write_text("\n".join(rescue(hand, int(count))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
