"""The Panda3D bridge against the real engine: everything goes over a real socket and comes back as canonical frames."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from capture import geometry, wire
from capture.errors import UserError
from capture.frame import Frame
from engine_bridges.panda3d import program

SIZE = (320, 180)
TOKEN = "t" * 32


class Receiver:
    """A daemon's side of the protocol, which keeps every frame in memory."""

    def __init__(self, credit: int = 4, give_back: bool = True, port: int = 0) -> None:
        self.frames: list[Frame] = []
        self.events: list[wire.Event] = []
        self.hello: wire.Hello | None = None
        self.peer = b""
        self._credit, self._give_back = credit, give_back
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._stop = threading.Event()
        self._outbox: list[wire.Message] = []
        self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tell(self, message: wire.Message) -> None:
        self._outbox.append(message)

    def _run(self) -> None:
        while not self._stop.is_set():
            while self._outbox:
                self._send(self._outbox.pop(0))
            if self._socket.poll(20):
                self.peer, *parts = self._socket.recv_multipart()
                self._receive(wire.decode(parts))
        self._socket.close(0)
        self._context.term()

    def _send(self, message: wire.Message) -> None:
        self._socket.send_multipart([self.peer, *wire.encode(message)])

    def _receive(self, message: wire.Message) -> None:
        if isinstance(message, wire.Hello):
            self.hello = message
            names = tuple(channel.name for channel in message.channels)
            self._send(wire.Welcome(message.session, names, message.mode, self._credit, 2**28))
        elif isinstance(message, wire.FrameMessage):
            assert self.hello is not None
            self.frames.append(wire.frame_of(message, self.hello, len(self.frames)))
            if self._give_back:
                self._send(wire.Credit(1, None))
        elif isinstance(message, wire.Event):
            self.events.append(message)
        elif isinstance(message, wire.Bye):
            self._send(wire.Goodbye(len(self.frames), 0, 0, None))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)


@pytest.fixture(scope="module")
def base() -> Iterator[Any]:
    from direct.showbase.ShowBase import ShowBase

    program.configure(SIZE, offscreen=True)
    base = program.open_base(ShowBase)
    base.disableMouse()
    yield base
    base.destroy()


class Stage:
    """An empty scene, a receiver, and a capture between them."""

    def __init__(self, base: Any) -> None:
        from panda3d.core import NodePath, PerspectiveLens

        self.base = base
        self.receivers: list[Receiver] = []
        self.captures: list[Any] = []
        self.root = NodePath("stage")
        self.root.reparentTo(base.render)
        lens = PerspectiveLens()
        lens.setAspectRatio(SIZE[0] / SIZE[1])
        lens.setMinFov(40)
        lens.setNearFar(0.5, 100)
        base.camNode.setLens(lens)
        base.camLens = lens
        base.cam.clearTransform()
        base.camera.clearTransform()
        base.setBackgroundColor(0, 0, 0)
        base.taskMgr.step()  # after an exception in a task, Panda first finishes the broken-off round

    def capture(self, *, credit: int = 4, give_back: bool = True, mode: str = "lossless", **settings: Any) -> Any:
        from engine_bridges.panda3d import attach

        receiver = Receiver(credit, give_back)
        self.receivers.append(receiver)
        capture = attach(self.base, endpoint=receiver.endpoint, token=TOKEN, mode=mode, **settings)
        self.captures.append(capture)
        return capture

    def frames(self, count: int, before: Callable[[int], None] = lambda index: None, **settings: Any) -> list[Frame]:
        """What arrives of `count` frames; `before(i)` arranges the scene for each."""
        capture = self.capture(**settings)
        for index in range(count):
            before(index)
            self.base.taskMgr.step()
        capture.close()
        return self.receivers[-1].frames

    def card(self, color: tuple[float, ...] = (1, 1, 1, 1), half: float = 1.0, **tags: str) -> Any:
        """A square of 2 x `half` units, facing -y, in the middle of its node."""
        from panda3d.core import CardMaker

        maker = CardMaker("card")
        maker.setFrame(-half, half, -half, half)
        card = self.root.attachNewNode(maker.generate())
        card.setColor(color)
        for key, value in tags.items():
            card.setTag(key, value)
        return card

    def close(self) -> None:
        for capture in self.captures:
            capture.close()
        for receiver in self.receivers:
            receiver.close()
        self.root.removeNode()


