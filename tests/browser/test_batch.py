"""What a person does with many pictures, in a real browser, on a real bundle."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Server, Trained, shoot

Visit = Callable[..., Page]

#: Names that would be code, were they not escaped.
_BAD = ["<img src=x onerror=alert(1)>.png", "${1+1}{{x}}.png"]


@pytest.fixture(scope="module")
def packed(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of every picture of the training set, some noise, and two files that are none."""
    path = tmp_path_factory.mktemp("packed") / "vehicles.zip"
    noise = io.BytesIO()
    grain = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(grain).save(noise, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for picture in sorted((trained.models_dir.parent / "data" / "images").iterdir()):
            archive.write(picture, f"vehicles/{picture.name}")
        archive.writestr("noise.png", noise.getvalue())
        for name in _BAD:
            archive.writestr(name, b"<svg onload='alert(1)'/>")
    return path


def open_tab(visit: Visit, server: Server, **options: Any) -> Page:
    page = visit(server.address, **options)
    page.get_by_role("tab", name="Many pictures").click()
    expect(page.get_by_text("Up to 10,000 pictures at once")).to_be_visible()
    return page


def answer(page: Page, *files: Path) -> None:
    """Choose files and have them answered."""
    page.locator("#batch-files input[type=file]").set_input_files(list(files))
    expect(page.locator("#batch-files")).to_contain_text(files[0].stem)
    page.get_by_role("button", name="Answer them all").click()


def answered(page: Page, *files: Path) -> None:
    answer(page, *files)
    expect(page.get_by_role("table", name="Answers")).to_be_visible()


def column(page: Page, number: int) -> list[str]:
    return page.locator(f".batch tbody tr > :nth-child({number})").all_inner_texts()


def choose(page: Page, control: str, option: str) -> None:
    page.get_by_label(control, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def download(page: Page, button: str) -> str:
    with page.expect_download() as started:
        page.locator(f"#batch-{button}").click()
    return Path(started.value.path()).read_text()


def test_a_person_sorts_filters_and_downloads_a_zips_answers(
    visit: Visit, server: Server, trained: Trained, packed: Path
) -> None:
    page = open_tab(visit, server)
    shoot(page, "batch-waiting")
    answer(page, packed)
    expect(page.get_by_role("progressbar")).to_be_visible()
    shoot(page, "batch-answering")
    expect(page.get_by_role("table", name="Answers")).to_be_visible()
    shoot(page, "batch")
    lines = [json.loads(line) for line in download(page, "jsonl").splitlines()]
    rows = list(csv.DictReader(io.StringIO(download(page, "csv"))))
    assert len(lines) == len(rows) == 303
    assert [line["image"] for line in lines[-3:]] == ["noise.png", *_BAD]
    of_api = server.ask(trained.models_dir.parent / "data" / "images" / "00000.jpg")
    for task, of_task in of_api["tasks"].items():
        assert lines[0]["tasks"][task]["set"] == of_task["set"]

    sure = [line for line in lines if "tasks" in line and sizes(line) == {1}]
    expect(page.locator(".summary .sure b")).to_have_text(str(len(sure)))
    expect(page.locator(".pager")).to_contain_text("1 to 50 of 303 pictures")
    assert set(column(page, 4)) <= {"Not sure", "I don’t know"}, "uncertain ones come first"
    choose(page, "Show", "Not read")
    expect(page.locator(".batch tbody tr")).to_have_count(2)
    assert column(page, 3) == _BAD
    shoot(page, "batch-errors")
    choose(page, "Show", "All pictures")
    choose(page, "Set holds", "colour: red")
    red = [line for line in lines if "tasks" in line and "red" in line["tasks"]["colour"]["set"]]
    expect(page.locator(".pager")).to_contain_text(f"{len(red)} of 303 pictures")
    choose(page, "Set holds", "Any class")
    page.get_by_label("Name contains").fill("0012")
    expect(page.locator(".batch tbody tr")).to_have_count(11)  # 00012, and from 00120 on
    page.get_by_label("Name contains").fill("no such name")
    expect(page.get_by_text("No picture fits these filters.")).to_be_visible()


def sizes(line: dict[str, Any]) -> set[int]:
    return {len(of_task["set"]) for of_task in line["tasks"].values()}


def test_a_person_turns_pages_and_orders_by_keyboard(
    visit: Visit, server: Server, packed: Path
) -> None:
    page = open_tab(visit, server)
    answered(page, packed)
    page.get_by_role("button", name="Next").press("Enter")
    expect(page.locator(".pager")).to_contain_text("51 to 100 of 303")
    expect(page.get_by_role("button", name="Next")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".pager")).to_contain_text("101 to 150 of 303")
    page.get_by_role("button", name="Like calibration").press("Enter")
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Like calibration")
    expect(page.get_by_role("button", name="Like calibration")).to_be_focused()
    expect(page.locator(".pager")).to_contain_text("1 to 50 of 303")
    assert "noise.png" in column(page, 3)[:3]
    assert page.get_by_label("Order", exact=True).input_value() == "Unlike first"


def test_single_pictures_are_answered_together(
    visit: Visit, server: Server, trained: Trained
) -> None:
    pictures = sorted((trained.bundle / "examples").iterdir())[:3]
    page = open_tab(visit, server)
    answered(page, *pictures)
    choose(page, "Order", "As they came")
    expect(page.locator(".batch tbody tr").first).to_contain_text(pictures[0].name)
    assert column(page, 3) == [picture.name for picture in pictures]
    for image in page.locator(".batch tbody img").all():
        assert image.evaluate("image => image.naturalWidth") == 96


def test_a_person_stops_a_batch_and_keeps_what_there_is(
    visit: Visit, server: Server, trained: Trained, tmp_path: Path
) -> None:
    many = tmp_path / "many.zip"
    picture = trained.picture.read_bytes()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(5000):
            archive.writestr(f"{number}.jpg", picture)
    page = open_tab(visit, server)
    answer(page, many)
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".summary .problem")).to_contain_text("It was stopped.")
    expect(page.locator(".summary .problem")).to_contain_text("of 5,000 pictures were answered")
    expect(page.get_by_role("table", name="Answers")).to_be_visible()
    expect(page.get_by_role("button", name="Answer them all")).to_be_enabled()


def test_what_holds_no_picture_is_explained(visit: Visit, server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("readme.txt", b"")
    page = open_tab(visit, server)
    page.get_by_role("button", name="Answer them all").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose pictures first")
    answer(page, broken)
    expect(page.get_by_role("alert")).to_contain_text("There is no picture in it")
    shoot(page, "batch-no-picture")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(
    visit: Visit, server: Server, packed: Path, look: str
) -> None:
    page = open_tab(visit, server, viewport=PHONE, device_scale_factor=2, color_scheme=look)
    answered(page, packed)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, f"batch-phone-{look}")
