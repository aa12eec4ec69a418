"""Signed distance to a triangle mesh: find the closest face, then evaluate on that face.

The search walks a tree and has no derivative. The evaluation works on a stored face, so it costs a few dozen
nanoseconds, keeps its meaning while a point moves a little between two searches, and returns its own gradient.
"""

import warp as wp

FAR_DISTANCE = wp.constant(10.0)
"""Distance of a point that has no face within reach [m]; its gradient is zero."""

TOUCHING_DISTANCE = wp.constant(1.0e-6)
"""Closer than this, p - r is rounding noise and has no direction [m]."""

SHORTEST_BLEND = wp.constant(1.0e-3)
"""Interpolated normals shorter than this have no direction."""

PLANE_REACH = wp.constant(3.0e-4)
"""Up to about here, ``PHONG_PLANE`` measures along the interpolated normal, further away the true distance [m]."""

PHONG_DISTANCE = wp.constant(0)
"""Phong mode: distance to the Phong point r*, on the side where the point lies."""

PHONG_PLANE = wp.constant(1)
"""Phong mode: near the surface, height over the plane through the Phong point with the interpolated normal, so that
normals turn evenly from face to face; further away, ``PHONG_DISTANCE``."""

PHONG_PRINTED = wp.constant(2)
"""Phong mode: distance to the Phong point with the sign of the flat mesh and the gradient (p - r*) / rho, as printed in
Fast-Grasp'D. The sign is wrong between the two surfaces, and the gradient is not the derivative of the value."""


@wp.func
def segment_parameter(p: wp.vec3, a: wp.vec3, b: wp.vec3):
    """Parameter in [0, 1] of the point of the segment from a to b that is closest to p."""
    ab = b - a
    return wp.clamp(wp.dot(p - a, ab) / wp.max(wp.length_sq(ab), 1.0e-20), 0.0, 1.0)


@wp.func
def point_offset(p: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3, weight: wp.vec3):
    """Point minus the weighted mean of a, b, c; differences come first because they are exact in float32."""
    return weight[0] * (p - a) + weight[1] * (p - b) + weight[2] * (p - c)


