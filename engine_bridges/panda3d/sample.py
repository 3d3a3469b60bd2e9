"""The sample scene: pandas walking through the bamboo that the Panda3D wheel ships.

An ordinary Panda3D program. It knows nothing of capture, but for the tags `instance` and `class` on its nodes.
Everything is a function of the clock and the seed: with a clock of fixed steps the same frames come again.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from direct.actor.Actor import Actor
from panda3d.core import ClockObject, NodePath

METRES_PER_UNIT = 0.4
"""The pandas are 2.5 units high; a real one stands about a metre."""

APPEARS_AT = 1.5
"""Engine seconds at which the last panda comes into the scene."""

_CLASSES = {"Ground": "ground", "Rock": "rock", "Tree": "tree", "Branch": "tree"}
"""Class by the beginning of a node's name in the environment model; the rest of it is bamboo."""


@dataclass
class _Walker:
    """A panda on a round way."""

    actor: Actor
    centre: tuple[float, float]
    radius: float
    start: float
    speed: float

    def walk(self, time: float) -> None:
        angle = self.start + self.speed * time / self.radius
        x, y = self.centre
        self.actor.setPos(x + self.radius * math.cos(angle), y + self.radius * math.sin(angle), 0)
        # The models look along -y: heading 0 walks towards -y.
        self.actor.setH(math.degrees(angle) + (180 if self.speed > 0 else 0))


class SampleScene:
    """Fills a ShowBase with the scene and moves it."""

    def __init__(self, base: Any, seed: int = 0) -> None:
        self.base = base
        self._random = random.Random(seed)
        self._phase = self._random.uniform(-0.5, 0.5)
        base.disableMouse()
        base.setBackgroundColor(0.55, 0.70, 0.90)
        base.camLens.setNearFar(0.5, 500)
        base.camLens.setMinFov(40)
        self._load_environment()
        self.walkers = [self._panda(number) for number in range(1, 5)]
        self.newcomer = self.walkers[-1].actor
        self.newcomer.stash()
        base.taskMgr.add(self._move, "sample-move", sort=10)
        self._place(0.0)

    def _load_environment(self) -> None:
        environment: NodePath = self.base.loader.loadModel("models/environment")
        environment.reparentTo(self.base.render)
        environment.setScale(0.25)
        environment.setPos(-8, 42, 0)
        for node in environment.findAllMatches("**/+GeomNode"):
            names = [cls for start, cls in _CLASSES.items() if node.getName().startswith(start)]
            node.setTag("class", names[0] if names else "bamboo")

    def _panda(self, number: int) -> _Walker:
        if number % 2:
            actor, scale = Actor("models/panda-model", {"walk": "models/panda-walk4"}), 0.0045
        else:
            actor, scale = Actor("models/panda", {"walk": "models/panda-walk"}), 0.2
        actor.setName("panda-model" if number % 2 else "panda")
        actor.setScale(scale)
        actor.reparentTo(self.base.render)
        actor.setTag("instance", str(number))
        actor.setTag("class", "panda")
        actor.loop("walk")
        angle = math.tau * number / 4 + self._random.uniform(-0.4, 0.4)
        centre = 2.5 * math.cos(angle), 1 + 3.5 * math.sin(angle)
        speed = self._random.uniform(0.8, 1.4) * self._random.choice([-1, 1])
        return _Walker(actor, centre, self._random.uniform(1.5, 2.5), self._random.uniform(0, math.tau), speed)

    def _move(self, task: Any) -> int:
        self._place(ClockObject.getGlobalClock().getFrameTime())
        return task.cont

    def _place(self, time: float) -> None:
        if time >= APPEARS_AT and self.newcomer.isStashed():
            self.newcomer.unstash()
        for walker in self.walkers:
            walker.walk(time)
        swing = self._phase + 0.35 * math.sin(0.5 * time + self._phase)
        distance = 15 + 1.5 * math.sin(0.31 * time)
        self.base.camera.setPos(
            distance * math.sin(swing), -distance * math.cos(swing), 3.6 + 0.5 * math.sin(0.43 * time)
        )
        self.base.camera.lookAt(0, 1, 1.4)
