"""Copies of frames in memory that is used again, but never while anything looks at it."""

from __future__ import annotations

import gc

import numpy as np

from capture import wire
from capture.frame_pool import FramePool


def message(fill: int, shape: tuple[int, int] = (4, 6)) -> wire.FrameMessage:
    color = np.full((*shape, 3), fill, np.uint8)
    depth = np.full(shape, fill, np.float32)
    parts = (wire.Part("color", fill, color, 0), wire.Part("depth", fill, depth, 128))
    return wire.FrameMessage(fill, 0.0, None, parts, slot=1)


def test_a_copy_is_exact_and_its_own() -> None:
    sent = message(7)
    copy = FramePool(2).copy(sent)
    sent.parts[0].array[:] = 0
    assert copy.slot is None and [part.offset for part in copy.parts] == [None, None]
    assert (copy.serial, [part.channel for part in copy.parts]) == (7, ["color", "depth"])
    assert (copy.parts[0].array == 7).all() and not copy.parts[0].array.flags.writeable
    assert copy.parts[1].array.dtype == np.float32 and copy.parts[1].array.ctypes.data % 4 == 0


def test_reserved_memory_is_what_copies_take() -> None:
    pool, sent = FramePool(3), message(7, (400, 600))
    pool.reserve([part.array.nbytes for part in sent.parts])
    places = {memory.ctypes.data for memory in pool._free}
    copies = [pool.copy(sent) for _ in range(3)]
    assert len(places) == 3 and {copy.parts[0].array.ctypes.data for copy in copies} == places
    large = FramePool(3)
    large.reserve([100 * 2**20])
    assert len(large._free) == 2


def test_arrays_of_any_layout_and_byte_order() -> None:
    pixels = np.arange(24, dtype=">u2").reshape(4, 6)
    large = np.random.default_rng(0).integers(0, 65536, (1500, 1601)).astype(">u2")  # copied in several steps
    wide = large.reshape(1, -1)
    for array in (pixels, pixels[::-1], pixels.T, pixels[:, ::2], large, large[::-1, 3:], large.T, wide, wide.T):
        copy = FramePool(1).copy(wire.FrameMessage(0, 0.0, None, (wire.Part("x", 0, array),))).parts[0].array
        np.testing.assert_array_equal(copy, array)
        assert copy.flags.c_contiguous and copy.dtype.newbyteorder("=") == np.uint16 and copy.dtype.str == "<u2"


def test_memory_is_used_again_but_not_while_one_array_of_it_lives() -> None:
    pool = FramePool(4)
    first = pool.copy(message(1))
    addresses = {first.parts[0].array.ctypes.data}
    depth = first.parts[1].array[::2, ::2].T  # a view of a view of one channel is enough to keep it
    del first
    others = [pool.copy(message(fill)) for fill in (2, 3)]
    assert (depth == 1).all(), "memory was used again while an array of it lived"
    addresses |= {other.parts[0].array.ctypes.data for other in others}
    assert len(addresses) == 3
    del depth, others
    gc.collect()
    again = [pool.copy(message(fill)) for fill in (4, 5, 6)]
    assert {copy.parts[0].array.ctypes.data for copy in again} == addresses
    for fill, copy in zip((4, 5, 6), again, strict=True):
        assert all((part.array == fill).all() for part in copy.parts)


def test_larger_frames_get_larger_memory_and_spare_memory_is_bounded() -> None:
    pool = FramePool(2)
    copies = [pool.copy(message(fill)) for fill in range(5)]
    copies.clear()
    gc.collect()
    assert len(pool._free) == 2
    large = pool.copy(message(9, (400, 600)))
    assert all((part.array == 9).all() for part in large.parts)
