"""Serving in containers: the page and the API, until they are told to stop."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from testcontainers.compose import DockerCompose

from tests.stack.clone import Stack, environment, free_port, fresh_clone


@pytest.fixture(scope="module")
def url(stack: Stack, webui: DockerCompose) -> str:
    assert webui.get_service_host_and_port("webui", 7860) == ("127.0.0.1", stack.port)
    return f"http://127.0.0.1:{stack.port}"


@pytest.fixture(scope="module")
def picture(stack: Stack, trained: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of the bundle's examples."""
    script = "set -- /app/models/latest/examples/*; basename $1; base64 $1"
    name, encoded = stack.shell("webui", script).split("\n", 1)
    path = tmp_path_factory.mktemp("picture") / name
    path.write_bytes(base64.b64decode(encoded))
    return path


def check_answer(answer: dict[str, Any]) -> None:
    """Sets and p-values agree, at the bundle's alpha of 0.1."""
    assert set(answer["tasks"]) == {"colour", "type"}
    for task in answer["tasks"].values():
        assert set(task["set"]) == {name for name, p in task["p_values"].items() if p > 0.1}
        assert task["top"] in task["p_values"]
    assert set(answer["joint"]["sets"]) == {"colour", "type"}
    assert 0 < answer["outlier_p"] <= 1


def test_web_page_is_healthy_and_ready(webui: DockerCompose, url: str) -> None:
    assert webui.get_container("webui").Health == "healthy"
    for path in ("/healthz", "/readyz", "/"):
        assert requests.get(url + path, timeout=30).status_code == 200


def test_a_picture_is_answered_over_http(url: str, picture: Path) -> None:
    files = {"image": (picture.name, picture.read_bytes())}
    response = requests.post(f"{url}/v1/predict", files=files, timeout=60)
    assert response.status_code == 200
    (answer,) = response.json()
    assert answer["image"] == picture.name
    check_answer(answer)

    tolerant = requests.post(f"{url}/v1/predict?alpha=0.5", files=files, timeout=60).json()[0]
    for task, strict in answer["tasks"].items():
        assert set(tolerant["tasks"][task]["set"]) <= set(strict["set"])
        assert tolerant["tasks"][task]["p_values"] == strict["p_values"]


def test_gradio_clients_can_ask_too(url: str, picture: Path) -> None:
    client = Client(url, verbose=False)
    described = client.view_api(return_format="dict", print_info=False)
    assert isinstance(described, dict)
    assert "/predict" in described["named_endpoints"]
    check_answer(client.predict(image=handle_file(str(picture)), api_name="/predict"))


def test_predict_prints_what_http_answers(stack: Stack, url: str, picture: Path) -> None:
    printed = json.loads(stack.done("make", "predict", f"ARGS={picture}").stdout)
    files = {"image": (picture.name, picture.read_bytes())}
    (answer,) = requests.post(f"{url}/v1/predict", files=files, timeout=60).json()
    assert printed | {"image": picture.name} == answer


def test_a_bad_picture_is_a_line_and_a_failure(stack: Stack, trained: str) -> None:
    (stack.clone / "bad.jpg").write_bytes(b"no picture")
    done = stack.run("make", "predict", "ARGS=bad.jpg")
    assert done.returncode != 0
    answer = json.loads(done.stdout)
    assert answer["image"] == "bad.jpg"
    assert answer["error"]


def test_stop_answers_what_was_asked(
    stack: Stack, webui: DockerCompose, url: str, picture: Path
) -> None:
    """Told to stop with requests in flight, it answers them and is gone in three seconds."""

    def ask(count: int) -> tuple[int, int, float]:
        files = [("image", (f"{i}{picture.suffix}", picture.read_bytes())) for i in range(count)]
        response = requests.post(f"{url}/v1/predict", files=files, timeout=60)
        return response.status_code, len(response.json()), time.monotonic()

    started = time.monotonic()
    ask(16)
    seconds = (time.monotonic() - started) / 16
    count = min(64, int(1.2 / seconds / 4))  # Four requests at once, of a second and a bit.
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(ask, [count] * 4)
            time.sleep(0.2)
            told = time.monotonic()
            stack.compose("stop", "webui")
            stopped = time.monotonic()
        assert stopped - told < 3
        every = list(answers)
        assert [(status, answered) for status, answered, _ in every] == [(200, count)] * 4
        assert any(answered > told for _, _, answered in every), "none was in flight"
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{url}/healthz", timeout=5)
    finally:
        stack.compose("up", "--detach", "--wait", "webui")


