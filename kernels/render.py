"""Pictures of a triangle scene by casting rays: a key light with soft shadows, sky light and ambient occlusion."""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
def camera_ray(camera: wp.mat33, tangent: float, x: float, y: float):
    """Unit direction of the ray through image coordinates x (right) and y (up), both in [-1, 1].

    The columns of ``camera`` are the directions right, up and backwards.
    """
    return wp.normalize(camera * wp.vec3(tangent * x, tangent * y, -1.0))


@wp.func
def about(axis: wp.vec3, height: float, angle: float):
    """Unit vector at cosine ``height`` from the unit vector ``axis``, turned about it by ``angle`` [rad]."""
    side = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(axis[0]) > 0.7:
        side = wp.vec3(0.0, 1.0, 0.0)
    first = wp.normalize(wp.cross(axis, side))
    second = wp.cross(axis, first)
    radius = wp.sqrt(wp.max(0.0, 1.0 - height * height))
    return axis * height + (first * wp.cos(angle) + second * wp.sin(angle)) * radius


@wp.func
def light_at(
    scene: wp.uint64,
    position: wp.vec3,
    normal: wp.vec3,
    toward_eye: wp.vec3,
    camera: wp.mat33,
    color: wp.vec3,
    reach: float,
    first: float,
    second: float,
):
    """Linear RGB that leaves a surface point towards the eye.

    ``first`` and ``second`` are samples of the unit interval. They choose one shadow ray towards a wide key light
    at the upper left of the camera, and two rays of a cosine-weighted hemisphere that end after ``reach`` [m].
    """
    start = position + normal * (1.0e-3 * reach)
    angle = 6.2831853 * second

    toward_light = wp.normalize(camera * wp.vec3(-0.55, 0.75, 0.75))
    toward_light = about(toward_light, 1.0 - 0.015 * first, angle)
    cosine = wp.dot(normal, toward_light)
    key = float(0.0)
    if cosine > 0.0:
        if not wp.mesh_query_ray_anyhit(scene, start, toward_light, 100.0 * reach):
            key = cosine

    open_sky = float(0.0)
    height = wp.sqrt(1.0 - first)
    if not wp.mesh_query_ray_anyhit(scene, start, about(normal, height, angle), reach):
        open_sky += 0.5
    height = wp.sqrt(first)
    if not wp.mesh_query_ray_anyhit(scene, start, about(normal, height, angle + 3.1415927), reach):
        open_sky += 0.5

    up = wp.dot(normal, wp.vec3(camera[0, 1], camera[1, 1], camera[2, 1]))
    sky = open_sky * (0.42 + 0.13 * up)
    head = 0.16 * wp.max(0.0, wp.dot(normal, toward_eye))
    half = wp.normalize(toward_light + toward_eye)
    gloss = 0.0
    if key > 0.0:
        gloss = 0.10 * wp.pow(wp.max(0.0, wp.dot(normal, half)), 40.0)
    return color * (sky + head + 0.62 * key) + wp.vec3(gloss, gloss, gloss)


@wp.func
def backdrop(y: float):
    """Linear RGB of the background at image height y in [-1, 1]."""
    shade = 0.88 + 0.06 * y
    return wp.vec3(shade, shade, 1.01 * shade)


