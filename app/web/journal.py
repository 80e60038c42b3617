"""What was asked of the server: an id for each request, and a line of JSON in the log.

Whoever runs the server finds by the id that an answer carries what became of it: each line has one,
and so has the traceback of a defect.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from datetime import datetime, timezone
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.proxied import path_of

_ID = b"x-request-id"
#: What a proxy may have named the request; anything else gets a new id.
_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
#: What has a line even if it went well; the page asks for much else all the time.
_TOLD = re.compile(r"/|/v1/.*|/gradio_api/upload")

log = logging.getLogger("sureset.requests")


class Journal:
    """Gives each request its id and its line, and each defect its traceback.

    It stands around the whole application, so that no answer leaves without an id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(_ID, b"")
        name = given if _VALID_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        state = scope.setdefault("state", {})
        state["request_id"] = name.decode()
        status = 0
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_ID, name)]
            await send(message)

        started = time.perf_counter()
        defect: Exception | None = None
        try:
            await self.app(scope, counted, named)
        except ClientDisconnect:
            status = 0
        except Exception as error:
            defect = error  # The answer that says so was sent from within.
        finally:
            if defect or status >= 400 or _TOLD.fullmatch(path_of(scope)):
                log.log(
                    logging.ERROR if defect else logging.INFO,
                    "a defect" if defect else "answered" if status else "its client left",
                    exc_info=defect,
                    extra={
                        "fields": {
                            "id": state["request_id"],
                            "who": state.get("who"),
                            "method": scope["method"],
                            "path": scope["path"],
                            "status": status,
                            "ms": round(1e3 * (time.perf_counter() - started), 1),
                            "bytes": received,
                        }
                    },
                )


class JsonLines(logging.Formatter):
    """One JSON object a line, whatever is in it: time, level, logger, message, and facts."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                "T", "milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def keep_journal(requests: bool) -> None:
    """Log to standard error: every request if wanted, and what goes wrong in any case."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(logging.INFO if requests else logging.ERROR)
