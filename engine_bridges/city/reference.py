"""The good picture of the same frame: what a camera in this street would record.

Works on: a G-buffer, the street and its sun shadows. Soft shadows, ambient occlusion, textured materials, glass that
mirrors the sky, sky light, haze, a film curve, vignette and grain. Every texture hangs on something that the cheap
picture shows too (building corners, kerbs, windows), and fine texture is faint.
Light is linear inside; sRGB at the edges.
"""

from __future__ import annotations

import numpy as np

from engine_bridges.city import patterns
from engine_bridges.city.gbuffer import GBuffer
from engine_bridges.city.noise import cell, cloudy
from engine_bridges.city.primitives import Kind
from engine_bridges.city.shade import clouds, mix, rgb, sign_color
from engine_bridges.city.street import Street
from engine_bridges.city.sunlight import Sunlight

SUN = np.array([1.00, 0.86, 0.66], np.float32) * 4.1
SKY_LIGHT = np.array([0.44, 0.60, 0.88], np.float32) * 1.0
BOUNCE = np.array([0.42, 0.38, 0.33], np.float32) * 0.55
EXPOSURE = 0.85
GRAIN = 0.007
SATURATION, CONTRAST = 1.14, 0.22


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB 0..1 to linear light (a square-law short cut is close enough for albedo)."""
    return srgb * srgb * (0.25 + 0.75 * srgb) ** 0.2


def film(light: np.ndarray) -> np.ndarray:
    """Linear light to display 0..1: Hable's filmic curve, normalised to a white of 6, then display gamma."""
    def curve(x):
        return (x * (0.22 * x + 0.03) + 0.002) / (x * (0.22 * x + 0.30) + 0.06) - 0.0333

    return np.clip(curve(light * 1.9) / np.float32(curve(np.float32(11.4))), 0, 1) ** np.float32(1 / 2.1)


class Surface:
    """Material of every seen pixel, (M, ...) float32."""

    def __init__(self, g: GBuffer) -> None:
        count = len(g.prim)
        self.albedo = linear(g.prims.color[g.prim])
        self.gloss = np.zeros(count, np.float32)
        """0 dull .. 1 polished: strength of the sun's highlight"""
        self.mirror = np.zeros(count, np.float32)
        """how much of a mirror the surface is when seen straight on"""


def _fade(size: float, footprint: np.ndarray) -> np.ndarray:
    """1 where a pattern of `size` metres is well resolved, 0 where a pixel swallows it."""
    return np.clip(1.6 - 1.2 * footprint / size, 0, 1)


def _facades(s: Surface, g: GBuffer, where: np.ndarray) -> None:
    foot = g.footprint[where]
    f = patterns.facade(g, where, foot)
    prim = g.prim[where]
    albedo = s.albedo[where]
    brick = g.prims.parameters[prim, 7] >= 10
    course, length = 0.22, 0.62
    row = np.floor(f.height / course)
    shift = f.u + 0.5 * length * np.mod(row, 2)
    joint = np.minimum(np.abs(np.mod(f.height / course + 0.5, 1) - 0.5) * course,
                       np.abs(np.mod(shift / length + 0.5, 1) - 0.5) * length)
    seen = _fade(course, foot)
    tone = 1 + 0.22 * (cell(np.floor(shift / length), row, prim) - 0.5) * seen
    mortar = patterns.coverage(0.016 - joint, foot) * seen
    stains = cloudy(f.u * 0.5 + prim * 3.1, f.height * 0.22)
    dirt = np.exp(-f.height / 0.8) * 0.35 + 0.10 * (stains > 0) * stains
    plaster = 1.0 + 0.05 * cloudy(f.u * 2.0, f.height * 2.0) * _fade(0.3, foot)
    albedo = albedo * (np.where(brick, tone, plaster) * (1 + 0.12 * stains) * (1 - dirt))[:, None]
    albedo = mix(albedo, rgb(0.42, 0.39, 0.35), mortar * brick * 0.55)
    solid = f.wall.astype(np.float32)
    # rain streaks below the sills, a stone sill, a shaded reveal under the lintel
    albedo = mix(albedo, rgb(0.62, 0.60, 0.56), f.sill * solid)
    frame = np.where(f.shop[:, None], rgb(0.05, 0.05, 0.06), rgb(0.66, 0.65, 0.62))
    albedo = mix(albedo, frame, f.window * solid)
    inside = rgb(0.030, 0.032, 0.036) * (0.4 + 1.2 * f.chance[:, None])
    curtain = (f.chance > 0.62) & ~f.shop
    inside = np.where(curtain[:, None], rgb(0.20, 0.185, 0.16), inside)
    shop_light = np.exp(-np.abs(f.height - 1.5)) * f.shop
    inside = inside + shop_light[:, None] * rgb(0.10, 0.075, 0.04)
    pane = f.pane * solid
    albedo = mix(albedo, inside, pane)
    door_panel = np.where(np.mod(f.height, 0.9) < 0.08, 0.7, 1.0)
    albedo = mix(albedo, rgb(0.10, 0.055, 0.03) * door_panel[:, None], f.door * solid)
    sign = sign_color(g, where)
    albedo = mix(albedo, linear(sign) * 0.8, f.sign * solid)
    albedo *= (1 - 0.45 * np.clip(1 - f.below_lintel / 0.28, 0, 1) * f.window * solid)[:, None]
    albedo = np.where(f.wall[:, None], albedo, rgb(0.16, 0.155, 0.15))
    s.albedo[where] = albedo
    s.mirror[where] = pane * 0.20
    s.gloss[where] = pane


