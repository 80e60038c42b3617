"""Buses, trucks and tractors: bodies on frames."""

from __future__ import annotations

import numpy as np

from app.data.drawing.geometry import Points, arc, bar, clip, disc, rounded
from app.data.drawing.solids import (
    CHROME,
    GLASS,
    LAMP,
    PLATE,
    RUBBER,
    TAIL_LAMP,
    TYRE,
    WHITE,
    Colour,
    Solid,
    Vehicle,
    Wheel,
    flat,
)

Rng = np.random.Generator

_AMBER = np.array([240.0, 170.0, 40.0])


def box(x0: float, x1: float, y0: float, y1: float, radius: float = 0.0) -> Points:
    """A rectangle with rounded corners, counter-clockwise."""
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return rounded([(*corner, radius) for corner in corners], 4 if radius else 2)


def _arches(body: Solid, wheels: list[Wheel], low: float) -> None:
    for wheel in wheels:
        arch = clip(disc(wheel.x, wheel.radius, wheel.radius * 1.17), 1, low - 0.02)
        body.side(arch, TYRE * 0.6)


def _pane(body: Solid, pane: Points, glass: Colour) -> None:
    body.side(pane, glass)
    middle = (pane[:, 1].min() + pane[:, 1].max()) / 2
    body.side(clip(pane, 1, low=middle), glass * 1.35 + 25, 0.5)


def bus(rng: Rng, paint: Colour) -> Vehicle:
    """A city bus or a coach."""
    length, height = rng.uniform(8.2, 11.5), rng.uniform(2.8, 3.3)
    low, sill = rng.uniform(0.28, 0.40), rng.uniform(1.15, 1.5)
    profile = rounded(
        [
            (0.0, low, 0.10),
            (length, low, 0.15),
            (length - rng.uniform(0.0, 0.25), height, rng.uniform(0.15, 0.5)),
            (rng.uniform(0.0, 0.12), height, 0.22),
        ]
    )
    body = Solid(profile, 1.25, paint, shoulder=height - 0.35, lean=0.06, taper=0.03)
    vehicle = Vehicle(length, height, 2.5, [body])
    wheel = rng.uniform(0.46, 0.52)
    vehicle.wheels = [
        Wheel(share * length, wheel, 1.22, CHROME * 0.8, 6, 0.3, 0.58)
        for share in (rng.uniform(0.20, 0.28), rng.uniform(0.72, 0.78))
    ]
    glass = GLASS * rng.uniform(0.5, 1.2)
    top = height - rng.uniform(0.35, 0.5)
    if rng.random() < 0.45:
        stripe = paint * 0.35 + (WHITE * 0.6 if paint.mean() < 140 else 0)
        body.side(clip(profile, 1, low + 0.35, low + rng.uniform(0.5, 0.8)), stripe)
    body.side(clip(profile, 1, high=low + 0.12), RUBBER)
    door = rng.uniform(0.9, 1.2)
    doors = [length - 0.35 - door]
    if rng.random() < 0.6:
        doors.append(length * rng.uniform(0.42, 0.52))
    start = 0.3
    panes = int(rng.integers(5, 8))
    step = (doors[0] - 0.15 - start) / panes
    for i in range(panes):
        _pane(
            body,
            box(start + i * step + 0.05, start + (i + 1) * step - 0.05, sill, top, 0.08),
            glass,
        )
    for x in doors:
        body.side(box(x, x + door, low + 0.12, top + 0.05, 0.04), paint * 0.5)
        for leaf in (0, 1):
            left = x + 0.05 + leaf * door / 2
            _pane(body, box(left, left + door / 2 - 0.1, low + 0.3, top, 0.04), glass)
    _arches(body, vehicle.wheels, low)
    body.end(True, (-0.92, 0.92), (sill - 0.25, height - 0.45), glass)
    body.end(True, (-0.7, 0.7), (height - 0.40, height - 0.18), RUBBER * 0.6)
    body.end(True, (-0.55, 0.55), (height - 0.35, height - 0.24), _AMBER)
    body.end(False, (-0.8, 0.8), (sill + 0.1, height - 0.55), glass)
    for side in (-1, 1):
        body.end(True, (side * 0.62, side * 0.95), (low + 0.30, low + 0.50), LAMP)
        body.end(False, (side * 0.78, side * 0.97), (low + 0.40, low + 0.80), TAIL_LAMP)
    body.end(True, (-0.25, 0.25), (low + 0.15, low + 0.27), PLATE)
    body.end(False, (-0.25, 0.25), (low + 0.5, low + 0.62), PLATE)
    mirror = box(length + 0.05, length + 0.28, height - 1.0, height - 0.5, 0.06)
    vehicle.before.append(flat(mirror, 1.3, RUBBER))
    return vehicle


_LOADS = ("box", "box", "tarpaulin", "flatbed", "tipper")


