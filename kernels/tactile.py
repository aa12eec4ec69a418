"""Soft pads on an object, in equilibrium: quadratic steps, projections on friction cones, and the tile product between.

One load step of N grasps: find forces f on the contacts, in their friction cones, and small motions z of closures and
object with

    d = C f + G z + d0,   G' f = h + K z,   f and d complementary as Coulomb's law has it

by the alternating direction method of multipliers. C is the pads' condensed compliance and the same in every grasp of a
batch, so that (C + rho)^-1 is a shared matrix. Contacts are pad by pad, then those of rigid links. Vectors of a contact
are in the frame of its pad, or in the world frame on rigid links.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

ROWS = wp.constant(16)
"""Rows of a tile of the product: grasps."""

COLUMNS = wp.constant(32)
"""Columns of a tile of the product, and rows of the matrix that are multiplied at once."""

COUPLED = wp.constant(7)
"""Columns of G that a contact has: its closure, three shifts and three turns of the object."""

RELAXATION = wp.constant(1.6)
"""Over-relaxation of the method."""

NOWHERE = wp.constant(1.0e3)
"""Where contacts that are absent are put [m]."""


@wp.func
def cone_part(force: wp.vec3, normal: wp.vec3, friction: float):
    """Projection of a force onto the friction cone about a unit normal."""
    along = wp.dot(force, normal)
    tangent = force - along * normal
    slide = wp.length(tangent)
    if slide <= friction * along:
        return force
    if friction * slide <= -along:
        return wp.vec3(0.0, 0.0, 0.0)
    size = (along + friction * slide) / (1.0 + friction * friction)
    return size * (normal + friction / slide * tangent)


@wp.func
def column(index: int, velocity: wp.vec3, arm: wp.vec3, turn: wp.quat, torque_length: float):
    """Motion of a contact relative to the object per unit of one of its seven columns of G, in its frame."""
    if index == 0:
        return velocity
    axis = wp.vec3(0.0, 0.0, 0.0)
    axis[(index - 1) % 3] = 1.0
    axis = wp.quat_rotate_inv(turn, axis)
    if index <= 3:
        return -axis
    return wp.cross(arm, axis) / torque_length


@wp.func
def unknown(index: int, closure: int, closure_count: int):
    """Entry of z that a contact's column belongs to, -1 where it has no closure."""
    if index == 0:
        return closure
    return closure_count + index - 1


