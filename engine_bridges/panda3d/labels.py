"""Which thing a pixel shows: the tags `instance` and `class` on a program's nodes.

Works on a scene graph. Knows nothing of cameras, buffers or sockets. A node tagged `instance` with a number from 1
to 65535, or `class` with a name, gives it to everything below it until another tag says otherwise. Animated
characters are labelled as such, tagged or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from panda3d import core as p3d

from capture.errors import UserError
from capture.frame import Entity
from engine_bridges.panda3d.geometry_pass import LABEL_TAG
from engine_bridges.panda3d.lens import matrix

MAX_INSTANCE = 65535
MAX_CLASS = 255


@dataclass
class _Thing:
    """A node with an instance id, and what of it does not change."""

    node: p3d.NodePath
    cls: str
    model: str
    size: tuple[float, float, float]


@dataclass
class SceneLabels:
    """The labels of one scene, kept up by `update`."""

    classes: dict[str, int] = field(default_factory=dict)
    """Class name to class id, in the order of appearance, from 1."""
    things: dict[int, _Thing] = field(default_factory=dict)
    _labelled: dict[p3d.NodePath, str] = field(default_factory=dict)

    @property
    def legend(self) -> dict[str, dict[int, str]]:
        """As FrameSender takes it."""
        return {"segmentation": {number: name for name, number in self.classes.items()}} if self.classes else {}

    def update(self, scene: p3d.NodePath) -> set[str]:
        """Reads the scene's tags and writes LABEL_TAG beside them; gives the values in use.

        Raises UserError for an instance that is not a number from 1 to 65535, or more than 255 classes.
        """
        labelled: dict[p3d.NodePath, str] = {}
        things: dict[int, _Thing] = {}
        for pattern in ("**/=instance", "**/=class", "**/+Character"):
            for node in scene.findAllMatches(pattern):
                if node in labelled:
                    continue
                name = node.getNetTag("class")
                number = self._instance(node)
                labelled[node] = f"{number},{self._class(name)},{int(_animated(node))}"
                if self._labelled.get(node) != labelled[node]:
                    node.setTag(LABEL_TAG, labelled[node])
                if number and number not in things:
                    things[number] = self._thing(number, node, name)
        for node in self._labelled.keys() - labelled.keys():
            if not node.isEmpty():
                node.clearTag(LABEL_TAG)
        self._labelled, self.things = labelled, things
        return set(labelled.values())

    def _instance(self, node: p3d.NodePath) -> int:
        text = node.getNetTag("instance") or "0"
        if not text.isdecimal() or int(text) > MAX_INSTANCE:
            raise UserError(
                f"node {node.getName()!r} has the tag instance={text!r}, "
                f"but it must be a number from 1 to {MAX_INSTANCE}."
            )
        return int(text)

    def _class(self, name: str) -> int:
        if not name:
            return 0
        if name not in self.classes and len(self.classes) == MAX_CLASS:
            raise UserError(f"the program tags its nodes with more than {MAX_CLASS} classes; use fewer names.")
        return self.classes.setdefault(name, len(self.classes) + 1)

    def _thing(self, number: int, node: p3d.NodePath, cls: str) -> _Thing:
        known = self.things.get(number)
        if known is not None and known.node == node and known.cls == cls:
            return known
        bounds = node.getTightBounds(node)
        size = tuple(bounds[1] - bounds[0]) if bounds else (0.0, 0.0, 0.0)
        return _Thing(node, cls, node.getName(), size)

    def clear(self) -> None:
        """Takes LABEL_TAG off the scene again."""
        for node in self._labelled:
            if not node.isEmpty():
                node.clearTag(LABEL_TAG)
        self._labelled, self.things = {}, {}

    def transforms(self) -> dict[int, NDArray[np.float64]]:
        """Per instance id, the (4, 4) node-to-world matrix at this moment, column vectors, scale included."""
        return {
            number: matrix(thing.node.getNetTransform().getMat())
            for number, thing in self.things.items()
            if not thing.node.isEmpty()
        }

    def entities(
        self, now: dict[int, NDArray[np.float64]], before: dict[int, NDArray[np.float64]], seconds: float
    ) -> list[Entity]:
        """What the bridge tells of the instances at transforms `now`, `seconds` after `before`."""
        entities = []
        for number, transform in now.items():
            thing = self.things.get(number)
            scales = np.linalg.norm(transform[:3, :3], axis=0)
            if thing is None or scales.min() <= 0:
                continue
            pose = transform.copy()
            pose[:3, :3] /= scales
            if np.abs(pose[:3, :3].T @ pose[:3, :3] - np.eye(3)).max() > 1e-4:
                continue  # sheared: no rigid pose describes it
            velocity = None
            if number in before and seconds > 0:
                velocity = tuple((transform[:3, 3] - before[number][:3, 3]) / seconds)
            x, y, z = np.multiply(thing.size, scales).tolist()
            entities.append(Entity(number, thing.cls, thing.model, pose, (x, y, z), velocity))
        return entities


def _animated(node: p3d.NodePath) -> bool:
    """Whether a node belongs to a character with joints or morphs."""
    while not node.isEmpty():
        if isinstance(node.node(), p3d.Character):
            return True
        node = node.getParent()
    return False
