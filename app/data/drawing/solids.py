"""Painted bodies: a profile drawn out sideways, lit, and turned into polygons from far to near."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.data.drawing.geometry import Camera, Points, clip, disc, following, reach, ring

Colour = NDArray[np.float64]  # (3,), 0..255
Span = tuple[float, float]

CHROME = np.array([176.0, 180.0, 186.0])
TYRE = np.array([24.0, 24.0, 27.0])
GLASS = np.array([58.0, 76.0, 92.0])
RUBBER = np.array([38.0, 39.0, 42.0])
LAMP = np.array([236.0, 238.0, 228.0])
TAIL_LAMP = np.array([176.0, 26.0, 30.0])
PLATE = np.array([232.0, 232.0, 224.0])
WHITE = np.array([255.0, 255.0, 255.0])

#: Towards the light: above, in front of the side that is seen.
_LIGHT = np.array([0.25, 0.82, 0.51])
_AMBIENT = 0.58

#: How bright the side is from its lower edge (0) over its shoulder (1) to its top (2).
_SIDE_HEIGHTS = (0.0, 0.2, 0.45, 0.7, 0.9, 1.0, 1.25, 2.0)
_SIDE_LIGHT = (0.55, 0.68, 0.80, 0.92, 1.10, 0.97, 0.90, 1.02)
_BANDS = 8

#: Strips that cover less, in twice their pixels, are left out.
_SMALLEST = 0.5

#: With a yaw beyond this, in radians, one end is turned away for certain.
_EDGE_ON = 0.3


class Face(NamedTuple):
    """A polygon in metres (m, 3); one that is ``facing`` vanishes when seen from behind."""

    points: Points
    colour: Colour
    alpha: float = 1.0
    facing: bool = False


def flat(polygon: Points, z: float, paint: Colour, alpha: float = 1.0) -> Face:
    """A polygon (m, 2) standing in the plane ``z``."""
    points = np.empty((len(polygon), 3))
    points[:, :2], points[:, 2] = polygon, z
    return Face(points, paint, alpha)


@dataclass
class Solid:
    """A profile (n, 2), counter-clockwise, as wide as ``2 half_width``.

    Above ``shoulder`` the sides lean in by the share ``lean`` of the width up to the top; towards
    its ends the plan is rounded by the share ``taper``.
    """

    profile: Points
    half_width: float
    paint: Colour
    shoulder: float
    lean: float = 0.0
    taper: float = 0.0
    gloss: float = 0.25

    def __post_init__(self) -> None:
        self._on_side: list[tuple[Points, Colour, float]] = []
        self._fronts: list[tuple[Span, Span, Colour, float]] = []
        self._rears: list[tuple[Span, Span, Colour, float]] = []
        self._tops: list[Face] = []
        self.low, self.top = self.profile[:, 1].min(), self.profile[:, 1].max()
        self.back, self.front = self.profile[:, 0].min(), self.profile[:, 0].max()

    def half(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Half of the width at points of the profile, in metres."""
        rise = np.clip((y - self.shoulder) / max(self.top - self.shoulder, 1e-6), 0, 1)
        end = np.abs(2 * (x - self.back) / (self.front - self.back) - 1)
        return self.half_width * (1 - self.lean * rise) * (1 - self.taper * end**6)

    def side(self, polygon: Points, paint: Colour, alpha: float = 1.0) -> None:
        """Put a polygon (m, 2) on the side that is seen."""
        self._on_side.append((polygon, paint, alpha))

    def end(
        self,
        front: bool,
        across: Span,
        heights: Span,
        paint: Colour,
        alpha: float = 1.0,
    ) -> None:
        """Put a panel on the front or the rear, ``across`` in shares of the half width."""
        panels = self._fronts if front else self._rears
        panels.append(((min(across), max(across)), heights, paint, alpha))

    def above(self, x0: float, x1: float, inset: float, paint: Colour) -> None:
        """Put a panel on the upper surface from x0 to x1."""
        x = np.linspace(x0, x1, 4)
        y = reach(self.profile, 0, x, True)
        half = self.half(x, y) * (1 - inset)
        near, far = np.column_stack([x, y, half]), np.column_stack([x, y, -half])
        self._tops.append(Face(np.concatenate([near, far[::-1]]), paint, facing=True))

    def faces(self, camera: Camera) -> list[Face]:
        """The solid as polygons, to be drawn in this order."""
        return [*self._hull(camera), *self._flank(), *self._end_panels(camera), *self._tops]

    def _end_panels(self, camera: Camera) -> list[Face]:
        """The panels of the ends that are turned to the camera."""
        return [
            face
            for front, panels in ((True, self._fronts), (False, self._rears))
            if panels and camera.yaw * (1 if front else -1) < _EDGE_ON
            for face in self._at_end(front, panels)
        ]

    def _at_end(self, front: bool, panels: list[tuple[Span, Span, Colour, float]]) -> list[Face]:
        """Lay panels on the front or the rear: up their one edge and down the other."""
        steps = np.linspace(0, 1, 4)
        levels = np.array([heights for _, heights, _, _ in panels])
        y = levels[:, :1] * (1 - steps) + levels[:, 1:] * steps
        x = reach(self.profile, 1, y.ravel(), front).reshape(y.shape)
        half = self.half(x, y)
        across = np.array([across for across, _, _, _ in panels])
        if not front:  # There, across runs the other way when seen from outside.
            across = -across
        edges = [np.stack([x, y, share[:, None] * half], -1) for share in across.T]
        around = np.concatenate([edges[0], edges[1][:, ::-1]], 1)
        return [
            Face(points, paint, alpha, facing=True)
            for points, (_, _, paint, alpha) in zip(around, panels, strict=True)
        ]

    def _hull(self, camera: Camera) -> list[Face]:
        """Front, top and rear: one strip across for each edge of the profile that is seen."""
        half = self.half(*self.profile.T)
        near, far = np.column_stack([self.profile, half]), np.column_stack([self.profile, -half])
        strips = np.stack([near, far, following(far), following(near)], 1)
        x, y = np.moveaxis(camera.project(strips), -1, 0)
        seen = (x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1) < -_SMALLEST
        strips, along = strips[seen], (following(self.profile) - self.profile)[seen]
        normal = np.column_stack([along[:, 1], -along[:, 0]])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        falling = np.clip(normal @ _LIGHT[:2], 0, None)
        light = _AMBIENT + (1 - _AMBIENT) * falling + self.gloss * falling**6
        light = np.where(normal[:, 1] < -0.5, 0.3, light)[:, None]
        paint = self.paint * light + 30 * (light > 1)
        order = np.argsort(camera.depth(strips.mean(1)), kind="stable")
        return [Face(strips[i], paint[i]) for i in order]

    def _flank(self) -> list[Face]:
        """The side that is seen: bands from dark to bright, and what was put on it."""
        relative = np.linspace(0, 2, _BANDS + 1)
        heights = np.interp(relative, (0, 1, 2), (self.low, self.shoulder, self.top))
        lights = np.interp((relative[:-1] + relative[1:]) / 2, _SIDE_HEIGHTS, _SIDE_LIGHT)
        above = self.profile
        pieces = []
        for height, light in zip(heights[:-1], lights, strict=True):
            above = clip(above, 1, height - 0.01)
            pieces.append((above, self.paint * light, 1.0))
        pieces += self._on_side
        return self._at_side(pieces)

    def _at_side(self, pieces: list[tuple[Points, Colour, float]]) -> list[Face]:
        """Give polygons (m, 2) their depth, all at once."""
        flat_points = np.concatenate([polygon for polygon, _, _ in pieces])
        half = self.half(flat_points[:, 0], flat_points[:, 1])
        points = np.column_stack([flat_points, half])
        faces, start = [], 0
        for polygon, paint, alpha in pieces:
            faces.append(Face(points[start : start + len(polygon)], paint, alpha))
            start += len(polygon)
        return faces