@wp.kernel
def shade(
    # Scene:
    scene: wp.uint64,
    corner_normal: wp.array2d[wp.vec3],
    face_color: wp.array[wp.vec3],
    # Camera:
    eye: wp.vec3,
    camera: wp.mat33,
    tangent: float,
    # Options:
    reach: float,
    samples: int,
    # Out:
    color_out: wp.array2d[wp.vec3],
):
    """Colour of each pixel: the mean over samples x samples rays.

    Launch: dim = (row, column) of a square image, row 0 at the top. The random numbers depend on the pixel alone,
    so equal inputs give equal pictures.

    Args:
        scene: Id of the mesh of everything that is seen.
        corner_normal: Unit normals for shading, shape [face, 3].
        face_color: Linear RGB in [0, 1], shape [face].
        eye: Position of the camera in the scene's frame [m].
        camera: Directions right, up and backwards of the camera in the scene's frame, as columns.
        tangent: Tangent of half the angle of view.
        reach: Length of the ambient occlusion rays [m].
        samples: Rays along each side of a pixel.
        color_out: Linear RGB, shape [row, column].
    """
    row, column = wp.tid()
    size = float(color_out.shape[0])
    weight = 1.0 / float(samples * samples)
    state = wp.rand_init(7, row * color_out.shape[1] + column)
    shift_first = wp.randf(state)
    shift_second = wp.randf(state)

    total = wp.vec3(0.0, 0.0, 0.0)
    for sample in range(samples * samples):
        across = (float(sample % samples) + 0.5) / float(samples)
        down = (float(sample // samples) + 0.5) / float(samples)
        x = 2.0 * (float(column) + across) / size - 1.0
        y = 1.0 - 2.0 * (float(row) + down) / size
        direction = camera_ray(camera, tangent, x, y)
        hit = wp.mesh_query_ray(scene, eye, direction, 1.0e6)
        if hit.result:
            # Steps of the R2 sequence, shifted by a random amount in each pixel, spread the samples evenly.
            first = wp.frac(shift_first + 0.7548777 * float(sample))
            second = wp.frac(shift_second + 0.5698403 * float(sample))
            normal = hit.u * corner_normal[hit.face, 0]
            normal += hit.v * corner_normal[hit.face, 1]
            normal += (1.0 - hit.u - hit.v) * corner_normal[hit.face, 2]
            normal = wp.normalize(normal)
            if wp.dot(normal, direction) > 0.0:
                normal = -normal
            position = eye + direction * hit.t
            color = face_color[hit.face]
            total += weight * light_at(scene, position, normal, -direction, camera, color, reach, first, second)
        else:
            total += weight * backdrop(y)
    color_out[row, column] = total


@wp.kernel
def identify(
    # Scene:
    scene: wp.uint64,
    face_label: wp.array[int],
    # Camera:
    eye: wp.array[wp.vec3],
    camera: wp.array[wp.mat33],
    tangent: float,
    # Out:
    label_out: wp.array3d[int],
):
    """Label of what each pixel of each view shows, -1 for nothing.

    Launch: dim = (view, row, column) of square images.

    Args:
        scene: Id of the mesh of everything that is seen.
        face_label: Label of each face, shape [face].
        eye: Positions of the camera in the scene's frame [m], shape [view].
        camera: Directions right, up and backwards as columns, shape [view].
        tangent: Tangent of half the angle of view.
        label_out: Labels, shape [view, row, column].
    """
    view, row, column = wp.tid()
    size = float(label_out.shape[1])
    x = 2.0 * (float(column) + 0.5) / size - 1.0
    y = 1.0 - 2.0 * (float(row) + 0.5) / size
    hit = wp.mesh_query_ray(scene, eye[view], camera_ray(camera[view], tangent, x, y), 1.0e6)
    label = int(-1)
    if hit.result:
        label = face_label[hit.face]
    label_out[view, row, column] = label


@wp.kernel
def surface_distance(
    # In:
    surface: wp.uint64,
    position: wp.array[wp.vec3],
    # Options:
    reach: float,
    # Out:
    distance_out: wp.array[float],
):
    """Unsigned distance of points to a surface.

    Launch: dim = point.

    Args:
        surface: Id of the mesh.
        position: Points in the frame of the mesh [m], shape [point].
        reach: Largest distance of interest [m].
        distance_out: Distance [m], ``reach`` where it is larger, shape [point].
    """
    point = wp.tid()
    distance = reach
    query = wp.mesh_query_point_no_sign(surface, position[point], reach)
    if query.result:
        closest = wp.mesh_eval_position(surface, query.face, query.u, query.v)
        distance = wp.min(reach, wp.length(closest - position[point]))
    distance_out[point] = distance
