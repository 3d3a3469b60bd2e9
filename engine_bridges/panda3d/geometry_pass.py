"""The second look at a Panda3D scene: depth, normals and ids of exactly the frame that the program draws.

Works on a scene graph and the program's camera; draws into a buffer of its own that shares the program's graphics
context. Knows nothing of frames, sockets or channels.

Two cameras hang below the program's camera, with its lens, mask, scene and initial state, and draw into one buffer
without blending or antialiasing:

1. depth: float32, written by just the surfaces that write depth in the program's own picture;
2. labels: the same vertices again with the depth test EQUAL, so that each pixel gets the normal and the ids of the
   surface that owns its depth. Smoke, sky domes and markers that write no depth leave no trace.

The shader stands in for the program's own by a state override. Panda then skins characters on the CPU for both
passes, so that animated vertices agree with the picture. Alpha: a surface counts where its alpha is 0.5 or more
(transparent, binary, dual and alpha-tested states alike; opaque states ignore alpha, as they do in the picture).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from panda3d import core as p3d

from capture.errors import UserError

LABEL_TAG = "realmaster-label"
"""Tag that this pass reads: "instance,class,animated" as decimal numbers."""

_OVERRIDE = 10_000
"""Priority of our render state over anything that a program sets on its nodes."""

_VERTEX = """#version 150
uniform mat4 p3d_ModelViewMatrix;
uniform mat4 p3d_ModelViewProjectionMatrix;
uniform mat4 p3d_TextureMatrix[1];
uniform vec4 p3d_ColorScale;
in vec4 p3d_Vertex;
in vec4 p3d_Color;
in vec4 p3d_MultiTexCoord0;
out vec3 view_position;
out vec2 texcoord;
out float vertex_alpha;
void main() {
    gl_Position = p3d_ModelViewProjectionMatrix * p3d_Vertex;
    view_position = (p3d_ModelViewMatrix * p3d_Vertex).xyz;
    texcoord = (p3d_TextureMatrix[0] * p3d_MultiTexCoord0).xy;
    vertex_alpha = p3d_Color.a * p3d_ColorScale.a;
}
"""

# The normal is that of the rasterised triangle, from the screen derivatives of its position, turned to the camera:
# right for double-sided, unlit, mirrored and normal-less geometry alike.
# Output 0 carries the alpha, because the fixed-function alpha test looks there.
_FRAGMENT = """#version 150
uniform sampler2D p3d_Texture0;
uniform vec4 label;
in vec3 view_position;
in vec2 texcoord;
in float vertex_alpha;
out vec4 out_color[2];
void main() {
    vec3 normal = normalize(cross(dFdx(view_position), dFdy(view_position)));
    if (dot(normal, view_position) > 0.0) normal = -normal;
    float alpha = texture(p3d_Texture0, texcoord).a * vertex_alpha;
    out_color[0] = vec4(normal * 0.5 + 0.5, step(0.5, alpha));
    out_color[1] = label;
}
"""


@dataclass(frozen=True)
class GeometryBuffers:
    """One read-back, rows bottom first, as the graphics card stores them."""

    depth: NDArray[np.float32]
    """(H, W) window-space depth: 0 at the near plane, 1 at the far plane and for background."""
    normal: NDArray[np.uint8]
    """(H, W, 3) camera-space normal in OpenGL axes, unorm; background is 128, 128, 128."""
    instance: NDArray[np.uint16]
    """(H, W) instance id, 0 where there is none."""
    segmentation: NDArray[np.uint8]
    """(H, W) class id, 0 where there is none."""
    animated: NDArray[np.bool_]
    """(H, W) surfaces whose vertices move by themselves, such as a character's."""