@dataclass(frozen=True)
class Wheel:
    """A wheel at x, standing on the ground; ``half_track`` is how far out its outer face is."""

    x: float
    radius: float
    half_track: float
    rim: Colour
    spokes: int = 5
    width: float = 0.2
    rim_share: float = 0.64

    def far(self) -> list[Face]:
        """The wheel of the other side."""
        return self._tyre(-self.half_track, -self.half_track + self.width)

    def near(self, turn: float) -> list[Face]:
        """The wheel of the side that is seen, its spokes turned by ``turn`` radians."""
        z, r = self.half_track, self.radius
        hub = (self.x, r)
        rim = r * self.rim_share
        faces = self._tyre(z - self.width, z)
        faces.append(flat(ring(*hub, r * 0.96, r * 0.9), z, TYRE + 22))
        faces.append(flat(disc(*hub, rim), z, self.rim))
        faces.append(flat(ring(*hub, rim, rim * 0.86), z, self.rim * 1.25))
        # The gaps between the spokes are triangles, as many as spokes.
        middle = turn + np.arange(self.spokes)[:, None] * 2 * np.pi / self.spokes
        angle = middle + np.array([0.0, -0.62, 0.62]) * np.pi / self.spokes
        direction = np.stack([np.cos(angle), np.sin(angle)], -1)
        for gap in hub + rim * np.array([[0.3], [0.8], [0.8]]) * direction:
            faces.append(flat(gap, z, self.rim * 0.3))
        faces.append(flat(disc(*hub, rim * 0.2, 10), z, self.rim * 0.75))
        return faces

    def _tyre(self, inner: float, outer: float) -> list[Face]:
        circle = disc(self.x, self.radius, self.radius)
        return [flat(circle, z, TYRE) for z in (inner, (inner + outer) / 2, outer)]


@dataclass
class Vehicle:
    """What is drawn, in metres: ``solids`` from the rear to the front, and what is around them.

    ``behind`` is drawn before the solids, ``before`` last.
    """

    length: float
    height: float
    width: float
    solids: list[Solid] = field(default_factory=list)
    wheels: list[Wheel] = field(default_factory=list)
    behind: list[Face] = field(default_factory=list)
    before: list[Face] = field(default_factory=list)

    def faces(self, camera: Camera, turn: float) -> list[Face]:
        """All polygons in drawing order; ``turn`` is where the wheels stand, in radians."""
        faces = [face for wheel in self.wheels for face in wheel.far()] + self.behind
        # With a positive yaw the rear is nearer, so it is drawn last.
        for solid in self.solids if camera.yaw < 0 else self.solids[::-1]:
            faces += solid.faces(camera)
        for wheel in self.wheels:
            faces += wheel.near(turn)
        return faces + self.before


def paint_faces(
    faces: Iterable[Face], camera: Camera, light: Colour
) -> Iterator[tuple[list[float], tuple[int, int, int, int]]]:
    """Of every visible polygon, in order: pixels (x, y, x, y, ...), and RGBA in that light."""
    kept = [face for face in faces if len(face.points) > 2]
    pixels = camera.project(np.concatenate([face.points for face in kept]))
    lit = np.array([face.colour for face in kept]) * light
    paints = np.clip(lit, 0, 255).astype(int).tolist()
    end = 0
    for face, (red, green, blue) in zip(kept, paints, strict=True):
        start, end = end, end + len(face.points)
        points = pixels[start:end]
        if face.facing:
            x, y = points.T
            if x @ following(y) - y @ following(x) > 0:
                continue
        yield points.ravel().tolist(), (red, green, blue, round(255 * face.alpha))
