"""Forward kinematics, signed distance and the loss of grasps as functions of PyTorch tensors, with gradients.

>>> import warpgrasp.torch as wt
>>> loss = wt.grasp_loss(hand, obj, wrist_position, wrist_quaternion, joint_position)
>>> loss.mean().backward()

Tensors may have any leading shape and are computed on where they are, a CPU or a CUDA device, on PyTorch's current
stream and without a way through host memory. The computation is in float32; results and gradients of float64 tensors
are float64 again. First derivatives only. What a hand or an object needs on a device is kept between calls.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
import warp as wp
from torch.autograd.function import once_differentiable

from . import device as devices
from . import kinematics
from .descend import CPU_BATCH, GPU_BATCH, smooth_mesh, stage_skin
from .distance import FAR_DISTANCE, DeviceMesh, evaluate_signed_distance, find_closest_faces
from .errors import DeviceError, OptionError, ShapeError
from .hand import Hand
from .mesh import ObjectMesh
from .model import HandModel, hand_model
from .optimize import Descent
from .options import Recipe, Stage
from .options import recipe as find_recipe
from .pose import Pose
from .surface import SurfacePoints, object_points

CACHE_SIZE = 8
"""Hands, objects and losses that are kept on devices, the least recently used being dropped first."""

FORCE_STEPS = 100
"""Steps of the contact forces in a call, which start from nothing: their loss is then within a percent of the best."""

BATCH_SIZES = 4
"""Batch sizes for which a loss keeps its arrays."""

SPATIAL_VECTOR: Any = wp.spatial_vector

T = TypeVar("T")


def forward_kinematics(
    hand: Hand,
    joint_position: torch.Tensor,
    wrist_position: torch.Tensor | None = None,
    wrist_quaternion: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pose of every link, differentiable in all tensors.

    Every joint moves its own link: mimic joints and ranges are not enforced. ``hand.joint_map`` gives mimic joints
    from free ones.

    Args:
        hand: From :func:`warpgrasp.load_hand`.
        joint_position: Joint vectors q [rad or m], in the order of ``hand.joint_names``, shape (..., J).
        wrist_position: Base link in the frame of the result [m], shape (..., 3); the origin where omitted.
        wrist_quaternion: Its rotation, w x y z, of any length but zero, shape (..., 4); none where omitted.

    Returns:
        Homogeneous matrices from each link's frame to the frame of the wrist pose, or of the base link without one, in
        the order of ``hand.link_names``, shape (..., L, 4, 4). Leading shapes are broadcast.

    Raises:
        ShapeError: A tensor has the wrong shape.
        DeviceError: The tensors are on several devices, or on one that Warp cannot use.
        OptionError: An argument has the wrong type or holds a value that cannot work.
    """
    _require_instance("hand", hand, Hand, "warpgrasp.load_hand")
    _require_tensor("joint_position", joint_position)
    if wrist_position is None:
        wrist_position = joint_position.new_zeros(3)
    if wrist_quaternion is None:
        wrist_quaternion = torch.eye(4, dtype=joint_position.dtype, device=joint_position.device)[0]
    flat, shape, dtype = _flatten(
        wrist_position=(wrist_position, 3),
        wrist_quaternion=(wrist_quaternion, 4),
        joint_position=(joint_position, hand.joint_count),
    )
    matrix = _ForwardKinematics.apply(_tree(hand, _warp_device(flat[0].device)), *flat)[0]
    return matrix.reshape(*shape, hand.joint_count + 1, 4, 4).to(dtype)


def signed_distance(obj: ObjectMesh, point: torch.Tensor, *, phong_alpha: float = 0.0) -> torch.Tensor:
    """Distance from points to the surface of an object, negative inside; its gradient is the normal there.

    Args:
        obj: From :func:`warpgrasp.load_object`.
        point: In the object frame [m], shape (..., 3).
        phong_alpha: 0 for flat triangles, up to 1 for a surface curved by the normals between its creases.

    Returns:
        Distances [m], shape (...). Points further away than ``FAR_DISTANCE`` get that, with a gradient of zero.

    Raises:
        ShapeError: ``point`` has the wrong shape.
        DeviceError: It is on a device that Warp cannot use.
        OptionError: An argument has the wrong type or holds a value that cannot work.
    """
    _require_instance("obj", obj, ObjectMesh, "warpgrasp.load_object")
    (flat,), shape, dtype = _flatten(point=(point, 3))
    mesh = _mesh(obj, phong_alpha, _warp_device(flat.device))
    return _SignedDistance.apply(mesh, phong_alpha, flat)[0].reshape(shape).to(dtype)


