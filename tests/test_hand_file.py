"""load_hand: real models against independent kinematics, odd files, and messages that teach."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_kinematics as pk
import torch
import trimesh
import yourdfpy
from trimesh.exchange.dae import export_collada

import warpgrasp.hands
from warpgrasp.errors import FileFormatError, HandError, HandNotFoundError, OptionError, WarpgraspError
from warpgrasp.hand import Hand
from warpgrasp.hand_file import load_hand

# Its compiled half carries no types.
mujoco: Any = import_module("mujoco")

MODELS = Path(__file__).parents[2] / "shared" / "hands"
MANIFEST = json.loads((MODELS / "manifest.json").read_text()) if MODELS.is_dir() else []
no_models = pytest.mark.skipif(not MANIFEST, reason="the folder with public hand models is not here")


def models(kind: str) -> list:
    return [pytest.param(MODELS / m["file"], id=m["name"]) for m in MANIFEST if m["format"] == kind] or [None]


def random_joints(hand: Hand, count: int = 100) -> np.ndarray:
    rng = np.random.default_rng(1)
    return hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper, (count, hand.free_count)))


# --- Agreement with other tools -------------------------------------------------------------------------------------


@no_models
@pytest.mark.parametrize("path", models("urdf"))
def test_urdf_agrees_with_yourdfpy(path):
    assert_agrees_with_yourdfpy(load_hand(path), path)


@pytest.mark.parametrize("name", warpgrasp.hands.names())
def test_bundled_hand_agrees_with_yourdfpy(name):
    hand = load_hand(name)
    assert hand.name == name
    assert_agrees_with_yourdfpy(hand, hand.path, mimics_too=False)


def assert_agrees_with_yourdfpy(hand: Hand, path: Path, mimics_too: bool = True) -> None:
    # lxml stops at the undeclared prefix of one model, which plays no part in kinematics.
    text = path.read_text().replace("drake:", "")
    if not mimics_too:
        text = re.sub("<mimic .*?/>", "", text)
    model = yourdfpy.URDF.load(io.BytesIO(text.encode()), load_meshes=False)
    q = random_joints(hand, 20)
    poses = hand.frame_transforms(q)
    for i in range(len(q)):
        model.update_cfg({name: q[i, hand.joint_names.index(name)] for name in model.actuated_joint_names})
        for name, pose in poses.items():
            np.testing.assert_allclose(pose[i], model.get_transform(name), atol=1e-9)


@no_models
@pytest.mark.parametrize("path", models("urdf"))
def test_urdf_agrees_with_pytorch_kinematics(path):
    hand = load_hand(path)
    chain = pk.build_chain_from_urdf(path.read_text().replace("drake:", "").encode()).to(dtype=torch.float64)
    q = random_joints(hand)
    theirs = chain.forward_kinematics(
        {name: torch.tensor(q[:, hand.joint_names.index(name)]) for name in chain.get_joint_parameter_names()}
    )
    ours = hand.frame_transforms(q)
    assert set(ours) <= set(theirs)
    for name, pose in ours.items():
        np.testing.assert_allclose(pose, np.broadcast_to(theirs[name].get_matrix().numpy(), pose.shape), atol=1e-5)


@no_models
@pytest.mark.parametrize("path", models("mjcf"))
def test_mjcf_agrees_with_mujoco(path):
    assert_agrees_with_mujoco(load_hand(path), path)


def assert_agrees_with_mujoco(hand: Hand, path: Path) -> None:
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    address = [model.joint(name).qposadr[0] for name in hand.joint_names]
    q = random_joints(hand)
    poses = hand.frame_transforms(q)
    bodies = [name for name in poses if " pivot " not in name and not name.endswith(" base")]
    base = np.eye(4)
    for i in range(len(q)):
        data.qpos[address] = q[i]
        mujoco.mj_kinematics(model, data)
        base = body_pose(data, bodies[0]) @ np.linalg.inv(poses[bodies[0]][i]) if i == 0 else base
        for name in bodies:
            np.testing.assert_allclose(base @ poses[name][i], body_pose(data, name), atol=1e-9)


def body_pose(data, name: str) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = data.body(name).xmat.reshape(3, 3), data.body(name).xpos
    return pose


@no_models
@pytest.mark.filterwarnings("ignore:.*DEPRECATED FOR REMOVAL:DeprecationWarning")
@pytest.mark.parametrize("path", models("urdf"))
def test_urdf_surfaces_agree_with_yourdfpy(path):
    """Positions, scales and formats of the collision meshes: the bounds of each link at joint zero."""
    hand = load_hand(path)
    if "drake:" in path.read_text() or "package://" in path.read_text():
        pytest.skip("yourdfpy cannot load this model's meshes")
    model = yourdfpy.URDF.load(
        str(path), load_collision_meshes=True, build_collision_scene_graph=True, load_meshes=False
    )
    zero = hand.link_transforms(np.zeros(hand.joint_count))
    model.update_cfg(np.zeros(len(model.actuated_joint_names)))
    ours = np.concatenate(
        [
            trimesh.transform_points(hand.link_surface(i).vertices, zero[i])
            for i in range(len(hand.links))
            if hand.links[i].shapes
        ]
    )
    theirs = model.collision_scene.bounds
    np.testing.assert_allclose([ours.min(axis=0), ours.max(axis=0)], theirs, atol=2e-4)


# --- Where hands are found ------------------------------------------------------------------------------------------


def test_a_hand_is_returned_as_it_is(tmp_path):
    hand = load_hand(write(tmp_path, FINGER))
    assert load_hand(hand) is hand


def test_a_folder_with_one_file_is_enough(tmp_path):
    write(tmp_path, FINGER)
    assert load_hand(tmp_path).name == "finger"
    write(tmp_path, FINGER, "other.urdf")
    with pytest.raises(FileFormatError, match=r"holds 2: other\.urdf, test\.urdf"):
        load_hand(tmp_path)


def test_a_misspelt_name_is_named():
    with pytest.raises(HandNotFoundError, match=r"no hand named 'alegro'\. Did you mean 'allegro'\?"):
        load_hand("alegro")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"nothing\.urdf: no such file"):
        load_hand(tmp_path / "nothing.urdf")


def test_unknown_options_are_refused(tmp_path):
    path = write(tmp_path, FINGER)
    with pytest.raises(OptionError, match="ranges must be 'robot' or 'model', got 'real'"):
        load_hand(path, ranges="real")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="geometry must be 'collision' or 'visual', got 'mesh'"):
        load_hand(path, geometry="mesh")  # type: ignore[arg-type]


def test_importing_load_hand_is_light():
    heavy = "{'mujoco', 'torch', 'trimesh', 'yourdfpy', 'matplotlib', 'scipy'}"
    code = f"import sys; from warpgrasp.hand_file import load_hand; print(sorted(set(sys.modules) & {heavy}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- Odd URDFs that work --------------------------------------------------------------------------------------------

BOX = '<collision><geometry><box size="0.02 0.02 0.04"/></geometry></collision>'
LIMIT = '<limit lower="0" upper="1" effort="1" velocity="2"/>'


def joint(name: str, parent: str, child: str, inside: str = LIMIT, kind: str = "revolute", axis: str = "0 1 0") -> str:
    return (
        f'<joint name="{name}" type="{kind}"><origin xyz="0 0 0.04"/><parent link="{parent}"/><child link="{child}"/>'
        f'<axis xyz="{axis}"/>{inside}</joint>'
    )


def links(*names: str) -> str:
    return "".join(f'<link name="{name}">{BOX}</link>' for name in names)


def robot(*parts: str) -> str:
    return f'<robot name="finger">{"".join(parts)}</robot>'


FINGER = robot(links("palm", "tip"), joint("j", "palm", "tip"))


def write(folder: Path, text: str, name: str = "test.urdf") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(folder: Path, *parts: str) -> Hand:
    return load_hand(write(folder, robot(*parts)))


def test_limits_effort_and_velocity_are_read(tmp_path):
    (j,) = load_hand(write(tmp_path, FINGER)).joints
    assert (j.lower, j.upper, j.effort, j.velocity) == (0.0, 1.0, 1.0, 2.0)


@pytest.mark.parametrize(
    "kind, inside", [("continuous", ""), ("revolute", ""), ("revolute", '<limit effort="1" velocity="1"/>')]
)
def test_absent_limits_become_half_turns_and_are_noted(tmp_path, kind, inside):
    hand = load(tmp_path, links("palm", "tip"), joint("j", "palm", "tip", inside, kind))
    np.testing.assert_allclose([hand.lower, hand.upper], [[-np.pi], [np.pi]])
    assert any("No limits are given for j" in note for note in hand.inferred)


def test_fixed_joints_are_merged(tmp_path):
    inertial = '<inertial><mass value="{}"/><inertia ixx="1" iyy="1" izz="1"/></inertial>'
    hand = load(
        tmp_path,
        f'<link name="palm">{BOX}{inertial.format(1)}</link><link name="cover">{BOX}{inertial.format(3)}</link>',
        links("tip"),
        joint("f", "palm", "cover", "", "fixed"),
        joint("j", "cover", "tip"),
    )
    assert hand.link_names == ("palm", "tip")
    assert len(hand.links[0].shapes) == 2
    assert hand.links[0].mass == 4.0
    np.testing.assert_allclose(hand.links[0].center_of_mass, [0, 0, 0.03])
    # Two masses 0.04 m apart: 1 + 1 + (1 * 3 / 4) * 0.04²
    np.testing.assert_allclose(np.diag(hand.links[0].inertia), [2.0012, 2.0012, 2.0])
    np.testing.assert_allclose(hand.frames["cover"].position, [0, 0, 0.04])
    np.testing.assert_allclose(hand.joints[0].position, [0, 0, 0.08])


def test_mimic_chains_are_flattened(tmp_path):
    wide = '<limit lower="-9" upper="9"/>'
    hand = load(
        tmp_path,
        links("palm", "a", "b", "c"),
        joint("ja", "palm", "a"),
        joint("jb", "a", "b", wide + '<mimic joint="ja" multiplier="2" offset="0.1"/>'),
        joint("jc", "b", "c", wide + '<mimic joint="jb" multiplier="-1" offset="0.5"/>'),
    )
    assert hand.free_count == 1
    np.testing.assert_allclose(hand.joint_position(np.array([0.3])), [0.3, 0.7, -0.2])


def test_joint_order_in_the_file_does_not_matter(tmp_path):
    hand = load(tmp_path, joint("2", "a.1", "b"), joint("1.0", "palm", "a.1"), links("b", "a.1", "palm"))
    assert hand.joint_names == ("1.0", "2")
    assert [j.parent for j in hand.joints] == [0, 1]


def test_links_without_geometry_are_fine(tmp_path):
    hand = load(
        tmp_path,
        links("palm"),
        '<link name="pivot"/>',
        links("tip"),
        joint("a", "palm", "pivot"),
        joint("b", "pivot", "tip"),
    )
    # What lies beyond a link without a shape still touches what lies before it.
    assert (0, 2) in hand.neighbours


def test_undeclared_prefixes_are_names(tmp_path):
    hand = load(
        tmp_path,
        links("palm", "tip"),
        "<drake:proximity_properties><drake:rigid/></drake:proximity_properties>",
        joint("j", "palm", "tip"),
    )
    assert hand.joint_count == 1


def test_visual_geometry_stands_in_for_collision(tmp_path):
    text = FINGER.replace("collision>", "visual>")
    hand = load_hand(write(tmp_path, text))
    assert hand.links[0].shapes and not hand.links[0].visuals
    assert any("no collision geometry" in note for note in hand.inferred)


def test_geometry_can_be_chosen(tmp_path):
    both = BOX + BOX.replace("collision", "visual").replace("0.04", "0.06")
    path = write(tmp_path, FINGER.replace(BOX, both))
    assert load_hand(path).links[0].shapes[0].size[2] == 0.02
    assert load_hand(path, geometry="visual").links[0].shapes[0].size[2] == 0.03


def test_capsules_are_fused(tmp_path):
    def collision(name: str, geometry: str, z: float) -> str:
        return f'<collision name="{name}"><origin xyz="0 0 {z}"/><geometry>{geometry}</geometry></collision>'

    ball = '<sphere radius="0.01"/>'
    tip = (
        collision("tip_capsule", '<cylinder radius="0.01" length="0.04"/>', 0.02)
        + collision("tip_capsule_a", ball, 0.0)
        + collision("tip_capsule_b", ball, 0.04)
        + collision("other", ball, 0.1)
    )
    hand = load(tmp_path, links("palm"), f'<link name="tip">{tip}</link>', joint("j", "palm", "tip"))
    kinds = [shape.kind for shape in hand.links[1].shapes]
    assert kinds == ["capsule", "sphere"]
    np.testing.assert_allclose(hand.links[1].shapes[0].size, [0.01, 0.02])


@pytest.mark.parametrize("suffix", ["obj", "stl", "ply", "glb"])
def test_mesh_formats_and_scale(tmp_path, suffix):
    trimesh.creation.box((1, 2, 3)).export(tmp_path / f"box.{suffix}")
    # A mirroring scale, and a name that differs in case.
    hand = load(tmp_path, mesh(f"Box.{suffix.upper()}", "0.01 0.01 -0.01"), links("tip"), joint("j", "palm", "tip"))
    surface = hand.link_surface(0)
    np.testing.assert_allclose(surface.extents, [0.01, 0.02, 0.03], atol=1e-7)
    assert surface.volume == pytest.approx(6e-6, rel=1e-5)


def mesh(filename: str, scale: str = "1 1 1") -> str:
    geometry = f'<geometry><mesh filename="{filename}" scale="{scale}"/></geometry>'
    return f'<link name="palm"><collision>{geometry}</collision></link>'


def test_collada_units_are_applied(tmp_path):
    pytest.importorskip("collada")
    text = export_collada(trimesh.creation.box((1, 2, 3))).decode()
    (tmp_path / "box.dae").write_text(text.replace("<up_axis>", '<unit name="cm" meter="0.01"/><up_axis>'))
    hand = load(tmp_path, mesh("box.dae"), links("tip"), joint("j", "palm", "tip"))
    np.testing.assert_allclose(hand.link_surface(0).extents, [0.01, 0.02, 0.03], rtol=1e-6)


def test_packages_are_found_by_walking_up(tmp_path):
    folder = tmp_path / "my_hand" / "urdf" / "right"
    folder.mkdir(parents=True)
    (tmp_path / "my_hand" / "meshes").mkdir()
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "my_hand" / "meshes" / "a.stl")
    text = robot(mesh("package://my_hand/meshes/a.stl"), links("tip"), joint("j", "palm", "tip"))
    assert len(load_hand(write(folder, text)).link_surface(0).faces) == 12


# --- Files that cannot work -----------------------------------------------------------------------------------------

BROKEN = {
    "no joints": (robot(links("palm")), "no movable joint"),
    "only fixed": (robot(links("palm", "a"), joint("f", "palm", "a", "", "fixed")), "no movable joint"),
    "cycle": (robot(links("a", "b"), joint("1", "a", "b"), joint("2", "b", "a")), "form a cycle"),
    "side cycle": (
        robot(links("p", "t", "a", "b"), joint("0", "p", "t"), joint("1", "a", "b"), joint("2", "b", "a")),
        "cycle that contains link",
    ),
    "roots": (robot(links("a", "b", "c"), joint("1", "a", "b")), r"2 roots \(a, c\); connect them"),
    "two parents": (
        robot(links("a", "b", "c"), joint("1", "a", "b"), joint("2", "a", "c"), joint("3", "b", "c")),
        "'c' is the child of two joints, '2' and '3'",
    ),
    "unknown link": (robot(links("palm", "tip"), joint("j", "palm", "tipp")), "no link 'tipp'. Did you mean 'tip'?"),
    "twice": (robot(links("a", "b", "c"), joint("j", "a", "b"), joint("j", "b", "c")), "two joints are called 'j'"),
    "twin links": (robot(links("a", "a", "b"), joint("j", "a", "b")), "two links are called 'a'"),
    "mimic of nothing": (
        robot(links("a", "b"), joint("j", "a", "b", LIMIT + '<mimic joint="jj"/>')),
        "'j' mimics 'jj', but there is no joint 'jj'. Did you mean 'j'?",
    ),
    "mimic cycle": (
        robot(
            links("a", "b", "c"),
            joint("1", "a", "b", LIMIT + '<mimic joint="2"/>'),
            joint("2", "b", "c", LIMIT + '<mimic joint="1"/>'),
        ),
        "mimic joints form a cycle: 1 -> 2 -> 1",
    ),
    "axis": (FINGER.replace('xyz="0 1 0"', 'xyz="0 0 0"'), "joint 'j' has an axis of length zero"),
    "limits": (FINGER.replace('lower="0"', 'lower="2"'), "lower limit of 2 above its upper limit of 1"),
    "nan": (FINGER.replace('lower="0"', 'lower="nan"'), "joint 'j': lower='nan' should be 1 finite number$"),
    "words": (FINGER.replace("0 0 0.04", "0 0 up"), "xyz='0 0 up' should be 3 finite numbers"),
    "type": (FINGER.replace("revolute", "ball"), "type 'ball'; only revolute, continuous, prismatic, fixed work"),
    "endless slide": (
        robot(links("a", "b"), joint("j", "a", "b", "", "prismatic")),
        "joint 'j' slides but has no limits",
    ),
    "flat box": (FINGER.replace("0.02 0.02", "0.02 0"), "needs positive sizes"),
    "shape": (FINGER.replace("<box", "<cone"), "<cone>; box, sphere, cylinder, capsule and mesh can be read"),
    "xacro": (FINGER.replace("<link", "<xacro:include/><link", 1), "expand it first"),
    "nothing to see": (
        robot(links("palm"), '<link name="tip"/>', joint("j", "palm", "tip")),
        "no link that its joints move has a shape",
    ),
    "not a robot": ("<sdf/>", "outermost element is <sdf>"),
    "too many": (
        robot(links(*map(str, range(66))), *(joint(str(i), str(i), str(i + 1)) for i in range(65))),
        "65 movable joints, more than the 64",
    ),
    "broken": (FINGER.replace("</robot>", ""), "not well-formed XML: no element found"),
    "entity": (
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + FINGER,
        "declares a document type or XML entities",
    ),
    "no mesh": (
        robot(mesh("meshes/a.obj"), links("tip"), joint("j", "palm", "tip")),
        r"mesh 'meshes/a.obj' not found; tried .*meshes/a.obj",
    ),
    "no package": (
        robot(mesh("package://p/a.obj"), links("tip"), joint("j", "palm", "tip")),
        r"tried .*/p/a.obj.* Pass root=FOLDER",
    ),
    "format": (robot(mesh("test.urdf"), links("tip"), joint("j", "palm", "tip")), "test.urdf is .urdf; .obj, .stl"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_message_of_a_broken_file(tmp_path, case):
    text, message = BROKEN[case]
    with pytest.raises(WarpgraspError, match=message) as caught:
        load_hand(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "test.urdf" in str(caught.value)


def test_meshes_outside_the_package_are_refused(tmp_path):
    folder = tmp_path / "package" / "urdf"
    folder.mkdir(parents=True)
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "secret.stl")
    for reference in ("../../secret.stl", str(tmp_path / "secret.stl")):
        path = write(folder, robot(mesh(reference), links("tip"), joint("j", "palm", "tip")))
        with pytest.raises(HandError, match=r"lies outside .*package, so it is not read; .* root=FOLDER"):
            load_hand(path)
        assert load_hand(path, root=tmp_path).joint_count == 1


def test_an_unreadable_mesh_is_named(tmp_path):
    (tmp_path / "a.stl").write_bytes(b"nonsense")
    with pytest.raises(HandError, match=r"mesh .*a.stl (cannot be read|has no faces)"):
        load(tmp_path, mesh("a.stl"), links("tip"), joint("j", "palm", "tip"))


def test_a_missing_picture_is_only_noted(tmp_path):
    picture = '<visual><geometry><mesh filename="a.obj"/></geometry></visual>'
    hand = load(tmp_path, f'<link name="palm">{BOX}{picture}</link>', links("tip"), joint("j", "palm", "tip"))
    assert any("a.obj" in note for note in hand.inferred)


# --- MJCF -----------------------------------------------------------------------------------------------------------

SCENE = """<mujoco model="scene"><compiler angle="radian"/><worldbody>
  <geom type="plane" size="1 1 1"/>
  <body name="cube" pos="1 0 0"><freejoint/><geom type="box" size=".1 .1 .1"/></body>
  <body name="palm" pos="0 1 0" euler="0.3 0 0"><freejoint/><geom type="box" size=".03 .03 .01"/>
    <body name="finger" pos="0 0 .01" euler="0 0.2 0">
      <joint name="swing" axis="0 1 0" range="-1 1" pos="0 .01 0"/>
      <joint name="spread" axis="1 0 0" range="-.5 .5" pos="0 0 .005" ref="0.2"/>
      <geom type="ellipsoid" size=".01 .01 .02" pos="0 0 .02"/>
      <body name="tip" pos="0 0 .04"><joint name="slide" type="slide" axis="0 0 1" range="0 .01" ref="0.004"/>
        <geom type="capsule" size=".01 .01"/><geom type="sphere" size=".02" contype="0" conaffinity="0"/></body>
    </body>
    <body name="thumb" pos=".02 0 0"><joint name="bend" axis="0 1 0"/><geom type="cylinder" size=".01 .02"/></body>
  </body></worldbody>
  <equality><joint joint1="spread" joint2="bend" polycoef="0.1 0.5 0 0 0"/></equality>
  <tendon><fixed name="t"><joint joint="swing" coef="1"/><joint joint="bend" coef="1"/></fixed></tendon></mujoco>"""


def test_mjcf_scene_agrees_with_mujoco(tmp_path):
    path = write(tmp_path, SCENE, "scene.xml")
    hand = load_hand(path)
    assert set(hand.joint_names) == {"swing", "spread", "slide", "bend"}
    assert "cube" not in hand.frames
    assert_agrees_with_mujoco(hand, path)


def test_mjcf_details(tmp_path):
    hand = load_hand(write(tmp_path, SCENE, "scene.xml"))
    assert hand.name == "scene"
    q = hand.joint_position(np.full(hand.free_count, 0.004))
    by_name = dict(zip(hand.joint_names, q, strict=True))
    assert by_name["spread"] == pytest.approx(0.2 + 0.1 + 0.5 * by_name["bend"])
    tip = hand.links[hand.link_index("tip")]
    assert [shape.kind for shape in tip.shapes] == ["capsule"]
    assert [shape.kind for shape in tip.visuals] == ["sphere"]
    np.testing.assert_allclose(hand.link_surface(hand.link_index("finger")).extents, [0.02, 0.02, 0.04], rtol=1e-6)
    notes = " ".join(hand.inferred)
    assert "1 tendons of the file are ignored" in notes and "No limits are given for bend" in notes


def test_mjcf_tendon_motors_agree_with_mujoco(tmp_path, rng):
    """Position of the motor that pulls two joints: the length of the actuator in MuJoCo."""
    motor = '<actuator><position name="pull" tendon="t" gear="2" kp="3" forcerange="-4 5"/></actuator></mujoco>'
    path = write(
        tmp_path, SCENE.replace("</mujoco>", motor).replace('bend" coef="1"', 'bend" coef="-0.5"'), "scene.xml"
    )
    hand = load_hand(path)
    assert hand.actuators[0].joints == {"swing": 2.0, "bend": -1.0}
    assert hand.actuators[0].effort == 5.0
    assert "tendons" not in " ".join(hand.inferred)
    assert hand.actuator_names == ("pull", "slide")
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    for q in hand.clamp(rng.normal(size=(5, hand.joint_count))):
        for name, value in zip(hand.joint_names, q, strict=True):
            data.qpos[model.joint(name).qposadr] = value
        mujoco.mj_forward(model, data)
        assert hand.actuator_position(q)[0] == pytest.approx(data.actuator("pull").length[0], abs=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>", "no movable joint"),
        (
            "<mujoco><worldbody><body><joint/><nonsense/></body></worldbody></mujoco>",
            "MuJoCo cannot read it: .*nonsense",
        ),
        (
            "<mujoco><worldbody><body><geom size='1'/><body><joint/><geom size='1'/>"
            "<body><joint name='b' type='ball'/><geom size='1'/></body></body></body></worldbody></mujoco>",
            "'b' is a ball joint; write it as three hinges",
        ),
    ],
)
def test_message_of_a_broken_mjcf(tmp_path, text, message):
    with pytest.raises(HandError, match=message) as caught:
        load_hand(write(tmp_path, text, "hand.xml"))
    assert "\n" not in str(caught.value)


# --- hand.yaml ------------------------------------------------------------------------------------------------------

ANNOTATED = robot(
    links("palm", "a", "b", "tip"),
    joint("ja", "palm", "a"),
    joint("jb", "a", "b", LIMIT + '<mimic joint="ja" multiplier="0.5"/>'),
    joint("f", "b", "tip", "", "fixed"),
)

YAML = """
description: a finger
palm: {link: palm, position: [0, 0, 0.02], normal: [0, 0, 2], fingers: [1, 0, 1]}
fingers: {index: {joints: [ja, jb], links: [a, b], tip: tip}}
pads: [{link: tip, position: [0.01, 0, 0], normal: [1, 0, 0]}]
open: {ja: 0.2, jb: 0.1}
ranges: {robot: {source: manual, joints: {ja: [0.1, 0.8]}}}
actuators: [{name: m, joints: {ja: 1, jb: 1}, range: [0, 1.5], effort: 2}]
neighbours: [[palm, tip]]
"""


def test_annotation_is_read(tmp_path):
    path = write(tmp_path, ANNOTATED)
    write(tmp_path, YAML, "hand.yaml")
    hand = load_hand(path)
    assert hand.description == "a finger"
    np.testing.assert_allclose(hand.palm.normal, [0, 0, 1])
    np.testing.assert_allclose(hand.palm.fingers, [1, 0, 0])
    assert hand.fingers[0].name == "index"
    # The tip is merged into b, 0.04 m along z.
    np.testing.assert_allclose(hand.fingers[0].tip_position, [0, 0, 0.04])
    np.testing.assert_allclose(hand.pads[0].position, [0.01, 0, 0.04])
    assert hand.pads[0].link == hand.link_index("b")
    np.testing.assert_allclose(hand.open_position, [0.2, 0.1])
    np.testing.assert_allclose([hand.lower[0], hand.upper[0]], [0.1, 0.8])
    assert hand.actuators[0].joints == {"ja": 1.0, "jb": 1.0} and hand.actuators[0].upper == 1.5
    assert hand.neighbours == {(0, 1), (1, 2), (0, 2)}
    assert load_hand(path, ranges="model").upper[0] == 1.0


def test_the_file_of_the_same_name_wins(tmp_path):
    path = write(tmp_path, ANNOTATED)
    write(tmp_path, "description: wrong", "hand.yaml")
    write(tmp_path, "description: right", "test.yaml")
    assert load_hand(path).description == "right"


def test_breakaway_frees_a_mimic_joint_one_way(tmp_path):
    path = write(tmp_path, ANNOTATED)
    write(tmp_path, "couplings: [{type: breakaway, joint: jb, source: clutch}]", "hand.yaml")
    hand = load_hand(path)
    assert hand.free_count == 2
    np.testing.assert_allclose(hand.clamp(np.array([0.4, 0.9])), [0.4, 0.9])
    q = hand.clamp(np.array([0.8, 0.0]))
    assert q[1] == pytest.approx(0.5 * q[0])


def test_mimic_coupling_joins_two_joints(tmp_path):
    path = write(tmp_path, ANNOTATED.replace('<mimic joint="ja" multiplier="0.5"/>', ""))
    write(tmp_path, "couplings: [{type: mimic, joint: jb, of: ja, multiplier: 2, offset: 0.1}]", "hand.yaml")
    hand = load_hand(path)
    np.testing.assert_allclose(hand.joint_position(np.array([0.2])), [0.2, 0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("palms: {}", "unknown key 'palms'; did you mean 'palm'"),
        ("palm: {link: palm, positon: [0, 0, 0]}", "palm: unknown key 'positon'; did you mean 'position'"),
        ("palm: {link: plam}", "no link 'plam'. Did you mean 'palm'"),
        ("palm: {link: palm}", "palm needs the key 'normal'"),
        ("open: {jaa: 0}", "no joint 'jaa'. Did you mean 'ja'"),
        ("open: {ja: 2}", "open: out of range: ja = 2"),
        ("open: {ja: .nan}", "open: ja: .* should be 1 finite number"),
        ("pads: 3", "pads should be a list"),
        ("fingers: {i: {joints: [ja], links: [a], tip: tip}}", "tip 'tip' should lie on its last link"),
        ("couplings: [{type: gear}]", "type 'gear'; inequality, breakaway, mimic work"),
        ("couplings: [{type: breakaway, joint: ja}]", "'ja' has a breakaway coupling, but mimics no joint"),
        ("ranges: {robot: {joints: {ja: [1, 0]}}}", "range of ja: 1 is above 0"),
        ("[", "not valid YAML"),
        ("hand", "should be a mapping"),
    ],
)
def test_message_of_a_broken_annotation(tmp_path, text, message):
    path = write(tmp_path, ANNOTATED)
    write(tmp_path, text, "hand.yaml")
    with pytest.raises(HandError, match=message) as caught:
        load_hand(path)
    assert "\n" not in str(caught.value)
    assert "hand.yaml" in str(caught.value)
