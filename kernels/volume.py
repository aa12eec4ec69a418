"""The volume that is inside both a hand and an object, in voxels."""

import warp as wp

from .collision import shape_distance  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})


@wp.func
def voxel_center(voxel: wp.vec3i, size: float):
    """Centre [m] of a voxel of the grid whose corners are multiples of ``size``."""
    return wp.vec3((float(voxel[0]) + 0.5) * size, (float(voxel[1]) + 0.5) * size, (float(voxel[2]) + 0.5) * size)


@wp.func
def first_voxel(coordinate: float, size: float):
    """Least index of a voxel whose centre is not below the coordinate [m]."""
    return int(wp.ceil(coordinate / size - 0.5))


@wp.func
def last_voxel(coordinate: float, size: float):
    """Largest index of a voxel whose centre is not above the coordinate [m]."""
    return int(wp.floor(coordinate / size - 0.5))


BOX_MARGIN = wp.constant(1.0e-6)
"""Added to every side of a shape's box: more than its rounding errors [m]."""


@wp.kernel
def voxel_boxes(
    # Model:
    shape_link: wp.array[int],
    shape_transform: wp.array[wp.transform],
    box_center: wp.array[wp.vec3],
    box_half_extents: wp.array[wp.vec3],
    lower: wp.vec3,
    upper: wp.vec3,
    # State:
    link_transform: wp.array2d[wp.transform],
    # Options:
    voxel_size: float,
    # Out:
    first_out: wp.array2d[wp.vec3i],
    extent_out: wp.array2d[wp.vec3i],
):
    """Voxels whose centres lie in the box around a shape and in the box around the object.

    Launch: dim = (grasp, shape).

    Args:
        shape_link: Link of each shape, shape [shape].
        shape_transform: Shape in its link's frame, shape [shape].
        box_center: Centre of the shape's box in the shape's frame [m], shape [shape].
        box_half_extents: Its half sides [m], shape [shape].
        lower: Lower corner of the object's box [m].
        upper: Upper corner of the object's box [m].
        link_transform: Links in the object frame, shape [grasp, link].
        voxel_size: Side of a voxel [m].
        first_out: Lowest voxel, shape [grasp, shape].
        extent_out: Number of voxels along x, y and z, zeros where the boxes are apart, shape [grasp, shape].
    """
    grasp, shape = wp.tid()
    frame = link_transform[grasp, shape_link[shape]] * shape_transform[shape]
    center = wp.transform_point(frame, box_center[shape])
    half = box_half_extents[shape]
    x = wp.abs(wp.transform_vector(frame, wp.vec3(half[0], 0.0, 0.0)))
    y = wp.abs(wp.transform_vector(frame, wp.vec3(0.0, half[1], 0.0)))
    z = wp.abs(wp.transform_vector(frame, wp.vec3(0.0, 0.0, half[2])))
    reach = x + y + z + wp.vec3(BOX_MARGIN, BOX_MARGIN, BOX_MARGIN)
    # the clip comes before the conversion to integers, so that a hand far away cannot overflow them
    low = wp.min(wp.max(center - reach, lower), upper)
    high = wp.max(wp.min(center + reach, upper), lower)
    first = wp.vec3i(first_voxel(low[0], voxel_size), first_voxel(low[1], voxel_size), first_voxel(low[2], voxel_size))
    last = wp.vec3i(last_voxel(high[0], voxel_size), last_voxel(high[1], voxel_size), last_voxel(high[2], voxel_size))
    extent = wp.max(last - first + wp.vec3i(1, 1, 1), wp.vec3i(0, 0, 0))
    if wp.min(extent) == 0:
        extent = wp.vec3i(0, 0, 0)
    first_out[grasp, shape] = first
    extent_out[grasp, shape] = extent


@wp.func
def row_of_cell(cell_begin: wp.array[wp.int64], cell: wp.int64):
    """The row with cell_begin[row] <= cell < cell_begin[row + 1]."""
    low = int(0)
    high = cell_begin.shape[0] - 1
    while high - low > 1:
        middle = (low + high) // 2
        if cell_begin[middle] <= cell:
            low = middle
        else:
            high = middle
    return low


