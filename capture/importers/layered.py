"""EXR sequences whose files hold all channels of a frame, as Blender and Unreal's Movie Render Queue write them.

Works on one folder of files `NAME.0001.exr`. Knows the layers' names and the camera in Unreal's metadata; a camera
file in the folder goes before it. Blender writes no camera: docs/import.md has a script that does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import FrameError
from capture.frame import Channel
from capture.importers.cameras import SeenBy, camera_from
from capture.importers.channels import ChannelReader
from capture.importers.folder import NumberedImages, number_files
from capture.importers.images import read_exr, read_image
from capture.importers.source import Declared, ImportSourceError

# Per channel, the better first: the last part of the layer's name, and the components that the channel is made of.
_LAYERS: dict[str, tuple[tuple[str, tuple[Sequence[str], ...]], ...]] = {
    "color": tuple(
        (layer, ("RGBA", "RGB"))
        for layer in ("combined", "finalimage", "finalimagergba", "*beauty", "rgba", "image", "color", "")
    ),
    "depth": (("*worlddepth", ("R",)), ("*scenedepth", ("R",)), ("depth", ("Z", "R", "V", "Y")), ("", ("Z",))),
    "normal": tuple((layer, ("XYZ", "RGB")) for layer in ("*worldnormal", "normal", "normals", "n")),
    "motion": (("vector", ("XY",)), ("backward", ("uv",))),
    "segmentation": tuple((layer, (["id"], "X", "R", "V")) for layer in ("segmentation", "material index", "indexma")),
    "instance": tuple((layer, (["id"], "X", "R", "V")) for layer in ("instance", "object index", "indexob")),
}

_BLENDER_NOTHING = 1e10
"""What Blender's Z pass has where there is no surface."""

_UNREAL_CAMERA = {
    "curPos/x": "x",
    "curPos/y": "y",
    "curPos/z": "z",
    "curRot/pitch": "pitch",
    "curRot/yaw": "yaw",
    "curRot/roll": "roll",
    "fov": "hfov_degrees",
}
"""How the metadata keys end that the Movie Render Queue and the Movie Render Graph write, under different beginnings:
`unreal/camera/curPos/x`, `unreal/camera/FinalImage/fov`, `unreal/layerData/rgba/fov`."""


class LayeredSequence(NumberedImages):
    """Frames from a folder of layered EXR files; a `Source`.

    A subfolder `color` with pictures of the same frame numbers goes before the files' own colour.
    """

    def __init__(self, path: Path, declared: Declared) -> None:
        files = {"EXR": number_files(path, (".exr",))}
        if (path / "color").is_dir():
            files["color"] = number_files(path / "color", (".png", ".jpg", ".jpeg"))
        super().__init__(path, declared, files)
        # What `takes export --to exr` writes has normals in a world that is not the one of its camera file.
        matrix = self.cameras.document.get("exr_world_from_axes") if self.cameras else None
        self._world = None if matrix is None else np.array(matrix, np.float32)
        if matrix is not None:
            self.reader = ChannelReader(replace(self.declared, normal_space="world"), self.notes)
        self._layers: dict[str, tuple[str, ...]] = {}
        self._header: Mapping[str, Any] = {}

    def channels(self, number: int, serial: int) -> dict[str, Channel]:
        path = self.files["EXR"][number]
        stored, self._header = read_exr(path)
        if not self._layers:
            self._layers = find_layers(stored, path)
            self.notes.append(f"layers: {', '.join(f'{name} from {of[0]}' for name, of in self._layers.items())}.")
        found = {}
        if "color" in self.files:
            picture = self.files["color"][number]
            found["color"] = self.reader.channel("color", read_image(picture), picture, serial)
        for name, components in self._layers.items():
            if name not in found:
                found[name] = self.reader.channel(name, self._image(name, components, stored, path), path, serial)
        return found

    def camera(self, number: int, shape: tuple[int, ...]) -> SeenBy:
        path = self.files["EXR"][number]
        (left, top), (right, bottom) = self._header["displayWindow"]
        (x, y), _ = self._header["dataWindow"]
        size = (int(bottom - top + 1), int(right - left + 1))
        if self.cameras:
            camera, flags = self.cameras.camera(number, size, self.declared)
        else:
            try:
                camera, flags = camera_from(unreal_camera(self._header), size, self.declared)
            except FrameError as error:
                raise ImportSourceError(f"{path}, metadata of the camera: {error}") from None
        if camera is None:
            return None, ()
        if "color" in self.files:  # such a picture fills the display window
            return camera.resized(size, shape), flags
        return replace(camera, cx=camera.cx - float(x - left), cy=camera.cy - float(y - top)), flags

    def _image(
        self, name: str, components: tuple[str, ...], stored: Mapping[str, NDArray[Any]], path: Path
    ) -> NDArray[Any]:
        missing = [component for component in components if component not in stored]
        if missing:
            raise ImportSourceError(f"{path} lacks {missing[0]}, which the files before it have.")
        image = np.stack([stored[component] for component in components], axis=-1)
        if name == "depth" and self.declared.engine == "blender":
            # Infinity says the same, and says it without a camera too.
            image = np.where(image >= _BLENDER_NOTHING, image.dtype.type(np.inf), image)
        if name == "motion":
            image = image * np.array([1, -1], image.dtype)  # upwards in EXR files, downwards in frames
        if name == "normal" and self._world is not None:
            image = image.astype(np.float32) @ self._world
        return image if len(components) > 1 else image[..., 0]


def find_layers(stored: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    """The names of the EXR channels that each channel of a frame is made of. ImportSourceError when there are none."""
    layers: dict[str, set[str]] = {}
    for full in sorted(stored):
        layer, _, component = full.rpartition(".")
        layers.setdefault(layer, set()).add(component)
    found = {}
    for name, choices in _LAYERS.items():
        names = (
            tuple(f"{layer}.{component}" if layer else component for component in components)
            for pattern, allowed in choices
            for layer, have in layers.items()
            if fnmatchcase(layer.rpartition(".")[2].lower(), pattern)
            for components in allowed
            if set(components) <= have
        )
        if chosen := next(names, None):
            found[name] = chosen
    if not found:
        raise ImportSourceError(
            f"{path} has no layer that is known as colour, depth or normals, only: {', '.join(sorted(stored)[:12])}."
        )
    return found


def unreal_camera(header: Mapping[str, Any]) -> dict[str, Any]:
    """The camera's values from the metadata of an EXR file, as in a camera file; none where there are none."""
    found: dict[str, Any] = {}
    for key in sorted(header):
        if not key.startswith("unreal/"):
            continue
        for ending, name in _UNREAL_CAMERA.items():
            if key.endswith(f"/{ending}"):
                found.setdefault(name, header[key])
    return found
