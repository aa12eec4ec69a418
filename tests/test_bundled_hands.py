"""The bundled hands: kinematics against published models, and hand.yaml against hand.urdf.

The URDFs are read with yourdfpy, not with warpgrasp, so that a mistake of our own reader cannot hide one of the files.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import yaml
import yourdfpy

from warpgrasp import hands

NAMES = ["allegro", "barrett", "leap", "panda", "shadow", "shadow_left", "shadow_wrist"]
each_hand = pytest.mark.parametrize("name", NAMES)

# Origins of fingertip frames in the base frame [m], at joint = lower + fraction * (upper - lower), or at zero where
# the fraction is None. Computed from the tables of the models named; panda from its one translation.
GOLDEN = {
    # google-deepmind/mujoco_menagerie shadow_hand/right_hand.xml 0498058e
    ("shadow_wrist", None): {
        "palm": (0.0, -0.01, 0.24701),
        "fftip": (0.033, -0.01, 0.43801),
        "mftip": (0.011, -0.01, 0.44201),
        "rftip": (-0.011, -0.01, 0.43801),
        "lftip": (-0.033, -0.01, 0.42951),
        "thtip": (0.102943, -0.01858, 0.344953),
    },
    ("shadow_wrist", 0.5): {
        "fftip": (0.004871, -0.070060, 0.375423),
        "mftip": (-0.017485, -0.069642, 0.375520),
        "rftip": (-0.038460, -0.070060, 0.367782),
        "lftip": (-0.030159, -0.086752, 0.343758),
        "thtip": (0.050948, -0.061081, 0.357967),
    },
    ("shadow_wrist", 0.25): {
        "fftip": (-0.028103, 0.016894, 0.427003),
        "mftip": (-0.050036, 0.018456, 0.422939),
        "rftip": (-0.095351, 0.016894, 0.402527),
        "lftip": (-0.105757, -0.004840, 0.391805),
        "thtip": (0.070965, 0.000926, 0.359053),
    },
    # dexsuite/dex-urdf allegro_hand_right 93505db3
    ("allegro", None): {
        "link_3_tip": (0.0, 0.055310, 0.133442),
        "link_7_tip": (0.0, 0.0, 0.136200),
        "link_11_tip": (0.0, -0.055310, 0.133442),
        "link_15_tip": (-0.0132, 0.167704, -0.086071),
    },
    ("allegro", 0.5): {
        "link_3_tip": (0.095347, 0.047517, 0.044373),
        "link_7_tip": (0.095347, 0.0, 0.046791),
        "link_11_tip": (0.095347, -0.047517, 0.044373),
        "link_15_tip": (0.084029, 0.057136, -0.010195),
    },
    ("allegro", 0.25): {
        "link_3_tip": (0.051244, 0.041753, 0.119268),
        "link_7_tip": (0.051244, -0.012269, 0.120898),
        "link_11_tip": (0.051244, -0.066198, 0.117129),
        "link_15_tip": (0.066755, 0.134896, -0.047121),
    },
    # alberthli/frogger bh280.urdf f91157f9, distal joint at a third of the proximal one
    ("barrett", None): {
        "f1_tip": (0.025, 0.157036, 0.1118),
        "f2_tip": (-0.025, 0.157036, 0.1118),
        "f3_tip": (0.0, -0.157036, 0.1118),
    },
    ("barrett", 0.5): {
        "f1_tip": (0.060600, 0.0, 0.177240),
        "f2_tip": (-0.060600, 0.0, 0.177240),
        "f3_tip": (0.0, -0.035600, 0.177240),
    },
    ("barrett", 0.25): {
        "f1_tip": (0.100471, 0.075471, 0.167877),
        "f2_tip": (-0.100471, 0.075471, 0.167877),
        "f3_tip": (0.0, -0.106733, 0.167877),
    },
    # dexsuite/dex-urdf leap_hand_right 93505db3
    ("leap", None): {
        "if_tip": (0.0195, 0.0456, 0.2282),
        "mf_tip": (0.0195, 0.0002, 0.2281),
        "rf_tip": (0.0195, -0.0452, 0.22811),
        "th_tip": (0.0219, 0.1747, 0.0157),
    },
    ("leap", 0.5): {
        "if_tip": (0.127873, 0.045600, 0.080086),
        "mf_tip": (0.127873, 0.000200, 0.079986),
        "rf_tip": (0.127873, -0.045200, 0.079996),
        "th_tip": (0.143876, 0.083854, 0.043494),
    },
    # dexsuite/dex-urdf panda_gripper 93505db3
    ("panda", None): {"leftfinger": (0.0, 0.0, 0.0584), "rightfinger": (0.0, 0.0, 0.0584), "tcp": (0.0, 0.0, 0.1034)},
    ("panda", 0.5): {"leftfinger": (0.0, 0.02, 0.0584), "rightfinger": (0.0, -0.02, 0.0584)},
    ("panda", 0.25): {"leftfinger": (0.0, 0.01, 0.0584), "rightfinger": (0.0, -0.01, 0.0584)},
}

# Sums of the models' link masses [kg]; the Shadow hand without wrist leaves out forearm (3.0) and wrist (0.1).
TOTAL_MASS = {
    "allegro": 0.955,
    "barrett": 0.986,
    "leap": 0.746,
    "panda": 0.76,
    "shadow": 0.694,
    "shadow_left": 0.694,
    "shadow_wrist": 3.794,
}


@cache
def urdf(name: str) -> yourdfpy.URDF:
    path = hands.folder() / name / "hand.urdf"
    return yourdfpy.URDF.load(
        str(path), load_meshes=False, build_collision_scene_graph=False, load_collision_meshes=False
    )


@cache
def side_file(name: str) -> dict[str, Any]:
    return yaml.safe_load((hands.folder() / name / "hand.yaml").read_text())


def movable(name: str) -> dict[str, Any]:
    """Joints that move, by name; mimic joints included."""
    return {joint.name: joint for joint in urdf(name).robot.joints if joint.type != "fixed"}


def ranges(name: str) -> dict[str, tuple[float, float]]:
    return {j: (joint.limit.lower, joint.limit.upper) for j, joint in movable(name).items()}


def pose(name: str, joint_position: dict[str, float]) -> dict[str, np.ndarray]:
    """Link poses in the base frame, shape (4, 4); joints not given are 0 or mimic."""
    model = urdf(name)
    model.update_cfg({j: joint_position.get(j, 0.0) for j in model.actuated_joint_names})
    return {link: model.get_transform(link) for link in model.link_map}


def fraction_of_range(name: str, fraction: float | None) -> dict[str, float]:
    if fraction is None:
        return {}
    return {j: lower + fraction * (upper - lower) for j, (lower, upper) in ranges(name).items()}


def origin(element: Any) -> np.ndarray:
    """Pose of a URDF element, identity where the file gives none, shape (4, 4)."""
    return np.eye(4) if element.origin is None else np.asarray(element.origin)


def signed_distance(name: str, link: str, point: np.ndarray) -> float:
    """Distance of a point in the link frame to the link's collision primitives [m], negative inside."""
    distance = np.inf
    for collision in urdf(name).link_map[link].collisions:
        shape_pose = origin(collision)
        local = shape_pose[:3, :3].T @ (point - shape_pose[:3, 3])
        geometry = collision.geometry
        if geometry.sphere is not None:
            distance = min(distance, float(np.linalg.norm(local)) - geometry.sphere.radius)
            continue
        if geometry.box is not None:
            excess = np.abs(local) - np.asarray(geometry.box.size) / 2
        else:
            radial = np.hypot(local[0], local[1]) - geometry.cylinder.radius
            excess = np.array([radial, abs(local[2]) - geometry.cylinder.length / 2])
        distance = min(distance, float(np.linalg.norm(np.maximum(excess, 0)) + min(excess.max(), 0)))
    return distance


