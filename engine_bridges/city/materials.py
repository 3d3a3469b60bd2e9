"""What surfaces are made of, for both shadings at once: every line below paints a pattern into the reference's albedo
and into the cheap picture's flat colour. So the two agree about where a thing is, and differ in how it looks.

Works on: a G-buffer and the street's patterns. Knows nothing of: where light falls.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from engine_bridges.city import patterns
from engine_bridges.city.gbuffer import GBuffer
from engine_bridges.city.noise import cell, cloudy
from engine_bridges.city.patterns import fade
from engine_bridges.city.primitives import Kind
from engine_bridges.city.street import Street
from engine_bridges.city.wet_ground import Mirrored, mirrored_by_ground


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """(3, 1) float32"""
    return np.array([[red], [green], [blue]], np.float32)


def mix(a: np.ndarray, b: np.ndarray | float, share: np.ndarray | np.float32 | float) -> np.ndarray:
    """a where share is 0, b where it is 1; colours are planar, (3, K) or (3, 1)."""
    return a + (b - a) * share


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB 0..1 to linear albedo (a square-law short cut is close enough), a little darker than the picture says."""
    return srgb * srgb * np.float32(0.86)


def garish(srgb: np.ndarray) -> np.ndarray:
    """What an old game makes of a colour: more saturated and much brighter."""
    grey = srgb[0] * np.float32(0.30) + srgb[1] * np.float32(0.59) + srgb[2] * np.float32(0.11)
    vivid = np.clip(grey + (srgb - grey) * np.float32(1.55), 0, 1)
    return 1 - (1 - vivid) * np.float32(0.68)


