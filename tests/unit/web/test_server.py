"""The whole server: sockets, signals, the page's own endpoints."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx
import pytest
import uvicorn
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from gradio_client.exceptions import AppError  # type: ignore[import-untyped]
from gradio_client.utils import Status  # type: ignore[import-untyped]

from app.errors import SuresetError
from app.web.api import MOST_BYTES
from app.web.served import Served
from app.web.server import application, listen
from tests.unit.web.fake import load_fake, picture, write_fake_bundle
from tests.unit.web.zips import write_zip

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "static"


@contextmanager
def running(models_dir: Path, uploads: Path) -> Iterator[str]:
    """The application on a real socket; yields its address."""
    server = uvicorn.Server(
        uvicorn.Config(
            application(Served(models_dir, load=load_fake), STATIC, uploads),
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_fake_bundle(folder, "first")
    return folder


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(models_dir: Path, uploads: Path) -> Iterator[str]:
    with running(models_dir, uploads) as address:
        yield address


@pytest.fixture(scope="module")
def page(address: str) -> Client:
    return Client(address, verbose=False, analytics_enabled=False)


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(picture(200, 30, 30))
    return path


def test_api_and_page_share_one_port(address: str) -> None:
    assert httpx.get(f"{address}/readyz").json() == {"status": "ready", "model": "first"}
    page = httpx.get(address)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    files = {"image": ("a.png", picture(0, 0, 250))}
    [answer] = httpx.post(f"{address}/v1/predict", files=files).json()
    assert answer["tasks"]["colour"]["top"] == "blue"
    assert httpx.post(f"{address}/v1/nothing").json()["error"]


def test_the_page_answers_programs_under_a_name(page: Client, red: Path) -> None:
    answer = page.predict(handle_file(red), 0.12, "hinge", "task", api_name="/predict")
    assert answer["image"] == "red.png"
    assert answer["tasks"]["colour"]["set"] == ["red"]
    whole = page.predict(handle_file(red), api_name="/predict")
    assert whole["tasks"]["colour"]["set"] == ["red", "green", "blue"]


def test_a_batch_is_answered_under_a_name(page: Client, red: Path, tmp_path: Path) -> None:
    """Pictures and zips together; both files hold an answer to each."""
    files = {"a/blue.png": picture(0, 0, 250), "broken.png": b"<html>", "notes.txt": b""}
    packed = write_zip(tmp_path / "a.zip", files)
    asked = [handle_file(red), handle_file(packed)]
    jsonl, as_csv = page.predict(asked, 0.12, "hinge", "task", api_name="/batch")
    lines = [json.loads(line) for line in Path(jsonl).read_text().splitlines()]
    assert [line["image"] for line in lines] == ["red.png", "a.zip/a/blue.png", "a.zip/broken.png"]
    assert lines[0] == page.predict(handle_file(red), 0.12, "hinge", "task", api_name="/predict")
    assert lines[1]["tasks"]["colour"]["set"] == ["blue"] and "not a picture" in lines[2]["error"]
    assert Path(as_csv).read_text().splitlines()[1].startswith("red.png,red,1,red,")


def test_a_batch_that_cannot_be_is_one_sentence(page: Client, red: Path, tmp_path: Path) -> None:
    empty = write_zip(tmp_path / "a.zip", {"notes.txt": b""})
    for files, alpha, sentence in (
        ([], 0.1, "choose pictures first"),
        ([handle_file(empty)], 0.1, "no picture in it"),
        ([handle_file(red)], 7, "alpha must lie"),
    ):
        with pytest.raises(AppError, match=sentence):
            page.predict(files, alpha, api_name="/batch")


def test_answers_to_a_batch_are_gone_when_the_session_ends(
    address: str, uploads: Path, red: Path
) -> None:
    gradio = f"{address}/gradio_api"
    [sent] = httpx.post(f"{gradio}/upload", files={"files": red.read_bytes()}).json()
    file = {"path": sent, "orig_name": "red.png", "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [[file], None, None, None], "session_hash": "mine"}
    with httpx.stream("GET", f"{gradio}/heartbeat/mine") as heart:
        beats = heart.iter_bytes()  # Dropped, it would hang up.
        next(beats)
        before = set((uploads / "batches").glob("*"))
        event = httpx.post(f"{gradio}/call/batch", json=asked).json()["event_id"]
        assert "event: complete" in httpx.get(f"{gradio}/call/batch/{event}").text
        [folder] = set((uploads / "batches").iterdir()) - before
        assert (folder / "answers.csv").is_file()
    end = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_picture_that_is_too_large_is_said_so(page: Client, tmp_path: Path) -> None:
    """A zip may be larger, so the upload itself is let through."""
    large = tmp_path / "large.png"
    with open(large, "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(AppError, match="larger than 32 MB"):
        page.predict(handle_file(large), api_name="/predict")


def test_the_named_endpoints_are_the_only_ones(page: Client) -> None:
    named = page.view_api(return_format="dict")["named_endpoints"]
    assert sorted(named) == ["/batch", "/predict"]


def test_the_page_tells_programs_what_is_wrong(page: Client, red: Path) -> None:
    with pytest.raises(AppError, match="no such method"):
        page.predict(handle_file(red), 0.1, "best", api_name="/predict")
    red.write_bytes(b"no picture")
    with pytest.raises(AppError, match="not a picture"):
        page.predict(handle_file(red), api_name="/predict")


def test_a_file_of_the_server_is_not_read(address: str, models_dir: Path) -> None:
    """Only what was uploaded is a picture, whatever path a client sends."""
    secret = models_dir / "first/examples/20.png"
    sent = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    asked = (sent, {"path": str(secret)}, {"path": "../" * 20 + str(secret)[1:]})
    for endpoint, file in product(("predict", "batch"), asked):
        call = f"{address}/gradio_api/call/{endpoint}"
        one = file if endpoint == "predict" else [file]
        started = httpx.post(call, json={"data": [one, None, None, None]})
        told = httpx.get(f"{call}/{started.json()['event_id']}").text if started.is_success else ""
        assert "event: complete" not in told
        assert "blue" not in told
    for path in (secret, STATIC / "style.css", ROOT / "pyproject.toml", "/etc/hostname"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)


def test_the_page_names_nobody_outside(address: str) -> None:
    """Neither fonts nor scripts: what the page loads comes from here."""
    page = httpx.get(address).text
    loaded = re.findall(r"""(?:src|href)=["'](https?:)?//([^"'/]+)""", page)
    assert [host for _, host in loaded] == []
    assert "fonts.googleapis" not in page
    config = httpx.get(f"{address}/config").json()
    assert config["analytics_enabled"] is False


def test_connections_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_one_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SuresetError, match=rf"^port {port} is in use: .* --port\.$"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    for address in ("203.0.113.7", "no.such.host.invalid"):
        with pytest.raises(SuresetError, match=r"no address .* --address"):
            listen(address, 0)


def test_missing_web_assets_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match="--static"):
        application(Served(tmp_path), tmp_path, tmp_path)


