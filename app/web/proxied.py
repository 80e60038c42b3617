"""Served under a path of somebody else's address, by a proxy."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class UnderPath:
    """Tells the application the path it is seen under.

    A proxy may take that path off before it asks, or leave it on: either is understood.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.root_path:
            path: str = scope["path"]
            if path != self.root_path and not path.startswith(f"{self.root_path}/"):
                path = self.root_path + path
            scope = {**scope, "root_path": self.root_path, "path": path}
        await self.app(scope, receive, send)


def path_of(scope: Scope) -> str:
    """The path that is asked for, as if the application stood at its server's root."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