def mirror(point: Any) -> np.ndarray:
    return np.asarray(point) * [-1, 1, 1]


def mirror_pose(transform: np.ndarray) -> np.ndarray:
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    return flip @ transform @ flip


def open_position(name: str) -> dict[str, float]:
    given = side_file(name)["open"]
    return {j: given.get(j, min(max(0.0, lower), upper)) for j, (lower, upper) in ranges(name).items()}


def test_bundled_names():
    assert hands.names() == NAMES


@pytest.mark.parametrize(("name", "fraction"), GOLDEN)
def test_forward_kinematics_matches_published_model(name, fraction):
    poses = pose(name, fraction_of_range(name, fraction))
    for frame, expected in GOLDEN[name, fraction].items():
        np.testing.assert_allclose(poses[frame][:3, 3], expected, atol=1e-5, err_msg=frame)


@pytest.mark.parametrize("fraction", [None, 0.25, 0.5, 0.8])
def test_shadow_is_shadow_wrist_from_the_palm_on(fraction):
    whole = pose("shadow_wrist", fraction_of_range("shadow_wrist", fraction))
    from_palm = pose("shadow", fraction_of_range("shadow", fraction))
    for link, transform in from_palm.items():
        np.testing.assert_allclose(whole["palm"] @ transform, whole[link], atol=1e-9, err_msg=link)


