"""One frame of a clip with all its pictures, prepared once for every measure.

Works on the engine's frames and finished pictures; knows no measure. All arrays are float32 torch tensors on the CPU.
P counts the pictures of the moment: the lift, the untouched render, and the reference where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from capture.frame import Frame
from capture.geometry import geometric_edges, motion_from_depth

LIFTED, RENDER, REFERENCE = "lifted", "render", "reference"
"""The pictures of a moment, in this order; the reference is there or not."""

LUMA = torch.tensor([0.2126, 0.7152, 0.0722])
"""Rec. 709 weights, applied to sRGB values."""

HELD = 16 / 255
"""Pixels that the render itself does not reproduce from its last frame within this are newly seen, or change their
light; no lift can be asked to hold them."""


@dataclass
class Moment:
    """What the measures see of one frame. Everything is computed when first asked for."""

    index: int
    """Position in the clip, from 0."""
    frame: Frame
    names: tuple[str, ...]
    """Which pictures there are: (LIFTED, RENDER) or (LIFTED, RENDER, REFERENCE)."""
    pictures: Tensor
    """[P, 3, H, W] sRGB in [0, 1]."""
    previous: Moment | None = None
    """The frame before, None at the first and after a cut."""
    first_instances: frozenset[int] | None = None
    """Ids of the instances that the clip's first frame shows; None at that frame."""

    @classmethod
    def of(cls, frame: Frame, pictures: Sequence[np.ndarray], last: Moment | None) -> Moment:
        """From uint8 `[H, W, 3]` pictures of one size: lift, render, perhaps the reference; and the moment before."""
        names = (LIFTED, RENDER, REFERENCE)[: len(pictures)]
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(255)
        if last is None:
            return cls(0, frame, names, stacked)
        first = last.first_instances if last.first_instances is not None else last.instances
        follows = "cut" not in frame.flags and last.pictures.shape == stacked.shape
        return cls(last.index + 1, frame, names, stacked, last if follows else None, first)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.pictures.shape[2]), int(self.pictures.shape[3])

    @cached_property
    def luma(self) -> Tensor:
        """[P, H, W] in [0, 1]."""
        return torch.einsum("pchw,c->phw", self.pictures, LUMA)

    @cached_property
    def steepness(self) -> Tensor:
        """[P, H, W]: how steep brightness is, against its surroundings; see the function `steepness`."""
        return steepness(self.luma)

    @cached_property
    def fine(self) -> Tensor:
        """[P, H, W]: fine detail, what a mean of 5 x 5 pixels takes away from brightness."""
        return self.luma - box_mean(self.luma, 2)

    @cached_property
    def depth_edges(self) -> Tensor | None:
        """bool [H, W]: silhouettes in the engine's depth; None without depth."""
        if "depth" not in self.frame.channels:
            return None
        return torch.from_numpy(_fit(geometric_edges(self.frame.depth), self.shape))

    @cached_property
    def geometry_edges(self) -> Tensor | None:
        """bool [H, W]: silhouettes and, where the engine sends normals, creases; None without depth."""
        if "depth" not in self.frame.channels or "normal" not in self.frame.channels:
            return self.depth_edges
        normal = self.frame.normal
        if normal.shape[:2] != self.frame.depth.shape:
            normal = _fit(normal, self.frame.depth.shape)
        return torch.from_numpy(_fit(geometric_edges(self.frame.depth, normal), self.shape))

    @cached_property
    def instance(self) -> np.ndarray | None:
        """[H, W] instance ids, 0 for none; None where the engine sends none."""
        return _fit(self.frame.instance, self.shape) if "instance" in self.frame.channels else None

    @property
    def instances(self) -> frozenset[int]:
        """Ids of the instances in sight."""
        return frozenset() if self.instance is None else frozenset(np.unique(self.instance).tolist())

    @cached_property
    def late(self) -> Tensor | None:
        """bool [H, W]: pixels of instances that the clip's first frame does not show; None without instances."""
        if self.instance is None:
            return None
        new = sorted(self.instances - self.first_instances - {0}) if self.first_instances is not None else []
        return torch.from_numpy(np.isin(self.instance, np.array(new, self.instance.dtype)))

    @cached_property
    def early(self) -> Tensor | None:
        """bool [H, W]: pixels of instances that the clip's first frame shows; None without instances."""
        if self.instance is None or self.late is None:
            return None
        return torch.from_numpy(self.instance != 0) & ~self.late

    @cached_property
    def motion(self) -> Tensor | None:
        """[H, W, 2] backward flow in pixels: the motion channel, else from depth and cameras (still surfaces only);
        None where neither is known, and at the first frame."""
        if self.previous is None:
            return None
        motion = engine_motion(self.frame, self.previous.frame)
        if motion is None:
            return None
        height, width = motion.shape[:2]
        scale = np.array([self.shape[1] / width, self.shape[0] / height], np.float32)
        return torch.from_numpy(_fit(motion, self.shape) * scale)

    @cached_property
    def inside(self) -> Tensor | None:
        """bool [H, W]: whose point lay inside the picture in the frame before."""
        if self.motion is None:
            return None
        height, width = self.shape
        x, y = (_grid(height, width) + self.motion).unbind(-1)
        return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)  # nan is not inside

    @cached_property
    def residual(self) -> Tensor | None:
        """[P, 3, H, W]: the pictures minus those of the frame before, moved here by the engine's motion."""
        if self.motion is None or self.previous is None:
            return None
        return self.pictures - moved(self.previous.pictures, self.motion)

    @cached_property
    def held(self) -> Tensor | None:
        """bool [H, W]: pixels that the render itself holds from the last frame to this one."""
        if self.residual is None or self.inside is None:
            return None
        return self.inside & (self.residual[self.names.index(RENDER)].abs().mean(0) < HELD)


