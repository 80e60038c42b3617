"""What a person does with the page, in a real browser, on a real bundle."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Server, Trained, serving, shoot

Visit = Callable[..., Page]


def open_page(visit: Visit, server: Server, **options: object) -> Page:
    page = visit(server.address, **options)
    expect(page.locator(".waiting .card").first).to_be_visible()
    return page


def upload(page: Page, picture: Path) -> None:
    """Choose a file, and wait for its answer; there was none on the page before."""
    expect(page.locator("#result .bars[style]")).to_have_count(0)
    page.locator("#picture input[type=file]").set_input_files(picture)
    expect(page.locator("#result .bars[style]").first).to_be_visible()


def upload_another(page: Page, picture: Path) -> None:
    remove(page)
    upload(page, picture)


def remove(page: Page) -> None:
    page.locator("#picture").get_by_label("Remove Image").click()
    expect(page.locator(".waiting .card").first).to_be_visible()


def sets(page: Page) -> dict[str, list[str]]:
    """The highlighted classes of every card, by task; the chips must say the same."""
    found = {}
    for card in page.locator(".cards .card").all():
        chosen = card.locator(".bars .in .name").all_inner_texts()
        chips = card.locator(".chip:not(.none)").all_inner_texts()
        assert chips == chosen[: len(chips)]
        found[str(card.get_attribute("aria-label"))] = chosen
    return found


def move_slider(page: Page, alpha: float) -> None:
    """By keyboard, a step of 0.01 at a time, as everybody can."""
    slider = page.locator("#alpha input[type=range]")
    steps = round(100 * (alpha - float(slider.input_value())))
    for _ in range(abs(steps)):
        slider.press("ArrowRight" if steps > 0 else "ArrowLeft")
    expect(page.locator(".axis .mark").first).to_have_text(f"alpha {alpha:.2f}")


def choose(page: Page, control: str, option: str) -> None:
    page.locator(f"#{control} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def expected(server: Server, picture: Path, **query: object) -> dict[str, list[str]]:
    """The sets of the HTTP API, in the page's order."""
    return {
        task: sorted(answer["set"], key=lambda name: -answer["p_values"][name])
        for task, answer in server.ask(picture, **query)["tasks"].items()
    }


def test_a_person_uploads_a_picture_and_moves_the_promise(
    visit: Visit, server: Server, trained: Trained
) -> None:
    asked = {alpha: expected(server, trained.picture, alpha=alpha) for alpha in (0.1, 0.01, 0.4)}
    assert asked[0.01] != asked[0.4], "a smaller error rate asks for larger sets"
    page = open_page(visit, server)
    before = server.network_runs()
    upload(page, trained.picture)
    assert sets(page) == asked[0.1]
    assert server.network_runs() == before + 1
    shoot(page, "answer")
    for alpha in (0.01, 0.4, 0.1):
        move_slider(page, alpha)
        assert sets(page) == asked[alpha]
        shoot(page, f"alpha-{alpha}")
    assert server.network_runs() == before + 1, "only the upload ran the network"


def test_a_person_chooses_score_and_taxonomy(
    visit: Visit, server: Server, trained: Trained
) -> None:
    query = {"alpha": 0.02}
    asked = [
        expected(server, trained.picture, score="aps", **query),
        expected(server, trained.picture, score="aps", taxonomy="class", **query),
    ]
    page = open_page(visit, server)
    upload(page, trained.picture)
    before = server.network_runs()
    move_slider(page, 0.02)
    choose(page, "score", "APS")
    for task, names in asked[0].items():
        card = page.locator(f".card[aria-label='{task}']")
        expect(card.locator(".bars .in .name")).to_have_text(names)
    choose(page, "taxonomy", "class")
    expect(page.locator(".card").first).to_contain_text("Whatever the true class is")
    assert sets(page) == asked[1]
    assert server.network_runs() == before


