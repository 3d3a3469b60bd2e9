"""The embedded engine: its buffers are exact, its frames are the same every time, its two pictures show one street."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import pytest

from capture.geometry import geometric_edges, normals_from_depth, project, world_points
from engine_bridges.city.clips import make_clip, newcomers
from engine_bridges.city.lamplight import lamplight
from engine_bridges.city.layouts import HELD_OUT_LAYOUTS, LAYOUTS
from engine_bridges.city.materials import Surface
from engine_bridges.city.palettes import HELD_OUT_PALETTES, PALETTES
from engine_bridges.city.patterns import bodywork
from engine_bridges.city.primitives import Builder, Kind, Primitives, Shape, pitch, roll, yaw
from engine_bridges.city.raster import FAR, View, rasterise
from engine_bridges.city.scene import LEGEND, City, CityFrame
from engine_bridges.city.shade import tent
from engine_bridges.city.sunlight import ROWS, TEXEL, cast
from engine_bridges.city.things import VEHICLE
from engine_bridges.city.weather import WEATHERS

CLASS = {name: number for number, name in LEGEND.items()}
SEEDS = (1, 5, 12)


@lru_cache(maxsize=64)
def frame(seed: int, index: int) -> CityFrame:
    return City(seed).frame(index)


def pixels(camera_frame: CityFrame) -> np.ndarray:
    height, width = camera_frame.depth.shape
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)


def looked_up(image: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of `image` at the nearest pixels to `at` (..., 2), and whether they lie inside."""
    height, width = image.shape[:2]
    x, y = np.rint(np.nan_to_num(at, nan=-1e6)).astype(int).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return image[y.clip(0, height - 1), x.clip(0, width - 1)], inside


# -- buffers


@pytest.mark.parametrize("seed", SEEDS)
def test_canonical_form(seed: int) -> None:
    f = frame(seed, 30)
    assert f.color.shape == f.normal.shape == (180, 320, 3) and f.motion.shape == (180, 320, 2)
    assert [a.dtype.name for a in (f.color, f.depth, f.normal, f.motion, f.segmentation, f.instance)] == [
        "uint8", "float32", "float32", "float32", "uint8", "uint16",
    ]  # fmt: skip
    sky = np.isinf(f.depth)
    assert 0.02 < sky.mean() < 0.6
    assert np.array_equal(sky, f.segmentation == CLASS["sky"])
    assert np.array_equal(sky, (f.normal == 0).all(axis=2))
    np.testing.assert_allclose(np.linalg.norm(f.normal[~sky], axis=1), 1, atol=1e-5)
    assert f.depth.min() > 0 and np.isfinite(f.motion).all()
    # every surface that is seen faces the camera
    rays = np.concatenate([(pixels(f) - (f.camera.cx, f.camera.cy)) / f.camera.fx, np.ones((180, 320, 1))], axis=2)
    assert ((f.normal * rays).sum(axis=2)[~sky] < 1e-4).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_normals_agree_with_depth(seed: int) -> None:
    f = frame(seed, 30)
    from_depth = normals_from_depth(f.depth, f.camera)
    flat = ~geometric_edges(f.depth, f.normal) & (np.abs(from_depth).sum(axis=2) > 0)
    cosine = (from_depth * f.normal).sum(axis=2)[flat].clip(-1, 1)
    angles = np.degrees(np.arccos(cosine))
    assert flat.mean() > 0.4
    assert np.median(angles) < 0.5 and np.percentile(angles, 90) < 3


@pytest.mark.parametrize("seed", SEEDS)
def test_still_things_reproject_by_the_cameras_alone(seed: int) -> None:
    before, now = frame(seed, 29), frame(seed, 30)
    points = world_points(now.depth, now.camera)
    uv, z = project(points, before.camera)
    still = np.isfinite(now.depth) & ~np.isin(now.segmentation, (CLASS["vehicle"], CLASS["person"]))
    difference = np.abs(uv - pixels(now) - now.motion).max(axis=2)[still]
    assert difference.max() < 0.02
    depth_before, inside = looked_up(before.depth, uv)
    known = still & inside & np.isfinite(depth_before)
    agree = np.abs(depth_before - z)[known] / z[known] < 0.05
    assert agree.mean() > 0.93  # the rest was hidden in the frame before


