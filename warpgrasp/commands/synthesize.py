"""``warpgrasp synthesize``."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OptionError
from .arguments import check_output, finite_number, natural_number, positive_integer, positive_number
from .output import Progress, median, print_json, start_warp, verdict_report, watched

if TYPE_CHECKING:
    import numpy as np

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..reach import MountedArm
    from ..resting import RestingPose
    from ..result import Grasps

HELP = "find grasps of a mesh"
DESCRIPTION = "Find grasps of a mesh."

SUMMARY = {
    "penetration_depth_m": ("penetration", 1e3, "mm"),
    "links_in_contact_2mm": ("links in contact", 1.0, ""),
}
"""Metrics in the printed summary: name, factor and unit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Hand, mesh and options."""
    add = parser.add_argument
    add("hand", metavar="HAND", help="name of a bundled hand, or the path of a .urdf or .xml (MJCF) file")
    add("mesh", metavar="MESH", help="mesh of the object, in metres unless --scale says otherwise")
    add("--count", type=positive_integer, default=64, help="grasps to make (default: %(default)s)")
    add("--seed", type=natural_number, default=0, help="equal seeds give equal grasps (default: %(default)s)")
    add("--scale", type=positive_number, default=1.0, help="factor that makes the mesh metres: 0.001 for millimetres")
    add("--device", help="Warp device, such as cpu or cuda:0 (default: the first GPU, else the CPU)")
    add("--recipe", default="default", help="default: power grasps; fingertips: precision grasps; attraction; paper")
    add("--without", nargs="+", default=[], metavar="TERM", help="terms of the recipe to switch off, such as balance")
    add("--points", type=positive_integer, default=512, help="points on the hand's surface (default: %(default)s)")
    add("--iterations", type=positive_integer, help="gradient steps (default: the recipe's)")
    add("--ranges", choices=("robot", "model"), default="robot", help="joint ranges: the real robot's, or the file's")
    add(
        "--table",
        type=natural_number,
        nargs="?",
        const=0,
        metavar="POSE",
        help="stand the object on a table, in its most probable resting pose or in one that `warpgrasp settle` numbers",
    )
    add("--obstacle", type=Path, nargs="+", default=[], metavar="MESH", help="meshes to avoid, in the object's frame")
    add("--arm", help="arm that must reach the grasps: ur10e, panda_arm, or the path of a .urdf file")
    add(
        "--base-pose",
        type=finite_number,
        nargs="+",
        metavar="N",
        help="of the arm in the table's frame, or the object's: X Y Z [m] and, if turned, YAW or ROLL PITCH YAW [deg]",
    )
    add("--mount", type=finite_number, nargs="+", metavar="N", help="of the hand on the arm's flange, likewise")
    add("--recheck", action="store_true", help="check every grasp again with soft fingertips and the q-score")
    add("--valid-only", action="store_true", help="leave out grasps that failed a check")
    add("--out", type=Path, metavar="FILE.npz", help="file for the grasps")
    add("--preview", type=Path, metavar="FILE.png", help="file for a picture of the best grasps")
    add("--json", action="store_true", help="print one JSON document instead of the summary")
    add("--quiet", action="store_true", help="print nothing but errors (and the JSON document, where asked for)")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp synthesize``."""
    check_output(options.out, ".npz")
    check_output(options.preview, ".png")
    start_warp()
    from ..hand_file import load_hand
    from ..mesh import load_object
    from ..options import recipe
    from ..synthesis import synthesize

    chosen = recipe(options.recipe).without(*options.without)
    hand = load_hand(options.hand, ranges=options.ranges)
    mesh = load_object(options.mesh, scale=options.scale)
    arm, table = mounted_arm(options, hand), resting_pose(options.table, mesh)
    start = time.perf_counter()
    with Progress("optimizing", "step", shown=watched(options)) as progress:
        grasps = synthesize(
            hand,
            mesh,
            count=options.count,
            seed=options.seed,
            device=options.device,
            recipe=chosen,
            valid_only=options.valid_only,
            points=options.points,
            iterations=options.iterations,
            table=table or False,
            obstacles=options.obstacle,
            arm=arm,
            recheck=options.recheck,
            on_progress=progress,
        )
    seconds = time.perf_counter() - start
    if options.out:
        grasps.save(options.out)
    if options.preview and not len(grasps):
        options.preview = None
    if options.preview:
        from ..preview import preview

        preview(grasps, options.preview, device=options.device)
    if options.json:
        print_json(synthesis_report(options, grasps, seconds))
    elif not options.quiet:
        print("\n".join(synthesis_summary(options, grasps, seconds)))


