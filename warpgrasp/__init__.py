"""Differentiable dexterous grasp synthesis on NVIDIA Warp.

>>> import warpgrasp
>>> grasps = warpgrasp.synthesize("allegro", "mug.obj", count=16)
>>> grasps.save("mug.npz")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import ArmError as ArmError
from .errors import ArmNotFoundError as ArmNotFoundError
from .errors import ContactError as ContactError
from .errors import DeviceError as DeviceError
from .errors import FileFormatError as FileFormatError
from .errors import HandError as HandError
from .errors import HandNotFoundError as HandNotFoundError
from .errors import MeshError as MeshError
from .errors import MountError as MountError
from .errors import OptionError as OptionError
from .errors import ShapeError as ShapeError
from .errors import WarpgraspError as WarpgraspError

if TYPE_CHECKING:
    from .arm import Arm as Arm
    from .arm_file import load_arm as load_arm
    from .arm_plan import ArmPlan as ArmPlan
    from .distance import signed_distance as signed_distance
    from .evaluation import evaluate as evaluate
    from .formats import export as export
    from .hand import Hand as Hand
    from .hand_file import load_hand as load_hand
    from .mesh import ObjectMesh as ObjectMesh
    from .mesh import load_object as load_object
    from .mount import Mount as Mount
    from .obstacles import Obstacles as Obstacles
    from .options import Recipe as Recipe
    from .pose import Pose as Pose
    from .reach import MountedArm as MountedArm
    from .reach import mount_arm as mount_arm
    from .rechecking import recheck as recheck
    from .resting import RestingPose as RestingPose
    from .resting import settle as settle
    from .result import Grasps as Grasps
    from .result import load_grasps as load_grasps
    from .spread import diversity as diversity
    from .synthesis import synthesize as synthesize
    from .validation import validate as validate

__version__ = "0.1.0"

# Imported on first use, so that `import warpgrasp` does not wait for Warp.
_LAZY = {
    "Arm": "arm",
    "ArmPlan": "arm_plan",
    "Grasps": "result",
    "Hand": "hand",
    "Mount": "mount",
    "MountedArm": "reach",
    "ObjectMesh": "mesh",
    "Obstacles": "obstacles",
    "Pose": "pose",
    "Recipe": "options",
    "RestingPose": "resting",
    "diversity": "spread",
    "evaluate": "evaluation",
    "export": "formats",
    "load_arm": "arm_file",
    "load_grasps": "result",
    "load_hand": "hand_file",
    "load_object": "mesh",
    "mount_arm": "reach",
    "settle": "resting",
    "recheck": "rechecking",
    "signed_distance": "distance",
    "synthesize": "synthesis",
    "validate": "validation",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