def test_vehicles_move_as_their_entities_say() -> None:
    checked = moving = 0
    for seed in SEEDS:
        before, now = frame(seed, 29), frame(seed, 30)
        poses = {e.id: e.pose for e in before.entities if e.cls == "vehicle"}
        for entity in now.entities:
            mine = (now.instance == entity.id) & np.isfinite(now.depth)
            if entity.id not in poses or not mine.any():
                continue
            points = world_points(now.depth, now.camera)[mine]
            rigid = poses[entity.id] @ np.linalg.inv(entity.pose)
            uv, _ = project(points @ rigid[:3, :3].T + rigid[:3, 3], before.camera)
            difference = np.abs(uv - pixels(now)[mine] - now.motion[mine])
            assert difference.max() < 0.05
            checked += mine.sum()
            moving += mine.sum() * (np.linalg.norm(entity.velocity) > 1)
    assert checked > 1000 and moving > 150


def test_motion_leads_to_the_same_person_in_the_frame_before() -> None:
    matches = []
    for seed in (2, 3, 5, 8, 9, 21):
        for index in (30, 60):
            before, now = frame(seed, index - 1), frame(seed, index)
            person = now.segmentation == CLASS["person"]
            around = np.pad(now.instance, 1, mode="edge")
            for y, x in itertools.product(range(3), repeat=2):  # an outline may fall on the pixel beside it
                person &= around[y : y + 180, x : x + 320] == now.instance
            found, inside = looked_up(before.instance, pixels(now) + now.motion)
            matches.append((found == now.instance)[person & inside])
    matches = np.concatenate(matches)
    assert len(matches) > 400 and matches.mean() > 0.95  # the rest was hidden by an arm or a car


