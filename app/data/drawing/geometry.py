"""Outlines in metres, and the camera that brings them to pixels.

A vehicle stands on the ground plane y = 0; x runs along it to its front, y up, z across it towards
the side that is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def shift(points: ArrayLike, *by: float) -> Points:
    """Points (..., d) moved by d lengths."""
    return np.asarray(points, float) + np.array(by)


def following(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points in turn by one, so that row i is the point after i; ``np.roll`` is slow."""
    return np.concatenate([points[1:], points[:1]])


def rounded(corners: Sequence[tuple[float, float, float]], steps: int = 5) -> Points:
    """A polygon (m, 2) through ``corners`` (x, y, radius), each cut by a curve of ``steps`` points.

    The radius is the length that the curve takes off both sides, at most 0.45 of them.
    """
    array = np.asarray(corners, float)
    point, radius = array[:, :2], array[:, 2:]
    after = following(point) - point
    before = -np.concatenate([after[-1:], after[:-1]])
    to_before = np.linalg.norm(before, axis=1, keepdims=True) + 1e-9
    to_after = np.linalg.norm(after, axis=1, keepdims=True) + 1e-9
    start = point + before / to_before * np.minimum(radius, 0.45 * to_before)
    end = point + after / to_after * np.minimum(radius, 0.45 * to_after)
    t = np.linspace(0, 1, steps)[None, :, None]
    curve = (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * point[:, None] + t**2 * end[:, None]
    return curve.reshape(-1, 2)


def clip(polygon: Points, axis: int, low: float = -np.inf, high: float = np.inf) -> Points:
    """The part of a polygon (m, d) whose coordinate ``axis`` is within low..high, (k, d)."""
    for sign, bound in ((1.0, low), (-1.0, -high)):
        if not np.isfinite(bound) or not len(polygon):
            continue
        height = sign * polygon[:, axis] - bound
        inside = height >= 0
        if inside.all():
            continue
        if not inside.any():
            return polygon[:0]
        height_after = following(height)
        crossing = inside != (height_after >= 0)
        share = height / np.where(crossing, height - height_after, 1)
        both = np.empty((len(polygon), 2, polygon.shape[1]))
        both[:, 0] = polygon
        both[:, 1] = polygon + share[:, None] * (following(polygon) - polygon)
        polygon = both[np.column_stack([inside, crossing])]
    return polygon


def reach(polygon: Points, axis: int, levels: Points, highest: bool) -> Points:
    """Where the polygon (n, 2) ends on its other axis at ``levels`` (m,) of ``axis``."""
    other, level = polygon[:, 1 - axis], polygon[:, axis]
    other_next, level_next = following(other), following(level)
    at = np.clip(levels, level.min() + 1e-3, level.max() - 1e-3)[:, None]
    crossing = (level <= at) != (level_next <= at)
    step = np.where(crossing, level_next - level, 1.0)
    cut = other + (at - level) / step * (other_next - other)
    if highest:
        return np.where(crossing, cut, -np.inf).max(1)
    return np.where(crossing, cut, np.inf).min(1)


def disc(x: float, y: float, radius: float, steps: int = 28) -> Points:
    """A circle as a polygon (steps, 2)."""
    return shift(radius * _unit_circle(steps), x, y)


@cache
def _unit_circle(steps: int) -> Points:
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def ring(x: float, y: float, outer: float, inner: float, steps: int = 36) -> Points:
    """A circle with a hole, as one polygon that runs around both edges."""
    outside, inside = disc(x, y, outer, steps), disc(x, y, inner, steps)
    return np.concatenate([outside, outside[:1], inside[:1], inside[::-1]])


def arc(x: float, y: float, outer: float, inner: float, start: float, end: float) -> Points:
    """The part of a ring between two angles in radians (24, 2)."""
    angle = np.linspace(start, end, 12)
    direction = np.column_stack([np.cos(angle), np.sin(angle)])
    return shift(np.concatenate([outer * direction, inner * direction[::-1]]), x, y)


def bar(start: ArrayLike, end: ArrayLike, width: float) -> Points:
    """A straight stroke between two points as a polygon (4, 2)."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    along = (b - a) / (np.linalg.norm(b - a) + 1e-9)
    across = np.array([-along[1], along[0]]) * width / 2
    return np.array([a - across, b - across, b + across, a + across])


def limb(start: ArrayLike, end: ArrayLike, width: float) -> Points:
    """A stroke with round ends (14, 2)."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    turn = np.arctan2(*(b - a)[::-1])
    half = np.linspace(-np.pi / 2, np.pi / 2, 7)
    cap_b = np.column_stack([np.cos(turn + half), np.sin(turn + half)])
    return np.concatenate([b + cap_b * width / 2, a - cap_b * width / 2])


@dataclass(frozen=True)
class Camera:
    """Looks at a point above the ground from a distance, in perspective.

    Attributes:
        target: the point looked at, (x, y, z) in metres; it appears at ``centre``.
        yaw: 0 sees the side z > 0 straight on; positive sees the rear, negative the front.
        pitch: how far it looks down.
        roll: how far the picture is tilted. All three in radians.
        distance: to the target, in metres.
        scale: pixels a metre at the target.
        centre: in pixels (x, y).
    """

    target: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    distance: float
    scale: float
    centre: tuple[float, float]

    def scaled(self, factor: float) -> Camera:
        """The same view in pixels of another size."""
        x, y = self.centre
        return replace(self, scale=factor * self.scale, centre=(factor * x, factor * y))

    def depth(self, points: Points) -> NDArray[np.float64]:
        """How far points (..., 3) are on this side of the target, in metres."""
        return self._turned(points)[..., 2]

    def project(self, points: Points) -> Points:
        """Points (..., 3) in metres -> pixels (..., 2)."""
        seen = self._turned(points)
        flat = seen[..., :2] * (self.distance / (self.distance - seen[..., 2]))[..., None]
        cos, sin = self.scale * np.cos(self.roll), self.scale * np.sin(self.roll)
        return flat @ np.array([[cos, -sin], [-sin, -cos]]) + self.centre

    def ground(self, corners: Sequence[tuple[float, float]]) -> Points:
        """A polygon on the ground, corners (x, z), in pixels (k, 2); what is behind is cut off."""
        flat = np.asarray(corners, float)
        points = np.column_stack([flat[:, 0], np.zeros(len(flat)), flat[:, 1]])
        with_depth = np.column_stack([points, self.depth(points)])
        return self.project(clip(with_depth, 3, high=0.8 * self.distance)[:, :3])

    def horizon(self) -> float:
        """Height of the horizon in the middle of the picture, in pixels from the top."""
        return self.centre[1] - self.scale * self.distance * float(np.tan(self.pitch))

    @cached_property
    def _turn(self) -> Points:
        """Rotation (3, 3): by yaw, then by pitch, of rows."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        yaw = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        return yaw @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])

    def _turned(self, points: Points) -> Points:
        return (points - self.target) @ self._turn
