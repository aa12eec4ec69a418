"""What a grasp takes is what is allocated for it; batches that do not fit are cut, and that changes nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import trimesh
import warp as wp

from warpgrasp import descend, memory
from warpgrasp import device as devices
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand_file import load_hand
from warpgrasp.initialize import starting_poses
from warpgrasp.memory import FREE_SHARE, allocated_bytes, bytes_per_grasp
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import RECIPES, Dynamics, Stage
from warpgrasp.self_collision import apart
from warpgrasp.surface import grasping_links, object_points, surface_points
from warpgrasp.synthesis import synthesize

STAGES = {
    "default": RECIPES["default"].stages[0],
    "balance": Stage(iterations=2, balance_weight=1.0),
    "jacobi": Stage(iterations=2, stability_weight=1.0, dynamics=Dynamics(simulations=13, steps=3)),
    "gauss-seidel": RECIPES["paper"].stages[0],
    "exact": Stage(iterations=2, stability_weight=1.0, dynamics=Dynamics(exact=True, steps=2)),
}
every_stage = pytest.mark.parametrize("name", STAGES)


@pytest.fixture
def held(device, monkeypatch) -> dict[int, int]:
    """Bytes of every block that was allocated on the device since, and not freed."""
    allocator: Any = wp.get_device_allocator(device)
    blocks: dict[int, int] = {}
    allocate, deallocate = allocator.allocate, allocator.deallocate

    def watched_allocate(size_in_bytes: int) -> int:
        ptr = allocate(size_in_bytes)
        blocks[ptr] = size_in_bytes
        return ptr

    def watched_deallocate(ptr: int, size_in_bytes: int) -> None:
        blocks.pop(ptr, None)
        deallocate(ptr, size_in_bytes)

    monkeypatch.setattr(allocator, "allocate", watched_allocate)
    monkeypatch.setattr(allocator, "deallocate", watched_deallocate)
    return blocks


def prepared(device: str, points: int, inner: int, stage: Stage, count: int, hand_name: str = "barrett"):
    """What a descent takes: model, mesh, object points, starting poses and stage."""
    hand, obj = load_hand(hand_name), load_object(trimesh.creation.box((0.05, 0.06, 0.07)))
    model = hand_model(hand, surface_points(hand, points, links=grasping_links(hand), device=device), device)
    start = starting_poses(hand, obj, count, distance=0.06, joint_noise=0.1, rng=np.random.default_rng(0))
    return model, DeviceMesh(obj, device), object_points(obj, inner), start, stage


@every_stage
@pytest.mark.parametrize(
    ("hand", "points", "inner", "count"), [("barrett", 24, 0, 2), ("shadow", 200, 64, 3), ("barrett", 65, 256, 40)]
)
def test_every_grasp_takes_what_is_said(name, hand, points, inner, count, device, held):
    model, mesh, object_point, start, stage = prepared(device, points, inner, STAGES[name], count, hand)
    per_grasp = bytes_per_grasp(model, mesh, object_point, stage)
    taken = []
    for grasps in (1, count):
        held.clear()
        descent = Descent(model, mesh, object_point, start[:grasps], stage)
        taken.append(sum(held.values()))
        assert allocated_bytes(descent, shared=(model, mesh)) == taken[-1]
    assert taken[1] - taken[0] == (count - 1) * per_grasp
    common = taken[0] - per_grasp
    pairs = len(apart(model.hand)) if stage.pair_weight else 0
    small = 16 * (stage.iterations + 1) + 4 * (points + inner) + 16 * pairs + 1000
    assert 0 < common < small, "what grasps share is little"


def test_more_points_simulations_and_steps_take_more(device):
    def taken(points: int = 64, inner: int = 64, **dynamics) -> int:
        stage = dataclasses.replace(STAGES["jacobi"], dynamics=Dynamics(**dynamics))
        model, mesh, object_point, _, stage = prepared(device, points, inner, stage, 1)
        return bytes_per_grasp(model, mesh, object_point, stage)

    base = taken()
    assert taken(points=128) - base == taken(points=192) - taken(points=128) > 64 * 100
    assert taken(inner=128) - base > 64 * 36
    assert taken(simulations=13) - base == 6 * (28 + 88 + 4)  # 4: the weighted loss
    assert taken(steps=2) - base == 7 * 88
    assert taken(solver="gauss-seidel") - base == 7 * 64 * (24 + 28)


@pytest.mark.parametrize("room", [0.0, 1.0, 3.4, 100.0])
@every_stage
def test_batches_that_do_not_fit_are_cut(name, room, device, monkeypatch):
    """To the grasps there is room for, at least one; the result stays the same to the bit."""
    stage = dataclasses.replace(STAGES[name], iterations=2)
    model, mesh, object_point, start, stage = prepared(device, 40, 32, stage, 8)
    whole = descend.run_stage(model, mesh, object_point, start, stage)
    sizes = []

    class Watched(Descent):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            sizes.append(len(self))

    free = room * bytes_per_grasp(model, mesh, object_point, stage) / FREE_SHARE
    monkeypatch.setattr(memory, "free_bytes", lambda device: free + 1e-3)
    monkeypatch.setattr(descend, "Descent", Watched)
    pose, loss = descend.run_stage(model, mesh, object_point, start, stage)
    assert sum(sizes) == 8
    assert max(sizes) <= max(1, int(room))
    if name == "exact":  # atomics
        np.testing.assert_allclose(pose.wrist_position, whole[0].wrist_position, atol=1e-6)
        return
    np.testing.assert_array_equal(loss, whole[1])
    for field in ("wrist_position", "wrist_quaternion", "joint_position"):
        np.testing.assert_array_equal(getattr(pose, field), getattr(whole[0], field))


def test_one_round_is_let_go_before_the_next(device, monkeypatch):
    """Otherwise two of them would have to fit."""
    model, mesh, object_point, start, stage = prepared(device, 40, 32, Stage(iterations=1), 8)
    alive, most = set(), []

    class Watched(Descent):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            alive.add(id(self))
            most.append(len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    monkeypatch.setattr(memory, "free_bytes", lambda device: 1.0)
    monkeypatch.setattr(descend, "Descent", Watched)
    monkeypatch.setattr(descend.os, "sched_getaffinity", lambda process: {0})
    descend.run_stage(model, mesh, object_point, start, stage)
    assert most == [1] * 8


def test_hands_in_batches_are_the_same_to_the_bit(device, monkeypatch):
    """Starts, pregrasps, squeezes and labels, in batches of two and one, on a table."""

    def found():
        box = trimesh.creation.box((0.05, 0.06, 0.08))
        return synthesize("barrett", box, count=5, iterations=30, table=True, device=device)

    whole = found()
    monkeypatch.setattr(devices, "CPU_BATCH", 2)
    monkeypatch.setattr(devices, "GPU_BATCH", 2)
    assert [len(range(5)[rows]) for rows in devices.batches(5, device)] == [2, 2, 1]
    assert [len(range(0)[rows]) for rows in devices.batches(0, device)] == [0]
    cut = found()
    for phase, pose in whole.phases.items():
        for name, values in vars(pose).items():
            np.testing.assert_array_equal(getattr(cut.phases[phase], name), values)
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(cut.metrics[name], values)