@pytest.fixture
def stage(base: Any) -> Iterator[Stage]:
    stage = Stage(base)
    yield stage
    stage.close()


def test_color_depth_normal_ids_and_camera_are_of_one_frame(stage: Stage) -> None:
    """Each frame says its number in every channel at once, while the camera jumps; one frame of lag anywhere fails."""
    card = stage.card(**{"class": "thing"})

    def arrange(number: int) -> None:
        card.setColor(number * 20 / 255, 1, 0, 1)
        card.setPos(0.6 * (-1) ** number + 30 * number, 6 + number, 0.3 * number)
        card.setH(5 * number)
        card.setTag("instance", str(number + 1))
        stage.base.camera.setPos(30 * number, -(number % 3), 0.2 * number)

    frames = stage.frames(9, arrange)
    assert [frame.serial for frame in frames] == list(range(9))
    assert all(frame.in_sync for frame in frames)
    for number, frame in enumerate(frames):
        shown = frame.color[..., 1] == 255
        assert shown.sum() > 100
        assert np.array_equal(shown, frame.instance == number + 1)
        assert np.array_equal(shown, np.isfinite(frame.depth))
        assert np.array_equal(shown, (frame.normal != 0).any(axis=-1))
        assert set(frame.color[shown][:, 0]) == {20 * number}
        assert np.median(frame.depth[shown]) == pytest.approx(6 + number + number % 3, abs=0.3)
        assert frame.camera.pose[0, 3] == pytest.approx(30 * number)
        angle = np.degrees(np.arctan2(frame.normal[shown][:, 0], -frame.normal[shown][:, 2]))
        assert np.median(angle) == pytest.approx(5 * number, abs=0.6)


def test_channels_are_in_metres_and_opencv_axes(stage: Stage) -> None:
    """A card 8 units ahead, 1 to the right and 2 up, seen by a camera that stands at a known place."""
    card = stage.card(instance="40000", half=0.05)
    stage.base.camera.setPosHpr(3, -2, 1, 90, 0, 0)  # looks along -x
    card.setPosHpr(-5, -1, 3, 90, 0, 0)
    frame = stage.frames(1, metres_per_unit=0.5)[0]
    rows, columns = np.nonzero(frame.instance == 40000)
    camera = frame.camera
    # Right is +y and forward is -x here: (1, -2, 8) units in OpenCV camera axes.
    assert columns.mean() == pytest.approx(camera.cx + camera.fx * 1 / 8, abs=0.6)
    assert rows.mean() == pytest.approx(camera.cy - camera.fy * 2 / 8, abs=0.6)
    assert frame.depth[rows, columns] == pytest.approx(8 * 0.5, rel=1e-4)
    np.testing.assert_allclose(frame.normal[rows, columns].mean(axis=0), (0, 0, -1), atol=0.01)
    # World: x right, y down, z forward from Panda's x right, y forward, z up.
    np.testing.assert_allclose(camera.pose[:3, 3], np.array([3, -1, -2]) * 0.5, atol=1e-6)
    points = geometry.world_points(frame.depth, camera)[rows, columns].mean(axis=0)
    np.testing.assert_allclose(points, np.array([-5, -3, -1]) * 0.5, atol=0.03)


def test_off_axis_lens_and_scaled_camera(stage: Stage) -> None:
    """Film offset and a pixel aspect of its own are in the intrinsics; scale above the camera changes no distance."""
    lens = stage.base.camLens
    lens.setFilmSize(2, 1.4)
    lens.setFocalLength(2.5)
    lens.setFilmOffset(0.3, -0.2)
    stage.base.camera.setScale(2)
    places = {1: (-1.0, 9.0, 0.5), 2: (2.0, 12.0, -0.5), 3: (0.2, 7.0, 0.0)}
    for number, place in places.items():
        stage.card(instance=str(number), half=0.06).setPos(*place)
    frame = stage.frames(1)[0]
    stage.base.camera.setScale(1)
    for number, (x, y, z) in places.items():
        uv, depth = geometry.project(np.array([x, -z, y]), frame.camera)
        rows, columns = np.nonzero(frame.instance == number)
        assert (columns.mean(), rows.mean()) == pytest.approx(tuple(uv), abs=0.6)
        assert np.median(frame.depth[rows, columns]) == pytest.approx(float(depth), rel=1e-4)


