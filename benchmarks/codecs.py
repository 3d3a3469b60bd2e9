"""What each codec costs and saves: CPU time and size of every channel in every codec that takes it.

    python benchmarks/codecs.py [--sizes 1280x720,1920x1080] [--take TAKE] [--repeat 5] [--seed 5]

Frames: the embedded city as its cheap render shows it (flat) and in its high-quality shading (textured), with film
grain; its depth as float32 metres, as float32 and 24-bit depth buffer, and with leaves before it; its normals as 8 bit,
also bumpy ones, and as float32. With --take, the frames of a take of yours as well. Then whole frames of colour, depth
and normals, with each way of recording them.

`CPU ms` is processor time of one core, the least of some runs; `x` is how many times smaller than the raw array,
`x zstd` than zstd at level 1, and `GB/min` is at 30 frames a second. Codecs marked with * are not ours and only shown
for comparison, where `imagecodecs` is installed. Every result is decoded and compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from capture import codecs
from capture.codecs import CODECS, Precision, Unsuitable
from capture.frame import Descriptor
from engine_bridges.city.scene import City

FPS = 30
NEAR, FAR = 0.1, 1000.0


@dataclass(frozen=True)
class Picture:
    """One channel of one frame."""

    name: str
    channel: str
    array: NDArray[Any]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.channel, str(self.array.dtype), self.array.shape)


@dataclass(frozen=True)
class Cost:
    """What one codec makes of one picture."""

    codec: str
    bytes: int
    encode_ms: float
    decode_ms: float


def cpu_ms(work: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """The least processor time of some calls, and what the last one returned."""
    best, result = float("inf"), None
    for _ in range(repeat):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best * 1000, result


def city_pictures(size: tuple[int, int], seed: int) -> list[Picture]:
    """Realistic channels at (width, height)."""
    city, noise = City(seed, size), np.random.default_rng(seed)
    frame, textured = city.frame(30), city.reference(30)
    grainy = np.clip(textured + noise.normal(0, 2.5, textured.shape), 0, 255).astype(np.uint8)
    bumps = noise.normal(0, 0.06, frame.normal.shape)
    bumps = (bumps + np.roll(bumps, 1, 0) + np.roll(bumps, 1, 1) + np.roll(bumps, 2, 1)) / 4
    bumpy = frame.normal + bumps * frame.normal.any(axis=2, keepdims=True)
    with np.errstate(divide="ignore"):
        buffer = 1 - NEAR / (FAR - NEAR) * (FAR / frame.depth.astype(np.float64) - 1)
    leaves = frame.depth.copy()
    leaves[noise.random(leaves.shape) < 0.1] *= 0.8

    def bytes_of(normal: NDArray[Any]) -> NDArray[np.uint8]:
        length = np.linalg.norm(normal, axis=2, keepdims=True)
        return np.round((normal / np.maximum(length, 1e-9) * 0.5 + 0.5) * 255).astype(np.uint8)

    return [
        Picture("flat render", "color", frame.color),
        Picture("textured", "color", textured),
        Picture("textured + grain", "color", grainy),
        Picture("float32, metres", "depth", frame.depth),
        Picture("float32, leaves", "depth", leaves),
        Picture("float32 depth buffer", "depth", buffer.astype(np.float32)),
        Picture("24-bit depth buffer", "depth", np.round(buffer * (2**24 - 1)).astype(np.uint32)),
        Picture("8 bit, smooth", "normal", bytes_of(frame.normal)),
        Picture("8 bit, bumpy", "normal", bytes_of(bumpy)),
        Picture("float32", "normal", frame.normal),
        Picture("uint16 ids", "instance", frame.instance),
        Picture("float16", "motion", frame.motion.astype(np.float16)),
    ]


def take_pictures(path: str) -> list[Picture]:
    """The channels of the frame in the middle of a take."""
    from capture import Take

    take = Take.find(path)
    frame = take[take.readable[len(take.readable) // 2]]
    return [Picture(f"{take.name}", name, np.asarray(channel.data)) for name, channel in frame.channels.items()]


def measured(picture: Picture, repeat: int) -> Iterator[Cost]:
    """Every codec that takes the picture, checked to give it back; and foreign ones."""
    array = np.ascontiguousarray(picture.array)
    for name in CODECS:
        dense = name == "webp"
        try:
            encode_ms, data = cpu_ms(lambda name=name, dense=dense: codecs.encode(name, array, dense),  # type: ignore
                                     1 if dense else repeat)  # fmt: skip
        except Unsuitable:
            continue
        decode_ms, back = cpu_ms(lambda name=name, data=data: codecs.decode(name, data, array.dtype, array.shape),  # type: ignore
                                 repeat)  # fmt: skip
        if codecs.codec(name).bound is None and back.tobytes() != array.tobytes():
            raise AssertionError(f"{name} does not give back {picture.name}")
        yield Cost(name, len(data), encode_ms, decode_ms)
    if codecs.archive_codec(picture.descriptor) == "depth":
        encode_ms, data = cpu_ms(lambda: codecs.encode("depth", array, True), 1)
        yield Cost("depth (packed)", len(data), encode_ms, float("nan"))
    yield from foreign(array, repeat)


def foreign(array: NDArray[Any], repeat: int) -> Iterator[Cost]:
    try:
        import imagecodecs
    except ImportError:
        return
    if array.dtype == np.uint8 and array.ndim == 3:
        encode_ms, data = cpu_ms(
            lambda: imagecodecs.jpegxl_encode(array, lossless=True, effort=1, numthreads=1), repeat
        )
        decode_ms, back = cpu_ms(lambda: imagecodecs.jpegxl_decode(data, numthreads=1), repeat)
        if not np.array_equal(back, array):
            raise AssertionError("JPEG XL does not give back the picture")
        yield Cost("JPEG XL effort 1*", len(data), encode_ms, decode_ms)


def show(pictures: list[Picture], repeat: int) -> None:
    """A table of all codecs for each picture."""
    print(f"{'':24s}{'':20s}{'x':>7s}{'x zstd':>8s}{'GB/min':>8s}{'encode':>9s}{'decode':>9s}  CPU ms")
    for picture in pictures:
        raw = picture.array.nbytes
        zstd = len(zstandard.compress(np.ascontiguousarray(picture.array).tobytes(), 1))
        live = codecs.encode_preferably(codecs.live_codec(picture.descriptor), picture.array)[0]
        title = f"{picture.channel}, {picture.name}"
        for cost in measured(picture, repeat):
            chosen = "  <- recording" if cost.codec == live else ""
            per_minute = cost.bytes * FPS * 60 / 1e9
            print(
                f"{title:24.24s}{cost.codec:20s}{raw / cost.bytes:7.2f}{zstd / cost.bytes:8.2f}{per_minute:8.2f}"
                f"{cost.encode_ms:9.1f}{cost.decode_ms:9.1f}{chosen}"
            )
            title = ""
        print()


WAYS: dict[str, Callable[[Descriptor], str]] = {
    "raw": lambda descriptor: "raw",
    "zstd 1 of everything": lambda descriptor: "zstd",
    "our predictors only": lambda descriptor: {"avi": "depth"}.get(live := codecs.live_codec(descriptor), live),
    "recording (the default)": codecs.live_codec,
    "recording, depth log16": lambda descriptor: codecs.live_codec(descriptor, Precision(depth="log16")),
    "takes pack": codecs.archive_codec,
}
"""Ways to keep whole frames."""


def show_frames(pictures: list[Picture], repeat: int) -> None:
    """A table of whole frames in each way."""
    by_title = {(picture.channel, picture.name): picture for picture in pictures}
    scenes = {
        "flat": (("color", "flat render"), ("depth", "float32, metres"), ("normal", "8 bit, smooth")),
        "textured": (("color", "textured"), ("depth", "float32, metres"), ("normal", "8 bit, smooth")),
        "worst": (("color", "textured + grain"), ("depth", "float32, leaves"), ("normal", "8 bit, bumpy")),
    }
    print(f"{'colour, depth, normals':44s}{'x':>7s}{'':8s}{'GB/min':>8s}{'encode':>9s}{'decode':>9s}  CPU ms")
    for scene, titles in scenes.items():
        title = f"scene: {scene}"
        for way, codec_of in WAYS.items():
            encode_ms = decode_ms = size = raw = 0.0
            for picture in (by_title[key] for key in titles):
                dense = way == "takes pack"
                ms, (name, data) = cpu_ms(
                    lambda p=picture, c=codec_of, d=dense: codecs.encode_preferably(c(p.descriptor), p.array, d),  # type: ignore
                    1 if dense else repeat,
                )
                encode_ms += ms
                decode_ms += cpu_ms(
                    lambda p=picture, n=name, d=data: codecs.decode(n, d, p.array.dtype, p.array.shape),  # type: ignore
                    repeat,
                )[0]
                size += len(data)
                raw += picture.array.nbytes
            per_minute = size * FPS * 60 / 1e9
            print(
                f"{title:18s}{way:26s}{raw / size:7.2f}{'':8s}{per_minute:8.2f}{encode_ms:9.1f}{decode_ms:9.1f}"
            )
            title = ""
        print()


def run(sizes: list[tuple[int, int]], repeat: int = 5, seed: int = 5, take: str | None = None) -> None:
    """Print all tables."""
    if take is not None:
        pictures = take_pictures(take)
        height, width = pictures[0].array.shape[:2]
        print(f"-- {take}: {width}x{height}\n")
        show(pictures, repeat)
    for size in sizes:
        print(f"-- {size[0]}x{size[1]}\n")
        pictures = city_pictures(size, seed)
        show(pictures, repeat)
        show_frames(pictures, repeat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1280x720,1920x1080")
    parser.add_argument("--take", help="path or name of a take whose frames are measured as well")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    sizes = [(int(w), int(h)) for w, h in (size.split("x") for size in options.sizes.split(",") if size)]
    run(sizes, options.repeat, options.seed, options.take)


if __name__ == "__main__":
    main()
