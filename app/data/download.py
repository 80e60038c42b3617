"""Fetch a file once: resumed where it broke off or stalled, checked, and whole or absent."""

from __future__ import annotations

import errno
import re
import shutil
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3.exceptions
from filelock import FileLock

from app.checksums import sha256_of
from app.errors import SuresetError
from app.progress import progress, say

_CONNECT_S, _READ_S = 10, 30
#: What arrived of a chunk is lost when the connection breaks off in its midst.
_CHUNK = 1 << 16


class DownloadError(SuresetError):
    """The file cannot be had, at least now. Who can do without it may."""


def fetch(url: str, sha256: str, path: Path, nearby: Path | None = None) -> Path:
    """Bring the file at ``url`` to ``path``; nothing is asked of the network when it is there.

    What has arrived lies in ``<name>.part`` beside it until its checksum was seen, and a later call
    goes on from there. Of several processes that want the file, one fetches it while the others
    wait; then they find it there.

    Args:
        url: where it is published.
        sha256: the file's checksum, 64 hexadecimal digits in lower case.
        path: where it belongs; missing folders are made, a damaged file is replaced.
        nearby: where this machine may have it already; if so it is copied, not downloaded.

    Returns:
        ``path``.

    Raises:
        DownloadError: no network, a refusal, a wrong checksum or no room; nothing is at ``path``.
    """
    if _holds(path, sha256):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not _holds(path, sha256):
                _bring(url, sha256, path, nearby)
    except requests.RequestException as error:
        sentence = f"{url} cannot be had: {_why(error)}."
        raise DownloadError(_without_credentials(sentence)) from error
    except OSError as error:
        todo = "make room" if error.errno == errno.ENOSPC else "see to it"
        raise DownloadError(f"{path} cannot be written: {error.strerror}; {todo}.") from error
    return path


def _bring(url: str, sha256: str, path: Path, nearby: Path | None) -> None:
    if path.is_file():
        say(f"{path} is damaged: replacing it")
        path.unlink()
    part = path.with_name(path.name + ".part")
    if nearby is not None and _holds(nearby, sha256):
        shutil.copyfile(nearby, part)
    else:
        _receive_all(url, part)
    if not _holds(part, sha256):
        part.unlink()
        raise DownloadError(
            f"what {_without_credentials(url)} sent does not have the checksum {sha256} "
            "and was deleted: try again."
        )
    part.replace(path)


def _receive_all(url: str, part: Path) -> None:
    """Go on after every break and stall, as long as each attempt brings more than all before."""
    most = _size(part)
    while True:
        try:
            return _receive(url, part)
        except requests.RequestException:
            if _size(part) <= most:
                raise
            most = _size(part)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _receive(url: str, part: Path) -> None:
    """Add to ``part`` what it lacks."""
    have = _size(part)
    # Compression would make the lengths those of something else than the file.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=(_CONNECT_S, _READ_S)) as response:
        if have and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # It was whole already.
            part.unlink()
            return _receive(url, part)
        response.raise_for_status()
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if not (response.status_code == HTTPStatus.PARTIAL_CONTENT and resumed):
            have = 0  # The server sends the file from its beginning.
        length = response.headers.get("Content-Length", "")
        rest = int(length) if length.isdecimal() else 0  # It only tells how far this is.
        with (
            open(part, "ab" if have else "wb") as file,
            progress(f"download {part.stem}", have + rest, "bytes") as advance,
        ):
            advance(have)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                advance(len(chunk))


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _without_credentials(text: str) -> str:
    """A text without the user and password of the addresses in it."""
    return re.sub(r"//[^/?#\s]*@", "//", text)


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
