"""Numbered images and the cameras beside them; a folder of images by channel:

    SOURCE/color/000000.png  depth/000000.npy  normal/000000.png  ...  cameras.json

Works on files by the last number in their names, which is the frame's number and serial. Knows which folder is which
channel; knows nothing of any simulator. What `takes export --to frames` writes is such a folder.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.frame import PROJECTIONS, UNKNOWN_SCALE, Channel, Frame
from capture.importers.cameras import LENS, SeenBy, camera_from, find_cameras
from capture.importers.channels import ChannelReader, family_of
from capture.importers.images import SUFFIXES, read_image
from capture.importers.source import DEFAULT_FPS, Declared, ImportSourceError

ALIASES = {
    "rgb": "color",
    "colour": "color",
    "image": "color",
    "images": "color",
    "normals": "normal",
    "semantic": "segmentation",
    "semantic_segmentation": "segmentation",
    "instance_segmentation": "instance",
}
"""What a channel's folder may also be called."""

_ORDER = ("color", "albedo", "depth", "normal", "motion", "segmentation", "instance")


class NumberedImages(ABC):
    """What is common to sources of numbered files: frames, times, and cameras from a file beside them.

    path: the folder that holds the camera file. files: per channel or other key, the files by frame number.
    """

    def __init__(self, path: Path, declared: Declared, files: Mapping[str, Mapping[int, Path]]) -> None:
        self.path = path
        self.files = files
        self.notes: list[str] = []
        self.numbers = _common_numbers(files)
        self.cameras = find_cameras(path)
        self.declared = declared = declared.over(_told(self.entry(self.numbers[0]), declared))
        self.reader = ChannelReader(declared, self.notes)
        about = self.cameras.document if self.cameras else {}
        self.engine = declared.engine or str(about.get("engine") or "images")
        self.game = str(about.get("game") or "")
        self.fps = declared.fps or (self.cameras.fps if self.cameras else None) or DEFAULT_FPS
        self.conventions = declared.conventions
        self.legend: Mapping[str, Mapping[int, str]] = self.cameras.legend if self.cameras else {}
        gap = _first_gap(self.numbers)
        if gap is not None:
            self.notes.append(f"the numbers of the files have a gap after {gap}, and so have the take's serials.")
        self._compare_cameras()

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(self, index: int) -> Frame:
        """Frame `index` with every channel that the source has. Raises ImportSourceError, naming the file."""
        number = self.numbers[index]
        values = self.entry(number)
        try:
            serial = int(values.get("serial", number))
            time = float(values.get("time", (number - self.numbers[0]) / self.fps))
            dropped = int(values.get("dropped_before", 0))
        except (TypeError, ValueError) as error:
            raise ImportSourceError(f"{self.cameras and self.cameras.path}, frame {number}: {error}.") from None
        channels = self.channels(number, serial)
        seen = (channels.get("color") or next(iter(channels.values()))).descriptor
        camera, unknown = self.camera(number, seen.shape)
        if camera is not None and seen.rows == "bottom":  # a camera file counts rows from the top
            camera = camera.flipped(seen.shape[0])
        flags = dict.fromkeys((*map(str, values.get("flags") or ()), *unknown))
        frame = Frame(
            index, serial, time, camera, channels, self.conventions, flags=tuple(flags), dropped_before=dropped
        )  # fmt: skip
        self._check_meaning(frame)
        return frame

    def entry(self, number: int) -> dict[str, Any]:
        """What the camera file says about a frame, nothing without one."""
        return self.cameras.entry(number) if self.cameras else {}

    @abstractmethod
    def channels(self, number: int, serial: int) -> dict[str, Channel]:
        """The channels of a frame by its number."""

    def camera(self, number: int, shape: tuple[int, ...]) -> SeenBy:
        """The camera of a frame whose picture has `shape` (H, W), rows from the top."""
        if self.cameras:
            return self.cameras.camera(number, shape, self.declared)
        return camera_from({}, shape, self.declared)

    def _check_meaning(self, frame: Frame) -> None:
        """Leave out what cannot be understood without a pose; ImportSourceError for depth without a lens."""
        for name, channel in list(frame.channels.items()):
            kind = channel.descriptor.kind
            if channel.descriptor.family == "depth" and frame.raw_camera is None and kind not in ("linear", "inverse"):
                raise ImportSourceError(
                    f"{self.path}: {name} of kind {kind} needs the field of view: add a camera file, or --vfov DEGREES."
                )
            if channel.descriptor.space == "world" and not frame.has_pose and len(frame.channels) > 1:
                del frame.channels[name]
                note = f"{name} is left out where there is no camera pose: its vectors are the world's."
                if note not in self.notes:
                    self.notes.append(note)

    def _compare_cameras(self) -> None:
        """Notes where camera file and images do not go together; ImportSourceError where not at all."""
        if self.cameras is None:
            return
        without = sorted(set(self.numbers) - self.cameras.numbers)
        if len(without) == len(self.numbers):
            raise ImportSourceError(
                f"{self.cameras.path} is about other frames than the images: these begin with number "
                f"{self.numbers[0]}, and it does not have one of them."
            )
        if without:
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            self.notes.append(f"{self.cameras.path.name} has no entry for frame {without[0]}{more}: no pose there.")