@pytest.mark.parametrize("fraction", [None, 0.25, 0.5, 0.8])
def test_shadow_left_moves_as_the_mirror_of_shadow(fraction):
    right = pose("shadow", fraction_of_range("shadow", fraction))
    left = pose("shadow_left", fraction_of_range("shadow_left", fraction))
    assert left.keys() == right.keys()
    for link, transform in left.items():
        np.testing.assert_allclose(transform, mirror_pose(right[link]), atol=1e-9, err_msg=link)


def test_shadow_left_is_written_as_the_mirror_of_shadow():
    right, left = urdf("shadow"), urdf("shadow_left")
    assert ranges("shadow_left") == ranges("shadow")
    assert left.joint_map.keys() == right.joint_map.keys()
    for name, joint in right.joint_map.items():
        np.testing.assert_allclose(origin(left.joint_map[name]), mirror_pose(origin(joint)), atol=1e-9, err_msg=name)
    for name, link in right.link_map.items():
        for one, other in zip(link.collisions, left.link_map[name].collisions, strict=True):
            assert one.name == other.name
            np.testing.assert_allclose(mirror(origin(one)[:3, 3]), origin(other)[:3, 3], atol=1e-9, err_msg=name)

    right_file, left_file = side_file("shadow"), side_file("shadow_left")
    for key in ("position", "normal", "fingers"):
        np.testing.assert_allclose(left_file["palm"][key], mirror(right_file["palm"][key]), err_msg=key)
    for one, other in zip(right_file["pads"], left_file["pads"], strict=True):
        assert one["link"] == other["link"]
        np.testing.assert_allclose(other["position"], mirror(one["position"]))
        np.testing.assert_allclose(other["normal"], mirror(one["normal"]))
    for key in ("fingers", "open", "ranges", "couplings", "actuators", "neighbours"):
        assert left_file[key] == right_file[key]


@each_hand
def test_total_mass(name):
    masses = [link.inertial.mass or 0.0 for link in urdf(name).robot.links if link.inertial is not None]
    assert sum(masses) == pytest.approx(TOTAL_MASS[name], abs=6e-4)


@each_hand
def test_every_joint_has_limits(name):
    for joint in movable(name).values():
        assert joint.limit.lower < joint.limit.upper
        assert joint.limit.effort > 0
        assert joint.limit.velocity > 0


@each_hand
def test_capsules_are_a_cylinder_and_its_two_end_spheres(name):
    for link in urdf(name).robot.links:
        for shapes in (link.collisions, link.visuals):
            by_name = {shape.name: shape for shape in shapes if shape.name}
            cylinders = [shape for shape in by_name.values() if shape.name.endswith("_capsule")]
            assert len(by_name) == 3 * len(cylinders)
            for shape in cylinders:
                cylinder = shape.geometry.cylinder
                axis = origin(shape)[:3, 2]
                for suffix, sign in (("_a", 1), ("_b", -1)):
                    sphere = by_name[f"{shape.name}{suffix}"]
                    assert sphere.geometry.sphere.radius == cylinder.radius
                    end = np.add(origin(shape)[:3, 3], sign * cylinder.length / 2 * axis)
                    np.testing.assert_allclose(origin(sphere)[:3, 3], end, atol=2e-6)


