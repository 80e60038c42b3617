"""What people send who mean no good, or know no better."""

from __future__ import annotations

import shutil
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.web.api import api
from app.web.meters import Meters
from app.web.served import Served
from app.web.service import Service
from tests.unit.web.fake import load_fake, picture, write_fake_bundle


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it has so many pixels, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + min(width, 10**6)) * 16)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def gif_of_many_frames() -> bytes:
    buffer = BytesIO()
    frames = [Image.new("P", (64, 64), i % 7) for i in range(500)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bomb(60_000, 60_000), id="a picture bomb"),
        pytest.param(bomb(2**31 - 1, 2**31 - 1), id="more pixels than there are numbers"),
        pytest.param(bomb(90_000_001, 1), id="one pixel too many, in a line"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", id="SVG"),
        pytest.param(b"<!doctype html><script>alert(1)</script>", id="HTML"),
        pytest.param(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3", id="PDF"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", id="PostScript"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="a zip"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(picture(9, 9, 9)[:70], id="half a picture"),
    ],
)
def test_what_is_no_picture_says_so_in_its_place(client: TestClient, data: bytes) -> None:
    started = time.monotonic()
    files = [("image", ("car.png", data)), ("image", ("b.png", picture(200, 30, 30)))]
    bad, good = client.post("/v1/predict", files=files).json()
    assert bad.keys() == {"image", "error"} and bad["error"]
    assert good["tasks"]["colour"]["top"] == "red"
    assert time.monotonic() - started < 5


def test_of_many_frames_the_first_is_read(client: TestClient) -> None:
    [answer] = client.post("/v1/predict", files={"image": ("a.gif", gif_of_many_frames())}).json()
    assert "tasks" in answer


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "/etc/passwd",
        "..\\..\\windows\\system.ini",
        "file:///etc/passwd",
        "a\x00b.png",
        "<img src=x onerror=alert(1)>.png",
        "x" * 5000,
        "\u202egnp.exe",
    ],
)
def test_a_name_is_only_a_name(
    client: TestClient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    response = client.post("/v1/predict", files={"image": (name, picture(200, 30, 30))})
    assert response.status_code in (200, 400)
    assert response.headers["content-type"] == "application/json"
    assert sorted(tmp_path.rglob("*")) == before
    if response.status_code == 200:
        assert response.json()[0]["tasks"]["colour"]["top"] == "red"


def test_a_thousand_fields_are_refused_in_json(client: TestClient) -> None:
    many = {f"field{i}": "x" for i in range(1500)}
    for asked in (
        client.post("/v1/predict", data=many, files={"image": ("a.png", picture(1, 1, 1))}),
        client.post("/v1/predict", files=[("image", (f"{i}", b"")) for i in range(1500)]),
    ):
        assert asked.status_code in (400, 413, 422)
        assert asked.json()["error"]


def test_bundles_are_replaced_and_deleted_while_pictures_are_answered(tmp_path: Path) -> None:
    """Whatever is on the disk: every answer is whole, and of one bundle or another."""
    write_fake_bundle(tmp_path, "bundle-0")
    client = TestClient(api(Service(Served(tmp_path, load=load_fake), Meters())))
    assert client.get("/readyz").is_success  # Before the first one is there, a 503 would be right.
    enough = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        files = {"image": ("a.png", picture(200, 30, 30))}
        while not enough.is_set():
            answer = client.post("/v1/predict", files=files)
            statuses.append(answer.status_code)
            assert answer.json()[0]["tasks"]["colour"]["top"] == "red"

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for i in range(1, 15):
            link = tmp_path / "latest"
            link.unlink()
            if i % 3:
                write_fake_bundle(tmp_path, f"bundle-{i}")
                time.sleep(0.02)
            shutil.rmtree(tmp_path / f"bundle-{i - 1}", ignore_errors=True)
            if not i % 3:
                write_fake_bundle(tmp_path, f"bundle-{i}")
            time.sleep(0.05)
        enough.set()
        for each in asking:
            each.result(10)
    assert len(statuses) > 20 and set(statuses) == {200}
    assert client.get("/v1/model").json()["name"] == "bundle-14"
