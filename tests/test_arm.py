"""Arms: forward kinematics against MuJoCo, pytorch-kinematics, yourdfpy and published places; loading them."""

from __future__ import annotations

import numpy as np
import pytest
import yourdfpy
from reference_arm import flange_by_mujoco, flange_by_torch

from warpgrasp import arms, rotation
from warpgrasp.arm import Arm
from warpgrasp.arm_file import load_arm
from warpgrasp.errors import ArmError, ArmNotFoundError, FileFormatError

GOLDEN = {
    # ur_description by way of dex-urdf; the Panda's ready pose by the DH table of Franka's documentation.
    ("ur10e", (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)): (1.184250, 0.290700, 0.060850),
    ("ur10e", (0.0, -np.pi / 2, np.pi / 2, -np.pi / 2, -np.pi / 2, 0.0)): (0.691400, 0.174150, 0.676850),
    ("panda_arm", (0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4)): (0.30689, 0.0, 0.59028),
}

DH = {
    # a, d, alpha of the standard convention (Universal Robots); a, d, alpha of the modified one (Franka).
    "ur10e": [
        (0.0, 0.1807, np.pi / 2),
        (-0.6127, 0.0, 0.0),
        (-0.57155, 0.0, 0.0),
        (0.0, 0.17415, np.pi / 2),
        (0.0, 0.11985, -np.pi / 2),
        (0.0, 0.11655, 0.0),
    ],
    "panda_arm": [
        (0.0, 0.333, 0.0),
        (0.0, 0.0, -np.pi / 2),
        (0.0, 0.316, np.pi / 2),
        (0.0825, 0.0, np.pi / 2),
        (-0.0825, 0.384, -np.pi / 2),
        (0.0, 0.0, np.pi / 2),
        (0.088, 0.0, np.pi / 2),
    ],
}


def by_dh(name: str, theta: np.ndarray) -> np.ndarray:
    """Flange from the vendor's table."""
    pose = np.eye(4)
    x, z = np.eye(3)[0], np.eye(3)[2]

    def motion(axis: np.ndarray, angle: float, slide: float) -> np.ndarray:
        step = np.eye(4)
        step[:3, :3] = rotation.matrix_from_axis_angle(axis, np.asarray(angle))
        step[:3, 3] = slide * axis
        return step

    for (a, d, alpha), angle in zip(DH[name], theta, strict=True):
        if name == "ur10e":
            pose = pose @ motion(z, angle, d) @ motion(x, alpha, a)
        else:
            pose = pose @ motion(x, alpha, a) @ motion(z, angle, d)
    return pose @ motion(z, 0.0, 0.107) if name == "panda_arm" else pose


