"""Who is let in, and who is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.errors import SuresetError
from app.web.access import Keys, new_key
from app.web.served import Served
from app.web.server import application
from tests.unit.web.fake import load_fake, picture, write_fake_bundle

STATIC = Path(__file__).parents[3] / "static"
PICTURE = {"image": ("a.png", picture(200, 30, 30))}


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """The keys of two people, whose lines are in the file ``keys``."""
    drawn = {name: new_key(name) for name in ("alice", "a.bot@x-1")}
    (tmp_path / "keys").write_text("".join(f"{line}\n" for _, line in drawn.values()))
    return {name: key for name, (key, _) in drawn.items()}


@pytest.fixture
def client(tmp_path: Path, keys: dict[str, str]) -> Iterator[TestClient]:
    write_fake_bundle(tmp_path / "models", "first")
    served = Served(tmp_path / "models", load=load_fake)
    with TestClient(application(served, STATIC, tmp_path, Keys(tmp_path / "keys"))) as client:
        yield client


def test_a_key_lets_its_name_in_by_either_scheme(client: TestClient, keys: dict[str, str]) -> None:
    for name, key in keys.items():
        basic = client.post("/v1/predict", files=PICTURE, auth=(name, key))
        assert basic.status_code == 200
        bearer = {"Authorization": f"Bearer {name}:{key}"}
        assert client.post("/v1/predict", files=PICTURE, headers=bearer).status_code == 200
        assert client.get("/", auth=(name, key)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v1/predict", "/v1/model", "/v1/nothing", "//v1/model", "/metrics"),
        *("/openapi.json", "/examples/first/0", "/config", "/gradio_api/info", "/login"),
        "/gradio_api/upload",
        *("/healthz/../v1/model", "/healthz/", "/readyz/x", "/%68ealthz/../v1/model", "/HEALTHZ"),
    ],
)
def test_without_a_key_there_is_nothing(client: TestClient, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
        response = client.request(method, path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Basic ")
        assert response.headers["x-request-id"]


def test_the_description_tells_programs_how(client: TestClient, keys: dict[str, str]) -> None:
    described = client.get("/openapi.json", auth=("alice", keys["alice"])).json()
    assert described["security"] == [{"basic": []}, {"bearer": []}]
    schemes = described["components"]["securitySchemes"]
    assert schemes["bearer"] == {"type": "http", "scheme": "bearer"}


def test_whoever_watches_needs_no_key(client: TestClient) -> None:
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_nothing_else_is_a_key(client: TestClient, keys: dict[str, str]) -> None:
    alice, bot = keys.values()
    headers = [
        "",
        "Basic",
        "Basic !!!",
        "Basic /////w==",
        f"Basic {alice}",
        "Bearer",
        f"Bearer {alice}",
        f"Bearer alice:{bot}",
        f"Bearer alice:{alice[:-1]}",
        f"Bearer nobody:{alice}",
        f"Digest alice:{alice}",
        "Bearer :",
    ]
    for header in headers:
        response = client.get("/v1/model", headers={"Authorization": header})
        assert response.status_code == 401, header
        assert "your name and your key" in response.json()["error"]
    assert client.get("/v1/model", auth=("alice", alice)).status_code == 200


def test_the_file_holds_no_key_and_is_read_again_when_it_changes(
    client: TestClient, keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    assert not any(key in file.read_text() for key in keys.values())
    alice = ("alice", keys["alice"])
    before = file.read_text()

    def write(text: str) -> None:
        os.utime(file, ns=(0, 0))
        file.write_text(text)

    write("no keys at all\n")
    assert client.get("/v1/model", auth=alice).status_code == 200
    assert client.get("/v1/model", auth=alice).status_code == 200
    assert capsys.readouterr().err.count("Until then those who had a key keep it") == 1
    new, line = new_key("alice")
    write(before.splitlines()[1] + "\n" + line)
    assert client.get("/v1/model", auth=alice).status_code == 401
    assert client.get("/v1/model", auth=("alice", new)).status_code == 200


@pytest.mark.parametrize("text", ["", "\n", "alice:secret\n", "alice:" + "0" * 63, "\xff"])
def test_a_file_of_something_else_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_bytes(text.encode("latin-1"))
    with pytest.raises(SuresetError, match=r"python -m app access NAME|cannot be read"):
        Keys(tmp_path / "keys")
    with pytest.raises(SuresetError, match="cannot be read: check ACCESS_FILE"):
        Keys(tmp_path / "absent")


def test_a_name_that_no_line_can_hold_is_refused() -> None:
    for name in ("", "a:b", "a b", "x" * 65, "é", "a\nb"):
        with pytest.raises(SuresetError, match="cannot be a name"):
            new_key(name)


def test_a_page_of_another_site_changes_nothing(client: TestClient, keys: dict[str, str]) -> None:
    """A browser sends a key along with whatever a page makes it ask; it says that it does."""
    auth, elsewhere = ("alice", keys["alice"]), {"Sec-Fetch-Site": "cross-site"}
    refused = client.post("/v1/predict", files=PICTURE, auth=auth, headers=elsewhere)
    assert refused.status_code == 403
    assert refused.json() == {"error": "a page of another site may not ask for this."}
    assert client.get("/v1/model", auth=auth, headers=elsewhere).status_code == 200
    for origin in ("https://elsewhere.example", "http://testserver:81", "null"):
        for method in ("GET", "POST", "OPTIONS"):
            asked = client.request(method, "/config", auth=auth, headers={"Origin": origin})
            assert asked.status_code == 403
            assert not any(name.startswith("access-control") for name in asked.headers)
    neighbour = {"Sec-Fetch-Site": "same-site"}
    again = client.post("/v1/predict", files=PICTURE, auth=auth, headers=neighbour)
    assert again.status_code == 403
    own = client.get("/config", auth=auth, headers={"Origin": "http://testserver"})
    assert own.status_code == 200
    for site in ("same-origin", "none"):
        headers = {"Sec-Fetch-Site": site}
        answer = client.post("/v1/predict", files=PICTURE, auth=auth, headers=headers)
        assert answer.status_code == 200


def test_no_other_site_may_read_an_answer(client: TestClient, keys: dict[str, str]) -> None:
    auth = ("alice", keys["alice"])
    for method, path in (("GET", "/v1/model"), ("OPTIONS", "/v1/predict"), ("GET", "/healthz")):
        headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
        response = client.request(method, path, auth=auth, headers=headers)
        assert not any(name.startswith("access-control") for name in response.headers)