@wp.kernel
def multiply(
    # Model:
    matrix: wp.array2d[float],
    # In:
    left: wp.array2d[float],
    # Options:
    rows: int,
    # Out:
    product_out: wp.array2d[float],
):
    """Product = left matrix, for each pad on its own.

    Launch: tiled, dim = (pad, rows / ROWS, entry / COLUMNS).

    Args:
        matrix: Symmetric matrices of all pads, one below the other, shape [pad entry, entry].
        left: Rows of all pads, one below the other, shape [pad row, entry].
        rows: Rows of each pad, a multiple of ROWS.
        product_out: Same shape as ``left``.
    """
    pad, i, j = wp.tid()
    entries = matrix.shape[1]
    row = pad * rows + i * ROWS
    total = wp.tile_zeros(shape=(ROWS, COLUMNS), dtype=float)
    for k in range((entries + COLUMNS - 1) // COLUMNS):
        a = wp.tile_load(left, shape=(ROWS, COLUMNS), offset=(row, k * COLUMNS))
        b = wp.tile_load(matrix, shape=(COLUMNS, COLUMNS), offset=(pad * entries + k * COLUMNS, j * COLUMNS))
        wp.tile_matmul(a, b, total)
    wp.tile_store(product_out, total, offset=(row, j * COLUMNS))


@wp.kernel
def closed_positions(
    # In:
    start: wp.array2d[float],
    direction: wp.array3d[float],
    closure: wp.array2d[float],
    # Out:
    free_position_out: wp.array2d[float],
):
    """Free joint coordinates after closing: x = x0 + sum_g s_g u_g.

    Launch: dim = (grasp, free).

    Args:
        start: x0 [rad or m], shape [grasp, free].
        direction: u [rad/m or 1], shape [grasp, closure, free].
        closure: s [m], shape [grasp, closure].
        free_position_out: x, shape [grasp, free].
    """
    grasp, free = wp.tid()
    x = float(start[grasp, free])
    for g in range(closure.shape[1]):
        x += closure[grasp, g] * direction[grasp, g, free]
    free_position_out[grasp, free] = x


@wp.kernel
def place_contacts(
    # Model:
    pad_link: wp.array[int],
    pad_pose: wp.array[wp.transform],
    sample: wp.array2d[wp.vec3],
    # In:
    link_transform: wp.array2d[wp.transform],
    object_pose: wp.array[wp.transform],
    displacement: wp.array2d[float],
    rigid_link: wp.array2d[int],
    rigid_local: wp.array2d[wp.vec3],
    # Options:
    rows: int,
    # Out:
    turn_out: wp.array2d[wp.quat],
    position_out: wp.array2d[wp.vec3],
    probe_out: wp.array2d[wp.vec3],
):
    """Where the contacts are, in the world and in the object's frame; pads are deformed.

    Launch: dim = (grasp, contact).

    Args:
        pad_link: Link of each pad, shape [pad].
        pad_pose: Pad frame in the link frame, shape [pad].
        sample: Undeformed samples in the pad frame [m], shape [pad, sample].
        link_transform: Links in the world, shape [grasp, link].
        object_pose: Object in the world, shape [grasp].
        displacement: Of the samples, in the pad frame [m], shape [pad row, 3 sample].
        rigid_link: Link of each rigid contact, -1 for none, shape [grasp, rigid].
        rigid_local: In that link's frame [m], shape [grasp, rigid].
        rows: Rows of each pad in ``displacement``.
        turn_out: Rotation from the contact's frame to the world, shape [grasp, contact].
        position_out: In the world [m], shape [grasp, contact].
        probe_out: In the object's frame [m], shape [grasp, contact].
    """
    grasp, contact = wp.tid()
    samples = sample.shape[1]
    pad = contact // samples
    turn = wp.quat_identity()
    position = wp.vec3(NOWHERE, NOWHERE, NOWHERE)
    if pad < sample.shape[0]:
        i = contact - pad * samples
        row = pad * rows + grasp
        frame = link_transform[grasp, pad_link[pad]] * pad_pose[pad]
        moved = wp.vec3(displacement[row, 3 * i], displacement[row, 3 * i + 1], displacement[row, 3 * i + 2])
        turn = wp.transform_get_rotation(frame)
        position = wp.transform_point(frame, sample[pad, i] + moved)
    else:
        rigid = contact - sample.shape[0] * samples
        link = rigid_link[grasp, rigid]
        if link >= 0:
            position = wp.transform_point(link_transform[grasp, link], rigid_local[grasp, rigid])
    turn_out[grasp, contact] = turn
    position_out[grasp, contact] = position
    probe_out[grasp, contact] = wp.transform_point(wp.transform_inverse(object_pose[grasp]), position)


@wp.kernel
def linearise(
    # Model:
    pad_link: wp.array[int],
    center_of_mass: wp.vec3,
    samples: int,
    # In:
    link_twist: wp.array2d[wp.spatial_vector],
    object_pose: wp.array[wp.transform],
    displacement: wp.array2d[float],
    rigid_link: wp.array2d[int],
    rigid_slack: wp.array2d[float],
    turn: wp.array2d[wp.quat],
    position: wp.array2d[wp.vec3],
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    force: wp.array2d[wp.vec3],
    # Options:
    rigid_compliance: float,
    rows: int,
    # Out:
    gap_out: wp.array2d[float],
    normal_out: wp.array2d[wp.vec3],
    arm_out: wp.array2d[wp.vec3],
    velocity_out: wp.array2d[wp.vec3],
    offset_out: wp.array2d[wp.vec3],
    multiplier_out: wp.array2d[wp.vec3],
    shift_out: wp.array2d[float],
):
    """Gaps, normals and directions of a load step, all in the contacts' frames.

    d0 = gap n - C f_before, so that d . n is the gap at the end and d - gap n the motion since the beginning.

    Launch: dim = (grasp, contact).

    Args:
        pad_link: Link of each pad, shape [pad].
        center_of_mass: Of the object, in its frame [m].
        samples: Of each pad.
        link_twist: Motion of each link per unit of its closure: angular [rad/m], linear at the world's origin, shape
            [grasp, link].
        object_pose: Object in the world, shape [grasp].
        displacement: C f of the samples, in the pad frame [m], shape [pad row, 3 sample].
        rigid_link: Link of each rigid contact, -1 for none, shape [grasp, rigid].
        rigid_slack: Added to the rigid contacts' gaps [m], shape [grasp, rigid].
        turn: Rotation from the contact's frame to the world, shape [grasp, contact].
        position: In the world [m], shape [grasp, contact].
        distance: Signed distance to the object [m], shape [grasp, contact].
        distance_gradient: Its gradient, in the object's frame, shape [grasp, contact].
        force: f on the hand [N], shape [grasp, contact].
        rigid_compliance: C of a rigid contact [m/N].
        rows: Rows of each pad in ``displacement``.
        gap_out: [m], shape [grasp, contact].
        normal_out: n, unit, out of the object; zero where there is no contact, shape [grasp, contact].
        arm_out: From the object's centre of mass [m], shape [grasp, contact].
        velocity_out: Motion per unit of its closure, shape [grasp, contact].
        offset_out: d0 [m], shape [grasp, contact].
        multiplier_out: The method's multipliers to begin with [m], shape [grasp, contact].
        shift_out: De Saxcé's shift of the gap to begin with [m], shape [grasp, contact].
    """
    grasp, contact = wp.tid()
    pad = contact // samples
    link = int(-1)
    gap = distance[grasp, contact]
    f = force[grasp, contact]
    yielded = rigid_compliance * f
    if pad < pad_link.shape[0]:
        link = pad_link[pad]
        i = contact - pad * samples
        row = pad * rows + grasp
        yielded = wp.vec3(displacement[row, 3 * i], displacement[row, 3 * i + 1], displacement[row, 3 * i + 2])
    else:
        rigid = contact - pad_link.shape[0] * samples
        link = rigid_link[grasp, rigid]
        gap += rigid_slack[grasp, rigid]
    q = turn[grasp, contact]
    pose = object_pose[grasp]
    x = position[grasp, contact]
    n = wp.vec3(0.0, 0.0, 0.0)
    arm = wp.vec3(0.0, 0.0, 0.0)
    velocity = wp.vec3(0.0, 0.0, 0.0)
    if link >= 0 and wp.length_sq(distance_gradient[grasp, contact]) > 0.25:
        outward = wp.transform_vector(pose, wp.normalize(distance_gradient[grasp, contact]))
        n = wp.quat_rotate_inv(q, outward)
        arm = wp.quat_rotate_inv(q, x - wp.transform_point(pose, center_of_mass))
        twist = link_twist[grasp, link]
        velocity = wp.quat_rotate_inv(q, wp.spatial_bottom(twist) + wp.cross(wp.spatial_top(twist), x))
    else:
        gap = 0.0
    gap_out[grasp, contact] = gap
    normal_out[grasp, contact] = n
    arm_out[grasp, contact] = arm
    velocity_out[grasp, contact] = velocity
    offset_out[grasp, contact] = gap * n - yielded
    # A contact that is open and stays so has d = gap n, and the multiplier is -d.
    idle = wp.length_sq(f) == 0.0 and gap > 0.0
    multiplier_out[grasp, contact] = wp.where(idle, -gap * n, wp.vec3(0.0, 0.0, 0.0))
    shift_out[grasp, contact] = 0.0


@wp.kernel
def column_right_side(
    # Model:
    pad_count: int,
    samples: int,
    # In:
    normal: wp.array2d[wp.vec3],
    arm: wp.array2d[wp.vec3],
    velocity: wp.array2d[wp.vec3],
    turn: wp.array2d[wp.quat],
    # Options:
    index: int,
    torque_length: float,
    rows: int,
    # Out:
    right_out: wp.array2d[float],
):
    """One column of G for the pads, ready for the product.

    Launch: dim = (grasp, pad contact).

    Args:
        pad_count: Pads.
        samples: Of each pad.
        normal: Zero where there is no contact, shape [grasp, contact].
        arm: From the object's centre of mass [m], shape [grasp, contact].
        velocity: Motion per unit of its closure, shape [grasp, contact].
        turn: Rotation from the contact's frame to the world, shape [grasp, contact].
        index: Which of the seven columns.
        torque_length: Length that turns a torque into a force [m].
        rows: Rows of each pad in the product.
        right_out: Shape [pad row, 3 sample].
    """
    grasp, contact = wp.tid()
    pad = contact // samples
    i = contact - pad * samples
    row = pad * rows + grasp
    g = column(index, velocity[grasp, contact], arm[grasp, contact], turn[grasp, contact], torque_length)
    if wp.length_sq(normal[grasp, contact]) < 0.5:
        g = wp.vec3(0.0, 0.0, 0.0)
    for k in range(3):
        right_out[row, 3 * i + k] = g[k]


@wp.kernel
def store_column(
    # Model:
    pad_count: int,
    samples: int,
    # In:
    product: wp.array2d[float],
    normal: wp.array2d[wp.vec3],
    arm: wp.array2d[wp.vec3],
    velocity: wp.array2d[wp.vec3],
    turn: wp.array2d[wp.quat],
    # Options:
    index: int,
    torque_length: float,
    rigid_inverse: float,
    rows: int,
    # Out:
    coupling_out: wp.array3d[wp.vec3],
):
    """One column of (C + rho)^-1 G.

    Launch: dim = (grasp, contact).

    Args:
        pad_count: Pads.
        samples: Of each pad.
        product: (C + rho)^-1 times the column, of the pads, shape [pad row, 3 sample].
        normal: Zero where there is no contact, shape [grasp, contact].
        arm: From the object's centre of mass [m], shape [grasp, contact].
        velocity: Motion per unit of its closure, shape [grasp, contact].
        turn: Rotation from the contact's frame to the world, shape [grasp, contact].
        index: Which of the seven columns.
        torque_length: Length that turns a torque into a force [m].
        rigid_inverse: 1 / (C + rho) of a rigid contact [N/m].
        rows: Rows of each pad in the product.
        coupling_out: Shape [grasp, contact, COUPLED].
    """
    grasp, contact = wp.tid()
    pad = contact // samples
    value = wp.vec3(0.0, 0.0, 0.0)
    if pad < pad_count:
        i = contact - pad * samples
        row = pad * rows + grasp
        value = wp.vec3(product[row, 3 * i], product[row, 3 * i + 1], product[row, 3 * i + 2])
    elif wp.length_sq(normal[grasp, contact]) > 0.5:
        value = rigid_inverse * column(
            index, velocity[grasp, contact], arm[grasp, contact], turn[grasp, contact], torque_length
        )
    coupling_out[grasp, contact, index] = value


@wp.func
def factorise(grasp: int, size: int, least: float, matrix: wp.array3d[float]):
    """Cholesky factor of the lower half of a matrix, in place; pivots below ``least`` count as that."""
    for j in range(size):
        for k in range(j):
            matrix[grasp, j, j] = matrix[grasp, j, j] - matrix[grasp, j, k] * matrix[grasp, j, k]
        matrix[grasp, j, j] = wp.sqrt(wp.max(matrix[grasp, j, j], least))
        for i in range(j + 1, size):
            for k in range(j):
                matrix[grasp, i, j] = matrix[grasp, i, j] - matrix[grasp, i, k] * matrix[grasp, j, k]
            matrix[grasp, i, j] = matrix[grasp, i, j] / matrix[grasp, j, j]


@wp.func
def solve_column(grasp: int, size: int, c: int, factor: wp.array3d[float], x: wp.array3d[float]):
    """One column of the right side becomes the solution, given the Cholesky factor."""
    for i in range(size):
        for k in range(i):
            x[grasp, i, c] = x[grasp, i, c] - factor[grasp, i, k] * x[grasp, k, c]
        x[grasp, i, c] = x[grasp, i, c] / factor[grasp, i, i]
    for back in range(size):
        i = size - 1 - back
        for k in range(i + 1, size):
            x[grasp, i, c] = x[grasp, i, c] - factor[grasp, k, i] * x[grasp, k, c]
        x[grasp, i, c] = x[grasp, i, c] / factor[grasp, i, i]


@wp.func
def closure_of(c: int, samples: int, grasp: int, closure_of_pad: wp.array[int], rigid_closure: wp.array2d[int]):
    """Closure that moves a contact, -1 for none."""
    pad = c // samples
    if pad < closure_of_pad.shape[0]:
        return closure_of_pad[pad]
    return rigid_closure[grasp, c - closure_of_pad.shape[0] * samples]


@wp.kernel
def invert_coupling(
    # Model:
    closure_of_pad: wp.array[int],
    samples: int,
    # In:
    normal: wp.array2d[wp.vec3],
    arm: wp.array2d[wp.vec3],
    velocity: wp.array2d[wp.vec3],
    turn: wp.array2d[wp.quat],
    rigid_closure: wp.array2d[int],
    coupling: wp.array3d[wp.vec3],
    locked: wp.array2d[int],
    # Options:
    torque_length: float,
    proximal: float,
    # Out:
    scratch_out: wp.array3d[float],
    inverse_out: wp.array3d[float],
    weight_out: wp.array[float],
):
    """(G' (C + rho)^-1 G + K + w)^-1, where K locks closures and w keeps z near its last value.

    Launch: dim = grasp.

    Args:
        closure_of_pad: Closure of each pad, -1 for none, shape [pad].
        samples: Of each pad.
        normal: Zero where there is no contact, shape [grasp, contact].
        arm: From the object's centre of mass [m], shape [grasp, contact].
        velocity: Motion per unit of its closure, shape [grasp, contact].
        turn: Rotation from the contact's frame to the world, shape [grasp, contact].
        rigid_closure: Closure of each rigid contact, -1 for none, shape [grasp, rigid].
        coupling: (C + rho)^-1 G, shape [grasp, contact, COUPLED].
        locked: Whether each closure is held, shape [grasp, closure].
        torque_length: Length that turns a torque into a force [m].
        proximal: w as a share of the mean of the diagonal.
        scratch_out: Cholesky factor, shape [grasp, unknown, unknown].
        inverse_out: Shape [grasp, unknown, unknown].
        weight_out: w [N/m], shape [grasp].
    """
    grasp = wp.tid()
    closures = locked.shape[1]
    size = closures + 6
    for i in range(size):
        for j in range(size):
            scratch_out[grasp, i, j] = 0.0
            inverse_out[grasp, i, j] = wp.where(i == j, 1.0, 0.0)
    for c in range(normal.shape[1]):
        if wp.length_sq(normal[grasp, c]) > 0.5:
            closure = closure_of(c, samples, grasp, closure_of_pad, rigid_closure)
            for i in range(COUPLED):
                a = unknown(i, closure, closures)
                if a >= 0:
                    g = column(i, velocity[grasp, c], arm[grasp, c], turn[grasp, c], torque_length)
                    for j in range(COUPLED):
                        b = unknown(j, closure, closures)
                        if b >= 0 and b <= a:
                            scratch_out[grasp, a, b] = scratch_out[grasp, a, b] + wp.dot(g, coupling[grasp, c, j])
    mean = float(0.0)
    for i in range(size):
        mean += scratch_out[grasp, i, i] / float(size)
    mean = wp.max(mean, 1.0)
    weight = proximal * mean
    weight_out[grasp] = weight
    for i in range(size):
        extra = weight
        if i < closures and locked[grasp, wp.min(i, closures - 1)] == 1:
            extra = weight + 1.0e5 * mean
        scratch_out[grasp, i, i] = scratch_out[grasp, i, i] + extra
    factorise(grasp, size, 1.0e-6 * weight, scratch_out)
    for c in range(size):
        solve_column(grasp, size, c, scratch_out, inverse_out)


@wp.kernel
def first_right_side(
    # Model:
    pad_count: int,
    samples: int,
    # In:
    normal: wp.array2d[wp.vec3],
    offset: wp.array2d[wp.vec3],
    multiplier: wp.array2d[wp.vec3],
    shift: wp.array2d[float],
    force: wp.array2d[wp.vec3],
    pad_penalty: wp.array[float],
    # Options:
    rigid_penalty: float,
    rows: int,
    # Out:
    right_out: wp.array2d[float],
    rigid_right_out: wp.array2d[wp.vec3],
):
    """-d0 - shift n + rho f - multiplier: what (C + rho) f would equal without z.

    Launch: dim = (grasp, contact).

    Args:
        pad_count: Pads.
        samples: Of each pad.
        normal: n, shape [grasp, contact].
        offset: d0 [m], shape [grasp, contact].
        multiplier: [m], shape [grasp, contact].
        shift: [m], shape [grasp, contact].
        force: [N], shape [grasp, contact].
        pad_penalty: rho of each pad [m/N], shape [pad].
        rigid_penalty: rho of rigid contacts [m/N].
        rows: Rows of each pad in the product.
        right_out: Of pads, shape [pad row, 3 sample].
        rigid_right_out: Of rigid contacts, shape [grasp, rigid].
    """
    grasp, contact = wp.tid()
    pad = contact // samples
    v = -offset[grasp, contact] - shift[grasp, contact] * normal[grasp, contact] - multiplier[grasp, contact]
    if pad < pad_count:
        i = contact - pad * samples
        row = pad * rows + grasp
        v += pad_penalty[pad] * force[grasp, contact]
        for k in range(3):
            right_out[row, 3 * i + k] = v[k]
    else:
        v += rigid_penalty * force[grasp, contact]
        rigid_right_out[grasp, contact - pad_count * samples] = v


@wp.func
def add_contact(
    closure: int,
    closures: int,
    grasp: int,
    f: wp.vec3,
    velocity: wp.vec3,
    arm: wp.vec3,
    turn: wp.quat,
    torque_length: float,
    sum_out: wp.array2d[float],
):
    """Add a contact's part of G' f to a sum."""
    if closure >= 0:
        sum_out[grasp, closure] = sum_out[grasp, closure] + wp.dot(velocity, f)
    push = wp.quat_rotate(turn, f)
    twist = wp.quat_rotate(turn, wp.cross(f, arm)) / torque_length
    for k in range(3):
        sum_out[grasp, closures + k] = sum_out[grasp, closures + k] - push[k]
        sum_out[grasp, closures + 3 + k] = sum_out[grasp, closures + 3 + k] + twist[k]


@wp.kernel
def find_motion(
    # Model:
    closure_of_pad: wp.array[int],
    samples: int,
    # In:
    product: wp.array2d[float],
    rigid_right: wp.array2d[wp.vec3],
    normal: wp.array2d[wp.vec3],
    arm: wp.array2d[wp.vec3],
    velocity: wp.array2d[wp.vec3],
    turn: wp.array2d[wp.quat],
    rigid_closure: wp.array2d[int],
    load: wp.array2d[float],
    inverse: wp.array3d[float],
    weight: wp.array[float],
    # Options:
    torque_length: float,
    rigid_inverse: float,
    rows: int,
    # Out:
    sum_out: wp.array2d[float],
    motion_out: wp.array2d[float],
):
    """Z = (S + K + w)^-1 (G' (C + rho)^-1 right - h + w z_before).

    Launch: dim = grasp.

    Args:
        closure_of_pad: Closure of each pad, -1 for none, shape [pad].
        samples: Of each pad.
        product: (C + rho)^-1 right, of pads [N], shape [pad row, 3 sample].
        rigid_right: Right side of rigid contacts [m], shape [grasp, rigid].
        normal: Zero where there is no contact, shape [grasp, contact].
        arm: From the object's centre of mass [m], shape [grasp, contact].
        velocity: Motion per unit of its closure, shape [grasp, contact].
        turn: Rotation from the contact's frame to the world, shape [grasp, contact].
        rigid_closure: Closure of each rigid contact, -1 for none, shape [grasp, rigid].
        load: h [N], shape [grasp, unknown].
        inverse: See ``invert_coupling``, shape [grasp, unknown, unknown].
        weight: w [N/m], shape [grasp].
        torque_length: Length that turns a torque into a force [m].
        rigid_inverse: 1 / (C + rho) of a rigid contact [N/m].
        rows: Rows of each pad in the product.
        sum_out: Scratch, shape [grasp, unknown].
        motion_out: z [m], updated, shape [grasp, unknown].
    """
    grasp = wp.tid()
    size = load.shape[1]
    closures = size - 6
    pad_count = closure_of_pad.shape[0]
    for k in range(size):
        sum_out[grasp, k] = weight[grasp] * motion_out[grasp, k] - load[grasp, k]
    # A pad's samples share frame and closure: sum first, turn once.
    for pad in range(pad_count):
        row = pad * rows + grasp
        work = float(0.0)
        push = wp.vec3(0.0, 0.0, 0.0)
        twist = wp.vec3(0.0, 0.0, 0.0)
        for i in range(samples):
            c = pad * samples + i
            if wp.length_sq(normal[grasp, c]) > 0.5:
                f = wp.vec3(product[row, 3 * i], product[row, 3 * i + 1], product[row, 3 * i + 2])
                work += wp.dot(velocity[grasp, c], f)
                push += f
                twist += wp.cross(f, arm[grasp, c])
        q = turn[grasp, pad * samples]
        push = wp.quat_rotate(q, push)
        twist = wp.quat_rotate(q, twist) / torque_length
        closure = closure_of_pad[pad]
        if closure >= 0:
            sum_out[grasp, closure] = sum_out[grasp, closure] + work
        for k in range(3):
            sum_out[grasp, closures + k] = sum_out[grasp, closures + k] - push[k]
            sum_out[grasp, closures + 3 + k] = sum_out[grasp, closures + 3 + k] + twist[k]
    for rigid in range(rigid_closure.shape[1]):
        c = pad_count * samples + rigid
        if wp.length_sq(normal[grasp, c]) > 0.5:
            add_contact(
                rigid_closure[grasp, rigid],
                closures,
                grasp,
                rigid_inverse * rigid_right[grasp, rigid],
                velocity[grasp, c],
                arm[grasp, c],
                turn[grasp, c],
                torque_length,
                sum_out,
            )
    for i in range(size):
        z = float(0.0)
        for k in range(size):
            z += inverse[grasp, i, k] * sum_out[grasp, k]
        motion_out[grasp, i] = z


@wp.kernel
def project_forces(
    # Model:
    closure_of_pad: wp.array[int],
    samples: int,
    # In:
    product: wp.array2d[float],
    motion: wp.array2d[float],
    coupling: wp.array3d[wp.vec3],
    normal: wp.array2d[wp.vec3],
    offset: wp.array2d[wp.vec3],
    rigid_closure: wp.array2d[int],
    pad_penalty: wp.array[float],
    # Options:
    pad_friction: float,
    rigid_friction: float,
    rigid_penalty: float,
    rigid_inverse: float,
    rows: int,
    # Out:
    rigid_right_out: wp.array2d[wp.vec3],
    force_out: wp.array2d[wp.vec3],
    multiplier_out: wp.array2d[wp.vec3],
    shift_out: wp.array2d[float],
    right_out: wp.array2d[float],
):
    """Forces without cones, their projection, the multipliers, and the right side of the next iteration.

    The shift mu |slip| along the normal makes Coulomb's law out of the cone's complementarity.

    Source: De Saxcé & Feng 1998; Boyd et al. 2011, section 3.4.3 (over-relaxation).
    Launch: dim = (grasp, contact).

    Args:
        closure_of_pad: Closure of each pad, -1 for none, shape [pad].
        samples: Of each pad.
        product: (C + rho)^-1 right, of pads [N], shape [pad row, 3 sample].
        motion: z [m], shape [grasp, unknown].
        coupling: (C + rho)^-1 G, shape [grasp, contact, COUPLED].
        normal: Zero where there is no contact, shape [grasp, contact].
        offset: d0 [m], shape [grasp, contact].
        rigid_closure: Closure of each rigid contact, -1 for none, shape [grasp, rigid].
        pad_penalty: rho of each pad [m/N], shape [pad].
        pad_friction: Coulomb's coefficient of pads.
        rigid_friction: Of rigid contacts.
        rigid_penalty: rho of rigid contacts [m/N].
        rigid_inverse: 1 / (C + rho) of a rigid contact [N/m].
        rows: Rows of each pad in the product.
        rigid_right_out: Right side of rigid contacts [m], updated, shape [grasp, rigid].
        force_out: [N], updated, shape [grasp, contact].
        multiplier_out: [m], updated, shape [grasp, contact].
        shift_out: [m], updated, shape [grasp, contact].
        right_out: Right side of pads [m], shape [pad row, 3 sample].
    """
    grasp, contact = wp.tid()
    n = normal[grasp, contact]
    pad_count = closure_of_pad.shape[0]
    pad = contact // samples
    i = contact - pad * samples
    row = pad * rows + grasp
    closures = motion.shape[1] - 6
    closure = int(-1)
    free = wp.vec3(0.0, 0.0, 0.0)
    penalty = float(rigid_penalty)
    friction = float(rigid_friction)
    if pad < pad_count:
        closure = closure_of_pad[pad]
        penalty = pad_penalty[pad]
        friction = pad_friction
        free = wp.vec3(product[row, 3 * i], product[row, 3 * i + 1], product[row, 3 * i + 2])
    else:
        rigid = contact - pad_count * samples
        closure = rigid_closure[grasp, rigid]
        free = rigid_inverse * rigid_right_out[grasp, rigid]
    for k in range(COUPLED):
        z = unknown(k, closure, closures)
        if z >= 0:
            free -= motion[grasp, z] * coupling[grasp, contact, k]
    old = force_out[grasp, contact]
    ahead = RELAXATION * free + (1.0 - RELAXATION) * old
    new = wp.vec3(0.0, 0.0, 0.0)
    multiplier = multiplier_out[grasp, contact]
    if wp.length_sq(n) > 0.5:
        new = cone_part(ahead + multiplier / penalty, n, friction)
    multiplier += penalty * (ahead - new)
    slip = wp.length(multiplier - wp.dot(multiplier, n) * n)
    shift = 0.5 * shift_out[grasp, contact] + 0.5 * friction * slip
    force_out[grasp, contact] = new
    multiplier_out[grasp, contact] = multiplier
    shift_out[grasp, contact] = shift
    v = -offset[grasp, contact] - shift * n + penalty * new - multiplier
    if pad < pad_count:
        for k in range(3):
            right_out[row, 3 * i + k] = v[k]
    else:
        rigid_right_out[grasp, contact - pad_count * samples] = v


@wp.kernel
def find_residual(
    # Model:
    closure_of_pad: wp.array[int],
    samples: int,
    # In:
    force: wp.array2d[wp.vec3],
    normal: wp.array2d[wp.vec3],
    arm: wp.array2d[wp.vec3],
    velocity: wp.array2d[wp.vec3],
    turn: wp.array2d[wp.quat],
    rigid_closure: wp.array2d[int],
    load: wp.array2d[float],
    # Options:
    torque_length: float,
    # Out:
    residual_out: wp.array2d[float],
):
    """G' f - h: what forces within the cones leave out of balance, on every closure and on the object.

    Launch: dim = grasp.

    Args:
        closure_of_pad: Closure of each pad, -1 for none, shape [pad].
        samples: Of each pad.
        force: [N], shape [grasp, contact].
        normal: Zero where there is no contact, shape [grasp, contact].
        arm: From the object's centre of mass [m], shape [grasp, contact].
        velocity: Motion per unit of its closure, shape [grasp, contact].
        turn: Rotation from the contact's frame to the world, shape [grasp, contact].
        rigid_closure: Closure of each rigid contact, -1 for none, shape [grasp, rigid].
        load: h [N], shape [grasp, unknown].
        torque_length: Length that turns a torque into a force [m].
        residual_out: [N], shape [grasp, unknown].
    """
    grasp = wp.tid()
    size = load.shape[1]
    for k in range(size):
        residual_out[grasp, k] = -load[grasp, k]
    for c in range(normal.shape[1]):
        if wp.length_sq(normal[grasp, c]) > 0.5:
            closure = closure_of(c, samples, grasp, closure_of_pad, rigid_closure)
            add_contact(
                closure,
                size - 6,
                grasp,
                force[grasp, c],
                velocity[grasp, c],
                arm[grasp, c],
                turn[grasp, c],
                torque_length,
                residual_out,
            )


@wp.kernel
def pack_forces(
    # Model:
    samples: int,
    # In:
    force: wp.array2d[wp.vec3],
    # Options:
    rows: int,
    # Out:
    packed_out: wp.array2d[float],
):
    """Forces on the pads, ready for the product with C.

    Launch: dim = (grasp, pad contact).

    Args:
        samples: Of each pad.
        force: [N], shape [grasp, contact].
        rows: Rows of each pad.
        packed_out: Shape [pad row, 3 sample].
    """
    grasp, contact = wp.tid()
    pad = contact // samples
    i = contact - pad * samples
    f = force[grasp, contact]
    for k in range(3):
        packed_out[pad * rows + grasp, 3 * i + k] = f[k]


@wp.kernel
def advance(
    # Model:
    center_of_mass: wp.vec3,
    # In:
    motion: wp.array2d[float],
    # Options:
    torque_length: float,
    largest_shift: float,
    # Out:
    closure_out: wp.array2d[float],
    object_pose_out: wp.array[wp.transform],
):
    """Move closures and object by z, each by no more than a step that the linearisation bears.

    Launch: dim = grasp.

    Args:
        center_of_mass: Of the object, in its frame [m].
        motion: z [m], shape [grasp, unknown].
        torque_length: Length that turns a torque into a force [m].
        largest_shift: Of a closure, of the object, and of the object's turn times ``torque_length`` [m].
        closure_out: s [m], updated, shape [grasp, closure].
        object_pose_out: Updated, shape [grasp].
    """
    grasp = wp.tid()
    closures = closure_out.shape[1]
    for g in range(closures):
        closure_out[grasp, g] = closure_out[grasp, g] + wp.clamp(motion[grasp, g], -largest_shift, largest_shift)
    shift = wp.vec3(motion[grasp, closures], motion[grasp, closures + 1], motion[grasp, closures + 2])
    turn = wp.vec3(motion[grasp, closures + 3], motion[grasp, closures + 4], motion[grasp, closures + 5])
    shift = shift * wp.min(1.0, largest_shift / wp.max(wp.length(shift), 1.0e-12))
    turn = turn * wp.min(1.0, largest_shift / wp.max(wp.length(turn), 1.0e-12)) / torque_length
    angle = wp.length(turn)
    if angle < 1.0e-9:
        by = wp.quat_identity()
    else:
        by = wp.quat_from_axis_angle(turn / angle, angle)
    pose = object_pose_out[grasp]
    q = wp.normalize(by * wp.transform_get_rotation(pose))
    center = wp.transform_point(pose, center_of_mass) + shift
    object_pose_out[grasp] = wp.transform(center - wp.quat_rotate(q, center_of_mass), q)
