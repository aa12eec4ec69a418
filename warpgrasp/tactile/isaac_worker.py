"""Close grasps on soft pads in Isaac Gym: a program for another interpreter (Python 3.6 to 3.8), never imported.

    python isaac_worker.py --probe
    python isaac_worker.py JOB_FOLDER

The folder holds job.json, grasps.npz, hand.urdf, object.urdf and what they name; result.npz is written beside them. One
process does one batch: Isaac Gym gives its memory back only when the process ends.
"""

# ruff: noqa: B905, E402, UP031 - Python 3.6 has neither strict zips nor all of today's formats

import json
import os
import sys

# The folder of this file has modules of its own, which are none of this program's.
sys.path = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

# Isaac Gym has to come before torch, which gymtorch imports.
from isaacgym import gymapi, gymtorch  # pyright: ignore  # isort: skip

import numpy as np

GRAVITY_DIRECTIONS = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))


def make_sim(gym, job):
    """A simulation by FleX, which is what moves soft bodies; its tensors stay on the CPU."""
    params = gymapi.SimParams()
    params.dt = job["time_step"]
    params.substeps = job["substeps"]
    params.gravity = gymapi.Vec3(0.0, 0.0, 0.0)
    params.use_gpu_pipeline = False
    flex = params.flex
    flex.solver_type = 5
    flex.num_outer_iterations = 10
    flex.num_inner_iterations = 200
    flex.relaxation = 0.75
    flex.warm_start = 0.8
    flex.deterministic_mode = True
    flex.shape_collision_distance = 5.0e-4
    flex.shape_collision_margin = 1.0e-4
    flex.contact_regularization = 1.0e-6
    flex.friction_mode = 2
    flex.dynamic_friction = job["friction"]
    flex.static_friction = job["friction"]
    flex.return_contacts = True
    sim = gym.create_sim(job["gpu"], -1, gymapi.SIM_FLEX, params)
    if sim is None:
        raise RuntimeError("Isaac Gym made no simulation; FleX needs an NVIDIA GPU")
    return sim


def asset_options(fixed):
    """Options of the hand (fixed base) or the object."""
    options = gymapi.AssetOptions()
    options.fix_base_link = fixed
    options.disable_gravity = True
    options.thickness = 0.0
    options.armature = 0.001
    options.min_particle_mass = 1.0e-20
    options.default_dof_drive_mode = gymapi.DOF_MODE_POS
    return options


def transform(row):
    """A pose from position and quaternion w x y z."""
    pose = gymapi.Transform()
    pose.p = gymapi.Vec3(*[float(v) for v in row[:3]])
    pose.r = gymapi.Quat(float(row[4]), float(row[5]), float(row[6]), float(row[3]))
    return pose


