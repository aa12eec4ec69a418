"""Signed distance to a triangle mesh: find the closest face, then evaluate on that face.

The search walks a tree and has no derivative. The evaluation works on a stored face, so it costs a few dozen
nanoseconds, keeps its meaning while a point moves a little between two searches, and returns its own gradient.
"""

import warp as wp

FAR_DISTANCE = wp.constant(10.0)
"""Distance of a point that has no face within reach [m]; its gradient is zero."""

TOUCHING_DISTANCE = wp.constant(1.0e-6)
"""Closer than this, p - r is rounding noise and has no direction [m]."""

PHONG_DISTANCE = wp.constant(0)
"""Phong mode: distance to the Phong point r*, signed by the interpolated normal. Jumps where the sign changes away
from the surface, which happens on coarse sharp meshes only."""

PHONG_PLANE = wp.constant(1)
"""Phong mode: distance to the plane through the Phong point with the interpolated normal. Smoother than
``PHONG_DISTANCE`` within a millimetre of the surface, too short far away from sharp edges."""


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

    A weight is exactly zero where the point lies on the opposite edge.
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

    t = segment_parameter(p, a, b)
    best = wp.vec3(1.0 - t, t, 0.0)
    best_length = wp.length_sq(point_offset(p, a, b, c, best))
    t = segment_parameter(p, b, c)
    candidate = wp.vec3(0.0, 1.0 - t, t)
    length = wp.length_sq(point_offset(p, a, b, c, candidate))
    if length < best_length:
        best = candidate
        best_length = length
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
        face_out: Index of the closest face, -1 where none is within reach, shape [grasp, point].
        outward_out: Unit direction from the surface to the outside at the point, in the object frame; the normal of
            the face where the point touches it, zero without a face; shape [grasp, point].
    """
    grasp, point = wp.tid()
    p = points[grasp, point]
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
    outward_out[grasp, point] = outward_direction(d, wp.dot(d, normal), face_normal)


WINDING_ACCURACY = wp.constant(1.5)
"""Ratio of distance to size at which faces are summed as one dipole. On real scans no sign changed down to 1."""


@wp.kernel(enable_backward=False)
def closest_face_by_winding(
    # Model:
    mesh: wp.uint64,
    lower: wp.vec3,
    upper: wp.vec3,
    # State:
    points: wp.array2d[wp.vec3],
    # Options:
    max_distance: float,
    # Out:
    face_out: wp.array2d[int],
    outward_out: wp.array2d[wp.vec3],
):
    """Closest face of each point; inside is where the generalized winding number is above one half.

    Right for open meshes and for bodies that overlap; up to four times the cost of ``closest_face_by_normal``, though
    not outside the bounding box, where nothing is inside. Inside two bodies that overlap, the closest face may be one
    that lies inside the other: the distance is then too short.

    Source: Jacobson, Kavan & Sorkine-Hornung 2013, Robust inside-outside segmentation using generalized winding
    numbers; Barill et al. 2018, Fast winding numbers for soups and clouds.
    Launch: dim = (grasp, point). No derivative: the face is frozen.

    Args:
        mesh: Id of a Warp mesh built with ``support_winding_number``.
        lower: Lower corner of its bounding box [m].
        upper: Upper corner of its bounding box [m].
        points: Points in the object frame [m], shape [grasp, point].
        max_distance: Reach of the search [m].
        face_out: Index of the closest face, -1 where none is within reach, shape [grasp, point].
        outward_out: Unit direction from the surface to the outside at the point, in the object frame; the normal of
            the face where the point touches it, zero without a face; shape [grasp, point].
    """
    grasp, point = wp.tid()
    p = points[grasp, point]
    face = int(-1)
    sign = float(1.0)
    if wp.min(p - lower) > 0.0 and wp.min(upper - p) > 0.0:
        signed_hit = wp.mesh_query_point_sign_winding_number(mesh, p, max_distance, WINDING_ACCURACY)
        if signed_hit.result:
            face = signed_hit.face
            sign = signed_hit.sign
    else:
        hit = wp.mesh_query_point_no_sign(mesh, p, max_distance)
        if hit.result:
            face = hit.face
    face_out[grasp, point] = face
    if face < 0:
        outward_out[grasp, point] = wp.vec3(0.0, 0.0, 0.0)
        return
    m = wp.mesh_get(mesh)
    a = m.points[m.indices[3 * face]]
    b = m.points[m.indices[3 * face + 1]]
    c = m.points[m.indices[3 * face + 2]]
    d = point_offset(p, a, b, c, closest_point(p, a, b, c))
    outward_out[grasp, point] = outward_direction(d, sign, wp.cross(b - a, c - a))


@wp.func
def flat_distance(d: wp.vec3, outward: wp.vec3):
    """Signed length of d = p - r and its gradient with respect to p.

    phi = s |d|, grad phi = s d / |d|, s = sign(d . outward)
    """
    length = wp.length(d)
    if length < TOUCHING_DISTANCE:
        return wp.dot(d, outward), outward
    sign = wp.where(wp.dot(d, outward) < 0.0, -1.0, 1.0)
    return sign * length, sign / length * d


@wp.func
def phong_distance(
    p: wp.vec3,
    a: wp.vec3,
    b: wp.vec3,
    c: wp.vec3,
    normal_a: wp.vec3,
    normal_b: wp.vec3,
    normal_c: wp.vec3,
    outward: wp.vec3,
    alpha: float,
    mode: int,
):
    """Signed distance to the Phong surface over one face and its gradient with respect to p.

    With u_i the barycentric weights of the closest point r of the flat triangle, h_i = n_i . (r - v_i) its height
    over the tangent plane of vertex i, and m = sum_i u_i n_i / |sum_i u_i n_i|:

    d = p - r* = p - r + alpha sum_i u_i h_i n_i
    phi = sign(d . m) |d|   (PHONG_DISTANCE)
    phi = d . m             (PHONG_PLANE)

    Source: Boubekeur & Alexa 2008, Phong tessellation, for r*. The sign is that of the interpolated normal: the sign
    of the flat mesh is wrong between the two surfaces.
    """
    weight = closest_point(p, a, b, c)
    slope = closest_point_gradient(weight, a, b, c)
    flat = point_offset(p, a, b, c, weight)
    to_a = flat - (p - a)
    to_b = flat - (p - b)
    to_c = flat - (p - c)
    # from here on, vertices relative to r: v_i - r = (p - r) - (p - v_i)
    height_a = -wp.dot(normal_a, to_a)
    height_b = -wp.dot(normal_b, to_b)
    height_c = -wp.dot(normal_c, to_c)
    lift = weight[0] * height_a * normal_a + weight[1] * height_b * normal_b + weight[2] * height_c * normal_c
    d = flat + alpha * lift

    blend = weight[0] * normal_a + weight[1] * normal_b + weight[2] * normal_c
    blend_length = wp.length(blend)
    if blend_length < 1.0e-3:
        # the normals of a knife edge cancel: only the flat triangle is left
        value, gradient = flat_distance(flat, outward)
        return value, gradient
    m = blend / blend_length

    value = wp.dot(d, m)
    direction = m
    turn = wp.vec3(0.0, 0.0, 0.0)
    if mode == PHONG_PLANE:
        turn = (d - value * m) / blend_length
    else:
        length = wp.length(d)
        if length > TOUCHING_DISTANCE:
            sign = wp.where(value < 0.0, -1.0, 1.0)
            value = sign * length
            direction = sign / length * d

    # chain rule through the weights: each row of slope times what phi gains per unit of its weight
    along_a = wp.dot(normal_a, direction)
    along_b = wp.dot(normal_b, direction)
    along_c = wp.dot(normal_c, direction)
    x = direction - alpha * (
        weight[0] * along_a * normal_a + weight[1] * along_b * normal_b + weight[2] * along_c * normal_c
    )
    gain = wp.vec3(
        alpha * height_a * along_a - wp.dot(to_a, x) + wp.dot(normal_a, turn),
        alpha * height_b * along_b - wp.dot(to_b, x) + wp.dot(normal_b, turn),
        alpha * height_c * along_c - wp.dot(to_c, x) + wp.dot(normal_c, turn),
    )
    return value, direction + wp.transpose(slope) * gain


@wp.kernel(enable_backward=False)
def signed_distance(
    # Model:
    mesh: wp.uint64,
    vertex_normals: wp.array[wp.vec3],
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

    Launch: dim = (grasp, point). The gradient is written out by hand, so nothing is replayed going backward.

    Args:
        mesh: Id of the Warp mesh.
        vertex_normals: Unit normals at the vertices, shape [vertex].
        points: Points in the object frame [m], shape [grasp, point].
        face: Index of the face of each point, -1 for none, shape [grasp, point].
        outward: Unit direction from the surface to the outside when the face was found, shape [grasp, point].
        phong_alpha: 0 for the flat triangles, up to 1 for the fully curved surface.
        phong_mode: ``PHONG_DISTANCE`` or ``PHONG_PLANE``.
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
    i = m.indices[3 * f]
    j = m.indices[3 * f + 1]
    k = m.indices[3 * f + 2]
    a = m.points[i]
    b = m.points[j]
    c = m.points[k]
    p = points[grasp, point]
    if phong_alpha > 0.0:
        value, gradient = phong_distance(
            p,
            a,
            b,
            c,
            vertex_normals[i],
            vertex_normals[j],
            vertex_normals[k],
            outward[grasp, point],
            phong_alpha,
            phong_mode,
        )
    else:
        value, gradient = flat_distance(point_offset(p, a, b, c, closest_point(p, a, b, c)), outward[grasp, point])
    distance_out[grasp, point] = value
    gradient_out[grasp, point] = gradient
