"""Where a vehicle stands, what stands before it, and the light and the weather of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from app.data.drawing.geometry import Camera, limb

Rng = np.random.Generator
Rgb = tuple[int, int, int]

#: Sky from its top to the horizon, and the brightness of what it lights.
_SKIES: dict[str, tuple[tuple[Rgb, Rgb], float]] = {
    "clear": (((96, 150, 210), (205, 225, 240)), 1.0),
    "clouded": (((150, 160, 172), (212, 216, 220)), 0.9),
    "dawn": (((120, 130, 170), (246, 205, 165)), 0.85),
    "dusk": (((62, 66, 110), (226, 140, 110)), 0.68),
    "night": (((12, 16, 34), (48, 54, 80)), 0.48),
}
_SKY_SHARES = (0.36, 0.26, 0.14, 0.13, 0.11)

_GROUNDS = {
    "meadow": (104, 134, 72),
    "sand": (206, 184, 140),
    "snow": (226, 231, 238),
    "paving": (158, 156, 152),
    "earth": (132, 106, 80),
    "asphalt": (104, 106, 110),
}
_SURROUNDS = ("town", "town", "hills", "wood", "wall", "plain")

#: What may stand before the vehicle.
_OBSTACLES = ("post", "trunk", "bush", "fence", "person")


@dataclass(frozen=True)
class Scene:
    """What was drawn for one picture: where it stands, and how bright it is there.

    Attributes:
        sky: a name in ``_SKIES``.
        light: brightness that everything is seen in, 0..1.
        surround: what stands at the horizon.
        ground: its colour.
    """

    sky: str
    light: float
    surround: str
    ground: Rgb

    @classmethod
    def draw(cls, rng: Rng) -> Scene:
        """Draw one at random."""
        sky = str(rng.choice(list(_SKIES), p=_SKY_SHARES))
        ground = _GROUNDS[str(rng.choice(list(_GROUNDS)))]
        return cls(sky, _SKIES[sky][1], str(rng.choice(_SURROUNDS)), ground)

    def backdrop(
        self, rng: Rng, size: int, camera: Camera, footprint: tuple[float, float]
    ) -> Image.Image:
        """The picture behind the vehicle (size, size), a little out of focus.

        Args:
            rng: draws what is seen.
            size: of the picture in pixels.
            camera: in the same pixels.
            footprint: length and width of the vehicle, for its shadow, in metres.
        """
        size, camera = size // 2, camera.scaled(0.5)
        horizon = float(np.clip(camera.horizon(), -size, 0.8 * size))
        picture = _sky(_SKIES[self.sky][0], size, horizon)
        draw = ImageDraw.Draw(picture, "RGBA")
        if horizon > 4:
            _SURROUND[self.surround](draw, rng, size, horizon, self.light)
        self._ground(draw, rng, size, camera, horizon, footprint[0])
        _shadow(draw, camera, *footprint, strength=0.25 + 0.3 * self.light)
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.7, 1.3)))
        return picture.resize((2 * size, 2 * size), Image.Resampling.BILINEAR)

    def _ground(
        self,
        draw: ImageDraw.ImageDraw,
        rng: Rng,
        size: int,
        camera: Camera,
        horizon: float,
        length: float,
    ) -> None:
        land = _lit(self.ground, 0.55 + 0.45 * self.light)
        draw.rectangle((0, max(horizon, 0), size, size), land)
        reach = 12 * length
        near, far = rng.uniform(0.45, 0.8) * length, -rng.uniform(0.35, 0.6) * length
        road = _lit((96, 98, 104), (0.55 + 0.45 * self.light) * rng.uniform(0.7, 1.2))
        kerb = _lit((176, 174, 168), 0.55 + 0.45 * self.light)
        kind = rng.integers(3)

        def strip(z0: float, z1: float, paint: Rgb, x0: float = -reach, x1: float = reach) -> None:
            corners = camera.ground([(x0, z0), (x1, z0), (x1, z1), (x0, z1)])
            if len(corners) > 2:
                draw.polygon(corners.ravel().tolist(), paint)

        if kind == 2:  # A car park: bays to both sides of the vehicle.
            strip(-reach, reach, road)
            for i in range(-2, 4):
                x = (i + 0.5) * 1.25 * length - 0.15 * length
                strip(
                    -0.6 * length,
                    0.5 * length,
                    _lit((228, 228, 222), self.light),
                    x,
                    x + 0.025 * length,
                )
            return
        strip(far - 0.06 * length, near + 0.06 * length, kerb)
        strip(far, near, road)
        if kind == 0:
            middle = far + 0.12 * length
            for i in range(-3, 3):
                x = i * 0.9 * length
                strip(
                    middle,
                    middle - 0.03 * length,
                    _lit((232, 230, 220), self.light),
                    x,
                    x + 0.45 * length,
                )

    def occlude(self, draw: ImageDraw.ImageDraw, rng: Rng, size: int) -> str:
        """Put one of ``_OBSTACLES`` before the vehicle, and say which."""
        kind = _OBSTACLES[rng.integers(len(_OBSTACLES))]
        x = rng.uniform(0.12, 0.88) * size
        if kind == "post":
            width = rng.uniform(0.012, 0.03) * size
            _column(draw, x, width, size, _lit((120, 122, 126), self.light * rng.uniform(0.5, 1.2)))
        elif kind == "trunk":
            width = rng.uniform(0.03, 0.075) * size
            _column(draw, x, width, size, _lit((98, 76, 56), self.light))
        elif kind == "bush":
            leaf = _lit((62, 98, 48), self.light * rng.uniform(0.7, 1.3))
            _bush(draw, rng, x, size, rng.uniform(0.10, 0.22) * size, leaf)
        elif kind == "fence":
            top = rng.uniform(0.68, 0.80) * size
            rail = _lit((188, 186, 180), self.light * rng.uniform(0.6, 1.2))
            for y in (top, top + 0.09 * size):
                draw.rectangle((0, y, size, y + 0.018 * size), rail)
            for post in np.arange(rng.uniform(0, 0.12), 1, 0.13) * size:
                draw.rectangle((post, top - 0.02 * size, post + 0.018 * size, size), rail)
        else:
            _passer_by(draw, rng, x, size, self.light)
        return kind

    def weather(self, draw: ImageDraw.ImageDraw, rng: Rng, size: int) -> None:
        """Streaks of rain, or flakes of snow."""
        drops = rng.uniform(0, size, (70, 2))
        if self.ground == _GROUNDS["snow"]:
            for x, y in drops.tolist():
                radius = 1.0 + (x * 7 + y) % 2.5
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), (255, 255, 255, 170))
            return
        slant, fall = rng.uniform(-6, 6), rng.uniform(14, 30)
        for x, y in drops.tolist():
            draw.line((x, y, x + slant, y + fall), (225, 232, 240, 90), 2)


def _lit(colour: Rgb, light: float) -> Rgb:
    red, green, blue = (min(int(channel * light), 255) for channel in colour)
    return red, green, blue


def _sky(ends: tuple[Rgb, Rgb], size: int, horizon: float) -> Image.Image:
    share = np.clip(np.arange(size) / max(horizon, 1), 0, 1)[:, None]
    rows = (1 - share) * np.array(ends[0]) + share * np.array(ends[1])
    column = Image.fromarray(rows.astype(np.uint8)[:, None])
    return column.resize((size, size), Image.Resampling.NEAREST)


def _shadow(
    draw: ImageDraw.ImageDraw, camera: Camera, length: float, width: float, strength: float
) -> None:
    half = width / 2
    for grow, share in ((0.30, 0.35), (0.12, 0.45), (0.0, 0.5)):
        x0, x1 = -grow * half, length + 1.4 * grow * half
        z0, z1 = -half * (1 + grow), half * (1 + 0.6 * grow)
        cut = 0.12 * length
        corners = [(x0 + cut, z0), (x1 - cut, z0), (x1, z0 + cut / 2), (x1, z1 - cut / 2)]
        corners += [(x1 - cut, z1), (x0 + cut, z1), (x0, z1 - cut / 2), (x0, z0 + cut / 2)]
        draw.polygon(
            camera.ground(corners).ravel().tolist(), (8, 10, 16, int(255 * strength * share))
        )


def _tinted(rng: Rng, low: float, high: float) -> Rgb:
    """The colour of a wall: grey, leaning towards brick or sandstone."""
    red, green, blue = rng.uniform(low, high) * (
        1 + rng.uniform(0, 1) * np.array([0.16, -0.02, -0.16])
    )
    return int(red), int(green), int(blue)


# What stands at the horizon


def _town(draw: ImageDraw.ImageDraw, rng: Rng, size: int, horizon: float, light: float) -> None:
    x = -rng.uniform(0, 0.2) * size
    while x < size:
        width = rng.uniform(0.12, 0.3) * size
        top = horizon - rng.uniform(0.12, 0.6) * size
        wall = _lit(_tinted(rng, 110, 215), light)
        draw.rectangle((x, top, x + width, horizon + 2), wall)
        dark = rng.random() < 0.5 + 0.4 * light
        pane = _lit((84, 98, 116), light) if dark else (244, 214, 140)
        step = rng.uniform(0.045, 0.07) * size
        for left in np.arange(x + step / 2, x + width - step * 0.7, step):
            for upper in np.arange(top + step / 2, horizon - step * 0.6, step):
                draw.rectangle((left, upper, left + step * 0.5, upper + step * 0.6), pane)
        x += width + rng.uniform(-0.01, 0.06) * size


def _hills(draw: ImageDraw.ImageDraw, rng: Rng, size: int, horizon: float, light: float) -> None:
    x = np.linspace(0, size, 24)
    for share, paint in ((0.26, (140, 160, 178)), (0.15, (110, 138, 112)), (0.07, (88, 118, 74))):
        wave = sum(
            rng.uniform(0.3, 1) * np.sin(x / size * rng.uniform(2, 9) + rng.uniform(0, 6))
            for _ in range(3)
        )
        y = horizon - share * size * (0.75 + 0.25 * wave)
        points = np.column_stack([x, y]).ravel().tolist()
        draw.polygon([*points, size, horizon + 2, 0, horizon + 2], _lit(paint, light))


def _wood(draw: ImageDraw.ImageDraw, rng: Rng, size: int, horizon: float, light: float) -> None:
    for layer in (0.75, 1.0):
        for x in np.arange(-0.05, 1.1, rng.uniform(0.07, 0.16)):
            left = (x + rng.uniform(-0.03, 0.03)) * size
            height, width = rng.uniform((0.18, 0.08), (0.42, 0.16)) * size
            leaf = _lit((66, 100, 52), light * layer * rng.uniform(0.75, 1.35))
            trunk = _lit((92, 72, 52), light)
            draw.rectangle((left - 2, horizon - height / 2, left + 2, horizon + 2), trunk)
            draw.ellipse(
                (left - width / 2, horizon - height, left + width / 2, horizon - height / 5), leaf
            )


def _wall(draw: ImageDraw.ImageDraw, rng: Rng, size: int, horizon: float, light: float) -> None:
    base = _tinted(rng, 110, 205)
    draw.rectangle((0, 0, size, horizon + 2), _lit(base, light))
    row = rng.uniform(0.04, 0.09) * size
    seam = _lit(base, light * rng.uniform(0.8, 0.92))
    for i, y in enumerate(np.arange(horizon, -row, -row)):
        draw.line((0, y, size, y), seam, 1)
        for x in np.arange((i % 2) * row, size, 2 * row):
            draw.line((x, y - row, x, y), seam, 1)


def _plain(draw: ImageDraw.ImageDraw, rng: Rng, size: int, horizon: float, light: float) -> None:
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.uniform(0, size), horizon * rng.uniform(0.1, 0.7)
        for _ in range(4):
            width, height = rng.uniform((0.1, 0.02), (0.3, 0.06)) * size
            shift = rng.uniform(-0.1, 0.1) * size
            cloud = (*_lit((250, 250, 250), 0.4 + 0.6 * light), 90)
            draw.ellipse(
                (x + shift - width / 2, y - height / 2, x + shift + width / 2, y + height), cloud
            )


_SURROUND = {"town": _town, "hills": _hills, "wood": _wood, "wall": _wall, "plain": _plain}


# What stands before the vehicle


def _column(draw: ImageDraw.ImageDraw, x: float, width: float, size: int, paint: Rgb) -> None:
    for share, light in ((1.0, 0.62), (0.62, 0.85), (0.28, 1.1)):
        draw.rectangle((x - width * share, 0, x + width * share * 0.8, size), _lit(paint, light))


def _bush(
    draw: ImageDraw.ImageDraw, rng: Rng, x: float, size: int, spread: float, leaf: Rgb
) -> None:
    for i in range(26):
        dx, dy = rng.normal(0, 0.55, 2) * spread
        radius = rng.uniform(0.10, 0.24) * spread
        centre_x, centre_y = x + dx, size - 0.2 * spread - abs(dy) * 0.8
        shade = _lit(leaf, 0.65 + 0.02 * i)
        draw.ellipse(
            (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), shade
        )


def _passer_by(draw: ImageDraw.ImageDraw, rng: Rng, x: float, size: int, light: float) -> None:
    tall = rng.uniform(0.42, 0.62) * size
    foot = size * rng.uniform(0.90, 1.02)
    coat, legs = (_lit(tuple(rng.uniform(30, 200, 3)), light) for _ in range(2))
    skin = _lit((214, 170, 138), light)

    def stroke(
        start: tuple[float, float], end: tuple[float, float], width: float, paint: Rgb
    ) -> None:
        points = limb(
            (x + start[0] * tall, foot - start[1] * tall),
            (x + end[0] * tall, foot - end[1] * tall),
            width * tall,
        )
        draw.polygon(points.ravel().tolist(), paint)

    stroke((-0.02, 0.48), (-0.09, 0.0), 0.085, legs)
    stroke((0.02, 0.48), (0.09, 0.02), 0.085, legs)
    stroke((0.0, 0.50), (0.0, 0.78), 0.19, coat)
    stroke((-0.09, 0.78), (-0.13, 0.50), 0.06, coat)
    stroke((0.09, 0.78), (0.14, 0.52), 0.06, coat)
    draw.ellipse((x - 0.06 * tall, foot - tall, x + 0.06 * tall, foot - 0.87 * tall), skin)


def develop(picture: Image.Image, rng: Rng, scene: Scene) -> Image.Image:
    """Turn a drawing into a photograph: exposure, colour cast, haze, focus and noise."""
    warmth, tint = rng.normal(0, 0.075), rng.normal(0, 0.03)
    exposure = rng.lognormal(0.06, 0.17)
    gain = exposure * np.array([1 + warmth, 1 + tint, 1 - warmth])
    haze = rng.beta(1.2, 9)
    veil = 205 * haze * scene.light
    levels = np.arange(256) / 255
    curve = levels ** rng.uniform(0.85, 1.2) * 255
    table = np.clip(curve[None] * gain[:, None] * (1 - haze) + veil, 0, 255)
    picture = picture.point(table.round().astype(int).ravel().tolist())
    if (blur := rng.gamma(1.5, 0.45)) > 0.5:
        picture = picture.filter(ImageFilter.BoxBlur(min(blur, 2.6)))
    strength = min(rng.gamma(2.0, 2.8), 12) * (1.3 if scene.sky == "night" else 1.0)
    grain = _grain(round(2 * strength))
    x, y = rng.integers(0, grain.width - max(picture.size), 2).tolist()
    piece = grain.crop((x, y, x + picture.width, y + picture.height))
    return ImageChops.add(picture, piece, offset=-128)


@cache
def _grain(strength: int) -> Image.Image:
    """Noise around 128 with a deviation of half of ``strength``.

    Every picture takes a piece of it, for drawing it anew takes as long as the rest.
    """
    noise = np.random.default_rng(strength).standard_normal((512, 512, 3), np.float32)
    return Image.fromarray((128.5 + noise * strength / 2).clip(0, 255).astype(np.uint8))
