"""``prefetch`` of weights as it is run, from a server which behaves badly."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.unit.data.publisher import CONTENT, SHA256, Publisher, publishing
from tests.unit.pipeline.conftest import run_in

Prefetch = Callable[..., "subprocess.CompletedProcess[str]"]

NAMED = ("--backbone", "resnet50")


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publishing() as server:
        yield server


@pytest.fixture
def prefetch(server: Publisher, tmp_path: Path) -> Prefetch:
    """Run it in a folder of its own, where no sample set is wanted."""
    static = tmp_path / "mirror"
    static.mkdir()
    (static / "weights.yaml").write_text(server.catalogue)
    return partial(run_in, tmp_path, "prefetch", SAMPLE_SIZE="0", STATIC_DIR=str(static))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the weights belong."""
    return tmp_path / "cache" / "weights" / f"resnet50-{SHA256[:8]}.pth"


def test_it_fetches_from_a_server_that_cuts_off(
    server: Publisher, prefetch: Prefetch, place: Path
) -> None:
    server.break_off_after = 300_000
    done = prefetch(*NAMED)
    assert done.returncode == 0, done.stderr
    assert place.read_bytes() == CONTENT and len(server.asked) > 1


def test_a_whole_cache_needs_no_network(server: Publisher, prefetch: Prefetch, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    place.parent.chmod(0o555)
    done = prefetch(*NAMED)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.asked == [] and os.listdir(place.parent) == [place.name]


def test_a_damaged_file_is_fetched_again_and_it_says_so(
    server: Publisher, prefetch: Prefetch, place: Path
) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT[:-1] + b"?")
    done = prefetch(*NAMED)
    assert done.returncode == 0, done.stderr
    assert place.read_bytes() == CONTENT and server.asked == [None]
    [line] = [line for line in done.stderr.splitlines() if "damaged" in line]
    assert line == f"cache/weights/{place.name} is damaged: replacing it"


@pytest.mark.parametrize("named", [True, False])
def test_what_cannot_be_had_stops_only_who_asked_for_it(
    server: Publisher, prefetch: Prefetch, place: Path, named: bool
) -> None:
    """From a server that lies; the damaged file that was there is used by nobody either."""
    place.parent.mkdir(parents=True)
    place.write_bytes(b"damaged")
    server.content = b"<html>please log in</html>"
    done = prefetch(*(NAMED if named else ()))
    assert done.returncode == (1 if named else 0)
    last = done.stderr.splitlines()[-1]
    assert f"what {server.url} sent does not have the checksum {SHA256}" in last
    assert last.startswith("error: ") == named
    assert last.endswith("will use the embedded tf_efficientnet_lite0 instead.") != named
    assert not place.exists()


def test_a_malformed_catalogue_is_never_passed_over(prefetch: Prefetch, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "weights.yaml").write_text("resnet50: {url: mirror}")
    done = prefetch()
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/mirror/weights.yaml is no catalogue of weights")


def test_of_two_at_once_one_fetches(server: Publisher, prefetch: Prefetch, place: Path) -> None:
    server.drip = len(CONTENT) // 40
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: prefetch(*NAMED), range(2)))
    assert [done.returncode for done in both] == [0, 0], both
    assert place.read_bytes() == CONTENT and server.asked == [None]


def test_doctor_says_how_damaged_weights_are_mended(
    prefetch: Prefetch, place: Path, tmp_path: Path
) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT[:-1] + b"?")
    mirror = str(tmp_path / "mirror")
    done = run_in(tmp_path, "doctor", "--port", "0", "--static", mirror)
    again = "`python -m app prefetch --backbone resnet50` fetches it again."
    assert f"-> weights: cache/weights/{place.name} is damaged: {again}" in done.stdout
    assert prefetch(*NAMED).returncode == 0
    done = run_in(tmp_path, "doctor", "--port", "0", "--static", mirror)
    assert "weights of resnet50: found" in done.stdout


def test_with_a_file_of_weights_none_are_fetched(
    server: Publisher, prefetch: Prefetch, tmp_path: Path
) -> None:
    done = prefetch(*NAMED, "--weights", "own.safetensors")
    assert done.returncode == 0, done.stderr
    assert server.asked == []
