"""Planted faults: each is caught by the measure meant for it, and a good lift raises none.

The good lift is the embedded engine's own reference shading: other matter and light on the same geometry.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFilter

from capture.frame import Channel, Frame
from engine_bridges.city.bridge import channels, descriptors
from engine_bridges.city.scene import City
from realmaster.measure import Finding, Scorer, findings
from realmaster.measure.findings import LONGER, _drift

SIZE, FRAMES = (256, 144), 20
SEEDS = (10_000_123, 10_000_301)

Video = list[np.ndarray]


@pytest.fixture(scope="module")
def streets() -> dict[int, tuple[list[Frame], Video]]:
    """Seed -> engine frames and their reference shading."""
    made = {}
    for seed in SEEDS:
        city, about = City(seed, SIZE), {each.name: each for each in descriptors(SIZE)}
        frames = [city.frame(index) for index in range(FRAMES)]
        made[seed] = (
            [
                Frame(
                    each.index, each.index, each.time, each.camera,
                    {name: Channel(about[name], data, each.index) for name, data in channels(each).items()},
                    entities=each.entities,
                )
                for each in frames
            ],
            [city.reference(index) for index in range(FRAMES)],
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def street(streets: dict[int, tuple[list[Frame], Video]]) -> tuple[list[Frame], Video]:
    return streets[SEEDS[0]]


def scored(frames: list[Frame], lifted: Video, reference: Video | None = None) -> Scorer:
    scorer = Scorer()
    for index, frame in enumerate(frames):
        scorer.add(frame, lifted[index], None if reference is None else reference[index])
    return scorer


def look(frames: list[Frame], lifted: Video, reference: Video | None = None) -> list[Finding]:
    return findings(scored(frames, lifted, reference))


def pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def swapped(video: Video, a: int, b: int) -> Video:
    out = list(video)
    out[a], out[b] = out[b], out[a]
    return out


def patched(video: Video, period: int, strength: float) -> Video:
    y, x = np.mgrid[: video[0].shape[0], : video[0].shape[1]] // period
    offsets = np.random.default_rng(1).normal(0, strength, (y.max() + 1, x.max() + 1, 1))
    return [pixels(picture + offsets[y, x]) for picture in video]


def jpeg(picture: np.ndarray) -> np.ndarray:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", quality=95, subsampling=0)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("with_reference", [False, True])
def test_a_good_lift_raises_nothing(streets: dict, seed: int, with_reference: bool) -> None:
    frames, reference = streets[seed]
    good = [jpeg(picture) for picture in reference]
    assert look(frames, good, reference if with_reference else None) == []


def test_a_copy_of_the_render_is_called_one(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    (copy,) = look(frames, [frame.color for frame in frames])
    assert copy.fault == "copy" and "copy of the render" in copy.sentence
    graded = [pixels(frame.color * np.array([0.8, 0.95, 1.1]) + 8) for frame in frames]
    assert [each.fault for each in look(frames, graded)] == ["copy"]
    faults = {each.fault for each in look(frames, [frame.color for frame in frames], reference)}
    assert {"copy", "far"} <= faults


@pytest.mark.parametrize(
    ("shift", "axis", "where"),
    [
        (2, 1, "about 2 px to the right of the geometry"),
        (-3, 1, "about 3 px to the left of the geometry"),
        (2, 0, "px below the geometry"),
        (-2, 0, "px above the geometry"),
    ],
)
def test_a_displaced_lift_and_by_how_much(street: tuple[list[Frame], Video], shift: int, axis: int, where: str) -> None:
    frames, reference = street
    found = look(frames, [np.roll(picture, shift, axis) for picture in reference])
    assert [each.fault for each in found] == ["displaced"]
    assert where in found[0].sentence


@pytest.mark.parametrize(("a", "b"), [(8, 9), (4, 15)])
def test_swapped_frames_are_named(street: tuple[list[Frame], Video], a: int, b: int) -> None:
    frames, reference = street
    found = look(frames, swapped(reference, a, b))
    assert [each.fault for each in found] == ["order"]
    assert found[0].frames == (a, b) and f"Frames {a} and {b} are swapped" in found[0].sentence


def test_late_reversed_and_shuffled_lifts(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    late = look(frames, [reference[0], *reference[:-1]])
    assert late[0].fault == "order" and "a frame late" in late[0].sentence
    back = look(frames, reference[::-1])
    assert back[0].fault == "order" and "backwards" in back[0].sentence
    order = np.random.default_rng(1).permutation(FRAMES)
    shuffled = look(frames, [reference[index] for index in order])
    assert shuffled[0].fault == "order" and "order of the frames is wrong" in shuffled[0].sentence


def test_colours_that_jump_in_every_frame_and_at_windows(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    rng = np.random.default_rng(0)
    found = look(frames, [pixels(picture * rng.uniform(0.94, 1.06, 3)) for picture in reference])
    assert [each.fault for each in found] == ["colour"] and "from frame to frame" in found[0].sentence
    windows = [pixels(picture * (1.08 if index // 5 % 2 else 1.0)) for index, picture in enumerate(reference)]
    found = look(frames, windows)
    assert [each.fault for each in found] == ["colour"] and found[0].frames == (5, 10, 15)
    assert "every 5 frames" in found[0].sentence


def test_noise_flickers_and_has_no_geometry(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    rng = np.random.default_rng(0)
    noisy = [pixels(picture + rng.normal(0, 9, picture.shape)) for picture in reference]
    assert "flicker" in {each.fault for each in look(frames, noisy, reference)}
    nothing = [pixels(rng.normal(120, 40, picture.shape)) for picture in reference]
    assert "geometry" in {each.fault for each in look(frames, nothing)}


def test_a_blurred_lift_is_called_blurred(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    assert "blur" in {each.fault for each in look(frames, [blurred(p, 1.0) for p in reference], reference)}
    found = {each.fault for each in look(frames, [blurred(p, 2.5) for p in reference])}
    assert "blur" in found and "order" not in found and "displaced" not in found


@pytest.mark.parametrize("period", [16, 12])
def test_patch_seams_and_their_period(street: tuple[list[Frame], Video], period: int) -> None:
    frames, reference = street
    found = look(frames, patched(reference, period, 3.0))
    assert [each.fault for each in found] == ["seams"] and f"every {period} pixels" in found[0].sentence
    scorer = Scorer(seam_period=period)
    scorer.add(frames[0], patched(reference, period, 3.0)[0])
    seam = scorer.seams.find(0)
    assert seam is not None and (seam.period, seam.offset) == (period, 0)


def test_drift_of_colour_and_of_detail(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    fading = [pixels(p * (1 - np.array([0.2, 0.05, -0.15]) * i / FRAMES)) for i, p in enumerate(reference)]
    assert "drift_color" in {each.measure for each in look(frames, fading, reference)}
    assert "drift_psnr" in {each.measure for each in look(frames, fading, reference)}
    softening = [blurred(p, 0.01 + 1.5 * i / FRAMES) for i, p in enumerate(reference)]
    assert "drift_detail" in {each.measure for each in look(frames, softening)}


def test_scores_that_wander_are_no_drift(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    hard = np.isin(np.arange(FRAMES), (2, 3, 4, 7, 8, 11, 12, 13, 14, 15, 18, 19))  # what some scenes are to a lift
    lift = [pixels(picture * (0.75 if is_hard else 0.95)) for picture, is_hard in zip(reference, hard, strict=True)]
    scorer = scored(frames, lift, reference)
    assert (scorer.result()["lifted"].drift_psnr or 0) < -2
    assert "drift_psnr" not in {each.measure for each in findings(scorer)}


def test_a_small_drift_is_told_of_long_clips_alone(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    lift = [pixels(picture * (0.95 - 0.01 * i / FRAMES)) for i, picture in enumerate(reference)]
    scores = scored(frames, lift, reference).result()
    lifted, render, truth = (scores[name] for name in ("lifted", "render", "reference"))
    assert -2 < (lifted.drift_psnr or 0) < -0.5
    told = [[each.measure for each in _drift(lifted, render, truth, count)] for count in (LONGER - 1, LONGER)]
    assert "drift_psnr" not in told[0] and "drift_psnr" in told[1]


def largest_vehicle(frames: list[Frame]) -> int:
    """The vehicle that fills most of the clip's frames."""
    seen: dict[int, int] = {}
    for frame in frames:
        for number in np.unique(frame.instance[frame.segmentation == 5]):
            seen[int(number)] = seen.get(int(number), 0) + int((frame.instance == number).sum())
    return max(seen, key=lambda number: seen[number])


