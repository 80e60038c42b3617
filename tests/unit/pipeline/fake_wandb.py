"""As much of a W&B server as a run needs, which keeps what it was sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass
class Request:
    """One request, as it came in."""

    method: str
    path: str
    host: str
    authorization: str | None
    body: str


class FakeWandb(ThreadingHTTPServer):
    """A server on a free port of an address; ``with`` starts and stops it.

    ``refuses`` answers 401 to everything; ``stalls`` opens a run and then takes nothing more.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: str = "127.0.0.1", *, refuses: bool = False, stalls: bool = False
    ) -> None:
        super().__init__((address, 0), _Handler)
        self.refuses, self.stalls = refuses, stalls
        self.refusal = "user is not logged in"
        self.requests: list[Request] = []
        self.closing = Event()
        self.host = f"{address}:{self.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> FakeWandb:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def sent(self, operation: str) -> list[dict[str, Any]]:
        """The variables of each GraphQL request of this name."""
        bodies = [json.loads(r.body) for r in self.requests if r.path == "/graphql"]
        return [b["variables"] for b in bodies if b.get("operationName") == operation]

    def streamed(self, file: str) -> list[dict[str, Any]]:
        """The lines that were sent of a run's file, such as ``wandb-history.jsonl``."""
        bodies = [json.loads(r.body) for r in self.requests if r.path.endswith("/file_stream")]
        chunks = [b["files"][file]["content"] for b in bodies if file in b.get("files", {})]
        return [json.loads(line) for chunk in chunks for line in chunk]

    def exit_codes(self) -> list[int]:
        """The exit status of each run that was ended."""
        bodies = [json.loads(r.body) for r in self.requests if r.path.endswith("/file_stream")]
        return [b["exitcode"] for b in bodies if b.get("complete")]


class _Handler(BaseHTTPRequestHandler):
    server: FakeWandb

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(
            errors="replace"
        )
        authorization = self.headers.get("Authorization")
        request = Request(
            self.command, self.path, self.headers.get("Host", ""), authorization, body
        )
        self.server.requests.append(request)
        if self.server.refuses:
            self._send(401, {"errors": [{"message": self.server.refusal}]})
        elif self.path == "/graphql":
            asked = json.loads(body)
            self._send(200, {"data": self._data(asked.get("variables") or {})})
        else:
            if self.server.stalls:
                self.server.closing.wait()
            self._send(200, {})

    def _data(self, asked: dict[str, Any]) -> dict[str, Any]:
        """All that any of the queries of a run, and of an artifact of its, asks for."""
        entity = {"id": "1", "name": "me"}
        name = asked.get("project") or "sureset"
        project = {"id": "1", "internalId": "1", "name": name, "entity": entity}
        bucket = {"id": "1", "name": asked.get("name"), "project": project, "historyLineCount": 0}
        files = [{"name": f, "uploadUrl": f"{self.server.url}/{f}"} for f in asked.get("files", [])]
        sequence = {"id": "1", "name": "bundle", "project": project, "latestArtifact": None}
        artifact = {
            **{"__typename": "Artifact", "id": "1", "state": "COMMITTED", "digest": "0"},
            **{"artifactSequence": {**sequence, "__typename": "ArtifactSequence"}},
            **{"artifactType": {"name": "model"}, "versionIndex": 0, "historyStep": None},
            **{"description": None, "metadata": "{}", "commitHash": None, "aliases": []},
            **{"ttlDurationSeconds": -2, "ttlIsInherited": True, "tags": []},
            **{"size": 0, "fileCount": 0, "createdAt": "2026-01-01", "updatedAt": None},
        }
        given = asked.get("input", {})
        made = {**artifact, "state": "PENDING"}
        parts = [
            {
                **{"id": "1", "name": f["name"], "displayName": f["name"], "uploadHeaders": []},
                **{
                    "storagePath": f["name"],
                    "uploadUrl": f"{self.server.url}/artifact/{f['name']}",
                },
                **{"uploadMultipartUrls": None, "artifact": {"id": "1"}},
            }
            for f in given.get("artifactFiles", [])
        ]
        manifest = {"id": "1", "uploadUrl": f"{self.server.url}/manifest", "uploadHeaders": []}
        return {
            "viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": None},
            "project": {"artifactType": {"id": "1", "name": "model"}, "artifact": None},
            "artifact": artifact,
            "createArtifact": {"artifact": made},
            "createArtifactManifest": {"artifactManifest": {"id": "1", "file": manifest}},
            "updateArtifactManifest": {"artifactManifest": {"id": "1", "file": manifest}},
            "createArtifactFiles": {"files": {"edges": [{"node": part} for part in parts]}},
            "commitArtifact": {"artifact": {"id": "1", "digest": "0"}},
            "upsertBucket": {"bucket": bucket, "inserted": True},
            "createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files},
        }

    def _send(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    do_GET = do_POST = do_PUT = do_CONNECT = _answer
