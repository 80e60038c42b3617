"""A person tells what is true, sees whether the promise holds, and renews it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from app.bundle import open_bundle
from app.conformal.spaces import JOINT
from app.feedback import Feedback, Word
from app.pipeline.predict import Classifier
from app.web.feedback import ANONYMOUS
from tests.browser.conftest import PHONE, Trained, serving, shoot
from tests.browser.test_accessibility import LOOKS, check

Visit = Callable[..., Page]


@pytest.fixture
def place(trained: Trained, tmp_path: Path) -> Trained:
    """The bundle in a folder of its own, to which another may be added."""
    shutil.copytree(trained.models_dir, tmp_path / "models", symlinks=True)
    return Trained(tmp_path / "models", trained.picture)


def tell_much(place: Trained, folder: Path, n: int, wrong: bool = False) -> None:
    """As if people had told of n pictures, near the examples: what is likely, or what is least."""
    classifier = Classifier(place.bundle, open_bundle(place.bundle))
    rng = np.random.default_rng(0)
    readings: Any = classifier.read(classifier.examples)
    features = np.stack([reading.features for reading in readings])[
        rng.integers(0, len(readings), n)
    ]
    features = (features + 0.05 * features.std() * rng.normal(size=features.shape)).astype("f4")
    probs = classifier.probabilities(features)
    feedback = Feedback(folder)
    for i in range(n):
        truth = {}
        for task, names in classifier.classes.items():
            p = probs[task][i]
            truth[task] = names[int(p.argmin() if wrong else rng.choice(len(p), p=p))]
        feedback.keep(
            Word(
                who="somebody",
                bundle=classifier.path.name,
                content=classifier.facts["content_sha256"],
                runtime=classifier.runtime,
                picture=b"%d" % i,
                features=features[i],
                asked={},
                answered={},
                truth=truth,
            )
        )
    feedback.close()


def open_monitoring(page: Page) -> None:
    tab = page.get_by_role("tab", name="Monitoring")
    if page.viewport_size == PHONE:  # There is no room for every tab.
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown").get_by_text("Monitoring")
    tab.click()
    expect(page.locator(".monitoring .card").first).to_be_visible()


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollHeight <= innerHeight"))


def test_a_person_tells_the_truth_by_keyboard(visit: Visit, place: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "feedback"
    with serving(place.models_dir, flags=("--feedback", str(folder))) as server:
        page = visit(server.address)
        page.locator("[data-example]").nth(1).click()
        expect(page.locator("#result .bars[style]").first).to_be_visible()
        assert fits(page)
        page.locator(".tell summary").press("Enter")
        classes = open_bundle(place.bundle)["tasks"]
        told = {task: names[1] for task, names in classes.items()}
        task = next(iter(told))
        choose = page.get_by_role("combobox", name=task, exact=True)
        choose.press("ArrowDown")
        choose.press("ArrowDown")
        expect(choose).to_have_value(told[task])
        page.locator(".tell button").press("Enter")
        expect(page.locator(".tell [role=status]")).to_have_text("Thank you, it was kept.")
        shoot(page, "truth-kept")

        classifier = Classifier(place.bundle, open_bundle(place.bundle))
        kept = Feedback(folder).told(
            classifier.facts["content_sha256"], classifier.runtime, classifier.classes
        )
        assert len(kept) == 1 and kept.labels[task].tolist() == [1]
        unknown = [codes.tolist() for name, codes in kept.labels.items() if name != task]
        assert unknown == [[-1]] * len(unknown)

        page.locator("[data-example]").nth(2).click()
        expect(page.locator(".tell")).not_to_have_attribute("open", "")
        expect(page.locator(".tell .said")).to_have_count(0)
        open_monitoring(page)
        expect(page.locator(".monitoring .lead")).to_contain_text("1 picture was told of")
        assert server.monitoring()["answers"] == 1
        assert ANONYMOUS in str(folder.joinpath("feedback.sqlite3-wal").read_bytes())


def test_without_a_picture_nothing_is_kept(visit: Visit, place: Trained, tmp_path: Path) -> None:
    with serving(place.models_dir, flags=("--feedback", str(tmp_path / "feedback"))) as server:
        page = visit(server.address)
        page.locator(".tell summary").click()
        page.locator(".tell button").click()
        expect(page.locator(".tell [role=alert]")).to_have_text("Choose a picture first.")
        open_monitoring(page)
        expect(page.locator(".monitoring")).to_contain_text("Nothing is known yet")
        assert fits(page)
        shoot(page, "monitoring-empty")
        page.locator("#recalibrate").click()
        page.locator("#recalibrate-yes").click()
        expect(page.locator("#recalibrated [role=alert]")).to_contain_text(
            "there are 0 pictures whose every true class was told"
        )
        shoot(page, "recalibrated-refused")
        assert not (tmp_path / "feedback").exists()


def test_a_kept_promise_is_renewed_on_feedback(
    visit: Visit, place: Trained, tmp_path: Path
) -> None:
    tell_much(place, tmp_path / "feedback", 150)
    old = place.bundle
    with serving(place.models_dir, flags=("--feedback", str(tmp_path / "feedback"))) as server:
        page = visit(server.address)
        open_monitoring(page)
        told = server.monitoring()
        for task, of in {**told["tasks"], JOINT: told["joint"]}.items():
            name = "All at once" if task == JOINT else task
            card = page.locator(f".monitoring .card[aria-label='{name}']")
            expect(card).to_contain_text(f"{of['covered']} of {of['n']} sets held the truth")
            assert card.locator("svg .band").count() == 1
        assert fits(page)
        shoot(page, "monitoring")

        page.locator("#recalibrate").press("Enter")
        page.locator("#recalibrate-no").press("Enter")
        expect(page.locator("#recalibrate")).to_be_visible()
        assert place.bundle == old
        page.locator("#recalibrate").press("Enter")
        page.locator("#recalibrate-yes").press("Enter")
        said = page.locator("#recalibrated [role=status]")
        expect(said).to_contain_text("The new bundle is", timeout=90_000)
        new = place.bundle
        assert new != old and open_bundle(new)["calibrated_on"] == "feedback" and open_bundle(old)
        expect(said).to_contain_text(new.name)
        expect(page.locator("#header")).to_contain_text(new.name)
        expect(page.locator(".monitoring .lead")).to_contain_text("No picture was told of yet")
        shoot(page, "recalibrated")


@pytest.mark.parametrize("look", LOOKS)
def test_a_broken_promise_is_plain_to_see_for_everybody(
    visit: Visit, place: Trained, tmp_path: Path, look: str
) -> None:
    tell_much(place, tmp_path / "feedback", 120, wrong=True)
    with serving(place.models_dir, flags=("--feedback", str(tmp_path / "feedback"))) as server:
        page = visit(server.address, **LOOKS[look])
        page.locator(".tell summary").click()
        page.locator(".tell button").click()
        expect(page.locator(".tell [role=alert]")).to_be_visible()
        check(page, look, "truth-refused")
        open_monitoring(page)
        expect(page.locator(".monitoring .usual")).to_contain_text("The promise is not kept")
        expect(page.locator(".monitoring .card.broken").first).to_contain_text("Alarm")
        check(page, look, "monitoring-broken")
        page.locator("#recalibrate").click()
        expect(page.locator("#recalibrate-yes")).to_be_visible()
        check(page, look, "recalibrate-asked")
        assert server.monitoring()["tasks"]["colour"]["kept"] is False
