"""Codecs that keep numbers to a stated bound: log16 and oct16.

Works on float32 arrays. A payload begins with the largest error that the encoder found when it decoded its own work;
whatever a codec cannot keep to its bound is Unsuitable, so the bound always holds.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.codecs import Bound, Unsuitable
from capture.codecs.planes import Depth, strips

_DEPTH = Depth()
_ERROR = struct.Struct("<f")
_Plane = NDArray[np.float32]


class Log16:
    """Positive numbers of which the ratio counts, such as distances: round(ln(v) / STEP), less the smallest.

    0, +inf and NaN are kept; negative numbers, -inf, and a range of more than 1 : 370,000 in one array are Unsuitable.
    The scale is the same for all arrays: equal numbers stay equal from frame to frame.
    """

    otherwise = "depth"
    bound = Bound(1e-4, "relative")
    step = 1.96e-4
    """Half of it in ln(v) is a relative error of 0.98e-4; the rest of the bound is for float32 itself."""

    _offset = struct.Struct("<i")
    _zero, _first, _last, _nan, _inf = 0, 1, 65533, 65534, 65535

    def suits(self, array: NDArray[Any]) -> bool:
        return True

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        if array.dtype != np.float32:
            raise Unsuitable(f"codec 'log16' takes float32, not {array.dtype}")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scaled = np.rint(np.log(array) / np.float32(self.step))
        positive = np.isfinite(scaled)
        offset = int(scaled.min(where=positive, initial=np.inf)) if positive.any() else 0
        span = int(scaled.max(where=positive, initial=offset)) - offset
        if span > self._last - self._first or (array < 0).any():
            raise Unsuitable("codec 'log16' takes no negative numbers, and no wider range than 1 : 370,000")
        codes = np.zeros(array.shape, np.uint16)
        np.copyto(codes, scaled - (offset - self._first), where=positive, casting="unsafe")
        codes[np.isnan(array)] = self._nan
        codes[np.isposinf(array)] = self._inf
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = np.abs(self._table(offset)[codes].astype(np.float64) / array - 1)
        error = float(errors.max(where=positive, initial=0))
        if error > self.bound.most:
            raise Unsuitable(f"codec 'log16' would be wrong by {error}")
        return _ERROR.pack(error) + self._offset.pack(offset) + _DEPTH.encode(codes, dense)

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        head = _ERROR.size + self._offset.size
        if number != np.float32 or len(data) < head:
            raise ValueError(f"codec 'log16' holds float32, not {number}, and begins with {head} bytes")
        (offset,) = self._offset.unpack_from(data, _ERROR.size)
        return self._table(offset)[_DEPTH.decode(data[head:], np.dtype("<u2"), shape)]

    def measured(self, data: memoryview) -> float:
        return float(_ERROR.unpack_from(data)[0])

    def _table(self, offset: int) -> NDArray[np.float32]:
        """The value of each code."""
        with np.errstate(over="ignore", under="ignore"):
            table = np.exp((np.arange(65536) + (offset - self._first)) * self.step).astype(np.float32)
        table[self._zero], table[self._nan], table[self._inf] = 0, np.nan, np.inf
        return table


class Oct16:
    """Unit vectors (H, W, 3), folded onto an octahedron and that onto a square of 65535 x 65535.

    The vector 0 is kept; vectors that are not of length 1 (to 1 %) or not finite are Unsuitable. After Cigolle et al.,
    "A Survey of Efficient Representations for Independent Unit Vectors", JCGT 2014.
    """

    otherwise = "depth"
    bound = Bound(0.01, "degrees")

    _most = 65534

    def suits(self, array: NDArray[Any]) -> bool:
        return True

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        if array.dtype != np.float32 or array.ndim != 3 or array.shape[2] != 3:
            raise Unsuitable(f"codec 'oct16' takes float32 [H, W, 3], not {array.dtype} {array.shape}")
        codes = np.empty((*array.shape[:2], 2), np.uint16)
        chord = 0.0
        for rows in strips(array.shape[0], array.shape[1] * 12):
            x, y, z = (np.ascontiguousarray(array[rows, :, c]) for c in range(3))
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                length = np.sqrt(x * x + y * y + z * z)
                if not ((np.abs(length - 1) <= 0.01) | (length == 0)).all():
                    raise Unsuitable("codec 'oct16' takes vectors of length 1 and 0 only")
                folded = self._fold(x, y, z)
                found = self._unfold(*folded)
                apart = sum((new - old / length) ** 2 for new, old in zip(found, (x, y, z), strict=True))
            chord = max(chord, float(np.max(apart, where=length > 0, initial=0)) ** 0.5)
            codes[rows, :, 0], codes[rows, :, 1] = folded
        error = float(np.degrees(2 * np.arcsin(chord / 2)))
        if error > self.bound.most:
            raise Unsuitable(f"codec 'oct16' would be wrong by {error} degrees")
        return _ERROR.pack(error) + _DEPTH.encode(codes, dense)

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if number != np.float32 or len(shape) != 3 or shape[2] != 3 or len(data) < _ERROR.size:
            raise ValueError(f"codec 'oct16' holds float32 [H, W, 3], not {number} {list(shape)}")
        codes = _DEPTH.decode(data[_ERROR.size :], np.dtype("<u2"), (*shape[:2], 2))
        vectors = np.empty(shape, np.float32)
        for rows in strips(shape[0], shape[1] * 12):
            found = self._unfold(np.ascontiguousarray(codes[rows, :, 0]), np.ascontiguousarray(codes[rows, :, 1]))
            for c in range(3):
                vectors[rows, :, c] = found[c]
        return vectors

    def measured(self, data: memoryview) -> float:
        return float(_ERROR.unpack_from(data)[0])

    def _fold(self, x: _Plane, y: _Plane, z: _Plane) -> list[NDArray[np.uint16]]:
        """Codes 1 to 65535 of unit vectors, and 0, 0 of the vector 0, which divides by 0 here."""
        total = np.abs(x) + np.abs(y) + np.abs(z)
        u, v = x / total, y / total
        below = z < 0
        square = np.where(below, np.copysign(1 - np.abs(v), u), u), np.where(below, np.copysign(1 - np.abs(u), v), v)
        codes = []
        for side in square:
            code = np.zeros(side.shape, np.uint16)
            np.copyto(code, np.rint((side + 1) * (self._most / 2)) + 1, where=total > 0, casting="unsafe")
            codes.append(code)
        return codes

    def _unfold(self, u_code: NDArray[np.uint16], v_code: NDArray[np.uint16]) -> list[_Plane]:
        """Unit vectors of codes; 0 where both are 0."""
        scale = np.float32(2 / self._most)
        u, v = (code.astype(np.float32) * scale - (1 + scale) for code in (u_code, v_code))
        z = 1 - np.abs(u) - np.abs(v)
        over = np.maximum(-z, 0)
        x, y = u - np.copysign(over, u), v - np.copysign(over, v)
        length = 1 / np.sqrt(x * x + y * y + z * z)
        length[(u_code == 0) & (v_code == 0)] = 0
        return [x * length, y * length, z * length]
