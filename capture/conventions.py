"""From what an engine sends to canonical arrays, and back.

Pure functions on numpy arrays, descriptors and cameras; knows nothing of frames, sockets or files. This is the only
place where engine conventions are interpreted. Every `canonical_*` has an `encode_*` that goes the other way, for
bridges and tests.

Notation: W and C are the (3, 3) bases of world and camera axes (`Axes.basis`), m is metres per engine unit,
P = [R t] the pose as sent. A point p_e in engine coordinates is m W p_e in canonical ones, so the canonical pose is
[W R C^-1, m W t]. W and C have determinant -1 for left-handed axes; the canonical rotation never does.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera, Conventions
from capture.errors import FrameError
from capture.frame import Descriptor, Entity

_NO_NORMAL = 0.5
"""Decoded vectors shorter than this are no normals; an 8-bit zero decodes to a length below 0.01."""


def canonical_channel(
    raw: NDArray[Any], descriptor: Descriptor, camera: Camera | None, conventions: Conventions
) -> NDArray[Any]:
    """The canonical array of any channel by its family; other families only get their rows put in order.

    camera: as sent, in the pixels of this channel as sent; needed for ray and normalised depth and world normals.
    """
    family = descriptor.family
    if family == "color":
        return canonical_color(raw, descriptor)
    if family == "depth":
        return canonical_depth(raw, descriptor, camera, conventions.metres_per_unit)
    if family == "normal":
        return canonical_normal(raw, descriptor, camera, conventions)
    if family == "motion":
        return canonical_motion(raw, descriptor)
    return _top_first(raw, descriptor)


def canonical_color(raw: NDArray[np.uint8], descriptor: Descriptor) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 sRGB, top row first, alpha dropped; a view of `raw` where that is already so."""
    picture = _top_first(raw, descriptor)
    if descriptor.order == "rgb":
        return picture
    if descriptor.order == "rgba":
        return np.ascontiguousarray(picture[..., :3])
    return np.ascontiguousarray(picture[..., 2::-1])


def encode_color(color: NDArray[np.uint8], descriptor: Descriptor) -> NDArray[np.uint8]:
    """Inverse of `canonical_color`; alpha becomes 255."""
    assert descriptor.order is not None
    stored = color if descriptor.order.startswith("rgb") else color[..., ::-1]
    if len(descriptor.order) == 4:
        stored = np.concatenate([stored, np.full_like(stored[..., :1], 255)], axis=-1)
    return np.ascontiguousarray(_top_first(stored, descriptor))


def canonical_depth(
    raw: NDArray[Any], descriptor: Descriptor, camera: Camera | None, metres_per_unit: float = 1.0
) -> NDArray[np.float32]:
    """(H, W) float32 metres along the optical axis, top row first, +inf for sky; of scale "unknown" in engine units
    x metres_per_unit, which is right up to one factor.

    With v = stored x scale, n = near, f = far (engine units) and z the distance along the optical axis:
    linear v = z; ray v = z |d| with d the viewing ray of z component 1; ndc v = f (z - n) / (z (f - n));
    ndc_reversed v = 1 - ndc; log v = ln(z / n) / ln(f / n); disparity v = fx baseline / z; inverse v = 1 / z.
    With f = inf, ndc is v = 1 - n / z. Sky is what is stored at or beyond the far limit, or is not finite; for ray
    depth the limit is a stored distance of exactly f, or z >= f, and an integer that is saturated. Integers without a
    finite far saturate to sky.

    camera: as sent, in the pixels of this channel as sent. FrameError where the kind needs one and it is None, or
    needs a finite far.
    """
    sky = ~np.isfinite(raw)
    limit = _far_limit(descriptor, camera)
    if descriptor.kind == "ray":
        sky |= raw == limit
        if raw.dtype.kind == "u":
            sky |= raw == np.iinfo(raw.dtype).max  # what does not fit, infinity too
    else:
        sky |= raw <= limit if descriptor.kind in ("ndc_reversed", "disparity", "inverse") else raw >= limit
    exact = descriptor.kind == "linear" and descriptor.factor == metres_per_unit == 1 and raw.dtype == np.float32
    if exact:  # the common case stays bit-exact and in single precision
        metres = np.where(sky, np.float32(np.inf), raw)
    else:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            z = _distance(raw.astype(np.float64) * descriptor.factor, descriptor, camera)
            if descriptor.kind == "ray" and camera is not None:
                sky |= z >= camera.far
            metres = np.where(sky, np.inf, z * metres_per_unit).astype(np.float32)
    return _top_first(metres, descriptor)