def test_a_person_picks_an_example_by_keyboard(
    visit: Visit, server: Server, trained: Trained
) -> None:
    page = open_page(visit, server)
    examples = page.locator("[data-example]")
    assert examples.count() > 0
    for image in page.locator("[data-example] img").all():
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 0
    before = server.network_runs()
    examples.nth(1).press("Enter")
    expect(page.locator("#result .bars[style]").first).to_be_visible()
    expect(page.locator("#picture img")).to_be_visible()
    page.wait_for_timeout(500)
    assert server.network_runs() == before + 1, "to show the example is not to upload it"
    names = sorted(path.name for path in (trained.bundle / "examples").iterdir())
    assert sets(page) == expected(server, trained.bundle / "examples" / names[1])


def test_an_example_tells_its_truth(visit: Visit, server: Server, trained: Trained) -> None:
    facts = json.loads((trained.bundle / "bundle.json").read_text())
    page = open_page(visit, server)
    for number, (file, truth) in enumerate(list(facts["examples"].items())[:3]):
        asked = expected(server, trained.bundle / "examples" / file)
        example = page.locator("[data-example]").nth(number)
        told = ", ".join(f"{task} {name}" for task, name in truth.items())
        expect(example).to_have_attribute("title", told)
        example.click()
        for task, name in truth.items():
            said = page.locator(f".card[aria-label='{task}'] .truth")
            held = name in asked[task]
            expect(said).to_have_text(f"The truth is {name}: {'' if held else 'not '}in the set")
    upload_another(page, trained.picture)
    expect(page.locator(".truth")).to_have_count(0)


def test_a_person_sees_what_a_class_was_told_by(
    visit: Visit, server: Server, trained: Trained
) -> None:
    page = open_page(visit, server)
    upload(page, trained.picture)
    before = server.network_runs()
    for card in page.locator(".cards .card").all():
        heat, bars = card.locator(".heat"), card.locator(".bars button")
        expect(bars.first).to_have_attribute("aria-pressed", "true")
        shown = {heat.inner_html()}
        for number in (3, 1):
            bars.nth(number).press("Enter")
            expect(bars.nth(number)).to_have_attribute("aria-pressed", "true")
            expect(bars.nth(number)).to_be_focused()
            expect(card.locator("[aria-pressed=true]")).to_have_count(1)
            shown.add(heat.inner_html())
        assert len(shown) == 3
        for image in heat.locator("img").all():
            assert image.evaluate("image => image.naturalWidth") > 0
    move_slider(page, 0.2)
    for card in page.locator(".cards .card").all():
        expect(card.locator("[aria-pressed=true]")).to_have_count(1)
    shoot(page, "heat")
    assert server.network_runs() == before


