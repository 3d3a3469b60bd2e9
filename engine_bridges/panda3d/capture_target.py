"""Attaches to a running Panda3D program and sends what its camera shows.

Works on any ShowBase: its window gives the colours, `geometry_pass` the rest of the same frame, `lens` the camera,
`labels` the ids. Knows nothing of the daemon but `capture.sender`.

    capture = attach(base)          # anywhere after ShowBase() in your program

How a frame is kept together: a task just before `igLoop` decides whether this frame is captured and arms the
read-back; while Panda draws the scene, a draw callback notes the camera and the transforms of the instances; a task
just after `igLoop` reads the pixels and sends all of it. Nothing of the program can run in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from panda3d import core as p3d

from capture.camera import Camera
from capture.errors import UserError
from capture.frame import Descriptor
from capture.sender import FrameSender, SenderStats
from engine_bridges.panda3d import lens
from engine_bridges.panda3d.geometry_pass import GeometryPass, texture_array
from engine_bridges.panda3d.labels import SceneLabels
from engine_bridges.panda3d.motion import backward_motion

CONTROLS = ("hide_hud",)
"""Control messages that we obey: hide_hud hides `render2d`, or shows it again ({"on": true or false} says which)."""


@dataclass(frozen=True)
class _Moment:
    """What was true while a frame was drawn."""

    time: float
    camera: Camera
    transforms: dict[int, NDArray[np.float64]] = field(default_factory=dict)


def descriptors(size: tuple[int, int]) -> list[Descriptor]:
    """Of the channels that we send at `size` (width, height)."""
    width, height = size
    return [
        Descriptor("color", "uint8", (height, width, 3), rows="bottom", order="bgr"),
        Descriptor("depth", "float32", (height, width), rows="bottom", kind="ndc"),
        Descriptor("normal", "uint8", (height, width, 3), rows="bottom", space="camera", encoding="unorm"),
        Descriptor("motion", "float32", (height, width, 2), rows="bottom", kind="backward_pixels"),
        Descriptor("segmentation", "uint8", (height, width), rows="bottom"),
        Descriptor("instance", "uint16", (height, width), rows="bottom"),
    ]


class PandaCapture:
    """Sends frames of one ShowBase until `close`, or until `frames` were sent or `seconds` of engine time are over.

    camera: NodePath of the camera to follow; by default whatever `base.cam` is.  size: (width, height) asked of the
    window; by default it stays as it is.  fps: live, at most so many frames a second are captured; lossless, the
    program's clock advances by 1 / fps a frame, however long a frame takes.  metres_per_unit: of the program's world.
    connect_timeout: as for FrameSender, which connects at the first frame; by default a live capture does not wait
    for a daemon and sends from when there is one.

    on_done: called when capture has ended by itself; if that was for an error, it is in `error`. Without `on_done`
    errors are raised into the program's main loop. They are UserErrors: no window, no shaders, pipelined rendering
    (these three already here), an orthographic camera, a wrong tag, a daemon that is gone (lossless).
    """

    def __init__(
        self,
        base: Any,
        *,
        camera: p3d.NodePath | None = None,
        size: tuple[int, int] | None = None,
        endpoint: str | None = None,
        token: str | None = None,
        mode: str = "live",
        fps: float = 24.0,
        game: str = "",
        metres_per_unit: float = 1.0,
        frames: int | None = None,
        seconds: float | None = None,
        connect_timeout: float | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> None:
        if base.win is None:
            raise UserError("the program has no window to capture: set `window-type offscreen` or `onscreen`.")
        threads = base.graphicsEngine.getThreadingModel()
        if threads.getCullName() or threads.getDrawName():
            raise UserError("the program renders in other threads: clear `threading-model` in its Config.prc.")
        self.base = base
        self.labels = SceneLabels()
        self.sender: FrameSender | None = None
        self.done = False
        self.error: UserError | None = None
        self._connect_to: dict[str, Any] = {
            "endpoint": endpoint, "token": token, "mode": mode, "fps": fps, "engine": "panda3d", "game": game,
            "conventions": lens.conventions(metres_per_unit), "capabilities": CONTROLS,
            "connect_timeout": connect_timeout if connect_timeout is not None else 10.0 * (mode == "lossless"),
        }  # fmt: skip
        self._camera = camera
        self._interval = 1 / fps if mode == "live" else 0.0
        self._due = 0.0
        self._frames = frames
        self._seconds = seconds
        self._began: float | None = None
        self._on_done = on_done
        self._armed = False
        self._moment: _Moment | None = None
        self._last_sent: _Moment | None = None
        self._failure: Exception | None = None
        self._announced = 0
        if size is not None:
            self._resize(size)
        if mode == "lossless":
            clock = p3d.ClockObject.getGlobalClock()
            clock.setMode(p3d.ClockObject.MNonRealTime)
            clock.setDt(1 / fps)
        self._color = p3d.Texture("realmaster-color")
        base.win.addRenderTexture(self._color, p3d.GraphicsOutput.RTMTriggeredCopyRam, p3d.GraphicsOutput.RTPColor)
        self._geometry = GeometryPass(base, self.camera, self._viewport()[2:], self._note_moment)
        # igLoop, which draws, is the task of sort 50 and priority 0; within a sort, higher priority runs first.
        self._tasks = [
            base.taskMgr.add(
                self._step, f"realmaster-{half.__name__.strip('_')}", sort=50, priority=priority, extraArgs=[half],
                appendTask=True,
            )
            for half, priority in ((self._before, 1_000_000), (self._after, -1_000_000))
        ]  # fmt: skip

    @property
    def stats(self) -> SenderStats:
        """What became of the frames so far."""
        return SenderStats() if self.sender is None else self.sender.stats

    @property
    def camera(self) -> p3d.NodePath:
        """The camera that is captured."""
        return self.base.cam if self._camera is None else self._camera

    @property
    def scene(self) -> p3d.NodePath:
        """Root of what the camera sees."""
        scene = self.camera.node().getScene()
        return scene if not scene.isEmpty() else self.camera.getTop()

    def close(self) -> None:
        """Stops capturing, says goodbye to the daemon and leaves the program as it was."""
        if self.done:
            return
        self.done = True
        for task in self._tasks:
            self.base.taskMgr.remove(task)
        self.labels.clear()
        if self.base.win is not None:
            self._geometry.close()
        if self.sender is not None:
            self.sender.close()

    def _resize(self, size: tuple[int, int]) -> None:
        if isinstance(self.base.win, p3d.GraphicsWindow):
            self.base.win.requestProperties(p3d.WindowProperties.size(*size))
        else:
            self.base.win.setSize(*size)
            self.base.adjustWindowAspectRatio(size[0] / size[1])

    def _viewport(self) -> tuple[int, int, int, int]:
        """Left, bottom, width, height in pixels of the camera's part of the window."""
        window = self.base.win
        width, height = window.getXSize(), window.getYSize()
        for region in window.getActiveDisplayRegions():
            if region.getCamera() == self.camera:
                left, right, bottom, top = region.getDimensions()
                x, y = round(left * width), round(bottom * height)
                return x, y, round(right * width) - x, round(top * height) - y
        return 0, 0, width, height  # shown through a filter: its quad fills the window

    def _note_moment(self) -> None:
        # Runs inside Panda's draw: an exception must not travel through C++.
        try:
            time = p3d.ClockObject.getGlobalClock().getFrameTime()
            camera = lens.read_camera(self.camera, self._viewport()[2:])
            self._moment = _Moment(time, camera, self.labels.transforms())
        except Exception as error:
            self._failure = error

    def _step(self, half: Callable[[], None], task: Any) -> int:
        """One half of a frame, as a task."""
        if self.done:
            return task.done
        try:
            half()
        except UserError as error:
            if self._on_done is None:
                raise
            self.error = error
            self._end()
        return task.done if self.done else task.cont

    def _end(self) -> None:
        # The tasks end by themselves: when one is removed while it runs, Panda goes on with the others, one of which
        # may clear the exception that is to end the program.
        self._tasks.clear()
        self.close()
        if self._on_done is not None:
            self._on_done()

    def _before(self) -> None:
        """Decides whether the coming frame is captured, and prepares for it."""
        self._armed = False
        if self.base.win is None or not self.base.win.isValid():
            self._end()
            return
        now = p3d.ClockObject.getGlobalClock().getFrameTime()
        if now < self._due:
            return
        # From the due time, not from now: the mean rate is then fps, whatever the program's own rate.
        self._due = max(self._due + self._interval, now - self._interval)
        for label in self.labels.update(self.scene):
            self._geometry.know(label)
        sender = self._connected_sender()
        self._obey(sender)
        if sender.skip():
            return
        self._announce_classes(sender, now)
        self._moment = None
        self._geometry.follow(self.camera, self._viewport()[2:])
        self.base.win.triggerCopy()
        self._armed = True

    def _after(self) -> None:
        """Sends the frame just drawn, if it was wanted."""
        if self._failure is not None:
            raise self._failure
        if self._armed and self._moment is not None and self._color.hasRamImage():
            self._send(self._moment)
        if self._finished():
            self._end()

    def _finished(self) -> bool:
        now = p3d.ClockObject.getGlobalClock().getFrameTime()
        if self._began is None:
            self._began = now
        if self._frames is not None and self.stats.sent >= self._frames:
            return True
        if self._seconds is None:
            return False
        # N seconds are N x fps frames, the first of them at 0; half a frame of slack for rounding in the clock.
        return now - self._began >= self._seconds - 1.5 / self._connect_to["fps"]

    def _send(self, moment: _Moment) -> None:
        geometry = self._geometry.read()
        left, bottom, width, height = self._viewport()
        color = texture_array(self._color)[bottom : bottom + height, left : left + width, :3]
        before = self._last_sent or moment
        moves = {
            number: before.transforms[number] @ np.linalg.inv(now)
            for number, now in moment.transforms.items()
            if number in before.transforms and abs(np.linalg.det(now)) > 1e-18
        }
        unknown = geometry.animated if self._last_sent is not None else np.ones_like(geometry.animated)
        motion = backward_motion(geometry.depth, moment.camera, before.camera, geometry.instance, moves, unknown)
        arrays: dict[str, NDArray[Any]] = {
            "color": np.ascontiguousarray(color),
            "depth": geometry.depth,
            "normal": geometry.normal,
            "motion": motion,
            "segmentation": geometry.segmentation,
            "instance": geometry.instance,
        }
        entities = self.labels.entities(moment.transforms, before.transforms, moment.time - before.time)
        assert self.sender is not None
        if self.sender.send(moment.camera, arrays, time=moment.time, entities=entities):
            self._last_sent = moment

    def _connected_sender(self) -> FrameSender:
        if self.sender is None:
            legend = self.labels.legend
            self._announced = len(self.labels.classes)
            self.sender = FrameSender(channels=descriptors(self._viewport()[2:]), legend=legend, **self._connect_to)
        return self.sender

    def _announce_classes(self, sender: FrameSender, time: float) -> None:
        """Classes that appear after the hello reach the take as events."""
        for name, number in list(self.labels.classes.items())[self._announced :]:
            if sender.event("legend", time=time, channel="segmentation", id=number, label=name):
                self._announced += 1

    def _obey(self, sender: FrameSender) -> None:
        for control in sender.controls():
            if control.name == "hide_hud":
                args, overlay = control.args, self.base.render2d
                if args.get("on", args.get("hidden", not overlay.is_hidden())):
                    overlay.hide()
                else:
                    overlay.show()


def attach(base: Any, **settings: Any) -> PandaCapture:
    """Begins to capture a running program; settings as for PandaCapture."""
    return PandaCapture(base, **settings)
