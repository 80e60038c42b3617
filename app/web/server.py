"""One process, one port: the HTTP API with the page mounted at its root."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from threadpoolctl import threadpool_limits

from app.errors import SuresetError
from app.feedback import Feedback
from app.progress import say
from app.settings import Settings
from app.web.access import Guard, Keys, tell_of_keys
from app.web.api import MOST_UPLOAD_BYTES, MOST_UPLOADED_BYTES, api
from app.web.connection import Connection
from app.web.journal import Journal, keep_journal
from app.web.limits import DiskLimit
from app.web.meters import Meters
from app.web.proxied import UnderPath
from app.web.served import Served
from app.web.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn.server import Protocols

#: What is under way may take this long when the server is told to stop.
_GRACE_SECONDS = 2.1
_LOOK_SECONDS = 0.05


def serve(settings: Settings) -> None:
    """Serve until told to stop, which ends the process.

    Raises:
        SuresetError: the port or the address can't be had, or the web assets are missing.
    """
    # Both end things in the same orderly way, while the server starts too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # Batches run side by side: each keeps to its own processor.
    threadpool_limits(1, "blas")
    try:
        with (
            ExitStack() as at_end,
            listen(settings.address, settings.port) as listening,
            tempfile.TemporaryDirectory(prefix="sureset-", ignore_cleanup_errors=True) as uploads,
        ):
            keep_journal(settings.log == "json")
            served = Served(settings.models_dir, settings.model)
            keys = Keys(settings.access_file) if settings.access_file else None
            feedback = Feedback(settings.feedback_dir, settings.keep_pictures)
            at_end.callback(feedback.close)
            app = application(
                *(served, settings.static_dir, Path(uploads), keys, settings.root_path),
                feedback=feedback,
            )
            server = _Server(app, listening, settings.trusted_proxies)
            if served.current() is None:
                say(f"no answers yet: {served.problem}")
            server.run(sockets=[listening])
    except KeyboardInterrupt:
        say("Sureset has stopped")
        _leave()


def application(
    served: Served,
    static_dir: Path,
    uploads: Path,
    keys: Keys | None = None,
    root_path: str = "",
    feedback: Feedback | None = None,
) -> ASGIApp:
    """The whole web application; uploads to the page are kept in the folder ``uploads``.

    Whoever asks has one of ``keys``, if there are any. ``root_path`` is where a proxy shows it.
    What people say the true classes are is kept in ``feedback``.

    Raises:
        SuresetError: the folder of web assets is not there.
    """
    style = static_dir / "style.css"
    if not style.is_file():
        raise SuresetError(
            f"there is no {style}: point --static at the folder static of the repository."
        )
    # Gradio reads these when it is imported. It is to call nobody, and keep its files in one place.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Before each call it asks for matplotlib's backend, which is looked for unless it is told.
    os.environ.setdefault("MPLBACKEND", "agg")
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    from app.web.page import mount

    service = Service(served, Meters(), feedback)
    routes = api(service)
    if keys is not None:
        tell_of_keys(routes)
    whole: ASGIApp = mount(routes, service, style, MOST_UPLOAD_BYTES, root_path)
    whole = DiskLimit(whole, "/gradio_api/upload", uploads, MOST_UPLOADED_BYTES)
    return Journal(UnderPath(Guard(whole, keys), root_path))


def listen(address: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        SuresetError: in one sentence, what to do about the port or address.
    """
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((address, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} is in use: stop what uses it, or choose another with --port."
        elif error.errno == errno.EACCES:
            reason = f"port {port} needs more rights: choose one above 1023 with --port."
        else:
            reason = f"this machine has no address {address}: choose another with --address."
        raise SuresetError(reason) from error
    # Opened anew it knows that its protocol is TCP, which asyncio wants to see before it turns
    # Nagle's algorithm off; with it on, every answer waits 40 ms for an acknowledgement.
    return socket.socket(fileno=listening.detach())


class _Server(uvicorn.Server):
    """Says where it is once it accepts; told to stop, answers what it was asked and is gone."""

    def __init__(self, app: ASGIApp, listening: socket.socket, trusted: str) -> None:
        # It logs as the rest does, and what was asked is in the journal.
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=trusted,
        )
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self._listening.getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            say(f"Sureset is serving at http://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        hanging_up = asyncio.create_task(self._hang_up())
        await super().shutdown(sockets)  # Accepts nobody any more, and waits for connections.
        await hanging_up

    async def _hang_up(self) -> None:
        """Leave everyone once all have their answers, or the time is up."""
        connections = self.server_state.connections
        until = time.monotonic() + _GRACE_SECONDS
        while any(map(_wants_an_answer, connections)) and time.monotonic() < until:
            await asyncio.sleep(_LOOK_SECONDS)
        if late := sum(map(_wants_an_answer, connections)):
            say(f"requests that took too long and were cut off: {late}")
        for connection in list(connections):
            connection.transport.abort()
        # An application that sees its client leave ends its answer by itself. One that works on
        # works for nobody, and there is nothing to tell in the traceback of its end.
        await asyncio.sleep(_LOOK_SECONDS)
        logging.getLogger("uvicorn.error").disabled = True
        for task in list(self.server_state.tasks):
            task.cancel()


def _wants_an_answer(connection: Protocols) -> bool:
    """Of the page's own streams only the heartbeat has no end; the others wait for an answer."""
    scope = getattr(connection, "scope", None)  # None until the first request has come
    return scope is not None and "/heartbeat/" not in scope.get("path", "/heartbeat/")


def _leave() -> None:
    """End the process now: Python would take a second, and wait for a picture being read."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