@pytest.mark.parametrize("change", [lambda p: 255 - p, lambda p: p // 4 + np.array([150, 20, 120], np.uint8)])
def test_a_thing_that_becomes_another(
    street: tuple[list[Frame], Video], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    frames, reference = street
    car, half = largest_vehicle(frames), FRAMES // 2
    lifted = [
        np.where((frame.instance == car)[..., None] & (frame.index >= half), change(picture), picture).astype(np.uint8)
        for frame, picture in zip(frames, reference, strict=True)
    ]
    identity = [each for each in look(frames, lifted, reference) if each.fault == "identity"]
    assert len(identity) == 1 and str(car) in identity[0].sentence
    assert identity[0].frames == (half,)


def test_what_appears_later_is_compared_with_all_else_where_the_first_frame_shows_no_things(
    street: tuple[list[Frame], Video],
) -> None:
    frames, reference = street
    car = largest_vehicle(frames)
    bare = []
    for frame in frames:  # an engine that knows one instance, which is not there at first
        only = np.where(frame.instance == car, frame.instance, np.uint16(0)) * np.uint16(frame.index > 0)
        channels = {**frame.channels, "instance": Channel(frame.channels["instance"].descriptor, only, frame.index)}
        bare.append(Frame(frame.index, frame.serial, frame.time, frame.raw_camera, channels))
    lifted = [
        np.where((frame.instance == car)[..., None], 255 - picture, jpeg(picture))
        for frame, picture in zip(bare, reference, strict=True)
    ]
    scorer = scored(bare, lifted, reference)
    assert scorer.result()["lifted"].psnr_early is None
    assert [each.sentence for each in findings(scorer) if each.fault == "late"][0].endswith("for the rest.")


def test_what_appears_later_is_scored_apart(street: tuple[list[Frame], Video]) -> None:
    frames, reference = street
    car = largest_vehicle(frames)
    hidden = np.where(frames[0].instance == car, np.uint16(0), frames[0].instance)
    about = frames[0].channels["instance"].descriptor
    without = Frame(0, 0, 0.0, frames[0].raw_camera, {**frames[0].channels, "instance": Channel(about, hidden, 0)})
    late = [np.zeros(frames[0].shape, bool), *(frame.instance == car for frame in frames[1:])]
    lifted = [np.where(mask[..., None], 255 - p, jpeg(p)) for mask, p in zip(late, reference, strict=True)]
    scorer = scored([without, *frames[1:]], lifted, reference)
    scores = scorer.result()["lifted"]
    assert scores.psnr_late is not None and scores.psnr_early is not None and scores.psnr_rest is not None
    assert scores.psnr_late < 15 < 25 < min(scores.psnr_early, scores.psnr_rest)
    assert "late" in {each.fault for each in findings(scorer)}