def encode_depth(
    depth: NDArray[np.float32], descriptor: Descriptor, camera: Camera | None, metres_per_unit: float = 1.0
) -> NDArray[Any]:
    """Inverse of `canonical_depth` up to rounding; sky goes to the far limit.

    Integers are rounded and clipped to their range. camera: as sent, in the pixels of this channel as sent.
    """
    limit = _far_limit(descriptor, camera)
    z = np.asarray(_top_first(depth, descriptor), dtype=np.float64) / metres_per_unit
    sky = ~np.isfinite(z)
    v = _number_for(np.where(sky, 1.0, z), descriptor, camera)
    return np.where(sky, limit, _store(v / descriptor.factor, descriptor.dtype))


def _distance(v: NDArray[np.float64], descriptor: Descriptor, camera: Camera | None) -> NDArray[np.float64]:
    """Planar distance z in engine units from v, by the laws in `canonical_depth`."""
    kind = descriptor.kind
    if kind == "linear":
        return v
    if kind == "inverse":
        return 1 / v
    camera = _needed(camera, descriptor)
    near, far = camera.near, camera.far
    if kind == "ray":
        return v / ray_lengths(camera, v.shape)
    if kind == "ndc":
        return near / (1 - v) if math.isinf(far) else far * near / (far - v * (far - near))
    if kind == "ndc_reversed":
        return near / v if math.isinf(far) else far * near / (near + v * (far - near))
    if kind == "log":
        return near * (far / near) ** v
    assert kind == "disparity" and descriptor.baseline is not None
    return camera.fx * descriptor.baseline / v


def _number_for(z: NDArray[np.float64], descriptor: Descriptor, camera: Camera | None) -> NDArray[np.float64]:
    """v from the planar distance z in engine units, by the laws in `canonical_depth`."""
    kind = descriptor.kind
    if kind == "linear":
        return z
    if kind == "inverse":
        return 1 / z
    camera = _needed(camera, descriptor)
    near, far = camera.near, camera.far
    if kind == "ray":
        return z * ray_lengths(camera, z.shape)
    if kind in ("ndc", "ndc_reversed"):
        # Reversed depth is not computed as 1 - ndc: that would lose the distant digits that it is made for.
        v = near / z if math.isinf(far) else near * (far - z) / (z * (far - near))
        return v if kind == "ndc_reversed" else 1 - v
    if kind == "log":
        return np.log(z / near) / math.log(far / near)
    assert kind == "disparity" and descriptor.baseline is not None
    return camera.fx * descriptor.baseline / z


def _far_limit(descriptor: Descriptor, camera: Camera | None) -> Any:
    """The stored number of the far distance, rounded as the dtype rounds it, so that it can be compared exactly."""
    kind, far = descriptor.kind, math.inf if camera is None else camera.far
    if kind not in ("linear", "inverse"):
        camera = _needed(camera, descriptor)
    if kind == "log" and math.isinf(far):
        raise FrameError(f"channel {descriptor.name}: depth of kind log needs a camera with a finite far distance.")
    if kind in ("linear", "ray"):
        v = far
    elif kind in ("ndc", "log"):
        v = 1.0
    elif kind == "ndc_reversed":
        v = 0.0
    else:
        assert camera is not None or math.isinf(far)
        v = (camera.fx * (descriptor.baseline or 0) if kind == "disparity" and camera else 1.0) / far
    with np.errstate(over="ignore"):
        return _store(np.asarray(v / descriptor.factor), descriptor.dtype)


def _needed(camera: Camera | None, descriptor: Descriptor) -> Camera:
    if camera is None:
        raise FrameError(f"channel {descriptor.name}: depth of kind {descriptor.kind} needs the camera of the frame.")
    return camera