@wp.func
def closest_point(p: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Barycentric weights of the point of the triangle a, b, c that is closest to p.

    A weight is exactly zero where the point lies on the opposite edge. Only edges that face p hold the closest point:
    those whose opposite corner has no positive weight in the projection of p to the plane.
    """
    ab = b - a
    ac = c - a
    normal = wp.cross(ab, ac)
    inverse = 1.0 / wp.max(wp.length_sq(normal), 1.0e-30)
    v = wp.dot(wp.cross(ac, normal), p - a) * inverse
    w = wp.dot(wp.cross(normal, ab), p - a) * inverse
    u = 1.0 - v - w
    if u > 0.0 and v > 0.0 and w > 0.0:
        return wp.vec3(u, v, w)

    best = wp.vec3(1.0, 0.0, 0.0)
    best_length = float(wp.inf)
    if w <= 0.0:
        t = segment_parameter(p, a, b)
        best = wp.vec3(1.0 - t, t, 0.0)
        best_length = wp.length_sq(point_offset(p, a, b, c, best))
    if u <= 0.0:
        t = segment_parameter(p, b, c)
        candidate = wp.vec3(0.0, 1.0 - t, t)
        length = wp.length_sq(point_offset(p, a, b, c, candidate))
        if length < best_length:
            best = candidate
            best_length = length
    if v <= 0.0:
        t = segment_parameter(p, c, a)
        candidate = wp.vec3(t, 0.0, 1.0 - t)
        if wp.length_sq(point_offset(p, a, b, c, candidate)) < best_length:
            best = candidate
    return best


@wp.func
def segment_gradient(a: wp.vec3, b: wp.vec3):
    """Derivative of ``segment_parameter`` with respect to p, inside the segment [1/m]."""
    ab = b - a
    return ab / wp.max(wp.length_sq(ab), 1.0e-20)


@wp.func
def closest_point_gradient(weight: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Derivatives of the three weights of ``closest_point`` with respect to p [1/m], one per row; they sum to zero."""
    zero = wp.vec3(0.0, 0.0, 0.0)
    if weight[0] > 0.0 and weight[1] > 0.0 and weight[2] > 0.0:
        normal = wp.cross(b - a, c - a)
        inverse = 1.0 / wp.max(wp.length_sq(normal), 1.0e-30)
        dv = wp.cross(c - a, normal) * inverse
        dw = wp.cross(normal, b - a) * inverse
        return wp.matrix_from_rows(-dv - dw, dv, dw)
    if weight[0] > 0.0 and weight[1] > 0.0:
        along = segment_gradient(a, b)
        return wp.matrix_from_rows(-along, along, zero)
    if weight[1] > 0.0 and weight[2] > 0.0:
        along = segment_gradient(b, c)
        return wp.matrix_from_rows(zero, -along, along)
    if weight[2] > 0.0 and weight[0] > 0.0:
        along = segment_gradient(c, a)
        return wp.matrix_from_rows(along, zero, -along)
    return wp.matrix_from_rows(zero, zero, zero)


@wp.func
def outward_direction(d: wp.vec3, sign: float, face_normal: wp.vec3):
    """Unit direction from the surface to the outside at a point; d = p - r, sign is negative inside."""
    length = wp.length(d)
    if length < TOUCHING_DISTANCE:
        return wp.normalize(face_normal)
    return wp.where(sign < 0.0, -1.0, 1.0) / length * d


@wp.func
def flat_sign(d: wp.vec3, outward: wp.vec3):
    """Side of the flat triangle on which a point lies, d = p - r: 1 outside, -1 inside."""
    return wp.where(wp.dot(d, outward) < 0.0, -1.0, 1.0)


KEPT_SHARE = wp.constant(0.15)
"""A point keeps its face until it has moved by this share of its distance from the surface, and a slack."""


@wp.func
def keeps_face(p: wp.vec3, searched: wp.vec4, slack: float):
    """Whether a point is still so near to where its face was searched that another face is hardly nearer."""
    moved = wp.length(p - wp.vec3(searched[0], searched[1], searched[2]))
    return searched[3] >= 0.0 and moved <= slack + KEPT_SHARE * searched[3]


CROSSING_SHARE = wp.constant(0.99)
"""A point that has moved by less than this share of its distance has not crossed the surface; the rest is rounding."""


@wp.func
def kept_sign(mesh: wp.uint64, p: wp.vec3, searched: wp.vec4, face: int, outward: wp.vec3):
    """Side of a closed surface on which a point was at its last search, 0 if it may have crossed the surface since."""
    before = wp.vec3(searched[0], searched[1], searched[2])
    if face < 0 or wp.length(p - before) > CROSSING_SHARE * searched[3]:
        return 0.0
    m = wp.mesh_get(mesh)
    a = m.points[m.indices[3 * face]]
    b = m.points[m.indices[3 * face + 1]]
    c = m.points[m.indices[3 * face + 2]]
    return flat_sign(point_offset(before, a, b, c, closest_point(before, a, b, c)), outward)


@wp.kernel(enable_backward=False)
def closest_face_by_normal(
    # Model:
    mesh: wp.uint64,
    vertex_normals: wp.array[wp.vec3],
    edge_normals: wp.array2d[wp.vec3],
    # State:
    points: wp.array2d[wp.vec3],
    # Options:
    max_distance: float,
    slack: float,
    # State:
    searched_out: wp.array2d[wp.vec4],
    # Out:
    face_out: wp.array2d[int],
    outward_out: wp.array2d[wp.vec3],
):
    """Closest face of each point; inside is where p - r points against the normal of the closest vertex, edge or face.

    Right for meshes that are watertight, consistently wound and do not overlap themselves. Unlike Warp's own query
    of this kind, it does not mix in the normals of other faces that happen to be equally far away, which goes wrong
    halfway between two sides.

    Source: Baerentzen & Aanaes 2005, Signed distance computation using the angle weighted pseudonormal.
    Launch: dim = (grasp, point). No derivative: the face is frozen.

    Args:
        mesh: Id of the Warp mesh.
        vertex_normals: Outward normals at the vertices, weighted by angle, shape [vertex].
        edge_normals: Outward normals at the edges, from corner i to corner i + 1, shape [face, 3].
        points: Points in the object frame [m], shape [grasp, point].
        max_distance: Reach of the search [m].
        slack: A point that has moved by less than this, and a share of its distance, keeps its face [m]; negative: all
            are searched.
        searched_out: Where each point was when it was searched last, and its distance then [m], negative before the
            first search; not touched with a negative slack; shape [grasp, point].
        face_out: Index of the closest face, -1 where none is within reach, shape [grasp, point].
        outward_out: Unit direction from the surface to the outside at the point, in the object frame; the normal of
            the face where the point touches it, zero without a face; shape [grasp, point].
    """
    grasp, point = wp.tid()
    p = points[grasp, point]
    if slack >= 0.0:
        if keeps_face(p, searched_out[grasp, point], slack):
            return
        searched_out[grasp, point] = wp.vec4(p[0], p[1], p[2], max_distance)
    hit = wp.mesh_query_point_no_sign(mesh, p, max_distance)
    if not hit.result:
        face_out[grasp, point] = -1
        outward_out[grasp, point] = wp.vec3(0.0, 0.0, 0.0)
        return
    m = wp.mesh_get(mesh)
    face = hit.face
    i = m.indices[3 * face]
    j = m.indices[3 * face + 1]
    k = m.indices[3 * face + 2]
    a = m.points[i]
    b = m.points[j]
    c = m.points[k]
    weight = closest_point(p, a, b, c)
    d = point_offset(p, a, b, c, weight)
    face_normal = wp.cross(b - a, c - a)
    normal = face_normal
    if weight[0] == 1.0:
        normal = vertex_normals[i]
    elif weight[1] == 1.0:
        normal = vertex_normals[j]
    elif weight[2] == 1.0:
        normal = vertex_normals[k]
    elif weight[2] == 0.0:
        normal = edge_normals[face, 0]
    elif weight[0] == 0.0:
        normal = edge_normals[face, 1]
    elif weight[1] == 0.0:
        normal = edge_normals[face, 2]
    face_out[grasp, point] = face
    if slack >= 0.0:
        searched_out[grasp, point] = wp.vec4(p[0], p[1], p[2], wp.length(d))
    outward_out[grasp, point] = outward_direction(d, wp.dot(d, normal), face_normal)


WINDING_ACCURACY = wp.constant(1.5)
"""Ratio of distance to size at which faces are summed as one dipole. On real scans no sign changed down to 1."""


@wp.kernel(enable_backward=False)
def closest_face_by_winding(
    # Model:
    mesh: wp.uint64,
    lower: wp.vec3,
    upper: wp.vec3,
    closed: bool,
    # State:
    points: wp.array2d[wp.vec3],
    # Options:
    max_distance: float,
    slack: float,
    # State:
    searched_out: wp.array2d[wp.vec4],
    # Out:
    face_out: wp.array2d[int],
    outward_out: wp.array2d[wp.vec3],
):
    """Closest face of each point; inside is where the generalized winding number is above one half.

    Right for open meshes and for bodies that overlap; up to four times the cost of ``closest_face_by_normal``, though
    not outside the bounding box, where nothing is inside, nor where a point has moved so little since its last search
    that it cannot have crossed a closed surface. Inside two bodies that overlap, the closest face may be one that lies
    inside the other: the distance is then too short.

    Source: Jacobson, Kavan & Sorkine-Hornung 2013, Robust inside-outside segmentation using generalized winding
    numbers; Barill et al. 2018, Fast winding numbers for soups and clouds.
    Launch: dim = (grasp, point). No derivative: the face is frozen.

    Args:
        mesh: Id of a Warp mesh built with ``support_winding_number``.
        lower: Lower corner of its bounding box [m].
        upper: Upper corner of its bounding box [m].
        closed: Whether inside and outside meet at faces only; not so in the openings of a mesh that is not watertight.
        points: Points in the object frame [m], shape [grasp, point].
        max_distance: Reach of the search [m].
        slack: A point that has moved by less than this, and a share of its distance, keeps its face [m]; negative: all
            are searched.
        searched_out: Where each point was when it was searched last, and its distance then [m], negative before the
            first search; not touched with a negative slack; shape [grasp, point].
        face_out: Index of the closest face, -1 where none is within reach, shape [grasp, point].
        outward_out: Unit direction from the surface to the outside at the point, in the object frame; the normal of
            the face where the point touches it, zero without a face; shape [grasp, point].
    """
    grasp, point = wp.tid()
    p = points[grasp, point]
    sign = float(0.0)
    if slack >= 0.0:
        last = searched_out[grasp, point]
        if keeps_face(p, last, slack):
            return
        if closed:
            sign = kept_sign(mesh, p, last, face_out[grasp, point], outward_out[grasp, point])
        searched_out[grasp, point] = wp.vec4(p[0], p[1], p[2], max_distance)
    face = int(-1)
    if sign == 0.0 and wp.min(p - lower) > 0.0 and wp.min(upper - p) > 0.0:
        signed_hit = wp.mesh_query_point_sign_winding_number(mesh, p, max_distance, WINDING_ACCURACY)
        if signed_hit.result:
            face = signed_hit.face
            sign = signed_hit.sign
    else:
        hit = wp.mesh_query_point_no_sign(mesh, p, max_distance)
        if hit.result:
            face = hit.face
        sign = wp.where(sign < 0.0, -1.0, 1.0)
    face_out[grasp, point] = face
    if face < 0:
        outward_out[grasp, point] = wp.vec3(0.0, 0.0, 0.0)
        return
    m = wp.mesh_get(mesh)
    a = m.points[m.indices[3 * face]]
    b = m.points[m.indices[3 * face + 1]]
    c = m.points[m.indices[3 * face + 2]]
    d = point_offset(p, a, b, c, closest_point(p, a, b, c))
    if slack >= 0.0:
        searched_out[grasp, point] = wp.vec4(p[0], p[1], p[2], wp.length(d))
    outward_out[grasp, point] = outward_direction(d, sign, wp.cross(b - a, c - a))


@wp.func
def flat_distance(d: wp.vec3, outward: wp.vec3):
    """Signed length of d = p - r and its gradient with respect to p.

    phi = s |d|, grad phi = s d / |d|, s = sign(d . outward)
    """
    length = wp.length(d)
    if length < TOUCHING_DISTANCE:
        return wp.dot(d, outward), outward
    sign = flat_sign(d, outward)
    return sign * length, sign / length * d


@wp.func
def turning(direction: wp.vec3, change: wp.vec3):
    """Part of a change across a unit vector."""
    return change - wp.dot(direction, change) * direction


@wp.func
def flat_curvature(p: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3, outward: wp.vec3, t: wp.vec3):
    """Second derivative of the distance to the triangle a, b, c, times t; it is symmetric.

    Zero over the face, (t - e e.t - n n.t) / phi around an edge along e, (t - n n.t) / phi around a vertex.
    """
    weight = closest_point(p, a, b, c)
    d = point_offset(p, a, b, c, weight)
    length = wp.length(d)
    if length < TOUCHING_DISTANCE or (weight[0] > 0.0 and weight[1] > 0.0 and weight[2] > 0.0):
        return wp.vec3(0.0, 0.0, 0.0)
    sliding = closest_point_gradient(weight, a, b, c) * t
    return flat_sign(d, outward) / length * turning(d / length, t + point_offset(p, a, b, c, sliding))


@wp.func
def phong_offset(p: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3, normals: wp.mat33, alpha: float):
    """Where the Phong surface lies under a point.

    With u_i the weights of the closest point r of the flat triangle and h_i = n_i . (r - v_i) its height over the
    tangent plane of corner i,

    d = p - r* = p - r + alpha sum_i u_i h_i n_i

    Source: Boubekeur & Alexa 2008, Phong tessellation.

    Returns:
        Weights u, p - r, corners minus r (one per row), heights h, and d.
    """
    weight = closest_point(p, a, b, c)
    flat = point_offset(p, a, b, c, weight)
    if weight[0] > 0.0 and weight[1] > 0.0 and weight[2] > 0.0:
        # the same but for rounding, which would turn short offsets
        normal = wp.cross(b - a, c - a)
        flat = wp.dot(p - a, normal) / wp.max(wp.length_sq(normal), 1.0e-30) * normal
    # corners relative to r: v_i - r = (p - r) - (p - v_i), exact in float32
    arm = wp.matrix_from_rows(flat - (p - a), flat - (p - b), flat - (p - c))
    height = -wp.vec3(wp.dot(normals[0], arm[0]), wp.dot(normals[1], arm[1]), wp.dot(normals[2], arm[2]))
    d = flat + alpha * (wp.cw_mul(weight, height) * normals)
    return weight, flat, arm, height, d


@wp.func
def phong_sign(flat: wp.vec3, d: wp.vec3, blend: wp.vec3, outward: wp.vec3):
    """Side of the Phong surface on which a point lies: 1 outside, -1 inside.

    That of the flat surface, but where the point may lie between the two, the interpolated normal tells.
    """
    between = wp.length_sq(flat) < wp.length_sq(d - flat)
    if between and wp.length_sq(blend) > SHORTEST_BLEND * SHORTEST_BLEND:
        return wp.where(wp.dot(d, blend) < 0.0, -1.0, 1.0)
    return flat_sign(flat, outward)


@wp.func
def pull_back(
    x: wp.vec3,
    gain: wp.vec3,
    weight: wp.vec3,
    slope: wp.mat33,
    arm: wp.mat33,
    height: wp.vec3,
    normals: wp.mat33,
    alpha: float,
):
    """Adjoint of p for those of d = p - r* (x) and of the weights (gain), whose derivative is ``slope``."""
    along = normals * x
    rest = x - alpha * (wp.cw_mul(weight, along) * normals)
    return x + (gain + alpha * wp.cw_mul(height, along) - arm * rest) * slope


@wp.func
def phong_reach(mode: int):
    """Length l of ``phong_distance`` [m]."""
    return wp.where(mode == PHONG_PLANE, PLANE_REACH, 0.0)


@wp.func
def phong_distance(
    p: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3, normals: wp.mat33, outward: wp.vec3, alpha: float, mode: int
):
    """Signed distance to the Phong surface over one face and its gradient with respect to p.

    With d = p - r* of ``phong_offset``, s of ``phong_sign`` and k = sum_i u_i n_i, the normal before it gets length 1:

    phi = d . q / |q|,  q = l k + s d;  l = 0 (PHONG_DISTANCE), so that phi = s |d|, or PLANE_REACH (PHONG_PLANE)
    phi = sign((p - r) . outward) |d|, gradient d / phi   (PHONG_PRINTED)

    Source: Turpin et al. 2023, Fast-Grasp'D, section III-B, for the last one.
    """
    weight, flat, arm, height, d = phong_offset(p, a, b, c, normals, alpha)
    if mode == PHONG_PRINTED:
        length = wp.length(d)
        if length < TOUCHING_DISTANCE:
            return wp.dot(d, outward), outward
        sign = flat_sign(flat, outward)
        return sign * length, sign / length * d

    blend = weight * normals
    sign = phong_sign(flat, d, blend, outward)
    reach = phong_reach(mode)
    q = reach * blend + sign * d
    q_length = wp.length(q)
    if q_length < TOUCHING_DISTANCE:
        return wp.dot(d, outward), outward
    slope = closest_point_gradient(weight, a, b, c)
    inverse = 1.0 / q_length
    q = inverse * q
    value = wp.dot(d, q)
    x = q
    gain = wp.vec3(0.0, 0.0, 0.0)
    if reach > 0.0:
        rest = inverse * (d - value * q)
        x = q + sign * rest
        gain = reach * (normals * rest)
    return value, pull_back(x, gain, weight, slope, arm, height, normals, alpha)


@wp.func
def phong_adjoint(
    p: wp.vec3,
    a: wp.vec3,
    b: wp.vec3,
    c: wp.vec3,
    normals: wp.mat33,
    outward: wp.vec3,
    alpha: float,
    mode: int,
    value_adjoint: float,
    t: wp.vec3,
):
    """Adjoint of p for those of the value and of the gradient (t) that ``phong_distance`` returns.

    With D = dd/dp and K = dk/dp, the gradient is g = D' x + l K' y of x = q + s y and y = (d - phi q) / |q|, where q is
    from here on of length 1. It is the derivative of the value, so its own derivative is symmetric, and its adjoint is
    the change of g when p moves by t:

    dg = D' dx + dD' x + l K' dy

    The printed gradient is no derivative; its adjoint is D' (n value_adjoint + s (t - n n.t) / |d|), n = s d / |d|.
    """
    weight, flat, arm, height, d = phong_offset(p, a, b, c, normals, alpha)
    slope = closest_point_gradient(weight, a, b, c)
    if mode == PHONG_PRINTED:
        length = wp.length(d)
        if length < TOUCHING_DISTANCE:
            return value_adjoint * outward
        sign = flat_sign(flat, outward)
        printed = sign / length * d
        x = value_adjoint * printed + sign / length * turning(printed, t)
        return pull_back(x, wp.vec3(0.0, 0.0, 0.0), weight, slope, arm, height, normals, alpha)

    blend = weight * normals
    sign = phong_sign(flat, d, blend, outward)
    reach = phong_reach(mode)
    q = reach * blend + sign * d
    q_length = wp.length(q)
    if q_length < TOUCHING_DISTANCE:
        return value_adjoint * outward
    inverse = 1.0 / q_length
    q = inverse * q
    value = wp.dot(d, q)
    rest = inverse * (d - value * q)
    x = q + sign * rest

    # what changes when p moves by t
    weight_change = slope * t
    foot_change = weight_change * arm
    height_change = normals * foot_change
    lift_change = wp.cw_mul(weight_change, height) + wp.cw_mul(weight, height_change)
    d_change = t - foot_change + alpha * (lift_change * normals)
    raw_change = reach * (weight_change * normals) + sign * d_change
    q_change = inverse * turning(q, raw_change)
    rest_change = inverse * (
        turning(q, d_change) - wp.dot(d, q_change) * q - value * q_change - wp.dot(q, raw_change) * rest
    )
    x_change = q_change + sign * rest_change

    along = normals * x
    bend = alpha * (wp.cw_mul(height_change, along) + arm * (wp.cw_mul(weight_change, along) * normals))
    gain = bend + reach * (normals * (value_adjoint * rest + rest_change))
    return pull_back(value_adjoint * x + x_change, gain, weight, slope, arm, height, normals, alpha)


@wp.kernel(enable_backward=False)
def signed_distance(
    # Model:
    mesh: wp.uint64,
    corner_normals: wp.array2d[wp.vec3],
    # State:
    points: wp.array2d[wp.vec3],
    face: wp.array2d[int],
    outward: wp.array2d[wp.vec3],
    # Options:
    phong_alpha: float,
    phong_mode: int,
    # Out:
    distance_out: wp.array2d[float],
    gradient_out: wp.array2d[wp.vec3],
):
    """Signed distance of each point to its stored face, and its gradient.

    phi = sign(d . outward) |d| with d = p - r, r the closest point of the face; ``phong_distance`` where
    ``phong_alpha`` is positive.

    Launch: dim = (grasp, point). ``signed_distance_adjoint`` goes backward.

    Args:
        mesh: Id of the Warp mesh.
        corner_normals: Unit normals at the corners of the faces, shape [face, 3].
        points: Points in the object frame [m], shape [grasp, point].
        face: Index of the face of each point, -1 for none, shape [grasp, point].
        outward: Unit direction from the surface to the outside when the face was found, shape [grasp, point].
        phong_alpha: 0 for the flat triangles, up to 1 for the fully curved surface.
        phong_mode: ``PHONG_DISTANCE``, ``PHONG_PLANE`` or ``PHONG_PRINTED``.
        distance_out: Signed distance, negative inside [m]; ``FAR_DISTANCE`` without a face; shape [grasp, point].
        gradient_out: Derivative of the distance with respect to the point, in the object frame, zero without a face,
            shape [grasp, point].
    """
    grasp, point = wp.tid()
    f = face[grasp, point]
    if f < 0:
        distance_out[grasp, point] = FAR_DISTANCE
        gradient_out[grasp, point] = wp.vec3(0.0, 0.0, 0.0)
        return
    m = wp.mesh_get(mesh)
    a = m.points[m.indices[3 * f]]
    b = m.points[m.indices[3 * f + 1]]
    c = m.points[m.indices[3 * f + 2]]
    p = points[grasp, point]
    if phong_alpha > 0.0:
        normals = wp.matrix_from_rows(corner_normals[f, 0], corner_normals[f, 1], corner_normals[f, 2])
        value, gradient = phong_distance(p, a, b, c, normals, outward[grasp, point], phong_alpha, phong_mode)
    else:
        value, gradient = flat_distance(point_offset(p, a, b, c, closest_point(p, a, b, c)), outward[grasp, point])
    distance_out[grasp, point] = value
    gradient_out[grasp, point] = gradient


@wp.kernel(enable_backward=False)
def signed_distance_adjoint(
    # Model:
    mesh: wp.uint64,
    corner_normals: wp.array2d[wp.vec3],
    # State:
    points: wp.array2d[wp.vec3],
    face: wp.array2d[int],
    outward: wp.array2d[wp.vec3],
    distance_adjoint: wp.array2d[float],
    gradient_adjoint: wp.array2d[wp.vec3],
    # Options:
    phong_alpha: float,
    phong_mode: int,
    # Out:
    point_adjoint_out: wp.array2d[wp.vec3],
):
    """Adjoint of ``signed_distance``: what a loss of distances and gradients gains when the points move.

    dL/dp = dL/dphi dphi/dp + (dg/dp)' dL/dg on the stored face.

    Launch: dim = (grasp, point).

    Args:
        mesh: Id of the Warp mesh.
        corner_normals: Unit normals at the corners of the faces, shape [face, 3].
        points: Points in the object frame [m], shape [grasp, point].
        face: Index of the face of each point, -1 for none, shape [grasp, point].
        outward: Unit direction from the surface to the outside when the face was found, shape [grasp, point].
        distance_adjoint: Derivative of the loss with respect to the distance [1/m], shape [grasp, point].
        gradient_adjoint: Derivative of the loss with respect to the gradient, shape [grasp, point].
        phong_alpha: 0 for the flat triangles, up to 1 for the fully curved surface.
        phong_mode: ``PHONG_DISTANCE``, ``PHONG_PLANE`` or ``PHONG_PRINTED``.
        point_adjoint_out: Derivative of the loss with respect to the point [1/m], overwritten, zero without a face,
            shape [grasp, point].
    """
    grasp, point = wp.tid()
    f = face[grasp, point]
    if f < 0:
        point_adjoint_out[grasp, point] = wp.vec3(0.0, 0.0, 0.0)
        return
    m = wp.mesh_get(mesh)
    a = m.points[m.indices[3 * f]]
    b = m.points[m.indices[3 * f + 1]]
    c = m.points[m.indices[3 * f + 2]]
    p = points[grasp, point]
    out = outward[grasp, point]
    u = distance_adjoint[grasp, point]
    t = gradient_adjoint[grasp, point]
    if phong_alpha > 0.0:
        normals = wp.matrix_from_rows(corner_normals[f, 0], corner_normals[f, 1], corner_normals[f, 2])
        point_adjoint_out[grasp, point] = phong_adjoint(p, a, b, c, normals, out, phong_alpha, phong_mode, u, t)
    else:
        _, gradient = flat_distance(point_offset(p, a, b, c, closest_point(p, a, b, c)), out)
        point_adjoint_out[grasp, point] = u * gradient + flat_curvature(p, a, b, c, out, t)