def _road(s: Surface, g: GBuffer, where: np.ndarray, street: Street) -> None:
    foot = g.footprint[where]
    r = patterns.road(g, where, street, foot)
    patches = cloudy(r.x * 0.35, r.z * 0.12)
    grain = cloudy(r.x * 5.0, r.z * 5.0) * _fade(0.12, foot)
    tracks = np.exp(-((np.abs(np.abs(r.x) - 1.75) - 0.75) / 0.35) ** 2)
    albedo = rgb(0.125, 0.122, 0.12) * (1 + 0.16 * patches + 0.09 * grain - 0.16 * tracks)[:, None]
    worn = r.line * (0.82 + 0.14 * cloudy(r.x * 2.5, r.z * 2.5))
    albedo = mix(albedo, rgb(0.62, 0.61, 0.57), worn)
    albedo = mix(albedo, albedo * 0.55, r.gutter * 0.8)
    s.albedo[where] = albedo
    s.gloss[where] = 0.05


def _pavement(s: Surface, g: GBuffer, where: np.ndarray) -> None:
    foot = g.footprint[where]
    prim = g.prim[where]
    slabs = g.prims.parameters[prim, 0] != 0
    x, z = np.abs(g.world[where, 0]) - np.float32(patterns.ROAD_HALF + 0.22), g.world[where, 2]
    size = 0.8
    row = np.floor(x / size)
    along = z + 0.4 * np.mod(row, 2)
    joint = np.minimum(np.abs(np.mod(x / size + 0.5, 1) - 0.5), np.abs(np.mod(along / size + 0.5, 1) - 0.5)) * size
    seen = _fade(size, foot * 1.5)
    tone = 1 + 0.14 * (cell(row, np.floor(along / size) + np.floor(g.anchor_z / size), 5) - 0.5) * seen
    tone = tone * (1 + 0.10 * cloudy(x * 0.6, z * 0.3)) * (1 + 0.06 * cloudy(x * 5, z * 5) * _fade(0.12, foot))
    albedo = rgb(0.335, 0.32, 0.295) * tone[:, None]
    albedo *= (1 - 0.40 * patterns.coverage(0.018 - joint, foot) * seen)[:, None]
    albedo = mix(albedo, rgb(0.42, 0.41, 0.39), patterns.kerb(g, where, foot))
    earth = rgb(0.085, 0.06, 0.04) * (1 + 0.3 * cloudy(x * 4, z * 4))[:, None]
    s.albedo[where] = np.where(slabs[:, None], albedo, earth)