def truck(rng: Rng, paint: Colour) -> Vehicle:
    """A cab, and behind it a box, a tarpaulin, a flat bed or a tipper."""
    length, cab_height = rng.uniform(5.8, 8.6), rng.uniform(2.3, 2.9)
    low, cab = rng.uniform(0.42, 0.55), rng.uniform(1.6, 2.0)
    wheel = rng.uniform(0.42, 0.52)
    back = length - cab
    slope = rng.uniform(0.05, 0.35)
    profile = rounded(
        [
            (back, low, 0.05),
            (length, low, 0.12),
            (length, low + 1.0, 0.15),
            (length - slope, cab_height, 0.25),
            (back + 0.05, cab_height, 0.12),
        ]
    )
    front = Solid(profile, 1.15, paint, shoulder=low + 1.0, lean=0.06, taper=0.05)
    load = _load(str(rng.choice(_LOADS)), rng, back - 0.18, low + 0.45, paint)
    height = max(cab_height, load.top)
    frame = Solid(box(0.05, length - 0.4, low + 0.12, low + 0.4), 0.8, RUBBER, low + 0.4, gloss=0)
    vehicle = Vehicle(length, height, 2.3, [load, front])
    vehicle.behind = [flat(frame.profile, z, RUBBER) for z in (-0.8, 0.8)]
    rear_axle = back * rng.uniform(0.22, 0.32)
    axles = [rear_axle, length - cab * rng.uniform(0.45, 0.6)]
    if length > 7.4 and rng.random() < 0.6:
        axles.insert(1, rear_axle + 2.3 * wheel)
    vehicle.wheels = [Wheel(x, wheel, 1.12, CHROME * 0.7, 6, 0.35, 0.56) for x in axles]
    glass = GLASS * rng.uniform(0.5, 1.1)
    sill, top = low + 1.0, cab_height - 0.3
    window = clip(profile, 1, sill, top)
    _pane(front, clip(window, 0, back + 0.45, length - 0.25), glass)
    front.side(clip(profile, 1, high=low + 0.25), RUBBER)
    for x in (back + 0.35, length - 0.2):
        front.side(bar((x, low + 0.25), (x, top + 0.1), 0.03), paint * 0.45, 0.8)
    front.side(bar((back + 0.45, sill - 0.2), (back + 0.65, sill - 0.2), 0.05), RUBBER)
    _arches(front, vehicle.wheels[-1:], low)
    front.end(True, (-0.92, 0.92), (sill, cab_height - 0.25), glass)
    front.end(True, (-0.6, 0.6), (low + 0.40, low + 0.85), RUBBER)
    for side in (-1, 1):
        front.end(True, (side * 0.6, side * 0.95), (low + 0.18, low + 0.36), LAMP)
    front.end(True, (-0.25, 0.25), (low + 0.08, low + 0.2), PLATE)
    mirror = box(length - 0.05, length + 0.15, sill + 0.1, sill + 0.7, 0.05)
    vehicle.before.append(flat(mirror, 1.28, RUBBER))
    return vehicle


def _load(kind: str, rng: Rng, end: float, floor: float, paint: Colour) -> Solid:
    grey = np.array([205.0, 207.0, 208.0]) * rng.uniform(0.7, 1.15)
    shade = grey if rng.random() < 0.65 else rng.uniform(40, 220, 3)
    if rng.random() < 0.2:
        shade = paint
    top = floor + rng.uniform(1.7, 2.3)
    if kind in ("box", "tarpaulin"):
        body = Solid(box(0, end, floor, top, 0.06), 1.2, shade, top - 0.15, gloss=0.1)
        ribs = 1 if kind == "box" else int(rng.integers(4, 7))
        for x in np.linspace(0, end, ribs + 1)[1:-1]:
            body.side(bar((x, floor), (x, top - 0.1), 0.05), shade * 0.75, 0.7)
        if kind == "box" and rng.random() < 0.5:
            logo = rng.uniform(30, 220, 3)
            middle = (floor + top) / 2
            body.side(box(end * 0.2, end * 0.75, middle - 0.25, middle + 0.25, 0.2), logo, 0.85)
        body.side(bar((0, floor + 0.06), (end, floor + 0.06), 0.1), shade * 0.55)
        body.end(False, (-0.02, 0.02), (floor, top - 0.1), shade * 0.5)
    elif kind == "flatbed":
        top = floor + rng.uniform(0.35, 0.6)
        wood = np.array([150.0, 118.0, 78.0])
        body = Solid(
            box(0, end, floor, top), 1.2, wood if rng.random() < 0.5 else shade, top, gloss=0
        )
        body.above(0.1, end - 0.1, 0.08, RUBBER)
        for x in np.linspace(0, end, 4)[1:-1]:
            body.side(bar((x, floor), (x, top), 0.06), RUBBER)
    else:
        top = floor + rng.uniform(0.9, 1.3)
        tipper = rounded(
            [(0.35, floor, 0.1), (end, floor, 0.05), (end, top + 0.15, 0.05), (0, top, 0.1)]
        )
        body = Solid(tipper, 1.2, shade, top, gloss=0.1)
        body.above(0.15, end - 0.15, 0.08, np.array([112.0, 92.0, 70.0]))
        for x in np.linspace(0.3, end, 5)[1:-1]:
            body.side(bar((x, floor + 0.05), (x, top - 0.02), 0.08), shade * 0.7)
    body.end(False, (-0.9, -0.7), (floor + 0.05, floor + 0.2), TAIL_LAMP)
    body.end(False, (0.7, 0.9), (floor + 0.05, floor + 0.2), TAIL_LAMP)
    return body


