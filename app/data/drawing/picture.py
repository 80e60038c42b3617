"""One picture of one vehicle: its paint, where it stands, and how it was photographed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from app.data.drawing.cars import BUILDS, car
from app.data.drawing.cycles import bicycle, motorcycle
from app.data.drawing.geometry import Camera
from app.data.drawing.heavy import bus, tractor, truck
from app.data.drawing.scenes import Scene, develop
from app.data.drawing.solids import Colour, Vehicle, paint_faces

Rng = np.random.Generator

#: Paints in hue (degrees), saturation and value, each drawn evenly between two bounds.
PAINTS = {
    "beige": ((34, 44), (0.20, 0.38), (0.70, 0.86)),
    "black": ((200, 260), (0.02, 0.20), (0.05, 0.16)),
    "blue": ((206, 236), (0.60, 0.92), (0.35, 0.80)),
    "brown": ((14, 30), (0.42, 0.70), (0.24, 0.46)),
    "green": ((92, 160), (0.42, 0.85), (0.26, 0.62)),
    "grey": ((190, 230), (0.01, 0.10), (0.32, 0.54)),
    "orange": ((17, 31), (0.82, 1.00), (0.82, 1.00)),
    "purple": ((264, 298), (0.40, 0.75), (0.30, 0.62)),
    "red": ((347, 368), (0.74, 0.96), (0.50, 0.88)),
    "silver": ((190, 230), (0.00, 0.07), (0.62, 0.77)),
    "white": ((30, 80), (0.00, 0.05), (0.88, 1.00)),
    "yellow": ((45, 56), (0.72, 0.98), (0.86, 1.00)),
}

DRAWN: dict[str, Callable[[Rng, Colour], Vehicle]] = {
    "bicycle": bicycle,
    "bus": bus,
    "motorcycle": motorcycle,
    "tractor": tractor,
    "truck": truck,
    **{kind: partial(car, kind) for kind in BUILDS},
}

#: What a picture is labelled by: see ``draw_picture``.
TASKS = ("colour", "type", "view", "obstacle", "background")

_SUPERSAMPLING = 2

#: An end that takes a smaller share of the vehicle's width is not seen by everybody, and what
#: stands behind, where the horizon is closer to the upper edge than this share of the picture.
_SEEN_END = 0.05
_SEEN_BACKGROUND = 0.15


class Drawing(NamedTuple):
    """A picture, and its class of every task: empty where the picture does not show it."""

    picture: Image.Image
    labels: dict[str, str]


def draw_picture(rng: Rng, colour: str, kind: str, size: int = 256) -> Drawing:
    """Draw a vehicle of a colour in ``PAINTS`` and a kind in ``DRAWN``, RGB (size, size).

    Beside colour and type, the labels are

    - ``view``: front or rear, the end that is seen, or side where neither is. A bicycle and a
      motorcycle are too thin to tell;
    - ``obstacle``: what stands before the vehicle, a post, a trunk, a bush, a fence, a person, or
      none;
    - ``background``: what stands behind it, a town, hills, a wood, a wall, or only the plain, where
      the camera does not look down on nothing but the ground.
    """
    scene = Scene.draw(rng)
    vehicle = DRAWN[kind](rng, _paint(rng, colour))
    camera = _camera(rng, vehicle, size)
    backdrop = scene.backdrop(rng, size, camera, (vehicle.length, vehicle.width))

    fine = size * _SUPERSAMPLING
    picture = backdrop.resize((fine, fine), Image.Resampling.NEAREST)
    opaque, draw = ImageDraw.Draw(picture), ImageDraw.Draw(picture, "RGBA")
    near = camera.scaled(_SUPERSAMPLING)
    light = scene.light * np.array([0.92, 0.97, 1.08]) ** (1 - scene.light)
    for points, rgba in paint_faces(vehicle.faces(near, rng.uniform(0, 2)), near, light):
        if rgba[3] == 255:  # Blending takes longer.
            opaque.polygon(points, rgba[:3])
        else:
            draw.polygon(points, rgba)
    obstacle = scene.occlude(draw, rng, fine) if rng.random() < 0.38 else "none"
    if rng.random() < 0.12:
        scene.weather(draw, rng, fine)
    picture = picture.reduce(_SUPERSAMPLING)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    labels = {
        "colour": colour,
        "type": kind,
        "view": _view(camera, vehicle) if vehicle.solids else "",
        "obstacle": obstacle,
        "background": scene.surround if camera.horizon() >= _SEEN_BACKGROUND * size else "",
    }
    return Drawing(develop(picture, rng, scene), labels)


def _view(camera: Camera, vehicle: Vehicle) -> str:
    """The end of the vehicle that is seen: where its far corner stands out beside the near one."""
    length, half = vehicle.length, vehicle.width / 2
    corners = [(length, 0, half), (length, 0, -half), (0, 0, half), (0, 0, -half)]
    x = camera.project(np.array(corners))[:, 0]
    smallest = _SEEN_END * np.ptp(x)
    if x[1] - x[0] > smallest:
        return "front"
    if x[2] - x[3] > smallest:
        return "rear"
    return "side"


def _paint(rng: Rng, colour: str) -> Colour:
    hue, saturation, value = (rng.uniform(*bounds) for bounds in PAINTS[colour])
    sector = (np.array([5.0, 3.0, 1.0]) + hue / 60) % 6
    return 255 * value * (1 - saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1))


def _camera(rng: Rng, vehicle: Vehicle, size: int) -> Camera:
    """Stands where the vehicle takes about half to all of the width, mostly looking at its side."""
    yaw = np.radians(np.clip(rng.normal(0, 26), -58, 58))
    pitch = np.radians(rng.uniform(2, 12))
    distance = vehicle.length * rng.uniform(2.2, 4.0)
    seen = vehicle.length * np.cos(yaw) + vehicle.width * abs(np.sin(yaw))
    wide = size * rng.uniform(0.45, 1.0) / seen
    high = 0.78 * size / vehicle.height
    return Camera(
        target=(vehicle.length / 2, vehicle.height / 2, 0),
        yaw=yaw,
        pitch=pitch,
        roll=np.radians(rng.normal(0, 2)),
        distance=distance,
        scale=min(wide, high),
        centre=(size * rng.normal(0.5, 0.035), size * rng.uniform(0.5, 0.62)),
    )
