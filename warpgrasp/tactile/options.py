"""What a soft-body check does, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import OptionError


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """How grasps are closed and pulled, the same for every backend."""

    mass: float = 0.1
    """Of the object [kg]."""

    gravity: float = 9.81
    """In each of six directions along the object's axes [m/s²]."""

    force: float = 5.0
    """Largest behind any finger [N]: the forces of the squeeze's springs are scaled down together until none is
    larger."""

    rigid_friction: float = 0.6
    """Coulomb's coefficient where links without a pad touch."""

    hold: str = "position"
    """While gravity pulls: ``"position"`` holds the joints where closing has left them, ``"force"`` keeps pressing."""

    least_fingers: int = 2
    """Fingers that must touch, with a pad or another link, or all where the hand has fewer."""

    largest_displacement: float = 0.005
    """Of the object's centre of mass under gravity [m]."""

    largest_rotation: float = np.radians(5.0)
    """[rad]"""

    largest_residual: float = 1.0e-3
    """Force or torque per length that stays unbalanced, as a share of the sum of all contact forces; a backend that
    goes in time steps is judged by displacement instead."""

    least_carried: float = 0.998
    """Share of the weight that the contacts must carry in every direction."""

    largest_strain: float = 0.3
    """Beyond it linear elasticity is no description any more."""

    def __post_init__(self) -> None:
        for name in ("mass", "gravity", "force", "largest_displacement", "largest_rotation", "largest_residual"):
            value = getattr(self, name)
            if not (value > 0.0 and np.isfinite(value)):
                raise OptionError(f"{name} must be positive, got {value}")
        if not (self.rigid_friction >= 0.0 and np.isfinite(self.rigid_friction)):
            raise OptionError(f"rigid_friction must be 0 or larger, got {self.rigid_friction}")
        if self.hold not in {"position", "force"}:
            raise OptionError(f"hold must be 'position' or 'force', got {self.hold!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Solver:
    """Of the quasistatic backend."""

    closing_steps: int = 4
    """Load steps while fingers close; gaps and normals are found anew in each."""

    gravity_steps: int = 2
    """Load steps in each direction of gravity."""

    iterations: int = 60
    """Of the method of multipliers in each load step but the last ones."""

    closing_iterations: int = 300
    """In the last step of closing."""

    gravity_iterations: int = 120
    """In the last step of each direction."""

    extra_iterations: tuple[int, ...] = (240, 480, 960)
    """What grasps that are not in balance after that get on top, one further load step each."""

    penalty: float = 20.0
    """rho, as a multiple of the geometric mean of the pads' compliances."""

    rigid_compliance: float = 1.0e-5
    """Of a contact of a rigid link [m/N]."""

    rigid_penalty: float = 3.0e-4
    """rho of such a contact [m/N]."""

    proximal: float = 1.0e-3
    """Weight that keeps motions near their last values, as a share of the mean of their equations' diagonal."""

    degree: int = 2
    """Of the pads' displacements; linear ones (1) are too stiff and serve comparisons with other engines only."""

    rigid_contacts: int = 24
    """Most contacts of links without pads; 0: only pads touch."""

    def __post_init__(self) -> None:
        for name in ("closing_steps", "gravity_steps", "iterations", "closing_iterations", "gravity_iterations"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.degree not in {1, 2}:
            raise OptionError(f"degree must be 1 or 2, got {self.degree}")
        for name in ("penalty", "rigid_compliance", "rigid_penalty", "proximal"):
            if not getattr(self, name) > 0.0:
                raise OptionError(f"{name} must be positive, got {getattr(self, name)}")
