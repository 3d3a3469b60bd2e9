"""Small tileable noise textures and integer hashes, the same on every machine.

Knows nothing of: what they are used for.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_SIZE = 256
PERIOD = 16
"""units after which `cloudy` repeats"""


@lru_cache(maxsize=1)
def _cloudy() -> np.ndarray:
    """(S, S) float32 tileable smooth noise of several octaves, mean 0, about -1..1."""
    g = np.random.default_rng(20260101)
    frequency = np.fft.fftfreq(_SIZE) * _SIZE
    radius = np.sqrt(frequency[:, None] ** 2 + frequency[None, :] ** 2)
    spectrum = np.where((radius >= 3) & (radius <= 60), 1.0 / np.maximum(radius, 1) ** 1.6, 0.0)
    field = np.fft.ifft2(np.fft.fft2(g.standard_normal((_SIZE, _SIZE))) * spectrum).real
    return (field / (2.2 * field.std())).clip(-1, 1).astype(np.float32)


def cloudy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise -1..1, one feature about a unit wide (bilinear, periodic after PERIOD units)."""
    x, y = x * np.float32(_SIZE / PERIOD), y * np.float32(_SIZE / PERIOD)
    x0, y0 = np.floor(x), np.floor(y)
    x -= x0
    y -= y0
    xi, yi = x0.astype(np.int32), y0.astype(np.int32)
    flat = _cloudy().ravel()
    row0, row1 = (yi & (_SIZE - 1)) * _SIZE, ((yi + 1) & (_SIZE - 1)) * _SIZE
    x1 = (xi + 1) & (_SIZE - 1)
    xi &= _SIZE - 1
    top = flat.take(row0 + xi)
    top += (flat.take(row0 + x1) - top) * x
    low = flat.take(row1 + xi)
    low += (flat.take(row1 + x1) - low) * x
    low -= top
    low *= y
    top += low
    return top


def cell(a: np.ndarray, b: np.ndarray, c: np.ndarray | int = 0) -> np.ndarray:
    """Hash of integer coordinates, float32 in 0..1."""
    n = np.asarray(a).astype(np.int64) * 73856093 ^ np.asarray(b).astype(np.int64) * 19349663
    n ^= np.asarray(c).astype(np.int64) * 83492791
    n = ((n ^ (n >> 13)) * 1274126177) & 0x7FFFFFFF
    n ^= n >> 16
    return (n & 0xFFFF).astype(np.float32) * np.float32(1 / 65535)