def test_transparent_holes_show_what_is_behind(stage: Stage) -> None:
    """A texture whose left half has alpha 0: holes where the state is transparent, none where it is opaque."""
    from panda3d.core import PNMImage, Texture

    image = PNMImage(16, 16, 4)
    image.fill(1, 1, 1)
    for x in range(16):
        for y in range(16):
            image.setAlpha(x, y, float(x >= 8))
    texture = Texture()
    texture.load(image)
    texture.setMinfilter(Texture.FTNearest)
    texture.setMagfilter(Texture.FTNearest)
    stage.card((0, 0, 1, 1), half=20, instance="9").setY(20)
    modes = [(-3.9, None), (-1.3, "alpha"), (1.3, "binary"), (3.9, "dual")]
    for number, (x, mode) in enumerate(modes, start=1):
        from panda3d.core import TransparencyAttrib

        card = stage.card(instance=str(number))
        card.setTexture(texture)
        card.setPos(x, 10, 0)
        if mode is not None:
            card.setTransparency(getattr(TransparencyAttrib, f"M_{mode}"))
    frame = stage.frames(2)[1]
    areas = [int((frame.instance == number).sum()) for number in (1, 2, 3, 4)]
    assert areas[0] > 1000
    assert areas[1:] == pytest.approx([areas[0] / 2] * 3, rel=0.06)
    for number in (1, 2, 3, 4):
        shown = frame.instance == number
        assert (frame.color[shown] > 250).all()
        assert frame.depth[shown] == pytest.approx(10, rel=1e-4)
    assert (frame.depth[frame.instance == 9] > 19).all()


def test_a_walking_character_is_in_step_with_its_picture(stage: Stage) -> None:
    """CPU-skinned, as Panda does by default, and skinned by the program's own shader."""
    from direct.actor.Actor import Actor
    from panda3d.core import Shader, ShaderAttrib

    vertex = """#version 150
    uniform mat4 p3d_ModelViewProjectionMatrix;
    uniform mat4 p3d_TransformTable[100];
    in vec4 p3d_Vertex, transform_weight;
    in uvec4 transform_index;
    void main() {
        mat4 skin = p3d_TransformTable[transform_index.x] * transform_weight.x
                  + p3d_TransformTable[transform_index.y] * transform_weight.y
                  + p3d_TransformTable[transform_index.z] * transform_weight.z
                  + p3d_TransformTable[transform_index.w] * transform_weight.w;
        gl_Position = p3d_ModelViewProjectionMatrix * (skin * p3d_Vertex);
    }"""
    fragment = "#version 150\nout vec4 color; void main() { color = vec4(1); }"
    for hardware in (False, True):
        actor = Actor("models/panda-model", {"walk": "models/panda-walk4"})
        actor.reparentTo(stage.root)
        actor.setScale(0.005)
        actor.setPosHpr(0, 8, -1, 70, 0, 0)
        actor.setTag("instance", "3")
        if hardware:
            attrib = ShaderAttrib.make(Shader.make(Shader.SL_GLSL, vertex, fragment))
            actor.setAttrib(attrib.setFlag(ShaderAttrib.F_hardware_skinning, True))
        else:
            actor.setTextureOff(1)
        frames = stage.frames(6, lambda number: actor.pose("walk", 10 * number))  # noqa: B023
        actor.delete()
        for frame in frames:
            shown = frame.color.max(axis=-1) > 128
            assert shown.sum() > 2000
            assert (shown != (frame.instance == 3)).sum() <= (40 if hardware else 0)
        assert (frames[0].instance != frames[3].instance).sum() > 300, "it does walk"