def _cars(s: Surface, g: GBuffer, body: np.ndarray, cabin: np.ndarray) -> None:
    foot = g.footprint[body]
    b = patterns.bodywork(g, body, foot)
    paint = s.albedo[body]
    local, half = g.local[body], g.prims.half[g.prim[body]].astype(np.float32)
    side = (g.face[body] == 0) | (g.face[body] == 3)
    seam = np.minimum(np.abs(local[:, 2] + 0.15), np.abs(np.abs(local[:, 2]) - half[:, 2] * 0.36))
    paint = paint * (1 - 0.5 * patterns.coverage(0.012 - seam, foot) * side)[:, None]
    paint = paint * (1 - 0.35 * np.clip(local[:, 1] / half[:, 1], 0, 1))[:, None]  # dust towards the ground
    paint = mix(paint, rgb(0.75, 0.76, 0.78), b.head_lamp)
    paint = mix(paint, rgb(0.30, 0.012, 0.01), b.tail_lamp)
    paint = mix(paint, rgb(0.60, 0.58, 0.45), b.plate)
    dark = np.maximum(b.skirt, b.arch)
    s.albedo[body] = mix(paint, rgb(0.012, 0.012, 0.013), dark)
    s.mirror[body] = 0.06 * (1 - dark)
    s.gloss[body] = 0.7 * (1 - dark)
    glass = patterns.cabin_glass(g, cabin, g.footprint[cabin])
    s.albedo[cabin] = mix(s.albedo[cabin], rgb(0.012, 0.014, 0.016), glass)
    s.mirror[cabin] = 0.06 + 0.12 * glass
    s.gloss[cabin] = 0.8


def _plants(s: Surface, g: GBuffer, where: np.ndarray) -> None:
    foot, local, normal = g.footprint[where], g.local[where], g.world_normal[where]
    clump = cloudy(local[:, 0] * 1.6 + local[:, 2] * 0.7, local[:, 1] * 1.6 - local[:, 2] * 1.1) * _fade(0.6, foot)
    leaf = cloudy(local[:, 0] * 6 + local[:, 2] * 4, local[:, 1] * 6 - local[:, 2] * 5) * _fade(0.15, foot)
    tone = (1 + 0.45 * clump + 0.40 * leaf) * (0.80 - 0.34 * normal[:, 1])
    s.albedo[where] = s.albedo[where] * rgb(0.86, 0.62, 0.58) * tone[:, None]


def _material(g: GBuffer, street: Street) -> Surface:
    s = Surface(g)
    kind = g.prims.kind[g.prim]

    def where(wanted: Kind) -> np.ndarray:
        return np.flatnonzero(kind == wanted)

    _facades(s, g, where(Kind.FACADE))
    _road(s, g, where(Kind.ROAD), street)
    _pavement(s, g, where(Kind.PAVEMENT))
    _cars(s, g, where(Kind.BODY), where(Kind.CABIN))
    _plants(s, g, where(Kind.LEAF))
    m = where(Kind.BARK)
    s.albedo[m] *= (0.8 + 0.35 * cloudy(g.local[m, 0] * 9 + g.local[m, 2] * 9, g.local[m, 1] * 1.2))[:, None]
    m = where(Kind.ROOF)
    tiles = np.abs(np.mod(g.local[m, 1] / 0.3, 1) - 0.5) * 2
    s.albedo[m] *= (0.8 + 0.25 * tiles * _fade(0.3, g.footprint[m]))[:, None]
    m = where(Kind.AWNING)
    s.albedo[m] *= (0.75 + 0.25 * (np.mod(g.local[m, 2], 0.8) < 0.4))[:, None]
    m = where(Kind.TRIM)
    s.albedo[m] *= (0.85 + 0.10 * cloudy(g.local[m, 2] * 0.8, g.local[m, 0] * 0.8 + g.local[m, 1]))[:, None]
    m = where(Kind.HEAD)
    s.albedo[m] = mix(s.albedo[m] * 0.85, rgb(0.035, 0.022, 0.015), patterns.hair(g, m))
    m = where(Kind.CLOTH)
    s.albedo[m] *= (0.75 + 0.2 * cloudy(g.local[m, 0] * 6, g.local[m, 1] * 3))[:, None]
    m = where(Kind.METAL)
    s.gloss[m] = 0.25
    m = where(Kind.WHEEL)
    hub = np.hypot(g.local[m, 1], g.local[m, 2])
    s.albedo[m] = np.where((hub < 0.19)[:, None], rgb(0.30, 0.30, 0.31), rgb(0.014, 0.014, 0.015))
    return s


