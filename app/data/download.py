"""Fetch a file once: resumed where it broke off or stalled, checked, and whole or absent."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3.exceptions
from filelock import FileLock

from app.checksums import sha256_of
from app.disk import Need, require_room
from app.errors import SuresetError
from app.progress import progress, say

_CONNECT_S, _READ_S = 10, 30
_A_SECOND = timedelta(seconds=1)
#: Compression would make the lengths those of something else than the file.
_AS_IT_IS = {"Accept-Encoding": "identity"}
#: What arrived of a chunk is lost when the connection breaks off in its midst.
_CHUNK = 1 << 16


class DownloadError(SuresetError):
    """The file cannot be had, at least now. Who can do without it may."""


class ChecksumError(DownloadError):
    """The file that was sent has another checksum, ``found``."""

    def __init__(self, sentence: str, found: str) -> None:
        super().__init__(sentence)
        self.found = found


def fetch(
    url: str,
    sha256: str | None,
    path: Path,
    nearby: Path | None = None,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Bring the file at ``url`` to ``path``; nothing is asked of the network when it is there.

    What has arrived lies in ``<name>.part`` beside it until its checksum was seen, and a later call
    goes on from there. Of several processes that want the file, one fetches it while the others
    wait; then they find it there.

    Without a checksum the rest is asked for only of the very file that the part is of, as HTTP's
    validators tell (RFC 9110, 13.1.5); of a server that gives none, the file is fetched anew.

    Args:
        url: where it is published.
        sha256: the file's checksum, 64 hexadecimal digits in lower case, or how it begins; None if
            nobody knows it, and then each url needs a path of its own.
        path: where it belongs; missing folders are made, a damaged file is replaced.
        nearby: where this machine may have it already; if so it is copied, not downloaded.
        check: raises if what was sent cannot be the file, whatever its checksum.

    Returns:
        ``path``.

    Raises:
        ChecksumError: what was sent has another checksum; it is deleted.
        DownloadError: no network, a refusal or no room. After any error nothing is at ``path``.
    """
    if _holds(path, sha256):
        return path
    try:
        with _told(url):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(path.name + ".lock")):
                if not _holds(path, sha256):
                    _bring(url, sha256, path, nearby, check)
    except OSError as error:
        todo = "make room" if error.errno == errno.ENOSPC else "see to it"
        raise DownloadError(f"{path} cannot be written: {error.strerror}; {todo}.") from error
    return path


def length_of(url: str) -> int | None:
    """The length in bytes of the file at ``url``, None where the server does not tell.

    Raises:
        DownloadError: no network.
    """
    with (
        _told(url),
        requests.head(
            url, headers=_AS_IT_IS, allow_redirects=True, timeout=(_CONNECT_S, _READ_S)
        ) as response,
    ):
        return _length(response) if response.ok else None  # Some refuse to be asked in this way.


def part_of(path: Path) -> Path:
    """Where what has arrived of a file lies."""
    return path.with_name(path.name + ".part")


def without_credentials(text: str) -> str:
    """A text without the user and password of the addresses in it."""
    return re.sub(r"//[^/?#\s]*@", "//", text)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        sentence = f"{url} cannot be had: {_why(error)}."
        raise DownloadError(without_credentials(sentence)) from error


def _bring(
    url: str,
    sha256: str | None,
    path: Path,
    nearby: Path | None,
    check: Callable[[Path], None] | None,
) -> None:
    if path.is_file():
        say(f"{path} is damaged: replacing it")
        path.unlink()
    part = part_of(path)
    if nearby is not None and sha256 is not None and _holds(nearby, sha256):
        shutil.copyfile(nearby, part)
    else:
        _receive_all(url, part, resume_blindly=sha256 is not None)
    try:
        if check is not None:
            check(part)
        _verify(url, sha256, part)
    except SuresetError:
        part.unlink()
        raise
    part.replace(path)
    _validator_file(part).unlink(missing_ok=True)


def _verify(url: str, sha256: str | None, part: Path) -> None:
    if sha256 is not None and not (found := sha256_of(part)).startswith(sha256):
        raise ChecksumError(
            f"what {without_credentials(url)} sent does not have the checksum {sha256} "
            "and was deleted: try again.",
            found,
        )


def _receive_all(url: str, part: Path, resume_blindly: bool) -> None:
    """Go on after every break and stall, as long as each attempt brings more than all before."""
    most = _size(part)
    while True:
        try:
            return _receive(url, part, resume_blindly)
        except requests.RequestException:
            if _size(part) <= most:
                raise
            most = _size(part)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _receive(url: str, part: Path, resume_blindly: bool) -> None:
    """Add to ``part`` what it lacks."""
    have = _size(part)
    known = _validator_file(part).read_text() if _validator_file(part).is_file() else None
    headers = dict(_AS_IT_IS)
    if have and (known or resume_blindly):
        headers["Range"] = f"bytes={have}-"
        if known:
            headers["If-Range"] = known
    else:
        have = 0
    with requests.get(url, headers=headers, stream=True, timeout=(_CONNECT_S, _READ_S)) as response:
        sent = _validator(response)
        same = None in (known, sent) or sent == known
        if have and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            whole = response.headers.get("Content-Range") == f"bytes */{have}"
            if whole and same:
                return
            part.unlink()
            return _receive(url, part, resume_blindly)
        response.raise_for_status()
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            have = 0  # The server sends the file from its beginning.
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and not (begins and same):
            part.unlink()  # In spite of If-Range, the rest of something else.
            return _receive(url, part, resume_blindly)
        require_room(part.name, [Need(part.parent, "--cache", _length(response) or 0)])
        with (
            open(part, "ab" if have else "wb") as file,
            progress(f"download {part.stem}", have + (_length(response) or 0), "bytes") as advance,
        ):
            if not have:
                # Only now, when nothing is left of what the part was of.
                _write_validator(part, sent)
            advance(have)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                advance(len(chunk))


def _length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None


def _validator(response: requests.Response) -> str | None:
    """What tells a file from any other that its address has ever sent, if the server gives it."""
    tag = response.headers.get("ETag", "")
    if tag.startswith('"'):  # A weak one, W/"...", may be that of other bytes.
        return tag
    changed, now = (response.headers.get(name, "") for name in ("Last-Modified", "Date"))
    try:
        # The file may change again in the second in which it was sent (RFC 9110, 8.8.2.2).
        aged = parsedate_to_datetime(now) - parsedate_to_datetime(changed) >= _A_SECOND
    except (TypeError, ValueError):  # One of them is absent or no date.
        return None
    return changed if aged else None


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _write_validator(part: Path, validator: str | None) -> None:
    if validator is None:
        _validator_file(part).unlink(missing_ok=True)
    else:
        _validator_file(part).write_text(validator)


def _holds(path: Path, sha256: str | None) -> bool:
    return path.is_file() and (sha256 is None or sha256_of(path).startswith(sha256))


def _why(error: requests.RequestException) -> str:
    """What is wrong, and what to do."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY" in str(error):
        return (
            "its certificate is not trusted; name your authorities "
            "by CA_BUNDLE (in Docker) or REQUESTS_CA_BUNDLE"
        )
    if isinstance(error, requests.exceptions.ProxyError):
        refused = "Tunnel connection failed" in str(error)  # It answers, but 403, 407 and the like.
        return f"the proxy {'refuses' if refused else 'does not answer'}; see to HTTPS_PROXY"
    return f"{_what_broke(error)}; try again"


def _what_broke(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason}".rstrip()
    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        # What requests makes of a read that times out in the midst of a body.
        if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in error.args):
            return "the server stopped sending"
        return "there is no connection"
    return str(error)
