"""Builds the animated camera of an EXR export in Blender.

Run it in Blender's text editor, or: blender --python import_to_blender.py

It reads cameras.json from its own folder, needs nothing but Blender (4.2 or newer), and makes one camera,
"realmaster", whose frame N is frame N of the take, with the EXR sequence as its background. Lengths are the take's:
metres, or engine units where cameras.json says so. Blender's world is z up: x right, y forward.
"""

import json
from pathlib import Path

import bpy
from mathutils import Matrix

SENSOR = 36.0
"""Width of the camera's sensor in millimetres; only its ratio to the focal length matters."""


def build(folder):
    """Make the camera from `folder`/cameras.json and return its object. Frames without a camera are left out."""
    about = json.loads((Path(folder) / "cameras.json").read_text(encoding="utf-8"))
    frames = [frame for frame in about["frames"] if frame["camera"]]
    if not frames:
        raise RuntimeError("The take has no cameras.")
    scene = bpy.context.scene
    data = bpy.data.cameras.new("realmaster")
    camera = bpy.data.objects.new("realmaster", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.rotation_mode = "QUATERNION"
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = SENSOR
    _set_up_scene(scene, about, frames)
    before = None
    for frame in frames:
        before = _place(camera, frame, before)
        _set_lens(data, frame)
    _show_pictures(data, Path(folder), about["frames"])
    return camera


def blender_matrix(pose):
    """A pose of cameras.json (OpenCV axes: x right, y down, z forward) as a camera's matrix in Blender: the world's z
    is up, and the camera looks along its own -z."""
    world = Matrix(((1, 0, 0, 0), (0, 0, 1, 0), (0, -1, 0, 0), (0, 0, 0, 1)))
    return world @ Matrix(pose) @ Matrix.Diagonal((1, -1, -1, 1))


def _set_up_scene(scene, about, frames):
    first = frames[0]
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = first["width"], first["height"], 100
    render.fps = max(1, round(about["fps"]))
    render.fps_base = render.fps / about["fps"]
    squeeze = first["camera"]["fy"] / first["camera"]["fx"]  # pixels that are not square
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, squeeze), max(1.0, 1 / squeeze)
    scene.frame_start, scene.frame_end = frames[0]["frame"], frames[-1]["frame"]
    if about["lengths"] == "metres":
        scene.unit_settings.system = "METRIC"
        scene.unit_settings.scale_length = 1.0


def _place(camera, frame, before):
    """Key location and rotation; the quaternion takes the sign that is near the one before."""
    camera.matrix_world = blender_matrix(frame["camera"]["pose"] or Matrix.Identity(4))
    rotation = camera.rotation_quaternion.copy()
    if before is not None and rotation.dot(before) < 0:
        rotation.negate()
    camera.rotation_quaternion = rotation
    camera.keyframe_insert("location", frame=frame["frame"])
    camera.keyframe_insert("rotation_quaternion", frame=frame["frame"])
    return rotation


def _set_lens(data, frame):
    """Key focal length and the shift of the principal point from the middle."""
    seen, width, height = frame["camera"], frame["width"], frame["height"]
    data.lens = seen["fx"] / width * SENSOR
    data.shift_x = 0.5 - (seen["cx"] + 0.5) / width
    # Both shifts are counted in widths of the sensor, which the squeeze of the pixels does not change.
    data.shift_y = ((seen["cy"] + 0.5) - 0.5 * height) / width * seen["fx"] / seen["fy"]
    data.clip_start = seen["near"]
    data.clip_end = seen["far"] or 1e5
    for name in ("lens", "shift_x", "shift_y"):
        data.keyframe_insert(name, frame=frame["frame"])


def _show_pictures(data, folder, frames):
    """The EXR sequence behind the camera's view."""
    image = bpy.data.images.load(str(folder / frames[0]["file"]))
    image.source = "SEQUENCE"
    data.show_background_images = True
    background = data.background_images.new()
    background.image = image
    background.display_depth = "BACK"
    user = background.image_user
    user.frame_start = frames[0]["frame"]
    user.frame_duration = frames[-1]["frame"] - frames[0]["frame"] + 1
    user.frame_offset = frames[0]["frame"] - 1  # files are numbered from the take's frame 0


if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
