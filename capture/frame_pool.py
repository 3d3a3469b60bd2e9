"""Memory for frames on their way, used again when nothing looks at a frame any more.

Works on frame messages; knows nothing of sockets or shared memory. Fresh memory costs more than the copy itself: the
system clears every page and maps it at the first touch.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture import wire

_RESERVED_BYTES = 2**28


class FramePool:
    """Copies the pixels of frame messages. Keeps at most `spare` blocks that no frame uses; thread-safe."""

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._free: list[NDArray[np.uint8]] = []

    def copy(self, message: wire.FrameMessage) -> wire.FrameMessage:
        """The message with read-only arrays of its own, wherever those that it has may lie."""
        offsets, size = wire.slot_layout(part.array.nbytes for part in message.parts)
        block = self._block(size)
        parts = tuple(
            wire.Part(part.channel, part.serial, _copy(part.plain, block[offset:]))
            for part, offset in zip(message.parts, offsets, strict=True)
        )
        return replace(message, slot=None, parts=parts)

    def reserve(self, sizes: Iterable[int]) -> None:
        """Have the spare blocks there before they are needed, for messages of arrays of so many bytes each; fewer than
        all where they would take more than 256 MB."""
        size = wire.slot_layout(sizes)[1]
        while len(self._free) < self._spare and (1 + len(self._free)) * size <= _RESERVED_BYTES:
            memory = np.empty(size, np.uint8)
            memory.fill(0)  # the system maps memory at the first touch
            self._give_back(memory)

    def _block(self, size: int) -> NDArray[np.uint8]:
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if memory.size < size:
            memory = np.empty(size, np.uint8)
        # Arrays made of the block keep it alive, and when the last of them is gone its memory is free. (Of a view of an
        # array they would keep that array instead, hence `data`, a memoryview.)
        block = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(block, self._give_back, memory).atexit = False
        return block

    def _give_back(self, memory: NDArray[np.uint8]) -> None:
        if len(self._free) < self._spare:
            self._free.append(memory)


def _copy(array: NDArray[Any], memory: NDArray[np.uint8]) -> NDArray[Any]:
    copy = memory[: array.nbytes].view(array.dtype.newbyteorder("<")).reshape(array.shape)
    np.copyto(copy, array)
    copy.flags.writeable = False
    return copy