def steepness(luma: Tensor) -> Tensor:
    """Sobel gradient of `[P, H, W]` over its mean in the 9 x 9 pixels around, which lets edges in haze and in shadow
    count as those in the sun do; steps below about 6 of 255 fade out."""
    slope = gradient(luma)
    return slope / (box_mean(slope, 4) + 0.1)


def gradient(luma: Tensor) -> Tensor:
    """Sobel gradient magnitude of `[P, H, W]`, borders repeated."""
    p = _padded(luma, 1)
    down = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    across = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
    return torch.hypot(down[:, :, 2:] - down[:, :, :-2], across[:, 2:] - across[:, :-2])


def box_mean(values: Tensor, reach: int) -> Tensor:
    """Mean of `[P, H, W]` over the square of 2 reach + 1 pixels around each, borders repeated."""
    side = 2 * reach + 1
    total = F.pad(_padded(values, reach).cumsum(2), (1, 0))
    total = F.pad((total[:, :, side:] - total[:, :, :-side]).cumsum(1), (0, 0, 1, 0))
    return (total[:, side:] - total[:, :-side]) / side**2


def _padded(values: Tensor, reach: int) -> Tensor:
    return F.pad(values[:, None], (reach,) * 4, mode="replicate")[:, 0]


def engine_motion(frame: Frame, previous: Frame) -> np.ndarray | None:
    """Backward flow float32 `[H, W, 2]`: the motion channel, else from depth and cameras (static surfaces only)."""
    if "motion" in frame.channels:
        return frame.motion
    if "depth" not in frame.channels or not (frame.has_pose and previous.has_pose):
        return None
    assert frame.camera is not None and previous.camera is not None
    if frame.depth.shape != frame.shape:
        return None
    return motion_from_depth(frame.depth, frame.camera, previous.camera)


def moved(pictures: Tensor, motion: Tensor) -> Tensor:
    """`[P, C, H, W]` of the last frame where this frame has it: out[p] = pictures[p + motion[p]], bilinear; beyond
    the border the border's value. Where motion is not finite the pictures are left in place."""
    height, width = motion.shape[:2]
    at = _grid(height, width) + torch.nan_to_num(motion, nan=0.0, posinf=0.0, neginf=0.0)
    at = at / torch.tensor([max(width - 1, 1) / 2, max(height - 1, 1) / 2]) - 1
    grid = at[None].expand(len(pictures), -1, -1, -1)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _grid(height: int, width: int) -> Tensor:
    """[H, W, 2] pixel coordinates (x, y)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], dim=-1).float()


def _fit(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The nearest pixels of `image` at the size (H, W) of the pictures; buffers may have another size than colour."""
    if image.shape[:2] == tuple(shape[:2]):
        return image
    rows = ((np.arange(shape[0]) + 0.5) * image.shape[0] / shape[0]).astype(np.intp)
    columns = ((np.arange(shape[1]) + 0.5) * image.shape[1] / shape[1]).astype(np.intp)
    return image[rows[:, None], columns]