def grasp_loss(
    hand: Hand,
    obj: ObjectMesh,
    wrist_position: torch.Tensor,
    wrist_quaternion: torch.Tensor,
    joint_position: torch.Tensor,
    recipe: Recipe | str = "default",
    *,
    stage: int = 0,
    progress: float = 0.0,
    points: int = 512,
) -> torch.Tensor:
    """Loss of each grasp, the one that :func:`warpgrasp.synthesize` descends, differentiable in the three tensors.

    The loss is that of the joints as they are given: each has its own gradient, mimic joints too, and neither mimics
    nor ranges are enforced. Forward and backward cost the same launches, all of them forward; one iteration of
    ``synthesize`` with a search for the closest faces.

    Args:
        hand: From :func:`warpgrasp.load_hand`.
        obj: From :func:`warpgrasp.load_object`.
        wrist_position: Hand base frame in the object frame [m], shape (..., 3).
        wrist_quaternion: Its rotation, w x y z, of any length but zero: it is normalised, and the gradient is that of
            the quaternion as given; shape (..., 4).
        joint_position: Joint vectors q [rad or m], in the order of ``hand.joint_names``, shape (..., J).
        recipe: Name of a recipe, or one of your own.
        stage: Which of the recipe's descents has the weights.
        progress: Share of that descent's schedule, from 0, its first iteration, to 1, its end.
        points: Points on the skin of the palm and the fingers, before the stage's own density.

    Returns:
        Losses, shape (...); leading shapes are broadcast.

    Raises:
        ShapeError: A tensor has the wrong shape.
        DeviceError: The tensors are on several devices, or on one that Warp cannot use.
        OptionError: An argument has the wrong type or holds a value that cannot work.
    """
    _require_instance("hand", hand, Hand, "warpgrasp.load_hand")
    _require_instance("obj", obj, ObjectMesh, "warpgrasp.load_object")
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    _require_instance("recipe", chosen, Recipe, "warpgrasp.options.recipe")
    if stage not in range(len(chosen.stages)):
        raise OptionError(f"stage must be from 0 to {len(chosen.stages) - 1} for recipe {chosen.name!r}, got {stage}")
    if not 0.0 <= progress <= 1.0:
        raise OptionError(f"progress must be in [0, 1], got {progress}")
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        raise OptionError(f"points must be a whole number of at least 1, got {points!r}")
    flat, shape, dtype = _flatten(
        wrist_position=(wrist_position, 3),
        wrist_quaternion=(wrist_quaternion, 4),
        joint_position=(joint_position, hand.joint_count),
    )
    loss = _loss(hand, obj, chosen, stage, points, _warp_device(flat[0].device))
    iteration = round(progress * chosen.stages[stage].iterations)
    return _GraspLoss.apply(loss, iteration, *flat)[0].reshape(shape).to(dtype)


def clear_cache() -> None:
    """Free what is kept on devices between calls."""
    with _cache_lock:
        wp.synchronize()
        _cache.clear()


class _Function(torch.autograd.Function):
    """Without a rule for ``torch.vmap``, and saying so."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        raise OptionError("warpgrasp.torch has no rule for torch.vmap; pass the whole batch: any leading shape will do")


class _Valued(_Function):
    """A number per row: ``forward`` takes two settings and tensors, and returns the numbers and all their gradients."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, *(gradients[0][:, None] * saved for saved in ctx.saved_tensors)