def test_a_camera_with_a_part_of_the_window(stage: Stage) -> None:
    stage.card(instance="1", half=0.5).setPos(0.6, 8, 0)
    region = next(r for r in stage.base.win.getActiveDisplayRegions() if r.getCamera() == stage.base.cam)
    region.setDimensions(0.5, 1, 0.25, 1)
    try:
        (frame,) = stage.frames(1)
    finally:
        region.setDimensions(0, 1, 0, 1)
    assert frame.color.shape == (135, 160, 3)
    assert (frame.instance == 1).sum() > 100
    assert np.array_equal(frame.color[..., 0] > 0, frame.instance == 1)


def test_a_program_that_filters_its_picture(stage: Stage) -> None:
    """Post-processing takes the camera away from the window: colours are then what the filter shows."""
    from direct.filter.FilterManager import FilterManager
    from panda3d.core import Shader, Texture

    vertex = """#version 150
    uniform mat4 p3d_ModelViewProjectionMatrix;
    in vec4 p3d_Vertex;
    void main() { gl_Position = p3d_ModelViewProjectionMatrix * p3d_Vertex; }"""
    fragment = """#version 150
    uniform sampler2D scene; out vec4 color;
    void main() { color = vec4(1.0 - texelFetch(scene, ivec2(gl_FragCoord.xy), 0).rgb, 1.0); }"""
    stage.card((1, 0, 0, 1), instance="1").setPos(0.6, 8, 0)
    filters = FilterManager(stage.base.win, stage.base.cam)
    texture = Texture()
    quad = filters.renderSceneInto(colortex=texture)
    quad.setShader(Shader.make(Shader.SL_GLSL, vertex, fragment))
    quad.setShaderInput("scene", texture)
    try:
        frame = stage.frames(3, lambda number: stage.base.camera.setX(0.3 * number))[2]
    finally:
        filters.cleanup()
    shown = frame.instance == 1
    assert shown.sum() > 1000
    assert np.array_equal((frame.color == (0, 255, 255)).all(axis=-1), shown)


def test_what_writes_no_depth_leaves_no_trace(stage: Stage) -> None:
    stage.card((0, 0, 1, 1), half=20, instance="1").setPosHpr(0, 20, 0, 30, 0, 0)
    smoke = stage.card((1, 1, 1, 0.9), half=3, instance="2")
    smoke.setY(5)
    smoke.setTransparency(True)
    smoke.setDepthWrite(False)
    frame = stage.frames(1)[0]
    assert (frame.color[..., 0] > 200).mean() > 0.5, "the smoke is in the picture"
    assert set(np.unique(frame.instance)) <= {0, 1}
    assert np.degrees(np.arctan2(frame.normal[90, 160, 0], -frame.normal[90, 160, 2])) == pytest.approx(30, abs=1)


def test_normals_face_the_camera_on_double_sided_surfaces(stage: Stage) -> None:
    card = stage.card()
    card.setPosHpr(0, 8, 0, 200, 0, 0)  # its back, turned by 20 degrees
    card.setTwoSided(True)
    frame = stage.frames(1)[0]
    np.testing.assert_allclose(frame.normal[90, 160], (np.sin(np.radians(20)), 0, -np.cos(np.radians(20))), atol=0.02)


def test_motion_of_camera_things_newcomers_and_sky(stage: Stage) -> None:
    stage.card((0, 0, 1, 1), half=6, instance="1").setPos(-8, 20, 0)
    mover = stage.card((1, 0, 0, 1), instance="2")

    def arrange(number: int) -> None:
        mover.setPosHpr(0.4 * number, 8, 0.3 * number, 0, 0, 10 * number)
        stage.base.camera.setPosHpr(0.5 * number, 0.2 * number, 0, 0, 0.5 * number, 0)
        if number == 2:
            stage.card((0, 1, 0, 1), instance="3").setPos(4, 9, 0)

    first, second, third = stage.frames(3, arrange)
    assert np.isnan(first.motion).all(), "nothing came before the first frame"
    expected = geometry.motion_from_depth(third.depth, third.camera, second.camera)
    for still in (third.instance == 1, np.isinf(third.depth)):
        assert still.sum() > 500
        assert np.abs(third.motion - expected)[still].max() < 0.01
    assert np.isnan(third.motion[third.instance == 3]).all()
    moving = third.instance == 2
    assert np.abs(third.motion - expected)[moving].max() > 3
    # Where a pixel of the thing says it was, the thing was: its picture there is red and at the depth of its plane.
    warped = geometry.warp((second.instance == 2).astype(np.float32), third.motion)
    assert warped[moving].mean() > 0.95
    centre = np.array([[0.8, -0.6, 8.0]]), np.array([[0.4, -0.3, 8.0]])
    (now,), (then,) = (geometry.project(c, f.camera)[0] for c, f in zip(centre, (third, second), strict=True))
    at = third.motion[int(round(now[1])), int(round(now[0]))]
    np.testing.assert_allclose(at, then - now, atol=0.2)


