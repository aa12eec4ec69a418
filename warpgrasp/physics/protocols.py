"""What a physics test does, as numbers: frozen settings, one instance per published protocol."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from ..errors import OptionError

DIRECTIONS = {
    "-x": (-1.0, 0.0, 0.0),
    "+x": (1.0, 0.0, 0.0),
    "-y": (0.0, -1.0, 0.0),
    "+y": (0.0, 1.0, 0.0),
    "-z": (0.0, 0.0, -1.0),
    "+z": (0.0, 0.0, 1.0),
}
"""Pulls by name, in the object frame at the start, or in the table's where there is one."""

SIX = tuple(DIRECTIONS)


class Motor(NamedTuple):
    """What a hand's joints feel besides their springs. Labels depend on it, and a URDF does not say it."""

    hand: str
    """Start of the hand's name; "" is every hand."""

    damping: float
    """[N m s/rad]"""

    armature: float
    """Reflected inertia of the motor [kg m²]."""

    friction: float
    """[N m]"""

    torque_limit: float
    """[N m]; 0: none."""


MOTORS = (
    Motor("shadow", 0.05, 2.0e-4, 0.01, 3.0),
    Motor("", 0.1, 2.0e-4, 0.0, 0.0),
)
"""The first that fits counts. Shadow: mujoco_menagerie's joints, DexGraspBench's limit. Others: damping as in
mujoco_menagerie's Allegro, armature as in its Shadow. Without armature, as that Allegro has it, a step of 4 ms does
not resolve the fingers' shaking: labels of every fourth grasp then depend on the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """One physics test of a grasp. Use :func:`dataclasses.replace` for a variant, and give it a name of its own."""

    name: str
    """Every metric's key carries it."""

    source: str
    """Where the numbers come from."""

    time_step: float
    """[s]"""

    friction: tuple[float, float, float]
    """Sliding, torsional [m] and rolling [m] friction of all geometry."""

    condim: int = 4
    """Directions of a contact's force: 3 slides, 4 also spins, 6 also rolls."""

    impratio: float = 10.0
    """How much stiffer friction is than the normal force."""

    noslip_iterations: int = 2
    """Iterations that take away what slip the soft friction leaves."""

    several_contacts: bool = False
    """Whether two convex pieces may touch at several points (``multiccd``); off in MuJoCo before 3.8."""

    hand_solref: tuple[float, float] = (0.005, 1.0)
    """Time constant [s] and damping ratio of the hand's contacts."""

    hand_solimp: tuple[float, float, float] = (0.5, 0.99, 0.0001)
    """Impedance at no and full depth, and that depth [m], of the hand's contacts."""

    object_solref: tuple[float, float] = (0.02, 1.0)
    """The same of the object's; MuJoCo takes the mean of the two. The default is MuJoCo's."""

    object_solimp: tuple[float, float, float] = (0.9, 0.95, 0.001)
    """See above."""

    mass: float | None = 0.1
    """Of the object [kg]; ``None`` where ``density`` gives it."""

    density: float = 0.0
    """Of the object [kg/m³], used where ``mass`` is ``None``."""

    linear_damping: float = 0.0
    """Share of its speed that the free object loses in a second [1/s]."""

    stiffness: float = 5.0
    """Of the position actuators [N m/rad]; sliding joints get the same at a lever of ``LEVER``."""

    drive_damping: float = 0.0
    """Of the hand's joints, beside their motors' own [N m s/rad]; sliding joints get the same at ``LEVER``."""

    motors: tuple[Motor, ...] = MOTORS
    """Of the hand's joints; sliding joints get the same at a lever of ``LEVER``."""

    effort_limits: bool = False
    """Whether the hand's own largest torques apply."""

    static_hand: bool = False
    """Whether nothing moves the hand, whatever the force."""

    close: bool = True
    """Whether the trial goes pregrasp, grasp, squeeze; otherwise it begins at the grasp, its targets the squeeze."""

    close_time: float = 0.4
    """From pregrasp to grasp, and again from grasp to squeeze [s]."""

    close_targets: int = 10
    """Targets on either way, each held for its share of ``close_time``."""

    directions: tuple[str, ...] = SIX
    """The pulls, each from the same state."""

    acceleration: float = 10.0
    """Force of a pull divided by the object's mass [m/s²]."""

    pull_time: float = 2.0
    """[s]"""

    checks: int = 10
    """How often the criterion is looked at in that time."""

    criterion: Literal["pose", "contact", "none"] = "pose"
    """Held: the object stays within the two limits below; some contact is left at the end; or nothing is judged."""

    largest_displacement: float = 0.05
    """Of the centre of mass from its initial position [m]."""

    largest_rotation: float = np.pi / 12.0
    """From the initial orientation [rad]."""

    largest_start_penetration: float = 0.01
    """Hand in object or link in link where the trial begins [m]."""

    largest_grasp_penetration: float = np.inf
    """Hand in object at the grasp [m]."""

    lift_height: float = 0.0
    """The hand lifts the object this far off a table, along its normal [m]; 0: there is no table. The object rests on
    it as ``Grasps.table`` says, or with +z up. Gravity then acts all the time."""

    lift_time: float = 1.0
    """[s]"""

    shake_amplitude: float = 0.0
    """Of a shake along x, y and z of the table after the hold [m]."""

    shake_frequency: float = 2.0
    """[Hz]"""

    shake_time: float = 1.0
    """Along each axis [s]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.time_step <= 0.02:
            raise OptionError(f"time_step must be in (0, 0.02] s, got {self.time_step}")
        unknown = set(self.directions) - set(DIRECTIONS)
        if unknown:
            raise OptionError(f"directions must be among {', '.join(DIRECTIONS)}, got {', '.join(sorted(unknown))}")
        if (self.mass or self.density) <= 0.0:
            raise OptionError("a protocol needs a positive mass or density of the object")

    def motor(self, hand: str) -> Motor:
        """Of the hand of that name."""
        return next(motor for motor in self.motors if hand.startswith(motor.hand))

    def steps(self, seconds: float) -> int:
        """Time steps in a time, at least one."""
        return max(1, round(seconds / self.time_step))


LEVER = 0.05
"""Length that turns the stiffness of a hinge into that of a slide: K / LEVER² [m]."""

FC6 = Protocol(
    name="fc6",
    source="DexGraspBench fc_mocap: six pulls of 10 m/s² times 0.1 kg, no gravity, 5 cm and 15 degrees",
    time_step=0.004,
    friction=(0.6, 0.02, 0.0001),
)

REBUILT = Protocol(
    name="rebuilt",
    source="what the protocols rebuilt from other engines share",
    time_step=1.0 / 240.0,
    friction=(9.0, 0.005, 0.0001),
    condim=3,
    impratio=1.0,
    several_contacts=True,
    hand_solref=(0.02, 1.0),
    hand_solimp=(0.9, 0.95, 0.001),
    close=False,
    acceleration=9.8,
    checks=1,
    largest_start_penetration=np.inf,
)
"""Not a protocol of its own, and not listed as one."""

DGN6 = replace(
    REBUILT,
    name="dgn6",
    source="DexGraspNet isaac_validator: gravity from six sides for 1.67 s, friction 3, some contact left",
    # Contacts as hard as this step allows. MuJoCo's own yield by centimetres to fingers at their torque limits, which
    # then throw the object; PhysX's do not yield.
    time_step=1.0 / 480.0,
    hand_solref=(0.005, 1.0),
    hand_solimp=(0.5, 0.99, 0.0001),
    object_solref=(0.005, 1.0),
    object_solimp=(0.5, 0.99, 0.0001),
    friction=(3.0, 0.005, 0.0001),
    mass=None,
    density=500.0,
    stiffness=1000.0,
    # PhysX integrates the spring implicitly; at its torque limit MuJoCo cannot, so that free fingers would rattle.
    drive_damping=1.0,
    effort_limits=True,
    pull_time=100.0 / 60.0,
    criterion="contact",
    largest_grasp_penetration=0.001,
)

GENDEX6 = replace(
    DGN6,
    name="gendex6",
    source="GenDexGrasp: six pushes of 0.5 m/s² for 0.83 s, friction 10, linear damping 10/s, 2 cm",
    friction=(10.0, 0.005, 0.0001),
    density=1.0e4,
    linear_damping=10.0,
    acceleration=0.5,
    pull_time=50.0 / 60.0,
    criterion="pose",
    largest_displacement=0.02,
    largest_rotation=np.inf,
    largest_grasp_penetration=np.inf,
)

SD_OBMAN = replace(
    REBUILT,
    name="sd_obman",
    source="obman, GHANds, Grasp'D: static hand, 35 steps of 1/240 s under gravity, 1 kg, friction 3 x 3",
    mass=1.0,
    static_hand=True,
    directions=("-z",),
    pull_time=35.0 / 240.0,
    criterion="none",
)

SD_2S = replace(SD_OBMAN, name="sd_2s", source="as sd_obman, for 2 s", pull_time=2.0)

LIFT = Protocol(
    name="lift",
    source="warpgrasp: off a table by 0.1 m, 2 s held, shaken by 2 cm at 2 Hz; contacts as in fc6",
    time_step=0.004,
    friction=(0.6, 0.02, 0.0001),
    directions=("-z",),
    acceleration=9.81,
    lift_height=0.1,
    shake_amplitude=0.02,
)

PROTOCOLS = {item.name: item for item in (FC6, DGN6, GENDEX6, SD_OBMAN, SD_2S, LIFT)}

ALIASES = {"sd": "sd_obman"}


def find_protocol(protocol: Protocol | str) -> Protocol:
    """The protocol of that name, or the protocol itself.

    Raises:
        OptionError: There is none of that name, or a variant goes under the name of the original.
    """
    if isinstance(protocol, Protocol):
        if PROTOCOLS.get(protocol.name, protocol) != protocol:
            raise OptionError(f"this is not {protocol.name!r} any more: give the variant a name of its own")
        if not protocol.name.isidentifier():
            raise OptionError(f"a protocol's name is part of keys; {protocol.name!r} should be letters and digits")
        return protocol
    name = ALIASES.get(protocol, protocol)
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(str(name), [*PROTOCOLS, *ALIASES], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptionError(f"there is no protocol {name!r}.{hint} There are: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