class _ForwardKinematics(_Function):
    @staticmethod
    def forward(
        model: HandModel, position: torch.Tensor, quaternion: torch.Tensor, joint_position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _require_usable(wrist_position=position, wrist_quaternion=quaternion, joint_position=joint_position)
        links = joint_position.new_empty(len(joint_position), joint_position.shape[1] + 1, 7)
        with _current_stream(links.device):
            kinematics.find_link_transforms(
                model,
                _array(_transforms(position, quaternion), wp.transform),
                _array(joint_position),
                _array(torch.empty_like(joint_position)),
                _array(links, wp.transform),
            )
        return _matrices(links), links

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        model, _, quaternion, _ = inputs
        matrix, links = output
        ctx.model = model
        ctx.save_for_backward(quaternion, matrix, links)
        ctx.mark_non_differentiable(links)
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradients[0]
        quaternion, matrix, links = ctx.saved_tensors
        # a translation moves the last column, a rotation about the frame's origin turns all four
        force = gradient[:, :, :3, 3]
        torque = torch.linalg.cross(matrix[:, :, :3], gradient[:, :, :3], dim=2).sum(dim=3)
        wrist_gradient = links.new_empty(len(links), 6)
        joint_gradient = links.new_empty(len(links), links.shape[1] - 1)
        with _current_stream(links.device):
            kinematics.find_pose_gradients(
                ctx.model,
                _array(links, wp.transform),
                _array(torch.cat([force, torque], dim=2), SPATIAL_VECTOR),
                _array(wrist_gradient, SPATIAL_VECTOR),
                _array(joint_gradient),
            )
        return None, wrist_gradient[:, :3], _quaternion_gradient(wrist_gradient[:, 3:], quaternion), joint_gradient


class _SignedDistance(_Valued):
    @staticmethod
    def forward(mesh: DeviceMesh, phong_alpha: float, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _require_usable(point=point)
        point = point.contiguous()[None]
        distance, normal, outward = point.new_empty(point.shape[:2]), torch.empty_like(point), torch.empty_like(point)
        face = torch.empty(point.shape[:2], dtype=torch.int32, device=point.device)
        with _current_stream(point.device):
            on_face = _array(point, wp.vec3), _array(face), _array(outward, wp.vec3)
            find_closest_faces(mesh, on_face[0], FAR_DISTANCE, *on_face[1:])
            evaluate_signed_distance(
                mesh,
                *on_face,
                phong_alpha=phong_alpha,
                distance_out=_array(distance),
                gradient_out=_array(normal, wp.vec3),
            )
        return distance[0], normal[0]


class _GraspLoss(_Valued):
    @staticmethod
    def forward(
        loss: _Loss, iteration: int, position: torch.Tensor, quaternion: torch.Tensor, joint_position: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        _require_usable(wrist_position=position, wrist_quaternion=quaternion, joint_position=joint_position)
        value, motion, by_joint = loss(_transforms(position, quaternion), joint_position, iteration)
        return value, motion[:, :3].contiguous(), _quaternion_gradient(motion[:, 3:], quaternion), by_joint


class _Loss:
    """The loss of a hand, an object and a stage on one device. Made once, called for every batch."""

    def __init__(self, hand: Hand, obj: ObjectMesh, recipe: Recipe, stage: Stage, points: int, device: str) -> None:
        skin = stage_skin(hand, stage, points, device)
        self.model = hand_model(_independent(hand), skin, device)
        self.mesh = smooth_mesh(obj, recipe, device)
        self.object_point = object_points(obj, stage.object_points)
        self.recipe, self.stage = recipe, stage
        self.batches: OrderedDict[int, _Batch] = OrderedDict()
        self.lock = threading.Lock()
        self.stream: torch.cuda.Stream | None = None

    def __call__(self, wrist: torch.Tensor, joint_position: torch.Tensor, iteration: int) -> tuple[torch.Tensor, ...]:
        """Loss (N,), its derivative by the wrist's motion (N, 6) and by the joints (N, J), all newly allocated."""
        size = CPU_BATCH if wrist.device.type == "cpu" else GPU_BATCH
        with self.lock, _current_stream(wrist.device):
            self._wait_for_last_use(wrist.device)
            parts = [
                self._batch(len(chunk)).evaluate(chunk, joints, iteration)
                for chunk, joints in zip(wrist.split(size), joint_position.split(size), strict=True)
            ]
        return tuple(torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))

    def _batch(self, size: int) -> _Batch:
        if size not in self.batches:
            pose = Pose(np.zeros((size, 3)), np.tile([1.0, 0.0, 0.0, 0.0], (size, 1)), self._open(size))
            descent = Descent(
                self.model,
                self.mesh,
                self.object_point,
                pose,
                self.stage,
                phong_alpha=self.recipe.phong_alpha,
                phong_mode=self.recipe.phong_mode,
            )
            self.batches[size] = _Batch(descent)
        self.batches.move_to_end(size)
        while len(self.batches) > BATCH_SIZES:
            self.batches.popitem(last=False)
        return self.batches[size]

    def _open(self, size: int) -> np.ndarray:
        return np.tile(self.model.hand.open_position, (size, 1))

    def _wait_for_last_use(self, device: torch.device) -> None:
        """The arrays are shared by all calls, which may come on different streams."""
        if device.type == "cuda":
            stream = torch.cuda.current_stream(device)
            if self.stream is not None and self.stream != stream:
                stream.wait_stream(self.stream)
            self.stream = stream


class _Batch:
    """The arrays of a descent as tensors that share their memory."""

    def __init__(self, descent: Descent) -> None:
        state = descent.state
        self.descent = descent
        self.wrist = wp.to_torch(state.wrist)
        self.joint_position = wp.to_torch(state.free_position)
        self.losses = [wp.to_torch(part).unsqueeze(-1).flatten(start_dim=1) for part in descent.loss_parts()]
        self.gradients = wp.to_torch(state.wrist_gradient), wp.to_torch(state.free_gradient)

    def evaluate(self, wrist: torch.Tensor, joint_position: torch.Tensor, iteration: int) -> tuple[torch.Tensor, ...]:
        self.wrist.copy_(wrist)
        self.joint_position.copy_(joint_position)
        self.descent.restart()
        self.descent.state.iteration.fill_(iteration)
        self.descent.find_gradient(search=True)
        loss = reduce(torch.add, (part.sum(dim=1) for part in self.losses))
        return loss, *(gradient.clone() for gradient in self.gradients)


_cache: OrderedDict[tuple, Any] = OrderedDict()
_cache_lock = threading.RLock()
_stream_lock = threading.RLock()


def _cached(key: tuple, make: Callable[[], T]) -> T:
    with _cache_lock:
        if key not in _cache:
            _cache[key] = make()
            wp.synchronize()  # from here on, it may be used on any stream, and others dropped
        _cache.move_to_end(key)
        while len(_cache) > CACHE_SIZE:
            _cache.popitem(last=False)
        return _cache[key]


def _tree(hand: Hand, device: str) -> HandModel:
    nothing = SurfacePoints(np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    return _cached(("tree", hand.hash, device), lambda: hand_model(_independent(hand), nothing, device))


def _mesh(obj: ObjectMesh, phong_alpha: float, device: str) -> DeviceMesh:
    key = ("mesh", obj.content_hash, phong_alpha, device)
    return _cached(key, lambda: DeviceMesh(obj, device, phong_alpha=phong_alpha))


def _loss(hand: Hand, obj: ObjectMesh, recipe: Recipe, stage: int, points: int, device: str) -> _Loss:
    key = ("loss", hand.hash, obj.content_hash, recipe, stage, points, device)
    return _cached(key, lambda: _Loss(hand, obj, recipe, settled(recipe.stages[stage]), points, device))


def settled(stage: Stage) -> Stage:
    """The same stage, with enough steps for forces that start from nothing in every call."""
    return dataclasses.replace(stage, balance=dataclasses.replace(stage.balance, steps=FORCE_STEPS))


def _independent(hand: Hand) -> Hand:
    """The hand with every joint free: whoever gives J joint positions wants J gradients."""
    return dataclasses.replace(hand, mimics=())


def _warp_device(device: torch.device) -> str:
    """Name of the Warp device on which a tensor is."""
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"the tensors are on {str(device)!r}; move them to the CPU or a CUDA device")
    return devices.choose("cpu" if device.type == "cpu" else f"cuda:{device.index or 0}")


@contextmanager
def _current_stream(device: torch.device) -> Iterator[None]:
    """Launch on PyTorch's current stream, so that its work before and after is in order."""
    if device.type == "cpu":
        yield
        return
    # Warp has one current stream per device for all threads, and autograd has a thread of its own.
    with _stream_lock, wp.ScopedStream(wp.stream_from_torch(device)):
        yield


def _array(tensor: torch.Tensor, dtype: Any = None) -> wp.array:
    """The tensor's memory as a Warp array."""
    if not tensor.numel():
        tensor = tensor.new_empty(tensor.shape)  # PyTorch allows strides here that Warp does not
    return wp.from_torch(tensor, dtype, requires_grad=False)


def _require_instance(name: str, value: object, kind: type, maker: str) -> None:
    if not isinstance(value, kind):
        raise OptionError(
            f"{name} must be of type {kind.__name__}, got {type(value).__name__}; make it once, before the loop, "
            f"with {maker}(...)"
        )


def _require_tensor(name: str, value: object) -> None:
    if not isinstance(value, torch.Tensor):
        raise OptionError(f"{name} must be a torch.Tensor, got {type(value).__name__}; torch.as_tensor makes one")
    if not value.is_floating_point():
        raise OptionError(f"{name} must hold real numbers, got {value.dtype}; {name}.float() converts it")


def _flatten(**inputs: tuple[torch.Tensor, int]) -> tuple[list[torch.Tensor], torch.Size, torch.dtype]:
    """Tensors as float32 of shape (N, width), the leading shape that they broadcast to, and the results' dtype."""
    tensors = {name: tensor for name, (tensor, _) in inputs.items()}
    for name, (tensor, width) in inputs.items():
        _require_tensor(name, tensor)
        if tensor.ndim == 0 or tensor.shape[-1] != width:
            raise ShapeError(name, f"(..., {width})", tuple(tensor.shape))
    if len({tensor.device for tensor in tensors.values()}) > 1:
        places = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise DeviceError(f"the tensors must be on one device, got {places}; move them with .to(device)")
    shape = torch.Size()
    for name, tensor in tensors.items():
        try:
            shape = torch.broadcast_shapes(shape, tensor.shape[:-1])
        except RuntimeError:
            expected = f"a leading shape that broadcasts with {tuple(shape)}"
            raise ShapeError(name, expected, tuple(tensor.shape)) from None
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values()), torch.float32)
    flat = [t.expand(*shape, t.shape[-1]).reshape(shape.numel(), t.shape[-1]).float() for t in tensors.values()]
    return flat, shape, dtype