def test_entities_tell_pose_size_and_velocity(stage: Stage) -> None:
    card = stage.card(instance="7", **{"class": "sign"})
    card.setScale(2, 1, 3)
    frames = stage.frames(3, lambda number: card.setPosHpr(number, 10, 0, 45, 0, 0), fps=10)
    (entity,) = frames[2].entities
    assert (entity.id, entity.cls) == (7, "sign")
    assert entity.size == pytest.approx((4, 0, 6), abs=1e-5)
    assert entity.velocity == pytest.approx((10, 0, 0), abs=1e-3)
    assert [frame.time - frames[0].time for frame in frames] == pytest.approx([0, 0.1, 0.2])


def test_classes_have_a_legend_and_late_ones_an_event(stage: Stage) -> None:
    stage.card(**{"class": "wall"}).setPos(-1.5, 8, 0)

    def arrange(number: int) -> None:
        if number == 1:
            stage.card(**{"class": "door"}).setPos(1.5, 8, 0)

    frames = stage.frames(2, arrange)
    receiver = stage.receivers[-1]
    assert receiver.hello is not None and receiver.hello.legend == {"segmentation": {1: "wall"}}
    assert set(np.unique(frames[0].segmentation)) == {0, 1}
    assert set(np.unique(frames[1].segmentation)) == {0, 1, 2}
    (event,) = receiver.events
    assert (event.name, event.data) == ("legend", {"channel": "segmentation", "id": 2, "label": "door"})


def test_a_bad_instance_tag_is_one_sentence(stage: Stage) -> None:
    stage.card(instance="wheel")
    with pytest.raises(UserError, match="instance='wheel'.*1 to 65535"):
        stage.frames(1)


def test_orthographic_cameras_are_refused(stage: Stage) -> None:
    from panda3d.core import OrthographicLens

    stage.card().setY(5)
    stage.base.camNode.setLens(OrthographicLens())
    with pytest.raises(UserError, match="orthographic"):
        stage.frames(1)


def test_rendering_in_other_threads_is_refused(stage: Stage) -> None:
    from panda3d.core import GraphicsThreadingModel

    engine = stage.base.graphicsEngine
    engine.setThreadingModel(GraphicsThreadingModel("/Draw"))
    try:
        with pytest.raises(UserError, match="threading-model"):
            stage.capture()
    finally:
        engine.setThreadingModel(GraphicsThreadingModel(""))


def test_live_never_waits_and_counts_what_it_drops(stage: Stage) -> None:
    stage.card().setY(5)
    capture = stage.capture(mode="live", credit=2, give_back=False, fps=1e6, connect_timeout=10)
    for _ in range(12):
        stage.base.taskMgr.step()
    assert (capture.stats.sent, capture.stats.dropped) == (2, 10)
    assert not capture._geometry.buffer.isActive(), "a dropped frame must not be drawn a second time"
    stage.receivers[-1].tell(wire.Credit(1, None))
    while capture.stats.sent < 3:
        stage.base.taskMgr.step()
    capture.close()
    last = stage.receivers[-1].frames[-1]
    assert last.dropped_before >= 10
    assert last.serial == last.dropped_before + 2


