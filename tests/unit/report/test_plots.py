"""What is drawn: an interval for each group with pictures, in the colour that it deserves."""

from __future__ import annotations

import re

import numpy as np
import pytest

from app.conformal.calibration import p_values
from app.conformal.metrics import Rates
from app.conformal.reliability import reliability_curve
from app.report.plots import (
    CLASSES,
    bar_limits,
    class_coverage,
    reliability_diagram,
    set_sizes,
)
from tests.unit.conformal.draws import problem


def intervals(svg: str) -> list[list[str]]:
    """The colours of the lines of every collection of them."""
    collections = re.findall(r'<g id="LineCollection_\d+">(.*?)</g>', svg, re.DOTALL)
    return [re.findall(r"stroke: (#\w+)", collection) for collection in collections]


def test_classes_that_fall_short_stand_out_and_those_without_pictures_are_left_out() -> None:
    coverage = Rates(np.array([20, 0, 4, 300, 50]), np.array([12, 0, 3, 280, 20]))
    [kept, short] = intervals(class_coverage("colour", list("abcde"), coverage, 0.9))
    assert (len(kept), len(short)) == (2, 2)
    assert set(kept).isdisjoint(short)


def test_a_bin_without_pictures_is_left_out() -> None:
    probs, labels = problem(np.random.default_rng(0), 60, {"t": 3})
    curve = reliability_curve(probs["t"], labels["t"])
    some = int((curve.correct.n > 0).sum())
    assert 0 < some < 15
    [drawn] = intervals(reliability_diagram("t", curve))
    assert len(drawn) == some
    assert reliability_diagram("t", curve) == reliability_diagram("t", curve)


@pytest.mark.parametrize("largest", [1, 4, 100, 1000])
def test_sizes_are_whole_and_no_more_of_them_are_written_than_can_be_read(largest: int) -> None:
    svg = set_sizes({"t": np.array([1, 1, largest])})
    ticks = re.findall(r'<g id="xtick_\d+">.*?<text [^>]*>(.*?)</text>', svg, re.DOTALL)
    assert 2 <= len(ticks) <= 13
    assert all(tick.isdigit() for tick in ticks)


def test_of_many_classes_the_worst_are_shown() -> None:
    n = np.full(300, 50)
    hits = np.where(np.arange(300) % 10 == 0, 20, 49)
    svg = class_coverage("t", [f"c{i}" for i in range(300)], Rates(n, hits), 0.9)
    [kept, short] = intervals(svg)
    assert (len(kept), len(short)) == (CLASSES - 30, 30)


@pytest.mark.parametrize("n_calib", [5, 99, 400])
def test_bars_of_p_values_end_where_nineteen_in_twenty_do(n_calib: int) -> None:
    """They share their calibration pictures: bars scatter more than if they did not."""
    rng = np.random.default_rng(0)
    draws, m, bins = 2000, 300, 10
    counts = []
    for _ in range(draws):
        scores = rng.random(n_calib + m)
        found = p_values(np.sort(scores[:n_calib]), scores[n_calib:])
        counts.append(np.histogram(found, bins, (0, 1))[0])
    low, high = bar_limits(m, n_calib, bins)
    inside = np.mean((low <= counts) & (counts <= high), axis=0)
    assert (inside > 0.935).all() and (inside[high > low] < 0.985).all()


@pytest.mark.filterwarnings("error")
def test_names_of_any_script_are_text_and_no_markup() -> None:
    coverage = Rates(np.array([20, 20, 20]), np.array([12, 15, 20]))
    svg = class_coverage("車の色", ["赤い", "<b>$x^2$&", "two\nlines"], coverage, 0.9)
    for name in (
        "車の色: coverage by class",
        "赤い (20)",
        "&lt;b&gt;$x^2$&amp; (20)",
        "two lines (20)",
    ):
        assert f">{name}</text>" in svg
