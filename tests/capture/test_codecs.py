"""Codecs: every bit of every array comes back, whatever it holds."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from capture import codecs
from capture.frame import Descriptor

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (33, 17), (1, 1, 1), (5, 3, 2), (16, 31, 3), (3, 2, 4), (64, 96, 3)]


def round_trip(name: str, array: np.ndarray) -> bytes:
    data = codecs.encode(name, array)
    back = codecs.decode(name, data, array.dtype, array.shape)
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()
    return data


def contents(shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    """Noise of all bit patterns, a constant, a ramp, and an image with an edge."""
    rng = np.random.default_rng(len(shape) * 1000 + shape[0])
    number = np.dtype(dtype)
    count = int(np.prod(shape))
    noise = rng.integers(0, 256, count * number.itemsize, dtype=np.uint8).view(number).reshape(shape)
    ramp = np.arange(count).reshape(shape).astype(number)
    edge = ramp.copy()
    edge[shape[0] // 2 :] = 0
    return [noise, np.full(shape, 3, number), ramp, edge]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("image", "uint8"), ("image", "int8"), ("zstd", "uint16"), ("raw", "float32")]
    + [("depth", dtype) for dtype in ("float32", "float16", "uint16", "uint32", "int16")],
)
def test_every_codec_gives_back_every_bit(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    for array in contents(shape, dtype):
        round_trip(name, array)


def test_depth_keeps_special_floats_bit_by_bit() -> None:
    special = [0x7FC00000, 0x7F800001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 0x00000001, 0x00000000]
    array = np.array(special, np.uint32).view(np.float32).reshape(2, 4)
    back = codecs.decode("depth", codecs.encode("depth", array), "float32", array.shape)
    assert back.view(np.uint32).ravel().tolist() == special


@settings(max_examples=60, deadline=None)
@given(npst.arrays(np.uint32, npst.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)))
def test_depth_of_any_bit_pattern(bits: np.ndarray) -> None:
    round_trip("depth", bits.view(np.float32))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 256])
)
def test_image_of_any_size_and_smoothness(height: int, width: int, components: int, seed: int, levels: int) -> None:
    noise = np.random.default_rng(seed).integers(0, levels, (height, width, components))
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width))[..., None]
    round_trip("image", (noise + ramp).astype(np.uint8))


def test_arrays_that_are_not_contiguous_or_not_little_endian() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    round_trip("image", image[::-1, ::2, :3])
    big = np.linspace(0, 9, 12, dtype=">f4").reshape(3, 4)
    back = codecs.decode("depth", codecs.encode("depth", big), "float32", (3, 4))
    assert np.array_equal(back, big)


def test_the_encoder_does_not_change_its_input() -> None:
    for name, dtype in (("image", "uint8"), ("depth", "float32")):
        array = contents((16, 31, 3), dtype)[2]
        before = array.copy()
        array.flags.writeable = False
        codecs.encode(name, array)
        assert array.tobytes() == before.tobytes()


def test_smooth_images_shrink() -> None:
    y, x = np.mgrid[:180, :320].astype(np.float32)
    floor = 40 / (y + 1) + 0 * x
    color = np.stack([x / 3 + y / 5, x / 3 + y / 4, y / 2], axis=-1)
    color = (color + np.random.default_rng(0).integers(0, 3, color.shape)).astype(np.uint8)
    assert len(round_trip("depth", floor)) < floor.nbytes / 20
    assert len(round_trip("image", color)) < color.nbytes / 2.5
    assert len(round_trip("image", color)) < 0.9 * len(round_trip("zstd", color))


def test_threads_do_not_disturb_each_other() -> None:
    images = [np.random.default_rng(i).integers(0, 40, (60, 80, 3), dtype=np.uint8) for i in range(8)]
    failures: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            data = codecs.encode("image", images[i])
            if codecs.decode("image", data, "uint8", (60, 80, 3)).tobytes() != images[i].tobytes():
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


@pytest.mark.parametrize("name", codecs.CODECS)
def test_broken_bytes_are_a_value_error(name: str) -> None:
    array = contents((16, 31), "float32" if name == "depth" else "uint8")[3]
    data = codecs.encode(name, array)
    zeros = [] if name == "raw" else [b"\0" * len(data)]  # zeros are an array like any other when nothing is coded
    for broken in (b"", data[:3], data[: len(data) // 2], data[1:], *zeros):
        with pytest.raises(ValueError):
            codecs.decode(name, broken, array.dtype, array.shape)
    with pytest.raises(ValueError):
        codecs.decode(name, data, array.dtype, (16, 32))


def test_wrong_codecs_and_arrays_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="'gif' is unknown"):
        codecs.encode("gif", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="'gif' is unknown"):
        codecs.decode("gif", b"", "uint8", (2, 2))
    with pytest.raises(ValueError, match="1-byte"):
        codecs.encode("image", np.zeros((2, 2), np.uint16))
    with pytest.raises(ValueError, match="2- and 4-byte"):
        codecs.encode("depth", np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(
    ("descriptor", "codec"),
    [
        (Descriptor("color", "uint8", (4, 4, 3)), "image"),
        (Descriptor("albedo", "uint8", (4, 4, 4)), "image"),
        (Descriptor("normal", "int8", (4, 4, 3)), "image"),
        (Descriptor("normal", "float16", (4, 4, 3)), "depth"),
        (Descriptor("depth", "float32", (4, 4)), "depth"),
        (Descriptor("depth", "uint16", (4, 4)), "depth"),
        (Descriptor("motion", "float32", (4, 4, 2)), "depth"),
        (Descriptor("segmentation", "uint8", (4, 4)), "zstd"),
        (Descriptor("instance", "uint32", (4, 4)), "zstd"),
        (Descriptor("wetness", "uint8", (4, 4)), "zstd"),
    ],
)
def test_default_codec_takes_its_channel(descriptor: Descriptor, codec: str) -> None:
    assert codecs.default_codec(descriptor) == codec
    round_trip(codec, contents(descriptor.shape, descriptor.dtype)[0])
