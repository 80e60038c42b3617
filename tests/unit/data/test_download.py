"""Downloads from a real server that breaks off, ignores ranges, lies and refuses."""

from __future__ import annotations

import errno
import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.data import download
from app.data.download import fetch
from app.errors import SuresetError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``CONTENT``; its attributes say how badly."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.break_off_after: int | None = None
        self.ranges = True
        self.status = 200
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        start, total = 0, len(server.content)
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        end = total if server.break_off_after is None else start + server.break_off_after
        self.wfile.write(server.content[start:end])
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pth"


def part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], SHA256.upper()])
def test_it_arrives_and_is_not_asked_for_again(server: Server, path: Path, sha256: str) -> None:
    assert fetch(server.url, sha256, path) == path
    assert path.read_bytes() == CONTENT and not part(path).exists()
    fetch(server.url, sha256, path)
    assert server.asked == [None]


def test_it_goes_on_where_an_earlier_call_ended(server: Server, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT[:300_001])
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT and server.asked == ["bytes=300001-"]


def test_it_goes_on_after_every_break(server: Server, path: Path) -> None:
    server.break_off_after = 300_000
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 4 and server.asked[0] is None and None not in server.asked[1:]


def test_a_server_that_never_gets_further(server: Server, path: Path) -> None:
    server.break_off_after = 300_000
    server.ranges = False
    with pytest.raises(SuresetError, match=r"cannot be had: the connection broke off; try again\."):
        fetch(server.url, SHA256, path)
    assert not path.exists() and part(path).stat().st_size <= 300_000
    server.break_off_after = None
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges(server: Server, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(b"something else" * 1000)
    server.ranges = False
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT and len(server.asked) == 1


def test_a_part_that_was_whole(server: Server, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_too_long(server: Server, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT + b"x")
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_lies(server: Server, path: Path) -> None:
    server.content = b"<html>please log in</html>"
    with pytest.raises(SuresetError, match=r"does not have the checksum .* deleted: try again\."):
        fetch(server.url, SHA256[:8], path)
    assert not path.exists() and not part(path).exists()


def test_a_part_of_another_file(server: Server, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(b"x" * 1000)
    with pytest.raises(SuresetError, match="checksum"):
        fetch(server.url, SHA256, path)
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_is_replaced(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1] + b"?")
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (503, "503 Service")])
def test_a_refusal(server: Server, path: Path, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(SuresetError, match=f"cannot be had: the server answers {words}"):
        fetch(server.url, SHA256, path)
    assert not path.exists()


def test_no_network(path: Path) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(SuresetError, match="cannot be had: there is no connection; try again"):
        fetch(url, SHA256, path)
    assert not path.exists()


def test_a_server_that_does_not_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_READ_S", 0.1)
    with Server() as silent, pytest.raises(SuresetError, match="does not answer in time"):
        fetch(silent.url, SHA256, path)


def test_a_full_disk(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open", lambda *_: Full(), raising=False)
    with pytest.raises(SuresetError, match="cannot be written: No space left on device; make room"):
        fetch(server.url, SHA256, path)
    assert not path.exists()


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuresetError, match="cannot be written"):
        fetch(server.url, SHA256, tmp_path / "file" / "weights.pth")
