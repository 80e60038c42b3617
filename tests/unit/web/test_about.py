"""A bundle in plain words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from app.web import about, cards
from tests.unit.web.fake import FakeClassifier, write_fake_bundle

HOSTILE = '"><script>alert(1)</script>'


def classifier(folder: Path) -> Any:
    return FakeClassifier(write_fake_bundle(folder, "first"))


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).strip()


def test_the_header_tells_what_was_measured_in_the_runtime_that_serves(tmp_path: Path) -> None:
    """``metrics`` are of the first runtime, which need not be the one of this machine."""
    told = about.measured(classifier(tmp_path))
    assert told["tasks"]["colour"] == {"coverage": 0.934, "n_test": 360}
    said = text(cards.header("first", told, None, "chosen for this page."))
    assert "colour 93.4 %, shape 93.4 %" in said
    assert said.startswith("Sureset Chosen for this page. first")


def test_the_facts_are_in_plain_words(tmp_path: Path) -> None:
    said = text(about.facts(classifier(tmp_path)))
    assert said.startswith("Made 4 May 2026, 09:10 UTC Tells colour (3 classes); shape (2 classes)")
    assert "1,000 to train, 200 to choose by, 300 to calibrate, 360 to test" in said
    assert "a_network, run by openvino-f32" in said
    assert "score hinge, a threshold for each attribute, heads taskwise" in said
    assert "at alpha 0.1, at least 90 of 100 sets hold the truth" in said
    assert "colour 93.4 % with 1.2 classes" in said and said.endswith("all at once 93.4 %")
    assert "Calibrated anew" not in said


def test_a_bundle_that_was_calibrated_anew_says_from_which(tmp_path: Path) -> None:
    anew = classifier(tmp_path)
    anew.facts["calibrated_from"] = "older"
    assert text(about.facts(anew)).endswith("Calibrated anew from older")


def test_names_are_text_never_markup(tmp_path: Path) -> None:
    evil = classifier(tmp_path)
    evil.facts["backbone"]["name"] = HOSTILE
    for html in (
        about.facts(evil),
        about.report(HOSTILE),
        about.loading(HOSTILE),
        about.refused(HOSTILE),
    ):
        assert "<script" not in html and "&lt;script&gt;" in html


def test_the_report_is_framed_without_rights() -> None:
    assert re.search(r'<iframe src="bundles/first/report.html" sandbox ', about.report("first"))