def python(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def started(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The port a process serves at, once it does, and what it said until then."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"Sureset is serving at http://127\.0\.0\.1:(\d+)$", line):
            return int(found[1]), said
    pytest.fail("".join(said))


def told_to_stop(process: subprocess.Popen[str], told: float) -> str:
    """What a process says in the less than 3 s that it takes to end."""
    assert process.stderr is not None
    rest = process.stderr.read()
    assert process.wait(10) == 0
    assert time.monotonic() - told < 3
    assert "Traceback" not in rest
    assert rest.strip().endswith("Sureset has stopped")
    return rest


@contextmanager
def open_page(port: int) -> Iterator[None]:
    """A connection that the server keeps as long as the page is open."""
    with socket.create_connection(("127.0.0.1", port)) as page:
        page.sendall(b"GET /gradio_api/heartbeat/x HTTP/1.1\r\nHost: x\r\n\r\n")
        page.recv(1)
        yield


@contextmanager
def slow_server(seconds: float, models_dir: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command ``serve``, in a process that takes so long for each picture."""
    where = ("--port", "0", "--models", str(models_dir), "--log", "off")
    process = python(
        *("-m", "tests.unit.web.slow", str(seconds), "serve", *where), TMPDIR=str(folder)
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_readings(process: subprocess.Popen[str], n: int) -> None:
    assert process.stderr is not None
    assert [process.stderr.readline() for _ in range(n)] == ["reading\n"] * n


def ask(port: int) -> int:
    """Send a picture; gives the status of the answer."""
    files = {"image": ("a.png", picture(0, 0, 250))}
    return httpx.post(f"http://127.0.0.1:{port}/v1/predict", files=files, timeout=30).status_code


def test_the_command_refuses_a_port_in_use_without_a_traceback(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        process = python("-m", "app", "serve", "--port", str(port), "--models", str(tmp_path))
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    [line] = said.splitlines()
    assert line.startswith(f"error: port {port} is in use: ")


def test_the_command_says_where_it_serves_and_stops_when_told(tmp_path: Path) -> None:
    """With a page open: its connection must not hold up the end. Nothing stays behind."""
    where = ("--port", "0", "--models", str(tmp_path))
    process = python("-m", "app", "serve", *where, TMPDIR=str(tmp_path))
    port, said = started(process)
    assert "make train" in said[0], "it says that there is no bundle yet"
    with open_page(port):
        assert any(tmp_path.iterdir())
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        told_to_stop(process, told)
    assert list(tmp_path.iterdir()) == []


def test_what_was_asked_is_answered_before_it_stops(
    models_dir: Path, tmp_path: Path, red: Path
) -> None:
    """Programs that asked, and a page that waits; nobody new is let in meanwhile."""
    with ThreadPoolExecutor() as pool, slow_server(1.5, models_dir, tmp_path) as process:
        port, _ = started(process)
        page = Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
        on_page = page.submit(handle_file(red), api_name="/predict")
        while on_page.status().code is not Status.PROCESSING:
            time.sleep(0.02)
        wait_for_readings(process, 1)
        asked = [pool.submit(ask, port) for _ in range(4)]
        wait_for_readings(process, 4)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert not any(one.done() for one in asked)
        told_to_stop(process, told)
        assert [one.result(5) for one in asked] == [200] * 4
        assert on_page.result(5)["image"] == "red.png"


def test_what_does_not_end_is_cut_off(models_dir: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool, slow_server(60, models_dir, tmp_path) as process:
        port, _ = started(process)
        with open_page(port):
            asked = pool.submit(ask, port)
            wait_for_readings(process, 1)
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest = told_to_stop(process, told)
            with pytest.raises(httpx.RemoteProtocolError):
                asked.result(5)
    assert rest.splitlines()[0] == "requests that took too long and were cut off: 1"
    assert list(tmp_path.iterdir()) == []


def test_an_answer_nobody_waits_for_holds_up_nothing(models_dir: Path, tmp_path: Path) -> None:
    with slow_server(60, models_dir, tmp_path) as process:
        port, _ = started(process)
        with pytest.raises(httpx.ReadTimeout):
            files = {"image": ("a.png", picture(0, 0, 250))}
            httpx.post(f"http://127.0.0.1:{port}/v1/predict", files=files, timeout=0.3)
        wait_for_readings(process, 1)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = told_to_stop(process, told)
        assert time.monotonic() - told < 1.5
    assert "cut off" not in rest


def test_serving_does_not_wait_for_torch() -> None:
    code = (
        "import sys, app.web.server, app.web.page, app.pipeline.predict;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
