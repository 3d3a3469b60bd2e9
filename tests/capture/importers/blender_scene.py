"""Renders a plane, a cube and a sphere with Blender's own module: `python blender_scene.py FOLDER SCRIPT`.

SCRIPT runs at the end, as it would in Blender: the one that writes the cameras.
"""

import math
import sys
from pathlib import Path

import bpy  # type: ignore[import-not-found,unused-ignore]
from mathutils import Vector  # type: ignore[import-not-found,unused-ignore]

folder, script = sys.argv[1:3]
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
bpy.ops.mesh.primitive_plane_add(size=40)
bpy.ops.mesh.primitive_cube_add(size=2, location=(-1.5, 0, 1), rotation=(0, 0, math.radians(30)))
bpy.ops.mesh.primitive_uv_sphere_add(radius=1, location=(2, 0.5, 1), segments=64, ring_count=32)
bpy.ops.object.shade_smooth()
for number, name in enumerate(("Plane", "Cube", "Sphere"), 1):
    bpy.data.objects[name].pass_index = number
lens = bpy.data.cameras.new("lens")
lens.shift_x, lens.clip_end = 0.05, 1000
camera = scene.camera = bpy.data.objects.new("camera", lens)
scene.collection.objects.link(camera)
for number in (1, 2):
    camera.location = (4 + 0.3 * number, -7, 3.2)
    camera.rotation_euler = (Vector((0.3, 0, 0.9)) - camera.location).to_track_quat("-Z", "Y").to_euler()
    camera.rotation_euler.rotate_axis("Z", 0.15)
    camera.keyframe_insert("location", frame=number)
    camera.keyframe_insert("rotation_euler", frame=number)
scene.frame_start, scene.frame_end = 1, 2
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising = 4, False
scene.render.resolution_x, scene.render.resolution_y = 320, 180
layer = scene.view_layers[0]
layer.use_pass_z = layer.use_pass_normal = layer.use_pass_vector = layer.use_pass_object_index = True
image = scene.render.image_settings
if hasattr(image, "media_type"):  # since 5.0
    image.media_type = "MULTI_LAYER_IMAGE"
image.file_format, image.color_depth = "OPEN_EXR_MULTILAYER", "32"
scene.render.filepath = f"{folder}/"
bpy.ops.render.render(animation=True)
exec(compile(Path(script).read_text(), script, "exec"))
