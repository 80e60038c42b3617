"""The heat map as a picture, and what a press on a class shows of it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from app.web import heat
from app.web.tabs.predict import Seen

GREY = np.full((224, 224, 3), 200, np.uint8)


def drawn(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    address = heat.over(picture, places)
    assert address is not None and address.startswith("data:image/jpeg;base64,")
    data = base64.b64decode(address.partition(",")[2])
    assert len(data) < 20_000, "it is sent with every answer"
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"), float)


def test_brightness_follows_the_heat_and_its_place() -> None:
    """So that nobody has to tell colours: of a grid of places, each of another heat."""
    places = np.arange(16.0).reshape(4, 4)
    found = drawn(GREY, places)
    middles = found[18::37, 18::37].ravel()
    assert np.corrcoef(middles[4:], np.arange(4, 16))[0, 1] > 0.9
    assert middles.argmax() == 15


def test_the_picture_is_seen_below() -> None:
    halves = GREY.copy()
    halves[:, :112] = 40
    for places in (np.pad([[1.0]], 3), np.ones((7, 7))):
        found = drawn(halves, places)
        assert found[:20, 85:].mean() > found[:20, :65].mean() + 15


def test_no_heat_is_no_picture() -> None:
    assert heat.over(GREY, np.zeros((7, 7))) is None


class Classifier:
    """Two classes, which are seen in opposite corners."""

    def __init__(self) -> None:
        self.classes = {"colour": ["red", "blue"]}
        self.asked: list[str] = []

    def heat(self, reading: Any, task: str, name: str) -> np.ndarray:
        self.asked.append(name)
        return np.eye(2)[:1] if name == "red" else np.eye(2)[1:]

    def answer(self, *_: Any) -> dict[str, Any]:
        of_task = {"set": ["red"], "top": "red", "p_values": {"red": 0.9, "blue": 0.01}}
        joint = {"sets": {"colour": ["red"]}, "size": 1}
        return {"tasks": {"colour": of_task}, "joint": joint, "outlier_p": 0.5}


def test_a_pressed_class_is_looked_at_until_another_is_and_drawn_once() -> None:
    classifier: Any = Classifier()
    reading: Any = SimpleNamespace(sight=SimpleNamespace(picture=GREY))
    seen = Seen(classifier, reading, Path("car.jpg"))
    first = seen.answer(0.1, "hinge", "task")
    assert 'data-look="0 0" aria-pressed="true"' in first, "the top class at first"
    pressed = seen.look_at(0, 1)
    second = pressed.answer(0.1, "hinge", "task")
    assert 'data-look="0 1" aria-pressed="true"' in second
    assert second.partition("<img")[2] != first.partition("<img")[2]
    assert pressed.answer(0.1, "hinge", "task") == second
    assert pressed.look_at(0, 0).answer(0.1, "hinge", "task") == first
    assert classifier.asked == ["red", "blue"]