def test_live_keeps_to_the_frame_rate(stage: Stage) -> None:
    from panda3d.core import ClockObject

    stage.card().setY(5)
    clock = ClockObject.getGlobalClock()
    clock.setMode(ClockObject.MNonRealTime)
    clock.setDt(1 / 60)  # a program that runs at 60 frames per second
    capture = stage.capture(mode="live", credit=200, fps=24, connect_timeout=10)
    for _ in range(120):
        stage.base.taskMgr.step()
    assert capture.stats.sent == pytest.approx(48, abs=2)


def test_capture_leaves_the_programs_picture_alone(stage: Stage) -> None:
    from panda3d.core import GraphicsOutput, Texture

    environment = stage.base.loader.loadModel("models/environment")
    environment.reparentTo(stage.root)
    environment.setScale(0.25)
    environment.setPos(-8, 42, 0)
    stage.base.camera.setPos(2, -14, 3)
    texture = Texture()
    stage.base.win.addRenderTexture(texture, GraphicsOutput.RTMCopyRam, GraphicsOutput.RTPColor)
    stage.base.taskMgr.step()
    stage.base.taskMgr.step()
    alone = bytes(texture.getRamImage())
    (frame,) = stage.frames(1)
    assert bytes(texture.getRamImage()) == alone
    shown = np.frombuffer(alone, np.uint8).reshape(*frame.color.shape[:2], -1)
    assert np.array_equal(shown[::-1, :, 2::-1], frame.color)
    stage.base.taskMgr.step()
    assert bytes(texture.getRamImage()) == alone
    assert not stage.base.cam.findAllMatches("**/realmaster-*"), "the bridge must take its cameras away"


def test_the_picture_may_change_its_size(stage: Stage) -> None:
    stage.card(instance="1").setY(8)

    def arrange(number: int) -> None:
        if number == 1:
            stage.base.win.setSize(200, 100)

    try:
        first, second = stage.frames(2, arrange)
    finally:
        stage.base.win.setSize(*SIZE)
    assert first.color.shape == (180, 320, 3)
    for array in (second.color, second.depth, second.normal, second.instance, second.motion):
        assert array.shape[:2] == (100, 200)
    assert np.array_equal(second.color[..., 0] > 0, second.instance == 1)


def test_a_size_can_be_asked_for(stage: Stage) -> None:
    try:
        (frame,) = stage.frames(1, size=(96, 64))
    finally:
        stage.base.win.setSize(*SIZE)
    assert frame.color.shape == (64, 96, 3)
    assert frame.camera.fx == pytest.approx(frame.camera.fy), "the lens follows the new aspect"


def test_hud_can_be_hidden(stage: Stage) -> None:
    from panda3d.core import CardMaker

    hud = stage.base.render2d.attachNewNode(CardMaker("hud").generate())
    capture = stage.capture()
    stage.base.taskMgr.step()
    stage.receivers[-1].tell(wire.Control("hide_hud", {}))
    while not stage.base.render2d.isHidden():
        stage.base.taskMgr.step()
    capture.close()
    hud.removeNode()
    stage.base.render2d.show()
    frames = stage.receivers[-1].frames
    assert frames[0].color.max() == 255 and frames[-1].color.max() == 0
    assert np.isinf(frames[0].depth).all(), "the HUD has no depth"


def _median_angle(frame: Frame) -> float:
    derived = geometry.normals_from_depth(frame.depth, frame.camera)
    known = (derived != 0).any(axis=-1) & (frame.normal != 0).any(axis=-1) & ~geometry.geometric_edges(frame.depth)
    cosine = (derived * frame.normal).sum(axis=-1)[known]
    return float(np.degrees(np.median(np.arccos(np.clip(cosine, -1, 1)))))


