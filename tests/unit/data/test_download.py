"""Downloads from a real server that breaks off, stalls, ignores ranges, lies and refuses."""

from __future__ import annotations

import errno
import io
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.data import download
from app.data.download import fetch
from app.errors import SuresetError
from tests.unit.data.publisher import CONTENT, SHA256, Publisher, publishing


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publishing() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pth"


def part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_it_arrives_and_is_not_asked_for_again(server: Publisher, path: Path) -> None:
    assert fetch(server.url, SHA256, path) == path
    assert path.read_bytes() == CONTENT and not part(path).exists()
    fetch(server.url, SHA256, path)
    assert server.asked == [None]


def test_it_goes_on_where_an_earlier_call_ended(server: Publisher, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT[:300_001])
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT and server.asked == ["bytes=300001-"]


def test_it_goes_on_after_every_break(server: Publisher, path: Path) -> None:
    server.break_off_after = 300_000
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 4 and server.asked[0] is None and None not in server.asked[1:]


def test_a_server_that_never_gets_further(server: Publisher, path: Path) -> None:
    server.break_off_after = 300_000
    server.ranges = False
    with pytest.raises(SuresetError, match=r"cannot be had: the connection broke off; try again\."):
        fetch(server.url, SHA256, path)
    assert not path.exists() and part(path).stat().st_size <= 300_000
    server.break_off_after = None
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_it_goes_on_after_every_stall(
    server: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_READ_S", 0.25)
    server.stall_after = 300_000
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 4 and server.asked[0] is None and None not in server.asked[1:]


def test_a_server_that_stalls_and_never_gets_further(
    server: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_READ_S", 0.25)
    server.stall_after = 300_000
    server.ranges = False
    with pytest.raises(SuresetError, match=r"cannot be had: the server stopped sending; try again"):
        fetch(server.url, SHA256, path)
    assert not path.exists() and 0 < part(path).stat().st_size <= 300_000
    assert len(server.asked) == 2


def test_a_slow_server_is_waited_for(
    server: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the whole takes: only silence is a stall."""
    monkeypatch.setattr(download, "_READ_S", 0.5)
    server.drip = len(CONTENT) // 20
    started = time.monotonic()
    fetch(server.url, SHA256, path)
    assert time.monotonic() - started > 0.7
    assert path.read_bytes() == CONTENT and len(server.asked) == 1


def test_of_two_at_once_one_fetches(server: Publisher, path: Path) -> None:
    server.drip = len(CONTENT) // 4
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(fetch, server.url, SHA256, path) for _ in range(2)]
        assert [one.result() for one in both] == [path, path]
    assert path.read_bytes() == CONTENT and server.asked == [None]


def test_a_server_that_ignores_ranges(server: Publisher, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(b"something else" * 1000)
    server.ranges = False
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT and len(server.asked) == 1


def test_a_part_that_was_whole(server: Publisher, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_too_long(server: Publisher, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT + b"x")
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_lies(server: Publisher, path: Path) -> None:
    server.content = b"<html>please log in</html>"
    with pytest.raises(SuresetError, match=r"does not have the checksum .* deleted: try again\."):
        fetch(server.url, SHA256, path)
    assert not path.exists() and not part(path).exists()


def test_a_part_of_another_file(server: Publisher, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(b"x" * 1000)
    with pytest.raises(SuresetError, match="checksum"):
        fetch(server.url, SHA256, path)
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_is_replaced(server: Publisher, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1] + b"?")
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_is_gone_when_it_cannot_be_replaced(server: Publisher, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1] + b"?")
    server.status = 404
    with pytest.raises(SuresetError, match="cannot be had"):
        fetch(server.url, SHA256, path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "asked"), [(CONTENT, []), (CONTENT[1:], [None]), (None, [None])]
)
def test_the_same_file_nearby_is_copied(
    server: Publisher, path: Path, tmp_path: Path, content: bytes | None, asked: list[None]
) -> None:
    nearby = tmp_path / "nearby.pth"
    if content is not None:
        nearby.write_bytes(content)
    fetch(server.url, SHA256, path, nearby)
    assert path.read_bytes() == CONTENT and server.asked == asked


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (503, "503 Service")])
def test_a_refusal(server: Publisher, path: Path, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(SuresetError, match=f"cannot be had: the server answers {words}"):
        fetch(server.url, SHA256, path)
    assert not path.exists()


def test_a_refusal_without_a_reason(server: Publisher, path: Path) -> None:
    server.status, server.reason = 500, ""
    with pytest.raises(SuresetError, match="the server answers 500; try again"):
        fetch(server.url, SHA256, path)


@pytest.mark.parametrize("had", [0, 1000])
def test_a_range_that_is_refused_whether_asked_for_or_not(
    server: Publisher, path: Path, had: int
) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT[:had])
    server.status = 416
    with pytest.raises(SuresetError, match="the server answers 416 Requested Range Not"):
        fetch(server.url, SHA256, path)


def test_a_length_that_is_no_number(server: Publisher, path: Path) -> None:
    server.length = "abc"
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [200, 404])
def test_the_credentials_of_a_mirror_are_not_shown(
    server: Publisher, path: Path, status: int
) -> None:
    server.content, server.status = b"<html>please log in</html>", status
    url = server.url.replace("//", "//me:p@ss@")
    with pytest.raises(SuresetError) as refusal:
        fetch(url, SHA256, path)
    assert server.url in str(refusal.value)
    assert "me:" not in str(refusal.value) and "p@ss" not in str(refusal.value)


def test_no_network(path: Path) -> None:
    with Publisher() as closed:
        url = closed.url
    with pytest.raises(SuresetError, match="cannot be had: there is no connection; try again"):
        fetch(url, SHA256, path)
    assert not path.exists()


def test_a_certificate_that_nobody_trusts(path: Path, tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    made = ["-subj", "/CN=127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([*command.split(), *made], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with publishing(tls=context) as server, pytest.raises(SuresetError) as refusal:
        fetch(server.url.replace("http:", "https:"), SHA256, path)
    assert str(refusal.value).endswith(
        "its certificate is not trusted; name your authorities "
        "by CA_BUNDLE (in Docker) or REQUESTS_CA_BUNDLE."
    )


def test_a_proxy_that_is_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Publisher() as closed:
        monkeypatch.setenv("http_proxy", closed.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(SuresetError, match=r"the proxy does not answer; see to HTTPS_PROXY\.$"):
        fetch("http://mirror.example/weights.pth", SHA256, path)


def test_a_proxy_that_refuses(
    server: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(SuresetError, match=r"the proxy refuses; see to HTTPS_PROXY\.$"):
        fetch("https://mirror.example/weights.pth", SHA256, path)


def test_a_server_that_does_not_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_READ_S", 0.1)
    with Publisher() as silent, pytest.raises(SuresetError, match="does not answer in time"):
        fetch(silent.url, SHA256, path)


def test_a_full_disk(server: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open", lambda *_: Full(), raising=False)
    with pytest.raises(SuresetError, match="cannot be written: No space left on device; make room"):
        fetch(server.url, SHA256, path)
    assert not path.exists()


def test_a_folder_that_cannot_be_made(server: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuresetError, match="cannot be written"):
        fetch(server.url, SHA256, tmp_path / "file" / "weights.pth")
