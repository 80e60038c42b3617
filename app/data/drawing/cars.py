"""Cars: one body of hood, cabin and tail, whose lengths tell a sedan from a van."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from app.data.drawing.geometry import Points, bar, clip, disc, rounded, shift
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
    Face,
    Solid,
    Vehicle,
    Wheel,
    flat,
)

Rng = np.random.Generator
Range = tuple[float, float]


@dataclass(frozen=True)
class Build:
    """Ranges of one type; heights in metres, lengths along the car in shares of its length."""

    length: Range  # metres
    height: Range
    clearance: Range
    belt: Range  # lower edge of the windows
    nose: Range  # height of the front
    hood: Range
    windscreen: Range  # how far it slopes
    rear: Range  # how far the rear window slopes
    tail: Range  # boot, or bed
    wheel: Range  # radius, metres
    width: Range = (1.70, 1.86)  # metres
    lean: Range = (0.10, 0.20)
    doors: tuple[int, ...] = (2,)  # on the side that is seen; one is drawn from these
    panes: tuple[int, ...] = (2, 3)
    cladding: float = 0.1  # how often the sills are black


BUILDS = {
    "sedan": Build(
        length=(4.40, 4.95),
        height=(1.38, 1.50),
        clearance=(0.17, 0.22),
        belt=(0.90, 0.97),
        nose=(0.66, 0.76),
        hood=(0.23, 0.29),
        windscreen=(0.13, 0.18),
        rear=(0.11, 0.17),
        tail=(0.10, 0.17),
        wheel=(0.31, 0.35),
    ),
    "hatchback": Build(
        length=(3.60, 4.35),
        height=(1.42, 1.56),
        clearance=(0.17, 0.22),
        belt=(0.90, 0.98),
        nose=(0.68, 0.80),
        hood=(0.19, 0.25),
        windscreen=(0.14, 0.19),
        rear=(0.06, 0.13),
        tail=(0.010, 0.035),
        wheel=(0.29, 0.34),
        doors=(1, 2),
    ),
    "suv": Build(
        length=(4.20, 4.90),
        height=(1.60, 1.86),
        clearance=(0.24, 0.32),
        belt=(1.06, 1.18),
        nose=(0.88, 1.02),
        hood=(0.21, 0.27),
        windscreen=(0.10, 0.15),
        rear=(0.03, 0.09),
        tail=(0.01, 0.03),
        wheel=(0.36, 0.42),
        panes=(3,),
        cladding=0.7,
    ),
    "coupe": Build(
        length=(4.10, 4.65),
        height=(1.17, 1.32),
        clearance=(0.11, 0.15),
        belt=(0.80, 0.88),
        nose=(0.52, 0.64),
        hood=(0.26, 0.34),
        windscreen=(0.16, 0.22),
        rear=(0.18, 0.28),
        tail=(0.04, 0.10),
        wheel=(0.32, 0.36),
        doors=(1,),
        panes=(2,),
    ),
    "van": Build(
        length=(4.50, 5.70),
        height=(1.90, 2.45),
        clearance=(0.18, 0.26),
        belt=(1.10, 1.30),
        nose=(0.85, 1.05),
        hood=(0.07, 0.13),
        windscreen=(0.10, 0.17),
        rear=(0.01, 0.04),
        tail=(0.0, 0.01),
        wheel=(0.31, 0.36),
        width=(1.85, 2.05),
        lean=(0.02, 0.07),
        doors=(1, 2),
        panes=(1, 3, 3),
        cladding=0.3,
    ),
    "pickup": Build(
        length=(5.00, 5.60),
        height=(1.70, 1.90),
        clearance=(0.28, 0.38),
        belt=(1.08, 1.20),
        nose=(0.92, 1.08),
        hood=(0.21, 0.26),
        windscreen=(0.09, 0.13),
        rear=(0.01, 0.05),
        tail=(0.27, 0.37),
        wheel=(0.37, 0.43),
        width=(1.85, 2.00),
        doors=(1, 2, 2),
        panes=(2,),
        cladding=0.4,
    ),
}


def car(kind: str, rng: Rng, paint: Colour) -> Vehicle:
    """Draw the lengths of one car of the type, and put it together."""
    return _Car(kind, rng, paint).vehicle


class _Car:
    def __init__(self, kind: str, rng: Rng, paint: Colour) -> None:
        build = BUILDS[kind]
        self.kind, self.rng, self.build = kind, rng, build
        self.length, self.height = rng.uniform(*build.length), rng.uniform(*build.height)
        self.low, self.belt = rng.uniform(*build.clearance), rng.uniform(*build.belt)
        self.nose, self.wheel = rng.uniform(*build.nose), rng.uniform(*build.wheel)
        self.deck = self.belt + rng.uniform(-0.03, 0.05)
        # Along the car: where the tail ends, and the feet and heads of its two windows.
        self.tail = self.length * rng.uniform(*build.tail)
        self.roof_rear = self.tail + self.length * rng.uniform(*build.rear)
        self.foot = self.length * (1 - rng.uniform(*build.hood))
        self.roof_front = self.foot - self.length * rng.uniform(*build.windscreen)
        self.glass = GLASS * rng.uniform(0.55, 1.25)
        self.body = Solid(
            self._profile(),
            half_width=rng.uniform(*build.width) / 2,
            paint=paint,
            shoulder=self.belt,
            lean=rng.uniform(*build.lean),
            taper=rng.uniform(0.05, 0.14),
        )
        self.vehicle = Vehicle(self.length, self.height, 2 * self.body.half_width, [self.body])
        self._running_gear()
        self._panes()
        self._ends()
        self._seams()
        self._extras()

    def _profile(self) -> Points:
        soft = self.rng.uniform(0.5, 1.3)
        low, nose, deck = self.low, self.nose, self.deck
        return rounded(
            [
                (0.10, low, 0.08),
                (self.length - 0.12, low, 0.10),
                (self.length, low + 0.3 * (nose - low), 0.15 * soft),
                (self.length - 0.05, nose, 0.22 * soft),
                (self.foot + 0.1, self.belt + 0.02, 0.35),
                (self.foot, self.belt + 0.05, 0.08),
                (self.roof_front, self.height - 0.02, 0.45 * soft),
                (0.55 * self.roof_rear + 0.45 * self.roof_front, self.height, 0.5),
                (self.roof_rear, self.height - 0.05, 0.30 * soft),
                (self.tail, deck + 0.02, 0.12 if self.tail > 0.15 else 0.02),
                (0.03, deck - 0.03, 0.12 * soft),
                (0.0, low + 0.45 * (deck - low), 0.15),
            ]
        )

    def _running_gear(self) -> None:
        rng, body, low = self.rng, self.body, self.low
        cladding = rng.random() < self.build.cladding
        rim, spokes, share = (
            CHROME * rng.uniform(0.45, 1.15),
            int(rng.integers(4, 9)),
            rng.uniform(0.60, 0.72),
        )
        body.side(
            clip(body.profile, 1, high=low + (0.14 if cladding else 0.06)),
            RUBBER if cladding else body.paint * 0.4,
        )
        for place in (rng.uniform(0.175, 0.21), rng.uniform(0.80, 0.835)):
            x = place * self.length
            self.vehicle.wheels.append(
                Wheel(x, self.wheel, body.half_width - 0.02, rim, spokes, rim_share=share)
            )
            if cladding:
                body.side(clip(disc(x, self.wheel, self.wheel * 1.3), 1, low), RUBBER)
            body.side(clip(disc(x, self.wheel, self.wheel * 1.14), 1, low - 0.02), TYRE * 0.6)
        floor = np.array([(0.4, low - 0.06), (self.length - 0.4, low - 0.06)])
        floor = np.concatenate([floor, shift(floor[::-1], 0, 0.3)])
        self.vehicle.behind += [flat(floor, z * body.half_width, TYRE) for z in (-0.8, 0.8)]

    def _panes(self) -> None:
        rng, body, belt, height = self.rng, self.body, self.belt, self.height
        sill, top = belt + 0.06, height - 0.11
        # Along the slopes of both windows, a pillar's width inside.
        levels = (np.array([sill, top]) - belt) / (height - belt)
        rear = self.tail + (self.roof_rear - self.tail) * levels + 0.12
        front = self.foot + (self.roof_front - self.foot) * levels - 0.11
        corners = [(rear[0], sill), (front[0], sill), (front[1], top), (rear[1], top)]
        outline = rounded([(x, y, 0.06) for x, y in corners], 3)
        start, end = outline[:, 0].min(), outline[:, 0].max()
        panes = int(rng.choice(self.build.panes))
        if panes == 1:
            cuts = [end - rng.uniform(0.85, 1.05), end]
        else:
            middle = start + (end - start) * rng.uniform(0.44, 0.54)
            cuts = [start, middle, end]
            if panes == 3:
                cuts.insert(1, start + (middle - start) * rng.uniform(0.30, 0.45))
        for left, right in pairwise(cuts):
            pane = clip(outline, 0, left + 0.035, right - 0.035)
            body.side(pane, self.glass)
            body.side(clip(pane, 1, low=sill + 0.6 * (top - sill)), self.glass * 1.35 + 25, 0.55)
            shine = [
                (right - 0.1, top),
                (right - 0.3, top),
                (right - 0.62, sill),
                (right - 0.42, sill),
            ]
            body.side(clip(np.array(shine), 0, left + 0.04, right - 0.04), WHITE, 0.14)
        body.end(True, (-0.86, 0.86), (belt + 0.10, height - 0.09), self.glass)
        body.end(True, (0.1, 0.7), (belt + 0.12, height - 0.12), WHITE, 0.12)
        body.end(False, (-0.8, 0.8), (belt + 0.10, height - 0.12), self.glass * 0.9)

    def _ends(self) -> None:
        body, low, deck = self.body, self.low, self.deck
        lamp = (self.nose - 0.20, self.nose - 0.06)
        upright = self.kind in ("van", "suv")
        tail = (deck - 0.35, deck + 0.10) if upright else (deck - 0.30, deck - 0.12)
        for side in (-1, 1):
            body.end(True, (side * 0.55, side * 0.97), lamp, LAMP)
            body.end(False, (side * (0.82 if upright else 0.62), side * 0.99), tail, TAIL_LAMP)
        grille = self.rng.uniform(0.3, 0.55)
        body.end(True, (-grille, grille), (lamp[0] - 0.08, lamp[1]), RUBBER * 0.8)
        body.end(True, (-0.85, 0.85), (low + 0.05, low + 0.17), RUBBER)
        body.end(True, (-0.24, 0.24), (low + 0.18, low + 0.29), PLATE)
        body.end(False, (-0.9, 0.9), (low + 0.03, low + 0.16), RUBBER)
        plate = deck - 0.36 if self.tail > 0.2 else low + 0.30
        body.end(False, (-0.26, 0.26), (plate, plate + 0.11), PLATE)
        # The same lamps, where they reach around the corners.
        x = self.length
        front = [(x - 0.42, lamp[1]), (x - 0.30, lamp[0]), (x - 0.05, lamp[0]), (x - 0.09, lamp[1])]
        body.side(np.array(front), LAMP)
        run = 0.15 if upright else 0.27
        rear = [(0.03, tail[0]), (run, tail[0]), (run + 0.03, tail[1]), (0.04, tail[1])]
        body.side(np.array(rear), TAIL_LAMP)

    def _seams(self) -> None:
        rng, body, low, belt = self.rng, self.body, self.low, self.belt
        dark = body.paint * 0.45
        doors = int(rng.choice(self.build.doors))
        seams = [self.foot - 0.12]
        for _ in range(doors):
            seams.append(seams[-1] - (0.95 if doors == 2 else 1.25))
            x = seams[-1] + 0.08
            body.side(bar((x, belt - 0.13), (x + 0.18, belt - 0.13), 0.04), body.paint * 0.6)
        for x in seams:
            body.side(bar((x, low + 0.12), (x, belt + 0.04), 0.018), dark, 0.8)
        if rng.random() < 0.5:
            crease = bar((0.5, low + 0.30), (self.length - 0.6, low + 0.30), 0.02)
            body.side(crease, dark, 0.5)

    def _extras(self) -> None:
        rng, body, before, half = self.rng, self.body, self.vehicle.before, self.body.half_width
        x, y = self.foot - 0.32, self.belt + 0.04
        mirror = [(x, y), (x + 0.22, y), (x + 0.20, y + 0.13), (x + 0.02, y + 0.13)]
        mirror_shape = rounded([(*corner, 0.05) for corner in mirror], 3)
        before.append(flat(mirror_shape, half + 0.12, body.paint * 0.75))
        if self.kind == "suv" and rng.random() < 0.7:
            level = self.height + 0.03
            rail = bar((self.roof_rear + 0.1, level), (self.roof_front - 0.2, level), 0.05)
            before.append(flat(rail, half * (1 - body.lean) - 0.05, RUBBER))
        if self.kind == "coupe" and rng.random() < 0.4:
            level = self.deck + 0.15
            for z in (-0.6, 0.6):
                before.append(flat(bar((0.2, level - 0.2), (0.2, level), 0.05), z, RUBBER))
            wing = [(0.02, 0.75), (0.42, 0.75), (0.42, -0.75), (0.02, -0.75)]
            points = np.array([(x, level + 0.03 - 0.05 * x, z) for x, z in wing])
            before.append(Face(points, body.paint * 0.7))
        if self.kind == "pickup":
            body.above(0.12, self.tail - 0.08, 0.14, RUBBER * 0.9)
            edge = bar((0.05, self.deck - 0.02), (self.tail, self.deck - 0.02), 0.03)
            body.side(edge, body.paint * 0.45, 0.6)