def tractor(rng: Rng, paint: Colour) -> Vehicle:
    """A farm tractor: a hood between small wheels, a cab of glass between large ones."""
    length, height = rng.uniform(3.4, 4.1), rng.uniform(2.5, 2.9)
    large, small = rng.uniform(0.72, 0.92), rng.uniform(0.40, 0.56)
    hood_top, hood_low = rng.uniform(1.45, 1.7), 0.75
    cab_front, cab_back = length * rng.uniform(0.48, 0.54), 0.25
    hood = Solid(
        rounded(
            [
                (cab_front - 0.2, hood_low, 0.05),
                (length - 0.25, hood_low, 0.08),
                (length - 0.15, hood_top - 0.2, 0.2),
                (cab_front - 0.2, hood_top, 0.2),
            ]
        ),
        half_width=0.42,
        paint=paint,
        shoulder=hood_top - 0.1,
        lean=0.15,
    )
    slats = RUBBER if rng.random() < 0.7 else paint * 0.5
    for x in np.linspace(cab_front + 0.15, length - 0.45, 4):
        hood.side(bar((x, hood_low + 0.3), (x + 0.12, hood_low + 0.3), 0.28), slats)
    hood.end(True, (-0.7, 0.7), (hood_low + 0.1, hood_top - 0.25), RUBBER)
    hood.end(True, (-0.8, 0.8), (hood_top - 0.33, hood_top - 0.22), LAMP)
    vehicle = Vehicle(length, height, 2.0)
    open_station = rng.random() < 0.3
    glass = GLASS * rng.uniform(0.8, 1.5) + 20
    if open_station:
        seat = Solid(box(0.5, 0.95, 1.0, 1.6, 0.12), 0.28, RUBBER, 1.5, gloss=0)
        vehicle.solids = [seat, hood]
        for x in (0.4, 0.5):
            vehicle.before.append(flat(bar((x, 1.0), (x, height - 0.15), 0.07), 0.5, RUBBER))
        vehicle.behind.append(flat(bar((0.4, 1.0), (0.4, height - 0.15), 0.07), -0.5, RUBBER))
        wheel = bar((cab_front - 0.45, 1.85), (cab_front - 0.25, 1.62), 0.06)
        vehicle.before.append(flat(wheel, 0.0, TYRE))
        vehicle.height = height - 0.1
    else:
        cab = Solid(
            rounded(
                [
                    (cab_back + 0.1, 1.0, 0.05),
                    (cab_front, 0.9, 0.05),
                    (cab_front - 0.12, height - 0.18, 0.02),
                    (cab_back + 0.15, height - 0.18, 0.02),
                ]
            ),
            half_width=0.72,
            paint=paint,
            shoulder=1.2,
            lean=0.06,
        )
        _pane(cab, box(cab_back + 0.28, cab_front - 0.22, 1.32, height - 0.32, 0.05), glass)
        cab.end(True, (-0.88, 0.88), (hood_top - 0.05, height - 0.3), glass)
        cab.end(False, (-0.88, 0.88), (1.5, height - 0.3), glass)
        x = cab_back + (cab_front - cab_back) * 0.55
        cab.side(bar((x, 1.32), (x, height - 0.3), 0.06), paint * 0.5)
        roof = Solid(
            box(cab_back, cab_front + 0.05, height - 0.2, height, 0.08),
            half_width=0.82,
            paint=paint if rng.random() < 0.6 else WHITE * 0.85,
            shoulder=height - 0.05,
        )
        vehicle.solids = [cab, roof, hood]
    rim = np.array([225.0, 190.0, 50.0]) if rng.random() < 0.4 else paint * 0.9
    vehicle.wheels = [
        Wheel(length - small - 0.1, small, 0.85, rim, 6, 0.3, 0.55),
        Wheel(large * 0.95, large, 1.0, rim, 8, 0.45, 0.55),
    ]
    fender = arc(large * 0.95, large, large * 1.16, large * 0.9, 0.35, 2.7)
    vehicle.before.append(flat(fender, 0.78, paint * 0.85))
    axle = box(large, length - 0.3, 0.55, 0.85)
    vehicle.behind += [flat(axle, z, RUBBER) for z in (-0.3, 0.3)]
    x = cab_front + rng.uniform(0.15, 0.5)
    vehicle.before.append(flat(bar((x, hood_top - 0.1), (x, hood_top + 0.75), 0.09), 0.25, RUBBER))
    return vehicle
