"""Formats of other projects: what is written comes back, and is what others expect to find."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from foreign_grasps import OBJECT_CENTER, OBJECT_SIZE, link_poses, phases, random_grasps

import warpgrasp
from warpgrasp import formats, rotation
from warpgrasp.cli import main
from warpgrasp.formats import conventions, pickled
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps

PATHS = {
    "parquet": "out",
    "dexgraspbench": "out",
    "dexgraspnet": "out",
    "unidexgrasp": "out",
    "multidex": "out",
    "isaac_grasp": "out.yaml",
    "graspgen": "out.json",
    "usd": "out.usdc",
    "hdf5": "out.h5",
}
ALL = [(name, hand) for name in PATHS for hand in ("shadow", "allegro", "panda")]
PAIRS = [(name, hand) for name, hand in ALL if hand == "shadow" or name not in ("dexgraspnet", "unidexgrasp")]
PAIRS += [("dexgraspnet", "allegro"), ("dexgraspbench", "leap"), ("multidex", "shadow_wrist"), ("usd", "barrett")]
FLOAT32 = ("parquet", "multidex")
WITHOUT_METRICS = ("unidexgrasp", "multidex", "isaac_grasp", "graspgen")


def exported(tmp_path: Path, name: str, grasps: Grasps) -> Path:
    return warpgrasp.export(grasps, tmp_path / PATHS[name], format=name)


def run_numpy(code: str, *arguments: object) -> str:
    """What other projects' scripts see: NumPy with pickles allowed, and no warpgrasp."""
    script = f"import json, os, sys\nimport numpy as np\n{code}\nassert 'warpgrasp' not in sys.modules"
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "hand"), PAIRS)
def test_grasps_come_back(tmp_path, name, hand):
    grasps = random_grasps(hand)
    path = exported(tmp_path, name, grasps)
    again = formats.read(path, format=name)
    assert again.joint_names == grasps.joint_names
    assert again.hand_source == hand and again.hand_hash == grasps.hand_hash
    for phase, pose in phases(grasps).items():
        back = phases(again)[phase]
        np.testing.assert_allclose(back.wrist_position, pose.wrist_position, atol=1e-6)
        turn = rotation.matrix_from_quaternion(back.wrist_quaternion)
        np.testing.assert_allclose(turn, rotation.matrix_from_quaternion(pose.wrist_quaternion), atol=1e-6)
        np.testing.assert_allclose(back.joint_position, pose.joint_position, atol=1e-6)
        np.testing.assert_allclose(link_poses(again, back), link_poses(grasps, pose), atol=1e-5)
        if name not in FLOAT32:
            np.testing.assert_allclose(back.joint_position, pose.joint_position, atol=1e-14)
    assert again.valid.tolist() == [True, False, True, True]
    assert again.reason.tolist() == ["", "too deep", "", ""]
    if name not in WITHOUT_METRICS:
        for key, values in grasps.metrics.items():
            np.testing.assert_allclose(again.metrics[key], values, rtol=1e-6)
    np.testing.assert_allclose(again.object.bounds, grasps.object.bounds, atol=1e-7)
    assert len(again[again.valid]) == 3


def test_reading_finds_the_format_by_the_suffix(tmp_path):
    grasps = random_grasps("allegro", 2)
    for name in ("isaac_grasp", "graspgen", "usd", "hdf5"):
        path = warpgrasp.export(grasps, tmp_path / f"own{Path(PATHS[name]).suffix}")
        assert len(formats.read(path)) == 2


def test_an_object_moved_with_its_grasps_is_found(tmp_path):
    path = exported(tmp_path, "dexgraspbench", random_grasps("allegro"))
    moved = path.rename(tmp_path / "elsewhere")
    again = formats.read(moved, format="dexgraspbench")
    np.testing.assert_allclose(again.object.extents, OBJECT_SIZE, atol=1e-7)


def test_without_its_mesh_poses_are_read(tmp_path):
    grasps = random_grasps("shadow")
    path = exported(tmp_path, "dexgraspnet", grasps)
    alone = (path / "dataset" / "a-box.npy").rename(tmp_path / "a-box.npy")
    again = formats.read(alone, format="dexgraspnet")
    assert len(again.object_faces) == 0
    with_mesh = formats.read(alone, format="dexgraspnet", mesh=grasps.object)
    np.testing.assert_array_equal(with_mesh.object_vertices, grasps.object_vertices)


@pytest.mark.parametrize("name", PATHS)
def test_grasps_without_a_mesh(tmp_path, name):
    grasps = random_grasps("shadow")
    grasps.object_vertices, grasps.object_faces = np.zeros((0, 3)), np.zeros((0, 3), int)
    if name in ("dexgraspbench", "dexgraspnet", "unidexgrasp"):
        with pytest.raises(warpgrasp.OptionError, match="needs the object, and these grasps have no mesh"):
            exported(tmp_path, name, grasps)
        assert list(tmp_path.iterdir()) == []
        return
    again = formats.read(exported(tmp_path, name, grasps), format=name)
    np.testing.assert_allclose(link_poses(again, again.pose), link_poses(grasps, grasps.pose), atol=1e-5)
    assert len(again.object_faces) == 0


