"""Takes from what other programs wrote: folders of images, layered EXR sequences, simulators' datasets.

    source.py   what every importer offers, what a user may declare, and the writing of the take
    images.py   one image file -> one array
    cameras.py  the camera file of a folder, JSON or CSV
    folder.py   a folder of images by channel
    layered.py  EXR files that hold all channels of a frame: Blender, Unreal's Movie Render Queue
    carla.py    CARLA's packed depth and ids
    solo.py     Unity Perception's SOLO datasets

Everything is stored as it was written, with descriptors that say what it means; what a number means is interpreted
in `capture.conventions` and nowhere here. `docs/import.md` describes the layouts.
"""

from __future__ import annotations

from pathlib import Path

from capture.importers.source import PRESETS, Declared, ImportReport, Source, import_take

__all__ = ["PRESETS", "Declared", "ImportReport", "Source", "import_take", "open_source"]


def open_source(path: Path, preset: str | None = None, declared: Declared | None = None) -> Source:
    """The importer for a folder; `declared` goes before the preset, the preset before what is usual.

    Raises ImportSourceError, with one sentence, when the folder is not of the preset's layout.
    """
    from capture.importers.carla import CarlaFolder
    from capture.importers.folder import ImageFolder
    from capture.importers.layered import LayeredSequence
    from capture.importers.solo import SoloDataset
    from capture.importers.source import ImportSourceError

    if not path.is_dir():
        raise ImportSourceError(f"there is no folder {path}: give the folder that holds the images.")
    wanted = (declared or Declared()).over(PRESETS[preset]) if preset else (declared or Declared())
    if preset == "unity-solo":
        return SoloDataset(path, wanted)
    if preset == "carla":
        return CarlaFolder(path, wanted)
    if any(path.glob("*.exr")):
        return LayeredSequence(path, wanted)
    if preset:
        raise ImportSourceError(f"{path} holds no .exr files: give the folder that the sequence was rendered into.")
    return ImageFolder(path, wanted)
