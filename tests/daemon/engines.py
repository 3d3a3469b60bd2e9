"""Bridges for the daemon's tests: frames whose truth follows from their serial, and a peer that says anything."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import zmq

from capture import wire
from capture.camera import Camera, Conventions
from capture.frame import Descriptor, Frame
from capture.sender import FrameSender

HEIGHT, WIDTH = 48, 64
CHANNELS = (
    Descriptor("color", "uint8", (HEIGHT, WIDTH, 3)),
    Descriptor("depth", "float32", (HEIGHT, WIDTH)),
    Descriptor("normal", "float32", (HEIGHT, WIDTH, 3)),
)
CAMERA = Camera.from_vertical_fov(np.eye(4), 1.0, WIDTH, HEIGHT)


def arrays(serial: int) -> dict[str, np.ndarray]:
    """The channels of a frame: noise that only this serial has, with sky and a slanted plane."""
    random = np.random.default_rng(serial)
    depth = random.uniform(1, 50, (HEIGHT, WIDTH)).astype(np.float32)
    depth[:5] = np.inf
    normal = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    normal[5:] = (0.0, 0.6, -0.8)
    return {"color": random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), "depth": depth, "normal": normal}


def assert_exact(frame: Frame) -> None:
    """The recorded frame is, bit for bit, what was sent under its serial."""
    for name, sent in arrays(frame.serial).items():
        assert frame.channels[name].data.tobytes() == sent.tobytes(), f"{name} of frame {frame.serial} differs"


def send(sender: FrameSender, count: int, first: int = 0) -> None:
    for serial in range(first, first + count):
        sender.send(CAMERA, arrays(serial), time=serial / 24, serial=serial)


def engine(endpoint: str, *, game: str = "", mode: str = "lossless", **options: Any) -> FrameSender:
    return FrameSender(endpoint, engine="test", game=game, channels=CHANNELS, mode=mode, **options)


@contextmanager
def playing(endpoint: str, every: float = 0.05, **options: Any) -> Iterator[None]:
    """A live engine that sends a frame `every` so many seconds, on a thread of its own."""
    stop = threading.Event()

    def drive() -> None:
        with engine(endpoint, mode="live", **options) as sender:
            serial = 0
            while not stop.wait(every):
                send(sender, 1, first=serial)
                serial += 1

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        yield
    finally:
        stop.set()
        driver.join(60)


class Peer:
    """A DEALER that sends whatever it is told, in and out of order; a context manager."""

    def __init__(self, endpoint: str, token: str = "") -> None:
        self.token = token
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def hello(self, **changes: Any) -> wire.Welcome:
        """Begin a session, also when one is there already."""
        message = self.hello_message(**changes)
        self.say(message)
        while (welcome := self.hear_kind(wire.Welcome)).session != message.session:
            pass
        return welcome

    def hello_message(self, **changes: Any) -> wire.Hello:
        hello = wire.Hello(uuid.uuid4().hex, self.token, "peer", "", Conventions(), 24.0, "lossless", CHANNELS)
        return replace(hello, **changes)

    def frame_message(self, serial: int, **changes: Any) -> wire.FrameMessage:
        parts = tuple(wire.Part(name, serial, array) for name, array in arrays(serial).items())
        return replace(wire.FrameMessage(serial, serial / 24, CAMERA, parts), **changes)

    def frame(self, serial: int, **changes: Any) -> None:
        self.say(self.frame_message(serial, **changes))

    def say(self, message: wire.Message) -> None:
        self.say_parts(wire.encode(message))

    def say_parts(self, parts: list[Any]) -> None:
        self.socket.send_multipart(parts)

    def hear(self, timeout: float = 60.0) -> wire.Message:
        """The next message from the daemon; credits of nothing, which only ask whether we live, are left out."""
        deadline = time.monotonic() + timeout
        while True:
            assert self.socket.poll(max(0, round((deadline - time.monotonic()) * 1000))), "the daemon says nothing"
            message = wire.decode(self.socket.recv_multipart())
            if message != wire.Credit(0, None):
                return message

    def hear_kind(self, kind: type, timeout: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout
        while not isinstance(message := self.hear(), kind):
            assert time.monotonic() < deadline, f"no {kind.__name__} came"  # only questions whether we live, perhaps
        return message

    def hear_error(self, code: str) -> wire.Error:
        error = self.hear_kind(wire.Error)
        assert error.code == code, error
        assert error.sentence.endswith(".")
        return error

    def silence(self, seconds: float = 0.3) -> None:
        """Nothing is said for a while."""
        if self.socket.poll(round(seconds * 1000)):
            raise AssertionError(f"the daemon says {wire.decode(self.socket.recv_multipart())}")

    def close(self) -> None:
        self.socket.close()
        self._context.term()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def until(condition: Callable[[], Any], timeout: float = 90.0, what: str = "it") -> Any:
    """Wait until the condition holds and return its value. It is there at once on a free machine: the patience is for a
    busy one, and costs nothing where the condition comes to hold."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout} s"
        time.sleep(0.02)
    return value


def settled(look: Callable[[], Any], still: float = 0.5, timeout: float = 90.0) -> Any:
    """Wait until what it shows has been the same for `still` seconds, and return that: what was under way has come."""
    deadline = time.monotonic() + timeout
    seen, since = look(), time.monotonic()
    while time.monotonic() - since < still:
        assert time.monotonic() < deadline, f"it never stood still for {still} s within {timeout} s"
        time.sleep(0.02)
        if (now := look()) != seen:
            seen, since = now, time.monotonic()
    return seen
