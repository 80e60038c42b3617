"""What the page says of feedback: every state in words, and nothing of anybody's as HTML."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from app.conformal.spaces import JOINT
from app.pipeline.monitor import Course
from app.web import monitoring

EVIL = '<img src=x onerror="alert(1)">'


def course(covered: int, n: int, promised: float | None = 0.9, peak: float | None = 0.2) -> Course:
    hits = np.arange(n) % max(n, 1) < covered
    limit = None if peak is None else math.log(300)
    least = None if promised is None else promised - 0.02
    return Course(hits, promised, least, 0.05 / 3, peak, peak, limit)


@pytest.mark.parametrize(
    ("of", "state", "headline", "words"),
    [
        (course(0, 0), "none", "Nothing told yet", "90\u00a0% is promised"),
        (course(4, 5), "early", "Too early to tell", "4 of 5 sets"),
        (course(185, 200), "holding", "Holding", "185 of 200 sets held the truth"),
        (course(150, 200), "broken", "Not kept", "less than the 90\u00a0% that is promised"),
        (course(8850, 10_000), "holding", "Holding", "the luck of the draw"),
        (course(185, 200, peak=9.0), "alarm", "have changed", "reached 8,103 to 1, and 300 to 1"),
        (course(150, 200, peak=99.0), "broken", "Not kept", "more than a million to 1"),
        (course(185, 200, None), "free", "No promise of its own", "of the attributes together"),
        (course(185, 200, peak=None), "holding", "Holding", "for all attributes at once"),
    ],
)
def test_each_state_is_told_in_words(of: Course, state: str, headline: str, words: str) -> None:
    page = monitoring.monitoring("first", len(of.covered), {"colour": of}, 25)
    assert monitoring.state(of) == state
    assert f'<p class="headline">{headline}' in page or headline in page
    assert words in page
    low, high = of.interval()
    if len(of.covered):
        assert f"between {monitoring._percent(low)} and {monitoring._percent(high)}" in page


def test_the_first_sentence_is_the_worst() -> None:
    good, bad, odd = course(185, 200), course(150, 200), course(185, 200, peak=9.0)

    def first(**courses: Course) -> str:
        return monitoring.monitoring("first", 1, courses, 25).partition("</p>")[0]

    assert "may well hold" in first(a=good, b=course(4, 5))
    assert "too early to tell" in first(a=course(4, 5))
    assert "Nothing is known yet" in first(a=course(0, 0))
    assert "pictures have changed</b> (b)" in first(a=good, b=odd)
    assert "promise is not kept</b> (All at once)" in first(a=odd, **{JOINT: bad})
    assert 'class="usual outlier"' in first(a=bad) and 'class="usual "' in first(a=good)


def test_it_says_how_many_answers_a_new_calibration_lacks() -> None:
    courses = {"colour": course(20, 20), JOINT: course(10, 10)}
    assert "15 more with all their classes" in monitoring.monitoring("first", 20, courses, 25)
    assert "That is enough" in monitoring.monitoring("first", 20, courses, 10)


@pytest.mark.parametrize("n", [0, 1, 2, 59, 1000])
def test_the_plot_is_whole_and_says_what_it_shows(n: int) -> None:
    svg = ET.fromstring(monitoring.plot("colour", course(int(0.7 * n), n)))
    assert svg.get("role") == "img"
    numbers = [
        float(number)
        for element in svg
        for name in ("points", "x1", "y1", "x", "y", "cx", "cy")
        for number in re.findall(r"[-\d.]+", element.get(name) or "")
    ]
    assert all(math.isfinite(number) and -20 <= number <= 380 for number in numbers)
    lines = [len(e.get("points", "").split()) for e in svg if e.get("class") == "line"]
    assert lines == ([min(n, 60)] if n else [])
    dashed = [e for e in svg if e.get("class") == "promised"]
    assert len(dashed) == 1
    label = svg.get("aria-label") or ""
    assert ("nothing told yet" in label) if n == 0 else (f"after {n} answers" in label)


def test_nothing_of_anybodys_is_html() -> None:
    pages = [
        monitoring.truth_form({EVIL: [EVIL, "b"]}, EVIL),
        monitoring.monitoring(EVIL, 5, {EVIL: course(4, 5)}, 25),
        monitoring.unreadable(EVIL),
        monitoring.renewed(EVIL, EVIL, {EVIL: 0.9}, served=False),
        monitoring.refused(EVIL),
    ]
    for page in pages:
        assert "<img" not in page and "&lt;img" in page


def test_the_form_is_closed_until_there_is_something_to_say() -> None:
    classes = {"colour": ["red", "green"], "shape": ["dark"]}
    form = monitoring.truth_form(classes)
    assert '<details class="tell">' in form and "said" not in form
    assert form.count("I don’t know") == 2 and form.count("<option>") == 3
    assert "selected" not in form, "nobody is to send what was answered without a look"
    assert '<details class="tell" open>' in monitoring.truth_form(classes, "kept")
    assert 'role="status">kept' in monitoring.truth_form(classes, "kept")
    assert 'role="alert">no' in monitoring.truth_form(classes, "no", wrong=True)


def test_what_came_of_a_new_calibration_is_told() -> None:
    said = monitoring.renewed("new", "old", {"colour": 0.912, JOINT: 0.9}, served=True)
    assert "colour 91.2\u00a0%, All at once 90\u00a0%" in said and "It is in service" in said
    assert "<b>old</b> is still there" in said
    assert "<code>--model new</code>" in monitoring.renewed("new", "old", {}, served=False)
    assert "No new bundle: too few." in monitoring.refused("too few.")