class Surface:
    """Material of every seen pixel; colours planar (3, M) float32."""

    def __init__(self, g: GBuffer, street: Street) -> None:
        self.g, self.street = g, street
        count = len(g.prim)
        base = np.ascontiguousarray(g.prims.color.T)
        self.albedo = linear(base).take(g.prim, axis=1)
        """linear, of the reference"""
        self.flat = garish(base).take(g.prim, axis=1)
        """sRGB, of the cheap picture"""
        self.gloss = np.zeros(count, np.float32)
        """0 dull .. 1 polished: strength of the sun's highlight"""
        self.mirror = np.zeros(count, np.float32)
        """share of light that the surface mirrors when seen straight on"""
        self.glow = np.zeros((3, count), np.float32)
        """linear light that the surface sends out by itself"""
        self.bright = np.zeros(count, np.float32)
        """1 where the cheap picture ignores light: lit windows, lamps"""
        self.puddle = np.zeros(count, np.float32)
        self.blob = patterns.blob(g, street)
        self._facades()
        self._road()
        self._pavement()
        self._cars()
        self._plants()
        self._rest()
        first = g.of(Kind.FACADE).start  # wet ground mirrors what is seen, see `reference`
        self.polished = first + np.flatnonzero(self.mirror[first:] > 0.004)
        """numbers of the pixels of glass and paint, (K,)"""
        self.mirrored_ray = g.ray[:, self.polished] + 2 * g.facing[self.polished] * g.world_normal[:, self.polished]
        """(3, K) unit world directions in which these mirror the camera's rays"""
        self.mirrors_sky = patterns.coverage(-self.mirrored_ray[1] - np.float32(0.22), np.float32(0.35))
        """(K,) 0 where they mirror the ground .. 1 the sky"""

    @cached_property
    def mirrored_by_ground(self) -> Mirrored:
        """What ground mirrors that is wet."""
        return mirrored_by_ground(self.g, self.mirror)

    def _facades(self) -> None:
        g, weather = self.g, self.street.weather
        at = g.of(Kind.FACADE)
        f, prim = patterns.facade(g), g.prim[at]
        base = np.ascontiguousarray(g.prims.color.T).take(prim, axis=1)
        albedo, flat = linear(base), garish(base)
        material = g.of_prims(g.prims.parameters[:, 7:], at)[0].astype(np.intp)  # plaster, brick, stone
        course, length = (np.array(t, np.float32)[material] for t in ((0.6, 0.24, 0.55), (1.0, 0.72, 1.15)))
        laid = patterns.courses(f.height, f.u, course, length, 0.05, f.foot_height, f.foot_u, prim)
        joint = laid.joint * (material > 0)
        brick = (material == 1).astype(np.float32)
        stain = cloudy(f.u * np.float32(0.4) + np.mod(prim * 3.1, 16).astype(np.float32), f.height * np.float32(0.25))
        mottle = cloudy(f.u * 1.1, f.height * np.float32(1.1)) * fade(0.6, f.foot_u) * (material == 0)
        dirt = np.exp(f.height * np.float32(-1 / 0.9))
        # in the reference joints of brick are pale and those of stone dark; the cheap picture has it the other way
        tone = np.array((0.0, 0.85, 0.38), np.float32)[material] * laid.tone
        albedo *= (1 + tone + 0.28 * stain + 0.22 * mottle) * (1 - 0.55 * dirt) * (1 - 0.50 * f.streak)
        albedo = mix(albedo, rgb(0.36, 0.33, 0.29), joint * brick * 0.75)
        albedo *= 1 - 0.62 * joint * (1 - brick)
        flat *= 1 - 0.42 * tone - 0.12 * stain - 0.14 * mottle + 0.07 * dirt + 0.07 * f.streak
        flat *= 1 - 0.40 * joint * brick + 0.28 * joint * (1 - brick)

        albedo = mix(albedo, rgb(0.50, 0.48, 0.44), f.sill)
        flat = mix(flat, rgb(0.90, 0.91, 0.95), f.sill)
        albedo = mix(albedo, mix(rgb(0.60, 0.59, 0.56), rgb(0.04, 0.04, 0.045), f.shop), f.window)
        flat = mix(flat, mix(rgb(1.0, 1.0, 1.0), rgb(0.80, 0.72, 0.78), f.shop), f.window)
        curtain = (f.chance > 0.62) * (1 - f.shop)
        inside = mix(rgb(0.018, 0.020, 0.024) * (0.5 + f.chance), rgb(0.24, 0.22, 0.18), curtain)
        inside = inside + np.maximum(f.goods, 0) * rgb(0.22, 0.16, 0.10)
        glass = rgb(0.28, 0.40, 0.52) * (1.0 - 0.06 * f.chance) * np.float32(1 - 0.5 * weather.lamps)
        glass = mix(glass, rgb(0.94, 0.88, 0.84), curtain * 0.8) - np.maximum(f.goods, 0) * rgb(0.1, 0.25, 0.4)
        albedo = mix(albedo, inside, f.pane)
        flat = mix(flat, glass, f.pane)
        # lit: rooms by chance, shops whenever it is not broad day
        lit = np.where(f.shop > 0, np.float32(weather.lit > 0), (f.chance < weather.lit).astype(np.float32))
        lit *= f.pane * (0.75 + 0.5 * f.goods)
        self.glow[:, at] = rgb(1.0, 0.58, 0.25) * lit * np.float32(0.35 + 0.95 * weather.lamps)
        flat = mix(flat, rgb(1.0, 0.93, 0.50) * (1 + 0.35 * f.goods), np.minimum(1.4 * lit, 1))
        self.bright[at] = lit
        albedo = mix(albedo, rgb(0.10, 0.05, 0.028) * (1 - 0.45 * f.door_panel), f.door)
        flat = mix(flat, rgb(0.80, 0.52, 0.34) * (1 + 0.07 * f.door_panel), f.door)
        accent = g.of_prims(g.prims.accent, at)
        albedo = mix(mix(albedo, linear(accent), f.sign), rgb(0.75, 0.73, 0.68), f.letters)
        flat = mix(mix(flat, garish(accent), f.sign), rgb(0.30, 0.24, 0.42), f.letters)
        self.glow[:, at] += rgb(0.9, 0.8, 0.6) * f.letters * np.float32(0.4 * weather.lamps)
        # the reveal under the lintel and the awning's depth of a shop window
        albedo *= 1 - 0.55 * np.clip(1 - f.below_lintel / np.float32(0.3), 0, 1) * f.window
        self.albedo[:, at] = np.where(f.wall > 0, albedo, rgb(0.12, 0.115, 0.11))
        self.flat[:, at] = np.where(f.wall > 0, flat, rgb(0.62, 0.60, 0.62))
        self.mirror[at] = f.pane * np.float32(0.26)
        self.gloss[at] = f.pane

    def _road(self) -> None:
        g, wet = self.g, np.float32(self.street.weather.wet)
        at = g.of(Kind.ROAD)
        r = patterns.road(g, self.street)
        tone = 0.30 * r.stain - 0.22 * r.track - 0.75 * r.patch
        tone = (1 + tone) * (1 - 0.5 * r.crack) * (1 - 0.5 * r.cover)
        albedo = rgb(0.120, 0.116, 0.112) * tone
        worn = r.line * (0.80 + 0.25 * r.stain)
        albedo = mix(albedo, rgb(0.58, 0.57, 0.53), worn)
        albedo *= 1 - 0.5 * r.gutter
        flat = rgb(0.66, 0.65, 0.74) * (1 - 0.14 * r.stain + 0.10 * r.track + 0.30 * r.patch)
        flat *= (1 + 0.26 * r.crack) * (1 - 0.16 * r.cover) * (1 + 0.04 * r.gutter)
        flat = mix(flat, rgb(1.0, 1.0, 0.98), worn)
        if wet:
            albedo *= 1 - 0.45 * wet
            flat = mix(flat * rgb(0.88, 0.96, 1.08), rgb(0.70, 0.84, 1.0), 0.8 * r.puddle)
            self.puddle[at] = r.puddle
            self.mirror[at] = (0.07 + 0.16 * r.puddle) * wet
        self.albedo[:, at], self.flat[:, at] = albedo, flat
        self.gloss[at] = 0.05

    def _pavement(self) -> None:
        g, wet = self.g, np.float32(self.street.weather.wet)
        at = g.of(Kind.PAVEMENT)
        p = patterns.pavement(g)
        slab = 1 - p.kerb
        albedo = rgb(0.30, 0.285, 0.26) * (1 + 0.55 * p.slabs.tone * slab + 0.22 * p.stain)
        albedo *= 1 - 0.60 * p.slabs.joint * slab
        albedo = mix(albedo, rgb(0.40, 0.39, 0.37), p.kerb)
        flat = rgb(0.80, 0.77, 0.76) * (1 - 0.14 * p.slabs.tone * slab - 0.05 * p.stain)
        flat = mix(flat * (1 + 0.13 * p.slabs.joint * slab), rgb(0.95, 0.95, 0.97), p.kerb)
        albedo = mix(albedo, rgb(0.075, 0.052, 0.035), p.earth)
        flat = mix(flat, rgb(0.76, 0.60, 0.46), p.earth)
        if wet:
            albedo *= 1 - 0.40 * wet
            flat = mix(flat * rgb(0.93, 0.97, 1.04), rgb(0.78, 0.88, 1.0), 0.6 * p.puddle * slab)
            self.mirror[at] = (0.05 + 0.18 * p.puddle) * wet * (1 - p.earth)
            self.puddle[at] = p.puddle
        self.albedo[:, at], self.flat[:, at] = albedo, flat

    def _cars(self) -> None:
        g = self.g
        at = g.of(Kind.BODY)
        b = patterns.bodywork(g)
        lamps = np.float32(self.street.weather.lamps) * g.of_prims(g.prims.parameters[:, :1], at)[0]
        albedo, flat = self.albedo[:, at], self.flat[:, at]
        albedo = albedo * (1 - 0.65 * b.seam) * (1 - 0.40 * b.height)
        flat = flat * (1 - 0.18 * b.seam)
        for cover, real, cheap in (
            (b.head_lamp, rgb(0.72, 0.73, 0.75), mix(rgb(0.95, 0.97, 1.0), rgb(2.0, 1.95, 1.6), lamps)),
            (b.tail_lamp, rgb(0.26, 0.010, 0.008), mix(rgb(0.66, 0.20, 0.20), rgb(1.9, 0.32, 0.28), lamps)),
            (b.plate, rgb(0.55, 0.53, 0.42), rgb(1.0, 0.98, 0.80)),
            (np.maximum(b.skirt, b.arch), rgb(0.010, 0.010, 0.011), rgb(0.46, 0.45, 0.52)),
        ):
            albedo, flat = mix(albedo, real, cover), mix(flat, cheap, cover)
        dull = 1 - np.maximum(b.skirt, b.arch)
        self.albedo[:, at], self.flat[:, at] = albedo, flat
        self.glow[:, at] = (rgb(4.5, 4.0, 3.2) * b.head_lamp + rgb(1.6, 0.05, 0.03) * b.tail_lamp) * lamps
        self.bright[at] = (b.head_lamp + b.tail_lamp) * lamps
        self.mirror[at], self.gloss[at] = 0.07 * dull, 0.7 * dull
        at = g.of(Kind.CABIN)
        glass = patterns.cabin_glass(g)
        self.albedo[:, at] = mix(self.albedo[:, at], rgb(0.012, 0.014, 0.016), glass)
        self.flat[:, at] = mix(self.flat[:, at], rgb(0.34, 0.42, 0.50), glass)
        self.mirror[at], self.gloss[at] = 0.06 + 0.16 * glass, 0.8
        at = g.of(Kind.WHEEL)
        _, y, z = g.local[:, at]
        spoke = 0.7 + 0.3 * np.cos(np.arctan2(y, z) * 5)
        hub = patterns.coverage(0.20 - np.hypot(y, z), g.footprint[at])
        self.albedo[:, at] = mix(rgb(0.014, 0.014, 0.015), rgb(0.34, 0.34, 0.35) * spoke, hub)
        self.flat[:, at] = mix(rgb(0.42, 0.42, 0.46), rgb(0.66, 0.66, 0.70) * (0.7 + 0.3 * spoke), hub)

    def _plants(self) -> None:
        g = self.g
        at = g.of(Kind.LEAF)
        (x, y, z), foot = g.local[:, at], g.fine[at] * np.float32(1.6)
        clump = cloudy(x * 1.7 + z * np.float32(1.1), y * 1.7 - z * np.float32(1.2)) * fade(0.6, foot)
        leaf = cloudy(x * np.float32(6.0) + z * np.float32(4.3), y * np.float32(6.0) - z * np.float32(4.7)) * 3
        leaf = np.clip(leaf, -1, 1) * fade(0.22, foot)
        self.albedo[:, at] *= rgb(0.95, 0.80, 0.55) * np.maximum(0.80 + 0.60 * clump + 0.50 * leaf, 0.08)
        self.flat[:, at] *= 1 - 0.30 * clump - 0.24 * leaf

    def _rest(self) -> None:
        g = self.g
        x, y, z = g.local

        def tint(kind: Kind, tone: np.ndarray, amount: float) -> None:
            """Strong in the reference, faint and the other way round in the cheap picture."""
            at = g.of(kind)
            self.albedo[:, at] *= np.maximum(1 + amount * tone, 0.05)
            self.flat[:, at] *= 1 - 0.14 * amount * tone

        at = g.of(Kind.BARK)
        tint(Kind.BARK, cloudy(x[at] * 6 + z[at] * 6, y[at] * np.float32(0.9)) * fade(0.25, g.fine[at]), 0.6)
        at = g.of(Kind.ROOF)
        row = np.floor(y[at] / np.float32(0.3))
        tiles = cell(np.floor(z[at] / np.float32(0.4) + 0.5 * np.mod(row, 2)), row, g.prim[at]) - np.float32(0.5)
        tint(Kind.ROOF, tiles * fade(0.3, g.footprint[at]) - 0.2, 0.7)
        at = g.of(Kind.AWNING)
        stripe = patterns.band(np.abs(np.mod(z[at], np.float32(0.9)) - np.float32(0.45)), 0.225, g.footprint[at])
        self.albedo[:, at] = mix(self.albedo[:, at], rgb(0.60, 0.58, 0.54), stripe)
        self.flat[:, at] = mix(self.flat[:, at], rgb(1.0, 1.0, 1.0), stripe)
        at = g.of(Kind.TRIM)
        tint(Kind.TRIM, cloudy(z[at] * np.float32(0.7), x[at] * np.float32(0.7) + y[at]) - 0.2, 0.35)
        at = g.of(Kind.HEAD)
        hair = patterns.hair(g)
        self.albedo[:, at] = mix(self.albedo[:, at] * 0.85, rgb(0.030, 0.019, 0.013), hair)
        self.flat[:, at] = mix(self.flat[:, at], rgb(0.62, 0.44, 0.32), hair)
        at = g.of(Kind.CLOTH)
        tint(Kind.CLOTH, cloudy(x[at] * 4, y[at] * np.float32(2.5)) * fade(0.3, g.fine[at]) - 0.3, 0.6)
        self.gloss[g.of(Kind.METAL)] = 0.25
        at = g.of(Kind.LAMP)
        lamps = np.float32(self.street.weather.lamps)
        self.glow[:, at] = rgb(5.0, 3.6, 1.9) * lamps
        self.bright[at] = lamps
        self.flat[:, at] = rgb(1.0, 0.98, 0.80)
