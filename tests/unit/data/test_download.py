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
from app.data.download import fetch, length_of
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


# ---- a file whose checksum nobody knows

OTHER = CONTENT[::-1]
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"


def broken_off(server: Publisher, path: Path, **validators: object) -> None:
    """Receive 300,000 bytes, and forget that anything was asked."""
    for name, value in validators.items():
        setattr(server, name, value)
    server.break_off_after, server.ranges = 300_000, False
    with pytest.raises(SuresetError, match="broke off"):
        fetch(server.url, None, path)
    assert 0 < part(path).stat().st_size <= 300_000
    server.break_off_after, server.ranges = None, True
    server.asked.clear()
    server.sent.clear()


def test_it_is_taken_as_it_is_sent(server: Publisher, path: Path) -> None:
    fetch(server.url, None, path)
    fetch(server.url, None, path)
    assert path.read_bytes() == CONTENT and server.asked == [None]
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.name + ".lock"]


@pytest.mark.parametrize("validators", [{"tagged": True}, {"modified": LONG_AGO}])
def test_the_rest_of_the_same_file_is_asked_for(
    server: Publisher, path: Path, validators: dict[str, object]
) -> None:
    broken_off(server, path, **validators)
    have = part(path).stat().st_size
    fetch(server.url, None, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={have}-"] and server.sent == [len(CONTENT) - have]
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.name + ".lock"]


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_part_that_was_whole_is_not_sent_again(
    server: Publisher, path: Path, sha256: str | None
) -> None:
    broken_off(server, path, tagged=True)
    part(path).write_bytes(CONTENT)
    fetch(server.url, sha256, path)
    assert path.read_bytes() == CONTENT and server.sent == []


@pytest.mark.parametrize("heeds", [True, False])
def test_of_a_file_that_changed_meanwhile_nothing_old_is_kept(
    server: Publisher, path: Path, heeds: bool
) -> None:
    """Not even from a server that sends the rest of another file than it was asked for."""
    broken_off(server, path, tagged=True)
    server.content, server.heeds_if_range = OTHER, heeds
    fetch(server.url, None, path)
    assert path.read_bytes() == OTHER
    assert server.sent[-1] == len(OTHER)


def test_a_file_that_changes_between_two_attempts_of_one_call(
    server: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tagged, server.break_off_after = True, 300_000
    receive = download._receive

    def change_after(url: str, part: Path, resume_blindly: bool) -> None:
        try:
            receive(url, part, resume_blindly)
        finally:
            server.content, server.break_off_after = OTHER, None

    monkeypatch.setattr(download, "_receive", change_after)
    fetch(server.url, None, path)
    assert path.read_bytes() == OTHER
    assert server.asked[0] is None and server.asked[1] is not None and len(server.asked) == 2


@pytest.mark.parametrize(
    "modified",
    [None, "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT", "Sun, 06 Nov 1994 08:49:37 -0000"],
    ids=["none", "no date", "the future", "no time zone"],
)
def test_without_anything_to_tell_files_apart_it_begins_anew(
    server: Publisher, path: Path, modified: str | None
) -> None:
    broken_off(server, path, modified=modified)
    assert not part(path).with_name("weights.pth.part.validator").exists()
    fetch(server.url, None, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None] and server.sent == [len(CONTENT)]


def test_a_validator_does_not_outlive_what_it_was_of(server: Publisher, path: Path) -> None:
    """The file changes, is broken off again and comes without a tag: nothing tells it now."""
    broken_off(server, path, tagged=True)
    server.content = OTHER
    broken_off(server, path, tagged=False)
    server.content, server.tagged = CONTENT, True
    fetch(server.url, None, path)
    assert path.read_bytes() == CONTENT and server.asked == [None]


def test_a_known_checksum_with_a_tag_is_no_worse(server: Publisher, path: Path) -> None:
    broken_off(server, path, tagged=True)
    have = part(path).stat().st_size
    fetch(server.url, SHA256, path)
    assert path.read_bytes() == CONTENT and server.asked == [f"bytes={have}-"]


def test_what_cannot_be_the_file_is_refused_and_forgotten(server: Publisher, path: Path) -> None:
    def check(file: Path) -> None:
        raise SuresetError(f"{file.stat().st_size} bytes of nonsense.")

    for sha256 in (None, SHA256):
        with pytest.raises(SuresetError, match=f"^{len(CONTENT)} bytes of nonsense"):
            fetch(server.url, sha256, path, check=check)
        assert [file.name for file in path.parent.iterdir()] == [path.name + ".lock"]


def test_a_file_that_moved(server: Publisher, path: Path) -> None:
    server.moved = {"/weights.pth": "/first", "/first": server.address("/second")}
    server.files = {"/second": OTHER}
    fetch(server.url, None, path)
    assert path.read_bytes() == OTHER
    assert length_of(server.url) == len(OTHER)


def test_how_long_a_file_is(server: Publisher) -> None:
    assert length_of(server.url) == len(CONTENT) and server.heads == ["/weights.pth"]
    server.length = "unknown"
    assert length_of(server.url) is None
    server.answers_head = False
    assert length_of(server.url) is None
    assert server.asked == []
    with Publisher() as closed:
        url = closed.url.replace("//", "//me:p@ss@")
    with pytest.raises(SuresetError, match=f"{closed.url} cannot be had: there is no connection"):
        length_of(url)
