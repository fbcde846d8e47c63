"""How a camera sees a dial: place, roll, tilt, light, glare, blur and noise, and the drawing itself.

Everything is computed for a batch of images at once, from distances to the edges of shapes, so that
edges are smooth without drawing at a higher resolution.
"""

from collections.abc import Mapping

import numpy as np
from dials import ARROW, BAR, SPADE, TAPERED, Dials, Numbers

SIZE = 96  # pixels of an image's side

#: What a slice of the evaluation adds to an otherwise clean picture, at full strength.
CONDITIONS = ("clean", "light", "blur", "rotation", "glare", "everything")


def view(count: int, condition: str, rng: np.random.Generator) -> dict[str, Numbers]:
    """How `count` pictures are taken, each property float32 [count, 1, 1].

    Args:
        count: of pictures.
        condition: one of CONDITIONS: what disturbs, beside a little noise and a loose aim.
        rng: where chance comes from.
    """

    def between(low: float, high: float, *among: str) -> Numbers:
        on = not among or condition == "everything" or condition in among
        return rng.uniform(low, high, count) if on else np.zeros(count)

    seen = {
        "x": between(-0.08, 0.08),
        "y": between(-0.08, 0.08),
        "radius": between(0.72, 0.92),
        "roll": np.deg2rad(between(-20, 20, "rotation")),
        "tilt_x": between(-0.12, 0.12, "rotation"),
        "tilt_y": between(-0.12, 0.12, "rotation"),
        "slope": between(-0.35, 0.35, "light"),
        "slope_towards": between(0, 2 * np.pi),
        "dimmed": between(0.0, 0.75, "light"),
        "gamma": np.exp(between(-0.4, 0.4, "light")),
        "blur": 0.4 + between(0.0, 1.1, "blur"),
        "glare": between(0.2, 0.9, "glare") * (rng.random(count) < 0.8),
        "glare_x": between(-0.6, 0.6),
        "glare_y": between(-0.6, 0.6),
        "glare_long": between(0.2, 0.7),
        "glare_wide": between(0.05, 0.2),
        "glare_towards": between(0, np.pi),
        "noise": between(0.003, 0.03),
        "behind": between(0.1, 0.9),
        "behind_slope": between(-0.3, 0.3),
    }
    return {name: numbers.astype(np.float32)[:, None, None] for name, numbers in seen.items()}


def render(values: Numbers, dials: Dials, seen: Dials, rng: np.random.Generator) -> Numbers:
    """Pictures of dials.

    Args:
        values: float32 [n], 0 at the first mark and 1 at the last.
        dials: their designs, as `dials.draw` gives them.
        seen: how the pictures are taken, as `view` gives it.
        rng: of the noise.

    Returns:
        uint8 [n, SIZE, SIZE], grey.
    """
    axis = ((np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE * 2 - 1)[None]
    x, y = np.broadcast_to(axis[:, None, :], (1, SIZE, SIZE)), axis[:, :, None]
    u, v = _on_the_dial(x, y, seen)
    picture = _surroundings(x, y, seen)
    soft = 1.4 / (SIZE / 2 * seen["radius"])  # width of an edge, radii
    picture = _face(picture, u, v, dials, soft)
    picture = _needle(picture, u, v, values[:, None, None], dials, soft)
    picture = _lit(picture, x, y, seen)
    picture = _blurred(picture, seen["blur"])
    picture += seen["noise"] * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8)


def _on_the_dial(x: Numbers, y: Numbers, seen: Mapping[str, Numbers]) -> tuple[Numbers, Numbers]:
    """Coordinates on the dial of each pixel: u to the right, v down, the rim at 1."""
    u, v = (x - seen["x"]) / seen["radius"], (y - seen["y"]) / seen["radius"]
    depth = 1 + seen["tilt_x"] * u + seen["tilt_y"] * v
    u, v = u / depth, v / depth
    cos, sin = np.cos(seen["roll"]), np.sin(seen["roll"])
    return cos * u + sin * v, cos * v - sin * u


def _surroundings(x: Numbers, y: Numbers, seen: Mapping[str, Numbers]) -> Numbers:
    return (seen["behind"] + seen["behind_slope"] * (x + 0.5 * y)).clip(0, 1)


def _inside(distance: Numbers, soft: Numbers) -> Numbers:
    """1 where a signed distance is below zero, 0 where above, a ramp between."""
    return (0.5 - distance / soft).clip(0, 1)


def _over(picture: Numbers, ink: Numbers, cover: Numbers) -> Numbers:
    return picture + (ink - picture) * cover


def _face(picture: Numbers, u: Numbers, v: Numbers, d: Dials, soft: Numbers) -> Numbers:
    r = np.hypot(u, v)
    picture = _over(picture, d["rim"], _inside(r - 1 - d["rim_width"], soft))
    picture = _over(picture, d["face"], _inside(r - 1, soft))
    turn = np.arctan2(u, -v) - d["start"]  # clockwise from the first mark
    middle = d["sweep"] / 2
    turn = (turn - middle + np.pi) % (2 * np.pi) - np.pi + middle
    along = turn / d["sweep"]
    picture = _scale(picture, r, along, d, soft)
    return _lettering(picture, u, v, r, along, d, soft)