def test_sky_motion_is_the_cameras_turn() -> None:
    before, now = frame(5, 29), frame(5, 30)
    sky = np.isinf(now.depth)
    far = world_points(np.full_like(now.depth, 1e7), now.camera)
    uv, _ = project(far, before.camera)
    np.testing.assert_allclose((uv - pixels(now))[sky], now.motion[sky], atol=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_instance_is_of_one_class_and_things_have_one(seed: int) -> None:
    f = frame(seed, 30)
    for number in np.unique(f.instance[f.instance > 0]):
        assert len(np.unique(f.segmentation[f.instance == number])) == 1
    background = np.isin(f.segmentation, [CLASS[name] for name in ("sky", "road", "pavement")])
    assert np.array_equal(background, f.instance == 0)
    assert set(np.unique(f.segmentation)) <= set(LEGEND)
    for entity in f.entities:
        assert set(np.unique(f.segmentation[f.instance == entity.id])) <= {CLASS[entity.cls]}
    moving_classes = np.isin(f.segmentation, (CLASS["vehicle"], CLASS["person"])) & (f.depth < 50)
    assert set(np.unique(f.instance[moving_classes])) <= {e.id for e in f.entities}


# -- the drive


def test_same_seed_same_street_in_any_order() -> None:
    one, other = City(7), City(7)
    for index in (40, 3):
        other.frame(index)
    other.reference(90)
    for index in (3, 40):
        a, b = one.frame(index), other.frame(index)
        for name in ("color", "depth", "normal", "motion", "segmentation", "instance"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert np.array_equal(a.camera.pose, b.camera.pose)
        assert np.array_equal(one.reference(index), other.reference(index))
    assert not np.array_equal(one.frame(3).depth, City(8).frame(3).depth)


def test_the_camera_drives() -> None:
    for seed in SEEDS:
        way = frame(seed, 48).camera.pose[:3, 3] - frame(seed, 0).camera.pose[:3, 3]
        assert 3.0 < np.linalg.norm(way) / 2.0 < 11.0
        assert 1.2 < -frame(seed, 0).camera.pose[1, 3] < 4.5


def test_somebody_appears_from_behind_something() -> None:
    """A person or vehicle that was in the picture's field, hidden, comes to be seen within 40 m."""
    appeared = set()
    for seed in (5, 21, 12):
        city = City(seed)
        first = city.frame(0)
        known, hidden = set(np.unique(first.instance)), set()
        for index in range(0, 120, 6):
            f = first if index == 0 else city.frame(index)
            for entity in f.entities:
                middle = entity.pose[:3, 3] - (0, entity.size[1] / 2, 0)
                uv, z = project(middle[None], f.camera)
                if not (1 < z[0] < 40 and 20 < uv[0, 0] < 300 and 10 < uv[0, 1] < 170):
                    continue
                seen = (f.instance == entity.id).sum()
                if not seen:
                    hidden.add(entity.id)
                elif seen >= 12 and entity.id in hidden - known and np.linalg.norm(entity.velocity) > 0.3:
                    appeared.add((seed, entity.id))
    assert len(appeared) >= 2


def test_newcomers_are_what_the_first_frame_did_not_show() -> None:
    found = 0
    for seed in (5, 21, 12):
        city = City(seed, (160, 90))
        frames = [city.frame(index) for index in range(0, 120, 12)]
        masks = newcomers(frames)
        assert masks.shape == (10, 90, 160) and not masks[0].any()
        for f, mask in zip(frames, masks, strict=True):
            assert set(np.unique(f.segmentation[mask])) <= {CLASS["person"], CLASS["vehicle"]}
            whole = np.isin(f.instance, np.unique(f.instance[mask]))
            assert np.array_equal(mask, whole if mask.any() else mask)  # a thing is new as a whole
        assert not set(np.unique(frames[0].instance)) & set(np.unique(np.stack([f.instance for f in frames])[masks]))
        found += masks[-1].any()
    assert found >= 2


# -- the two pictures


@pytest.mark.parametrize("seed", SEEDS)
def test_reference_is_another_picture_of_the_same_things(seed: int) -> None:
    city = City(seed)
    f, reference = city.frame(30), city.reference(30)
    assert reference.shape == f.color.shape and reference.dtype == np.uint8
    error = np.mean((f.color / 255.0 - reference / 255.0) ** 2)
    assert 7 < -10 * np.log10(error) < 16
    near = np.where(f.depth < 40, f.depth, np.inf)
    edges = geometric_edges(near, f.normal)
    for picture in (f.color, reference):
        grey = picture.astype(np.float64).mean(axis=2)
        slope = np.hypot(*np.gradient(grey))
        assert slope[edges].mean() > 1.6 * slope[~edges].mean()


def test_what_stands_and_what_moves_shades_the_road_in_both_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same street whose sun meets nothing, and one whose sun meets no movers."""
    shaded = {"anything": 0, "movers": 0}
    for seed, indices in ((5, (0, 60)), (9, (0, 60)), (16, (0, 60)), (10000602, (20, 280)), (10000614, (70, 280))):
        city, open_, still = (City(seed, weather="day") for _ in range(3))
        empty = np.zeros((7 * ROWS, open_._sunlight.columns), np.float32)
        monkeypatch.setattr(open_._sunlight, "_still", lambda first, empty=empty: empty)
        for each in (open_, still):
            draw = each._surface
            monkeypatch.setattr(each, "_surface", lambda index, draw=draw: without_movers_shadows(draw(index)))
        for index in indices:
            f, reference = city.frame(index), luminance(city.reference(index))
            road = (f.segmentation == CLASS["road"]) & (f.depth < 25)
            for name, other in (("anything", open_), ("movers", still)):
                bare = luminance(other.reference(index))
                darker = road & (luminance(other.frame(index).color) - luminance(f.color) > 0.08)
                if darker.sum() > 400:  # the reference has them there too, but for soft edges
                    shaded[name] += 1
                    assert (reference[darker] < 0.85 * bare[darker]).mean() > 0.9, (name, seed, index)
    assert shaded["anything"] >= 2 and shaded["movers"] >= 2


def without_movers_shadows(surface: Surface) -> Surface:
    """The same surface, whose movers count as no casters."""
    surface.g.first_mover = len(surface.g.prims)
    return surface


@pytest.mark.parametrize("weather", ["day", "dusk", "wet dusk"])
def test_the_render_changes_as_much_from_frame_to_frame_as_the_reference(weather: str) -> None:
    """Or a lift that is right would have to flicker beside its render."""
    change = {"render": 0.0, "reference": 0.0}
    for seed in (5, 16, 20):
        city = City(seed, (256, 144), weather=weather)
        for index in (40, 160):
            pictures = [(city.frame(i).color, city.reference(i)) for i in (index, index + 1)]
            for name, first, second in zip(change, *pictures, strict=True):
                change[name] += np.abs(luminance(second) - luminance(first)).mean()
    assert 0.75 < change["reference"] / change["render"] < 1.15


def test_lamps_light_the_render_at_dusk_alone() -> None:
    for weather, lights in (("dusk", True), ("overcast", False)):
        city = City(5, weather=weather)
        city.frame(30)
        surface = city._surface(30)
        light = lamplight(surface.g, city._street)
        near, away = light > 0.02, light < 0.002
        picture = luminance(City(5, weather=weather).frame(30).color).ravel()[surface.g.pixels]
        flat = luminance(surface.flat.T * 255)
        ground = np.isin(surface.g.kind, (Kind.ROAD, Kind.PAVEMENT)) & (surface.g.z < 25)
        gain = picture / flat.clip(0.02)
        ratio = np.median(gain[near & ground]) / np.median(gain[away & ground])
        assert ratio > 1.08 if lights else 0.95 < ratio < 1.05


def test_at_dusk_the_render_tells_a_car_that_is_driven_by_its_lamps() -> None:
    for weather, shine in (("dusk", True), ("overcast", False)):
        seen: dict[tuple[str, bool], list[np.ndarray]] = {}
        for seed, index in ((3, 12), (7, 40), (9, 90), (12, 60)):
            city = City(seed, weather=weather)
            picture = luminance(city.frame(index).color)
            g = city._surface(index).g
            body = g.of(Kind.BODY)
            picture, work = picture.ravel()[g.pixels[body]], bodywork(g)
            driven = g.of_prims(g.prims.parameters[:, :1], body)[0] > 0
            for name, cover in (("head", work.head_lamp), ("tail", work.tail_lamp)):
                for which in (True, False):
                    seen.setdefault((name, which), []).append(picture[(cover > 0.95) & (driven == which)])
        light = {key: np.concatenate(values).mean() for key, values in seen.items()}
        for name in ("head", "tail"):
            apart = light[name, True] - light[name, False]
            assert apart > 0.15 if shine else abs(apart) < 0.1, (weather, name, apart)


def test_lamps_far_away_are_seen_at_dusk_in_both_pictures() -> None:
    """They cover a pixel or two: light spreads around them."""
    for weather, shine in (("dusk", True), ("overcast", False)):
        spread: dict[str, list[float]] = {"render": [], "reference": []}
        for seed in (3, 5, 7, 9):
            city = City(seed, (256, 144), weather=weather)
            pictures = {"render": city.frame(30).color, "reference": city.reference(30)}
            g = city._surface(30).g
            rings = [g.picture(((g.kind == Kind.LAMP) & (g.z > 25))[None]) > 0]
            for _ in range(3):  # each a pixel farther out
                rings.append(tent(rings[-1]) > 0)
            beside, farther = (rings[1] & ~rings[0])[0], (rings[3] & ~rings[2])[0]
            for name, picture in pictures.items():
                spread[name].append(luminance(picture)[beside].mean() - luminance(picture)[farther].mean())
        for name, each in spread.items():
            assert np.mean(each) > 0.1 if shine else np.mean(each) < 0.03, (weather, name, each)


def test_wet_ground_mirrors_what_stands_above_it_in_both_pictures() -> None:
    for wet, dry in (("wet", "overcast"), ("wet dusk", "dusk")):
        alike: dict[tuple[str, str], list[float]] = {}
        for seed in (3, 5, 7, 9):
            for weather in (wet, dry):
                city = City(seed, (256, 144), weather=weather)
                pictures = {"render": city.frame(30).color, "reference": city.reference(30)}
                if weather == wet:
                    surface = city._surface(30)
                    of = surface.mirrored_by_ground
                    inside = ~of.sky & (of.y >= 0) & (of.x >= 0) & (of.x < 256)
                    at, above = surface.g.pixels[of.wet[inside]], of.pixels(surface.g)[inside]
                for name, picture in pictures.items():
                    seen = luminance(picture).ravel()
                    alike.setdefault((name, weather), []).append(np.corrcoef(seen[at], seen[above])[0, 1])
        for name in ("render", "reference"):
            assert np.mean(alike[name, wet]) > np.mean(alike[name, dry]) + 0.35, (name, alike)


def test_glass_tells_in_both_pictures_where_the_sun_is() -> None:
    """Windscreens that mirror it are lighter than others under the same sky."""
    light: dict[str, list[np.ndarray]] = {"render": [], "reference": [], "sun": []}
    for seed in range(24, 40):
        city = City(seed, (256, 144), weather="day")
        pictures = {"render": city.frame(60).color, "reference": city.reference(60)}
        surface = city._surface(60)
        glass = np.flatnonzero((surface.g.kind[surface.polished] == Kind.CABIN) & (surface.mirrored_ray[1] < -0.5))
        for name, picture in pictures.items():
            light[name].append(luminance(picture).ravel()[surface.g.pixels[surface.polished[glass]]])
        light["sun"].append(city._street.sun.astype(np.float32) @ surface.mirrored_ray[:, glass])
    seen = {name: np.concatenate(values) for name, values in light.items()}
    towards, away = seen["sun"] > 0.9, seen["sun"] < 0.5
    assert min(towards.sum(), away.sum()) > 100
    for name in ("render", "reference"):
        assert seen[name][towards].mean() > seen[name][away].mean() + 0.1, name


def test_a_training_clip_holds_render_reference_cue_and_movers() -> None:
    city = City(3, (64, 48))
    clip = make_clip(city, 5, 2)
    assert clip.shape == (4, 2, 48, 64, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip[0, 1], city.frame(6).color) and np.array_equal(clip[1, 0], city.reference(5))
    assert (clip[2, 1][np.isinf(city.frame(6).depth)] == 0).all() and clip[2].std() > 20
    cars = city.frame(6).segmentation == VEHICLE
    assert cars.any() and (clip[3, 1][cars] == 255).all() and 0 < clip[3].mean() < 100


def test_any_size_and_rate() -> None:
    small = City(3, (96, 64), fps=12.0)
    f = small.frame(12)
    assert f.color.shape == (64, 96, 3) and f.time == 1.0 and small.reference(12).shape == (64, 96, 3)
    np.testing.assert_allclose(f.camera.pose, City(3, fps=24.0).frame(24).camera.pose)
    for wrong in ({"seed": -1}, {"seed": 1, "size": (8, 8)}, {"seed": 1, "fps": 0}):
        with pytest.raises(ValueError, match="a city needs"):
            City(**wrong)


# -- visibility and shadows against brute force


def solids() -> Primitives:
    b = Builder()
    b.place((0, 0, 12), 0.3)
    b.add(Kind.TRIM, (1, 1, 1), (-2, -1, 0), (1.0, 0.8, 1.5), rotation=yaw(0.5) @ pitch(0.4) @ roll(0.2))
    b.add(Kind.TRIM, (1, 1, 1), (2, -0.5, 1), (0.8, 1.2, 1.0), taper=(0.3, 0.2, 0.1))
    b.ball(Kind.TRIM, (1, 1, 1), (0, 0.5, -1), (0.9, 0.5, 1.4), rotation=yaw(0.7))
    b.add(Kind.TRIM, (1, 1, 1), (0.2, 0.2, 1.5), (1.5, 0.9, 0.3))  # partly behind the others
    b.ball(Kind.TRIM, (1, 1, 1), (1.4, -1.2, 1.5), (0.7, 0.6, 1.2))  # sunk into its neighbour
    return b.build()


def inside(prims: Primitives, n: int, points: np.ndarray) -> np.ndarray:
    local = (points - prims.position[n]) @ prims.rotation[n]
    if prims.shape[n] == Shape.ELLIPSOID:
        return ((local / prims.half[n]) ** 2).sum(axis=-1) <= 1
    return (local @ prims.plane_normal[n].T <= prims.plane_offset[n]).all(axis=-1)


@pytest.mark.parametrize("small", (0, 200, 10_000))
def test_rasteriser_agrees_with_marching_along_rays(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine_bridges.city.raster.SMALL", small)  # all one by one, some, all at once
    prims = solids()
    view = View(yaw(0.05) @ pitch(0.1), np.array([0.3, -1.5, 0.0]), 60.0, 60.0, 39.5, 29.5, 80, 60)
    visible = rasterise(prims, view)
    u, v = view.rays()
    rays = np.stack([*np.meshgrid(u, v), np.ones((60, 80))], axis=-1) @ view.rotation.T
    depths = np.arange(9.0, 15.0, 0.02)
    nearest, index = np.full((60, 80), np.inf), np.full((60, 80), -1)
    for n in range(len(prims)):
        within = inside(prims, n, view.position + rays[:, :, None, :] * depths[:, None])
        hit = np.where(within.any(axis=2), depths[within.argmax(axis=2)], np.inf)
        index[hit < nearest] = n
        nearest = np.minimum(hit, nearest)
    assert (visible.index == index).mean() > 0.99  # thin corners fall between the steps
    both = (visible.index == index) & (index >= 0)
    assert len(np.unique(index[both])) == len(prims)
    difference = nearest[both] - 1 / visible.inverse_depth[both]
    assert -0.001 < difference.min() and difference.max() < 0.021


def test_nothing_is_seen_beyond_far_or_behind() -> None:
    b = Builder()
    for z in (-20.0, FAR + 50.0):
        b.add(Kind.TRIM, (1, 1, 1), (0, 0, z), (2, 2, 2))
    view = View(np.eye(3), np.zeros(3), 60.0, 60.0, 39.5, 29.5, 80, 60)
    assert (rasterise(b.build(), view).index == -1).all()


def test_shadow_map_holds_the_height_along_the_suns_ray() -> None:
    b = Builder()
    b.add(Kind.TRIM, (1, 1, 1), (5, -1, 5), (0.5, 1, 0.5))
    b.ball(Kind.TRIM, (1, 1, 1), (10, -3, 5), (1, 1, 1))
    prims = b.build()
    rise = np.array([0.8, -1.0, 0.3])
    heights = np.zeros((120, 140), np.float32)
    cast(prims, rise, heights, 0.0, 0.0)
    ladder = np.arange(0.0, 5.0, 0.01)
    for x, z in ((5.0, 5.0), (4.2, 4.7), (3.6, 4.4), (8.0, 4.0), (7.2, 3.9), (1.0, 1.0), (11.0, 9.0)):
        column, row = int(x / TEXEL), int(z / TEXEL)
        start = np.array([(column + 0.5) * TEXEL, 0, (row + 0.5) * TEXEL])
        ray = start + ladder[:, None] * rise
        blocked = [ladder[inside(prims, n, ray)].max(initial=0.0) for n in range(2)]
        assert heights[row, column] == pytest.approx(max(blocked), abs=0.02)


# -- looks


WEATHER_NAMES = tuple(WEATHERS)


def luminance(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float64) @ (0.30, 0.59, 0.11) / 255


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    plain = City(7, (160, 90))
    named = City(7, (160, 90), weather=plain.weather, layout=plain.layout, palette=plain.palette)
    assert np.array_equal(named.frame(20).color, plain.frame(20).color)
    for what, name in (("weather", "wet dusk"), ("palette", "tropical"), ("layout", "towers")):
        one, other = (City(7, (160, 90), **{what: name}) for _ in range(2))
        assert getattr(one, what) == name
        other.frame(3)
        f, base = one.frame(20), plain.frame(20)
        assert np.array_equal(f.color, other.frame(20).color)
        assert np.array_equal(one.reference(20), other.reference(20))
        assert not np.array_equal(f.color, base.color)
        assert not np.array_equal(one.reference(20), plain.reference(20))
        assert np.array_equal(f.depth, base.depth) == (what != "layout")
        assert np.array_equal(f.camera.pose, base.camera.pose)


def test_an_unknown_override_is_named() -> None:
    with pytest.raises(ValueError, match="a city has no weather 'snow': choose one of day, overcast, dusk, wet"):
        City(1, weather="snow")


def test_seeds_vary_and_never_choose_what_is_held_out() -> None:
    cities = [City(seed, (16, 16)) for seed in range(120)]
    assert {city.weather for city in cities} == set(WEATHERS)
    assert {city.layout for city in cities} == set(LAYOUTS) - set(HELD_OUT_LAYOUTS)
    assert {city.palette for city in cities} == set(PALETTES) - set(HELD_OUT_PALETTES)
    assert len(HELD_OUT_LAYOUTS) >= 2 and len(HELD_OUT_PALETTES) >= 2


def test_the_light_is_what_the_weather_says_in_both_pictures() -> None:
    color, reference = {}, {}
    for name in WEATHERS:
        city = City(5, weather=name)
        f = city.frame(30)
        color[name], reference[name] = f.color, city.reference(30)
    sky, road = np.isinf(f.depth), (f.segmentation == CLASS["road"]) & (f.depth < 40)
    wall = (f.segmentation == CLASS["building"]) & (f.depth < 40)
    mean = {name: [luminance(picture)[part].mean() for part in (road, wall)] for name, picture in reference.items()}
    # at dusk it is darker, and some windows shine
    assert mean["dusk"][1] < 0.8 * mean["overcast"][1]
    bright = {name: np.percentile(luminance(reference[name])[wall], 98) for name in WEATHERS}
    assert bright["dusk"] > 2 * np.median(luminance(reference["dusk"])[wall])
    # rain is on the ground: the road changes more than the walls do, and mirrors what stands above it
    for wet, dry in (("wet", "overcast"), ("wet dusk", "dusk")):
        change = np.abs(luminance(reference[wet]) - luminance(reference[dry]))
        assert change[road].mean() > 4 * change[wall].mean()
        ratio = luminance(reference[wet])[road] / luminance(reference[dry])[road].clip(0.02)
        assert ratio.std() > 0.2 * ratio.mean()  # not merely darker: here a lit window, there a dark wall
    # the cheap picture tells them apart by its sky and its road
    for one, other in itertools.combinations(WEATHERS, 2):
        apart = [np.abs(color[one][part].mean(axis=0) - color[other][part].mean(axis=0)).max() for part in (sky, road)]
        assert max(apart) > 8, (one, other)


def test_the_sun_can_be_told_from_the_render() -> None:
    """Walls that face the sun are lighter in both pictures."""
    for seed in (1, 9, 16, 21):
        city = City(seed, weather="day", layout="terrace")
        f, sun = city.frame(30), city._street.sun
        world = f.normal @ f.camera.pose[:3, :3].T
        walls = (f.segmentation == CLASS["building"]) & (f.depth < 60) & (np.abs(world[..., 0]) > 0.9)
        lit, unlit = walls & (world[..., 0] * sun[0] > 0), walls & (world[..., 0] * sun[0] < 0)
        if min(lit.sum(), unlit.sum()) < 500:
            continue
        flat = City(seed, weather="overcast", layout="terrace").frame(30).color
        gain = luminance(f.color) / luminance(flat)
        assert gain[lit].mean() > gain[unlit].mean() + 0.03


def warp_error(before: CityFrame, now: CityFrame, pictures: tuple[np.ndarray, np.ndarray]) -> float:
    """RMS difference, 0..1, between a picture and the one before led along the engine's motion, where that is seen.

    Half of it is what any resampling of a sharp picture costs, so pixels count only within smooth surroundings.
    """
    at = pixels(now) + now.motion
    x, y = at[..., 0], at[..., 1]
    height, width = x.shape
    inside = (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    x0, y0 = np.floor(x).clip(0, width - 2).astype(int), np.floor(y).clip(0, height - 2).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    earlier = pictures[0] / 255.0
    led = (earlier[y0, x0] * (1 - fx) + earlier[y0, x0 + 1] * fx) * (1 - fy)
    led += (earlier[y0 + 1, x0] * (1 - fx) + earlier[y0 + 1, x0 + 1] * fx) * fy
    corners = [before.depth[y0 + b, x0 + a] for a in (0, 1) for b in (0, 1)]
    near, far = np.minimum.reduce(corners), np.maximum.reduce(corners)
    seen = inside & np.isfinite(now.depth) & (near > now.depth * 0.9 - 0.3) & (far < now.depth * 1.1 + 0.3)
    seen &= ~geometric_edges(now.depth, now.normal)
    assert seen.mean() > 0.3
    return float(np.sqrt(np.square(led - pictures[1] / 255.0)[seen].mean()))


@pytest.mark.parametrize("weather", WEATHER_NAMES)
def test_reference_does_not_shimmer(weather: str) -> None:
    city = City(18, weather=weather)
    before, now = city.frame(40), city.frame(41)
    error = warp_error(before, now, (city.reference(40), city.reference(41)))
    assert error < (0.045 if "wet" in weather else 0.03)  # what wet ground mirrors moves on its own


def test_textures_lie_still_where_the_street_is_counted_anew() -> None:
    """World z counts from a block border; when the camera crosses one, nothing may jump."""
    city = City(18, weather="overcast")
    index = next(i for i in range(1, 200) if city._surface(i).g.anchor_z != city._surface(i - 1).g.anchor_z)
    errors = [
        warp_error(city.frame(i - 1), city.frame(i), (city.reference(i - 1), city.reference(i)))
        for i in (index - 1, index, index + 1)
    ]
    assert errors[1] < 1.1 * max(errors[0], errors[2])


def without_coarse(picture: np.ndarray) -> np.ndarray:
    """(H, W, C) 0..1 minus its 5x5 mean."""
    height, width = picture.shape[:2]
    padded = np.pad(picture / 255.0, ((2, 2), (2, 2), (0, 0)), mode="edge")
    return picture / 255.0 - sum(padded[a : a + height, b : b + width] for a in range(5) for b in range(5)) / 25


def test_fine_detail_of_the_reference_is_in_the_render() -> None:
    """Patch by patch of a surface, the reference's fine texture follows from the colours of the render's."""
    explained = []
    for seed in (3, 10, 18, 23):
        city = City(seed, weather="overcast")
        f, reference = city.frame(30), city.reference(30)
        smooth = ~geometric_edges(f.depth, f.normal)
        cheap, fine = without_coarse(f.color), luminance(255 * without_coarse(reference))
        for y, x in itertools.product(range(0, 176, 16), range(0, 304, 16)):
            patch = np.s_[y : y + 16, x : x + 16]
            colors, truth = cheap[patch][smooth[patch]], fine[patch][smooth[patch]]
            one_thing = smooth[patch].mean() > 0.98 and len(np.unique(f.segmentation[patch])) == 1
            if one_thing and np.isfinite(f.depth[patch]).all() and truth.std() > 0.015:
                assert colors.std() > 1 / 255  # so that 8 bits keep it
                fitted = colors @ np.linalg.lstsq(colors, truth, rcond=None)[0]
                explained.append(1 - np.var(truth - fitted) / np.var(truth))
    assert len(explained) > 60
    assert np.median(explained) > 0.7 and np.percentile(explained, 10) > 0.3