class Batch:
    """One environment for each grasp."""

    def __init__(self, folder):
        with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
            self.job = json.load(file)
        with np.load(os.path.join(folder, "grasps.npz"), allow_pickle=False) as archive:
            self.grasps = dict(archive)
        self.gym = gymapi.acquire_gym()
        self.sim = make_sim(self.gym, self.job)
        gym, sim = self.gym, self.sim
        hand = gym.load_asset(sim, folder, "hand.urdf", asset_options(True))
        thing = gym.load_asset(sim, folder, "object.urdf", asset_options(False))
        count = gym.get_asset_soft_body_count(hand)
        if count != len(self.job["vertices"]):
            raise RuntimeError("Isaac Gym found %d soft pads of %d" % (count, len(self.job["vertices"])))
        self.envs, self.hands, self.objects = [], [], []
        per_row = max(1, int(len(self.grasps["wrist"]) ** 0.5))
        low, high = gymapi.Vec3(-0.5, -0.5, -0.5), gymapi.Vec3(0.5, 0.5, 0.5)
        for row in range(len(self.grasps["wrist"])):
            env = gym.create_env(sim, low, high, per_row)
            # Bit 1 of the filter: no link of the hand touches another.
            actor = gym.create_actor(env, hand, transform(self.grasps["wrist"][row]), "hand", row, 1)
            here = transform(np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
            self.objects.append(gym.create_actor(env, thing, here, "object", row, 0))
            self.envs.append(env)
            self.hands.append(actor)
            self.set_material(env, actor)
            self.set_joints(env, actor, row)
        gym.prepare_sim(sim)
        self.order = [
            self.job["joint_names"].index(name) for name in gym.get_actor_dof_names(self.envs[0], self.hands[0])
        ]
        self.particles = gymtorch.wrap_tensor(gym.acquire_particle_state_tensor(sim))
        self.bodies = [
            gym.get_actor_rigid_body_index(env, actor, 0, gymapi.DOMAIN_SIM)
            for env, actor in zip(self.envs, self.objects)
        ]
        self.handles = [gym.get_actor_rigid_body_handle(env, actor, 0) for env, actor in zip(self.envs, self.objects)]

    def set_material(self, env, actor):
        """The same for every pad."""
        materials = self.gym.get_actor_soft_materials(env, actor)
        for material in materials:
            material.youngs = self.job["youngs_modulus"]
            material.poissons = self.job["poisson_ratio"]
            material.damping = self.job["damping"]
            material.model = gymapi.SoftMaterialType.MAT_NEOHOOKEAN
        self.gym.set_actor_soft_materials(env, actor, materials)

    def set_joints(self, env, actor, row):
        """Springs on all joints, and the joints where the grasp has them."""
        names = self.gym.get_actor_dof_names(env, actor)
        order = [self.job["joint_names"].index(name) for name in names]
        properties = self.gym.get_actor_dof_properties(env, actor)
        properties["driveMode"].fill(gymapi.DOF_MODE_POS)
        properties["stiffness"] = np.asarray(self.job["stiffness"], np.float32)[order]
        properties["damping"] = np.asarray(self.job["joint_damping"], np.float32)[order]
        self.gym.set_actor_dof_properties(env, actor, properties)
        states = self.gym.get_actor_dof_states(env, actor, gymapi.STATE_ALL)
        states["pos"] = self.grasps["start"][row][order].astype(np.float32)
        states["vel"] = 0.0
        self.gym.set_actor_dof_states(env, actor, states, gymapi.STATE_ALL)

    def phase(self, steps, closing, direction):
        """Simulate: springs move from the start to the target, or gravity rises in a direction."""
        gym, weight = self.gym, self.job["mass"] * self.job["gravity"]
        for step in range(steps):
            share = min(1.0, (step + 1.0) / (0.5 * steps))
            for row, (env, actor) in enumerate(zip(self.envs, self.hands)):
                start, target = self.grasps["start"][row], self.grasps["target"][row]
                here = start + (share if closing else 1.0) * (target - start)
                gym.set_actor_dof_position_targets(env, actor, here[self.order].astype(np.float32))
                if not closing:
                    push = gymapi.Vec3(*[share * weight * d for d in direction])
                    gym.apply_body_forces(env, self.handles[row], push, None, gymapi.ENV_SPACE)
            gym.simulate(self.sim)
            gym.fetch_results(self.sim, True)

    def state(self):
        """Joints, object, pads' vertices and stresses of every grasp."""
        gym = self.gym
        gym.refresh_particle_state_tensor(self.sim)
        positions = self.particles.cpu().numpy()[:, :3].copy()
        total = sum(self.job["vertices"])
        _, stress = gym.get_sim_tetrahedra(self.sim)
        joints, poses, stresses = [], [], []
        for env, hand, thing in zip(self.envs, self.hands, self.objects):
            position = gym.get_actor_dof_states(env, hand, gymapi.STATE_POS)["pos"]
            back = np.zeros(len(self.order))
            back[self.order] = position
            joints.append(back)
            pose = gym.get_actor_rigid_body_states(env, thing, gymapi.STATE_POS)["pose"]
            p, r = pose["p"][0], pose["r"][0]
            poses.append([p["x"], p["y"], p["z"], r["w"], r["x"], r["y"], r["z"]])
            rows = []
            for pad in range(len(self.job["vertices"])):
                part = gym.get_actor_tetrahedra_range(env, hand, pad)
                rows += [_matrix(stress[k]) for k in range(part.start, part.start + part.count)]
            stresses.append(rows)
        count = len(self.envs)
        return {
            "joints": np.array(joints, float),
            "object": np.array(poses, float),
            "vertices": positions[: count * total].reshape(count, total, 3).astype(float),
            "stress": np.array(stresses, float),
        }

    def pressing(self):
        """Sum of the normal forces on each pad's vertices, from the soft contacts with the object, (grasp, vertex)."""
        total = sum(self.job["vertices"])
        force = np.zeros((len(self.envs), total))
        for contact in self.gym.get_soft_contacts(self.sim):
            if int(contact[4]) not in self.bodies:
                continue
            for particle, weight in zip(contact[2], contact[3]):
                row, vertex = divmod(int(particle), total)
                if row < len(force):
                    force[row, vertex] += float(weight) * float(contact[7])
        return force

    def run(self):
        """Close, read, pull six ways; the directions follow one another, since FleX restores no state."""
        out = {}
        self.phase(self.job["closing_steps"], True, (0, 0, 0))
        for name, value in self.state().items():
            out["closed_" + name] = value
        out["closed_pressing"] = self.pressing()
        pulled = []
        for direction in GRAVITY_DIRECTIONS:
            self.phase(self.job["pull_steps"], False, direction)
            pulled.append(self.state()["object"])
            self.phase(self.job["rest_steps"], False, (0, 0, 0))
        out["pulled_object"] = np.array(pulled).transpose(1, 0, 2)
        return out


def _matrix(stress):
    """Cauchy stress from a Mat33 [Pa]."""
    return [[stress.x.x, stress.y.x, stress.z.x], [stress.x.y, stress.y.y, stress.z.y],
            [stress.x.z, stress.y.z, stress.z.z]]  # fmt: skip


def main(arguments):
    """Answer a probe, or do a job."""
    if arguments == ["--probe"]:
        gymapi.acquire_gym()
        print(json.dumps({"python": "%d.%d" % sys.version_info[:2]}))
        return
    batch = Batch(arguments[0])
    result = batch.run()
    partial = os.path.join(arguments[0], "partial.npz")
    np.savez(partial, **result)
    os.replace(partial, os.path.join(arguments[0], "result.npz"))
    batch.gym.destroy_sim(batch.sim)


if __name__ == "__main__":
    main(sys.argv[1:])
