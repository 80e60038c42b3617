"""The report says which classes fall short and which have no threshold, and draws what is there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from app.conformal.evaluation import evaluate
from app.conformal.method import Method
from app.conformal.spaces import JOINT, multiply
from app.report.page import mean_size, write_report
from tests.unit.conformal.draws import problem

NAMES = {"colour": ["red", "<i>$5</i>", "grey", "never seen"], "type": ["van", "car", "bus"]}


def seen(
    probs: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The pictures that are not of the last colour."""
    rows = labels["colour"] < 3
    return {t: p[rows] for t, p in probs.items()}, {t: y[rows] for t, y in labels.items()}


def report(folder: Path, space: str, taxonomy: str) -> str:
    """Of test pictures that calibration is unlike in grey: there the network was right."""
    rng = np.random.default_rng(0)
    classes = {task: len(names) for task, names in NAMES.items()}
    (probs, labels), (new, truths) = (seen(*problem(rng, n, classes)) for n in (2000, 200))
    grey = truths["colour"] == 2
    new["colour"][grey] = np.roll(new["colour"][grey], 1, axis=1)
    truths["type"][::4] = -1
    if space == "joint":
        probs, new = {JOINT: multiply(probs)}, {JOINT: multiply(new)}
    method = Method.calibrate(probs, labels, classes, "hinge", taxonomy, 0)
    facts = {
        "name": "first",
        "alpha": 0.1,
        "tasks": NAMES,
        "splits": {"calib": len(labels["type"]), "test": len(grey)},
        "method": {"head": space, "space": space, "score": "hinge", "taxonomy": taxonomy},
        "backbone": {"name": "none", "weights_sha256": "0"},
        "runtime": {"name": "none", "precision": "f32"},
        "seed": 0,
        "versions": {},
    }
    measured = evaluate(method, new, truths, 0.1)
    write_report(folder / "report.html", facts, measured, method, new, truths)
    return (folder / "report.html").read_text(encoding="utf-8")


def sentences(page: str, beginning: str) -> list[str]:
    found = re.findall(r'<p class="warn">(.*?)</p>', page, re.DOTALL)
    return [" ".join(text.split()) for text in found if text.startswith(beginning)]


@pytest.mark.parametrize("space", ["taskwise", "joint"])
def test_says_which_classes_fall_short_and_which_have_no_threshold(
    tmp_path: Path, space: str
) -> None:
    page = report(tmp_path, space, "class" if space == "taskwise" else "task")
    [short] = sentences(page, "Covered less")
    assert short.endswith("0.9, by the whole of the 95 % interval, in colour: grey.")
    unlimited = sentences(page, "Too few")
    if space == "taskwise":
        assert [text.split("set of ")[1] for text in unlimited] == ["colour: never seen."]
        assert "The taxonomy class promises it" in page
    else:
        assert unlimited == []
        assert "The taxonomy task promises nothing of a single class" in page


@pytest.mark.parametrize("space", ["taskwise", "joint"])
def test_draws_every_plot_and_no_markup_of_names(tmp_path: Path, space: str) -> None:
    page = report(tmp_path, space, "task")
    assert page.count("<svg") == 2 + 2 * 2
    assert "<i>" not in page


def test_a_mean_size_of_any_size() -> None:
    assert [mean_size(x) for x in (1.444, 12345.6, 1.5e30, float("inf"))] == [
        "1.44",
        "12345.60",
        "1.5e+30",
        "inf",
    ]
