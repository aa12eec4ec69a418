"""The part of ``isaacgym.gymapi`` (Preview 4) that the worker uses, from its documentation.

``STAND_IN_STATE`` names an .npz with the vertices (grasp, vertex, 3), the stress of all tetrahedra (3, 3), the normal
force of every soft contact, and how far the object is; ``STAND_IN_CALLS`` a file for the names of all calls, in order.
"""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOptionalMemberAccess=false

import os
import xml.etree.ElementTree as ET

import numpy as np

SIM_FLEX, SIM_PHYSX = 1, 0
DOF_MODE_NONE, DOF_MODE_POS, DOF_MODE_VEL, DOF_MODE_EFFORT = range(4)
STATE_NONE, STATE_POS, STATE_VEL, STATE_ALL = range(4)
DOMAIN_ENV, DOMAIN_SIM, DOMAIN_ACTOR = range(3)
ENV_SPACE, LOCAL_SPACE, GLOBAL_SPACE = range(3)

DOF_STATE = np.dtype([("pos", "f4"), ("vel", "f4")])
DOF_PROPERTIES = np.dtype([("driveMode", "i4"), ("stiffness", "f4"), ("damping", "f4")])
VECTOR = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")])
ROTATION = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("w", "f4")])
BODY_STATE = np.dtype([("pose", np.dtype([("p", VECTOR), ("r", ROTATION)])), ("vel", "f4")])


class Fixed:
    """An object whose attributes are known: a misspelt one is an error."""

    def __setattr__(self, name, value):
        if name not in type(self).names:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        object.__setattr__(self, name, value)


class FlexParams(Fixed):
    """Of FleX."""

    names = (
        "solver_type", "num_outer_iterations", "num_inner_iterations", "relaxation", "warm_start",
        "deterministic_mode", "shape_collision_distance", "shape_collision_margin", "contact_regularization",
        "friction_mode", "dynamic_friction", "static_friction", "return_contacts", "max_soft_contacts",
        "geometric_stiffness",
    )  # fmt: skip


class SimParams(Fixed):
    """Of a simulation."""

    names = ("dt", "substeps", "gravity", "use_gpu_pipeline", "flex", "up_axis", "stress_visualization")

    def __init__(self):
        self.flex = FlexParams()


class AssetOptions(Fixed):
    """Of an asset."""

    names = (
        "fix_base_link", "disable_gravity", "thickness", "armature", "min_particle_mass", "default_dof_drive_mode",
        "flip_visual_attachments",
    )  # fmt: skip


class Vec3:
    """Three numbers."""

    def __init__(self, x=0.0, y=0.0, z=0.0):
        self.x, self.y, self.z = float(x), float(y), float(z)


class Quat:
    """A quaternion, w last."""

    def __init__(self, x=0.0, y=0.0, z=0.0, w=1.0):
        assert abs(x * x + y * y + z * z + w * w - 1.0) < 1e-6
        self.x, self.y, self.z, self.w = x, y, z, w


class Transform(Fixed):
    """A pose."""

    names = ("p", "r")


class Mat33:
    """Three columns."""

    def __init__(self, matrix):
        self.x, self.y, self.z = (Vec3(*column) for column in np.asarray(matrix).T)


class SoftMaterialType:
    """Kinds of material."""

    MAT_COROTATIONAL, MAT_NEOHOOKEAN = 0, 1


class SoftMaterial(Fixed):
    """Of a soft body."""

    names = ("youngs", "poissons", "damping", "model", "activation", "activationMax")


class IndexRange:
    """Part of an array."""

    def __init__(self, start, count):
        self.start, self.count = start, count


class Handle:
    """Something that only the simulation knows."""

    def __init__(self, kind, **values):
        self.kind = kind
        self.__dict__.update(values)


def read_tet(path):
    """Counts of vertices and elements of a .tet file."""
    vertices = elements = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            word, *numbers = line.split()
            if word == "v":
                assert elements == 0 and len([float(n) for n in numbers]) == 3
                vertices += 1
            else:
                assert word == "t" and len(numbers) == 4 and all(0 <= int(n) < vertices for n in numbers)
                elements += 1
    return vertices, elements


