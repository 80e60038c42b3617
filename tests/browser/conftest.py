"""A person's browser on a real server with a really trained bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
#: A wait ends when what it waits for is there; this is how long a busy machine may take.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

LAPTOP = {"width": 1280, "height": 720}
PHONE = {"width": 390, "height": 844}

#: No calls of the browser's own, which nobody would answer on a closed network; and a camera.
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@dataclass(frozen=True)
class Trained:
    """What a small training run left behind.

    Attributes:
        models_dir: its folder of bundles, with one, the latest.
        picture: a picture of its test split.
    """

    models_dir: Path
    picture: Path

    @property
    def bundle(self) -> Path:
        return (self.models_dir / "latest").resolve()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A bundle made by the commands a person would type, on a small sample set."""
    folder = tmp_path_factory.mktemp("trained")
    environment = {
        **os.environ,
        "DATA_DIR": str(folder / "data"),
        "MODELS_DIR": str(folder / "models"),
        "CACHE_DIR": str(folder / "cache"),
        "LOGS_DIR": str(folder / "logs"),
        "SAMPLE_SIZE": "300",
        "BACKBONE": "tf_efficientnet_lite0",
    }
    for command in ("prefetch", "train"):
        done = subprocess.run(
            [sys.executable, "-m", "app", command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    models_dir = folder / "models"
    return Trained(models_dir, sorted((models_dir / "latest" / "examples").iterdir())[0])


class Server:
    """A running ``python -m app serve``."""

    def __init__(self, address: str) -> None:
        self.address = address

    def network_runs(self) -> float:
        """Pictures that went through the network so far, of this server's API and page."""
        text = httpx.get(f"{self.address}/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "sureset_pictures_total"
        )

    def ask(self, picture: Path, **query: Any) -> dict[str, Any]:
        """What the HTTP API answers."""
        files = {"image": (picture.name, picture.read_bytes())}
        [answer] = httpx.post(f"{self.address}/v1/predict", params=query, files=files).json()
        return answer

    def monitoring(self) -> dict[str, Any]:
        """What the HTTP API says of feedback."""
        told: dict[str, Any] = httpx.get(f"{self.address}/v1/monitoring").json()
        return told


@contextmanager
def serving(models_dir: Path, *program: str, flags: Sequence[str] = ()) -> Iterator[Server]:
    """Serve ``models_dir`` on a free port, by another ``program`` than the app where named."""
    asked = "--port", "0", "--models", str(models_dir), *flags
    process = subprocess.Popen(
        [sys.executable, "-m", *(program or ("app",)), "serve", *asked],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"Sureset is serving at (http://\S+)$", line):
                yield Server(found[1])
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.terminate()
        rest = process.communicate(timeout=10)[1]
    assert process.returncode == 0
    assert "Traceback" not in rest, rest


@pytest.fixture(scope="session")
def server(trained: Trained) -> Iterator[Server]:
    with serving(trained.models_dir) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip(f"none of the browsers {', '.join(names)} is installed")
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``visit(address, **context)`` opens a page; at the end none may have asked anybody else."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    def visit(address: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": LAPTOP, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    here = re.compile(r"(https?|ws)://127\.0\.0\.1:|data:|blob:")
    assert [url for url in asked if not here.match(url)] == []
    assert complaints == []


def shoot(page: Page, name: str) -> None:
    """Keep a picture of the page, for people to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.wait_for_timeout(300)  # colours and bars ease in
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=page.viewport_size == PHONE)