def _scale(picture: Numbers, r: Numbers, along: Numbers, d: Dials, soft: Numbers) -> Numbers:
    on = _inside((np.abs(along - 0.5) - 0.5) * d["sweep"] * r - 0.02, soft)
    band = np.abs(r - d["outer"] + d["minor_length"] / 2) - d["minor_length"] / 2
    shaded = on * _inside(band, soft) * _inside((d["zone_from"] - along) * d["sweep"] * r, soft)
    picture = _over(picture, d["zone_ink"], d["zone"] * shaded)
    arc = on * _inside(np.abs(r - d["outer"]) - d["minor_width"] / 2, soft)
    picture = _over(picture, d["ink"], d["arc"] * arc)
    for count, long, wide in (
        (d["majors"] * d["minors"], d["minor_length"], d["minor_width"]),
        (d["majors"], d["major_length"], d["major_width"]),
    ):
        nearest = np.rint(along * count).clip(0, count) / count
        aside = np.abs(along - nearest) * d["sweep"] * r - wide / 2
        mark = np.maximum(aside, np.abs(r - d["outer"] + long / 2) - long / 2)
        # A mark narrower than a pixel is fainter, not wider.
        picture = _over(picture, d["ink"], _inside(mark, soft) * np.minimum(1, 1.5 * wide / soft))
    return picture


def _lettering(
    picture: Numbers, u: Numbers, v: Numbers, r: Numbers, along: Numbers, d: Dials, soft: Numbers
) -> Numbers:
    """Blocks where the numerals and the maker's name would be: too small to be read anyway."""
    at = d["outer"] - d["major_length"] - 0.12
    nearest = np.rint(along * d["majors"]).clip(0, d["majors"]) / d["majors"]
    angle = d["start"] + nearest * d["sweep"]
    across = np.abs(u - at * np.sin(angle)) - d["numeral_width"]
    down = np.abs(v + at * np.cos(angle)) - d["numeral_height"]
    weight = d["numerals"] * (0.55 + 0.35 * np.sin(40 * u + 90 * nearest) * (r < 1))
    picture = _over(picture, d["ink"], weight * _inside(np.maximum(across, down), soft))
    name = np.maximum(np.abs(u) - d["label_width"], np.abs(v - d["label_y"]) - 0.05)
    return _over(picture, d["ink"], d["label"] * 0.6 * _inside(name, soft))


def _needle(
    picture: Numbers, u: Numbers, v: Numbers, values: Numbers, d: Dials, soft: Numbers
) -> Numbers:
    angle = d["start"] + values * d["sweep"]
    cos, sin = np.cos(angle), np.sin(angle)
    shadow = _needle_shape(u - 0.03, v - 0.04, cos, sin, d, 3 * soft)
    picture = picture * (1 - 0.25 * shadow)
    picture = _over(picture, d["needle_ink"], _needle_shape(u, v, cos, sin, d, soft))
    return _over(picture, d["hub_ink"], _inside(np.hypot(u, v) - d["hub"], soft))


def _needle_shape(
    u: Numbers, v: Numbers, cos: Numbers, sin: Numbers, d: Dials, soft: Numbers
) -> Numbers:
    """Cover by the needle: outlines by kind, along its axis `a` and across it `b`."""
    a, b = u * sin - v * cos, np.abs(u * cos + v * sin)
    reach = (a / d["needle_length"]).clip(0, 1)
    half = d["needle_width"]
    outlines = {
        TAPERED: half * (1.15 - reach),
        BAR: half * 0.6,
        ARROW: half * np.where(reach > 0.75, (1 - reach) * 8, 0.5),
        SPADE: half
        * np.where(reach > 0.55, np.maximum(0.35, 2.2 - 18 * (reach - 0.66) ** 2 * 8), 0.45),
    }
    outline = sum((d["needle"] == kind) * width for kind, width in outlines.items())
    ends = np.maximum(a - d["needle_length"], -d["tail"] - a)
    return _inside(np.maximum(b - outline, ends), soft)


def _lit(picture: Numbers, x: Numbers, y: Numbers, seen: Mapping[str, Numbers]) -> Numbers:
    towards = seen["slope_towards"]
    light = 1 + seen["slope"] * (np.cos(towards) * x + np.sin(towards) * y)
    picture = (picture * light * (1 - seen["dimmed"])).clip(0, 1) ** seen["gamma"]
    cos, sin = np.cos(seen["glare_towards"]), np.sin(seen["glare_towards"])
    gx, gy = x - seen["glare_x"], y - seen["glare_y"]
    far = ((cos * gx + sin * gy) / seen["glare_long"]) ** 2
    far = far + ((cos * gy - sin * gx) / seen["glare_wide"]) ** 2
    return picture + seen["glare"] * np.exp(-far)


def _blurred(picture: Numbers, sigma: Numbers) -> Numbers:
    """Gaussian blur, sigma in pixels, by the Fourier transform; the edges are mirrored away."""
    padded = np.pad(picture, ((0, 0), (6, 6), (6, 6)), mode="edge")
    rows = np.fft.fftfreq(padded.shape[1]).astype(np.float32)[:, None]
    columns = np.fft.rfftfreq(padded.shape[2]).astype(np.float32)[None, :]
    kernel = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    blurred = np.fft.irfft2(np.fft.rfft2(padded) * kernel, s=padded.shape[1:])
    return blurred[:, 6:-6, 6:-6].astype(np.float32)
