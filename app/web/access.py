"""Who may ask: nobody but those whose keys are in a file, if there is one.

One guard stands before everything, so that no path can be forgotten. A program and a browser say
who they are in the same way, by HTTP's Basic scheme (a browser asks its reader itself), and
programs may do it by a Bearer token too.

Keys are drawn, with more bits than can ever be guessed, and never chosen: so one fast hash of them
is as safe to keep as a slow one, and cannot be used to keep the server busy.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import SuresetError
from app.progress import say
from app.web.proxied import path_of

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Whoever watches over the server asks these without a key.
_OPEN = ("/healthz", "/readyz")
_LINE = re.compile(r"([A-Za-z0-9._@-]{1,64}):([0-9a-f]{64})")


def new_key(name: str) -> tuple[str, str]:
    """A fresh key for somebody, and the line of the file that lets it in.

    Raises:
        SuresetError: the name has other characters than a line can hold.
    """
    key = secrets.token_urlsafe(24)
    line = f"{name}:{_hash(name, key)}"
    if not _LINE.fullmatch(line):
        raise SuresetError(
            f"{name!r} cannot be a name: take letters, digits and any of . _ @ - (64 at most)."
        )
    return key, line


def _hash(name: str, key: str) -> str:
    return hashlib.sha256(f"{name}:{key}".encode()).hexdigest()


class Keys:
    """The names and hashed keys of a file, which is read again when it changes."""

    def __init__(self, file: Path) -> None:
        """Read it.

        Raises:
            SuresetError: it cannot be read, or holds anything but keys, or none.
        """
        self._file = file
        self._stamp = self._look()
        self._hashes = self._read()

    def knows(self, name: str, key: str) -> bool:
        """Whether ``key`` is that of ``name``."""
        if (stamp := self._look()) != self._stamp:
            self._stamp = stamp
            try:
                self._hashes = self._read()
            except SuresetError as error:
                say(f"{error} Until then those who had a key keep it.")
        return hmac.compare_digest(self._hashes.get(name, ""), _hash(name, key))

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _read(self) -> dict[str, str]:
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SuresetError(
                f"the keys in {self._file} cannot be read: check ACCESS_FILE (--access-file)."
            ) from error
        found = [_LINE.fullmatch(line.strip()) for line in lines if line.strip()]
        if not found or None in found:
            raise SuresetError(
                f"{self._file} must hold lines that `python -m app access NAME` printed, and "
                "nothing else."
            )
        return {match[1]: match[2] for match in found if match}


class Guard:
    """Lets in who has a key, and nobody from a page of somebody else.

    A browser sends what it was told to say to this server along with whatever any page makes it
    ask here. It says whose page that is (``Origin``, and to safe addresses ``Sec-Fetch-Site``), and
    what is asked for by another site's is refused, with or without keys: on a machine of one's own,
    no key is what keeps others out.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # There are no websockets: nothing would guard them.
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if _is_of_another_site(scope["method"], headers):
            refused = JSONResponse({"error": "a page of another site may not ask for this."}, 403)
            await refused(scope, receive, send)
            return
        if self.keys is not None and path_of(scope) not in _OPEN:
            name, key = _said(headers.get(b"authorization", b""))
            if not self.keys.knows(name, key):
                await _WHO(scope, receive, send)
                return
            scope.setdefault("state", {})["who"] = name
        await self.app(scope, receive, send)


def _is_of_another_site(method: str, headers: dict[bytes, bytes]) -> bool:
    """Whether another site's page asks, other than by a plain link to here."""
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != headers.get(b"host"):
        return True
    reads = method in ("GET", "HEAD", "OPTIONS")
    return not reads and headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")


_WHO = JSONResponse(
    {"error": "say who you are: your name and your key, by HTTP's Basic scheme."},
    401,
    {"WWW-Authenticate": 'Basic realm="Sureset", charset="UTF-8"', "Connection": "close"},
)


def tell_of_keys(app: FastAPI) -> None:
    """Have the API's description say how a program says who it is."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        description = describe()
        schemes = {name: {"type": "http", "scheme": name} for name in ("basic", "bearer")}
        description["components"]["securitySchemes"] = schemes
        description["security"] = [{name: []} for name in schemes]
        return description

    app.openapi = described  # type: ignore[method-assign]


def _said(authorization: bytes) -> tuple[str, str]:
    """Name and key of ``Basic base64(name:key)`` or ``Bearer name:key``; empty where none are."""
    scheme, _, said = authorization.partition(b" ")
    try:
        if scheme.lower() == b"basic":
            said = base64.b64decode(said, validate=True)
        elif scheme.lower() != b"bearer":
            return "", ""
        name, _, key = said.strip().decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, key