def _occlusion(g: GBuffer) -> np.ndarray:
    """(M,) 0..1 openness towards the sky light: nearby surfaces in screen space, with a reach of about a metre."""
    height, width = g.index.shape
    u, v = g.view.rays()
    z = np.where(g.seen, g.depth, np.float32(1e4))
    point = np.stack([z * u[None, :].astype(np.float32), z * v[:, None].astype(np.float32), z])
    normal = np.moveaxis(g.normal, 2, 0)
    rows, columns = np.nonzero(g.seen)
    at = rows * width + columns
    p = [c.ravel()[at] for c in point]
    n = [np.ascontiguousarray(c).ravel()[at] for c in normal]
    flat = [c.ravel() for c in point]
    reach = np.float32(0.9)
    radius = np.clip(reach * np.float32(g.view.fx) / g.z, 2.0, 42.0)
    closed = np.zeros(len(at), np.float32)
    taps = 12
    for k in range(taps):
        r, angle = np.sqrt((k + 0.6) / taps), k * 2.399963 + 0.6
        x = np.clip(columns + np.rint(radius * np.float32(r * np.cos(angle))), 0, width - 1).astype(np.int32)
        y = np.clip(rows + np.rint(radius * np.float32(r * np.sin(angle))), 0, height - 1).astype(np.int32)
        other = y * width + x
        dx, dy, dz = (flat[a][other] - p[a] for a in range(3))
        square = dx * dx + dy * dy + dz * dz
        rise = (dx * n[0] + dy * n[1] + dz * n[2]) / np.sqrt(square + 1e-6)
        closed += np.clip(rise - 0.12, 0, 1) * np.clip(1.6 - square / (reach * reach), 0, 1)
    return np.clip(1 - 1.25 * closed / taps, 0.15, 1)


def _contact(g: GBuffer, kind: np.ndarray) -> np.ndarray:
    """(M,) 0..1 openness near the ground, the foot of walls and under cars, from heights alone."""
    height = -g.world[:, 1]
    open_ = np.ones(len(kind), np.float32)
    low = np.isin(kind, (Kind.FACADE, Kind.TRIM, Kind.WHEEL, Kind.BODY, Kind.BARK, Kind.METAL, Kind.CLOTH))
    open_[low] = 0.45 + 0.55 * np.clip(height[low] / 0.7, 0, 1)
    flat = np.isin(kind, (Kind.PAVEMENT,))
    wall = patterns.FRONT + 0.2 - np.abs(g.world[flat, 0])
    open_[flat] = 0.55 + 0.45 * np.clip(np.abs(wall) / 1.4, 0, 1)
    return open_


def sky_color(direction: np.ndarray, street: Street, with_clouds: bool = True) -> np.ndarray:
    """(K, 3) linear light from unit world directions (K, 3)."""
    up = np.clip(-direction[:, 1], 0, 1)
    toward = np.clip(direction @ street.sun.astype(np.float32), 0, 1)
    haze = np.float32(street.mist)
    horizon = rgb(1.35, 1.52, 1.72) * (1 - 0.2 * haze)
    zenith = rgb(0.12, 0.36, 1.00) * (1 - haze) + rgb(0.72, 0.92, 1.22) * haze
    sky = mix(np.broadcast_to(horizon, (len(up), 3)), zenith, np.clip(up * 1.6, 0, 1) ** 0.55)
    sky = sky + (0.35 * toward**6 + 1.2 * toward**60)[:, None] * SUN * 0.4
    if with_clouds:
        body = np.clip((clouds(direction, street.seed % 97) - 0.02) * 2.2, 0, 1)
        sky = mix(sky, rgb(2.3, 2.25, 2.2) * (1 - 0.2 * haze), body * (0.85 - 0.4 * haze))
    return sky


def _add_reflections(
    light: np.ndarray, s: Surface, g: GBuffer, street: Street, direct: np.ndarray, shadow: np.ndarray, open_: np.ndarray
) -> None:
    """Adds to `light` (M, 3), in place, what glass and paint mirror, and the sun's sheen on duller things."""
    sun = street.sun.astype(np.float32)
    shiny = np.flatnonzero(s.mirror > 0.004)
    normal, ray, straight = g.world_normal[shiny], g.ray[shiny], s.mirror[shiny]
    facing_eye = -(normal * ray).sum(axis=1)
    bounced = ray + 2 * facing_eye[:, None] * normal
    # Schlick's Fresnel term, held down for what mirrors little
    fresnel = straight + (1 - straight) * np.clip(1 - facing_eye, 0, 1) ** 4 * (straight * 8).clip(0, 1) * 0.8
    above = patterns.coverage(-bounced[:, 1] - 0.12, 0.30)
    street_below = np.broadcast_to(rgb(0.16, 0.15, 0.14), bounced.shape)
    mirrored = mix(street_below, sky_color(bounced, street, False), above)
    highlight = np.clip((bounced * sun).sum(axis=1), 0, 1) ** 80 * s.gloss[shiny] * shadow[shiny] * 2.5
    light[shiny] *= 1 - fresnel[:, None]
    light[shiny] += mirrored * (fresnel * (0.4 + 0.6 * open_[shiny]))[:, None] + SUN * highlight[:, None]

    dull = np.flatnonzero((s.gloss > 0) & (s.mirror <= 0.004))
    half = sun - g.ray[dull]  # Blinn's half vector
    half /= np.sqrt((half * half).sum(axis=1, keepdims=True))
    sheen = np.clip((g.world_normal[dull] * half).sum(axis=1), 0, 1) ** 24 * s.gloss[dull] * direct[dull]
    light[dull] += SUN * sheen[:, None]


