"""``prefetch --dataset`` from a server of this machine, which behaves as badly as it can."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.data.datasets import read_pins
from app.data.layouts import read_manifest
from app.errors import SuresetError
from app.pipeline.datasets import fetch_dataset
from tests.unit.data.archives import faces, member, picture, tar_of, tarred, vehicles, zip_of
from tests.unit.data.publisher import Publisher, publishing
from tests.unit.pipeline.conftest import ROOT, clean_environment, run_in

EMBEDDED: dict[str, Any] = {"BACKBONE": "tf_efficientnet_lite0"}  # It needs no network.
#: In every archive, so that it is sent in more than one piece.
NOTES = {"notes.bin": random.Random(0).randbytes(150_000)}
PIECE = 1 << 16
SGVEHICLE = vehicles()
UTKFACE = {f"/part{i}.tar.gz": faces(i) for i in (1, 2, 3)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Publisher]:
    """It publishes both sets; the copy of ``static`` in ``tmp_path`` names it."""
    static = tmp_path / "static"
    shutil.copytree(ROOT / "static", static)
    with publishing() as server:
        server.tagged = True
        server.files = {"/cars.tar.gz": tar_of(SGVEHICLE | NOTES)}
        server.files |= {path: tar_of(files | NOTES) for path, files in UTKFACE.items()}
        addresses = "".join(f"\n  - {server.address(path)}" for path in UTKFACE)
        (static / "datasets.yaml").write_text(
            f"sgvehicle: [{server.address('/cars.tar.gz')}]\nutkface:{addresses}\n"
        )
        yield server


def fetched(folder: Path, name: str = "sgvehicle", data: str = "data") -> None:
    """As the command does it, in this process."""
    fetch_dataset(name, folder / data, folder / "cache", folder / "static")


def refused(folder: Path, words: str, name: str = "sgvehicle") -> None:
    """It is refused, and nothing of it is in the data folder."""
    with pytest.raises(SuresetError, match=words):
        fetched(folder, name)
    left = [path.name for path in (folder / "data").iterdir()] if (folder / "data").exists() else []
    assert set(left) <= {".lock"}


def held(folder: Path, data: str = "data") -> dict[str, bytes]:
    """What is to be seen in the data folder."""
    root = folder / data
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def of(name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}/{file}": content for file, content in files.items()}


def pins(folder: Path) -> dict[str, str]:
    lock = folder / "static" / "datasets.lock"
    return {url: pin.sha256 for url, pin in read_pins(lock).items()}


# ---- the command


def test_three_archives_from_a_server_that_cuts_off_and_then_no_request(
    server: Publisher, tmp_path: Path
) -> None:
    """Into the default folder, where no sample set is written then."""
    server.break_off_after = PIECE
    done = run_in(tmp_path, "prefetch", "--dataset", "utkface", **EMBEDDED)
    assert done.returncode == 0, done.stderr
    everything = {name: file for files in UTKFACE.values() for name, file in files.items()}
    assert held(tmp_path) == of("utkface", everything)
    manifest = read_manifest(tmp_path / "data")
    assert (manifest.layout, len(manifest)) == ("utkface", 12)

    # All the bytes were sent once, in pieces that were asked for one after another.
    lengths = [len(server.files[path]) for path in UTKFACE]
    assert sum(server.sent) == sum(lengths)
    assert server.asked == [None, f"bytes={PIECE}-", f"bytes={2 * PIECE}-"] * 3
    assert server.heads == list(UTKFACE)

    assert set(pins(tmp_path)) == {server.address(path) for path in UTKFACE}
    said = [line for line in done.stderr.splitlines() if line.endswith("commit that file")]
    assert len(said) == 3 and said[0].startswith(f"{server.address('/part1.tar.gz')} is pinned in")

    server.asked.clear()
    server.heads.clear()
    lock = (tmp_path / "static/datasets.lock").read_text()
    done = run_in(tmp_path, "prefetch", DATASET="utkface", **EMBEDDED)
    assert (done.returncode, done.stderr) == (0, "data holds the data set utkface already\n")
    assert server.asked == [] and server.heads == []
    assert (tmp_path / "static/datasets.lock").read_text() == lock


def test_a_name_that_is_no_data_set(server: Publisher, tmp_path: Path) -> None:
    done = run_in(tmp_path, "prefetch", "--dataset", "cifar", **EMBEDDED)
    assert done.returncode == 1
    assert done.stderr.startswith("error: setting dataset (--dataset) cannot be 'cifar'")


def test_two_at_once_wait_for_each_other(server: Publisher, tmp_path: Path) -> None:
    server.drip = 20_000
    run = partial(run_in, tmp_path, "prefetch", "--dataset", "sgvehicle", **EMBEDDED)
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: run(), range(2)))
    assert [done.returncode for done in both] == [0, 0], both
    assert held(tmp_path) == of("sgvehicle", SGVEHICLE)
    assert server.asked == [None]
    already = ["holds the data set sgvehicle already" in done.stderr for done in both]
    assert sorted(already) == [False, True]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "app", "prefetch", "--dataset", "sgvehicle"]
    with subprocess.Popen(
        command, cwd=folder, env=clean_environment(**EMBEDDED), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_downloads_it_goes_on(
    server: Publisher, tmp_path: Path, signal_: signal.Signals
) -> None:
    content = server.files["/cars.tar.gz"] = tar_of(SGVEHICLE | NOTES | {"x": os.urandom(300_000)})
    server.drip = 10_000
    parts = tmp_path / "cache/datasets/sgvehicle"
    with running(tmp_path) as process:
        wait_for(lambda: any(part.stat().st_size for part in parts.glob("*.part")))
        process.send_signal(signal_)
        status = process.wait(60)
    assert status == (-9 if signal_ == signal.SIGKILL else 128 + signal_)
    assert not held(tmp_path) and not pins(tmp_path)

    [part] = parts.glob("*.part")
    have = part.stat().st_size
    assert 0 < have < len(content)
    server.drip = None
    server.sent.clear()
    fetched(tmp_path)
    assert held(tmp_path) == of("sgvehicle", SGVEHICLE)
    assert server.asked == [None, f"bytes={have}-"] and server.sent == [len(content) - have]


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_while_it_unpacks_it_begins_anew_and_asks_for_nothing(
    server: Publisher, tmp_path: Path, signal_: signal.Signals
) -> None:
    classes = ("red_bus", "blue_van")
    names = [f"Gen_img/{both}_{i}.png" for both in classes for i in range(1500)]
    files = dict.fromkeys(names, picture())
    server.files["/cars.tar.gz"] = tar_of(files)
    begun = tmp_path / "data/.unfinished/sgvehicle/Gen_img"
    with running(tmp_path) as process:
        wait_for(begun.is_dir)
        process.send_signal(signal_)
        process.wait(60)
    assert not (tmp_path / "data/sgvehicle").exists()
    assert begun.exists() == (signal_ == signal.SIGKILL)

    server.asked.clear()
    fetched(tmp_path)
    assert held(tmp_path) == of("sgvehicle", files)
    assert server.asked == [] and not begun.exists()


# ---- where nothing can be written, or not enough


def in_mounts(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with mounts of its own, where that is allowed."""
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, which gives a process mounts of its own")
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode:
        pytest.skip("mounts of its own are allowed to no process of this user here")
    return subprocess.run(
        [*unshare, "sh", "-euc", script, "sh", sys.executable],
        cwd=folder,
        env=clean_environment(**EMBEDDED),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_disk_that_is_too_small_for_the_archives(server: Publisher, tmp_path: Path) -> None:
    server.files["/cars.tar.gz"] = zip_of({"x.png": os.urandom(3_000_000)})
    (tmp_path / "cache").mkdir()
    script = "mount -t tmpfs -o size=2m none cache; $1 -m app prefetch --dataset sgvehicle"
    done = in_mounts(tmp_path, script)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the data set sgvehicle needs 3.0 MB in cache, and 2.1 MB are free: make room "
        "there, or name another folder with --cache."
    ]
    assert server.asked == []


