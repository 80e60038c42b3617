"""The image: what it holds, what it does not, and what a build takes from outside."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

import pytest

from app import __version__
from tests.stack.clone import Stack
from tests.stack.conftest import answers
from tests.stack.proxy import PASSWORD, proxying
from tests.unit.data.publisher import publishing


def test_image_is_unprivileged_and_says_what_it_is(stack: Stack, base_image: str) -> None:
    config = stack.inspect("image", "inspect", stack.image)["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["unprivileged", "python", "-m", "app"]
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): text for name, text in config["Labels"].items()}
    assert labels["title"] == "Sureset" and labels["description"]
    assert labels["version"] == __version__
    assert labels["base.name"] == base_image
    assert {"revision", "created"} <= labels.keys()


def test_no_command_is_the_web_page_and_a_command_is_that_command(stack: Stack) -> None:
    """Also as plain ``docker run`` starts it, without Compose and its rights."""
    run = ("docker", "run", "--rm", "--network", "none", "--cap-drop", "ALL")
    helped = stack.done(*run, stack.image, "predict", "--help").stdout
    assert "Answer pictures, one JSON object a line" in helped
    training = stack.run(*run, stack.image, "--train", "--data", "/nowhere")
    assert training.returncode == 1
    assert "/nowhere" in training.stderr and "Traceback" not in training.stderr
    name = f"{stack.project}-plain"
    try:
        stack.done("docker", "run", "--detach", "--name", name, stack.image)
        asked = "import time, urllib.request as r\n"
        asked += "for _ in range(100):\n"
        asked += "  try: print(r.urlopen('http://127.0.0.1:7860/healthz').status); break\n"
        asked += "  except OSError: time.sleep(0.2)\n"
        assert stack.done("docker", "exec", name, "python", "-c", asked).stdout == "200\n"
    finally:
        stack.run("docker", "rm", "--force", name)


def test_image_holds_nothing_but_the_app_and_its_packages(stack: Stack) -> None:
    found = stack.shell("train", "ls -A /app; ls /opt")
    assert set(found.split()) == {
        *("app", "static", "data", "models", "cache", "lightning_logs", "wandb", "feedback"),
        *("venv", "sureset"),
    }
    root = ("docker", "run", "--rm", "--user", "0", "--entrypoint", "sh", stack.image, "-c")
    tools = stack.done(*root, "for t in uv pip pip3 cc gcc g++ make git; do command -v $t; done; :")
    assert tools.stdout == ""
    left = stack.done(*root, "find / -xdev \\( -name .git -o -name '*.whl' -o -path '*/.cache' \\)")
    assert left.stdout == ""


def test_packages_are_in_the_image_once(stack: Stack) -> None:
    """A copy between stages or a change of owner would write those gigabytes a second time."""
    history = stack.done("docker", "history", "--human=false", "--format", "{{.Size}}", stack.image)
    sizes = sorted(map(int, history.stdout.split()), reverse=True)
    assert sizes[0] > 2e9 > 1e9 > sizes[1]


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


def test_builds_go_through_a_proxy_and_trust_an_authority_and_keep_neither(
    stack: Stack, base_image: str, host: str
) -> None:
    """The first stages, from the distribution and from the registry of packages."""
    bare = f"{base_image}-bare"
    if not answers("docker", "image", "inspect", bare):
        pytest.skip(f"there is no {bare}, which trusts nobody yet")
    authorities = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    name = f"{stack.project}-proxied"
    build = [
        *("docker", "build", "--progress", "plain", "--no-cache", "--target", "uv", "--tag", name),
        *("--file", "docker/Dockerfile", "--build-arg", f"BASE_IMAGE={bare}"),
        *("--secret", "id=proxy,env=HTTPS_PROXY", "--secret", f"id=ca,src={authorities}"),
    ]
    try:
        with proxying(host) as proxy:
            done = stack.done(*build, ".", HTTPS_PROXY=proxy.url)
        passed = {method for method, _ in proxy.passed}
        assert passed == {"GET", "CONNECT"}, "packages of the distribution, and of the registry"
        assert PASSWORD not in done.stdout + done.stderr
        facts = stack.done("docker", "image", "inspect", name).stdout
        facts += stack.done("docker", "history", "--no-trunc", name).stdout
        assert PASSWORD not in facts
        root = ("docker", "run", "--rm", "--entrypoint", "sh", name, "-c")
        script = f"ls -A /run/secrets 2>&1; env; grep -rl {PASSWORD} /etc /opt /root /tmp /var; :"
        left = stack.done(*root, script).stdout
        assert PASSWORD not in left and "/run/secrets" not in left.replace("'/run/secrets'", "")
    finally:
        stack.run("docker", "image", "rm", name)


def test_make_hands_the_proxy_to_the_build(stack: Stack, tmp_path: Path) -> None:
    """It fails where there is none at the address that was given."""
    unbuilt = stack.sibling(tmp_path / "clone", "unbuilt", IMAGE_TAG=f"{stack.project}-unbuilt")
    with open(unbuilt.clone / "docker" / "network.sh", "a") as script:
        script.write(f"# {uuid.uuid4()}, so that no step is known from another build\n")
    done = unbuilt.run("make", "build", "HTTPS_PROXY=http://127.0.0.1:9")
    assert done.returncode != 0
    assert "127.0.0.1:9" in done.stdout + done.stderr


def test_weights_can_be_baked_in(stack: Stack, host: str, tmp_path: Path) -> None:
    """Then prefetch needs no network, with a fresh cache."""
    settings = {"IMAGE_TAG": f"{stack.project}-baked", "SAMPLE_SIZE": "0"}
    baked = stack.sibling(tmp_path / "clone", "baked", **settings)
    content = uuid.uuid4().bytes  # Which no build has fetched before.
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        with publishing(host) as server:
            server.content = content
            (baked.clone / "static" / "weights.yaml").write_text(server.catalogue)
            baked.done("make", "build", "BAKE_WEIGHTS=resnet50")
            assert server.asked == [None]
            (baked.clone / "app" / "marker.py").write_text("")
            baked.done("make", "build", "BAKE_WEIGHTS=resnet50")
            assert server.asked == [None], "a change of source fetches nothing again"
        baked.done("make", "prefetch", "DOCKER_RUN_ARGS=--network none", "BACKBONE=resnet50")
        held = baked.shell("prefetch", "ls /opt/sureset/weights")
        assert held.split() == [f"resnet50-{sha256[:8]}.pth"], "and of no other build"
        found = baked.shell("prefetch", "sha256sum /app/cache/weights/*.pth")
        assert found.split() == [sha256, f"/app/cache/weights/resnet50-{sha256[:8]}.pth"]
    finally:
        baked.remove()
        baked.run("docker", "image", "rm", baked.image)
