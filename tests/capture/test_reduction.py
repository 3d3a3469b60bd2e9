"""Smaller and packed frames: what arrives is what was sent, or is said to be less."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from capture import wire
from capture.camera import Camera
from capture.conventions import canonical_motion
from capture.errors import FrameError, ProtocolError
from capture.frame import Descriptor
from capture.reduction import CODECS, Coded, Reduction, pack

from .small_daemon import SmallDaemon
from .test_sender import connect

SESSION = "0123456789abcdef0123456789abcdef"
HEIGHT, WIDTH = 45, 70
RANDOM = np.random.default_rng(3)
CHANNELS = {
    "color": Descriptor("color", "uint8", (HEIGHT, WIDTH, 3)),
    "depth": Descriptor("depth", "float32", (HEIGHT, WIDTH)),
    "motion": Descriptor("motion", "float32", (HEIGHT, WIDTH, 2), scale=-0.5),
    "instance": Descriptor("instance", "uint32", (HEIGHT, WIDTH)),
    "normal": Descriptor("normal", "int8", (HEIGHT, WIDTH, 3)),
}


def smooth(channels: int) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(128 + 60 * np.sin(x / 9 + c) * np.cos(y / 7)) for c in range(channels)], axis=-1).astype(np.uint8)


ARRAYS = {
    "color": smooth(3),
    "depth": RANDOM.uniform(1, 50, (HEIGHT, WIDTH)).astype(np.float32),
    "motion": RANDOM.normal(0, 3, (HEIGHT, WIDTH, 2)).astype(np.float32),
    "instance": RANDOM.integers(0, 2**32, (HEIGHT, WIDTH), dtype=np.uint32),
    "normal": RANDOM.integers(-127, 128, (HEIGHT, WIDTH, 3), dtype=np.int8),
}
EXACT = {"color": "image", "depth": "depth", "motion": "depth", "instance": "zstd", "normal": "image"}


def message(reduction: Reduction) -> wire.FrameMessage:
    """What a bridge sends, after its way over the wire."""
    parts = tuple(wire.Part(name, 5, reduction.array(CHANNELS[name], array)) for name, array in ARRAYS.items())
    return wire.decode([bytes(part) for part in wire.encode(wire.FrameMessage(5, 0.5, None, parts))])


def frame(reduction: Reduction, channels: dict[str, Descriptor] = CHANNELS):
    hello = wire.Hello(SESSION, "", "test", "", wire.Conventions(), 24.0, "live", tuple(channels.values()))
    return wire.frame_of(message(reduction), hello, 0)


def test_all_codecs_but_jpeg_keep_every_bit():
    sent = frame(Reduction(1, EXACT))
    for name, array in ARRAYS.items():
        assert sent.channels[name].data.tobytes() == array.tobytes(), name
    assert all(isinstance(part.array, Coded) for part in message(Reduction(1, EXACT)).parts)


def test_what_a_codec_does_not_take_goes_as_another_or_as_it_is():
    assert pack("jpeg", ARRAYS["normal"]).codec != "jpeg"
    assert pack("depth", ARRAYS["color"]) is not ARRAYS["color"]
    for codec in CODECS:
        for name, array in ARRAYS.items():
            packed = pack(codec, array)
            arrived = packed.pixels() if isinstance(packed, Coded) else packed
            if (codec, name) != ("jpeg", "color"):
                assert arrived.tobytes() == array.tobytes(), (codec, name)


@pytest.mark.parametrize("components", [3, 4])
def test_jpeg_is_small_close_and_said_to_be_lossy(components):
    array = smooth(components)
    packed = pack("jpeg", array)
    assert packed.codec == "jpeg" and packed.nbytes < array.nbytes / 4
    error = np.abs(packed.pixels()[..., :3].astype(int) - array[..., :3])
    assert error.mean() < 2 and error.max() < 20
    assert components == 3 or (packed.pixels()[..., 3] == 255).all()
    assert Reduction(1, {"color": "jpeg", "depth": "depth"}).lossy == ["color"]
    assert str(Reduction(2, {"color": "jpeg", "depth": "depth"})) == (
        "1/2 of the width and height; depth packed without loss; color as JPEG"
    )
    assert str(Reduction()) == "nothing"


@pytest.mark.parametrize("shrink", [2, 3, 4])
def test_smaller_frames_show_the_same_scene(shrink):
    reduction = Reduction(shrink, {"depth": "depth"})
    small = {name: reduction.describe(channel) for name, channel in CHANNELS.items()}
    sent = frame(reduction, small)
    y0, x0 = ((side - 1) % shrink // 2 for side in (HEIGHT, WIDTH))
    for name in ("depth", "instance", "normal", "motion"):
        assert np.array_equal(sent.channels[name].data, ARRAYS[name][y0::shrink, x0::shrink]), name
        assert sent.channels[name].descriptor == small[name]
    near = ARRAYS["color"][y0::shrink, x0::shrink].astype(int)
    assert np.abs(sent.channels["color"].data - near).max() < 25  # a mean of a smooth picture
    # What is measured in pixels is measured in larger ones.
    moved = canonical_motion(ARRAYS["motion"], CHANNELS["motion"])[y0::shrink, x0::shrink]
    assert np.allclose(sent.motion, moved / shrink, atol=1e-5)
    # A point is seen where its pixel went.
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, WIDTH, HEIGHT)
    smaller = reduction.camera(camera, (HEIGHT, WIDTH, 3))
    x, y = 5, 7  # of the small picture
    full = np.linalg.inv(camera.K) @ (x0 + x * shrink, y0 + y * shrink, 1)
    assert np.allclose(np.linalg.inv(smaller.K) @ (x, y, 1), full)


def test_disparity_is_measured_in_pixels_too():
    stereo = Descriptor("depth", "uint16", (HEIGHT, WIDTH), kind="disparity", scale=0.25, baseline=6.0)
    assert Reduction(2).describe(stereo).scale == 0.125
    assert Reduction(2).describe(CHANNELS["depth"]).scale == 1.0
    assert Reduction(1).describe(stereo) is stereo


def test_bytes_that_lie_are_refused_and_cost_no_memory():
    good = message(Reduction(1, EXACT | {"color": "jpeg"}))
    chance = random.Random(1)
    for part in good.parts:
        coded = part.array
        for _ in range(150):
            data = bytearray(bytes(coded.data))
            for _ in range(chance.choice((1, 3))):
                data[chance.randrange(len(data))] = chance.randrange(256)
            broken = replace(coded, data=bytes(data[: chance.choice((len(data), len(data) // 2))]))
            try:
                pixels = broken.pixels()
            except FrameError:
                continue
            assert pixels.shape == coded.shape and pixels.dtype == coded.dtype  # another picture, but a picture
        with pytest.raises(FrameError):
            replace(coded, shape=(16384, 16384, *coded.shape[2:])).pixels()
    hello = wire.Hello(SESSION, "", "test", "", wire.Conventions(), 24.0, "live", tuple(CHANNELS.values()))
    cut = replace(good, parts=(good.parts[0]._replace(array=replace(good.parts[0].array, data=b"\xff\xd8")),))
    with pytest.raises(ProtocolError) as caught:
        wire.frame_of(cut, hello, 0)
    assert caught.value.code == "malformed" and "color" in caught.value.sentence


def test_the_sender_does_what_it_is_asked_for():
    asked = Reduction(2, {"color": "jpeg", "depth": "depth"})
    with SmallDaemon(reduction=asked) as daemon, connect(daemon) as sender:
        assert sender.reduction == asked
        camera = Camera.from_vertical_fov(np.eye(4), 1.0, 6, 4)
        color, depth = RANDOM.integers(0, 256, (4, 6, 3), dtype=np.uint8), np.ones((4, 6), np.float32)
        assert sender.send(camera, {"color": color, "depth": depth}, time=0.0)
        (sent,) = daemon.wait_for(wire.FrameMessage)
        (described,) = daemon.of(wire.Channels)
        assert [channel.shape[:2] for channel in described.channels] == [(2, 3)] * len(described.channels)
        assert daemon.messages.index(described) < daemon.messages.index(sent)
        assert [part.array.codec for part in sent.parts] == ["jpeg", "depth"]
        assert sent.camera == asked.camera(camera, (4, 6))
        color[:], depth[:] = 0, 0  # the engine goes on with its memory
        assert (sent.parts[1].array.pixels() == 1).all()