def _require_usable(**tensors: torch.Tensor) -> None:
    """Raise for what would give numbers without a meaning. The host waits for the device once."""
    good = {name: tensor.isfinite().all(dim=1) for name, tensor in tensors.items()}
    if "wrist_quaternion" in tensors:
        good["wrist_quaternion"] &= tensors["wrist_quaternion"].norm(dim=1) > 1e-12
    if all(torch.stack([rows.all() for rows in good.values()]).tolist()):
        return
    for name, rows in good.items():
        bad = torch.nonzero(~rows).flatten().tolist()
        if bad:
            values = ", ".join(f"{value:g}" for value in tensors[name][bad[0]].tolist())
            rule = "finite and not all zero" if name == "wrist_quaternion" else "finite"
            raise OptionError(
                f"{name} must be {rule} in every row; {len(bad)} of {len(rows)} are not, the first is row {bad[0]}: "
                f"{values}"
            )


def _transforms(position: torch.Tensor, quaternion: torch.Tensor) -> torch.Tensor:
    """Warp transforms, shape (N, 7), from positions and quaternions w x y z of any length."""
    unit = quaternion / quaternion.norm(dim=1, keepdim=True)
    return torch.cat([position, unit.roll(-1, dims=1)], dim=1)


def _matrices(transform: torch.Tensor) -> torch.Tensor:
    """Homogeneous matrices, shape (..., 4, 4), of Warp transforms (..., 7)."""
    position, (x, y, z, w) = transform[..., :3], transform[..., 3:].unbind(dim=-1)
    matrix = transform.new_zeros(*transform.shape[:-1], 4, 4)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    matrix[..., :3, :3] = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    matrix[..., :3, 3] = position
    matrix[..., 3, 3] = 1.0
    return matrix


def _quaternion_gradient(by_rotation: torch.Tensor, quaternion: torch.Tensor) -> torch.Tensor:
    """Derivative by a quaternion q, w x y z, from the one by rotations g about the axes of the object frame.

    A change dq turns by omega = 2 vec(dq q*) / |q|^2, so dL/dq = 2 (0, g) q / |q|^2. It is orthogonal to q: the length
    does not matter.
    """
    w, v = quaternion[:, :1], quaternion[:, 1:]
    product = [-(by_rotation * v).sum(dim=1, keepdim=True), w * by_rotation + torch.linalg.cross(by_rotation, v)]
    return 2.0 * torch.cat(product, dim=1) / (quaternion * quaternion).sum(dim=1, keepdim=True)
