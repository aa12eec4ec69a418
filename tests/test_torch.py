"""Functions of PyTorch tensors: against pytorch-kinematics, trimesh and differences of float64 NumPy."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import pytorch_kinematics as pk
import reference_grasp as reference
import torch
import trimesh
import warp as wp
from random_hand import random_hand, unit
from reference import central_difference

import warpgrasp
import warpgrasp.torch as wt
from warpgrasp.descend import smooth_mesh, stage_skin
from warpgrasp.errors import DeviceError, OptionError, ShapeError
from warpgrasp.hand import Hand
from warpgrasp.hands import folder, names
from warpgrasp.model import hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import RECIPES, Recipe, Stage
from warpgrasp.pose import Pose
from warpgrasp.surface import grasping_links, object_points, surface_points

CUDA = ["cuda:0"] if torch.cuda.is_available() and wp.get_cuda_device_count() else []
GRASPS = 18

STAGE = Stage(
    iterations=4, object_points=18, attraction_weight=7.0, reach=0.05, penetration_weight=2e4, self_weight=3e4
)
RECIPE = Recipe(name="small", stages=(STAGE,))
POINTS = 18  # above Warp's unroll limit of 16


@pytest.fixture(params=["cpu", *CUDA])
def device(request: pytest.FixtureRequest) -> str:
    """Every device that both PyTorch and Warp can use."""
    return request.param


@pytest.fixture(scope="module")
def ball() -> warpgrasp.ObjectMesh:
    return warpgrasp.load_object(trimesh.creation.icosphere(subdivisions=0, radius=0.06))


class Inputs:
    """Random wrists and joints: float64 as NumPy, and as float32 tensors that want a gradient."""

    def __init__(self, rng: np.random.Generator, hand: Hand, device: str, count: int = GRASPS) -> None:
        q = rng.uniform(hand.lower, hand.upper, (count, hand.joint_count))
        p = rng.uniform(-0.04, 0.04, (count, 3))
        r = np.array([unit(rng, 4) for _ in range(count)]).reshape(count, 4) * rng.uniform(0.3, 3.0, (count, 1))
        self.arrays = [x.astype(np.float32).astype(float) for x in (p, r, q)]
        made = [torch.tensor(x, dtype=torch.float32, device=device, requires_grad=True) for x in self.arrays]
        self.tensors = made[0], made[1], made[2]

    def gradients(self) -> list[np.ndarray]:
        """What has arrived at the tensors."""
        return [tensor.grad.numpy(force=True).astype(float) for tensor in self.tensors]


def wrist_matrix(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    return reference.transform(position, reference.wxyz(quaternion))  # SciPy normalises


def independent(hand: Hand) -> Hand:
    return dataclasses.replace(hand, mimics=())


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


# Forward kinematics


@pytest.mark.parametrize("name", names())
def test_links_and_gradients_match_pytorch_kinematics(name, rng, device):
    hand = warpgrasp.load_hand(name)
    chain = pk.build_chain_from_urdf((folder() / name / "hand.urdf").read_bytes()).to(dtype=torch.float64)
    q = torch.tensor(rng.uniform(hand.lower, hand.upper, (GRASPS, hand.joint_count)), requires_grad=True)
    theirs = chain.forward_kinematics({joint: q[:, j] for j, joint in enumerate(hand.joint_names)})
    expected = torch.stack([theirs[link].get_matrix().expand(GRASPS, 4, 4) for link in hand.link_names], dim=1)
    base = torch.linalg.inv(expected[:, :1])
    expected = base @ expected
    ours = q.detach().to(device, torch.float32).requires_grad_()
    actual = wt.forward_kinematics(hand, ours)
    np.testing.assert_allclose(actual.numpy(force=True), expected.numpy(force=True), atol=2e-6)

    direction = torch.tensor(rng.normal(size=expected.shape))
    (expected * direction).sum().backward()
    (actual * direction.to(device, torch.float32)).sum().backward()
    assert_close(ours.grad.numpy(force=True), q.grad.numpy(), 2e-5)


@pytest.mark.parametrize(("joints", "chain"), [(1, False), (18, False), (20, True)])
def test_link_gradients_match_differences(joints, chain, rng, device):
    hand = random_hand(rng, joints, chain=chain)
    inputs = Inputs(rng, hand, device)
    direction = rng.normal(size=(GRASPS, joints + 1, 4, 4))
    position, quaternion, q = inputs.tensors
    matrix = wt.forward_kinematics(hand, q, position, quaternion)
    (matrix * torch.tensor(direction, dtype=torch.float32, device=device)).sum().backward()

    free = independent(hand)
    for grasp in range(GRASPS):

        def links(x):
            return reference.link_transforms(free, wrist_matrix(x[:3], x[3:7]), x[7:])

        x = np.concatenate([array[grasp] for array in inputs.arrays])
        np.testing.assert_allclose(matrix[grasp].numpy(force=True), links(x), atol=5e-6)
        slope = central_difference(lambda x, grasp=grasp, links=links: float((direction[grasp] * links(x)).sum()), x)
        assert_close(np.concatenate([gradient[grasp] for gradient in inputs.gradients()]), slope, 1e-4)


def test_quarter_turn(device):
    """Known answer: a wrist turned by 90 degrees about z and moved; the quaternion's length does not matter."""
    hand = warpgrasp.load_hand("panda")
    half = torch.tensor([3.0, 0.0, 0.0, 3.0], device=device)
    q = torch.zeros(hand.joint_count, device=device)
    base = wt.forward_kinematics(hand, q, torch.tensor([0.1, 0.2, 0.3], device=device), half)[0]
    expected = [[0.0, -1.0, 0.0, 0.1], [1.0, 0.0, 0.0, 0.2], [0.0, 0.0, 1.0, 0.3], [0.0, 0.0, 0.0, 1.0]]
    np.testing.assert_allclose(base.numpy(force=True), expected, atol=1e-6)


