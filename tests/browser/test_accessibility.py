"""Everybody can use every state of the page, as far as an automated check can tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import LAPTOP, PHONE, Server, Trained, serving, shoot
from tests.browser.test_page import move_slider, open_page, remove, upload
from tests.unit.web.fake import picture, write_fake_bundle

Visit = Callable[..., Page]

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": LAPTOP},
    "dark": {"viewport": LAPTOP, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "device_scale_factor": 2, "has_touch": True},
    "phone-dark": {"viewport": PHONE, "device_scale_factor": 2, "color_scheme": "dark"},
}

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


def check(page: Page, look: str, state: str) -> None:
    """No rule is violated, everything has one heading and a language, and nothing is cut off."""
    shoot(page, f"{state}-{look}")
    # Bars are lower than a finger where there is a mouse.
    rules = [*RULES, "wcag22aa"] if look.startswith("phone") else RULES
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": rules}})
    violations = [
        (broken["id"], node["target"], node["failureSummary"])
        for broken in found.response["violations"]
        for node in broken["nodes"]
    ]
    assert violations == [], state
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.locator("h1")).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("look", LOOKS)
def test_every_answer_passes_the_check(
    visit: Visit, server: Server, trained: Trained, tmp_path: Path, look: str
) -> None:
    noise, broken = tmp_path / "noise.png", tmp_path / "broken.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)).save(noise)
    broken.write_bytes(b"no picture at all")
    page = open_page(visit, server, **LOOKS[look])
    check(page, look, "empty")
    page.locator("[data-example]").first.click()
    expect(page.locator(".truth").first).to_be_visible()
    check(page, look, "example")
    for alpha in (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01):
        move_slider(page, alpha)
        states = {str(card.get_attribute("class")) for card in page.locator(".cards .card").all()}
        for state in ("sure", "unsure", "unknown"):
            if any(state in one.split() for one in states):
                check(page, look, state)
    remove(page)
    upload(page, noise)
    expect(page.get_by_role("alert").filter(has_text="Unlike the calibration")).to_be_visible()
    check(page, look, "outlier")
    remove(page)
    page.locator("#picture input[type=file]").set_input_files(broken)
    expect(page.get_by_role("alert")).to_contain_text("This picture can’t be read")
    check(page, look, "error")


@pytest.mark.parametrize("look", LOOKS)
def test_waiting_passes_the_check(visit: Visit, tmp_path: Path, look: str) -> None:
    """For a bundle, and for an answer."""
    models = tmp_path / "models"
    models.mkdir()
    red = tmp_path / "red.png"
    red.write_bytes(picture(200, 30, 30))
    with serving(models, "tests.unit.web.slow", "4") as slow:
        page = visit(slow.address, **LOOKS[look])
        expect(page.get_by_text("No model in service yet")).to_be_visible()
        check(page, look, "no-bundle")
        write_fake_bundle(models, "first")
        expect(page.locator(".waiting .card").first).to_be_visible()
        page.locator("#picture input[type=file]").set_input_files(red)
        expect(page.get_by_text("Looking at the picture")).to_be_visible()
        check(page, look, "loading")
        expect(page.locator("#result .bars[style]").first).to_be_visible()
        page.close()


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(
    visit: Visit, server: Server, trained: Trained
) -> None:
    page = open_page(visit, server)
    upload(page, trained.picture)
    where = """() => {
      const at = document.activeElement, style = getComputedStyle(at);
      const place = at.closest("#picture, #examples, #alpha, #score, #taxonomy, #tell, .card");
      const seen = style.outlineStyle !== "none" || style.boxShadow !== "none";
      return [place ? place.id || place.getAttribute("aria-label") : at.tagName,
              seen || at.outerHTML.slice(0, 200)];
    }"""
    page.locator("body").focus()
    order: list[str] = []
    unseen = []
    for _ in range(70):
        page.keyboard.press("Tab")
        place, seen = page.evaluate(where)
        if place == "BODY":
            break
        if seen is not True:
            unseen.append(seen)
        if place not in order:
            order.append(place)
    places = [place for place in order if place != "BUTTON"]
    assert places == ["picture", "examples", "alpha", "score", "taxonomy", "tell", "colour", "type"]
    assert unseen == []


def test_nothing_moves_for_those_who_asked_for_stillness(
    visit: Visit, server: Server, trained: Trained
) -> None:
    page = open_page(visit, server, reduced_motion="reduce")
    upload(page, trained.picture)
    durations = page.evaluate(
        """() => [...document.querySelectorAll("*")].flatMap(element => {
          const style = getComputedStyle(element);
          return [style.transitionDuration, style.animationDuration];
        })"""
    )
    seconds = {float(s) for one in durations for s in re.findall(r"([\d.e-]+)s", one)}
    assert max(seconds) < 0.001
