"""What a bridge's link carries, and what a bridge on a slow one is asked for: as little loss as lets the game's frames
through.

Works on channels and numbers; knows nothing of sockets. The sizes expected are rules of thumb: credits stop a bridge
that sends more than its link carries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from capture.frame import Descriptor
from capture.reduction import CODECS, JPEG, SHRINK, Reduction
from capture.wire import MOST_PROBE_BYTES

USED = 0.8
"""Of what a link carries, frames may take this share: the rest is for bursts, and for others on it."""

EXPECTED = {"zstd": 0.1, "depth": 0.35, "image": 0.5, JPEG: 0.15}
"""What is left of a channel, by codec, where there is much detail."""

SHRINKS = (2, 3, 4)

PROBE_SECONDS = 8.0
"""A link that has not been measured within this time is taken as it is."""

_FIRST_BYTES = 16384
_LONG = 0.1
"""Seconds that a probe must take for its bytes to tell what the link carries."""
_TRIES = 2


class LinkProbe:
    """Measures what a link carries: `bytes` is what the bridge is to be asked for next, until `mbit` is there.

    The bridge sends an answer of no bytes and right behind it one of so many. What lies between the two is the time
    that these bytes need, however long the way is and however late the bridge came to read the question. More and more
    are asked for until that is long enough; the better of two tries counts, for either may have met other traffic.
    Times are seconds of one monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self.bytes = _FIRST_BYTES
        self.mbit: float | None = None
        """Mbit/s, once measured."""
        self.deadline = now + PROBE_SECONDS
        self._began: float | None = None
        self._tries: list[float] = []

    def hear(self, size: int, now: float) -> bool:
        """An answer of so many bytes came; whether that ends a try."""
        if not size:
            self._began = now
        if self._began is None or size != self.bytes:
            return False
        seconds, self._began = max(1e-6, now - self._began), None
        if seconds >= _LONG or size == MOST_PROBE_BYTES or self._tries:
            self._tries.append(8e-6 * size / seconds)
        else:
            self.bytes = min(4 * size, MOST_PROBE_BYTES)
        if len(self._tries) == _TRIES:
            self.mbit = max(self._tries)
        return True


def choose(
    channels: Sequence[Descriptor], fps: float, mode: str, capabilities: Collection[str], mbit: float
) -> tuple[Reduction, str]:
    """What to ask of a bridge whose link carries `mbit` Mbit/s, and a sentence for the user where its frames do not
    come through all the same, else "". A lossless session loses no bit: its engine waits."""
    room = USED * mbit * 1e6 / 8 / fps
    best = Reduction()
    for best in _ladder(channels, mode, capabilities):
        if _size(channels, best) <= room:
            return best, ""
    size = _size(channels, best)
    what = "its engine waits" if mode == "lossless" else f"about {100 * (1 - room / size):.0f}% of its frames are lost"
    can = "" if best != Reduction() else ", and this bridge cannot send fewer"
    makes, carries = speed(8 * size * fps / 1e6), speed(USED * mbit)
    return best, (
        f"The game makes {makes} Mbit/s, more than {carries} of its link{can}: {what}. Lower its resolution or rate, "
        "or leave channels out."
    )


def speed(mbit: float) -> str:
    """Mbit/s for people."""
    return f"{mbit:.0f}" if mbit >= 9.95 else f"{mbit:.1f}"


def _ladder(channels: Sequence[Descriptor], mode: str, capabilities: Collection[str]) -> Iterator[Reduction]:
    """What a bridge with these capabilities can do, from no loss to the most."""
    can = [codec for codec in CODECS if f"codec:{codec}" in capabilities]
    exact = {channel.name: codec for channel in channels if (codec := _exact(channel)) in can}
    yield Reduction()
    yield Reduction(1, exact)
    if mode == "lossless":
        return
    pictures = {channel.name: JPEG for channel in channels if channel.family == "color"} if JPEG in can else {}
    yield Reduction(1, exact | pictures)
    if SHRINK in capabilities:
        yield from (Reduction(shrink, exact | pictures) for shrink in SHRINKS)


def _exact(channel: Descriptor) -> str:
    """The codec for a channel that keeps every bit."""
    if channel.family in ("segmentation", "instance"):
        return "zstd"
    return "image" if channel.dtype in ("uint8", "int8") else "depth"


def _size(channels: Sequence[Descriptor], reduction: Reduction) -> float:
    """Bytes of a frame, about."""
    return sum(
        reduction.describe(channel).nbytes * EXPECTED.get(reduction.codecs.get(channel.name, ""), 1.0)
        for channel in channels
    )