def turned_base(name: str) -> np.ndarray:
    """The URDF's base in the frame of the DH table: that of Universal Robots is turned by half a turn."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) if name == "ur10e" else np.eye(4)


@pytest.fixture(params=["ur10e", "panda_arm"])
def arm(request: pytest.FixtureRequest) -> Arm:
    return load_arm(request.param)


@pytest.fixture
def theta(arm: Arm, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(arm.lower, arm.upper, (40, arm.joint_count))


def test_bundled_names():
    assert arms.names() == ["panda_arm", "ur10e"]


@pytest.mark.parametrize(("name", "theta"), GOLDEN)
def test_flange_is_where_it_was_published(name, theta):
    flange = load_arm(name).flange_transforms(np.array(theta))
    np.testing.assert_allclose(flange[:3, 3], GOLDEN[name, theta], atol=1e-5)


def test_forward_kinematics_follows_the_vendors_table(arm, theta):
    expected = [np.linalg.inv(turned_base(arm.name)) @ by_dh(arm.name, row) for row in theta]
    np.testing.assert_allclose(arm.flange_transforms(theta), expected, atol=1e-6)


def test_forward_kinematics_matches_mujoco_and_pytorch_kinematics(arm, theta):
    flange = arm.flange_transforms(theta)
    np.testing.assert_allclose(flange, flange_by_mujoco(arm, theta), atol=1e-7)
    np.testing.assert_allclose(flange, flange_by_torch(arm, theta), atol=1e-6)


def test_forward_kinematics_matches_yourdfpy(arm, theta):
    robot = yourdfpy.URDF.load(str(arm.path), build_scene_graph=True, load_meshes=False)
    for row, flange in zip(theta[:5], arm.flange_transforms(theta[:5]), strict=True):
        robot.update_cfg(dict(zip(arm.joint_names, row, strict=True)))
        np.testing.assert_allclose(robot.get_transform(arm.flange), flange, atol=1e-7)


def test_jacobian_is_the_slope_of_forward_kinematics(arm, theta):
    flange, jacobian = arm.flange_and_jacobian(theta)
    for joint in range(arm.joint_count):
        step = 1e-6 * np.eye(arm.joint_count)[joint]
        ahead, behind = arm.flange_transforms(theta + step), arm.flange_transforms(theta - step)
        np.testing.assert_allclose(jacobian[:, :3, joint], (ahead - behind)[:, :3, 3] / 2e-6, atol=1e-8)
        spin = (ahead - behind)[:, :3, :3] / 2e-6 @ np.swapaxes(flange[:, :3, :3], 1, 2)
        expected = np.stack([spin[:, 2, 1], spin[:, 0, 2], spin[:, 1, 0]], axis=1)
        np.testing.assert_allclose(jacobian[:, 3:, joint], expected, atol=1e-8)


def test_reach_is_what_random_configurations_do_not_exceed(arm, rng):
    theta = rng.uniform(arm.lower, arm.upper, (20000, arm.joint_count))
    far = np.linalg.norm(arm.flange_transforms(theta)[:, :3, 3] - arm.shoulder, axis=1).max()
    assert 0.95 * arm.reach < far < 1.005 * arm.reach


def test_what_the_vendors_publish(arm):
    payload, efforts = {"ur10e": (12.5, [330, 330, 150, 56, 56, 56]), "panda_arm": (3.0, [87] * 4 + [12] * 3)}[arm.name]
    assert arm.payload == payload
    assert [joint.effort for joint in arm.tree.joints] == efforts
    assert ((arm.home >= arm.lower) & (arm.home <= arm.upper)).all()
    assert all(link.mass > 0.0 and link.shapes for link in arm.tree.links)


def test_arms_do_not_collide_at_home(arm):
    from warpgrasp.self_collision import self_penetration

    assert self_penetration(arm.tree, arm.home[None])[0] == 0.0


def test_an_arm_is_returned_as_it_is(arm):
    assert load_arm(arm) is arm


def test_names_that_do_not_exist():
    with pytest.raises(ArmNotFoundError, match=r"no arm named 'ur10'\. Did you mean 'ur10e'"):
        load_arm("ur10")
    with pytest.raises(FileFormatError, match="no such file"):
        load_arm("missing/arm.urdf")
    with pytest.raises(ArmError, match=r"there is no frame 'tool'\. Did you mean 'tool0'"):
        load_arm("ur10e", flange="tool")
    with pytest.raises(ArmError, match="no movable joint lies between its root and 'base_link'"):
        load_arm("ur10e", flange="base_link")


def joint(name: str, parent: str, child: str, kind: str = "revolute", extra: str = "") -> str:
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/><origin xyz="0 0 0.2"/>'
        f'<axis xyz="0 1 0"/><limit lower="-1" upper="2" effort="1" velocity="1"/>{extra}</joint>'
    )


def written(folder, body: str, links: str = "abcde", yaml: str = ""):
    path = folder / "own.urdf"
    path.write_text(f'<robot name="own">{"".join(f"<link name={c!r}/>" for c in links)}{body}</robot>')
    if yaml:
        (folder / "own.yaml").write_text(yaml)
    return path


def test_a_gripper_is_left_out(tmp_path):
    body = (
        joint("j1", "a", "b")
        + joint("j2", "b", "c")
        + joint("grip", "c", "d", "prismatic")
        + joint("f", "c", "e", "fixed")
    )
    arm = load_arm(written(tmp_path, body), flange="e")
    assert arm.joint_names == ("j1", "j2")
    assert arm.flange_transforms(np.zeros(2))[2, 3] == pytest.approx(0.6)
    assert load_arm(written(tmp_path, body)).joint_names == ("j1", "j2", "grip"), "without a flange it is the last link"
    np.testing.assert_allclose(arm.home, 0.5)


def test_a_yaml_beside_the_file_is_read(tmp_path):
    body = joint("j1", "a", "b") + joint("j2", "b", "c")
    path = written(tmp_path, body, "abc", "flange: b\npayload: 2\nhome: [0.25]\n")
    arm = load_arm(path)
    assert (arm.flange, arm.payload, arm.joint_names, arm.home.tolist()) == ("b", 2.0, ("j1",), [0.25])
    for yaml, message in {
        "home: [3]\nflange: b": "leaves the joints' ranges",
        "payload: -1": "payload is -1; it should be positive",
        "pay: 1": "unknown key 'pay'",
        "mounts: {shadow: {place: [0, 0, 0]}}": "mount of shadow: unknown key 'place'",
    }.items():
        with pytest.raises(ArmError, match=message):
            load_arm(written(tmp_path, body, "abc", yaml))


def test_files_that_are_no_arm(tmp_path):
    two = joint("j1", "a", "b") + joint("j2", "a", "c")
    with pytest.raises(ArmError, match="several chains end after 1 movable joints"):
        load_arm(written(tmp_path, two, "abc"))
    assert load_arm(written(tmp_path, two, "abc"), flange="c").joint_names == ("j2",)
    follows = joint("j1", "a", "b") + joint("j2", "b", "c", extra='<mimic joint="j1"/>')
    with pytest.raises(ArmError, match="joint 'j2' mimics another one"):
        load_arm(written(tmp_path, follows, "abc"))
    ends = joint("j1", "a", "b") + joint("f", "b", "c", "fixed") + joint("g", "b", "d", "fixed")
    with pytest.raises(ArmError, match=r"several frames \(c, d\); name the flange"):
        load_arm(written(tmp_path, ends, "abcd"))
    with pytest.raises(ArmError, match="it has 2 roots"):
        load_arm(written(tmp_path, joint("j1", "a", "b"), "abc"))


def test_hashes_tell_arms_apart():
    assert load_arm("ur10e").hash == load_arm("ur10e").hash
    assert len({load_arm("ur10e").hash, load_arm("panda_arm").hash, load_arm("ur10e", flange="wrist_2_link").hash}) == 3