def _run(*arguments: str, endpoint: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "REALMASTER_TOKEN": TOKEN, "REALMASTER_ENDPOINT": endpoint}
    command = [sys.executable, "-m", "engine_bridges.panda3d", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_the_sample_scene_is_true_to_itself(receiver: Receiver, tmp_path: Path) -> None:
    """Depth reprojects within a pixel, normals agree with depth, pandas walk, and one appears in the middle."""
    arguments = ("--frames", "44", "--mode", "lossless", "--size", "320x180", "--seed", "5")
    result = _run(*arguments, endpoint=receiver.endpoint, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    frames = receiver.frames
    assert len(frames) == 44
    assert frames[0].time == 0 and frames[-1].time == pytest.approx(43 / 24)
    for index in (1, 20, 43):
        before, now = frames[index - 1], frames[index]
        error = geometry.reprojection_error(before.depth, before.camera, now.depth, now.camera)
        error = error[np.isfinite(error) & (before.instance == 0)]
        assert error.size > 0.6 * before.depth.size
        assert np.percentile(error, 99.9) < 1
        assert np.abs(before.camera.pose - now.camera.pose).max() > 0.001
        assert _median_angle(now) < 1
        flow = geometry.warp(before.color, now.motion).astype(float) - now.color
        still = before.color.astype(float) - now.color
        known = np.isfinite(now.motion).all(axis=-1) & geometry.inside(now.motion)
        assert np.abs(flow)[known].mean() < 0.6 * np.abs(still)[known].mean()
        pandas = now.segmentation == 1
        assert np.array_equal(pandas, now.instance > 0)
        assert np.isnan(now.motion[pandas]).all()
    ids = [{entity.id for entity in frame.entities} for frame in frames]
    assert ids[0] == {1, 2, 3} and ids[-1] == {1, 2, 3, 4}


PROGRAM = """
import sys
from direct.showbase.ShowBase import ShowBase
from helper import TURN

class Game(ShowBase):
    def __init__(self):
        super().__init__()
        self.box = self.loader.loadModel("models/box")
        self.box.reparentTo(self.render)
        self.box.setPos(-0.5, 6, -0.5)
        self.box.setTag("instance", sys.argv[1])
        self.taskMgr.add(self.turn, "turn")

    def turn(self, task):
        self.box.setH(self.box.getH() + TURN)
        return task.cont

Game().run()
"""


def test_a_users_own_program_is_captured(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "game").mkdir()
    (tmp_path / "game" / "game.py").write_text(PROGRAM)
    (tmp_path / "game" / "helper.py").write_text("TURN = 3\n")
    arguments = ("--frames", "5", "--mode", "lossless", "--size", "160x120", "--", "game/game.py", "12")
    result = _run(*arguments, endpoint=receiver.endpoint, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert receiver.hello is not None and receiver.hello.game == "game"
    assert len(receiver.frames) == 5
    for frame in receiver.frames:
        assert frame.color.shape == (120, 160, 3)
        assert (frame.instance == 12).sum() > 200


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "there is no program 'gone.py' to capture"),
        ("print('no engine')", "without making a ShowBase"),
        ("from direct.showbase.ShowBase import ShowBase\nShowBase(windowType='none')", "no window to capture"),
    ],
)
def test_a_program_that_cannot_be_captured_is_one_sentence(source: str | None, sentence: str, tmp_path: Path) -> None:
    if source is not None:
        (tmp_path / "gone.py").write_text(source)
    result = _run("--", "gone.py", endpoint="tcp://127.0.0.1:9", cwd=tmp_path)
    assert result.returncode == 1
    assert sentence in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_daemon_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = _run("--frames", "3", endpoint="tcp://127.0.0.1:9", cwd=tmp_path)
    assert result.returncode == 1
    assert "No daemon answers" in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_live_without_a_daemon_starts_at_once_and_sends_when_there_is_one(stage: Stage) -> None:
    stage.card().setY(5)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        free = socket.bind_to_random_port("tcp://127.0.0.1")
    from engine_bridges.panda3d import attach

    capture = attach(stage.base, endpoint=f"tcp://127.0.0.1:{free}", token=TOKEN, mode="live", fps=1e6)
    stage.captures.append(capture)
    started = time.monotonic()
    for _ in range(5):
        stage.base.taskMgr.step()
    assert time.monotonic() - started < 9  # not the ten seconds that others wait for a daemon
    assert (capture.stats.sent, capture.stats.dropped) == (0, 5)
    stage.receivers.append(Receiver(port=free))
    while capture.stats.sent == 0 and time.monotonic() - started < 60:
        stage.base.taskMgr.step()
    assert capture.stats.sent == 1
