"""Where a hand's skin is with respect to an object: contact area, nearest points, depths."""

import warp as wp

from .collision import POLYTOPE, shape_distance  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})


TESSELLATION_GAP = wp.constant(5.0e-4)
"""Points further than this from every round shape of their link belong to none [m]."""


@wp.kernel
def onto_shapes(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_plane_begin: wp.array[int],
    plane: wp.array[wp.vec4],
    link_shape_begin: wp.array[int],
    point_link: wp.array[int],
    point_local: wp.array[wp.vec3],
    # Out:
    point_local_out: wp.array[wp.vec3],
):
    """Move points onto the nearest surface of their link's boxes, spheres, capsules and cylinders.

    Triangles that stand for a sphere of 30 mm lie up to 0.1 mm inside it, which matters to an area within 0.5 mm.

    Launch: dim = point.

    Args:
        shape_kind: See ``kernels.collision.deepest_link``, like the five arguments that follow; shape [shape].
        shape_transform: Shape in its link's frame, shape [shape].
        shape_size: Half extents and radius, or radius and half length [m], shape [shape].
        shape_plane_begin: First plane of each polytope and, last, the number of planes, shape [shape + 1].
        plane: Planes n . x = d in the shape's frame, (n, d) [m], shape [plane].
        link_shape_begin: First shape of each link and, last, the number of shapes, shape [link + 1].
        point_link: Link of each point, shape [point].
        point_local: Points in their link's frame [m], shape [point].
        point_local_out: The same moved; those not within ``TESSELLATION_GAP`` of a shape, and those of meshes, stay;
            may be ``point_local`` itself; shape [point].
    """
    point = wp.tid()
    position = point_local[point]
    least = TESSELLATION_GAP
    moved = position
    for shape in range(link_shape_begin[point_link[point]], link_shape_begin[point_link[point] + 1]):
        frame = shape_transform[shape]
        if shape_kind[shape] != POLYTOPE:
            result = shape_distance(
                wp.transform_point(wp.transform_inverse(frame), position),
                shape_kind[shape],
                shape_size[shape],
                plane,
                shape_plane_begin[shape],
                shape_plane_begin[shape + 1],
            )
            if wp.abs(result[0]) < least:
                least = wp.abs(result[0])
                moved = position - result[0] * wp.transform_vector(frame, wp.vec3(result[1], result[2], result[3]))
    point_local_out[point] = moved


@wp.kernel
def contact_areas(
    # Model:
    area: wp.array[float],
    threshold: wp.array[float],
    # In:
    distance: wp.array2d[float],
    # Out:
    band_area_out: wp.array2d[wp.float64],
    inside_area_out: wp.array2d[wp.float64],
):
    """Area of the points near a surface, without and with those deep inside it.

    band = sum of a_i over |d_i| <= t;  inside = sum of a_i over d_i <= t

    Launch: dim = (grasp, threshold). One thread sums one value, so equal inputs give equal bits.

    Args:
        area: Area that each point stands for [m^2], shape [point].
        threshold: t [m], shape [threshold].
        distance: Signed distances d, negative inside [m], shape [grasp, point].
        band_area_out: Points deeper inside than the threshold do not count [m^2], shape [grasp, threshold].
        inside_area_out: Every point inside counts [m^2], shape [grasp, threshold].
    """
    grasp, column = wp.tid()
    limit = threshold[column]
    band = wp.float64(0.0)
    inside = wp.float64(0.0)
    for point in range(area.shape[0]):
        d = distance[grasp, point]
        if d <= limit:
            inside += wp.float64(area[point])
            if d >= -limit:
                band += wp.float64(area[point])
    band_area_out[grasp, column] = band
    inside_area_out[grasp, column] = inside


@wp.kernel
def nearest_points(
    # Model:
    link_begin: wp.array[int],
    # In:
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    point_position: wp.array2d[wp.vec3],
    # Options:
    no_distance: float,
    # Out:
    distance_out: wp.array2d[float],
    position_out: wp.array2d[wp.vec3],
    normal_out: wp.array2d[wp.vec3],
):
    """The point of each link that is nearest to the object, or deepest in it, put onto the object's surface.

    Launch: dim = (grasp, link).

    Args:
        link_begin: First point of each link and, last, the number of points, shape [link + 1].
        distance: Signed distances to the object, negative inside [m], shape [grasp, point].
        distance_gradient: Their derivatives, unit vectors out of the object, shape [grasp, point].
        point_position: Hand points in the object frame, sorted by link [m], shape [grasp, point].
        no_distance: Distance of a point that has no surface within reach [m].
        distance_out: Least signed distance of the link, ``no_distance`` where there is none [m], shape [grasp, link].
        position_out: Point of the object's surface next to it, in the object frame [m], shape [grasp, link].
        normal_out: Unit normal there, into the object, shape [grasp, link].
    """
    grasp, link = wp.tid()
    least = no_distance
    nearest = int(-1)
    for point in range(link_begin[link], link_begin[link + 1]):
        if distance[grasp, point] < least:
            least = distance[grasp, point]
            nearest = point
    distance_out[grasp, link] = least
    position = wp.vec3()
    normal = wp.vec3()
    if nearest >= 0:
        normal = -distance_gradient[grasp, nearest]
        position = point_position[grasp, nearest] + least * normal
    position_out[grasp, link] = position
    normal_out[grasp, link] = normal


@wp.kernel
def least_values(
    # In:
    value: wp.array2d[float],
    # Out:
    least_out: wp.array[float],
):
    """Smallest entry of each row, not above zero.

    Launch: dim = grasp.

    Args:
        value: Signed distances [m], shape [grasp, point].
        least_out: The smallest of them, 0 where none is negative [m], shape [grasp].
    """
    grasp = wp.tid()
    least = float(0.0)
    for point in range(value.shape[1]):
        least = wp.min(least, value[grasp, point])
    least_out[grasp] = least
