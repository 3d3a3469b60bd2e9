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
    + [("depth", dtype) for dtype in ("float32", "float16", "uint16", "uint32", "int16", "uint8", "int8")],
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
def test_bytes_of_any_size_and_smoothness(height: int, width: int, components: int, seed: int, levels: int) -> None:
    noise = np.random.default_rng(seed).integers(0, levels, (height, width, components))
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width))[..., None]
    for name in ("image", "depth"):
        round_trip(name, (noise + ramp).astype(np.uint8))


def test_arrays_that_are_not_contiguous_or_not_little_endian() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    round_trip("image", image[::-1, ::2, :3])
    big = np.linspace(0, 9, 12, dtype=">f4").reshape(3, 4)
    back = codecs.decode("depth", codecs.encode("depth", big), "float32", (3, 4))
    assert np.array_equal(back, big)


def test_the_encoder_does_not_change_its_input() -> None:
    for name, dtype in (("image", "uint8"), ("depth", "uint8"), ("depth", "float32")):
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
    for name in ("image", "depth"):
        assert len(round_trip(name, color)) < color.nbytes / 2.2
        assert len(round_trip(name, color)) < 0.9 * len(round_trip("zstd", color))


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


def suitable(name: str) -> np.ndarray:
    """An array that codec `name` takes."""
    if name in ("avi", "ffvhuff", "webp"):
        return contents((16, 31, 3), "uint8")[3]
    if name == "oct16":
        return np.full((16, 31, 3), [0, 0.6, 0.8], np.float32)
    return contents((16, 31), "float32" if name in ("depth", "log16") else "uint8")[2]