class ImageFolder(NumberedImages):
    """Frames from a folder of images by channel; a `Source`."""

    def __init__(self, path: Path, declared: Declared) -> None:
        super().__init__(path, declared, _channel_folders(path))

    def channels(self, number: int, serial: int) -> dict[str, Channel]:
        found = {}
        for name, files in self.files.items():
            path = files[number]
            if name == "normal" and self.entry(number).get("normals", "engine") != "engine":
                continue  # an export derived them from depth, as reading the take will
            found[name] = self.reader.channel(name, self.load(name, path), path, serial)
        return found

    def load(self, name: str, path: Path) -> NDArray[Any]:
        """The numbers of the channel `name` in a file."""
        return read_image(path)


def _told(entry: Mapping[str, Any], declared: Declared) -> Declared:
    """What a frame's entry says about its depth, as an export of a take does."""
    lens_declared = declared.vertical_fov is not None and not any(name in entry for name in LENS)
    projection = "declared" if lens_declared else entry.get("projection")
    return Declared(
        depth_scale=UNKNOWN_SCALE if entry.get("depth_unit") == "engine units" else None,
        projection=projection if projection in PROJECTIONS else None,
    )


def number_files(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files by the last number in their names. Of one name and several suffixes the first suffix counts.

    ImportSourceError when two names have the same number, or one has none.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            raise ImportSourceError(f"{path} has no frame number in its name: name images like 000012{path.suffix}.")
        other = found.setdefault(int(digits[-1]), path)
        if other.stem != path.stem:
            raise ImportSourceError(f"{other} and {path.name} are both frame {int(digits[-1])}: keep one of them.")
        if suffixes.index(path.suffix.lower()) < suffixes.index(other.suffix.lower()):
            found[int(digits[-1])] = path
    return found


def _channel_folders(path: Path) -> dict[str, dict[int, Path]]:
    """Files by channel and frame number."""
    found: dict[str, dict[int, Path]] = {}
    for folder in sorted(inside for inside in path.iterdir() if inside.is_dir()):
        name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower())
        name = ALIASES.get(name, name)
        files = number_files(folder, SUFFIXES)
        if not files or not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name):
            continue
        if name in found:
            raise ImportSourceError(f"{path} has two folders for the channel {name}: keep one of them.")
        found[name] = files
    if not found:
        raise ImportSourceError(
            f"{path} has no images: a folder for each channel is needed, color/000000.png, depth/000000.exr, ..."
        )
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _common_numbers(files: Mapping[str, Mapping[int, Path]]) -> list[int]:
    """Frame numbers, the same in every channel; ImportSourceError names the first file without a partner."""
    numbers = sorted(set.union(*(set(of_channel) for of_channel in files.values())))
    for name, of_channel in files.items():
        missing = [number for number in numbers if number not in of_channel]
        if missing:
            partner = next(others[missing[0]] for others in files.values() if missing[0] in others)
            raise ImportSourceError(
                f"{partner} has no partner among the {name} images, of which there are {len(of_channel)} for "
                f"{len(numbers)} frames: add the missing ones or take the others away."
            )
    return numbers


def _first_gap(numbers: list[int]) -> int | None:
    """The number after which the even step of a sequence is broken, None without such a place."""
    steps = np.diff(numbers)
    return None if not len(steps) or (steps == steps[0]).all() else numbers[int(np.argmax(steps > steps.min()))]


def _place(name: str) -> tuple[int, str]:
    """Usual order of channels."""
    first = name if name in _ORDER else family_of(name)
    return (_ORDER.index(first) if first in _ORDER else len(_ORDER), name)
