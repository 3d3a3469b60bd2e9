"""Run by a Python that has bpy: builds the camera of an EXR export with the script beside it, says where Blender sees
given points, and writes the depth pass that Blender's compositor reads.

Arguments: the export's folder, points.json ({frame: canonical world points}), and a name for the answers.
"""

import json
import runpy
import sys
from pathlib import Path

import bpy
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

folder, points, answer = (Path(argument) for argument in sys.argv[1:])
scene = bpy.context.scene
camera = runpy.run_path(str(folder / "import_to_blender.py"))["build"](folder)
width, height = scene.render.resolution_x, scene.render.resolution_y
found = {
    "fps": scene.render.fps / scene.render.fps_base,
    "range": [scene.frame_start, scene.frame_end],
    "size": [width, height],
    "seen": {},
}
for frame, world in json.loads(points.read_text()).items():
    scene.frame_set(int(frame))
    views = [world_to_camera_view(scene, camera, Vector((x, z, -y))) for x, y, z in world]
    # Blender's view is 0 to 1 from the lower left corner.
    found["seen"][frame] = [[v.x * width - 0.5, (1 - v.y) * height - 0.5, v.z] for v in views]

tree = bpy.data.node_groups.new("depth", "CompositorNodeTree")
tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
picture, output = tree.nodes.new("CompositorNodeImage"), tree.nodes.new("NodeGroupOutput")
picture.image = bpy.data.images.load(str(sorted(folder.glob("*.exr"))[-1]))
found["passes"] = [socket.name for socket in picture.outputs]
tree.links.new(picture.outputs["Depth"], output.inputs[0])
scene.compositing_node_group = tree
scene.render.engine, scene.cycles.samples = "CYCLES", 1
scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"
scene.render.filepath = f"{answer}-depth.exr"
bpy.ops.render.render(write_still=True)
answer.with_suffix(".json").write_text(json.dumps(found))
