"""The repository as a fresh clone, and what the tests do in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

#: What a fresh clone would not have.
_LOCAL = {".git", ".venv", ".env", "data", "models", "cache", "lightning_logs", "wandb", "feedback"}
_LOCAL |= {"experiments", ".compose.run-args.yaml"}
_CACHES = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}

#: What `make test` hands down, and settings of whoever runs the tests: neither is for the clone.
#: How this machine reaches others is.
_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS"}
_SETTINGS = {
    name
    for name in re.findall(r"^#(\w+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)
    if not name.endswith("_PROXY")
}


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would reach into the clone, and ``variables``."""
    kept = {name: os.environ[name] for name in os.environ.keys() - _MAKE - _SETTINGS}
    return kept | variables


def fresh_clone(folder: Path) -> Path:
    """Copy the repository to ``folder``, without what a fresh clone would not have."""

    def left_out(path: str, names: list[str]) -> set[str]:
        return set(names) & (_CACHES | (_LOCAL if Path(path) == REPOSITORY else set()))

    shutil.copytree(REPOSITORY, folder, ignore=left_out)
    return folder


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass(frozen=True)
class Stack:
    """A built image and a Compose project of its own, in a fresh clone whose .env says so."""

    clone: Path
    image: str
    project: str
    port: int

    def sibling(self, clone: Path, name: str, **settings: str) -> Stack:
        """Another project, with a clone, settings, port and volumes of its own."""
        project, port = f"{self.project}-{name}", free_port()
        own = {"IMAGE_TAG": self.image, "COMPOSE_PROJECT_NAME": project, "PORT": str(port)}
        settings = own | settings
        fresh_clone(clone)
        # Of two lines for one variable the later counts.
        lines = (f"{variable}={value}\n" for variable, value in settings.items())
        (clone / ".env").write_text((self.clone / ".env").read_text() + "".join(lines))
        return Stack(clone, settings["IMAGE_TAG"], project, port)

    def remove(self) -> None:
        """Remove containers, volumes, and images that a later build took the name of."""
        self.compose("--profile", "*", "down", "--volumes")
        of_project = f"label=com.docker.compose.project={self.project}"
        self.done("docker", "image", "prune", "--force", "--filter", of_project)

    def run(
        self, *command: str, typed: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, successful or not; ``typed`` is its standard input."""
        return subprocess.run(
            command,
            cwd=self.clone,
            env=environment(**variables),
            input=typed,
            capture_output=True,
            text=True,
            errors="replace",
        )

    def done(
        self, *command: str, typed: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that must succeed; where it does not, the test shows all it said."""
        done = self.run(*command, typed=typed, **variables)
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done

    def compose(self, *arguments: str, **variables: str) -> str:
        """What ``docker compose ARGUMENTS`` prints."""
        return self.done("docker", "compose", *arguments, **variables).stdout

    def shell(self, service: str, script: str, **variables: str) -> str:
        """What a shell script prints in a new container of a service, with the app's rights."""
        entry_point = ("--entrypoint", "unprivileged sh")
        arguments = ("run", "--rm", "--no-deps", *entry_point, service, "-ec", script)
        return self.compose(*arguments, **variables)

    def inspect(self, *arguments: str) -> Any:
        """The first object that ``docker ARGUMENTS`` prints as JSON."""
        return json.loads(self.done("docker", *arguments).stdout)[0]