def blur_edges(picture: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Softens the stairs at silhouettes: a 3x3 tent, only where neighbouring pixels see different things."""
    edge = np.zeros(index.shape, bool)
    across, down = index[:, 1:] != index[:, :-1], index[1:] != index[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    tent = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
    share = np.where(edge, 0.85, 0.12).astype(np.float32)[..., None]
    return picture + (tent - picture) * share


def reference(g: GBuffer, street: Street, sunlight: Sunlight, frame: int) -> np.ndarray:
    """(H, W, 3) uint8 sRGB. `frame` seeds the grain only."""
    s = _material(g, street)
    kind = g.prims.kind[g.prim]
    normal, ray = g.world_normal, g.ray
    sun = street.sun.astype(np.float32)
    facing = normal @ sun
    leafy = kind == Kind.LEAF
    lambert = np.clip(np.where(leafy, facing * 0.75 + 0.25, facing), 0, 1)  # light seeps through leaves
    movers = g.prims.take(np.arange(g.first_mover, len(g.prims)))
    offset = normal + np.where(leafy, 6.0, 0.0).astype(np.float32)[:, None] * sun
    shadow = sunlight.lit(g.world, offset, g.anchor_z, g.view.position[2], movers)
    direct = lambert * np.where(facing > 0, shadow, np.where(leafy, shadow, 0))
    open_ = _occlusion(g) * _contact(g, kind)
    height = -g.world[:, 1]
    canyon = 0.55 + 0.45 * np.clip(height / 14.0, 0, 1)
    up = -normal[:, 1]
    from_below = (0.5 - 0.4 * up) * (1.2 - 0.05 * height).clip(0.4, 1.2)
    ambient = SKY_LIGHT * ((0.55 + 0.45 * up) * canyon)[:, None] + BOUNCE * from_below[:, None]
    light = s.albedo * (SUN * direct[:, None] + ambient * open_[:, None])
    _add_reflections(light, s, g, street, direct, shadow, open_)

    toward = np.clip(ray @ sun, 0, 1)
    air = rgb(0.88, 1.04, 1.26) + (0.15 * toward**4)[:, None] * SUN * 0.6
    light = mix(light, air, 1 - np.exp(-g.z * np.float32(street.haze)))

    picture = np.empty((*g.index.shape, 3), np.float32)
    picture[g.seen] = light
    sky = g.directions[~g.seen]
    picture[~g.seen] = sky_color(sky / np.sqrt((sky * sky).sum(axis=1, keepdims=True)), street)
    picture = film(np.maximum(picture, 0) * np.float32(EXPOSURE))
    grey = picture @ rgb(0.30, 0.59, 0.11)
    picture = grey[..., None] + (picture - grey[..., None]) * np.float32(SATURATION)
    picture += (picture - 0.5) * (1 - np.abs(picture - 0.5) * 2).clip(0) * np.float32(CONTRAST)
    picture = blur_edges(picture, g.index)
    h, w = g.index.shape
    y, x = np.linspace(-1, 1, h, dtype=np.float32), np.linspace(-1, 1, w, dtype=np.float32)
    picture *= (1 - 0.14 * (x[None, :] ** 2 + y[:, None] ** 2) / 2 * 1.2)[..., None]
    noise = np.random.default_rng([street.seed, frame + 1_000_000, 77]).standard_normal((h, w, 1), dtype=np.float32)
    picture += noise * np.float32(GRAIN)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)

