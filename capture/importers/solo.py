"""Unity Perception's SOLO datasets: sequence.0/step0.frame_data.json and the images beside it.

Works on one folder with `sequence.N` folders. Knows the annotations of the Perception package 1.0: its depth is in
metres along the axis ("Depth") or along the ray ("Range") with 0 for nothing, its normals are the world's, its
segmentation is in colours that the JSON explains. Bounding boxes and keypoints are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera
from capture.errors import FrameError
from capture.frame import Frame
from capture.importers.cameras import camera_from
from capture.importers.channels import ChannelReader
from capture.importers.images import read_image
from capture.importers.source import DEFAULT_FPS, Declared, ImportSourceError

_CAMERA = "RGBCamera"
_ANNOTATIONS = {
    "DepthAnnotation": "depth",
    "NormalAnnotation": "normal",
    "SemanticSegmentationAnnotation": "segmentation",
    "InstanceSegmentationAnnotation": "instance",
}


@dataclass(frozen=True)
class _Step:
    path: Path
    sequence: int
    capture: Mapping[str, Any]


class SoloDataset:
    """Frames from a SOLO dataset, sequence after sequence; a `Source`.

    The first frame of every sequence but the first has the flag "cut", for it shows another scene.
    """

    def __init__(self, path: Path, declared: Declared) -> None:
        self.path = path
        self.notes: list[str] = []
        self._steps = self._read_steps()
        self._classes = self._read_classes()
        kinds = {_annotation(step.capture, "depth").get("measurementStrategy", "Depth") for step in self._steps}
        if len(kinds) > 1:
            raise ImportSourceError(f"{path} mixes depth and range images: import the sequences apart.")
        if declared.depth_kind is None and kinds == {"Range"}:
            declared = replace(declared, depth_kind="ray")
        self._declared = declared
        self._reader = ChannelReader(declared, self.notes)
        self.engine = declared.engine or "unity"
        self.game = ""
        self.fps = declared.fps or DEFAULT_FPS
        self.conventions = declared.conventions
        self.legend: Mapping[str, Mapping[int, str]] = (
            {"segmentation": {number: name for name, number in self._classes.items()}} if self._classes else {}
        )

    def __len__(self) -> int:
        return len(self._steps)

    def frame(self, index: int) -> Frame:
        """Frame `index` with its picture and the annotations that are images. ImportSourceError names the file."""
        step = self._steps[index]
        picture = self._file(step, step.capture.get("filename"))
        channels = {"color": self._reader.channel("color", read_image(picture), picture, index)}
        for kind, name in _ANNOTATIONS.items():
            annotation = _annotation(step.capture, name)
            if annotation:
                path = self._file(step, annotation.get("filename"))
                channels[name] = self._reader.channel(name, self._image(name, annotation, path), path, index)
            elif name in self._names(0):
                raise ImportSourceError(f"{step.path} has no {kind}, but {self._steps[0].path} has one.")
        cut = index > 0 and step.sequence != self._steps[index - 1].sequence
        return Frame(
            index, index, index / self.fps, self._camera(step, channels["color"].descriptor.shape), channels,
            self.conventions, flags=("cut",) if cut else (),
        )  # fmt: skip

    def _image(self, name: str, annotation: Mapping[str, Any], path: Path) -> NDArray[Any]:
        image = read_image(path)
        if name == "depth":
            depth = image[..., 0] if image.ndim == 3 else image
            return np.where(depth > 0, depth, depth.dtype.type(np.inf))  # what nothing was drawn on is black
        if name in ("segmentation", "instance"):
            return self._ids(name, annotation, image, path)
        return image

    def _ids(self, name: str, annotation: Mapping[str, Any], image: NDArray[Any], path: Path) -> NDArray[Any]:
        """The numbers behind the colours, 0 where a colour is not explained."""
        if image.ndim != 3 or image.dtype != np.uint8:
            raise ImportSourceError(f"{path} is no picture in colours, as SOLO writes it.")
        packed = image[..., :3].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        numbers = np.zeros(packed.shape, np.uint16 if name == "segmentation" else np.uint32)
        try:
            for entry in annotation.get("instances") or ():
                red, green, blue, *_ = entry["pixelValue" if name == "segmentation" else "color"]
                number = self._classes[entry["labelName"]] if name == "segmentation" else int(entry["instanceId"])
                numbers[packed == (red << 16 | green << 8 | blue)] = number
        except (KeyError, TypeError, ValueError) as error:
            raise ImportSourceError(f"{path}: its colours are not explained as SOLO does ({error!r}).") from None
        return numbers

    def _camera(self, step: _Step, shape: tuple[int, ...]) -> Camera | None:
        capture = step.capture
        if capture.get("projection", "Perspective") != "Perspective":
            raise ImportSourceError(f"{step.path}: the camera is {capture['projection']}, only perspective is known.")
        try:
            x, y, z = capture["position"]
            qx, qy, qz, qw = capture["rotation"]
            values = {"x": x, "y": y, "z": z, "qx": qx, "qy": qy, "qz": qz, "qw": qw}
            return camera_from(values | {"projection_matrix": capture["matrix"]}, shape, self._declared)[0]
        except KeyError as error:
            raise ImportSourceError(f"{step.path}: the camera has no {error.args[0]}.") from None
        except (TypeError, ValueError, FrameError) as error:
            raise ImportSourceError(f"{step.path}: {error}") from None

    def _file(self, step: _Step, name: object) -> Path:
        if not isinstance(name, str) or Path(name).name != name:
            raise ImportSourceError(f"{step.path} names no image file beside it, but {name!r}.")
        path = step.path.parent / name
        if not path.is_file():
            raise ImportSourceError(f"{path} is missing, {step.path.name} names it.")
        return path

    def _names(self, index: int) -> set[str]:
        return {name for name in _ANNOTATIONS.values() if _annotation(self._steps[index].capture, name)}

    def _read_steps(self) -> list[_Step]:
        found = []
        for path in self.path.glob("sequence.*/*.frame_data.json"):
            numbers = re.findall(r"\d+", f"{path.parent.name} {path.name.split('.')[0]}")
            if len(numbers) == 2:
                found.append((int(numbers[0]), int(numbers[1]), path))
        if not found:
            raise ImportSourceError(
                f"{self.path} is no SOLO dataset: it has no sequence.0/step0.frame_data.json; give the folder `solo`."
            )
        steps, others = [], set()
        for sequence, _, path in sorted(found):
            try:
                captures = json.loads(path.read_text(encoding="utf-8-sig"))["captures"]
                cameras = [capture for capture in captures if str(capture["@type"]).endswith(_CAMERA)]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ImportSourceError(f"{path} cannot be read as SOLO's frame data ({error!r}).") from None
            if not cameras:
                raise ImportSourceError(f"{path} has no capture of an RGBCamera.")
            steps.append(_Step(path, sequence, cameras[0]))
            others |= {str(camera.get("id")) for camera in cameras[1:]}
        if others:
            self.notes.append(f"only the first camera of each frame is imported, not {', '.join(sorted(others))}.")
        return steps

    def _read_classes(self) -> dict[str, int]:
        """Numbers for the classes' names, from 1, in alphabetical order: SOLO knows colours only."""
        names = {
            str(entry.get("labelName"))
            for step in self._steps
            for entry in _annotation(step.capture, "segmentation").get("instances") or ()
        }
        return {name: number for number, name in enumerate(sorted(names), 1)}


def _annotation(capture: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The annotation of a channel, empty without one."""
    for annotation in capture.get("annotations") or ():
        if _ANNOTATIONS.get(str(annotation.get("@type")).rpartition(".")[2]) == name:
            return annotation
    return {}