def mounted_arm(options: argparse.Namespace, hand: Hand) -> MountedArm | None:
    """The arm of ``--arm``, ``--base-pose`` and ``--mount``."""
    if options.arm is None:
        unused = [name for name, given in (("--base-pose", options.base_pose), ("--mount", options.mount)) if given]
        if unused:
            raise OptionError(f"{unused[0]} is of use with an arm only: add --arm ur10e, say")
        return None
    if options.base_pose is None:
        raise OptionError("--arm needs --base-pose X Y Z [YAW]: where the arm stands, in metres and degrees")
    from ..reach import Mount, mount_arm

    position, quaternion = pose_of(options.base_pose, "--base-pose")
    mount = Mount(*pose_of(options.mount, "--mount")) if options.mount else None
    return mount_arm(options.arm, hand, base_position=position, base_quaternion=quaternion, mount=mount)


def pose_of(numbers: list[float], option: str) -> tuple[np.ndarray, np.ndarray]:
    """Position [m] and quaternion w x y z of X Y Z, X Y Z YAW or X Y Z ROLL PITCH YAW, angles in degrees."""
    import numpy as np

    from ..rotation import quaternion_from_rpy

    if len(numbers) not in (3, 4, 6):
        raise OptionError(f"{option} takes X Y Z, X Y Z YAW or X Y Z ROLL PITCH YAW; got {len(numbers)} numbers")
    angles = [0.0] * (6 - len(numbers)) + numbers[3:]
    return np.array(numbers[:3]), quaternion_from_rpy(np.radians(angles))


def resting_pose(number: int | None, mesh: ObjectMesh) -> RestingPose | None:
    """The resting pose of ``--table``."""
    if number is None:
        return None
    from ..resting import settle

    poses = settle(mesh)
    if number >= len(poses):
        raise OptionError(f"--table {number}: {mesh.name} has {len(poses)} resting poses, from 0 to {len(poses) - 1}")
    return poses[number]


def synthesis_summary(options: argparse.Namespace, grasps: Grasps, seconds: float) -> Iterator[str]:
    """Lines for people."""
    total, valid = len(grasps.valid), int(grasps.valid.sum())
    yield f"{valid} of {total} grasps valid: {grasps.hand.name} on {grasps.object.name}"
    for reason, count in Counter(str(reason) for reason in grasps.reason if reason).most_common():
        yield f"  {count:4d}  {reason}"
    for key, (name, factor, unit) in SUMMARY.items():
        if key in grasps.metrics and total:
            yield f"median {name}: {factor * median(grasps.metrics[key]):.3g} {unit}".rstrip()
    yield f"{seconds:.1f} s, {seconds / options.count:.2g} s per grasp"
    for path in (options.out, options.preview):
        if path:
            yield f"wrote {path}"
    if not total:
        yield "no grasp passed every check: try a larger --count, or leave out --valid-only to see why"
    if not options.out:
        yield "the grasps were not kept: pass --out grasps.npz to keep them"


def synthesis_report(options: argparse.Namespace, grasps: Grasps, seconds: float) -> dict:
    """The JSON document of ``warpgrasp synthesize``."""
    return {
        "hand": grasps.hand.name,
        "object": grasps.object.name,
        "recipe": grasps.info["recipe"]["name"],
        "seed": options.seed,
        "count": len(grasps.valid),
        "valid_count": int(grasps.valid.sum()),
        "seconds": seconds,
        "seconds_per_grasp": seconds / options.count,
        "median": {key: median(values) for key, values in grasps.metrics.items() if values.dtype.kind in "iufb"},
        "out": options.out and str(options.out),
        "preview": options.preview and str(options.preview),
        "grasps": [grasp_report(grasps, grasp) for grasp in range(len(grasps.valid))],
    }


def grasp_report(grasps: Grasps, grasp: int) -> dict:
    """One grasp of the JSON document: its outcome and its poses."""
    return {
        **verdict_report(grasps, grasp),
        "wrist_position": grasps.wrist_position[grasp].tolist(),
        "wrist_quaternion_wxyz": grasps.wrist_quaternion[grasp].tolist(),
        "joint_position": dict(zip(grasps.joint_names, grasps.joint_position[grasp].tolist(), strict=True)),
    }