class Gym:
    """The calls, each written down."""

    def __init__(self):
        self.log = open(os.environ["STAND_IN_CALLS"], "a", encoding="utf-8") if "STAND_IN_CALLS" in os.environ else None
        self.simulated = self.fetched = 0

    def __getattribute__(self, name):
        value = object.__getattribute__(self, name)
        if callable(value):
            log = object.__getattribute__(self, "log")
            if log:
                log.write(name + "\n")
                log.flush()
        return value

    def create_sim(self, compute_device, graphics_device, type, params):
        """A simulation."""
        assert isinstance(compute_device, int) and graphics_device == -1 and type == SIM_FLEX
        assert params.use_gpu_pipeline is False and params.flex.return_contacts and params.flex.dynamic_friction >= 0.0
        if "STAND_IN_NO_GPU" in os.environ:
            return None
        self.sim = Handle("sim", envs=[], prepared=False)
        self.state = dict(np.load(os.environ["STAND_IN_STATE"]))
        return self.sim

    def load_asset(self, sim, rootpath, filename, options):
        """Read a URDF and what it names."""
        assert sim is self.sim and isinstance(options, AssetOptions)
        root = ET.parse(os.path.join(rootpath, filename)).getroot()
        for mesh in root.iter("mesh"):
            assert os.path.isfile(os.path.join(rootpath, mesh.get("filename")))
        links = {link.get("name") for link in root.iter("link")}
        joints = []
        for joint in root.iter("joint"):
            assert {joint.find("parent").get("link"), joint.find("child").get("link")} <= links
            if joint.get("type") != "fixed":
                assert joint.find("limit") is not None and joint.find("axis") is not None
                joints.append(joint.get("name"))
        pads = []
        for fem in root.iter("fem"):
            for tag in ("density", "youngs", "poissons", "damping", "attachDistance"):
                assert float(fem.find(tag).get("value")) >= 0.0
            pads.append(read_tet(os.path.join(rootpath, fem.find("tetmesh").get("filename"))))
        # Another order than the file's: the worker has to ask.
        return Handle("asset", joints=joints[::-1], pads=pads, fixed=options.fix_base_link)

    def get_asset_soft_body_count(self, asset):
        """Pads."""
        return len(asset.pads)

    def create_env(self, sim, lower, upper, num_per_row):
        """A place."""
        assert sim is self.sim and isinstance(lower, Vec3) and isinstance(upper, Vec3) and num_per_row >= 1
        sim.envs.append(Handle("env", actors=[], number=len(sim.envs)))
        return sim.envs[-1]

    def create_actor(self, env, asset, pose, name, group, filter):
        """An asset in a place."""
        assert asset.kind == "asset" and isinstance(pose, Transform) and isinstance(pose.r, Quat)
        assert group == env.number and name in {"hand", "object"}
        count = len(asset.joints)
        env.actors.append(Handle("actor", asset=asset, states=np.zeros(count, DOF_STATE), driven=False))
        return len(env.actors) - 1

    def get_actor_soft_materials(self, env, actor):
        """One for each pad."""
        return [SoftMaterial() for _ in env.actors[actor].asset.pads]

    def set_actor_soft_materials(self, env, actor, materials):
        """All are complete."""
        for material in materials:
            assert material.youngs > 0.0 and material.poissons < 0.5 and material.damping >= 0.0
            assert material.model == SoftMaterialType.MAT_NEOHOOKEAN

    def get_actor_dof_names(self, env, actor):
        """In the simulation's order."""
        return list(env.actors[actor].asset.joints)

    def get_actor_dof_properties(self, env, actor):
        """A structured array."""
        return np.zeros(len(env.actors[actor].asset.joints), DOF_PROPERTIES)

    def set_actor_dof_properties(self, env, actor, props):
        """Springs on all joints."""
        assert props.dtype == DOF_PROPERTIES and (props["driveMode"] == DOF_MODE_POS).all()
        assert (props["stiffness"] > 0.0).all() and (props["damping"] > 0.0).all()
        env.actors[actor].driven = True
        return True

    def get_actor_dof_states(self, env, actor, flags):
        """A structured array."""
        assert flags in {STATE_POS, STATE_ALL}
        return env.actors[actor].states.copy()

    def set_actor_dof_states(self, env, actor, states, flags):
        """Put the joints somewhere."""
        assert flags == STATE_ALL and states.dtype == DOF_STATE and not self.sim.prepared
        env.actors[actor].states = states.copy()
        return True

    def prepare_sim(self, sim):
        """Before tensors."""
        assert all(env.actors[0].driven for env in sim.envs)
        sim.prepared = True
        return True

    def acquire_particle_state_tensor(self, sim):
        """Of all vertices: x y z w, velocity, normal."""
        assert sim.prepared
        place = self.state["vertices"].reshape(-1, 3)
        self.particles = np.zeros((len(place), 11), np.float32)
        return Handle("particles", array=self.particles)

    def refresh_particle_state_tensor(self, sim):
        """Fill it."""
        assert self.simulated == self.fetched > 0
        self.particles[:, :3] = self.state["vertices"].reshape(-1, 3)
        return True

    def get_actor_rigid_body_index(self, env, actor, body, domain):
        """Of all bodies."""
        assert domain == DOMAIN_SIM and body == 0
        return 100 * env.number + actor

    def get_actor_rigid_body_handle(self, env, actor, body):
        """Of a body in its place."""
        return 1000 + body

    def set_actor_dof_position_targets(self, env, actor, targets):
        """The joints go there at once."""
        states = env.actors[actor].states
        assert isinstance(targets, np.ndarray) and targets.dtype == np.float32 and targets.shape == states.shape
        states["pos"] = targets

    def apply_body_forces(self, env, body, force, torque, space):
        """Push the object."""
        assert body == 1000 and isinstance(force, Vec3) and torque is None and space == ENV_SPACE
        self.push = force
        return True

    def simulate(self, sim):
        """One step."""
        assert self.simulated == self.fetched and sim.prepared
        self.simulated += 1

    def fetch_results(self, sim, wait_for_latest):
        """After each step."""
        assert wait_for_latest is True and self.simulated == self.fetched + 1
        self.fetched += 1

    def get_actor_rigid_body_states(self, env, actor, flags):
        """The object has moved in proportion to what pushes it."""
        assert flags in {STATE_POS, STATE_ALL} and actor == 1
        states = np.zeros(1, BODY_STATE)
        push = getattr(self, "push", Vec3())
        for axis in "xyz":
            states["pose"]["p"][axis] = self.state["compliance"] * getattr(push, axis)
        states["pose"]["r"]["w"] = 1.0
        return states

    def get_sim_tetrahedra(self, sim):
        """Corners, and Cauchy stresses."""
        count = sum(tets for env in sim.envs for _, tets in env.actors[0].asset.pads)
        return [0] * (4 * count), [Mat33(self.state["stress"])] * count

    def get_actor_tetrahedra_range(self, env, actor, soft_body):
        """Where a pad's are."""
        counts = [tets for _, tets in env.actors[actor].asset.pads]
        return IndexRange(env.number * sum(counts) + sum(counts[:soft_body]), counts[soft_body])

    def get_soft_contacts(self, sim):
        """One contact of each pad's first three particles with the object, and one with something else."""
        kind = np.dtype([("a", "i4"), ("b", "i4"), ("particles", "i4", 3), ("weights", "f4", 3), ("body", "i4"),
                         ("point", "f4", 3), ("normal", "f4", 3), ("force", "f4")])  # fmt: skip
        rows, first = [], 0
        for env in sim.envs:
            for vertices, _ in env.actors[0].asset.pads:
                middle = first + int(self.state["middle"])
                for body in (100 * env.number + 1, -1):
                    rows.append((0, 0, [middle] * 3, [0.5, 0.25, 0.25], body, [0] * 3, [0, 0, 1],
                                 self.state["contact_force"]))  # fmt: skip
                first += vertices
        return np.array(rows, kind)

    def destroy_sim(self, sim):
        """The end."""
        self.sim = None


def acquire_gym(*arguments):
    """The one gym."""
    return Gym()