def test_logs_and_shell(stack: Stack, webui: DockerCompose) -> None:
    assert "Sureset is serving at" in stack.done("make", "logs").stdout
    inside = stack.done("make", "shell", typed="pwd; id -u; command -v python\n").stdout
    assert inside.split() == ["/app", "1000", "/opt/venv/bin/python"]


def test_up_on_a_fresh_clone(stack: Stack, base_image: str, tmp_path: Path) -> None:
    """Without a .env, and without an image: it is built, and one web page is up and healthy."""
    clone = fresh_clone(tmp_path / "clone")
    fresh = Stack(clone, f"{stack.project}-up", f"{stack.project}-up", free_port())
    variables = {
        "BASE_IMAGE": base_image,
        "IMAGE_TAG": fresh.image,
        "COMPOSE_PROJECT_NAME": fresh.project,
        "PORT": str(fresh.port),
        "SAMPLE_SIZE": "0",
    }
    assert not (clone / ".env").exists()
    try:
        fresh.compose("up", "--detach", "--wait", **variables)
        assert requests.get(f"http://127.0.0.1:{fresh.port}/healthz", timeout=30).ok
        running = fresh.compose("ps", "--format", "{{.Service}} {{.Health}}", **variables)
        assert running == "webui healthy\n"
    finally:
        fresh.compose("--profile", "*", "down", "--volumes", **variables)
        fresh.run("docker", "image", "rm", fresh.image)


def test_clean_deletes_nothing_of_files_that_cannot_be_read(stack: Stack, trained: str) -> None:
    done = stack.run("make", "clean", "DATA_DIR=pics", typed="yes\n")
    assert done.returncode != 0
    assert "nothing was deleted, for Compose cannot read its files" in done.stderr
    assert stack.done("docker", "volume", "inspect", f"{stack.project}_models")


def test_make_serve_down_and_clean(stack: Stack) -> None:
    """In the foreground, with no bundle yet, until Ctrl-C; then nothing but the volumes stays,
    until they too are told to go.
    """
    project, port = f"{stack.project}-serve", free_port()
    variables = {"COMPOSE_PROJECT_NAME": project, "PORT": str(port), "SAMPLE_SIZE": "0"}
    of_project = ("--filter", f"label=com.docker.compose.project={project}", "--quiet")
    url = f"http://127.0.0.1:{port}"
    serving = subprocess.Popen(
        ["make", "serve"],
        cwd=stack.clone,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert answers_within(120, f"{url}/healthz", serving), serving.communicate()[0]
        response = requests.get(f"{url}/readyz", timeout=30)
        assert response.status_code == 503
        assert "make train" in response.json()["error"]
        os.killpg(serving.pid, signal.SIGINT)
        said = serving.communicate(timeout=30)[0]
        assert f"The page will be at {url} " in said

        stack.done("make", "down", **variables)
        assert stack.done("docker", "ps", "--all", *of_project).stdout == ""
        assert stack.done("docker", "network", "ls", *of_project).stdout == ""
        volumes = stack.done("docker", "volume", "ls", *of_project).stdout
        assert f"{project}_models\n" in volumes

        kept = stack.run("make", "clean", typed="no\n", **variables)
        assert kept.returncode != 0 and f"  {project}_models\n" in kept.stderr
        assert stack.done("docker", "volume", "ls", *of_project).stdout == volumes
        stack.done("make", "clean", typed="yes\n", **variables)
        assert stack.done("docker", "volume", "ls", *of_project).stdout == ""
    finally:
        serving.kill()
        stack.compose("--profile", "*", "down", "--volumes", **variables)


def answers_within(seconds: float, url: str, process: subprocess.Popen[str]) -> bool:
    """Wait until ``url`` answers or ``process`` ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            return requests.get(url, timeout=5).ok
        except (requests.ConnectionError, requests.ReadTimeout):
            time.sleep(0.5)
    return False
