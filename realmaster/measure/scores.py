"""All scores of a clip in one table: the lift, and the untouched render as its control."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from capture.frame import Frame
from capture.geometry import geometric_edges, motion_from_depth, warp
from realmaster.measure import structure, temporal


@dataclass
class Scores:
    """Means over a clip's frames; None where something that the score needs is not there."""

    depth_edge_alignment: float | None = None
    """Share of the engine's depth edges that the picture keeps, within a pixel. Higher is better."""
    edge_f1: float | None = None
    """Picture edges against depth and normal edges. Higher is nearer to the geometry; texture lowers it."""
    warp_error: float | None = None
    """Difference from the last frame moved by the engine's motion, in [0, 1]. Lower is steadier."""
    flicker_ratio: float | None = None
    """Warp error over that of the render. 1 is as steady as the render."""
    psnr: float | None = None
    """Against the reference, in dB. Higher is nearer."""
    ssim: float | None = None
    """Against the reference, in [-1, 1]. Higher is nearer."""

    def to_dict(self) -> dict[str, float | None]:
        return {name: None if value is None else round(value, 4) for name, value in asdict(self).items()}


class Scorer:
    """Takes a clip frame by frame, so that takes of any length are scored in constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self._values: dict[str, dict[str, list[float]]] = {"lifted": {}, "render": {}}
        self._previous: tuple[Frame, dict[str, np.ndarray]] | None = None

    def add(self, frame: Frame, lifted: np.ndarray, reference: np.ndarray | None = None) -> None:
        """The next engine frame with its lift and, where there is one, the truth: uint8 `[H, W, 3]` of one size.

        Structure wants depth; motion wants a motion channel, or depth with cameras; what is absent is not scored.
        """
        videos = {"lifted": lifted, "render": frame.color}
        if "depth" in frame.channels:
            depth_edges = geometric_edges(frame.depth)
            edges = geometric_edges(frame.depth, frame.normal) if "normal" in frame.available else depth_edges
            for name, picture in videos.items():
                self._note(name, "depth_edge_alignment", structure.depth_edge_alignment(picture, depth_edges))
                self._note(name, "edge_f1", structure.edge_f1(picture, edges))
        if self._previous is not None and (motion := engine_motion(frame, self._previous[0])) is not None:
            moved = {name: moved_by(picture, motion) for name, picture in self._previous[1].items()}
            residuals = {name: temporal.residual(videos[name], moved[name][0]) for name in videos}
            for name, (_, inside) in moved.items():
                self._note(name, "warp_error", temporal.warp_error(residuals[name], residuals["render"], inside))
        if reference is not None:
            for name, picture in videos.items():
                for key, value in likeness(picture, reference).items():
                    self._note(name, key, value)
        self._previous = (frame, videos)
        self.count += 1

    def _note(self, name: str, key: str, value: float) -> None:
        if np.isfinite(value):
            self._values[name].setdefault(key, []).append(value)

    def result(self) -> dict[str, Scores]:
        """`{"lifted": Scores, "render": Scores}`."""
        means = {name: Scores(**{k: float(np.mean(v)) for k, v in keys.items()}) for name, keys in self._values.items()}
        still = means["render"].warp_error
        for each in means.values():
            if still and each.warp_error is not None:
                each.flicker_ratio = each.warp_error / still
        return means


def engine_motion(frame: Frame, previous: Frame) -> np.ndarray | None:
    """Backward flow float32 `[H, W, 2]`: the motion channel, else from depth and cameras (static surfaces only)."""
    if "motion" in frame.channels:
        return frame.motion
    if "depth" not in frame.channels or not (frame.has_pose and previous.has_pose):
        return None
    assert frame.camera is not None and previous.camera is not None
    return motion_from_depth(frame.depth, frame.camera, previous.camera)


def moved_by(picture: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`picture` of the last frame where this frame has it, and bool `[H, W]`: where that lies inside the picture."""
    height, width = motion.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + motion[..., 0], y + motion[..., 1]
    inside = np.isfinite(motion).all(-1) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return warp(picture, np.nan_to_num(motion)), inside


def likeness(picture: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of uint8 `[H, W, 3]` pictures (torchmetrics; SSIM with the usual 11-pixel Gaussian)."""
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    pair = (torch.from_numpy(np.ascontiguousarray(p)) for p in (picture, reference))
    a, b = (p.permute(2, 0, 1)[None].float() / 255 for p in pair)
    return {
        "psnr": float(peak_signal_noise_ratio(a, b, data_range=1.0)),
        "ssim": float(structural_similarity_index_measure(a, b, data_range=1.0)),
    }
