"""What one client may ask of the server: so many bytes, so soon, and so many requests at once.

Each is refused as early as it can be told, and in JSON.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.proxied import path_of
from app.web.room import Busy, Room

#: A body has this long, and a second more for each so many bytes of it that have come.
_PATIENCE_S, _BYTES_A_SECOND = 20.0, 16_384
_CLOSE = {"Connection": "close"}  # The rest of the body is not waited for.


class BodyLimit:
    """Refuses bodies that are too large, announced or not (413), or that hardly come (408)."""

    def __init__(self, app: ASGIApp, most: Mapping[str, int], otherwise: int) -> None:
        """``most`` are the bytes a body may have under each path, ``otherwise`` anywhere else."""
        self.app, self.most, self.otherwise = app, most, otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = path_of(scope)
        most = next((n for under, n in self.most.items() if path.startswith(under)), self.otherwise)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            await JSONResponse({"error": _too_large(most)}, 413, _CLOSE)(scope, receive, send)
            return
        started = time.monotonic()
        got, whole = 0, False

        async def bounded() -> Message:
            nonlocal got, whole
            if whole:  # All that may come now is that the client leaves.
                return await receive()
            left = started + _PATIENCE_S + got / _BYTES_A_SECOND - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), left)
            except asyncio.TimeoutError:
                sentence = "the request came too slowly: send it again, in smaller parts."
                raise HTTPException(408, sentence, _CLOSE) from None
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > most:
                raise HTTPException(413, _too_large(most), _CLOSE)
            return message

        await self.app(scope, bounded, send)


class DiskLimit:
    """Lets no upload to the page in that its folder has no room for (507).

    A finished upload gets a folder of its own, which the page removes after a while. What was
    broken off lies beside them, belongs to nobody, and is removed here.
    """

    def __init__(self, app: ASGIApp, path: str, folder: Path, most: int) -> None:
        """``folder`` is where the uploads to ``path`` are kept, ``most`` bytes in all."""
        self.app, self.path, self.folder, self.most = app, path, folder, most
        self._coming = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) != self.path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if not announced.isdigit():
            await JSONResponse({"error": _LENGTH}, 411, _CLOSE)(scope, receive, send)
            return
        self._coming += int(announced)
        try:
            if self._coming > await asyncio.to_thread(self._free):
                await JSONResponse({"error": _NO_ROOM}, 507, _CLOSE)(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            self._coming -= int(announced)

    def _free(self) -> int:
        """Bytes that may still come: of those allowed, and of those the disk has."""
        kept = 0
        for folder, _, names in os.walk(self.folder):
            for file in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):  # It is being removed.
                    found = file.stat()
                    if Path(folder) == self.folder and found.st_mtime < time.time() - _BROKEN_S:
                        file.unlink()
                    else:
                        kept += found.st_size
        return min(self.most - kept, shutil.disk_usage(self.folder).free)


#: An upload to which nothing came for so long will not go on.
_BROKEN_S = 600
_LENGTH = "an upload must say how long it is."
_NO_ROOM = "there is no room for this upload now: send less at once, or try again in an hour."


class RequestLimit:
    """Lets no more requests under ``path`` in than there is room for, before their bodies come."""

    def __init__(self, app: ASGIApp, path: str, room: Room) -> None:
        self.app, self.path, self.room = app, path, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not path_of(scope).startswith(self.path):
            await self.app(scope, receive, send)
            return
        try:
            with self.room.places(1):
                await self.app(scope, receive, send)
        except Busy as busy:
            response = come_back(busy)
            response.headers.update(_CLOSE)
            await response(scope, receive, send)


def come_back(busy: Busy) -> JSONResponse:
    """The answer to who finds no room."""
    return JSONResponse({"error": str(busy)}, 429, {"Retry-After": str(busy.seconds)})


def _too_large(most: int) -> str:
    return f"a request may hold {most // 2**20} MB: send fewer or smaller pictures."
