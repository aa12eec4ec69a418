"""What pads are made of."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from ..errors import OptionError


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """A soft, isotropic pad material, linear for small strains."""

    name: str

    youngs_modulus: float
    """E [Pa]"""

    poisson_ratio: float
    """In [0, 0.5); an incompressible material has 0.5, which displacements alone cannot describe."""

    density: float
    """[kg/m³]"""

    friction: float
    """Coulomb's coefficient between pad and object."""

    damping: float = 0.005
    """Of motion, as a time: viscous stress is this times E times the strain rate [s]. Dynamic backends only."""

    source: str = ""
    """Where the numbers come from."""

    def __post_init__(self) -> None:
        positive = {"youngs_modulus": self.youngs_modulus, "density": self.density}
        for name, value in positive.items():
            if not (value > 0.0 and np.isfinite(value)):
                raise OptionError(f"{name} of {self.name!r} must be positive, got {value}")
        if not 0.0 <= self.poisson_ratio < 0.5:
            raise OptionError(f"poisson_ratio of {self.name!r} must be in [0, 0.5), got {self.poisson_ratio}")
        for name, value in {"friction": self.friction, "damping": self.damping}.items():
            if not (value >= 0.0 and np.isfinite(value)):
                raise OptionError(f"{name} of {self.name!r} must be 0 or larger, got {value}")


SILICONE = Material(
    name="silicone",
    youngs_modulus=3.0e5,
    poisson_ratio=0.45,
    density=1070.0,
    friction=0.8,
    source="soft casting silicone of Shore A 6: E by Gent 1958 from the hardness; density as data sheets of casting "
    "silicones give it; friction of dry silicone on plastic, 0.6 to 1.1, taken low",
)

RUBBER = Material(
    name="rubber",
    youngs_modulus=1.7e6,
    poisson_ratio=0.48,
    density=1100.0,
    friction=0.9,
    source="natural rubber of Shore A 40: E by Gent 1958 from the hardness; friction of dry rubber on plastic",
)

BIOTAC = Material(
    name="biotac",
    youngs_modulus=1.476e6,
    poisson_ratio=0.3185,
    density=1000.0,
    friction=0.783,
    source="a BioTac's skin as Narang et al. 2021 calibrated it, from their published simulation (NVlabs/biotac_sim: "
    "biotac.urdf, sim_biotac.py); the fluid under it is not modelled, so a layer on a rigid core is stiffer",
)

MATERIALS = {material.name: material for material in (SILICONE, RUBBER, BIOTAC)}


def gent_modulus(shore_a: float) -> float:
    """Young's modulus [Pa] of rubber from its Shore A hardness in (0, 100).

    E = 0.0981 MPa (56 + 7.62336 S) / (0.137505 (254 - 2.54 S))

    Raises:
        OptionError: The hardness is out of range.

    Source:
        Gent 1958, On the relation between indentation hardness and Young's modulus.
    """
    if not 0.0 < shore_a < 100.0:
        raise OptionError(f"a Shore A hardness must be in (0, 100), got {shore_a}")
    return 0.0981e6 * (56.0 + 7.62336 * shore_a) / (0.137505 * (254.0 - 2.54 * shore_a))


def find_material(material: Material | str) -> Material:
    """The preset of that name, or the material itself.

    Raises:
        OptionError: There is none of that name.
    """
    if isinstance(material, Material):
        return material
    if material not in MATERIALS:
        close = difflib.get_close_matches(str(material), MATERIALS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptionError(f"there is no material {material!r}.{hint} There are: {', '.join(MATERIALS)}.")
    return MATERIALS[material]