# Signed distance


def test_distance_matches_trimesh_and_its_gradient_differences(rng, device):
    mesh = trimesh.creation.box((0.06, 0.08, 0.1)).subdivide()
    obj = warpgrasp.load_object(mesh)
    p = rng.uniform(-0.08, 0.08, (60, 3)).astype(np.float32).astype(float)
    point = torch.tensor(p, dtype=torch.float32, device=device, requires_grad=True)
    distance = wt.signed_distance(obj, point)
    weight = rng.normal(size=60)
    (distance * torch.tensor(weight, dtype=torch.float32, device=device)).sum().backward()

    def theirs(x: np.ndarray) -> np.ndarray:
        return -trimesh.proximity.signed_distance(mesh, x)

    assert (theirs(p) < 0.0).any() and (theirs(p) > 0.0).any()
    np.testing.assert_allclose(distance.numpy(force=True), theirs(p), atol=1e-7)
    step = 1e-6 * np.eye(3)
    slope = np.stack([(theirs(p + d) - theirs(p - d)) / 2e-6 for d in step], axis=1)
    np.testing.assert_allclose(point.grad.numpy(force=True), weight[:, None] * slope, rtol=1e-4, atol=1e-4)


def test_smoothed_distance_is_that_of_the_function_of_arrays(rng, device):
    obj = warpgrasp.load_object(trimesh.creation.icosphere(subdivisions=1, radius=0.05))
    p = rng.uniform(-0.08, 0.08, (50, 3)).astype(np.float32)
    flat, curved = (wt.signed_distance(obj, torch.tensor(p, device=device), phong_alpha=a) for a in (0.0, 0.75))
    expected = warpgrasp.signed_distance(obj, p, phong_alpha=0.75, device=device)
    np.testing.assert_array_equal(curved.numpy(force=True), expected)
    assert (curved != flat).float().mean() > 0.5


def test_far_points_have_no_gradient(ball, device):
    point = torch.tensor([[30.0, 0.0, 0.0]], device=device, requires_grad=True)
    distance = wt.signed_distance(ball, point)
    distance.sum().backward()
    assert distance.item() == 10.0 and not point.grad.any()


# The loss of grasps


