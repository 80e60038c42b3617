"""What one client may ask of a real server, and how it is told that this is too much."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from app.web import connection, limits
from app.web.api import MOST_NAMES, MOST_REQUESTS, MOST_TEXT
from app.web.connection import Connection
from app.web.limits import DiskLimit
from app.web.served import Served
from app.web.server import application, listen
from tests.unit.web.fake import FakeClassifier, load_fake, picture, write_fake_bundle

STATIC = Path(__file__).parents[3] / "static"
BODY = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    + picture(200, 30, 30)
    + b"\r\n--x--\r\n"
)
HEAD = (
    "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    f"Content-Length: {len(BODY)}\r\n"
).encode()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("limits")
    write_fake_bundle(folder / "models", "first")
    app = application(Served(folder / "models", load=load_fake), STATIC, folder / "uploads")
    config = uvicorn.Config(app, http=Connection, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def answer_to(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of an answer after which the server hangs up."""
    client.settimeout(10)
    data = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    return int(first.split()[1]), headers, json.loads(body)


def trickle(client: socket.socket, data: bytes, pause: float) -> None:
    """Send a byte at a time until nobody listens."""
    for byte in data:
        try:
            client.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(pause)


def test_a_body_that_hardly_comes_is_a_408(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_PATIENCE_S", 0.5)
    for pause in (30.0, 0.05):  # It stops, or a byte comes now and then.
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(HEAD + b"\r\n")
            sender = threading.Thread(target=trickle, args=(client, BODY, pause), daemon=True)
            sender.start()
            started = time.monotonic()
            status, headers, said = answer_to(client)
        assert status == 408 and "too slowly" in said["error"]
        assert headers["connection"] == "close"
        assert 0.4 < time.monotonic() - started < 5


def test_a_large_body_may_take_its_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_PATIENCE_S", 0.3)
    rest = b'\r\n--x\r\nContent-Disposition: form-data; name="y"\r\n\r\n' + b"0" * 60_000
    body = BODY[: -len(b"\r\n--x--\r\n")] + rest + b"\r\n--x--\r\n"

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(body), 16_000):
            yield body[start : start + 16_000]
            time.sleep(0.3)

    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/predict",
        content=slowly(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 200


def test_a_client_that_never_says_what_it_wants_is_left(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PATIENCE_S", 0.5)
    for head in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with socket.create_connection(("127.0.0.1", port)) as client:
            threading.Thread(target=trickle, args=(client, head * 9, 0.05), daemon=True).start()
            started = time.monotonic()
            client.settimeout(10)
            assert client.recv(100) == b""
            assert 0.4 < time.monotonic() - started < 5


def test_a_head_without_an_end_is_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        client.settimeout(10)
        with pytest.raises(OSError):
            for _ in range(1000):
                client.sendall(b"x" * 65_536)
                time.sleep(0.001)


def test_a_head_of_ordinary_length_is_read(port: int) -> None:
    long = {f"X-{i}": "y" * 4000 for i in range(10)}
    with httpx.Client() as client:
        for _ in range(3):  # on one connection, each counts anew
            assert client.get(f"http://127.0.0.1:{port}/healthz", headers=long).status_code == 200


def test_text_is_bounded_where_no_pictures_are_sent(port: int) -> None:
    for path, most in (
        ("/gradio_api/queue/join", MOST_NAMES),
        ("/gradio_api/call/batch", MOST_NAMES),
        ("/gradio_api/call/predict", MOST_TEXT),
        ("/nothing", MOST_TEXT),
    ):
        sent = httpx.post(f"http://127.0.0.1:{port}{path}", content=b"[" * (most + 1))
        assert sent.status_code == 413 and sent.json()["error"]


def test_uploads_to_the_page_fill_no_disk(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "models", "first")
    (tmp_path / "uploads/kept").mkdir(parents=True)
    (tmp_path / "uploads/kept/a.zip").write_bytes(bytes(700))
    served = Served(tmp_path / "models", load=load_fake)
    app = DiskLimit(application(served, STATIC, tmp_path / "x"), "/up", tmp_path / "uploads", 1000)
    with TestClient(app) as client:
        assert client.post("/up", content=bytes(300)).status_code == 404  # let through
        full = client.post("/up", content=bytes(301))
        assert full.status_code == 507 and "no room" in full.json()["error"]
        broken = tmp_path / "uploads/tmpbroken"
        broken.write_bytes(bytes(200))
        assert client.post("/up", content=bytes(300)).status_code == 507
        os.utime(broken, (0, 0))
        os.utime(tmp_path / "uploads/kept/a.zip", (0, 0))
        assert client.post("/up", content=bytes(300)).status_code == 404
        assert not broken.exists() and (tmp_path / "uploads/kept/a.zip").exists()
        assert client.get("/up").status_code == client.post("/upper").status_code == 404
        assert client.post("/up", content=iter([b"x"])).status_code == 411
        assert client.get("/healthz").status_code == 200


def test_of_a_thousand_requests_at_once_each_gets_an_answer(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is held, so that all of them are there at once."""
    waiting: list[Future[Any]] = []

    def held(self: FakeClassifier, picture: Any) -> Future[Any]:
        waiting.append(Future())
        return waiting[-1]

    monkeypatch.setattr(FakeClassifier, "submit", held)

    async def ask(count: int) -> list[tuple[int, dict[str, str]]]:
        async def one() -> tuple[int, dict[str, str]]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD + b"Connection: close\r\n\r\n" + BODY)
            data = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            head = data.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
            return int(head[0].split()[1]), dict(line.split(": ", 1) for line in head[1:])

        return await asyncio.gather(*(one() for _ in range(count)))

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(asyncio.run, ask(1000))
        until = time.monotonic() + 30
        while len(waiting) < MOST_REQUESTS and time.monotonic() < until:
            health = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
            assert health.status_code == 200
        time.sleep(1)
        assert len(waiting) == MOST_REQUESTS
        reading = FakeClassifier._read(FakeClassifier.__new__(FakeClassifier), picture(9, 9, 9))
        for result in waiting:
            result.set_result(reading)
        answers = asked.result(60)
    statuses = [status for status, _ in answers]
    assert statuses.count(200) == MOST_REQUESTS
    assert statuses.count(429) == 1000 - MOST_REQUESTS
    assert all(int(headers["retry-after"]) >= 1 for s, headers in answers if s == 429)