@pytest.mark.parametrize("name", PATHS)
def test_a_grasp_without_a_pose_is_left_out_where_it_would_spoil_the_file(tmp_path, name):
    grasps = random_grasps("shadow")
    grasps.joint_position[1, 3] = np.nan
    again = formats.read(exported(tmp_path, name, grasps), format=name)
    whole = name in ("parquet", "hdf5")
    assert len(again) == (4 if whole else 3)
    kept = grasps.wrist_position if whole else grasps.wrist_position[[0, 2, 3]]
    np.testing.assert_allclose(again.wrist_position, kept, atol=1e-6)


# DexGraspBench and BODex


def mujoco_joints(path: Path, base: str, joints: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where each joint is, (N, 3), and how its child has turned since zero, in the frame of the body ``base``.

    Frames of links differ from file to file; where joints are and how links turn does not.
    """
    mujoco: Any = import_module("mujoco")
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    count = len(next(iter(joints.values())))
    anchors, turns = np.zeros((count + 1, model.njnt, 3)), np.zeros((count + 1, model.njnt, 3, 3))
    for i in range(count + 1):
        data.qpos[:] = 0.0
        for joint, values in joints.items():
            data.qpos[model.joint(joint).qposadr[0]] = values[i] if i < count else 0.0
        mujoco.mj_forward(model, data)
        root = body_pose(data, base)
        anchors[i] = (data.xanchor - root[:3, 3]) @ root[:3, :3]
        turns[i] = root[:3, :3].T @ data.xmat[model.jnt_bodyid].reshape(-1, 3, 3)
    turns = turns[:-1] @ np.swapaxes(turns[-1:], -1, -2)
    return {model.joint(j).name: (anchors[:-1, j], turns[:, j]) for j in range(model.njnt)}


def body_pose(data, body: str) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = data.body(body).xmat.reshape(3, 3), data.body(body).xpos
    return pose


@pytest.mark.parametrize(
    ("hand", "file", "palm"),
    [
        ("shadow", "shadow_mjcf/right_hand.xml", "rh_palm"),
        ("allegro", "allegro_mjcf/right_hand.xml", "palm"),
        ("leap", "leap_mjcf/leap_rh_mjx.xml", "palm"),
    ],
)
def test_dexgraspbench_puts_every_link_where_its_own_hand_has_it(tmp_path, shared, hand, file, palm):
    mujoco: Any = import_module("mujoco")
    grasps = random_grasps(hand)
    folder = exported(tmp_path, "dexgraspbench", grasps) / "graspdata" / "a-box" / "scale100_pose000"
    xml = shared / "hands" / file
    model = mujoco.MjModel.from_xml_path(str(xml))
    order = [model.joint(j).name for j in range(model.njnt) if "WRJ" not in model.joint(j).name]
    # Where the file puts its palm. LEAP's is on a mount here; where DexGraspBench has it is known.
    on_mount = rotation.matrix(np.array([0, 0, 0.1]), np.array([0.0, 1.0, 0.0, 0.0]))
    offset = on_mount if hand == "leap" else rotation.matrix(model.body(palm).pos, model.body(palm).quat)
    for phase, pose in phases(grasps).items():
        qpos = np.stack([np.load(folder / f"{i}.npy", allow_pickle=True).item()[f"{phase}_qpos"] for i in range(4)])
        found = mujoco_joints(xml, palm, dict(zip(order, qpos[:, 7:].T, strict=True)))
        root = rotation.matrix(qpos[:, :3], qpos[:, 3:7]) @ offset
        ours, at_zero = link_poses(grasps, pose), link_poses(grasps, straight(pose))
        for joint, theirs in enumerate(order):
            anchor, turn = found[theirs]
            placed = (root[:, :3, :3] @ anchor[..., None])[..., 0] + root[:, :3, 3]
            np.testing.assert_allclose(placed, ours[:, joint + 1, :3, 3], atol=1e-5, err_msg=theirs)
            turned = root[:, :3, :3] @ turn @ np.swapaxes(root[:, :3, :3], 1, 2)
            wanted = ours[:, joint + 1, :3, :3] @ np.swapaxes(at_zero[:, joint + 1, :3, :3], 1, 2)
            np.testing.assert_allclose(turned, wanted, atol=1e-4, err_msg=theirs)


def straight(pose: Pose) -> Pose:
    return Pose(pose.wrist_position, pose.wrist_quaternion, np.zeros_like(pose.joint_position))


def test_dexgraspbench_files_are_what_its_evaluator_opens(tmp_path):
    grasps = random_grasps("shadow")
    path = exported(tmp_path, "dexgraspbench", grasps)
    code = """
    from glob import glob
    files = sorted(glob(os.path.join(sys.argv[1], "graspdata", "**", "**", "**.npy")))
    assert len(files) == 4, files
    for file in files:
        assert b"numpy._core" not in open(file, "rb").read()  # which NumPy 1 does not have
        data = np.load(file, allow_pickle=True).item()
        for phase in ("pregrasp", "grasp", "squeeze"):
            assert data[phase + "_qpos"].shape == (29,) and data[phase + "_qpos"].dtype == np.float64
        assert data["obj_pose"].tolist() == [0, 0, 0, 1, 0, 0, 0] and data["obj_scale"] == 1.0
        info = json.load(open(os.path.join(data["obj_path"], "info/simplified.json")))
        assert {"mass", "density", "scale", "gravity_center", "obb"} <= set(info)
        assert glob(os.path.join(data["obj_path"], "urdf/meshes", "*.obj"))
        assert os.path.isfile(os.path.join(data["obj_path"], "mesh/simplified.obj"))
    print(data["obj_path"])
    """
    folder = Path(run_numpy("\n".join(line[4:] for line in code.splitlines()), path).strip())
    facts = json.loads((folder / "info" / "simplified.json").read_text())
    np.testing.assert_allclose(facts["gravity_center"], OBJECT_CENTER, atol=1e-9)
    np.testing.assert_allclose(sorted(facts["obb"]), sorted(OBJECT_SIZE), atol=1e-6)


def test_dexgraspbench_object_gets_the_mass_that_it_asks_for(tmp_path):
    mujoco: Any = import_module("mujoco")
    grasps = random_grasps("allegro", 2)
    ring = trimesh.creation.annulus(r_min=0.02, r_max=0.03, height=0.05)
    thing = warpgrasp.load_object(ring, name="ring")
    grasps.object_vertices, grasps.object_faces, grasps.object_name = thing.vertices, thing.faces, "ring"
    grasps.object = thing
    folder = exported(tmp_path, "dexgraspbench", grasps) / "object" / "ring"
    facts = json.loads((folder / "info" / "simplified.json").read_text())
    # as DexGraspBench does: a scale of its own choice, the mass set by the density
    scale, wanted = 1.3, 0.1
    density = wanted / (facts["mass"] / (facts["density"] * facts["scale"] ** 3) * scale**3)
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name="object")
    pieces = sorted((folder / "urdf" / "meshes").glob("*.obj"))
    assert len(pieces) > 1
    for piece in pieces:
        spec.add_mesh(name=piece.stem, file=str(piece), scale=[scale] * 3)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=piece.stem, density=density)
    assert spec.compile().body("object").mass[0] == pytest.approx(wanted, rel=1e-3)
    names = [piece.name for piece in pieces]
    assert [name for name in names if name not in (folder / "urdf" / "coacd.urdf").read_text()] == []
    inside = trimesh.load_mesh(folder / "mesh" / "simplified.obj")
    assert inside.volume == pytest.approx(thing.volume, rel=1e-6)


def bodex_file(path: Path, grasps: Grasps) -> dict:
    """What BODex writes, made here from facts: (1, N, 3, 7 + 22), palm root, thumb first."""
    thumb = [grasps.joint_names.index(f"THJ{k}") for k in (5, 4, 3, 2, 1)]
    others = [j for j, name in enumerate(grasps.joint_names) if not name.startswith("TH")]
    poses = [
        np.concatenate([pose.wrist_position, pose.wrist_quaternion, pose.joint_position[:, thumb + others]], axis=1)
        for pose in phases(grasps).values()
    ]
    content = {
        "robot_pose": np.stack(poses, axis=1)[None].astype(np.float32),
        "obj_pose": np.array([[0.0, 0, 0, 1, 0, 0, 0]], np.float32),
        "obj_scale": np.array([0.08], np.float32),
    }
    np.save(path, np.array(content, object), allow_pickle=True)
    return content


def test_bodex_thumb_comes_first_and_the_palm_is_0034_further(tmp_path):
    grasps = random_grasps("shadow")
    assert grasps.joint_names[0] == "FFJ4" and grasps.joint_names[-1] == "THJ1"
    content = bodex_file(tmp_path / "raw_grasp.npy", grasps)
    again = formats.read(tmp_path / "raw_grasp.npy", format="dexgraspbench", hand="shadow")
    for phase, pose in phases(grasps).items():
        np.testing.assert_allclose(link_poses(again, phases(again)[phase]), link_poses(grasps, pose), atol=1e-5)
    # BODex's numbers after DexGraspBench's own conversion are the numbers that we write
    folder = exported(tmp_path, "dexgraspbench", grasps) / "graspdata" / "a-box" / "scale100_pose000"
    pose = content["robot_pose"][0]
    pose = np.concatenate([pose[..., :7], pose[..., 12:], pose[..., 7:12]], axis=-1)
    back = rotation.matrix_from_quaternion(pose[..., 3:7]) @ np.array([0.0, 0.0, 0.034])
    pose[..., :3] -= back.astype(np.float32)
    for i in range(len(grasps)):
        record = np.load(folder / f"{i}.npy", allow_pickle=True).item()
        ours = np.stack([record[f"{phase}_qpos"] for phase in ("pregrasp", "grasp", "squeeze")])
        sign = np.sign((ours[:, 3:7] * pose[i, :, 3:7]).sum(axis=1, keepdims=True))
        ours[:, 3:7] *= sign
        np.testing.assert_allclose(ours, pose[i], atol=2e-6)


def test_joints_in_another_order_go_by_their_names(tmp_path):
    grasps = random_grasps("shadow", 1)
    file = next((exported(tmp_path, "dexgraspbench", grasps) / "graspdata").rglob("*.npy"))
    record = np.load(file, allow_pickle=True).item()
    record["joint_names"] = record["joint_names"][::-1]
    for phase in ("pregrasp", "grasp", "squeeze"):
        record[f"{phase}_qpos"][7:] = record[f"{phase}_qpos"][:6:-1].copy()
    pickled.write_object(file, record)
    again = formats.read(file, format="dexgraspbench")
    np.testing.assert_allclose(again.joint_position, grasps.joint_position, atol=1e-12)


def test_an_older_file_with_the_root_apart_and_a_moved_object(tmp_path):
    grasps = random_grasps("leap", 1)
    way = conventions.find("dexgraspbench", "leap", grasps.joint_names)
    where = (np.array([0.3, -0.1, 0.2]), np.array([0.5, 0.5, -0.5, 0.5]))
    record: dict = {"obj_path": "assets/thing", "obj_scale": 0.1, "obj_pose": np.concatenate(where)}
    for phase, pose in phases(grasps).items():
        position, quaternion, joints = way.export_pose(grasps.joint_names, pose)
        world = rotation.matrix(*where) @ rotation.matrix(position, quaternion)
        record[f"{phase}_pose"] = np.r_[world[0, :3, 3], rotation.quaternion_from_matrix(world[0, :3, :3])]
        record[f"{phase}_qpos"] = joints[0]
    np.save(tmp_path / "0.npy", np.array(record, object), allow_pickle=True)
    again = formats.read(tmp_path / "0.npy", format="dexgraspbench", hand="leap")
    assert again.object_name == "thing"
    for phase, pose in phases(grasps).items():
        np.testing.assert_allclose(link_poses(again, phases(again)[phase]), link_poses(grasps, pose), atol=1e-9)


# DexGraspNet and UniDexGrasp


def gym_name(ours: str) -> str:
    return f"robot0:{ours[:-1]}{int(ours[-1]) - 1}"


def euler_matrix(x: float, y: float, z: float) -> np.ndarray:
    """Turns about the fixed axes x, then y, then z."""
    axes = np.eye(3)
    one = [rotation.matrix_from_axis_angle(axis, np.array(angle)) for axis, angle in zip(axes, (x, y, z), strict=True)]
    return one[2] @ one[1] @ one[0]


@pytest.mark.parametrize("name", ["dexgraspnet", "unidexgrasp"])
def test_the_gym_hand_ends_up_where_ours_is(tmp_path, shared, name):
    grasps = random_grasps("shadow")
    path = exported(tmp_path, name, grasps)
    if name == "dexgraspnet":
        rows = [record["qpos"] for record in np.load(path / "dataset" / "a-box.npy", allow_pickle=True)]
    else:
        files = sorted((path / "datasetv4.1" / "warpgrasp" / "a-box").glob("*.npz"))
        rows = [np.load(file, allow_pickle=True)["qpos"].item() for file in files]
    joints = {gym_name(j): np.array([row[gym_name(j)] for row in rows]) for j in grasps.joint_names}
    found = mujoco_joints(shared / "hands" / "shadow_gym_mjcf" / "hand" / "reach.xml", "robot0:palm", joints)
    root = np.stack([np.eye(4)] * len(rows))
    for i, row in enumerate(rows):
        root[i, :3, :3] = euler_matrix(row["WRJRx"], row["WRJRy"], row["WRJRz"])
        root[i, :3, 3] = row["WRJTx"], row["WRJTy"], row["WRJTz"]
    ours, at_zero = link_poses(grasps, grasps.pose), link_poses(grasps, straight(grasps.pose))
    for column, joint in enumerate(grasps.joint_names):
        anchor, turn = found[gym_name(joint)]
        placed = (root[:, :3, :3] @ anchor[..., None])[..., 0] + root[:, :3, 3]
        # Their thumb begins 0.4 mm further and their little finger 1.8 mm; LFJ5 is drawn elsewhere on its axis.
        if joint != "LFJ5":
            near = 2.5e-3 if joint.startswith("LF") else 6e-4
            np.testing.assert_allclose(placed, ours[:, column + 1, :3, 3], atol=near, err_msg=joint)
        turned = root[:, :3, :3] @ turn @ np.swapaxes(root[:, :3, :3], 1, 2)
        wanted = ours[:, column + 1, :3, :3] @ np.swapaxes(at_zero[:, column + 1, :3, :3], 1, 2)
        np.testing.assert_allclose(turned, wanted, atol=1e-2, err_msg=joint)


def test_dexgraspnet_file_is_a_list_of_dictionaries(tmp_path):
    path = exported(tmp_path, "dexgraspnet", random_grasps("shadow"))
    code = """
data = np.load(sys.argv[1] + "/dataset/a-box.npy", allow_pickle=True)
assert data.shape == (4,) and data.dtype == object
row = data[0]["qpos"]
fingers = [(f, k) for f, n in (("FF", 4), ("MF", 4), ("RF", 4), ("LF", 5), ("TH", 5)) for k in range(n - 1, -1, -1)]
names = [f"robot0:{f}J{k}" for f, k in fingers] + [f"WRJ{k}{a}" for k in "RT" for a in "xyz"]
assert list(row) == names, list(row)
assert all(type(value) is float for value in row.values())
assert data[0]["scale"] in (0.06, 0.08, 0.1, 0.12, 0.15)
print(data[0]["scale"])
"""
    scale = float(run_numpy(code, path))
    mesh = trimesh.load_mesh(path / "meshdata" / "a-box" / "coacd" / "decomposed.obj")
    np.testing.assert_allclose(mesh.extents * scale, OBJECT_SIZE, atol=1e-9)
    # normalised to a radius of about 1, as theirs are
    assert 0.7 < np.linalg.norm(mesh.vertices, axis=1).max() < 1.4
    assert "coacd_convex_piece_0.obj" in (path / "meshdata" / "a-box" / "coacd" / "coacd.urdf").read_text()


def test_unidexgrasp_archive_has_the_order_scale_and_plane_that_it_asserts(tmp_path):
    grasps = random_grasps("shadow")
    path = exported(tmp_path, "unidexgrasp", grasps)
    code = """
file = np.load(sys.argv[1] + "/datasetv4.1/warpgrasp/a-box/00000.npz", allow_pickle=True)
qpos, scale, plane = file["qpos"].item(), file["scale"], file["plane"]
assert round(1 / scale.item(), 2) in (0.06, 0.08, 0.1, 0.12, 0.15) and scale.dtype == np.float32
values = list(qpos.values())
assert len(values) == 28 and [*qpos][22:] == ["WRJRx", "WRJRy", "WRJRz", "WRJTx", "WRJTy", "WRJTz"]
assert plane.shape == (4,) and plane.dtype == np.float32
print(json.dumps([values[25:28], plane.tolist(), scale.item()]))
"""
    translation, plane, scale = json.loads(run_numpy(code, path))
    np.testing.assert_allclose(translation, grasps.wrist_position[0], atol=1e-12)
    # every vertex is above the plane, and the lowest on it
    height = grasps.object_vertices @ plane[:3] + plane[3]
    assert height.min() == pytest.approx(0.0, abs=1e-6) and np.linalg.norm(plane[:3]) == pytest.approx(1.0)
    mesh = trimesh.load_mesh(path / "meshes" / "warpgrasp" / "a-box" / "decomposed.obj")
    np.testing.assert_allclose(mesh.extents / scale, OBJECT_SIZE, atol=1e-6)


def test_unidexgrasp_plane_is_the_table_of_the_grasps(tmp_path):
    from warpgrasp.resting import RestingPose

    grasps = random_grasps("shadow", 1)
    # on the side that is lowest after a quarter turn about x
    turn = np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])
    low = (rotation.matrix_from_quaternion(turn) @ grasps.object_vertices.T)[2].min()
    grasps.table = RestingPose(np.array([0.0, 0.0, -low]), turn, 1.0)
    file = next(exported(tmp_path, "unidexgrasp", grasps).rglob("00000.npz"))
    plane = np.load(file, allow_pickle=True)["plane"]
    height = grasps.object_vertices @ plane[:3] + plane[3]
    assert height.min() == pytest.approx(0.0, abs=1e-6) and height.max() == pytest.approx(OBJECT_SIZE[1], abs=1e-6)


def test_a_wrist_at_right_angles_survives_euler_angles(tmp_path):
    grasps = random_grasps("shadow", 2)
    half = np.sqrt(0.5)
    grasps.wrist_quaternion[:] = [[half, 0.0, half, 0.0], [0.5, 0.5, -0.5, 0.5]]
    again = formats.read(exported(tmp_path, "dexgraspnet", grasps), format="dexgraspnet")
    np.testing.assert_allclose(link_poses(again, again.pose), link_poses(grasps, grasps.pose), atol=1e-6)


def test_grasps_at_several_scales_need_a_choice(tmp_path):
    path = exported(tmp_path, "dexgraspnet", random_grasps("shadow")) / "dataset" / "a-box.npy"
    rows = list(np.load(path, allow_pickle=True))
    rows[2]["scale"] = 0.15
    pickled.write_object(path, rows)
    with pytest.raises(warpgrasp.FileFormatError, match=r"several scales; pass scale, one of 0\.\d+, 0\.15"):
        formats.read(path, format="dexgraspnet")
    chosen = formats.read(path, format="dexgraspnet", scale=0.15)
    assert len(chosen) == 1
    assert chosen.object.extents[0] / OBJECT_SIZE[0] == pytest.approx(0.15 / rows[0]["scale"])


# MultiDex


def test_multidex_numbers_put_the_urdf_where_ours_is(tmp_path, shared):
    import torch
    import yourdfpy

    grasps = random_grasps("shadow")
    path = exported(tmp_path, "multidex", grasps)
    content = torch.load(path / "shadowhand" / "shadowhand.pt", weights_only=True)
    rows, objects, robots = zip(*content["metadata"], strict=True)
    assert set(objects) == {"warpgrasp+a-box"} and set(robots) == {"shadowhand"}
    assert (path / "object" / "warpgrasp" / "a-box" / "a-box.stl").is_file()
    q = torch.stack(rows).numpy().astype(float)
    assert q.shape == (4, 33)
    robot = yourdfpy.URDF.load(str(shared / "hands" / "shadow_urdf" / "shadow_hand_right.urdf"), load_meshes=False)
    fingers = [(f, k) for f, n in (("FF", 4), ("MF", 4), ("RF", 4), ("LF", 5), ("TH", 5)) for k in range(n, 0, -1)]
    order = ["WRJ2", "WRJ1", *(f"{f}J{k}" for f, k in fingers)]
    for i, row in enumerate(q):
        robot.update_cfg(dict(zip(order, row[9:], strict=True)))
        root = np.eye(4)
        x, y = row[3:6], row[6:9]
        root[:3, :3], root[:3, 3] = np.stack([x, y, np.cross(x, y)], axis=1), row[:3]
        for link, part in enumerate(grasps.hand.link_names):
            theirs = root @ robot.get_transform(part, "forearm")
            ours = link_poses(grasps, grasps.pose)[i, link]
            np.testing.assert_allclose(theirs[:3, 3], ours[:3, 3], atol=2e-4, err_msg=part)


def test_multidex_wrist_that_is_bent_moves_the_palm(tmp_path, shared):
    import torch
    import yourdfpy

    path = exported(tmp_path, "multidex", random_grasps("shadow")) / "shadowhand" / "shadowhand.pt"
    content = torch.load(path, weights_only=True)
    row = content["metadata"][0][0]
    row[9], row[10] = -0.4, 0.3
    torch.save({"metadata": [(row, "ycb+apple", "shadowhand")]}, tmp_path / "bent.pt")
    again = formats.read(tmp_path / "bent.pt", format="multidex")
    assert again.hand_source == "shadow" and again.object_name == "apple"
    assert again.info["phases_equal_to_the_grasp"] == ["pregrasp", "squeeze"]
    robot = yourdfpy.URDF.load(str(shared / "hands" / "shadow_urdf" / "shadow_hand_right.urdf"), load_meshes=False)
    robot.update_cfg({"WRJ2": -0.4, "WRJ1": 0.3})
    x, y = row[3:6].numpy(), row[6:9].numpy()
    root = np.eye(4)
    root[:3, :3], root[:3, 3] = np.stack([x, y, np.cross(x, y)], axis=1), row[:3]
    palm = root @ robot.get_transform("palm", "forearm")
    ours = rotation.matrix(again.wrist_position, again.wrist_quaternion)[0]
    np.testing.assert_allclose(ours, palm, atol=2e-5)


# isaac_grasp and GraspGen


def test_isaac_grasp_has_both_spellings_and_named_joints(tmp_path):
    import yaml

    grasps = random_grasps("allegro")
    document = yaml.safe_load(exported(tmp_path, "isaac_grasp", grasps).read_text())
    assert document["format"] == "isaac_grasp" and document["format_version"] == 1.0
    assert document["object_frame"] == document["object_frame_link"] == "a box"
    assert document["gripper_frame"] == document["gripper_frame_link"] == "base_link"
    assert list(document["grasps"]) == ["grasp_0", "grasp_1", "grasp_2", "grasp_3"]
    row = document["grasps"]["grasp_2"]
    assert row["cspace_position"] == dict(zip(grasps.joint_names, grasps.joint_position[2].tolist(), strict=True))
    before = dict(zip(grasps.joint_names, grasps.pregrasp.joint_position[2].tolist(), strict=True))
    assert row["pregrasp_cspace_position"] == before
    assert [row["orientation"]["w"], *row["orientation"]["xyz"]] == grasps.wrist_quaternion[2].tolist()
    assert [one["confidence"] for one in document["grasps"].values()] == [1.0, 0.0, 1.0, 1.0]
    mesh = trimesh.load_mesh(tmp_path / document["object_file"])
    np.testing.assert_allclose(mesh.extents, OBJECT_SIZE, atol=1e-9)


@pytest.mark.parametrize("ending", ["", "_link"])
def test_isaac_grasp_of_another_program(tmp_path, ending):
    text = f"""
format: isaac_grasp
format_version: {'"1.0"' if ending else "1.0"}
object_frame{ending}: /World/mug
gripper_frame{ending}: /World/panda_hand
grasps:
  "first":
    confidence: 0.75
    position: [-0.1, 0.02, 0.2]
    orientation: {{w: 0.0, xyz: [1.0, 0.0, 0.0]}}
    cspace_position: {{finger_joint1: 0.01}}
    pregrasp_cspace_position: {{finger_joint1: 0.04}}
"""
    (tmp_path / "mug.yaml").write_text(text)
    grasps = formats.read(tmp_path / "mug.yaml", hand="panda")
    assert grasps.object_name == "mug" and grasps.valid.tolist() == [True]
    assert grasps.metrics["confidence"].tolist() == [0.75]
    # the second finger mimics the first, and its file leaves it out
    np.testing.assert_allclose(grasps.joint_position, [[0.01, 0.01]])
    np.testing.assert_allclose(grasps.pregrasp.joint_position, [[0.04, 0.04]])
    np.testing.assert_allclose(grasps.pregrasp.wrist_position, grasps.wrist_position)
    assert grasps.info["phases_equal_to_the_grasp"] == ["squeeze"]


def test_graspgen_gripper_approaches_along_z_and_closes_along_x(tmp_path):
    grasps = random_grasps("panda")
    document = json.loads(exported(tmp_path, "graspgen", grasps).read_text())
    assert document["object"] == {"file": "out.obj", "scale": 1.0}
    assert document["grasps"]["object_in_gripper"] == [True, False, True, True]
    transforms = np.array(document["grasps"]["transforms"])
    assert transforms.shape == (4, 4, 4)
    links = link_poses(grasps, grasps.pose)
    across = links[:, 2, :3, 3] - links[:, 1, :3, 3]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs((across * transforms[:, :3, 0]).sum(axis=1)), 1.0, atol=1e-9)
    np.testing.assert_allclose(transforms[:, :3, 2], links[:, 0, :3, 2], atol=1e-12)
    np.testing.assert_allclose(transforms[:, :3, 3], grasps.wrist_position, atol=1e-12)


def test_graspgen_of_another_program_has_the_open_hand(tmp_path):
    turn = np.eye(4)
    turn[:3, 3] = 0.0, 0.0, 0.1
    document = {
        "object": {"file": "thing.obj", "scale": 0.5},
        "grasps": {"transforms": [turn.tolist()] * 2, "object_in_gripper": [True, False]},
    }
    (tmp_path / "theirs.json").write_text(json.dumps(document))
    trimesh.creation.box(extents=OBJECT_SIZE).export(tmp_path / "thing.obj")
    grasps = formats.read(tmp_path / "theirs.json", hand="panda")
    assert grasps.valid.tolist() == [True, False]
    np.testing.assert_allclose(grasps.joint_position, np.tile(grasps.hand.open_position, (2, 1)))
    assert "open hand" in grasps.info["joints"]
    np.testing.assert_allclose(grasps.object.extents, np.array(OBJECT_SIZE) / 2.0)


def test_graspgen_believes_physics_before_geometry(tmp_path):
    grasps = random_grasps("panda")
    grasps.metrics["success_fc6"] = np.array([0, 0, 1, 1])
    document = json.loads(exported(tmp_path, "graspgen", grasps).read_text())
    assert document["grasps"]["object_in_gripper"] == [False, False, True, True]


# USD and HDF5


def pxr(name: str) -> Any:
    """A module of USD; they have no types."""
    return import_module(f"pxr.{name}")


@pytest.mark.parametrize("suffix", [".usda", ".usdc"])
def test_usd_scene_shows_every_link_of_every_grasp(tmp_path, suffix):
    Usd, UsdGeom = pxr("Usd"), pxr("UsdGeom")
    grasps = random_grasps("barrett")
    path = warpgrasp.export(grasps, tmp_path / f"scene{suffix}")
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0 and UsdGeom.GetStageUpAxis(stage) == "Z"
    assert stage.GetDefaultPrim().GetPath() == "/World"
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 11)
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/World/object"))
    np.testing.assert_allclose(np.array(mesh.GetPointsAttr().Get()), grasps.object_vertices, atol=1e-8)
    assert list(mesh.GetFaceVertexCountsAttr().Get()) == [3] * len(grasps.object_faces)
    for step, (phase, pose) in enumerate(phases(grasps).items()):
        links = link_poses(grasps, pose)
        for i in range(4):
            for link, name in enumerate(grasps.hand.link_names):
                prim = UsdGeom.Xformable(stage.GetPrimAtPath(f"/World/hand/{name}"))
                matrix = np.array(prim.ComputeLocalToWorldTransform(3 * i + step)).T
                np.testing.assert_allclose(matrix, links[i, link], atol=1e-9, err_msg=f"{phase} {i} {name}")
    surface = UsdGeom.Mesh(stage.GetPrimAtPath(f"/World/hand/{grasps.hand.link_names[0]}/surface"))
    assert len(surface.GetPointsAttr().Get()) == len(grasps.hand.link_surface(0).vertices)


def test_usd_plays_some_grasps_and_keeps_all(tmp_path, monkeypatch):
    from warpgrasp.formats import usd

    monkeypatch.setattr(usd, "SHOWN", 2)
    path = warpgrasp.export(random_grasps("panda", 5), tmp_path / "scene.usdc")
    assert pxr("Usd").Stage.Open(str(path)).GetEndTimeCode() == 5
    assert len(formats.read(path)) == 5


def test_hdf5_read_by_itself(tmp_path):
    h5py: Any = import_module("h5py")
    grasps = random_grasps("shadow")
    with h5py.File(exported(tmp_path, "hdf5", grasps)) as file:
        assert file.attrs["quaternion_order"] == b"w x y z" and file.attrs["units"] == b"m, rad"
        assert [name.decode() for name in file["joint_names"]] == list(grasps.joint_names)
        for prefix, pose in (("", grasps.pose), ("pregrasp_", grasps.pregrasp), ("squeeze_", grasps.squeeze)):
            np.testing.assert_array_equal(file[f"{prefix}joint_position"], pose.joint_position)
            np.testing.assert_array_equal(file[f"{prefix}wrist_quaternion"], pose.wrist_quaternion)
        np.testing.assert_array_equal(file["metric_depth_m"], grasps.metrics["depth_m"])
        np.testing.assert_array_equal(file["object_faces"], grasps.object_faces)


def test_hdf5_keeps_all_that_a_file_of_grasps_keeps(tmp_path):
    grasps = random_grasps("allegro")
    grasps.lift = grasps.squeeze[::-1]
    grasps.info["note"] = "größer"
    grasps.metrics["word"] = np.array(["a", "", "ä", "b"])
    again = formats.read(exported(tmp_path, "hdf5", grasps))
    grasps.save(tmp_path / "own.npz")
    again.save(tmp_path / "again.npz")
    with np.load(tmp_path / "own.npz") as own, np.load(tmp_path / "again.npz") as back:
        assert set(own.files) == set(back.files)
        for name in own.files:
            np.testing.assert_array_equal(back[name], own[name], err_msg=name)


# Parquet


def test_exports_into_one_folder_add_up(tmp_path):
    from warpgrasp import dataset

    path = tmp_path / "out"
    for hand in ("shadow", "allegro", "shadow"):
        warpgrasp.export(random_grasps(hand), path, format="parquet")
    assert dataset.open_store(path).hands() == ["allegro", "shadow"]
    assert sum(len(grasps) for grasps in dataset.open_store(path).grasps()) == 8
    assert len(formats.read(path, format="parquet", hand="shadow")) == 4
    with pytest.raises(warpgrasp.FileFormatError, match="2 shards to choose from"):
        formats.read(path, format="parquet")


# every hand, and the commands


@pytest.mark.parametrize("name", [name for name in PATHS if name not in ("dexgraspnet", "unidexgrasp")])
def test_a_hand_of_ones_own_keeps_its_names(tmp_path, name):
    source = Path(warpgrasp.load_hand("panda").path)
    own = tmp_path / "my_gripper.urdf"
    own.write_text(source.read_text())
    (tmp_path / "my_gripper.yaml").write_text(source.with_suffix(".yaml").read_text())
    hand = warpgrasp.load_hand(own)
    grasps = random_grasps("panda")
    grasps.hand_source, grasps.hand_hash, grasps.hand = str(own), hand.hash, hand
    again = formats.read(exported(tmp_path, name, grasps), format=name)
    assert again.hand_source == str(own)
    np.testing.assert_allclose(link_poses(again, again.pose), link_poses(grasps, grasps.pose), atol=1e-5)


def test_every_row_of_the_table_names_joints_of_our_hand():
    for table in ("dexgraspbench", "bodex", "dexgraspnet", "unidexgrasp", "multidex", "graspgen"):
        for hand in conventions.hands_of(table):
            names = set(warpgrasp.load_hand(hand).joint_names)
            one = conventions.find(table, hand, ())
            ours = [ours for _, ours, _ in one.joints]
            assert len(set(ours)) == len(ours)
            extra = {step.joint for step in one.steps if step.joint}
            assert set(ours) - extra == names, (table, hand)
            for step in one.steps:
                np.testing.assert_allclose(step.matrix[:3, :3] @ step.matrix[:3, :3].T, np.eye(3), atol=1e-12)


def test_export_and_import_commands(tmp_path, capsys):
    grasps = random_grasps("shadow")
    grasps.save(tmp_path / "own.npz")
    out = str(tmp_path / "bench")
    assert main(["export", str(tmp_path / "own.npz"), "--format", "dexgraspbench", "--out", out, "--valid-only"]) == 0
    printed = capsys.readouterr().out
    assert "wrote 3 grasps of a box by shadow" in printed and "lost: info, lift, table and arm" in printed
    again = str(tmp_path / "again.npz")
    assert main(["import", out, "--format", "dexgraspbench", "--out", again]) == 0
    assert "read 3 grasps of a box by shadow, 3 valid" in capsys.readouterr().out
    back = warpgrasp.load_grasps(again)
    np.testing.assert_allclose(link_poses(back, back.pose), link_poses(grasps, grasps.pose)[grasps.valid], atol=1e-9)
    assert main(["export", again, "--out", str(tmp_path / "again.yaml"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "again.yaml").is_file()


def test_pose_without_steps_is_not_touched():
    way = conventions.identity("own", ("a", "b"))
    pose = Pose(np.ones((1, 3)), np.array([[-0.6, 0.8, 0.0, 0.0]]), np.array([[1.0, 2.0]]))
    position, quaternion, joints = way.export_pose(("b", "a"), pose)
    np.testing.assert_array_equal(joints, [[2.0, 1.0]])
    np.testing.assert_array_equal(quaternion, pose.wrist_quaternion)
    np.testing.assert_array_equal(position, pose.wrist_position)


def test_the_page_on_formats_is_true(tmp_path, monkeypatch, capsys):
    """Every Python example of FORMATS.md runs, in order, and the tables name every format and every hand."""
    page = (Path(__file__).parents[1] / "FORMATS.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {"grasps": random_grasps("shadow")}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 10
    for block in blocks:
        exec(compile(block, "FORMATS.md", "exec"), names)
        if "again" in names:
            np.testing.assert_allclose(names["again"].wrist_position, names["grasps"].wrist_position, atol=1e-6)
    printed = capsys.readouterr().out
    assert "(29,)" in printed and "torch.Size([33]) warpgrasp+a-box shadowhand" in printed
    for name in formats.NAMES:
        row = next(line for line in page.splitlines() if line.startswith(f"| [`{name}`]"))
        for word in re.findall(r"digits|metrics|info|lift|table|arm", formats.find(name).LOSES):
            assert word in row.split("|")[-2], (name, word)