def reference_loss(hand: Hand, ball: warpgrasp.ObjectMesh, skin, x: np.ndarray) -> float:
    links = reference.link_transforms(independent(hand), wrist_matrix(x[:3], x[3:7]), x[7:])
    position = reference.point_positions(skin, links)
    triangles = ball.vertices[ball.faces]
    distance = np.array([reference.signed_distance(p, triangles) for p in position])
    own = np.array([reference.link_distance(hand, links, p, o) for p, o in zip(position, skin.link, strict=True)])
    inner = object_points(ball, STAGE.object_points)
    other = np.array([reference.link_distance(hand, links, p, len(hand.links)) for p in inner])
    return reference.attraction_loss(distance, own, other, (7.0, 0.05, 2e4, 3e4))


def test_loss_and_gradients_match_float64(rng, ball, device):
    """Values, and slopes along one random direction per grasp and input; every fourth joint is a mimic joint."""
    hand = random_hand(rng, 6)
    skin = surface_points(hand, POINTS, links=grasping_links(hand))
    inputs = Inputs(rng, hand, device)
    loss = wt.grasp_loss(hand, ball, *inputs.tensors, recipe=RECIPE, points=POINTS)
    loss.sum().backward()
    gradient = np.concatenate(inputs.gradients(), axis=1)
    x = np.concatenate(inputs.arrays, axis=1)
    parts = np.split(np.eye(x.shape[1]), [3, 7])
    for grasp in range(GRASPS):

        def value(x):
            return reference_loss(hand, ball, skin, x)

        np.testing.assert_allclose(loss[grasp].item(), value(x[grasp]), rtol=2e-4)
        for part in parts:
            d = 1e-6 * rng.normal(size=len(part)) @ part
            slope = (value(x[grasp] + d) - value(x[grasp] - d)) / 2.0
            size = float(np.linalg.norm(gradient[grasp]) * np.linalg.norm(d))
            np.testing.assert_allclose(gradient[grasp] @ d, slope, rtol=1e-3, atol=1e-4 * size)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("progress", [0.0, 0.8])
