"""An engine to run on, and the stack itself: built, trained, served."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.compose import DockerCompose

from tests.stack.clone import REPOSITORY, Stack, free_port, fresh_clone
from tests.stack.machine import Machine, make_machine

#: Enough pictures for every split at alpha = 0.1, and few enough to train on in seconds.
SAMPLE_SIZE = 300


def answers(*command: str) -> bool:
    """Whether a command is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose docker and python only note what they are asked."""
    return make_machine(tmp_path)


@pytest.fixture(scope="session")
def compose_command() -> None:
    """Skip where there is no ``docker compose`` to read the files with."""
    if not answers("docker", "compose", "version"):
        pytest.skip("there is no docker compose command")


@pytest.fixture(scope="session")
def engine(compose_command: None) -> None:
    """Skip where no Docker engine answers."""
    if not answers("docker", "version"):
        pytest.skip("no Docker engine answers")


@pytest.fixture(scope="session")
def base_image(engine: None) -> str:
    """The image to build on; skip where it is neither here nor can be pulled."""
    dockerfile = (REPOSITORY / "docker" / "Dockerfile").read_text().splitlines()
    default = next(line for line in dockerfile if line.startswith("ARG BASE_IMAGE="))
    image = os.environ.get("BASE_IMAGE") or default.partition("=")[2]
    if not answers("docker", "image", "inspect", image) and not answers("docker", "pull", image):
        pytest.skip(f"the base image {image} is not here and cannot be pulled")
    return image


@pytest.fixture(scope="session")
def stack(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The image, built by ``make build``; containers, volumes and image are removed at the end."""
    port = free_port()
    name = f"sureset-test-{uuid.uuid4().hex[:8]}"
    clone = fresh_clone(tmp_path_factory.mktemp("stack") / "clone")
    settings = {
        "BASE_IMAGE": base_image,
        "IMAGE_TAG": f"{name}:latest",
        "COMPOSE_PROJECT_NAME": name,
        "PORT": port,
        "SAMPLE_SIZE": SAMPLE_SIZE,
        "RUNNER": "docker",
        "GPU": 0,
    }
    lines = (f"{variable}={value}\n" for variable, value in settings.items())
    (clone / ".env").write_text("".join(lines))
    stack = Stack(clone, f"{name}:latest", name, port)
    try:
        stack.done("make", "build")
        yield stack
    finally:
        stack.remove()
        stack.run("docker", "image", "rm", stack.image)


@pytest.fixture
def project(stack: Stack, tmp_path: Path) -> Iterator[Stack]:
    """The image, in a project whose volumes are fresh."""
    project = stack.sibling(tmp_path / "project", "fresh")
    yield project
    project.remove()


@pytest.fixture
def caller(stack: Stack) -> Iterator[Stack]:
    """Likewise, in a clone that belongs to somebody who is not root."""
    with tempfile.TemporaryDirectory(prefix="sureset-caller-") as folder:
        caller = stack.sibling(Path(folder) / "clone", "caller")
        if os.getuid() == 0:
            for path in (Path(folder), *Path(folder).rglob("*")):
                os.chown(path, 4321, 4322, follow_symlinks=False)
        yield caller
        caller.remove()


@pytest.fixture(scope="session")
def host(engine: None) -> str:
    """The address of this machine that containers and builds reach it by."""
    gateway = "{{(index .IPAM.Config 0).Gateway}}"
    command = ("docker", "network", "inspect", "bridge", "--format", gateway)
    address = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        socket.create_server((address, 0)).close()
    except OSError:
        pytest.skip("containers do not reach this machine by an address of its own")
    return address


@pytest.fixture(scope="session")
def trained(stack: Stack) -> str:
    """What ``make train`` says: the stack now has data, weights and a bundle."""
    done = stack.done("make", "train")
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def webui(stack: Stack, trained: str) -> Iterator[DockerCompose]:
    """The web page, started as ``docker compose up --wait`` does: healthy."""
    with DockerCompose(str(stack.clone), services=["webui"], keep_volumes=True) as compose:
        yield compose