class GeometryPass:
    """Draws and reads the geometry buffers of the frame being rendered.

    Call `follow` before a frame that is to be read and `read` after it; `on_draw` is called in between, while the
    scene is being drawn: what it sees of the scene is what the pixels show.
    """

    def __init__(self, base: Any, camera: p3d.NodePath, size: tuple[int, int], on_draw: Any = None) -> None:
        self.base = base
        gsg = base.win.getGsg()
        if not gsg.getSupportsBasicShaders() or gsg.getMaxColorTargets() < 2:
            raise UserError(
                f"Panda3D runs on {gsg.getDriverRenderer() or 'a software pipe without shaders'}, which cannot draw "
                "depth and normals: set `load-display pandagl` (or p3headlessgl without a display) in its Config.prc."
            )
        self._shader = p3d.Shader.make(p3d.Shader.SL_GLSL, vertex=_VERTEX, fragment=_FRAGMENT)
        self._on_draw = on_draw
        self._labels: set[str] = set()
        self._theirs: p3d.RenderState | None = None
        self.buffer = self._open(size)
        self.textures = [self._target(name, plane) for name, plane in (
            ("normal", p3d.GraphicsOutput.RTPColor),
            ("label", p3d.GraphicsOutput.RTPAuxRgba0),
            ("depth", p3d.GraphicsOutput.RTPDepth),
        )]  # fmt: skip
        self._cameras = [p3d.NodePath(p3d.Camera(f"realmaster-{name}")) for name in ("depth", "label")]
        for sort, node in enumerate(self._cameras):
            region = self.buffer.makeDisplayRegion()
            region.setSort(sort)
            region.setClearDepthActive(False)
            region.setCamera(node)
            if sort == 1 and on_draw is not None:  # on the last region: Panda loses state in those after a callback
                region.setDrawCallback(p3d.PythonCallbackObject(self._draw))
        self._cameras[1].node().setTagStateKey(LABEL_TAG)
        self.follow(camera, size)

    def _draw(self, data: Any) -> None:
        data.upcall()
        self._on_draw()

    def _open(self, size: tuple[int, int]) -> p3d.GraphicsOutput:
        wanted = p3d.FrameBufferProperties()
        wanted.setRgbaBits(8, 8, 8, 8)
        wanted.setAuxRgba(1)
        wanted.setDepthBits(32)
        wanted.setFloatDepth(True)
        flags = p3d.GraphicsPipe.BFRefuseWindow | p3d.GraphicsPipe.BFResizeable
        engine = self.base.graphicsEngine
        buffer = engine.makeOutput(
            self.base.pipe, "realmaster-geometry", -1000, wanted, p3d.WindowProperties.size(*size), flags,
            self.base.win.getGsg(), self.base.win,
        )  # fmt: skip
        if buffer is None:
            raise UserError("this graphics driver gives no buffer with float depth and two colour targets.")
        buffer.setClearColorActive(True)
        buffer.setClearColor((128 / 255, 128 / 255, 128 / 255, 0))
        buffer.setClearActive(p3d.GraphicsOutput.RTPAuxRgba0, True)
        buffer.setClearValue(p3d.GraphicsOutput.RTPAuxRgba0, (0, 0, 0, 0))
        buffer.setClearDepthActive(True)
        buffer.setClearDepth(1.0)
        buffer.setActive(False)
        return buffer

    def _target(self, name: str, plane: int) -> p3d.Texture:
        texture = p3d.Texture(f"realmaster-{name}")
        if plane == p3d.GraphicsOutput.RTPDepth:
            texture.setup2dTexture(1, 1, p3d.Texture.TFloat, p3d.Texture.FDepthComponent32)
        self.buffer.addRenderTexture(texture, p3d.GraphicsOutput.RTMCopyRam, plane)
        return texture

    def follow(self, camera: p3d.NodePath, size: tuple[int, int]) -> None:
        """Look through `camera` (of the program) in the next frame, at `size` (width, height) pixels."""
        if (self.buffer.getXSize(), self.buffer.getYSize()) != size:
            self.buffer.setSize(*size)
        theirs = camera.node()
        for node in self._cameras:
            ours = node.node()
            if node.getParent() != camera:
                node.reparentTo(camera)
            if ours.getLens() != theirs.getLens():
                ours.setLens(theirs.getLens())
            ours.setCameraMask(theirs.getCameraMask())
            ours.setScene(theirs.getScene())
        if theirs.getInitialState() != self._theirs:
            self._theirs = theirs.getInitialState()
            self._override(self._theirs)
        self.buffer.setActive(True)

    def _override(self, theirs: p3d.RenderState) -> None:
        """Give both cameras the program camera's initial state under our own."""
        replace = p3d.ColorBlendAttrib.make(
            p3d.ColorBlendAttrib.MAdd, p3d.ColorBlendAttrib.OOne, p3d.ColorBlendAttrib.OZero
        )
        shared = [self._label_attrib(0, 0, 0), replace, p3d.AntialiasAttrib.make(p3d.AntialiasAttrib.MNone)]
        depth_only = [*shared, p3d.ColorWriteAttrib.make(p3d.ColorWriteAttrib.COff)]
        owners_only = [
            *shared,
            p3d.ColorWriteAttrib.make(p3d.ColorWriteAttrib.CAll),
            p3d.DepthTestAttrib.make(p3d.RenderAttrib.MEqual),
            p3d.DepthWriteAttrib.make(p3d.DepthWriteAttrib.MOff),
        ]
        for node, attribs in zip(self._cameras, (depth_only, owners_only), strict=True):
            state = theirs
            for attrib in attribs:
                state = state.setAttrib(attrib, _OVERRIDE)
            node.node().setInitialState(state)

    def _label_attrib(self, instance: int, class_id: int, animated: int) -> p3d.ShaderAttrib:
        # Memory order of a pixel is blue, green, red: blue and green are the little-endian instance id.
        label = p3d.LVecBase4(class_id / 255, (instance >> 8) / 255, (instance & 255) / 255, animated)
        attrib = p3d.ShaderAttrib.make(self._shader, _OVERRIDE).setShaderInput("label", label)
        # Panda merges shader attributes whatever their priority: a flag that we left open would be the program's.
        for flag in (p3d.ShaderAttrib.F_hardware_skinning, p3d.ShaderAttrib.F_subsume_alpha_test):
            attrib = attrib.setFlag(flag, False)
        return attrib

    def know(self, label: str) -> None:
        """Prepare for nodes that carry the tag LABEL_TAG with this value."""
        if label not in self._labels:
            numbers = (int(part) for part in label.split(","))
            state = p3d.RenderState.make(self._label_attrib(*numbers), _OVERRIDE)
            self._cameras[1].node().setTagState(label, state)
            self._labels.add(label)

    def read(self) -> GeometryBuffers:
        """The buffers of the frame just rendered (copies); switches the pass off until `follow`."""
        self.buffer.setActive(False)
        normal, label, depth = (texture_array(texture) for texture in self.textures)
        return GeometryBuffers(
            depth=depth[..., 0],
            normal=np.ascontiguousarray(normal[..., 2::-1]),
            instance=np.ascontiguousarray(label[..., :2]).view("<u2")[..., 0],
            segmentation=np.ascontiguousarray(label[..., 2]),
            animated=label[..., 3] > 0,
        )

    def close(self) -> None:
        """Take the cameras out of the scene and give the buffer back."""
        for node in self._cameras:
            node.removeNode()
        self.base.graphicsEngine.removeWindow(self.buffer)


def texture_array(texture: p3d.Texture) -> NDArray[Any]:
    """(H, W, components) copy of a texture's RAM image, rows bottom first, colours in Panda's order blue, green, red.

    Raises UserError when nothing has been drawn into it.
    """
    if not texture.hasRamImage():
        raise UserError("Panda3D drew no frame: its window may be minimised or closed.")
    dtype = np.float32 if texture.getComponentType() == p3d.Texture.TFloat else np.uint8
    flat = np.frombuffer(texture.getRamImage(), dtype=dtype)
    return flat.reshape(texture.getYSize(), texture.getXSize(), texture.getNumComponents()).copy()
