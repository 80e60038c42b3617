"""Behind a real Caddy with the Caddyfile of this repository."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file  # type: ignore[import-untyped]

from tests.unit.web.fake import picture, write_fake_bundle

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address people would use."""
    if shutil.which("caddy") is None:
        pytest.skip("the proxy caddy is not installed")
    folder = tmp_path_factory.mktemp("proxy")
    write_fake_bundle(folder / "models", "first")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.unit.web.slow", "-1", "serve", "--port", "0"),
            *("--models", str(folder / "models"), "--root-path", "/sureset"),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    [port] = re.findall(r":(\d+)$", server.stderr.readline().strip())
    with socket.create_server(("127.0.0.1", 0)) as free:
        site = f"http://127.0.0.1:{free.getsockname()[1]}"
    proxy = subprocess.Popen(
        ["caddy", "run", "--config", str(ROOT / "docker/proxy/Caddyfile")],
        env={
            **os.environ,
            "SITE": site,
            "SURESET": f"127.0.0.1:{port}",
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            try:
                httpx.get(f"{site}/sureset/healthz")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        yield site
    finally:
        for process in (server, proxy):
            process.terminate()
            process.wait(10)


def test_the_api_answers_under_the_path(site: str) -> None:
    files = {"image": ("a.png", picture(200, 30, 30))}
    answer = httpx.post(f"{site}/sureset/v1/predict", files=files)
    assert answer.json()[0]["tasks"]["colour"]["top"] == "red"
    assert answer.headers["x-request-id"]
    assert httpx.get(f"{site}/sureset/readyz").json()["model"] == "first"
    described = httpx.get(f"{site}/sureset/openapi.json").json()
    assert described["servers"] == [{"url": "/sureset"}]
    assert httpx.get(f"{site}/v1/model").status_code in (200, 404)
    assert httpx.get(f"{site}/sureset", follow_redirects=True).status_code == 200


def test_the_page_finds_all_it_needs_under_the_path(site: str) -> None:
    with httpx.Client() as client:
        page = client.get(f"{site}/sureset/")
        assert page.status_code == 200
        assert f'"root":"{site}/sureset"' in page.text
        wanted = set(
            re.findall(
                r'(?:src|href)="((?:\./)?(?:assets|theme|static|gradio_api)[^"]*)"', page.text
            )
        )
        assert wanted
        for path in wanted:
            assert client.get(f"{site}/sureset/{path.removeprefix('./')}").status_code == 200, path
        assert client.get(f"{site}/sureset/examples/first/0").headers["content-type"] == "image/png"


def test_programs_speak_to_the_page_under_the_path(site: str, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(picture(200, 30, 30))
    page = Client(f"{site}/sureset/", verbose=False, analytics_enabled=False)
    answer = page.predict(handle_file(tmp_path / "red.png"), 0.12, api_name="/predict")
    assert answer["tasks"]["colour"]["set"] == ["red"]