def test_loss_is_the_one_that_is_descended(name, progress, rng, ball, device):
    """The same number, and the same slope along every free joint, as the optimizer's."""
    hand = warpgrasp.load_hand("barrett")
    inputs = Inputs(rng, hand, device, count=4)
    position, quaternion, q = inputs.arrays
    q = hand.clamp(q).astype(np.float32).astype(float)
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    stage = wt.settled(RECIPES[name].stages[0])
    p_tensor, r_tensor, q_tensor = inputs.tensors
    q_tensor.data = torch.tensor(q, dtype=torch.float32, device=device)
    loss = wt.grasp_loss(hand, ball, p_tensor, r_tensor, q_tensor, name, progress=progress, points=64)
    loss.sum().backward()

    skin = stage_skin(hand, stage, 64, device)
    model = hand_model(independent(hand), skin, device)
    inner = object_points(ball, stage.object_points)
    start = Pose(position, quaternion, q)
    alpha = RECIPES[name].phong_alpha
    mesh = smooth_mesh(ball, RECIPES[name], device)
    phong = {"phong_alpha": alpha, "phong_mode": RECIPES[name].phong_mode}
    descent = Descent(model, mesh, inner, start, stage, **phong)
    descent.state.iteration.fill_(round(progress * stage.iterations))
    descent.find_gradient(search=True)
    np.testing.assert_allclose(loss.numpy(force=True), descent.loss(), rtol=2e-5)
    assert_close(q_tensor.grad.numpy(force=True), descent.state.free_gradient.numpy(), 1e-3)
    assert_close(inputs.gradients()[0], descent.state.wrist_gradient.numpy()[:, :3], 1e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_loss_does_not_remember(name, rng, ball, device):
    """Equal inputs give equal losses and gradients, whatever came in between."""
    hand = warpgrasp.load_hand("barrett")
    one, other = Inputs(rng, hand, device, count=4), Inputs(rng, hand, device, count=4)
    results = []
    for inputs in (one, other, one):
        loss = wt.grasp_loss(hand, ball, *inputs.tensors, recipe=name, points=64)
        results.append((loss, *torch.autograd.grad(loss.sum(), inputs.tensors)))
    for first, again in zip(results[0], results[2], strict=True):
        assert torch.equal(first, again)


def test_progress_moves_along_the_schedule(rng, device):
    hand, obj = warpgrasp.load_hand("panda"), warpgrasp.load_object(trimesh.creation.box((0.1, 0.1, 0.1)))
    inside = Inputs(rng, hand, device, count=3).tensors
    options = {"recipe": "attraction", "points": 64}
    first, last = (wt.grasp_loss(hand, obj, *inside, progress=share, **options).detach() for share in (0.0, 1.0))
    assert torch.all(last > 5.0 * first), "the penetration weight grows tenfold"


# Use in a graph


def test_forward_twice_before_backward(rng, ball, device):
    """The arrays that calls share do not carry the second batch into the first one's gradient."""
    hand = random_hand(rng, 6)
    one, other = Inputs(rng, hand, device), Inputs(rng, hand, device)
    loss = [wt.grasp_loss(hand, ball, *i.tensors, recipe=RECIPE, points=POINTS).sum() for i in (one, other)]
    links = [wt.forward_kinematics(hand, i.tensors[2]).square().sum() for i in (one, other)]
    torch.stack(loss + links).sum().backward()
    for inputs, value in zip((one, other), loss, strict=True):
        together = inputs.gradients()
        for tensor in inputs.tensors:
            tensor.grad = None
        again = wt.grasp_loss(hand, ball, *inputs.tensors, recipe=RECIPE, points=POINTS).sum()
        assert again.item() == value.item()
        (again + wt.forward_kinematics(hand, inputs.tensors[2]).square().sum()).backward()
        for a, b in zip(together, inputs.gradients(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_backward_twice(rng, ball, device):
    hand = random_hand(rng, 6)
    inputs = Inputs(rng, hand, device)
    point = wt.forward_kinematics(hand, inputs.tensors[2], *inputs.tensors[:2])[:, :, :3, 3]
    loss = wt.grasp_loss(hand, ball, *inputs.tensors, recipe=RECIPE, points=POINTS).sum()
    total = loss + wt.signed_distance(ball, point).sum()
    total.backward(retain_graph=True)
    once = inputs.gradients()
    total.backward()
    for a, b in zip(once, inputs.gradients(), strict=True):
        np.testing.assert_array_equal(2.0 * a, b)


def test_a_chain_through_both_functions_matches_differences(rng, ball, device):
    """Gradients of the distance flow on into the kinematics."""
    hand = random_hand(rng, 18, chain=True)
    inputs = Inputs(rng, hand, device, count=3)
    position, quaternion, q = inputs.tensors
    point = wt.forward_kinematics(hand, q, position, quaternion)[..., :3, 3]
    wt.signed_distance(ball, point).square().sum().backward()
    triangles = ball.vertices[ball.faces]

    def value(x: np.ndarray) -> float:
        links = reference.link_transforms(independent(hand), wrist_matrix(x[:3], x[3:7]), x[7:])
        return float(sum(reference.signed_distance(p, triangles) ** 2 for p in links[:, :3, 3]))

    gradient = np.concatenate(inputs.gradients(), axis=1)
    for grasp, x in enumerate(np.concatenate(inputs.arrays, axis=1)):
        for d in 1e-6 * rng.normal(size=(4, len(x))):
            slope = (value(x + d) - value(x - d)) / 2.0
            np.testing.assert_allclose(gradient[grasp] @ d, slope, rtol=1e-3, atol=1e-9 * np.abs(gradient).max())


def test_only_what_is_asked_for_gets_a_gradient(rng, ball, device):
    hand = random_hand(rng, 3)
    position, quaternion, q = Inputs(rng, hand, device).tensors
    wt.grasp_loss(hand, ball, position.detach(), quaternion.detach(), q, RECIPE, points=POINTS).sum().backward()
    assert q.grad is not None and position.grad is None and quaternion.grad is None
    with torch.no_grad():
        assert not wt.grasp_loss(hand, ball, position, quaternion, q, RECIPE, points=POINTS).requires_grad


def test_torch_func_grad(rng, ball, device):
    point = Inputs(rng, random_hand(rng, 1), device).tensors[0]
    wt.signed_distance(ball, point).sum().backward()
    functional = torch.func.grad(lambda x: wt.signed_distance(ball, x).sum())(point.detach())
    torch.testing.assert_close(functional, point.grad, rtol=0.0, atol=0.0)


def test_vmap_says_to_pass_the_batch(ball):
    with pytest.raises(OptionError, match="pass the whole batch"):
        torch.vmap(lambda x: wt.signed_distance(ball, x))(torch.zeros(4, 3))


def test_second_derivatives_are_refused(ball):
    point = torch.full((1, 3), 0.1, requires_grad=True)
    (gradient,) = torch.autograd.grad(wt.signed_distance(ball, point).square().sum(), point, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


# Shapes, dtypes and devices


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0)])
def test_any_leading_shape(shape, rng, ball, device):
    hand = random_hand(rng, 5)
    inputs = Inputs(rng, hand, device, count=int(np.prod(shape)))
    position, quaternion, q = (x.detach().reshape(*shape, x.shape[-1]).requires_grad_() for x in inputs.tensors)
    loss = wt.grasp_loss(hand, ball, position, quaternion, q, RECIPE, points=POINTS)
    links = wt.forward_kinematics(hand, q, position, quaternion)
    distance = wt.signed_distance(ball, position)
    assert loss.shape == distance.shape == shape and links.shape == (*shape, 6, 4, 4)
    (loss.sum() + links.sum() + distance.sum()).backward()
    assert position.grad.shape == position.shape and quaternion.grad.shape == quaternion.shape
    flat = wt.grasp_loss(hand, ball, *inputs.tensors, RECIPE, points=POINTS)
    torch.testing.assert_close(loss.flatten(), flat, rtol=1e-6, atol=0.0)


def test_leading_shapes_are_broadcast(rng, ball, device):
    hand = random_hand(rng, 5)
    position, quaternion, q = Inputs(rng, hand, device, count=4).tensors
    one = position[:1].detach().requires_grad_()
    loss = wt.grasp_loss(hand, ball, one, quaternion[0], q, RECIPE, points=POINTS)
    loss.sum().backward()
    many = one.detach().expand(4, 3).clone().requires_grad_()
    wt.grasp_loss(hand, ball, many, quaternion[:1].expand(4, 4), q, RECIPE, points=POINTS).sum().backward()
    torch.testing.assert_close(one.grad, many.grad.sum(dim=0, keepdim=True))
    links = wt.forward_kinematics(hand, q[0], position, quaternion)
    torch.testing.assert_close(links, wt.forward_kinematics(hand, q[:1].repeat(4, 1), position, quaternion))


def test_tensors_need_not_be_contiguous(rng, ball, device):
    hand = random_hand(rng, 5)
    position, quaternion, q = (x.detach() for x in Inputs(rng, hand, device).tensors)
    strided = [x.T.contiguous().T for x in (position, quaternion, q)]
    assert not strided[2].is_contiguous()
    torch.testing.assert_close(
        wt.grasp_loss(hand, ball, *strided, recipe=RECIPE, points=POINTS),
        wt.grasp_loss(hand, ball, position, quaternion, q, RECIPE, points=POINTS),
    )
    torch.testing.assert_close(wt.forward_kinematics(hand, strided[2]), wt.forward_kinematics(hand, q))
    torch.testing.assert_close(wt.signed_distance(ball, strided[0]), wt.signed_distance(ball, position))


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(torch.float64, torch.float64), (torch.float16, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_other_precisions_are_cast(dtype, result, rng, ball, device):
    """float64 stays float64; half precision would overflow at losses of 65 thousand, so the result is float32."""
    hand = random_hand(rng, 5)
    tensors = [x.detach().to(dtype).requires_grad_() for x in Inputs(rng, hand, device).tensors]
    loss = wt.grasp_loss(hand, ball, *tensors, recipe=RECIPE, points=POINTS)
    assert loss.dtype == result
    assert wt.forward_kinematics(hand, tensors[2]).dtype == wt.signed_distance(ball, tensors[0]).dtype == result
    loss.sum().backward()
    single = [x.detach().float().requires_grad_() for x in tensors]
    wt.grasp_loss(hand, ball, *single, recipe=RECIPE, points=POINTS).sum().backward()
    for wide, narrow in zip(tensors, single, strict=True):
        assert wide.grad.dtype == dtype
        torch.testing.assert_close(wide.grad, narrow.grad.to(dtype))


def test_more_grasps_than_a_batch(rng, ball, device, monkeypatch):
    hand = random_hand(rng, 3)
    inputs = Inputs(rng, hand, device, count=11)
    whole = wt.grasp_loss(hand, ball, *inputs.tensors, RECIPE, points=POINTS)
    monkeypatch.setattr(wt, "CPU_BATCH", 4)
    monkeypatch.setattr(wt, "GPU_BATCH", 4)
    cut = wt.grasp_loss(hand, ball, *inputs.tensors, RECIPE, points=POINTS)
    assert torch.equal(whole, cut)
    cut.sum().backward()
    in_pieces = inputs.gradients()
    for tensor in inputs.tensors:
        tensor.grad = None
    whole.sum().backward()
    for a, b in zip(in_pieces, inputs.gradients(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tensors_on_two_devices(ball):
    hand = warpgrasp.load_hand("panda")
    with pytest.raises(DeviceError, match=r"one device, got wrist_position on cpu, wrist_quaternion on meta"):
        wt.grasp_loss(hand, ball, torch.zeros(3), torch.zeros(4, device="meta"), torch.zeros(2))
    with pytest.raises(DeviceError, match="on 'meta'; move them to the CPU or a CUDA device"):
        wt.signed_distance(ball, torch.zeros(3, device="meta"))


def test_device_names(monkeypatch):
    assert wt._warp_device(torch.device("cpu")) == "cpu"
    monkeypatch.setattr(wt.devices, "choose", lambda name: name)
    assert wt._warp_device(torch.device("cuda", 1)) == "cuda:1"


def test_launches_go_to_the_current_stream(monkeypatch):
    """Without a GPU, the calls that choose the stream can still be watched."""
    entered = []

    @contextlib.contextmanager
    def scoped_stream(stream):
        entered.append(stream)
        yield

    monkeypatch.setattr(wp, "ScopedStream", scoped_stream)
    monkeypatch.setattr(wp, "stream_from_torch", lambda device: f"current stream of {device}")
    with wt._current_stream(torch.device("cpu")):
        assert entered == []
    with wt._current_stream(torch.device("cuda:1")):
        assert entered == ["current stream of cuda:1"]


def test_a_call_on_another_stream_waits_for_the_last_one(monkeypatch):
    class Stream:
        def __init__(self) -> None:
            self.waited_for: list[Stream] = []

        def wait_stream(self, other: Stream) -> None:
            self.waited_for.append(other)

    first, second = Stream(), Stream()
    streams = iter([first, first, second])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: next(streams))
    loss = object.__new__(wt._Loss)
    loss.stream = None
    for _ in range(3):
        loss._wait_for_last_use(torch.device("cuda:0"))
    assert first.waited_for == [] and second.waited_for == [first]


# Costs


def test_nothing_is_set_up_or_copied_to_the_host_after_the_first_call(rng, ball, monkeypatch):
    hand = random_hand(rng, 5)

    def everything() -> None:
        inputs = Inputs(rng, hand, "cpu", count=3)
        position, quaternion, q = inputs.tensors
        loss = wt.grasp_loss(hand, ball, position, quaternion, q, RECIPE, points=POINTS).sum()
        loss = loss + wt.forward_kinematics(hand, q, position, quaternion).sum()
        (loss + wt.signed_distance(ball, position).sum()).backward()

    everything()

    def forbidden(*arguments, **options):
        raise AssertionError("called in the loop")

    for name in ("stage_skin", "hand_model", "DeviceMesh", "Descent"):
        monkeypatch.setattr(wt, name, forbidden)
    monkeypatch.setattr(wp.array, "numpy", forbidden)
    monkeypatch.setattr(wp, "zeros", forbidden)
    everything()


def test_equal_hands_and_objects_share_what_is_on_the_device(ball):
    again = warpgrasp.load_object(trimesh.creation.icosphere(subdivisions=0, radius=0.06))
    assert again is not ball
    assert wt._mesh(again, 0.0, "cpu") is wt._mesh(ball, 0.0, "cpu")
    one, other = (random_hand(np.random.default_rng(3), 4) for _ in range(2))
    assert wt._tree(one, "cpu") is wt._tree(other, "cpu")


def test_the_cache_is_bounded(rng, ball):
    wt.clear_cache()
    for radius in np.linspace(0.02, 0.05, wt.CACHE_SIZE + 3):
        small = warpgrasp.load_object(trimesh.creation.icosphere(subdivisions=0, radius=radius))
        wt.signed_distance(small, torch.zeros(1, 3))
    assert len(wt._cache) == wt.CACHE_SIZE
    hand = random_hand(rng, 2)
    for count in range(1, wt.BATCH_SIZES + 3):
        wt.grasp_loss(hand, ball, *Inputs(rng, hand, "cpu", count=count).tensors, RECIPE, points=POINTS)
    assert len(wt._loss(hand, ball, RECIPE, 0, POINTS, "cpu").batches) == wt.BATCH_SIZES


# Errors that teach


def test_wrong_shapes(ball):
    hand = warpgrasp.load_hand("allegro")
    p, r, q = torch.zeros(5, 3), torch.ones(5, 4), torch.zeros(5, 16)
    with pytest.raises(ShapeError, match=r"joint_position has shape \(5, 15\), expected \(\.\.\., 16\)"):
        wt.grasp_loss(hand, ball, p, r, q[:, :15])
    with pytest.raises(ShapeError, match=r"wrist_quaternion has shape \(5, 3\), expected \(\.\.\., 4\)"):
        wt.grasp_loss(hand, ball, p, p, q)
    with pytest.raises(ShapeError, match=r"joint_position has shape \(4, 16\).* broadcasts with \(5,\)"):
        wt.grasp_loss(hand, ball, p, r, q[:4])
    with pytest.raises(ShapeError, match=r"point has shape \(\), expected \(\.\.\., 3\)"):
        wt.signed_distance(ball, torch.tensor(1.0))
    with pytest.raises(ShapeError, match=r"joint_position has shape \(5, 3\), expected \(\.\.\., 16\)"):
        wt.forward_kinematics(hand, p)


def test_wrong_types(ball):
    hand = warpgrasp.load_hand("panda")
    p, r, q = torch.zeros(3), torch.ones(4), torch.zeros(hand.joint_count)
    with pytest.raises(OptionError, match=r"hand must be of type Hand, got str; make it once.* warpgrasp.load_hand"):
        wt.grasp_loss("panda", ball, p, r, q)  # type: ignore[arg-type]
    with pytest.raises(
        OptionError, match=r"obj must be of type ObjectMesh, got str; make it once.* warpgrasp.load_object"
    ):
        wt.signed_distance("mug.obj", p)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"joint_position must be a torch.Tensor, got ndarray"):
        wt.forward_kinematics(hand, np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"point must hold real numbers, got torch.int64"):
        wt.signed_distance(ball, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(OptionError, match="no recipe named 'defaut'"):
        wt.grasp_loss(hand, ball, p, r, q, "defaut")
    with pytest.raises(OptionError, match=r"stage must be from 0 to .* for recipe 'default', got 7"):
        wt.grasp_loss(hand, ball, p, r, q, stage=7)
    with pytest.raises(OptionError, match=r"progress must be in \[0, 1\], got 1.5"):
        wt.grasp_loss(hand, ball, p, r, q, progress=1.5)
    with pytest.raises(OptionError, match="points must be a whole number of at least 1, got 0"):
        wt.grasp_loss(hand, ball, p, r, q, points=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value, ball, device):
    hand = warpgrasp.load_hand("panda")
    p, r, q = (torch.ones(4, width, device=device) for width in (3, 4, hand.joint_count))
    p[2, 1] = value
    with pytest.raises(OptionError, match=rf"wrist_position must be finite .* 1 of 4 are not, .* row 2: 1, {value}, 1"):
        wt.grasp_loss(hand, ball, p, r, q)
    with pytest.raises(OptionError, match="wrist_position must be finite"):
        wt.forward_kinematics(hand, q, p, r)
    with pytest.raises(OptionError, match="point must be finite"):
        wt.signed_distance(ball, p)


def test_a_zero_quaternion_is_refused(ball, device):
    hand = warpgrasp.load_hand("panda")
    p, r, q = (torch.zeros(2, width, device=device) for width in (3, 4, hand.joint_count))
    with pytest.raises(OptionError, match="wrist_quaternion must be finite and not all zero in every row; 2 of 2"):
        wt.grasp_loss(hand, ball, p, r, q)
