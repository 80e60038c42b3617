"""A forward proxy that asks for a password and notes what goes through it."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

USER, PASSWORD = "builder", "0pen-sesame"


class Proxy(ThreadingHTTPServer):
    """Lets through who knows the password.

    Attributes:
        passed: the method and host of each request that was let through.
    """

    daemon_threads = True

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), Handler)
        self.host = host
        self.passed: set[tuple[str, str]] = set()

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@{self.host}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Proxy

    def _let_in(self, host: str) -> bool:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Proxy-Authorization") != f"Basic {expected}":
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        self.server.passed.add((self.command, host))
        return True

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        if not self._let_in(host):
            return
        with socket.create_connection((host, int(port)), timeout=60) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_copy, args=(there, self.connection), daemon=True)
            back.start()
            _copy(self.connection, there)
            back.join(60)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not self._let_in(address.hostname or ""):
            return
        connection = HTTPConnection(address.hostname or "", address.port or 80, timeout=60)
        headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
        connection.request("GET", address.path, headers={**headers, "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until the source ends, or either breaks off."""
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


@contextmanager
def proxying(host: str) -> Iterator[Proxy]:
    """A proxy that works until the block ends."""
    with Proxy(host) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
