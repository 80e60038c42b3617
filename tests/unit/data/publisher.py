"""A real server that publishes one file, badly when told to: breaks off, stalls, lies, refuses."""

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
        break_off_after, stall_after: bytes of each answer until it hangs up, or sends no more.
        drip: sent are so many bytes at a time, with a moment between.
        ranges: whether it sends the rest of a file when that is what it was asked for.
        status, reason: what it answers.
        length: what it says is the length of what it sends.
        asked: the ``Range`` of each request.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.host = host
        self.content = CONTENT
        self.break_off_after: int | None = None
        self.stall_after: int | None = None
        self.drip: int | None = None
        self.ranges = True
        self.status = 200
        self.reason: str | None = None
        self.length: str | None = None
        self.asked: list[str | None] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_port}/weights.pth"

    @property
    def catalogue(self) -> str:
        """A ``weights.yaml`` that has what is sent now for the weights of a backbone."""
        sha256 = hashlib.sha256(self.content).hexdigest()
        return f"resnet50:\n  url: {self.url}\n  sha256: {sha256}\n"


class Handler(BaseHTTPRequestHandler):
    server: Publisher
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if server.status != 200:
            self.send_error(server.status, server.reason)
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
        self.send_header("Content-Length", server.length or str(total - start))
        self.end_headers()
        ends = (server.break_off_after, server.stall_after)
        end = min([total, *(start + end for end in ends if end is not None)])
        step = server.drip or total
        for i in range(start, end, step):
            self.wfile.write(server.content[i : min(i + step, end)])
            if server.drip:
                time.sleep(0.05)
        if server.stall_after is not None and end < total:
            server.closing.wait()
        self.close_connection = True

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
