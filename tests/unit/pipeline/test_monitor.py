"""A bundle's promise, watched: right about what holds, awake to what does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from app.conformal.method import Method
from app.conformal.spaces import JOINT, multiply
from app.pipeline.monitor import FALSE_ALARM, MISTAKEN_BOUND, Course, Monitor, as_json

CLASSES = {"colour": ["red", "green", "blue", "rare"], "shape": ["dark", "bright"]}
SHARES = {"colour": np.array([0.5, 0.3, 0.17, 0.03]), "shape": np.array([0.6, 0.4])}

Floats = NDArray[np.float64]
Labels = dict[str, NDArray[np.int64]]


@dataclass
class World:
    """Pictures of which the features are logits, and a bundle of them.

    Attributes:
        noise: how far the logits are off; classes differ in it, the rare one is the worst.
    """

    score: str = "hinge"
    taxonomy: str = "task"
    space: str = "taskwise"
    alpha: float = 0.1
    n: int = 150
    noise: float = 1.0
    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=lambda: CLASSES)

    def __post_init__(self) -> None:
        self.facts = {
            "alpha": self.alpha,
            "method": {"score": self.score, "taxonomy": self.taxonomy},
        }
        features, labels = self.draw(self.n, np.random.default_rng((1, self.seed)))
        sizes = {task: len(names) for task, names in CLASSES.items()}
        probs = self.probabilities(features)
        self._methods = {
            taxonomy: Method.calibrate(probs, labels, sizes, self.score, taxonomy, 0)
            for taxonomy in {self.taxonomy, "task", "class"}
        }

    def probabilities(self, features: NDArray[np.float32]) -> dict[str, Floats]:
        logits = np.split(features.astype(float), [4], axis=1)
        own = {}
        for task, z in zip(CLASSES, logits, strict=True):
            e = np.exp(z - z.max(axis=1, keepdims=True))
            own[task] = e / e.sum(axis=1, keepdims=True)
        return own if self.space == "taskwise" else {JOINT: multiply(own)}

    def method(self, score: str | None = None, taxonomy: str | None = None) -> Method:
        return self._methods[taxonomy or self.taxonomy]

    def draw(
        self,
        n: int,
        rng: np.random.Generator,
        noise: float | None = None,
        shares: Mapping[str, Floats] = SHARES,
    ) -> tuple[NDArray[np.float32], Labels]:
        features, labels = [], {}
        for task, names in CLASSES.items():
            labels[task] = rng.choice(len(names), n, p=shares[task])
            spread = (noise or self.noise) * (1 + labels[task] / 2)[:, None]
            own = np.eye(len(names))[labels[task]] * (3 - labels[task] / 2)[:, None]
            features.append(own + spread * rng.normal(size=own.shape))
        return np.concatenate(features, axis=1).astype(np.float32), labels


def watch(world: World, *streams: tuple[NDArray[np.float32], Labels]) -> dict[str, Course]:
    monitor = Monitor(world)
    for features, labels in streams:
        monitor.update(features, labels)
    return monitor.courses()


WORLDS = [
    ("hinge", "task", "taskwise"),
    ("hinge", "class", "taskwise"),
    ("pip", "global", "taskwise"),
    ("raps", "task_cluster", "taskwise"),
    ("hinge", "cluster", "joint"),
    ("aps", "class", "joint"),
]


@pytest.mark.parametrize(("score", "taxonomy", "space"), WORLDS)
def test_false_alarms_are_as_rare_as_promised(score: str, taxonomy: str, space: str) -> None:
    """Of all tasks together, looked at after every picture; so are bounds that ever fail."""
    worlds, rang = 60, 0
    for seed in range(worlds):
        world = World(score, taxonomy, space, n=60, seed=seed)
        stream = world.draw(150, np.random.default_rng((2, seed)))
        courses = watch(world, stream)
        tested = [c.log_peak for c in courses.values() if c.log_peak is not None]
        # At a level at which so few worlds can tell: each test has an equal part of it.
        rang += any(peak >= math.log(len(tested) / 0.1) for peak in tested)
        assert all(c.log_limit in (None, math.log(len(tested) / 0.01)) for c in courses.values())
        assert len(tested) == (3 if space == "taskwise" else 1)
    assert rang <= binom.isf(1e-4, worlds, 0.1)


def test_the_draw_of_calibration_pictures_breaks_no_promise() -> None:
    """However many answers, of which enough show its luck: there bounds do lie below 1 - alpha."""
    seeds, broken, below = 4, 0, 0
    for score, taxonomy, space in WORLDS:
        for seed in range(seeds):
            world = World(score, taxonomy, space, seed=seed)
            courses = watch(world, world.draw(6000, np.random.default_rng((8, seed)))).values()
            broken += any(not course.kept for course in courses)
            below += any(c.promised is not None and c.interval()[1] < c.promised for c in courses)
    chance = binom.isf(1e-3, seeds * len(WORLDS), MISTAKEN_BOUND)
    assert broken <= chance < below


@pytest.mark.parametrize(("score", "taxonomy", "space"), WORLDS)
def test_a_shift_rings_and_breaks_the_promise(score: str, taxonomy: str, space: str) -> None:
    world = World(score, taxonomy, space, n=300)
    rng = np.random.default_rng(3)
    before = watch(world, world.draw(200, rng))
    courses = watch(world, world.draw(200, rng), world.draw(600, rng, noise=3))
    assert not any(course.alarm for course in before.values())
    assert courses[JOINT].alarm and not courses[JOINT].kept
    assert courses["colour"].alarm is (True if space == "taskwise" else None)


def test_classes_in_other_shares_ring_only_where_the_promise_rests_on_them() -> None:
    """By class each has a promise of its own, which more pictures of a hard one do not touch."""
    shares = {"colour": np.array([0.0, 0.0, 0.0, 1.0]), "shape": SHARES["shape"]}
    alarm = {}
    for taxonomy in ("task", "class"):
        world = World(taxonomy=taxonomy, n=400, noise=0.6)
        stream = world.draw(600, np.random.default_rng(4), shares=shares)
        alarm[taxonomy] = watch(world, stream)["colour"].alarm
    assert alarm == {"task": True, "class": False}


def test_coverage_is_of_the_bundles_own_method() -> None:
    world = World(alpha=0.2)
    features, labels = world.draw(90, np.random.default_rng(5))
    labels["shape"][:30] = -1
    came = world.method().answer(world.probabilities(features), 0.2).outcomes(labels)
    monitor = Monitor(world)
    for start in range(0, 90, 7):
        rows = slice(start, start + 7)
        monitor.update(features[rows], {task: codes[rows] for task, codes in labels.items()})
    courses = monitor.courses()
    assert list(courses) == ["colour", "shape", JOINT]
    for name, course in courses.items():
        np.testing.assert_array_equal(course.covered, came[name].covered)
        assert course.promised == 0.8 and course.delta == MISTAKEN_BOUND / 6
    assert [len(c.covered) for c in courses.values()] == [90, 60, 60]
    whole = watch(world, (features, labels))
    assert {n: c.log_peak for n, c in whole.items()} == {n: c.log_peak for n, c in courses.items()}


@pytest.mark.parametrize("taxonomy", ["global", "cluster"])
def test_where_tasks_share_a_promise_none_has_its_own(taxonomy: str) -> None:
    world = World(taxonomy=taxonomy)
    courses = watch(world, world.draw(50, np.random.default_rng(6), noise=6))
    assert courses["colour"].promised is None and courses["colour"].kept
    assert courses[JOINT].promised == pytest.approx(0.9)


def test_in_the_joint_space_only_combinations_are_tested() -> None:
    world = World(space="joint")
    courses = watch(world, world.draw(50, np.random.default_rng(7)))
    assert courses["colour"].alarm is None and courses["colour"].promised == pytest.approx(0.9)
    assert courses[JOINT].alarm is False


def test_the_luck_of_the_draw_is_left_to_who_tells_of_one_task_alone() -> None:
    """In the joint space no combination is known then, and the draw had its luck all the same."""
    world = World(space="joint")
    features, labels = world.draw(50, np.random.default_rng(7))
    of_both = watch(world, (features, labels))["colour"]
    of_one = watch(world, (features, {**labels, "shape": np.full(50, -1)}))["colour"]
    assert of_one.least == of_both.least and of_one.least is not None
    assert of_one.least < 0.9 - 0.03


def test_nothing_told_says_nothing() -> None:
    told = as_json(Monitor(World()).courses())
    for of in told.values():
        assert of["n"] == 0 and of["coverage"] is None and of["interval"] == [0, 1]
        assert of["kept"] is True and of["alarm"] is False and of["log_martingale"] == 0


def test_what_is_promised_is_broken_only_below_the_whole_interval() -> None:
    def course(covered: int, n: int) -> Course:
        return Course(np.arange(n) < covered, 0.9, 0.89, 0.05, 0.0, 0.0, 4.0)

    assert course(75, 100).interval()[1] < 0.89 and not course(75, 100).kept
    assert course(85, 100).interval()[1] > 0.9 and course(85, 100).kept
    assert course(100, 100).kept
    assert course(75, 100).interval(50) == course(50, 50).interval()
    assert FALSE_ALARM == 0.01
