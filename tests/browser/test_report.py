"""What a person sees of bundles and chooses among them, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Server, Trained, serving, shoot

Visit = Callable[..., Page]


@pytest.fixture
def models_dir(trained: Trained, tmp_path: Path) -> Path:
    """Three bundles: one in service, an older one, and one that is damaged."""
    for name in ("older", "broken", "serving"):
        shutil.copytree(trained.bundle, tmp_path / name)
    (tmp_path / "latest").symlink_to("serving")
    with (tmp_path / "broken" / "heads.safetensors").open("ab") as file:
        file.write(b"x")
    return tmp_path


@pytest.fixture
def server(models_dir: Path) -> Iterator[Server]:
    with serving(models_dir) as server:
        yield server


def open_tab(visit: Visit, server: Server, **options: Any) -> Page:
    page = visit(server.address, **options)
    if options.get("viewport") == PHONE:
        page.get_by_label("More tabs").click()  # Not all fit beside each other.
        page.locator(".overflow-dropdown").get_by_text("Report").click()
    else:
        page.get_by_role("tab", name="Report").click()
    expect(page.locator("dl.bundle")).to_be_visible()
    return page


def choose(page: Page, name: str) -> None:
    page.get_by_label("This page answers with").click()
    page.get_by_role("option", name=name).click()


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollHeight <= innerHeight"))


def test_a_person_switches_between_bundles(
    visit: Visit, server: Server, trained: Trained, models_dir: Path
) -> None:
    page = open_tab(visit, server)
    other = visit(server.address)
    expect(page.locator(".top .facts b")).to_have_text("serving")
    frame = page.frame_locator(".report iframe")
    expect(frame.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("dl.bundle")).to_contain_text("to calibrate")
    shoot(page, "report")
    assert fits(page)

    choose(page, "older")
    expect(page.get_by_text("Loading older")).to_be_visible()
    expect(page.locator(".top .facts b")).to_have_text("older")
    expect(page.locator(".top")).to_contain_text("Chosen for this page; serving is in service.")
    expect(page.locator(".report iframe")).to_have_attribute("src", "bundles/older/report.html")
    shoot(page, "report-chosen")
    page.get_by_role("tab", name="One picture").click()
    example = page.locator("[data-example] img").first
    expect(example).to_have_attribute("src", "examples/older/0")
    expect(example).to_have_js_property("complete", True)
    assert example.evaluate("image => image.naturalWidth") > 0
    page.locator("#picture input[type=file]").set_input_files(trained.picture)
    expect(page.locator("#result .bars[style]").first).to_be_visible()
    assert fits(page)
    expect(other.locator(".top .facts b")).to_have_text("serving")
    assert httpx.get(f"{server.address}/v1/model").json()["name"] == "serving"

    shutil.rmtree(models_dir / "older")
    expect(page.locator(".top")).to_contain_text("There is no bundle older any more")
    expect(page.locator(".top .facts b")).to_have_text("serving")
    expect(page.locator("[data-example] img").first).to_have_attribute("src", "examples/serving/0")
    expect(page.locator("#result .bars[style]").first).to_be_visible()
    shoot(page, "report-lost")


def test_a_damaged_bundle_is_refused_and_the_page_keeps_its_own(
    visit: Visit, server: Server
) -> None:
    page = open_tab(visit, server, color_scheme="dark")
    choose(page, "broken")
    expect(page.get_by_role("alert")).to_contain_text("is damaged, heads.safetensors was changed")
    expect(page.get_by_label("This page answers with")).to_have_value(
        "the one in service (serving)"
    )
    expect(page.locator(".top .facts b")).to_have_text("serving")
    shoot(page, "report-damaged")


def test_the_report_runs_nothing_and_is_readable_on_a_phone(
    visit: Visit, server: Server, models_dir: Path
) -> None:
    report = models_dir / "serving" / "report.html"
    report.write_text(
        report.read_text().replace("</body>", "<script>top.document.title='x'</script></body>")
    )
    page = open_tab(visit, server, viewport=PHONE, device_scale_factor=2)
    frame = page.frame_locator(".report iframe")
    expect(frame.get_by_role("heading", level=1)).to_be_visible()
    assert page.title() == "Sureset"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "report-phone")
