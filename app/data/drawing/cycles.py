"""Motorcycles and bicycles, some with a rider: strokes in the plane of the wheels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from app.data.drawing.geometry import arc, bar, disc, limb, ring, rounded, shift
from app.data.drawing.solids import (
    CHROME,
    LAMP,
    RUBBER,
    TAIL_LAMP,
    TYRE,
    Colour,
    Face,
    Vehicle,
    flat,
)

Rng = np.random.Generator

_SKIN = np.array([[240.0, 200.0, 170.0], [198.0, 150.0, 115.0], [120.0, 82.0, 60.0]])


def _hoop(
    x: float, radius: float, tyre: float, rim: Colour, spokes: int, turn: float
) -> list[Face]:
    """A wheel with thin spokes."""
    faces = [flat(ring(x, radius, radius, radius - tyre), z, TYRE) for z in (-0.04, 0.0, 0.04)]
    faces.append(flat(ring(x, radius, radius - tyre, radius - 1.45 * tyre), 0.04, rim))
    inner = radius - 1.3 * tyre
    for angle in turn + np.arange(spokes) * np.pi / spokes:
        along = inner * np.array([np.cos(angle), np.sin(angle)])
        centre = np.array([x, radius])
        faces.append(flat(bar(centre - along, centre + along, 0.016), 0.0, rim * 0.9, 0.75))
    faces.append(flat(disc(x, radius, 0.05, 10), 0.05, rim * 0.7))
    return faces


def bicycle(rng: Rng, paint: Colour) -> Vehicle:
    """A diamond or a low frame, in paint."""
    wheel = rng.uniform(0.33, 0.36)
    base = rng.uniform(0.98, 1.12)
    rear, front = np.array([wheel, wheel]), np.array([wheel + base, wheel])
    crank = np.array([rear[0] + 0.44, wheel - 0.05])
    seat = shift(crank, -0.17, rng.uniform(0.50, 0.60))
    head = shift(front, -0.20 - 0.06, rng.uniform(0.50, 0.58))
    head_low = shift(head, 0.05, -0.16)
    tube = rng.uniform(0.045, 0.075)
    vehicle = Vehicle(2 * wheel + base, 1.1, 0.5)
    turn = rng.uniform(0, 1)
    faces = _hoop(rear[0], wheel, 0.035, CHROME * 0.8, 7, turn)
    faces += _hoop(front[0], wheel, 0.035, CHROME * 0.8, 7, turn + 0.3)

    low_frame = rng.random() < 0.35
    top_end = shift(crank, -0.07, 0.25) if low_frame else shift(seat, 0.015, -0.06)
    strokes: list[tuple[ArrayLike, ArrayLike]] = [
        (rear, crank),
        (rear, shift(seat, 0.01, -0.08)),
        (crank, seat),
        (crank, head_low),
        (top_end, shift(head, 0.0, -0.05)),
        (head, head_low),
        (head_low, front),
    ]
    for start, end in strokes:
        faces.append(flat(limb(start, end, tube), 0.0, paint * 0.85))
        faces.append(
            flat(shift(limb(start, end, tube * 0.4), 0, 0.01), 0.01, paint * 1.1 + 12, 0.9)
        )
    faces.append(flat(limb(seat, shift(seat, -0.03, 0.10), 0.03), 0.0, CHROME))
    saddle = shift(seat, -0.03, 0.12)
    faces.append(flat(limb(shift(saddle, -0.12, 0), shift(saddle, 0.14, -0.01), 0.06), 0.0, RUBBER))
    grip = shift(head, 0.02, 0.14)
    faces.append(flat(limb(head, grip, 0.035), 0.0, CHROME * 0.9))
    for z in (-0.25, 0.25):
        across = np.array([[*grip, 0.0], [*grip, z], [*(shift(grip, -0.12, 0.0)), z * 1.05]])
        thick = np.concatenate([across, shift(across[::-1], 0, 0.035, 0)])
        faces.append(Face(thick, RUBBER))
    faces.append(flat(ring(crank[0], crank[1], 0.10, 0.06, 16), 0.03, CHROME * 0.6))
    pedal = crank + 0.17 * np.array([np.sin(turn * 6), -np.cos(turn * 6)])
    faces.append(flat(limb(crank, pedal, 0.03), 0.05, CHROME * 0.7))
    if rng.random() < 0.4:
        for x in (rear[0], front[0]):
            faces.append(flat(arc(x, wheel, wheel + 0.05, wheel + 0.01, 0.3, 3.0), 0, paint * 0.7))
    if rng.random() < 0.25:
        basket = head + np.array([(0.02, 0.12), (0.32, 0.14), (0.28, -0.10), (0.06, -0.10)])
        faces.append(flat(basket, 0.0, np.array([150.0, 112.0, 70.0])))
    if rng.random() < 0.45:
        faces += _rider(rng, shift(saddle, 0.0, 0.05), grip, pedal, lean=rng.uniform(0.25, 0.55))
        vehicle.height = 1.85
    vehicle.before = faces
    return vehicle


def motorcycle(rng: Rng, paint: Colour) -> Vehicle:
    """A naked bike, a sports bike or a scooter by the shape of its fairing."""
    wheel = rng.uniform(0.30, 0.34)
    base = rng.uniform(1.30, 1.52)
    rear, front = np.array([wheel, wheel]), np.array([wheel + base, wheel])
    vehicle = Vehicle(2 * wheel + base, 1.2, 0.7)
    turn = rng.uniform(0, 1)
    rim = CHROME * rng.uniform(0.4, 1.0)
    faces = _hoop(rear[0], wheel, 0.10, rim, 3, turn) + _hoop(front[0], wheel, 0.09, rim, 3, turn)
    head = np.array([front[0] - 0.38, 0.92])
    faces.append(flat(limb(front, head, 0.07), 0.06, CHROME * 0.75))
    faces.append(flat(limb(rear, (rear[0] + 0.5, 0.45), 0.08), 0.05, RUBBER))
    x = rear[0]
    engine = rounded(
        [
            (x + 0.38, 0.22, 0.05),
            (x + 0.95, 0.24, 0.08),
            (x + 1.0, 0.62, 0.08),
            (x + 0.40, 0.66, 0.05),
        ]
    )
    for z in (-0.14, 0.14):
        faces.append(flat(engine, z, CHROME * 0.38))
    for y in np.linspace(0.34, 0.56, 4):
        faces.append(flat(bar((x + 0.58, y), (x + 0.92, y), 0.02), 0.15, CHROME * 0.75))
    exhaust = limb((x + 0.9, 0.26), (x - rng.uniform(0.0, 0.25), rng.uniform(0.28, 0.42)), 0.11)
    faces.append(flat(exhaust, 0.18, CHROME))
    seat_y = rng.uniform(0.74, 0.82)
    tail = rounded(
        [
            (x + 0.45, 0.62, 0.05),
            (x + 0.5, seat_y, 0.05),
            (x - 0.28, seat_y + 0.12, 0.04),
            (x - 0.22, seat_y - 0.02, 0.05),
        ]
    )
    tank = rounded(
        [
            (x + 0.48, 0.64, 0.06),
            (x + 1.02, 0.66, 0.1),
            (x + 1.08, 0.92, 0.12),
            (x + 0.85, 1.02, 0.15),
            (x + 0.52, 0.84, 0.12),
        ]
    )
    style = rng.integers(3)
    for z, shade in ((-0.13, 0.6), (0.0, 0.75), (0.13, 1.0)):
        faces.append(flat(tail, z * 0.7, paint * shade * 0.92))
        faces.append(flat(tank, z, paint * shade))
        if style == 1:
            fairing = rounded(
                [
                    (x + 0.60, 0.28, 0.1),
                    (x + 1.08, 0.36, 0.1),
                    (x + 1.22, 0.80, 0.15),
                    (x + 1.30, 1.02, 0.1),
                    (x + 1.02, 1.12, 0.1),
                    (x + 0.92, 0.72, 0.2),
                ]
            )
            faces.append(flat(fairing, z * 1.3, paint * shade * 0.96))
        elif style == 2:
            shield = rounded(
                [
                    (x + 0.42, 0.24, 0.1),
                    (x + 0.95, 0.24, 0.15),
                    (x + 1.15, 0.95, 0.12),
                    (x + 1.02, 1.0, 0.05),
                    (x + 0.86, 0.42, 0.12),
                    (x + 0.5, 0.60, 0.12),
                ]
            )
            faces.append(flat(shield, z * 1.3, paint * shade * 0.96))
    faces.append(flat(tank * (0.7, 0.3) + (0.3 * (x + 0.75), 0.64), 0.14, paint * 1.2 + 25, 0.5))
    faces.append(flat(limb((x - 0.1, seat_y + 0.09), (x + 0.55, seat_y + 0.04), 0.12), 0.1, RUBBER))
    guard = arc(front[0], wheel, wheel + 0.06, wheel - 0.03, 0.5, 2.4)
    faces.append(flat(guard, 0.06, paint * 0.9))
    grip = shift(head, -0.08, 0.18)
    for z in (-0.34, 0.34):
        bar_3d = np.array([[*head, 0.0], [*grip, z], [*(shift(grip, -0.1, 0)), z]])
        faces.append(Face(np.concatenate([bar_3d, shift(bar_3d[::-1], 0, 0.04, 0)]), RUBBER))
    faces.append(flat(disc(head[0] + 0.16, head[1] - 0.02, 0.09, 14), 0.08, LAMP))
    faces.append(flat(disc(x - 0.25, seat_y + 0.05, 0.04, 8), 0.08, TAIL_LAMP))
    if rng.random() < 0.4:
        foot = np.array([x + 0.5, 0.34])
        faces += _rider(
            rng, np.array([x + 0.3, seat_y + 0.16]), grip, foot, rng.uniform(0.3, 0.7), True
        )
        vehicle.height = 1.65
    vehicle.before = faces
    return vehicle


def _rider(
    rng: Rng, hip: ArrayLike, grip: ArrayLike, foot: ArrayLike, lean: float, helmet: bool = False
) -> list[Face]:
    """Trunk, head, and the limbs of the side that is seen."""
    hip, grip, foot = (np.asarray(point, float) for point in (hip, grip, foot))
    shirt, trousers = rng.uniform(30, 220, 3), rng.uniform(25, 110, 3)
    skin = _SKIN[rng.integers(3)]
    neck = hip + 0.52 * np.array([np.sin(lean), np.cos(lean)])
    knee = shift((hip + foot) / 2, 0.22, 0.06)
    elbow = shift((neck + grip) / 2, -0.04, -0.10)
    skull = neck + 0.19 * np.array([np.sin(lean * 0.6), np.cos(lean * 0.6)])
    faces = [
        flat(limb(hip, knee, 0.15), -0.12, trousers * 0.7),
        flat(limb(knee, shift(foot, 0.02, 0.1), 0.11), -0.12, trousers * 0.7),
        flat(limb(hip, neck, 0.26), 0.0, shirt * 0.9),
        flat(limb(shift(hip, 0.02, 0), knee, 0.16), 0.12, trousers),
        flat(limb(knee, foot, 0.11), 0.12, trousers * 0.92),
        flat(limb(foot, shift(foot, 0.14, -0.01), 0.07), 0.12, RUBBER),
        flat(disc(skull[0], skull[1], 0.115, 18), 0.0, skin),
    ]
    cap = rng.uniform(30, 230, 3) if helmet or rng.random() < 0.6 else skin * 0.35
    faces.append(
        flat(
            _upper(disc(skull[0], skull[1], 0.13, 24), skull[1] - (0.1 if helmet else 0.0)),
            0.01,
            cap,
        )
    )
    if helmet:
        visor = limb(shift(skull, 0.03, 0.01), shift(skull, 0.12, 0.01), 0.07)
        faces.append(flat(visor, 0.02, RUBBER))
    faces.append(flat(limb(neck, elbow, 0.11), 0.2, shirt))
    faces.append(flat(limb(elbow, grip, 0.08), 0.22, shirt * 1.1 if helmet else skin))
    return faces


def _upper(polygon: np.ndarray, level: float) -> np.ndarray:
    return np.column_stack([polygon[:, 0], np.maximum(polygon[:, 1], level)])