@wp.func
def is_in_box(voxel: wp.vec3i, first: wp.vec3i, extent: wp.vec3i):
    """Whether a voxel is one of ``extent`` voxels from ``first`` on."""
    offset = voxel - first
    return wp.min(offset) >= 0 and wp.max(offset - extent) < 0


@wp.kernel
def hand_voxels(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_plane_begin: wp.array[int],
    plane: wp.array[wp.vec4],
    shape_link: wp.array[int],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    first: wp.array2d[wp.vec3i],
    extent: wp.array2d[wp.vec3i],
    cell_begin: wp.array[wp.int64],
    # Options:
    begin: wp.int64,
    voxel_size: float,
    # Out:
    count_out: wp.array[int],
    position_out: wp.array2d[wp.vec3],
    grasp_out: wp.array[int],
):
    """Centres of the voxels inside the hand, each once: where shapes overlap, the first of them has it.

    Launch: dim = cell, some of the cells from ``begin`` on. A cell is a voxel of one shape's box in one grasp. The
    order of the results is not fixed on a GPU, what they add up to is.

    Args:
        shape_kind: See ``kernels.collision.deepest_link``, like the four arguments that follow; shape [shape].
        shape_transform: Shape in its link's frame, shape [shape].
        shape_size: Half extents and radius, or radius and half length [m], shape [shape].
        shape_plane_begin: First plane of each polytope and, last, the number of planes, shape [shape + 1].
        plane: Planes n . x = d in the shape's frame, (n, d) [m], shape [plane].
        shape_link: Link of each shape, shape [shape].
        link_transform: Links in the object frame, shape [grasp, link].
        first: Lowest voxel of each shape's box, shape [grasp, shape].
        extent: Number of voxels along its sides, shape [grasp, shape].
        cell_begin: Cells before those of each grasp and shape and, last, all of them, shape [grasp * shape + 1].
        begin: The first cell of this launch.
        voxel_size: Side of a voxel [m].
        count_out: Results so far, starts at 0, shape [1].
        position_out: Voxel centres in the object frame [m], shape [1, cell].
        grasp_out: Grasp of each result, shape [cell].
    """
    cell = begin + wp.int64(wp.tid())
    row = row_of_cell(cell_begin, cell)
    grasp = row // shape_link.shape[0]
    own = row % shape_link.shape[0]
    index = int(cell - cell_begin[row])
    side = extent[grasp, own]
    voxel = first[grasp, own] + wp.vec3i(index // (side[1] * side[2]), (index // side[2]) % side[1], index % side[2])
    position = voxel_center(voxel, voxel_size)
    inside = int(0)
    for reverse in range(own + 1):
        shape = own - reverse
        if is_in_box(voxel, first[grasp, shape], extent[grasp, shape]):
            frame = link_transform[grasp, shape_link[shape]] * shape_transform[shape]
            result = shape_distance(
                wp.transform_point(wp.transform_inverse(frame), position),
                shape_kind[shape],
                shape_size[shape],
                plane,
                shape_plane_begin[shape],
                shape_plane_begin[shape + 1],
            )
            if shape == own:
                if result[0] >= 0.0:
                    return
                inside = 1
            elif result[0] < 0.0:
                return
    if inside == 1:
        slot = wp.atomic_add(count_out, 0, 1)
        position_out[0, slot] = position
        grasp_out[slot] = grasp


@wp.kernel
def count_inside(
    # In:
    distance: wp.array2d[float],
    grasp: wp.array[int],
    # Out:
    count_out: wp.array[int],
):
    """Add up, for each grasp, the points inside the object.

    Launch: dim = point. Counts are whole numbers, so the order of the additions does not matter.

    Args:
        distance: Signed distances, negative inside [m], shape [1, point].
        grasp: Grasp of each point, shape [point].
        count_out: Points inside, added to what is there, shape [grasp].
    """
    point = wp.tid()
    if distance[0, point] < 0.0:
        wp.atomic_add(count_out, grasp[point], 1)


@wp.func
def offset_in_block(index: wp.int64, extent: wp.vec3i):
    """Place of the entry ``index`` in a block of ``extent`` entries, x slowest."""
    layer = wp.int64(extent[1]) * wp.int64(extent[2])
    rest = int(index % layer)
    return wp.vec3i(int(index // layer), rest // extent[2], rest % extent[2])


@wp.kernel
def grid_centers(
    # Options:
    first: wp.vec3i,
    extent: wp.vec3i,
    stride: int,
    begin: wp.int64,
    voxel_size: float,
    # Out:
    position_out: wp.array2d[wp.vec3],
):
    """Centres of some of the cubes that a grid is made of, x slowest.

    Launch: dim = cube, from ``begin`` on.

    Args:
        first: Lowest voxel of the grid.
        extent: Number of cubes along its sides.
        stride: Voxels along the side of a cube.
        begin: The first cube of this launch.
        voxel_size: Side of a voxel [m].
        position_out: Centres in the object frame [m], shape [1, cube].
    """
    cube = wp.tid()
    low = first + stride * offset_in_block(begin + wp.int64(cube), extent)
    half = 0.5 * float(stride)
    position_out[0, cube] = voxel_size * wp.vec3(float(low[0]) + half, float(low[1]) + half, float(low[2]) + half)


@wp.kernel
def mark_inside(
    # In:
    distance: wp.array2d[float],
    # Out:
    inside_out: wp.array[wp.uint8],
):
    """Which points are inside the object.

    Launch: dim = point.

    Args:
        distance: Signed distances, negative inside [m], shape [1, point].
        inside_out: 1 inside, else 0, shape [point].
    """
    point = wp.tid()
    inside_out[point] = wp.where(distance[0, point] < 0.0, wp.uint8(1), wp.uint8(0))


@wp.kernel
def mark_near_or_like_cube(
    # In:
    distance: wp.array2d[float],
    cube_inside: wp.array[wp.uint8],
    # Options:
    extent: wp.vec3i,
    cube_extent: wp.vec3i,
    stride: int,
    begin: wp.int64,
    no_distance: float,
    # Out:
    inside_out: wp.array[wp.uint8],
):
    """Which voxels are inside the object: by their distance, or like the cube around them where no surface is near.

    Launch: dim = voxel, from ``begin`` on.

    Args:
        distance: Signed distances of the voxels, found within the half diagonal of a cube [m], shape [1, voxel].
        cube_inside: 1 for cubes whose centres are inside, x slowest, shape [cube].
        extent: Number of voxels along the sides of the grid.
        cube_extent: Number of cubes along them.
        stride: Voxels along the side of a cube.
        begin: The first voxel of this launch.
        no_distance: Distance of a voxel that has no surface within reach [m].
        inside_out: 1 inside, else 0, shape [voxel].
    """
    voxel = wp.tid()
    value = distance[0, voxel]
    if value < no_distance:
        inside_out[voxel] = wp.where(value < 0.0, wp.uint8(1), wp.uint8(0))
    else:
        offset = offset_in_block(begin + wp.int64(voxel), extent)
        cube = (offset[0] // stride * cube_extent[1] + offset[1] // stride) * cube_extent[2] + offset[2] // stride
        inside_out[voxel] = cube_inside[cube]


@wp.kernel
def count_marked(
    # Model:
    inside: wp.array[wp.uint8],
    first: wp.vec3i,
    extent: wp.vec3i,
    # In:
    position: wp.array2d[wp.vec3],
    grasp: wp.array[int],
    # Options:
    voxel_size: float,
    # Out:
    count_out: wp.array[int],
):
    """Add up, for each grasp, the voxels that are marked; the same as ``count_inside`` without any search.

    Launch: dim = point. Counts are whole numbers, so the order of the additions does not matter.

    Args:
        inside: Mark of each voxel of the block, x slowest, shape [voxel].
        first: Lowest voxel of the block.
        extent: Number of voxels along its sides.
        position: Centres of voxels in the object frame [m], shape [1, point].
        grasp: Grasp of each, shape [point].
        voxel_size: Side of a voxel [m].
        count_out: Marked voxels, added to what is there, shape [grasp].
    """
    point = wp.tid()
    p = position[0, point] / voxel_size
    voxel = wp.vec3i(int(wp.floor(p[0])), int(wp.floor(p[1])), int(wp.floor(p[2])))
    if is_in_box(voxel, first, extent):
        offset = voxel - first
        index = (offset[0] * extent[1] + offset[1]) * extent[2] + offset[2]
        if inside[index] == wp.uint8(1):
            wp.atomic_add(count_out, grasp[point], 1)