def canonical_normal(
    raw: NDArray[Any], descriptor: Descriptor, camera: Camera | None, conventions: Conventions
) -> NDArray[np.float32]:
    """(H, W, 3) float32 unit normals in canonical camera space, top row first; (0, 0, 0) where none is stored.

    A surface that faces the camera has z < 0. camera: as sent; FrameError when world normals come without one.
    """
    vectors = _decode_normal(raw, descriptor)
    if descriptor.space == "camera":
        turn = conventions.camera_axes.basis
    else:
        if camera is None:
            raise FrameError(f"channel {descriptor.name}: world-space normals need the camera of the frame.")
        # R^T brings them into the engine's camera axes, C from there into the canonical ones.
        turn = conventions.camera_axes.basis @ camera.pose[:3, :3].T
    vectors = vectors @ turn.T.astype(np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    valid = np.isfinite(length) & (length > _NO_NORMAL)
    unit = np.where(valid, vectors / np.where(valid, length, 1), np.float32(0))
    return _top_first(unit.astype(np.float32, copy=False), descriptor)


def encode_normal(
    normal: NDArray[np.float32], descriptor: Descriptor, camera: Camera | None, conventions: Conventions
) -> NDArray[Any]:
    """Inverse of `canonical_normal` up to rounding; a fourth component is stored as 0."""
    turn = conventions.camera_axes.basis.T
    if descriptor.space == "world":
        if camera is None:
            raise FrameError(f"channel {descriptor.name}: world-space normals need the camera of the frame.")
        turn = camera.pose[:3, :3] @ turn
    vectors: NDArray[Any] = _top_first(normal, descriptor) @ turn.T
    if descriptor.encoding == "octahedral":
        vectors = octahedral_encode(vectors)
    elif descriptor.components == 4:
        vectors = np.concatenate([vectors, np.zeros_like(vectors[..., :1])], axis=-1)
    if descriptor.dtype.startswith("float"):
        return vectors.astype(descriptor.dtype)
    largest = np.iinfo(descriptor.dtype).max
    if descriptor.dtype.startswith("u"):
        vectors = 0.5 * vectors + 0.5
    return _store(vectors * largest, descriptor.dtype)


def canonical_motion(raw: NDArray[Any], descriptor: Descriptor) -> NDArray[np.float32]:
    """(H, W, 2) float32 pixels (dx right, dy down): where the surface was in the previous frame minus where it is.

    Sent in rows of the image as sent: with rows bottom first, a stored dy points up.
    """
    motion = raw.astype(np.float32) * np.float32(descriptor.factor)
    if descriptor.rows == "bottom":
        motion = _top_first(motion, descriptor).copy()
        motion[..., 1] *= -1
    return motion


def encode_motion(motion: NDArray[np.float32], descriptor: Descriptor) -> NDArray[Any]:
    """Inverse of `canonical_motion` up to rounding."""
    stored = np.array(_top_first(motion, descriptor), dtype=np.float64) / descriptor.factor
    if descriptor.rows == "bottom":
        stored[..., 1] *= -1
    return _store(stored, descriptor.dtype)


def canonical_camera(camera: Camera, conventions: Conventions, shape: tuple[int, ...], rows: str = "top") -> Camera:
    """The camera in metres, OpenCV axes, and pixels counted from the top row.

    shape: (H, W) of the image that the camera's pixels belong to, `rows` its row order.
    FrameError when the pose and the session's axes do not agree in handedness.
    """
    check_handedness(camera, conventions)
    m = conventions.metres_per_unit
    pose = np.eye(4)
    pose[:3, :3] = conventions.world_axes.basis @ camera.pose[:3, :3] @ conventions.camera_axes.basis.T
    pose[:3, 3] = m * conventions.world_axes.basis @ camera.pose[:3, 3]
    turned = replace(camera, pose=pose, near=camera.near * m, far=camera.far * m)
    return turned.flipped(shape[0]) if rows == "bottom" else turned


def encode_camera(camera: Camera, conventions: Conventions, shape: tuple[int, ...], rows: str = "top") -> Camera:
    """Inverse of `canonical_camera`: the camera as an engine of these conventions has it."""
    m = conventions.metres_per_unit
    pose = np.eye(4)
    pose[:3, :3] = conventions.world_axes.basis.T @ camera.pose[:3, :3] @ conventions.camera_axes.basis
    pose[:3, 3] = conventions.world_axes.basis.T @ camera.pose[:3, 3] / m
    turned = replace(camera, pose=pose, near=camera.near / m, far=camera.far / m)
    return turned.flipped(shape[0]) if rows == "bottom" else turned


def canonical_entity(entity: Entity, conventions: Conventions) -> Entity:
    """The entity in metres and canonical world axes; its own axes stay the engine's, only the world's change.

    With left-handed world axes the pose of an entity keeps a determinant of -1: its own axes are left-handed.
    """
    m, basis = conventions.metres_per_unit, conventions.world_axes.basis
    pose = None
    if entity.pose is not None:
        pose = np.eye(4)
        pose[:3, :3] = basis @ entity.pose[:3, :3]
        pose[:3, 3] = m * basis @ entity.pose[:3, 3]
    size = velocity = None
    if entity.size is not None:
        length, width, height = entity.size
        size = (m * length, m * width, m * height)
    if entity.velocity is not None:
        x, y, z = (float(v) for v in m * basis @ np.array(entity.velocity))
        velocity = (x, y, z)
    return replace(entity, pose=pose, size=size, velocity=velocity)


def check_handedness(camera: Camera, conventions: Conventions) -> None:
    """FrameError unless pose and axes agree: det R = det W det C, so that the canonical rotation does not mirror."""
    expected = np.linalg.det(conventions.world_axes.basis) * np.linalg.det(conventions.camera_axes.basis)
    if np.linalg.det(camera.pose[:3, :3]) * expected < 0:
        raise FrameError(
            "the camera pose mirrors the scene under the declared axes: correct the handedness of the world or "
            "camera axes, or of the pose."
        )


def ray_lengths(camera: Camera, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W) lengths of the viewing rays whose component along the optical axis is 1."""
    x = (np.arange(shape[1]) - camera.cx) / camera.fx
    y = (np.arange(shape[0]) - camera.cy) / camera.fy
    return np.sqrt(1 + x[None, :] ** 2 + y[:, None] ** 2)


def octahedral_decode(stored: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(..., 2) in [-1, 1] to (..., 3) unit vectors.

    Cigolle, Donow, Evangelakos, Mara, McGuire, Meyer: A Survey of Efficient Representations for Independent Unit
    Vectors, Journal of Computer Graphics Techniques 3(2), 2014, listing 2. The z axis is the fold's axis.
    """
    x, y = stored[..., 0], stored[..., 1]
    z = 1 - np.abs(x) - np.abs(y)
    # The lower half is folded over the diagonals of the square.
    x, y = (
        np.where(z < 0, (1 - np.abs(y)) * _sign(x), x),
        np.where(z < 0, (1 - np.abs(x)) * _sign(y), y),
    )
    vectors = np.stack([x, y, z], axis=-1).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def octahedral_encode(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(..., 3) unit vectors to (..., 2) in [-1, 1]; the zero vector becomes (0, 0). See `octahedral_decode`."""
    total = np.abs(vectors).sum(axis=-1, keepdims=True)
    x, y = np.moveaxis(vectors[..., :2] / np.where(total > 0, total, 1), -1, 0)
    below = vectors[..., 2] < 0
    folded = (
        np.where(below, (1 - np.abs(y)) * _sign(x), x),
        np.where(below, (1 - np.abs(x)) * _sign(y), y),
    )
    return np.stack(folded, axis=-1).astype(np.float32)


def _decode_normal(raw: NDArray[Any], descriptor: Descriptor) -> NDArray[np.float32]:
    values = raw[..., :3].astype(np.float32)
    if not descriptor.dtype.startswith("float"):
        values /= np.float32(np.iinfo(descriptor.dtype).max)
        # Of signed integers the lowest value lies beyond -1 (Vulkan specification, fixed-point conversion).
        values = 2 * values - 1 if descriptor.dtype.startswith("u") else np.maximum(values, -1)
    return octahedral_decode(values) if descriptor.encoding == "octahedral" else values


def _sign(values: NDArray[Any]) -> NDArray[Any]:
    """1 for zero too, unlike np.sign: zero must fold like a positive number."""
    return np.where(values < 0, -1, 1).astype(values.dtype)


def _top_first(image: NDArray[Any], descriptor: Descriptor) -> NDArray[Any]:
    """The image with its rows reversed when they are sent bottom first; its own inverse."""
    return image[::-1] if descriptor.rows == "bottom" else image


def _store(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """As `dtype`; integers are rounded and clipped to their range."""
    if dtype.startswith("float"):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
