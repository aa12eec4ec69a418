"""Every reference case is run by some test: those of simulation displacement here, the others in the files named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import trimesh
from physics_grasps import labelled, panda_grip

from warpgrasp.hand import Hand, Joint, Link, Palm, Shape
from warpgrasp.physics.protocols import PROTOCOLS
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps
from warpgrasp.validation import validate

ALL_OF_A_METRIC = {
    "epsilon_L1": 25,
    "epsilon_Linf": 2,
    "gws_volume_L1": 6,
    "min_weight": 7,
    "q1_dexgraspnet": 4,
    "E_fc": 2,
    "graspqp_residual": 2,
    "qscore_fixed_normals_elastic": 23,
}
"""Run by loops over the file in test_metrics.py and test_qscore.py, with how many there must be."""

ONE_BY_ONE = {
    "iv_spheres": "test_geometry.py",
    "iv_boxes": "test_geometry.py",
    "pd_spheres": "test_geometry.py",
    "ca_sphere_plane": "test_geometry.py",
    "sd_freefall_obman": "test_metric_cases.py",
    "sd_perfect": "test_metric_cases.py",
}
"""Run by name, and where."""

UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def read_cases(shared: Path) -> list[dict]:
    return json.loads((shared / "facts" / "metric_cases.json").read_text(encoding="utf-8"))["cases"]


def test_every_reference_case_is_run(shared):
    cases = read_cases(shared)
    assert len(cases) == 77
    looped = [case for case in cases if case["metric"] in ALL_OF_A_METRIC]
    assert Counter(case["metric"] for case in looped) == ALL_OF_A_METRIC
    assert {case["id"] for case in cases if case not in looped} == set(ONE_BY_ONE)
    here = Path(__file__).parent
    for name, file in ONE_BY_ONE.items():
        text = (here / file).read_text(encoding="utf-8").split("UPRIGHT =", 1)[1]
        assert f'"{name}"' in text, f"{name} is not run by {file}"
    for file in ("test_metrics.py", "test_qscore.py"):
        text = (here / file).read_text(encoding="utf-8")
        assert "metric_cases.json" in text
    for metric in ALL_OF_A_METRIC:
        assert any(f'"{metric}"' in (here / file).read_text() for file in ("test_metrics.py", "test_qscore.py"))


def test_a_free_object_moves_as_far_as_it_falls(shared):
    displacement_agrees(shared, "sd_freefall_obman", panda_grip(away=30.0))


def test_a_caged_object_does_not_move(shared):
    displacement_agrees(shared, "sd_perfect", caged_box())


def displacement_agrees(shared: Path, name: str, grasps: Grasps) -> None:
    case = next(case for case in read_cases(shared) if case["id"] == name)
    protocol = PROTOCOLS["sd_obman"]
    given = case["inputs"]
    assert protocol.pull_time == pytest.approx(given["steps"] * given["dt"])
    moved = validate(grasps, "sd_obman").metrics["sd_obman_displacement_m"]
    assert moved == pytest.approx([case["expected"]], abs=case["tol"])


def caged_box() -> Grasps:
    """A box of 40 mm in a hand that is six walls around it, and a joint far away.

    The walls press with 0.1 mm: contacts are springs, and 1 kg sinks 0.11 mm into a floor that only touches.
    """
    half, thick = 0.0199, 0.01
    walls = tuple(
        Shape("box", np.where(np.arange(3) == axis, thick, half + 2 * thick), side * (half + thick) * axes, UPRIGHT)
        for axis, axes in enumerate(np.eye(3))
        for side in (-1.0, 1.0)
    )
    bead = (Shape("sphere", np.array([0.005]), np.zeros(3), UPRIGHT),)
    hand = Hand(
        name="cage",
        path=Path("cage.urdf"),
        links=(Link("walls", 0.1, np.zeros(3), np.eye(3), walls), Link("bead", 0.1, np.zeros(3), np.eye(3), bead)),
        joints=(Joint("hinge", "revolute", 0, np.array([0.0, 0.0, 0.2]), UPRIGHT, np.array([0.0, 0, 1]), -1.0, 1.0),),
        frames={},
        mimics=(),
        couplings=(),
        fingers=(),
        pads=(),
        palm=Palm(0, np.zeros(3), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])),
        open_position=np.zeros(1),
        neighbours=frozenset({(0, 1)}),
    )
    still = Pose(np.zeros((1, 3)), UPRIGHT[None], np.zeros((1, 1)))
    return labelled(hand, trimesh.creation.box((0.04, 0.04, 0.04)), still, still, still)
