"""A real server that publishes files, badly when told to: breaks off, stalls, lies, refuses."""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Publisher(ThreadingHTTPServer):
    """Serves ``CONTENT``; its attributes say how badly.

    Attributes:
        content: what it sends instead.
        files: {path: what it sends there instead}.
        moved: {path: where it says that the file is now}.
        tagged: whether it sends an ETag, and heeds it in If-Range.
        modified: the Last-Modified that it sends, and heeds in If-Range.
        heeds_if_range: whether it does.
        answers_head: whether it answers HEAD.
        break_off_after, stall_after: bytes of each answer until it hangs up, or sends no more.
        drip: sent are so many bytes at a time, with a moment between.
        ranges: whether it sends the rest of a file when that is what it was asked for.
        status, reason: what it answers.
        length: what it says is the length of what it sends.
        asked: the ``Range`` of each request.
        sent: the bytes of each answer.
        heads: the path of each request for a length.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.host = host
        self.content = CONTENT
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.tagged = False
        self.modified: str | None = None
        self.heeds_if_range = True
        self.answers_head = True
        self.break_off_after: int | None = None
        self.stall_after: int | None = None
        self.drip: int | None = None
        self.ranges = True
        self.status = 200
        self.reason: str | None = None
        self.length: str | None = None
        self.asked: list[str | None] = []
        self.sent: list[int] = []
        self.heads: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return self.address("/weights.pth")

    def address(self, path: str) -> str:
        return f"http://{self.host}:{self.server_port}{path}"

    @property
    def catalogue(self) -> str:
        """A ``weights.yaml`` that has what is sent now for the weights of a backbone."""
        sha256 = hashlib.sha256(self.content).hexdigest()
        return f"resnet50:\n  url: {self.url}\n  sha256: {sha256}\n"


class Handler(BaseHTTPRequestHandler):
    server: Publisher
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.server.heads.append(self.path)
        if self.server.answers_head:
            self.answer()
        else:
            self.send_error(405)

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        self.answer()

    def answer(self) -> None:
        server = self.server
        if server.status != 200:
            self.send_error(server.status, server.reason)
            return
        if self.path in server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = server.files.get(self.path, server.content)
        start, total = 0, len(content)
        validators = self.validators(content)
        expected = self.headers.get("If-Range")
        same = expected is None or not server.heeds_if_range or expected in validators.values()
        asked = self.headers.get("Range")
        if asked and server.ranges and same:
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
        for name, value in validators.items():
            self.send_header(name, value)
        self.send_header("Content-Length", server.length or str(total - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        ends = (server.break_off_after, server.stall_after)
        end = min([total, *(start + end for end in ends if end is not None)])
        server.sent.append(end - start)
        step = server.drip or total
        for i in range(start, end, step):
            self.wfile.write(content[i : min(i + step, end)])
            if server.drip:
                time.sleep(0.05)
        if server.stall_after is not None and end < total:
            server.closing.wait()
        self.close_connection = True

    def validators(self, content: bytes) -> dict[str, str]:
        """Headers that tell what is sent from anything else."""
        validators = {}
        if self.server.tagged:
            validators["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if self.server.modified is not None:
            validators["Last-Modified"] = self.server.modified
        return validators

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def publishing(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Publisher]:
    """A publisher that answers until the block ends."""
    with Publisher(host) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
