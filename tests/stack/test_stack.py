"""The stack on a real engine: built, trained, served, asked over HTTP."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from testcontainers.compose import DockerCompose

from tests.stack.clone import Stack, environment
from tests.stack.conftest import SAMPLE_SIZE


def inspect(stack: Stack, *arguments: str) -> Any:
    return json.loads(stack.done("docker", *arguments).stdout)[0]


# ---- the image


def test_image_is_unprivileged_and_says_what_it_is(stack: Stack, base_image: str) -> None:
    config = inspect(stack, "image", "inspect", stack.image)["Config"]
    assert config["User"] == "sureset"
    assert config["Labels"]["org.opencontainers.image.title"] == "Sureset"
    assert config["Labels"]["org.opencontainers.image.base.name"] == base_image
    user, home, name = stack.shell("train", "id -u; echo $HOME; whoami").split()
    assert (user, home, name) == ("1000", "/home/sureset", "sureset")


def test_image_holds_no_installer_and_nothing_but_the_app(stack: Stack) -> None:
    found = stack.shell("train", "ls -A /app; ls /opt; command -v uv pip gcc git || true").split()
    assert set(found) == {
        *("app", "static", "data", "models", "cache", "lightning_logs", "wandb"),
        "venv",
    }


def test_a_change_of_source_leaves_the_packages_alone(stack: Stack) -> None:
    marker = stack.clone / "app" / "marker.py"
    marker.write_text('"""A change of source."""\n')
    try:
        done = stack.done("make", "build", "ARGS=--progress plain")
    finally:
        marker.unlink()
    log = done.stdout + done.stderr
    steps = dict(step.split(" ", 1) for step in log.splitlines() if step.startswith("#"))
    (packages,) = {line.split()[0] for line in log.splitlines() if "uv pip install" in line}
    assert steps[packages] == "CACHED"
    stack.done("make", "build")


# ---- training


def test_train_writes_sample_data_weights_and_a_bundle(stack: Stack, trained: str) -> None:
    count = "find /app/data -type f \\( -name '*.jpg' -o -name '*.png' \\) | wc -l"
    assert int(stack.shell("train", count)) == SAMPLE_SIZE
    assert int(stack.shell("train", "find /app/cache -type f | wc -l")) > 0
    bundle = json.loads(stack.shell("webui", "cat /app/models/latest/bundle.json"))
    metrics = json.loads(stack.shell("webui", "cat /app/models/latest/metrics.json"))
    assert bundle and set(metrics["tasks"]) == {"colour", "type"}
    assert "CPU: asked for by GPU=0." in trained


def test_a_second_train_reuses_the_features(stack: Stack, trained: str) -> None:
    before = stack.shell("train", "find /app/cache -type f -exec stat -c '%n %Y' {} + | sort")
    stack.done("make", "train")
    after = stack.shell("train", "find /app/cache -type f -exec stat -c '%n %Y' {} + | sort")
    assert set(before.splitlines()) <= set(after.splitlines())


@pytest.mark.parametrize(
    ("service", "folder"),
    [("train", "data"), ("train", "static"), ("webui", "models"), ("webui", "static")],
)
def test_volume_is_read_only(stack: Stack, service: str, folder: str) -> None:
    arguments = ("run", "--rm", "--no-deps", "--entrypoint", "touch", service, f"/app/{folder}/x")
    done = stack.run("docker", "compose", *arguments)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_folders_of_the_host(stack: Stack, trained: str, tmp_path: Path) -> None:
    """Own pictures in, a bundle out, owned by whoever ran make."""
    pictures, models = tmp_path / "pictures", tmp_path / "models"
    copy = ("--volume", f"{tmp_path}:/out", "--user", f"{os.getuid()}", "--entrypoint", "cp")
    stack.compose("run", "--rm", "--no-deps", *copy, "train", "-r", "/app/data", "/out/pictures")
    before = sorted(pictures.rglob("*"))

    folders = (f"DATA_DIR={pictures}", f"MODELS_DIR={models}")
    stack.done("make", "train", *folders, "ALPHA=0.2")
    metrics = json.loads((models / "latest" / "metrics.json").read_text())
    assert metrics["alpha"] == 0.2
    assert (models / "latest" / "metrics.json").stat().st_uid == tmp_path.stat().st_uid
    assert sorted(pictures.rglob("*")) == before, "the data folder is only read"

    picture = next(path for path in before if path.suffix in {".jpg", ".png"})
    answer = json.loads(stack.done("make", "predict", f"ARGS={picture}", *folders).stdout)
    assert answer["image"] == str(picture)
    assert set(answer["tasks"]) == {"colour", "type"}


# ---- serving


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


def test_web_page_runs_without_rights(webui: DockerCompose, url: str) -> None:
    status = webui.exec_in_container(["cat", "/proc/1/status"], "webui")[0]
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == ["1000"] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"] == "1"


def test_make_serve_and_down(stack: Stack) -> None:
    """In the foreground, with no bundle yet, until Ctrl-C; then nothing but the volumes stays."""
    project = f"{stack.project}-serve"
    variables = {"COMPOSE_PROJECT_NAME": project, "PORT": str(stack.port + 1), "SAMPLE_SIZE": "0"}
    of_project = ("--filter", f"label=com.docker.compose.project={project}", "--quiet")
    url = f"http://127.0.0.1:{stack.port + 1}"
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
        assert stack.done("docker", "volume", "ls", *of_project).stdout != ""
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
