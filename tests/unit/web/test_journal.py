"""What the log says of each request."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.web.journal import JsonLines
from app.web.served import Served
from app.web.server import application
from tests.unit.web.fake import FakeClassifier, load_fake, picture, write_fake_bundle

STATIC = Path(__file__).parents[3] / "static"
PICTURE = {"image": ("a.png", picture(200, 30, 30))}


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    write_fake_bundle(tmp_path / "models", "first")
    served = Served(tmp_path / "models", load=load_fake)
    return TestClient(application(served, STATIC, tmp_path))


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The journal so far, as it would stand in the log."""
    ours = [record for record in caplog.records if record.name == "sureset.requests"]
    caplog.clear()
    return [json.loads(JsonLines().format(record)) for record in ours]


@pytest.fixture(autouse=True)
def journal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sureset.requests")


def test_every_request_has_an_id_and_a_line(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answered = client.post("/v1/predict?alpha=0.2", files=PICTURE)
    [line] = lines(caplog)
    assert line["id"] == answered.headers["x-request-id"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/predict", 200)
    assert line["message"] == "answered" and line["level"] == "info" and line["who"] is None
    assert line["bytes"] > len(PICTURE["image"][1]) and line["ms"] > 0
    assert line["time"].endswith("+00:00")
    assert client.get("/v1/model").headers["x-request-id"] != line["id"]


def test_a_proxys_id_is_taken_when_it_is_one(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (
        client.get("/v1/model", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    for bad in ("a b", 'x"}', "x" * 65, ""):
        given = client.get("/v1/model", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert given != bad and len(given) == 32
    assert len(lines(caplog)) == 5


def test_what_went_wrong_is_told_and_what_the_page_asks_all_the_time_is_not(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/config", "/theme.css"):
        assert client.get(path).status_code == 200
    assert lines(caplog) == []
    client.get("/v1/nothing")
    client.post("/v1/predict")
    assert [line["status"] for line in lines(caplog)] == [404, 422]


def test_a_defect_has_its_traceback_under_the_id_of_its_answer(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FakeClassifier, picture: Any) -> Any:
        raise RuntimeError("what went wrong\nin two lines")

    monkeypatch.setattr(FakeClassifier, "submit", broken)
    answer = client.post("/v1/predict", files=PICTURE)
    assert answer.status_code == 500
    assert "defect" in answer.json()["error"]
    [line] = lines(caplog)
    assert line["id"] == answer.headers["x-request-id"] and line["status"] == 500
    assert line["level"] == "error" and "what went wrong" in line["traceback"]


def test_a_line_stays_one_line_whatever_is_asked(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/v1/%0a%7B%22id%22:%22forged%22%7D%E2%80%A8")
    [record] = [r for r in caplog.records if r.name == "sureset.requests"]
    text = JsonLines().format(record)
    assert len(text.splitlines()) == 1
    assert json.loads(text)["path"].startswith('/v1/\n{"id"')