@each_hand
def test_visuals_equal_collisions(name):
    for link in urdf(name).robot.links:
        assert [(s.name, s.geometry) for s in link.visuals] == [(s.name, s.geometry) for s in link.collisions]
        for one, other in zip(link.visuals, link.collisions, strict=True):
            np.testing.assert_array_equal(origin(one), origin(other))


@each_hand
def test_side_file_names_exist_in_the_urdf(name):
    side, links, joints = side_file(name), urdf(name).link_map.keys(), movable(name).keys()
    finger_links = [link for finger in side["fingers"].values() for link in [*finger["links"], finger["tip"]]]
    named_links = {side["palm"]["link"], *finger_links, *itertools.chain(*side["neighbours"])}
    assert named_links | {pad["link"] for pad in side["pads"]} <= links

    couplings = side.get("couplings", [])
    named_joints = {*side["open"], *side["ranges"]["robot"]["joints"]}
    named_joints |= {joint for finger in side["fingers"].values() for joint in finger["joints"]}
    named_joints |= {joint for c in couplings for joint in c.get("coefficients", [c.get("joint")])}
    named_joints |= {joint for actuator in side.get("actuators", []) for joint in actuator["joints"]}
    assert named_joints <= joints


@each_hand
def test_fingers_are_chains_from_palm_to_tip(name):
    parent_joint = {joint.child: joint for joint in urdf(name).robot.joints}
    for finger in side_file(name)["fingers"].values():
        joints, links = [], [parent_joint[finger["tip"]].parent]
        if parent_joint[finger["tip"]].type != "fixed":
            links = [finger["tip"]]
        while len(joints) < len(finger["joints"]):
            joint = parent_joint[links[0]]
            joints.insert(0, joint.name)
            links.insert(0, joint.parent)
        assert joints == finger["joints"]
        assert links[1:] == finger["links"]


@each_hand
def test_ranges_of_the_robot_lie_inside_the_model(name):
    for joint, (lower, upper) in side_file(name)["ranges"]["robot"]["joints"].items():
        model_lower, model_upper = ranges(name)[joint]
        assert model_lower <= lower < upper <= model_upper


@each_hand
def test_open_hand_obeys_limits_and_couplings(name):
    position = open_position(name)
    for joint, (lower, upper) in ranges(name).items():
        assert lower <= position[joint] <= upper, joint
    freed = set()
    for coupling in side_file(name).get("couplings", []):
        if coupling["type"] == "inequality":
            total = sum(factor * position[joint] for joint, factor in coupling["coefficients"].items())
            assert total >= coupling["minimum"]
        else:
            assert coupling["type"] == "breakaway"
            freed.add(coupling["joint"])
    for joint in movable(name).values():
        if joint.mimic is None:
            assert joint.name not in freed
            continue
        follows = (joint.mimic.multiplier or 1) * position[joint.mimic.joint] + (joint.mimic.offset or 0)
        assert position[joint.name] >= follows - 1e-9
        assert joint.name in freed or position[joint.name] == pytest.approx(follows)


@each_hand
def test_open_fingertips_are_in_front_of_the_palm(name):
    side = side_file(name)
    poses = pose(name, open_position(name))
    palm = poses[side["palm"]["link"]]
    palm_position = palm[:3, :3] @ side["palm"]["position"] + palm[:3, 3]
    for finger in side["fingers"].values():
        assert (poses[finger["tip"]][:3, 3] - palm_position) @ (palm[:3, :3] @ side["palm"]["normal"]) > 0.02


@each_hand
def test_pads_and_palm_lie_on_the_surface(name):
    side = side_file(name)
    for point in [*side["pads"], side["palm"]]:
        position, normal = np.asarray(point["position"], float), np.asarray(point["normal"], float)
        assert np.linalg.norm(normal) == pytest.approx(1.0, abs=1e-5)
        assert abs(signed_distance(name, point["link"], position)) < 1.5e-3
        assert signed_distance(name, point["link"], position + 5e-3 * normal) == pytest.approx(5e-3, abs=1.5e-3)
        assert signed_distance(name, point["link"], position - 2e-3 * normal) < 0


@each_hand
def test_palm_directions_are_orthonormal(name):
    palm = side_file(name)["palm"]
    axes = np.array([palm["normal"], palm["fingers"]], float)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-6)