def test_a_disk_that_is_too_small_for_the_pictures(server: Publisher, tmp_path: Path) -> None:
    """Which only the archive itself tells: it is smaller than the room that is left."""
    server.files["/cars.tar.gz"] = zip_of({"x.png": os.urandom(1_000_000) + bytes(3_000_000)})
    (tmp_path / "data").mkdir()
    script = "mount -t tmpfs -o size=2m none data; $1 -m app prefetch --dataset sgvehicle; ls data"
    done = in_mounts(tmp_path, script.replace("sgvehicle; ls", "sgvehicle || ls -A"))
    assert done.stderr.splitlines()[-1] == (
        "error: the data set sgvehicle needs 4.0 MB in data, and 2.1 MB are free: make room "
        "there, or name another folder with --data."
    )
    assert done.stdout.split() == [".lock"]


def test_a_lock_that_cannot_be_written_is_told_before_anything_is_asked_for(
    server: Publisher, tmp_path: Path
) -> None:
    script = "mount --bind static static; mount -o remount,ro,bind static; "
    done = in_mounts(tmp_path, script + "$1 -m app prefetch --dataset sgvehicle")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: static/datasets.lock does not tell yet what is to be fetched, and cannot be "
        "written (Read-only file system): let it be written, or give --static another folder like "
        "it."
    ]
    assert server.asked == [] and server.heads == []

    # Where all is pinned, nothing is to be written.
    fetched(tmp_path)
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "cache")
    done = in_mounts(tmp_path, script + "$1 -m app prefetch --dataset sgvehicle")
    assert done.returncode == 0, done.stderr
    assert held(tmp_path) == of("sgvehicle", SGVEHICLE)


