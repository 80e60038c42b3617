"""The HTTP API over a fake classifier."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.web.api import MOST_BYTES, MOST_PICTURES, api
from app.web.meters import Meters
from app.web.room import Room
from app.web.served import Served
from app.web.service import Service
from tests.unit.web.fake import (
    CLASSES,
    SCORES,
    TAXONOMIES,
    FakeClassifier,
    FakeReading,
    load_fake,
    picture,
)

RED = picture(200, 30, 30)


def upload(*pictures: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{i}.png", data)) for i, data in enumerate(pictures)]


def count(client: TestClient, sample: str, **labels: str) -> float:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for found in family.samples:
            if found.name == sample and found.labels == labels:
                return found.value
    return 0.0


def test_one_picture_is_answered_as_predict_prints_it(client: TestClient) -> None:
    response = client.post("/v1/predict", files=upload(RED))
    assert response.status_code == 200
    [answer] = response.json()
    assert list(answer) == ["image", "tasks", "joint", "outlier_p"]
    assert answer["image"] == "0.png"
    assert answer["tasks"]["colour"]["set"] == ["red", "green", "blue"]
    assert answer["tasks"]["colour"]["top"] == "red"
    assert answer["tasks"]["colour"]["p_values"]["red"] == pytest.approx(200 / 260)


def test_alpha_and_score_are_taken_from_the_query(client: TestClient) -> None:
    def colours(**query: Any) -> list[str]:
        response = client.post("/v1/predict", params=query, files=upload(RED))
        return response.json()[0]["tasks"]["colour"]["set"]

    assert colours(alpha=0.11) == ["red", "green", "blue"]
    assert colours(alpha=0.12) == ["red"]
    assert colours(alpha=0.11, score="margin") == ["red"]
    assert colours(alpha=0.11, taxonomy="class") == ["red", "green", "blue"]


def test_many_pictures_keep_their_order_and_bad_ones_their_place(client: TestClient) -> None:
    blue = picture(0, 0, 250)
    response = client.post("/v1/predict", files=upload(RED, b"no picture", blue))
    assert response.status_code == 200
    first, second, third = response.json()
    assert [a["image"] for a in (first, second, third)] == ["0.png", "1.png", "2.png"]
    assert first["tasks"]["colour"]["top"] == "red"
    assert second["image"] == "1.png" and second["error"].startswith("it is not a picture")
    assert third["tasks"]["colour"]["top"] == "blue"


@pytest.mark.parametrize("data", [b"", b"no picture", b"<svg onload='x'/>", b"<html></html>"])
def test_only_bad_pictures_are_a_422_that_says_why(client: TestClient, data: bytes) -> None:
    response = client.post("/v1/predict", files=upload(data))
    assert response.status_code == 422
    [answer] = response.json()
    assert answer["error"]


@pytest.mark.parametrize("alpha", ["0", "1", "-0.1", "nan", "inf", "much", ""])
def test_a_bad_alpha_is_a_422_in_one_sentence(client: TestClient, alpha: str) -> None:
    response = client.post("/v1/predict", params={"alpha": alpha}, files=upload(RED))
    assert response.status_code == 422
    assert response.json()["error"].startswith("alpha: ")


@pytest.mark.parametrize("name", ["score", "taxonomy"])
def test_an_unknown_method_is_a_422_that_lists_the_known(client: TestClient, name: str) -> None:
    response = client.post("/v1/predict", params={name: "best"}, files=upload(RED))
    assert response.status_code == 422
    known = SCORES if name == "score" else TAXONOMIES
    assert response.json() == {"error": f"{name} cannot be 'best': choose from {', '.join(known)}."}


def test_a_bad_method_runs_no_network(client: TestClient, served: Served) -> None:
    client.post("/v1/predict", params={"score": "best"}, files=upload(RED))
    classifier: Any = served.current()
    assert classifier.pictures == 0


def test_no_picture_at_all_is_a_422(client: TestClient) -> None:
    for response in (
        client.post("/v1/predict"),
        client.post("/v1/predict", json={"image": "x"}),
        client.post("/v1/predict", files=[("picture", ("a.png", RED))]),
    ):
        assert response.status_code == 422
        assert "multipart field `image`" in response.json()["error"]
    assert client.post("/v1/predict", data={"image": "text"}).status_code == 422


def test_too_many_pictures_are_a_413(client: TestClient, served: Served) -> None:
    response = client.post("/v1/predict", files=upload(*[b""] * (MOST_PICTURES + 1)))
    assert response.status_code == 413
    assert str(MOST_PICTURES) in response.json()["error"]
    full = client.post("/v1/predict", files=upload(*[RED] * MOST_PICTURES))
    assert full.status_code == 200 and len(full.json()) == MOST_PICTURES


def test_too_large_a_body_is_a_413_whether_announced_or_not(client: TestClient) -> None:
    announced = client.post("/v1/predict", content=bytes(MOST_BYTES + 1))
    chunks = (bytes(2**20) for _ in range(MOST_BYTES // 2**20 + 1))
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    chunked = client.post(
        "/v1/predict",
        content=(part for parts in ([head], chunks) for part in parts),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    for response in (announced, chunked):
        assert response.status_code == 413
        assert response.json() == {
            "error": "a request may hold 32 MB: send fewer or smaller pictures."
        }


def test_a_broken_multipart_body_is_an_error_in_json(client: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/predict", content=b"--y\r\nbroken", headers=headers)
    assert response.status_code in (400, 422)
    assert response.json()["error"]


def test_a_path_in_a_file_name_is_only_a_name(client: TestClient) -> None:
    files = [("image", ("../../etc/passwd", RED))]
    [answer] = client.post("/v1/predict", files=files).json()
    assert answer["tasks"]["colour"]["top"] == "red"


def test_the_model_is_described(client: TestClient) -> None:
    told = client.get("/v1/model").json()
    assert told["name"] == "first" and told["runtime"] == "openvino-f32"
    assert told["classes"] == CLASSES
    assert told["scores"] == SCORES and told["taxonomies"] == TAXONOMIES
    assert told["facts"]["alpha"] == 0.1
    assert told["metrics"]["tasks"]["colour"]["coverage"] == 0.912


def test_without_a_bundle_the_process_lives_but_is_not_ready(tmp_path: Path) -> None:
    client = TestClient(api(Service(Served(tmp_path, load=load_fake), Meters())))
    assert client.get("/healthz").json() == {"status": "alive"}
    for response in (
        client.get("/readyz"),
        client.get("/v1/model"),
        client.post("/v1/predict", files=upload(RED)),
    ):
        assert response.status_code == 503
        assert "make train" in response.json()["error"]


def test_ready_names_the_bundle(client: TestClient) -> None:
    assert client.get("/readyz").json() == {"status": "ready", "model": "first"}


def test_metrics_count_requests_pictures_and_set_sizes(client: TestClient) -> None:
    client.post("/v1/predict", files=upload(RED, RED, b"bad"))
    client.post("/v1/predict", params={"alpha": 2}, files=upload(RED))
    requests = "sureset_requests_total"
    assert count(client, requests, path="/v1/predict", status="200") == 1
    assert count(client, requests, path="/v1/predict", status="422") == 1
    assert count(client, "sureset_pictures_total", result="read") == 2
    assert count(client, "sureset_pictures_total", result="unreadable") == 1
    assert count(client, "sureset_set_size_count", task="colour") == 2
    assert count(client, "sureset_set_size_sum", task="colour") == 6
    assert count(client, "sureset_outliers_total") == 0
    assert count(client, "sureset_waiting_pictures") == 0
    client.post("/v1/predict", files=upload(picture(255, 255, 255)))
    assert count(client, "sureset_outliers_total") == 1
    assert count(client, "sureset_request_seconds_count", path="/v1/predict") == 3


def test_health_is_answered_while_the_network_is_busy(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = threading.Semaphore(0)

    waiting: list[Future[Any]] = []

    def slow(self: FakeClassifier, picture: Any) -> Future[Any]:
        waiting.append(Future())
        busy.release()
        return waiting[-1]

    monkeypatch.setattr(FakeClassifier, "submit", slow)
    statuses: list[int] = []
    asking = [
        threading.Thread(
            target=lambda: statuses.append(
                client.post("/v1/predict", files=upload(RED)).status_code
            )
        )
        for _ in range(60)
    ]
    for thread in asking:
        thread.start()
    for _ in asking:
        assert busy.acquire(timeout=10)
    assert client.get("/healthz").status_code == 200
    assert statuses == []
    for result in waiting:
        result.set_result(FakeReading(np.array([0.8, 0.1, 0.1], np.float32)))
    for thread in asking:
        thread.join()
    assert statuses == [200] * 60


def test_examples_are_served_by_number_alone(client: TestClient, models_dir: Path) -> None:
    picture = client.get("/examples/first/0")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == (models_dir / "first/examples/20.png").read_bytes()
    for path in ("first/3", "first/-1", "second/0"):
        assert client.get(f"/examples/{path}").status_code == 404
    assert client.get("/examples/first/..%2F..%2Fbundle.json").status_code in (404, 422)
    shutil.rmtree(models_dir / "first")
    assert client.get("/examples/first/0").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/predict"), ("POST", "/v1/nothing"), ("DELETE", "/v1/model")]
)
def test_what_is_not_there_is_a_404_in_json(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path)
    assert response.status_code == 404
    assert response.json()["error"].startswith(f"there is no {method} {path}: ")


def test_a_defect_is_a_500_in_json(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FakeClassifier, picture: Any) -> list[Any]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(FakeClassifier, "submit", broken)
    response = client.post("/v1/predict", files=upload(RED))
    assert response.status_code == 500
    assert "defect" in response.json()["error"] and "secret" not in response.text


def test_openapi_names_every_answer(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    asked = {"/v1/predict", "/v1/model", "/v1/feedback", "/v1/monitoring"}
    assert set(paths) == asked | {"/healthz", "/readyz", "/metrics"}
    predict = paths["/v1/predict"]["post"]
    assert set(predict["responses"]) == {
        *("200", "400", "401", "403", "408", "413", "422", "429", "503")
    }
    assert {p["name"] for p in predict["parameters"]} == {"alpha", "score", "taxonomy"}
    assert client.get("/docs").status_code == 404, "its script would come from outside"


def test_no_more_pictures_wait_than_there_is_room_for(served: Served) -> None:
    service = Service(served, Meters())
    service.room = Room(3)
    client = TestClient(api(service))
    response = client.post("/v1/predict", files=upload(*[RED] * 4))
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert response.json() == {"error": "too much is waiting for the network: ask again in 1 s."}
    assert client.post("/v1/predict", files=upload(*[RED] * 3)).status_code == 200


def test_a_report_is_shown_and_may_do_nothing(client: TestClient) -> None:
    shown = client.get("/bundles/first/report.html")
    assert shown.status_code == 200 and shown.text.startswith("<h1>first</h1>")
    assert shown.headers["content-type"].startswith("text/html")
    policy = shown.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';") and "allow-scripts" not in policy


@pytest.mark.parametrize(
    "name",
    ["second", "latest", ".", "..", "%2e%2e", "..%2ffirst", "first%2f..%2ffirst", "%00", "*"],
)
def test_only_a_bundles_report_is_shown(client: TestClient, models_dir: Path, name: str) -> None:
    (models_dir / "report.html").write_text("secret")
    (models_dir / ".hidden").mkdir()
    for path in (f"/bundles/{name}/report.html", f"/bundles/{name}/bundle.json"):
        assert client.get(path).status_code == 404


def test_examples_of_a_chosen_bundle_are_shown(
    client: TestClient, served: Served, models_dir: Path
) -> None:
    shutil.copytree(models_dir / "first", models_dir / "other")
    assert client.get("/examples/other/0").status_code == 404
    served.named("other")
    assert client.get("/examples/other/0").status_code == 200