@pytest.mark.parametrize("name", codecs.CODECS)
def test_broken_bytes_are_a_value_error(name: str) -> None:
    array = suitable(name)
    data = codecs.encode(name, array)
    zeros = [] if name == "raw" else [b"\0" * len(data)]  # zeros are an array like any other when nothing is coded
    for broken in (b"", data[:3], data[: len(data) // 2], data[1:], *zeros):
        with pytest.raises(ValueError):
            codecs.decode(name, broken, array.dtype, array.shape)
    with pytest.raises(ValueError):
        codecs.decode(name, data, array.dtype, (16, 32, *array.shape[2:]))
    assert codecs.decode(name, data, array.dtype, array.shape).shape == array.shape  # the coder still works


@pytest.mark.parametrize("name", ["avi", "ffvhuff", "webp"])
@pytest.mark.parametrize("shape", [(16, 16, 3), (17, 31, 4), (33, 19, 3), (40, 321, 4), (64, 96, 3)])
def test_pictures_in_libraries_of_others_keep_every_bit(name: str, shape: tuple[int, ...]) -> None:
    for dtype in ("uint8", "int8"):
        for array in contents(shape, dtype):
            array.flags.writeable = False  # as frames are
            round_trip(name, array)
    clear = contents(shape, "uint8")[0]
    clear[..., -1] = 0  # what lies under transparent pixels counts too
    round_trip(name, clear)
    clear[..., -1] = 255
    round_trip(name, clear)


@pytest.mark.parametrize("shape", [(2, 2, 3), (300, 15, 3), (20, 20, 2), (20, 20)])
def test_what_ffmpeg_does_not_take_goes_to_our_own_codec(shape: tuple[int, ...]) -> None:
    array = contents(shape, "uint8")[0]
    name, data = codecs.encode_preferably("avi", array)
    assert name == "depth"
    assert codecs.decode(name, data, "uint8", shape).tobytes() == array.tobytes()


def texture(height: int = 270, width: int = 480) -> np.ndarray:
    """A picture with smooth shades and a little texture on each second tile, as a game shows."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grain = np.random.default_rng(3).normal(0, 1.2, (height, width, 1)) * ((x // 40 + y // 40) % 2)[..., None]
    return (np.stack([x / 3 + y / 5, x / 4 + y / 4, y / 2], axis=-1) + 40 + grain).astype(np.uint8)


def test_live_recording_takes_the_coder_that_suits_the_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (270, 480, 3), dtype=np.uint8)
    flat = np.repeat(np.arange(270, dtype=np.uint8)[:, None, None] // 64 * 50, 480, axis=1).repeat(3, axis=2)
    y, x = np.mgrid[:270, :480]
    smooth = np.stack([(x + y) // 12, (x + 2 * y) // 20, (2 * x + y) // 17], axis=2).astype(np.uint8)
    pictures = ((texture(), "avi"), (noise, "depth"), (smooth, "depth"), (flat, "zstd"))
    for picture, codec in pictures:
        name, data = codecs.encode_preferably("avi", picture)
        assert name == codec
        assert codecs.decode(name, data, "uint8", picture.shape).tobytes() == picture.tobytes()


def test_archives_are_smaller_and_just_as_exact() -> None:
    picture = texture()
    sizes = {}
    for preferred, dense in (("avi", False), ("webp", True)):
        name, data = codecs.encode_preferably(preferred, picture, dense)
        assert codecs.decode(name, data, "uint8", picture.shape).tobytes() == picture.tobytes()
        sizes[name] = len(data)
    assert sizes["webp"] < 0.8 * sizes["avi"]
    floor = (40 / (np.mgrid[:270, :480][0] + 1 + np.mgrid[:270, :480][1] / 900)).astype(np.float32)
    assert len(codecs.encode("depth", floor, dense=True)) < len(codecs.encode("depth", floor))


def test_log16_keeps_its_bound_and_says_its_error() -> None:
    rng = np.random.default_rng(1)
    bound = codecs.codec("log16").bound
    depth = np.exp(rng.uniform(np.log(0.11), np.log(30_000), (200, 301))).astype(np.float32)
    depth[:3], depth[3], depth[4] = np.inf, 0, np.nan
    data = codecs.encode("log16", depth)
    back = codecs.decode("log16", data, "float32", depth.shape)
    errors = np.abs(back[5:].astype(np.float64) / depth[5:] - 1)
    measured = codecs.codec("log16").measured(memoryview(data))  # type: ignore[attr-defined]
    assert errors.max() <= bound.most and errors.max() == pytest.approx(measured, rel=1e-3)
    assert np.isposinf(back[:3]).all() and not back[3].any() and np.isnan(back[4]).all()
    again = codecs.decode("log16", codecs.encode("log16", depth[100:, :150]), "float32", (100, 150))
    assert np.array_equal(again, back[100:, :150])  # one scale for all pictures: nothing flickers


@pytest.mark.parametrize("value", [-1.0, -np.inf, 1e-30])
def test_log16_leaves_what_it_cannot_keep_to_the_exact_codec(value: float) -> None:
    depth = np.full((20, 30), 5, np.float32)
    depth[3, 4] = value
    name, data = codecs.encode_preferably("log16", depth)
    assert name == "depth" and codecs.decode(name, data, "float32", depth.shape).tobytes() == depth.tobytes()


def test_oct16_keeps_its_bound_and_says_its_error() -> None:
    rng = np.random.default_rng(2)
    normals = rng.normal(size=(120, 201, 3))
    normals[0, :6] = [*np.eye(3), *-np.eye(3)]  # the corners of the octahedron
    normals = (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float32)
    normals[7] = 0
    data = codecs.encode("oct16", normals)
    back = codecs.decode("oct16", data, "float32", normals.shape).astype(np.float64)
    assert not back[7].any()
    chords = np.delete(np.linalg.norm(back - normals, axis=2), 7, axis=0)
    angle = np.degrees(2 * np.arcsin(chords.max() / 2))
    measured = codecs.codec("oct16").measured(memoryview(data))  # type: ignore[attr-defined]
    assert angle <= codecs.codec("oct16").bound.most and angle == pytest.approx(measured, rel=1e-3)
    for wrong in (2.0, np.nan, np.inf):
        normals[50, 50] = wrong
        name, exact = codecs.encode_preferably("oct16", normals)
        assert name == "depth"
        assert codecs.decode(name, exact, "float32", normals.shape).tobytes() == normals.tobytes()


def test_wrong_codecs_and_arrays_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="'gif' is unknown"):
        codecs.encode("gif", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="'gif' is unknown"):
        codecs.decode("gif", b"", "uint8", (2, 2))
    with pytest.raises(ValueError, match="1-byte"):
        codecs.encode("image", np.zeros((2, 2), np.uint16))
    with pytest.raises(ValueError, match="1, 2 or 4 bytes"):
        codecs.encode("depth", np.zeros((2, 2), np.uint64))


@pytest.mark.parametrize(
    ("descriptor", "codec"),
    [
        (Descriptor("color", "uint8", (4, 4, 3)), "avi"),
        (Descriptor("albedo", "uint8", (4, 4, 4)), "avi"),
        (Descriptor("normal", "int8", (4, 4, 3)), "avi"),
        (Descriptor("normal", "int8", (4, 4, 2)), "depth"),
        (Descriptor("normal", "float16", (4, 4, 3)), "depth"),
        (Descriptor("depth", "float32", (4, 4)), "depth"),
        (Descriptor("depth", "uint16", (4, 4)), "depth"),
        (Descriptor("motion", "float32", (4, 4, 2)), "depth"),
        (Descriptor("segmentation", "uint8", (4, 4)), "zstd"),
        (Descriptor("instance", "uint32", (4, 4)), "zstd"),
        (Descriptor("wetness", "uint8", (4, 4)), "zstd"),
    ],
)
def test_live_codec_of_each_channel(descriptor: Descriptor, codec: str) -> None:
    assert codecs.live_codec(descriptor) == codec
    array = contents(descriptor.shape, descriptor.dtype)[0]
    name, data = codecs.encode_preferably(codec, array)
    assert codecs.decode(name, data, array.dtype, array.shape).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("descriptor", "codec"),
    [
        (Descriptor("depth", "float32", (4, 4)), "log16"),
        (Descriptor("depth", "float32", (4, 4), kind="ray", scale="unknown"), "log16"),
        (Descriptor("depth", "float32", (4, 4), kind="ndc"), "depth"),  # its numbers' error is not the distance's
        (Descriptor("depth", "uint16", (4, 4)), "depth"),
        (Descriptor("normal", "float32", (4, 4, 3)), "oct16"),
        (Descriptor("normal", "uint8", (4, 4, 3)), "avi"),
        (Descriptor("motion", "float32", (4, 4, 2)), "depth"),
    ],
)
def test_only_what_was_asked_for_is_quantised(descriptor: Descriptor, codec: str) -> None:
    assert codecs.live_codec(descriptor, codecs.Precision("log16", "oct16")) == codec
    assert codecs.codec(codecs.live_codec(descriptor)).bound is None