def test_a_person_pastes_a_picture(
    visit: Visit, server: Server, trained: Trained, tmp_path: Path
) -> None:
    png = tmp_path / "image.png"
    Image.open(trained.picture).save(png)
    page = open_page(visit, server, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async png => {
          const blob = await (await fetch("data:image/png;base64," + png)).blob();
          await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }""",
        base64.b64encode(png.read_bytes()).decode(),
    )
    page.locator("#picture").get_by_label("Paste from clipboard").click()
    expect(page.locator("#result .bars[style]").first).to_be_visible()
    assert sets(page) == expected(server, png)


def test_a_person_takes_a_picture(visit: Visit, server: Server) -> None:
    page = open_page(visit, server, permissions=["camera"])
    picture = page.locator("#picture")
    picture.get_by_label("Capture from camera").click()
    picture.get_by_text("Click to Access Webcam").click()
    expect(picture.locator("video")).to_be_visible()
    page.wait_for_timeout(3000)  # the page looks for a new bundle meanwhile
    picture.get_by_label("capture photo").click()
    expect(page.locator("#result .bars[style]").first).to_be_visible()


def test_a_picture_of_something_else_gets_a_banner(
    visit: Visit, server: Server, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    picture = tmp_path / "noise.png"
    Image.fromarray(noise).save(picture)
    page = open_page(visit, server)
    upload(page, picture)
    banner = page.get_by_role("alert").filter(has_text="Unlike the calibration pictures")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text(f"p = {server.ask(picture)['outlier_p']:.3f}")
    shoot(page, "outlier")


def test_a_file_that_is_no_picture_is_explained(
    visit: Visit, server: Server, trained: Trained, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture at all")
    page = open_page(visit, server)
    page.locator("#picture input[type=file]").set_input_files(broken)
    expect(page.get_by_role("alert")).to_contain_text("This picture can’t be read")
    page.wait_for_timeout(500)  # and it stays
    shoot(page, "error")
    expect(page.get_by_role("alert")).to_contain_text("This picture can’t be read")
    remove(page)
    upload(page, trained.picture)
    assert sets(page) == expected(server, trained.picture)


def test_a_removed_picture_is_forgotten(visit: Visit, server: Server, trained: Trained) -> None:
    page = open_page(visit, server)
    upload(page, trained.picture)
    remove(page)
    page.locator("#alpha input[type=range]").press("ArrowRight")
    page.wait_for_timeout(500)
    expect(page.locator(".waiting .card").first).to_be_visible()


def test_a_removed_example_is_forgotten(visit: Visit, server: Server) -> None:
    page = open_page(visit, server)
    page.locator("[data-example]").first.click()
    expect(page.locator(".truth").first).to_be_visible()
    before = server.network_runs()
    remove(page)
    page.wait_for_timeout(500)
    expect(page.locator(".waiting .card").first).to_be_visible()
    assert server.network_runs() == before


def test_nothing_jumps_and_all_fits_a_laptop(
    visit: Visit, server: Server, trained: Trained
) -> None:
    page = open_page(visit, server)
    shoot(page, "waiting")

    def places() -> list[object]:
        cards = page.locator(".cards .card, .cards .bars").all()
        return [card.bounding_box() for card in cards]

    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollHeight <= innerHeight"))

    assert fits()
    before = places()
    upload(page, trained.picture)
    assert fits()
    for alpha in (0.01, 0.2, 0.5):
        assert places() == before
        move_slider(page, alpha)
        assert fits()
    assert places() == before


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(
    visit: Visit, server: Server, trained: Trained, look: str
) -> None:
    page = open_page(visit, server, viewport=PHONE, device_scale_factor=2, color_scheme=look)
    upload(page, trained.picture)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, f"phone-{look}")


def test_dark_mode_is_dark_and_readable(visit: Visit, server: Server, trained: Trained) -> None:
    page = open_page(visit, server, color_scheme="dark")
    upload(page, trained.picture)
    shoot(page, "dark")
    lightness = """selector => {
      const style = getComputedStyle(document.querySelector(selector));
      const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
          .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      return [light(style.color), light(style.backgroundColor)];
    }"""
    ink, sheet = page.evaluate(lightness, ".card")
    assert (ink + 0.05) / (sheet + 0.05) > 7
    for selector in (".card .words", ".card h2", ".bars .out"):
        soft, _ = page.evaluate(lightness, selector)
        assert (soft + 0.05) / (sheet + 0.05) > 4.5, selector


def test_bundles_appear_and_are_exchanged_without_a_restart(
    visit: Visit, trained: Trained, tmp_path: Path
) -> None:
    def publish(name: str) -> None:
        shutil.copytree(trained.bundle, tmp_path / f".{name}")
        (tmp_path / f".{name}").rename(tmp_path / name)
        link = tmp_path / ".latest"
        link.symlink_to(name)
        link.rename(tmp_path / "latest")

    with serving(tmp_path) as server:
        page = visit(server.address)
        expect(page.get_by_text("No model in service yet")).to_be_visible()
        expect(page.get_by_text("make train", exact=True)).to_be_visible()
        shoot(page, "no-bundle")
        publish("first")
        expect(page.locator(".waiting .card").first).to_be_visible()
        expect(page.locator(".facts").first).to_contain_text("first")
        expect(page.get_by_text("No model in service yet")).to_have_count(0)
        upload(page, trained.picture)
        before = server.network_runs()
        publish("second")
        expect(page.locator(".facts").first).to_contain_text("second")
        assert server.network_runs() == before + 1, "the picture was read again"
        expect(page.locator("[data-example] img").first).to_have_attribute(
            "src", re.compile("/second/")
        )
        assert sets(page) == expected(server, trained.picture)
        (tmp_path / "second" / "heads.safetensors").open("ab").write(b"x")
        (tmp_path / "second" / "bundle.json").touch()
        expect(page.locator(".problem")).to_contain_text("damaged")
        shoot(page, "damaged")
        assert sets(page) == expected(server, trained.picture)
        page.close()
