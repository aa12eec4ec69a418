"""Where an arm's flange is, by kinematics that were not written here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from warpgrasp.arm import Arm
from warpgrasp.physics.engine import mujoco


def flange_by_mujoco(arm: Arm, theta: np.ndarray) -> np.ndarray:
    """Flanges (N, 4, 4) at joints (N, n) by MuJoCo, from the arm's file."""
    keep_frames = '<mujoco><compiler fusestatic="false"/></mujoco><link'
    model = mujoco().MjModel.from_xml_string(arm.path.read_text().replace("<link", keep_frames, 1))
    data = mujoco().MjData(model)
    poses = np.tile(np.eye(4), (len(theta), 1, 1))
    for row, pose in zip(theta, poses, strict=True):
        data.qpos[:] = row
        mujoco().mj_kinematics(model, data)
        pose[:3, 3] = data.body(arm.flange).xpos
        pose[:3, :3] = data.body(arm.flange).xmat.reshape(3, 3)
    return poses


def flange_by_torch(arm: Arm, theta: np.ndarray) -> np.ndarray:
    """The same by pytorch-kinematics."""
    import pytorch_kinematics as pk

    chain: Any = pk.build_serial_chain_from_urdf(arm.path.read_bytes(), arm.flange).to(dtype=torch.float64)
    assert tuple(chain.get_joint_parameter_names()) == arm.joint_names
    return chain.forward_kinematics(torch.from_numpy(theta)).get_matrix().numpy()
