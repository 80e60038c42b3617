"""What is published and what is pinned: the catalogue of data sets and its lock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest

from app.data import datasets
from app.data.datasets import (
    Archive,
    Pin,
    fetch_archive,
    pin,
    published_archives,
    read_pins,
    require_writable,
)
from app.data.download import DownloadError
from app.data.layouts import read_manifest
from app.errors import SuresetError
from app.settings import Dataset
from tests.unit.data.archives import faces, picture, tar_of, vehicles
from tests.unit.data.publisher import Publisher, publishing

STATIC = Path(__file__).parents[3] / "static"
CONTENT = tar_of(vehicles())
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publishing() as server:
        server.content = CONTENT
        yield server


@pytest.fixture
def archive(server: Publisher, tmp_path: Path) -> Archive:
    return Archive(server.url, tmp_path / "cache/datasets/sgvehicle/0.archive")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "datasets.lock"


# ---- the catalogue


def test_the_catalogue_names_the_thesis_addresses(tmp_path: Path) -> None:
    [vehicles] = published_archives("sgvehicle", STATIC, tmp_path)
    assert vehicles.url == (
        "https://github.com/pappd90/mdc_dataset/raw/main/data/MDC_dataset.tar.gz"
    )
    parts = published_archives("utkface", STATIC, tmp_path)
    assert [part.url for part in parts] == [
        f"https://drive.usercontent.google.com/download?id={name}&export=download&confirm=t"
        for name in (
            "1mb5Z24TsnKI3ygNIlX6ZFiwUj0_PmpAW",
            "19vdaXVRtkP-nyxz1MYwXiFsh_m_OL72b",
            "1oj9ZWsLV2-k2idoW_nRSrLQLUP3hus3b",
        )
    ]
    places = [vehicles.path, *(part.path for part in parts)]
    assert len(set(places)) == 4
    assert {place.parent for place in places} == {
        tmp_path / "datasets/sgvehicle",
        tmp_path / "datasets/utkface",
    }


def test_each_data_set_is_the_name_of_a_layout_that_reads_it(tmp_path: Path) -> None:
    for name, files in (("sgvehicle", vehicles()), ("utkface", faces(1) | faces(2))):
        for file, content in files.items():
            place = tmp_path / name / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        assert name in get_args(Dataset)
        assert read_manifest(tmp_path / name).layout == name


@pytest.mark.parametrize(
    ("catalogue", "words"),
    [
        ("", "it: Input should be a valid dictionary"),
        ("sgvehicle: http://mirror/x", "sgvehicle: "),
        ("sgvehicle: []", "sgvehicle: "),
        ("sgvehicle: [/srv/x.tar.gz]", "sgvehicle 0: "),
    ],
)
def test_a_malformed_catalogue_is_one_sentence(tmp_path: Path, catalogue: str, words: str) -> None:
    (tmp_path / "datasets.yaml").write_text(catalogue)
    with pytest.raises(
        SuresetError, match=rf"datasets\.yaml is no catalogue of data sets \({words}.*: give each"
    ):
        published_archives("sgvehicle", tmp_path, tmp_path)


def test_a_catalogue_that_lacks_it_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match=r"there is no .*datasets\.yaml: point --static at"):
        published_archives("utkface", tmp_path, tmp_path)
    (tmp_path / "datasets.yaml").write_text("sgvehicle: [http://mirror/x]")
    with pytest.raises(SuresetError, match=r"there is no data set utkface in .*datasets\.yaml"):
        published_archives("utkface", tmp_path, tmp_path)


# ---- the lock


def test_what_is_pinned_is_read_again(archive: Archive, lock: Path) -> None:
    assert read_pins(lock) == {}
    fetch_archive(archive, lock)
    assert pin(archive, lock) and not pin(archive, lock)
    assert read_pins(lock) == {archive.url: Pin(SHA256, len(CONTENT))}
    assert lock.read_text().splitlines()[-1] == f"{SHA256} {len(CONTENT)} {archive.url}"
    assert [file.name for file in lock.parent.iterdir() if file.is_file()] == ["datasets.lock"]


def test_other_pins_stay(archive: Archive, lock: Path) -> None:
    other = f"{'0' * 64} 12 https://elsewhere/x?id=a&b=c#d"
    lock.write_text(f"# mine\n\n{other}\n")
    fetch_archive(archive, lock)
    pin(archive, lock)
    assert other in lock.read_text().splitlines()
    assert set(read_pins(lock)) == {archive.url, "https://elsewhere/x?id=a&b=c#d"}


def test_pins_written_at_once_are_all_there(tmp_path: Path, lock: Path) -> None:
    archives = [Archive(f"http://mirror/{i}", tmp_path / f"cache/{i % 3}/{i}") for i in range(24)]
    for i, archive in enumerate(archives):
        archive.path.parent.mkdir(parents=True, exist_ok=True)
        archive.path.write_bytes(b"x" * i)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda archive: pin(archive, lock), archives))
    assert {pin.bytes for pin in read_pins(lock).values()} == set(range(24))


@pytest.mark.parametrize("line", ["sha256", f"{'0' * 63} 12 http://x", f"{'0' * 64} x http://x"])
def test_a_malformed_lock_is_one_sentence(archive: Archive, lock: Path, line: str) -> None:
    lock.write_text(f"# mine\n{line}\n")
    with pytest.raises(SuresetError, match=r"line 2 of .*datasets\.lock is not a sha256, a length"):
        fetch_archive(archive, lock)
    lock.write_bytes(b"\xff")
    with pytest.raises(SuresetError, match=r"datasets\.lock cannot be read as text: restore it"):
        read_pins(lock)


def test_a_lock_that_cannot_be_written(archive: Archive, tmp_path: Path) -> None:
    fetch_archive(archive, tmp_path / "datasets.lock")
    nowhere = tmp_path / "nowhere" / "datasets.lock"
    with pytest.raises(SuresetError, match=r"does not tell yet .* \(No such file.*--static"):
        require_writable(nowhere)
    with pytest.raises(SuresetError, match=r"datasets\.lock cannot be written: No such file"):
        pin(archive, nowhere)


def test_a_kill_while_it_is_written_leaves_the_old_one(
    archive: Archive, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.write_text(f"{'0' * 64} 12 http://mirror/x\n")
    before = lock.read_text()
    fetch_archive(archive, lock)

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            pin(archive, lock)
    assert lock.read_text() == before
    assert pin(archive, lock) and len(read_pins(lock)) == 2


def test_credentials_are_neither_pinned_nor_shown(
    server: Publisher, archive: Archive, lock: Path
) -> None:
    secret = Archive(server.url.replace("//", "//me:p@ss@"), archive.path)
    fetch_archive(secret, lock)
    pin(secret, lock)
    assert list(read_pins(lock)) == [server.url]
    archive.path.unlink()
    for content in (PAGE, tar_of({"x.png": picture()})):
        server.content = content
        with pytest.raises(SuresetError) as refusal:
            fetch_archive(secret, lock)
        assert server.url in str(refusal.value)
        assert "me:" not in str(refusal.value) and "p@ss" not in str(refusal.value)


# ---- what is sent


def test_another_file_than_is_pinned_is_refused_until_its_line_is_removed(
    server: Publisher, archive: Archive, lock: Path
) -> None:
    fetch_archive(archive, lock)
    pin(archive, lock)
    archive.path.unlink()
    server.content = tar_of(vehicles(["green"]))
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DownloadError) as refusal:
        fetch_archive(archive, lock)
    assert str(refusal.value) == (
        f"{server.url} sent a file with the checksum {found}, which was deleted, for {lock} has "
        f"{SHA256}: if you know why it changed, remove its line there and prefetch again."
    )
    assert not archive.path.exists() and read_pins(lock)[server.url].sha256 == SHA256

    lines = lock.read_text().splitlines(keepends=True)
    lock.write_text("".join(line for line in lines if server.url not in line))
    fetch_archive(archive, lock)
    pin(archive, lock)
    assert read_pins(lock)[server.url].sha256 == found


def test_a_file_in_the_cache_that_is_not_what_is_pinned_is_replaced(
    server: Publisher, archive: Archive, lock: Path
) -> None:
    lock.write_text(f"{SHA256} {len(CONTENT)} {server.url}\n")
    archive.path.parent.mkdir(parents=True)
    archive.path.write_bytes(tar_of(vehicles(["green"])))
    fetch_archive(archive, lock)
    assert archive.path.read_bytes() == CONTENT


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(
    ("content", "what"),
    [(PAGE, "an HTML page"), (b"version https://git-lfs.github.com/spec/v1", "something else")],
)
def test_what_is_no_archive_is_refused(
    server: Publisher, archive: Archive, lock: Path, pinned: bool, content: bytes, what: str
) -> None:
    if pinned:
        lock.write_text(f"{SHA256} {len(CONTENT)} {server.url}\n")
    server.content = content
    with pytest.raises(DownloadError) as refusal:
        fetch_archive(archive, lock)
    assert str(refusal.value) == (
        f"{server.url} sent {what} instead of a tar, tar.gz or zip: open the address in a browser "
        "to see what it asks for, or name another in datasets.yaml."
    )
    assert not archive.path.exists()
    server.content = CONTENT
    assert fetch_archive(archive, lock).read_bytes() == CONTENT


def test_another_address_is_another_file(tmp_path: Path) -> None:
    """Else what one address sent would be gone on with from another."""
    places = [datasets._place(url, tmp_path) for url in ("http://a/x.zip", "http://b/x.zip")]
    assert places[0] != places[1]