def test_room_is_asked_for_before_and_after_the_download(
    server: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one disk, which holds the archives and what is in them."""
    lengths = sum(len(server.files[path]) for path in UTKFACE)
    free, of_cache = 2 * lengths - 1, 0

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=free + of_cache * (tmp_path / "cache" in folder.parents))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    words = "the data set utkface needs .* MB in .*cache and .*data, .* with --cache or --data"
    refused(tmp_path, words, "utkface")
    assert server.asked == [] and len(server.heads) == 3

    # A server that does not say how much there is is asked for it.
    server.answers_head, free = False, 10
    refused(tmp_path, r"utkface-.*\.part needs .* MB in .*cache.* with --cache", "utkface")
    assert len(server.asked) == 1 and not list((tmp_path / "cache").rglob("*.part"))
    of_cache = lengths
    refused(tmp_path, "the data set utkface needs .* MB in .*data, .* with --data", "utkface")
    assert len(server.asked) == 4 and pins(tmp_path) == {}

    # What is in the cache needs no more room there.
    server.heads.clear()
    free = sum(len(picture) for files in UTKFACE.values() for picture in files.values())
    fetched(tmp_path, "utkface")
    assert len(server.asked) == 4 and server.heads == [] and len(pins(tmp_path)) == 3


# ---- what is sent


def test_a_file_that_changes_midway(server: Publisher, tmp_path: Path) -> None:
    server.break_off_after, server.ranges = PIECE, False
    refused(tmp_path, "the connection broke off; try again")
    server.break_off_after, server.ranges = None, True
    other = vehicles(["green", "white"])
    server.files["/cars.tar.gz"] = tar_of(other | NOTES)
    server.sent.clear()
    fetched(tmp_path)
    assert server.asked[-1] == f"bytes={PIECE}-"
    assert server.sent == [len(server.files["/cars.tar.gz"])], "all of the new one"
    assert held(tmp_path) == of("sgvehicle", other)


def test_another_file_than_is_pinned(server: Publisher, tmp_path: Path) -> None:
    fetched(tmp_path)
    pinned = pins(tmp_path)
    shutil.rmtree(tmp_path / "data")
    fetched(tmp_path)
    assert server.asked == [None], "the archive stays in the cache"

    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "cache")
    server.files["/cars.tar.gz"] = tar_of(vehicles(["green", "white"]))
    refused(tmp_path, r"datasets\.lock has [0-9a-f]{64}: if you know why .* remove its line there")
    assert pins(tmp_path) == pinned


def test_an_html_page_is_never_pinned(server: Publisher, tmp_path: Path) -> None:
    archive = server.files["/part2.tar.gz"]
    server.files["/part2.tar.gz"] = b"<!DOCTYPE html><html><title>Quota exceeded</title></html>"
    words = rf"{server.address('/part2.tar.gz')} sent an HTML page instead of a tar, tar\.gz or zip"
    for _ in range(2):
        refused(tmp_path, words, "utkface")
    assert pins(tmp_path) == {}
    server.files["/part2.tar.gz"] = archive
    server.asked.clear()
    fetched(tmp_path, "utkface")
    assert len(pins(tmp_path)) == 3 and len(server.asked) == 2


def test_from_a_mirror_that_redirects_and_packs_otherwise(
    server: Publisher, tmp_path: Path
) -> None:
    server.moved = {"/cars.tar.gz": "/elsewhere?x=1"}
    server.files = {"/elsewhere?x=1": zip_of({"readme.txt": b"", **SGVEHICLE})}
    fetched(tmp_path)
    assert held(tmp_path) == of("sgvehicle", SGVEHICLE)
    assert set(pins(tmp_path)) == {server.address("/cars.tar.gz")}


HOSTILE = {
    "up": (member("../../red_bus_0.png", b"x"), "leads out of its folder"),
    "absolute": (member("/tmp/red_bus_0.png", b"x"), "leads out of its folder"),
    "symlink": (member("a.png", type=tarfile.SYMTYPE, linkname="/etc"), "a link or a device"),
    "hardlink": (member("a.png", type=tarfile.LNKTYPE, linkname="../../x"), "a link or a device"),
    "device": (member("a.png", type=tarfile.BLKTYPE), "a link or a device"),
    "bomb": (member("a.png", bytes(20 << 20)), "100 times as large"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_leave_nothing_behind(
    server: Publisher, tmp_path: Path, case: str
) -> None:
    hostile, words = HOSTILE[case]
    harmless = [member(name, content) for name, content in SGVEHICLE.items()]
    server.files["/cars.tar.gz"] = tarred(*harmless, hostile)
    before = {path for path in tmp_path.rglob("*")}
    address = server.address("/cars.tar.gz")
    refused(tmp_path, f"archive of {address} is refused and was deleted, for .*{words}.*: see")
    left = {path for path in tmp_path.rglob("*")} - before
    assert not [path for path in left if not stat.S_ISDIR(path.lstat().st_mode) and
                not path.name.endswith(".lock")]  # fmt: skip
    assert pins(tmp_path) == {}

    server.files["/cars.tar.gz"] = tar_of(SGVEHICLE)
    fetched(tmp_path)
    assert held(tmp_path) == of("sgvehicle", SGVEHICLE)


@pytest.mark.parametrize(
    "files", [UTKFACE["/part1.tar.gz"], {"cat/1.png": picture(), "dog/1.png": picture(2)}, "text"]
)
def test_pictures_of_something_else(
    server: Publisher, tmp_path: Path, files: dict[str, bytes] | str
) -> None:
    if isinstance(files, str):
        server.files["/cars.tar.gz"] = tar_of({"readme.txt": b""})
        refused(tmp_path, "there is no picture in it: see whether")
        assert pins(tmp_path) == {}
    else:
        server.files["/cars.tar.gz"] = tar_of(files)
        for _ in range(2):
            refused(tmp_path, "not those of sgvehicle: .* name the right addresses")
        assert pins(tmp_path) == {} and len(server.asked) == 2


# ---- where it goes


@pytest.mark.parametrize("name", ["labels.csv", "sgvehicle/red_bus_0.png", "utkface/x.jpg"])
def test_a_folder_that_holds_something_else(server: Publisher, tmp_path: Path, name: str) -> None:
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(SuresetError, match=r"data is not empty: the data set sgvehicle is written"):
        fetched(tmp_path)
    assert held(tmp_path) == {name: b"mine"}
    assert server.asked == [] and server.heads == []


def test_killed_between_what_decides_and_its_move_it_is_moved(
    server: Publisher, tmp_path: Path
) -> None:
    fetched(tmp_path)
    (tmp_path / "data/.whole").mkdir()
    (tmp_path / "data/sgvehicle").rename(tmp_path / "data/.whole/sgvehicle")
    server.asked.clear()
    fetched(tmp_path)
    assert held(tmp_path) == of("sgvehicle", SGVEHICLE) and server.asked == []


def test_the_archives_in_the_cache_fill_another_folder_without_the_network(
    server: Publisher, tmp_path: Path
) -> None:
    fetched(tmp_path, "utkface")
    server.asked.clear()
    server.heads.clear()
    fetched(tmp_path, "utkface", data="other/pictures")
    assert held(tmp_path, "other/pictures") == held(tmp_path)
    assert server.asked == [] and server.heads == []


def test_killed_before_it_was_pinned_it_is_pinned_by_the_next_call(
    server: Publisher, tmp_path: Path
) -> None:
    fetched(tmp_path)
    pinned = pins(tmp_path)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "static/datasets.lock").unlink()
    fetched(tmp_path)
    assert pins(tmp_path) == pinned and server.asked == [None]
