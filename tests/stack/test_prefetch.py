"""Prefetch in containers: from servers that behave badly, and without any."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.clone import Stack
from tests.unit.data.publisher import CONTENT, SHA256, Publisher, publishing

CACHED = f"/app/cache/weights/resnet50-{SHA256[:8]}.pth"


@pytest.fixture
def server(host: str) -> Iterator[Publisher]:
    with publishing(host) as server:
        yield server


@pytest.fixture
def project(stack: Stack, server: Publisher, tmp_path: Path) -> Iterator[Stack]:
    """A project with fresh volumes, whose catalogue of weights names the server."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copy(stack.clone / "static" / "style.css", mirror)
    (mirror / "weights.yaml").write_text(server.catalogue)
    settings = {"SAMPLE_SIZE": "0", "BACKBONE": "resnet50", "STATIC_DIR": str(mirror)}
    project = stack.sibling(tmp_path / "project", "prefetch", **settings)
    yield project
    project.remove()


def cached(project: Stack) -> bool:
    """Whether the weights are in the cache, whole."""
    return SHA256 in project.shell("prefetch", f"sha256sum {CACHED} || :")


def test_server_that_cuts_off_and_cache_that_is_whole(project: Stack, server: Publisher) -> None:
    server.break_off_after = 3 * len(CONTENT) // 4
    project.compose("run", "--rm", "prefetch")
    assert cached(project) and len(server.asked) == 2
    project.done("make", "prefetch", "DOCKER_RUN_ARGS=--network none")
    assert len(server.asked) == 2


def test_server_that_stalls(project: Stack, server: Publisher) -> None:
    """Until it is given up, half a minute; it is asked for the rest."""
    server.stall_after = 3 * len(CONTENT) // 4
    project.compose("run", "--rm", "prefetch")
    assert cached(project) and len(server.asked) == 2
    assert server.asked[0] is None and server.asked[1] is not None


def test_corrupted_file_is_fetched_again(project: Stack, server: Publisher) -> None:
    project.compose("run", "--rm", "prefetch")
    project.shell("prefetch", f"printf x | dd of={CACHED} bs=1 seek=1000 conv=notrunc 2>&1")
    assert not cached(project)
    done = project.done("docker", "compose", "run", "--rm", "prefetch")
    assert "is damaged: replacing it" in done.stdout + done.stderr
    assert cached(project) and len(server.asked) == 2


def test_no_sample_set_in_a_folder_of_the_host(project: Stack, tmp_path: Path) -> None:
    """Not where one of another size is wanted for the stack's own volume either."""
    pictures = tmp_path / "pictures"
    pictures.mkdir(mode=0o777)
    project.compose(
        *("run", "--rm", "prefetch"), DATA_DIR=str(pictures), SAMPLE_SIZE="300", BACKBONE=""
    )
    assert list(pictures.iterdir()) == []


def test_failed_prefetch_keeps_the_web_page_from_starting(
    project: Stack, server: Publisher
) -> None:
    """Here of a server that lies; the reason is in the logs."""
    server.content = b"<html>please log in</html>"
    up = project.run("docker", "compose", "up", "--detach", "--wait")
    assert up.returncode != 0
    assert project.compose("ps", "--status", "running", "--quiet") == ""
    logs = project.compose("logs", "prefetch")
    assert f"error: what {server.url} sent does not have the checksum" in logs
    assert "Traceback" not in logs
    assert project.compose("logs", "webui") == ""

    server.content = CONTENT
    project.compose("up", "--detach", "--wait")
    assert "(healthy)" in project.compose("ps", "webui")
