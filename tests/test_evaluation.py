"""``evaluate``: every key is there, says what synthesis says, and keeps what it must not touch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

import warpgrasp
from warpgrasp import bench, metrics, rotation
from warpgrasp.evaluation import evaluate, threshold_name
from warpgrasp.geometry import THRESHOLDS, measure_geometry
from warpgrasp.result import Grasps
from warpgrasp.spread import diversity

GEOMETRY_KEYS = {
    *(f"contact_area_{name}_m2" for name in ("0p5mm", "1mm", "2mm", "3mm", "5mm", "7mm", "10mm")),
    *(f"contact_area_{name}_inside_counted_m2" for name in ("0p5mm", "1mm", "2mm", "3mm", "5mm", "7mm", "10mm")),
    "intersection_volume_1mm_m3",
    "hand_in_object_depth_m",
    "object_in_hand_depth_m",
    "penetration_depth_m",
    "self_penetration_depth_m",
    "links_in_contact_2mm",
    "wrench_residual_mu02",
    "finger_distance_mean_cap10mm_m",
    "contact_consistency_cap10mm_m",
}

ANALYTIC_KEYS = {
    "epsilon_l1_mu05_edges8",
    "epsilon_linf_mu05_edges8",
    "wrench_volume_mu05_edges8",
    "min_weight_mu05_edges8",
    "force_closure_residual",
    "epsilon_l1_mu05_circular",
    "q1_dexgraspnet",
    "q1_dexgraspbench_tips_mu03",
}


@pytest.fixture(scope="module")
def can() -> trimesh.Trimesh:
    return trimesh.creation.cylinder(radius=0.03, height=0.1, sections=48)


@pytest.fixture(scope="module")
def grasps(can) -> Grasps:
    return warpgrasp.synthesize("allegro", can, count=6, seed=3, iterations=60, device="cpu", recipe="attraction")


@pytest.fixture(scope="module")
def evaluated(grasps) -> Grasps:
    return evaluate(grasps, device="cpu")


def test_every_key_is_there(evaluated, grasps):
    assert set(evaluated.metrics) >= GEOMETRY_KEYS | ANALYTIC_KEYS | set(grasps.metrics)
    assert not any(np.isnan(evaluated.metrics[key]).any() for key in ANALYTIC_KEYS)
    for key in GEOMETRY_KEYS:
        assert evaluated.metrics[key].shape == (6,)
        assert np.isfinite(evaluated.metrics[key]).all(), key


def test_poses_labels_and_input_stay_as_they_are(evaluated, grasps):
    for name in ("wrist_position", "wrist_quaternion", "joint_position", "valid", "reason"):
        np.testing.assert_array_equal(getattr(evaluated, name), getattr(grasps, name))
    assert "intersection_volume_1mm_m3" not in grasps.metrics
    assert evaluated.hand is grasps.hand


def test_a_key_means_one_measurement(evaluated, grasps):
    """What synthesis labelled by comes out the same; with four times the points depths are found deeper, if at all."""
    for key in ("penetration_depth_m", "self_penetration_depth_m", "links_in_contact_2mm", "wrench_residual_mu02"):
        np.testing.assert_array_equal(evaluated.metrics[key], grasps.metrics[key])
    finer = np.maximum(evaluated.metrics["hand_in_object_depth_m"], evaluated.metrics["object_in_hand_depth_m"])
    np.testing.assert_allclose(evaluated.metrics["penetration_depth_m"], finer, atol=3e-4)


def test_areas_rise_with_the_threshold(evaluated):
    for ending in ("_m2", "_inside_counted_m2"):
        curve = np.array([evaluated.metrics[f"contact_area_{threshold_name(t)}{ending}"] for t in THRESHOLDS])
        assert (np.diff(curve, axis=0) >= 0.0).all()
    inside = evaluated.metrics["contact_area_5mm_inside_counted_m2"]
    assert (inside >= evaluated.metrics["contact_area_5mm_m2"]).all()
    assert inside.max() > 1e-4


def test_analytic_metrics_take_one_contact_per_link_within_5_mm(can):
    """The same contacts put into ``warpgrasp.metrics`` by hand, on grasps of which some are force closure."""
    found = evaluate(warpgrasp.synthesize("allegro", can, count=6, seed=3, iterations=400, device="cpu"), device="cpu")
    obj = found.object
    geometry = measure_geometry(found.hand, obj, found.pose, device="cpu")
    far = geometry.contact_distance > 0.005
    position, normal = geometry.contact_position.copy(), geometry.contact_normal.copy()
    position[far] = normal[far] = np.nan
    epsilon = metrics.epsilon_l1(
        position,
        normal / np.linalg.norm(normal, axis=-1, keepdims=True),
        friction_coefficient=0.5,
        edge_count=8,
        torque_length=np.linalg.norm(obj.vertices - obj.center_of_mass, axis=1).max(),
        center=obj.center_of_mass,
    )
    assert (epsilon > 0.01).any()
    np.testing.assert_allclose(found.metrics["epsilon_l1_mu05_edges8"], epsilon, rtol=1e-6, atol=1e-9)


def test_circular_cones_are_the_stable_epsilon(can):
    """Cones with edges are inside of them, by the third of a value at most."""
    found = warpgrasp.synthesize("allegro", can, count=6, seed=3, iterations=400, device="cpu")
    metrics_of = evaluate(found, device="cpu").metrics
    inscribed, circular = metrics_of["epsilon_l1_mu05_edges8"], metrics_of["epsilon_l1_mu05_circular"]
    assert (circular > 0.01).any()
    assert (circular >= inscribed * (1.0 - 1e-4)).all()
    assert (inscribed > 0.67 * circular - 1e-6).all()


def test_q1_of_dexgraspbench_takes_the_fingertips(evaluated):
    hand = evaluated.hand
    geometry = measure_geometry(hand, evaluated.object, evaluated.pose, device="cpu")
    tips = [finger.links[-1] for finger in hand.fingers]
    away = np.abs(geometry.contact_distance[:, tips]) > 0.005
    position, normal = geometry.contact_position[:, tips], geometry.contact_normal[:, tips]
    position[away] = normal[away] = np.nan
    expected = metrics.q1_dexgraspbench(position, normal / np.linalg.norm(normal, axis=-1, keepdims=True))
    np.testing.assert_allclose(evaluated.metrics["q1_dexgraspbench_tips_mu03"], expected, rtol=1e-6, atol=1e-9)


def test_the_scoreboard_reads_keys_that_are_there(evaluated):
    assert set(bench.KEPT) <= set(evaluated.metrics)


def test_volume_agrees_with_a_boolean_of_the_meshes(evaluated):
    """Deeper by 5 mm, so that there is something to compare."""
    pytest.importorskip("manifold3d")
    pushed = dataclasses.replace(evaluated, wrist_position=0.9 * evaluated.wrist_position)
    found = evaluate(pushed, device="cpu")
    assert found.metrics["intersection_volume_1mm_m3"].max() > 1e-7
    frames = pushed.hand.link_transforms(pushed.joint_position)
    for grasp in range(6):
        wrist = rotation.matrix(pushed.wrist_position[grasp], pushed.wrist_quaternion[grasp])
        parts = [
            shape.trimesh().apply_transform(wrist @ frames[grasp, link])
            for link, part in enumerate(pushed.hand.links)
            for shape in part.shapes
        ]
        hand = trimesh.boolean.union(parts, engine="manifold", check_volume=False)
        shared = trimesh.boolean.intersection([hand, pushed.object.trimesh()], engine="manifold", check_volume=False)
        volume = shared.volume if len(shared.faces) else 0.0
        assert found.metrics["intersection_volume_1mm_m3"][grasp] == pytest.approx(volume, rel=0.05, abs=2e-8)


def test_twice_is_the_same(evaluated):
    again = evaluate(evaluated, device="cpu")
    for key in GEOMETRY_KEYS:
        np.testing.assert_array_equal(again.metrics[key], evaluated.metrics[key])


def test_each_grasp_is_measured_by_itself(evaluated, grasps):
    alone = evaluate(grasps[[4, 1]], device="cpu")
    for key in GEOMETRY_KEYS:
        np.testing.assert_allclose(alone.metrics[key], evaluated.metrics[key][[4, 1]], rtol=1e-12)


def test_files_keep_the_metrics(evaluated, tmp_path):
    evaluated.save(tmp_path / "can.npz")
    again = warpgrasp.load_grasps(tmp_path / "can.npz")
    for key in GEOMETRY_KEYS:
        np.testing.assert_array_equal(again.metrics[key], evaluated.metrics[key])


def test_a_pose_that_is_not_finite_gets_nan(grasps):
    broken = grasps[:2]
    broken.wrist_position[1, 0] = np.nan
    found = evaluate(broken, device="cpu").metrics
    assert found["links_in_contact_2mm"][1] == 0
    for key in GEOMETRY_KEYS - {"links_in_contact_2mm"}:
        assert np.isfinite(found[key][0])
        assert np.isnan(found[key][1])


def test_no_grasp_is_no_error(grasps):
    found = evaluate(grasps[:0], device="cpu")
    assert len(found) == 0
    assert set(found.metrics) >= GEOMETRY_KEYS | ANALYTIC_KEYS


def test_diversity_takes_grasps(evaluated):
    found, expected = diversity(evaluated), diversity(evaluated.pose, evaluated.hand)
    assert found["grasp_count"] == 6.0
    assert found == pytest.approx(expected, nan_ok=True)


def test_threshold_names():
    assert [threshold_name(t) for t in THRESHOLDS] == ["0p5mm", "1mm", "2mm", "3mm", "5mm", "7mm", "10mm"]


def test_a_missing_device_is_named(grasps):
    with pytest.raises(warpgrasp.DeviceError, match="no device named 'gpu'"):
        evaluate(grasps, device="gpu")
