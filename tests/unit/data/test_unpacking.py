"""Archives of every kind: unpacked byte for byte, or refused with nothing outside the folder."""

from __future__ import annotations

import gzip
import shutil
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.data.unpacking import ArchiveError, Weight, is_archive, unpack, weigh
from tests.unit.data.archives import member, picture, put, tar_of, tarred, vehicles, zip_of

KINDS = ["w:gz", "w:", "zip"]
FILES = vehicles()


def packed(kind: str, files: dict[str, bytes] = FILES) -> bytes:
    return zip_of(files) if kind == "zip" else tar_of(files, kind)


def nobody(_: int) -> None:
    """Nobody wants to know how far it is."""


def below(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def refused(content: bytes, tmp_path: Path, words: str) -> None:
    """It is refused, read or unpacked, and nothing is written but inside the folder."""
    archive = put(tmp_path / "some.archive", content)
    before = {path for path in tmp_path.rglob("*")}
    folder = tmp_path / "inside" / "folder"
    with pytest.raises(ArchiveError, match=words):
        weigh(archive)
    assert {path for path in tmp_path.rglob("*")} == before
    with pytest.raises(ArchiveError, match=words):
        unpack(archive, folder, nobody)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(folder)}
    assert outside - before <= {folder.parent}
    assert all(path.is_dir() or path.is_file() for path in folder.rglob("*"))
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    shutil.rmtree(folder.parent, ignore_errors=True)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_arrive_byte_for_byte_and_nothing_else_does(tmp_path: Path, kind: str) -> None:
    more = {
        "readme.txt": b"read me",
        "Gen_img/run.sh": b"#!/bin/sh",
        "Gen_img/._red_bus_0.png": picture(),
        "__MACOSX/.hidden/red_bus_0.png": picture(),
        "./Gen_img/red_VAN_9.PNG": picture(9),
    }
    archive = put(tmp_path / "a", packed(kind, {**FILES, **more}))
    wanted = {**FILES, "Gen_img/red_VAN_9.PNG": picture(9)}
    assert is_archive(archive)
    weight = weigh(archive)
    assert weight == Weight(len(wanted), sum(map(len, wanted.values())))
    told: list[int] = []
    unpack(archive, tmp_path / "folder", told.append)
    assert below(tmp_path / "folder") == wanted and sum(told) == len(wanted)
    assert not (tmp_path / "folder/Gen_img/red_bus_0.png").stat().st_mode & 0o111


def test_it_is_packed_with_tar_itself(tmp_path: Path) -> None:
    """With folders as members, long names, and the records of another program."""
    name = "/".join(["a-rather-long-name" * 2] * 3)
    for file, content in {**FILES, f"{name}/red_bus_77.png": picture(77)}.items():
        place = tmp_path / "from" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    for form in ("gnu", "pax", "ustar"):
        subprocess.run(["tar", f"--format={form}", "-czf", tmp_path / form, "."],
                       cwd=tmp_path / "from", check=True)  # fmt: skip
        unpack(tmp_path / form, tmp_path / f"of-{form}", nobody)
        assert below(tmp_path / f"of-{form}") == below(tmp_path / "from")


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n", b"x" * 600],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    assert not is_archive(put(tmp_path / "a", content))
    refused(content, tmp_path, "damaged")


def test_an_archive_without_pictures(tmp_path: Path) -> None:
    for content in (tar_of({"readme.txt": b"x"}), zip_of({"readme.txt": b"x"}), zip_of({})):
        with pytest.raises(ArchiveError, match="no picture in it"):
            weigh(put(tmp_path / "a", content))


# ---- what leads elsewhere


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/tmp/x.png", "//tmp/x.png", "a/b/../x.png", ".."]
)
def test_paths_that_lead_out(tmp_path: Path, kind: str, name: str) -> None:
    refused(packed(kind, {**FILES, name: b"x"}), tmp_path, "leads out of its folder")


def test_an_absolute_path_of_another_header(tmp_path: Path) -> None:
    """Where extended headers carry the path, theirs is the one that counts."""
    for name in (f"{tmp_path}/x.png", "/" + "long" * 100 + "/x.png", "a\0/../x.png"):
        info, content = member("harmless.png", b"x", pax_headers={"path": name})
        refused(
            tarred((info, content), form=tarfile.PAX_FORMAT), tmp_path, "leads out of its folder"
        )


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "../..", "x.png", "."])
def test_links_wherever_they_lead(tmp_path: Path, kind: bytes, target: str) -> None:
    refused(
        tarred(member("a/link.png", type=kind, linkname=target), member("a/link.png/x.png", b"x")),
        tmp_path,
        "a link or a device",
    )


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(tmp_path: Path, kind: bytes) -> None:
    refused(tarred(member("sda.png", type=kind)), tmp_path, "a link or a device")


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_links_and_devices_in_a_zip(tmp_path: Path) -> None:
    for target in (b"/etc/passwd", b"../../x", b"../..", b"red_bus_0.png"):
        link = zip_of({entry("a/link.png", stat.S_IFLNK | 0o777): target})
        refused(link, tmp_path, "a link or a device")
    device = zip_of({entry("sda.png", stat.S_IFBLK | 0o666): b""})
    refused(device, tmp_path, "a link or a device")


def test_two_in_one_place(tmp_path: Path) -> None:
    """The second would overwrite the first, or go where no folder is."""
    folder = tmp_path / "folder"
    for members in (["x.png", "x.png"], ["x.png", "./x.png"], ["x.png", "x.png/y.png"],
                    ["x.png/y.png", "x.png"]):  # fmt: skip
        content = tarred(*(member(name, picture(i)) for i, name in enumerate(members)))
        with pytest.raises(ArchiveError, match=r"in the place of its x\.png"):
            unpack(put(tmp_path / "a", content), folder, nobody)
        assert list(below(folder).values()) == [picture(0)]
        shutil.rmtree(folder)


# ---- too much


@pytest.mark.parametrize("kind", ["w:gz", "zip"])
def test_a_hundred_thousand_members(tmp_path: Path, kind: str) -> None:
    archive = put(tmp_path / "a", packed(kind, {f"{i}.txt": b"" for i in range(100_000)}))
    with pytest.raises(ArchiveError, match="more than 65536 members"):
        weigh(archive)


@pytest.mark.parametrize("kind", ["w:gz", "zip"])
def test_a_bomb_that_says_what_it_is(tmp_path: Path, kind: str) -> None:
    refused(packed(kind, {"x.png": bytes(50 << 20)}), tmp_path, "more than 100 times as large")


def lying_zip(declared: int, content: bytes, crc: int | None = None) -> bytes:
    """Both of its headers declare another size than its content has."""
    packed = bytearray(zip_of({"x.png": content}))
    central = packed.index(b"PK\x01\x02")
    struct.pack_into("<I", packed, 22, declared)
    struct.pack_into("<I", packed, central + 24, declared)
    if crc is not None:
        struct.pack_into("<I", packed, 14, crc)
        struct.pack_into("<I", packed, central + 16, crc)
    return bytes(packed)


def test_a_bomb_that_lies(tmp_path: Path) -> None:
    """It never gets to write more than it declares, whatever it holds."""
    bomb = lying_zip(10, bytes(50 << 20))
    refused(bomb, tmp_path, "damaged .*CRC")
    with pytest.raises(ArchiveError):
        unpack(put(tmp_path / "a", bomb), tmp_path / "begun", nobody)
    assert sum(map(len, below(tmp_path / "begun").values())) <= 10

    # With the checksum of its beginning it is just a small picture.
    archive = put(tmp_path / "a", lying_zip(10, bytes(50 << 20), zlib.crc32(bytes(10))))
    assert weigh(archive) == Weight(1, 10)
    unpack(archive, tmp_path / "folder", nobody)
    assert below(tmp_path / "folder") == {"x.png": bytes(10)}


def test_less_than_is_declared(tmp_path: Path) -> None:
    refused(lying_zip(500, picture()), tmp_path, "not as large as it says|damaged")
    refused(lying_zip(500, picture(), zlib.crc32(picture())), tmp_path, "not as large as it says")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    bomb = gzip.compress(tarred(member("x", bytes(64 << 20), type=kind), mode="w:"))
    archive = put(tmp_path / "a", bomb)
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="a header has no end"):
        weigh(archive)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_headers_without_end(tmp_path: Path) -> None:
    """Each says that the next is about the same member."""
    headers = member("x", b"long-name", type=tarfile.GNUTYPE_LONGNAME)
    refused(tarred(*[headers] * 5000), tmp_path, "a header has no end|damaged")


def test_a_size_that_leads_back(tmp_path: Path) -> None:
    """On which tarfile by itself goes round for ever (CVE-2025-8194)."""
    block = bytearray(member("x.png", b"")[0].tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + (-512 & 0xFFFF).to_bytes(2, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    good = tar_of({"y.png": picture()}, "w:")[:1024]
    for content in (bytes(block), good + bytes(block) + bytes(1024)):
        refused(content, tmp_path, "not all is there|leads back|damaged")


def test_a_picture_with_holes(tmp_path: Path) -> None:
    """Declared are a hundred gigabytes that a few bytes stand for."""
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1",
           "GNU.sparse.size": str(100 << 30), "GNU.sparse.numblocks": "1"}  # fmt: skip
    refused(
        tarred(member("x.png", b"x", pax_headers=pax), form=tarfile.PAX_FORMAT),
        tmp_path,
        "not all is there",
    )


# ---- damage


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_breaks_off_anywhere(tmp_path: Path, kind: str) -> None:
    """It is never taken for a smaller set."""
    whole = packed(kind)
    content = len(whole.rstrip(b"\0")) if kind == "w:" else len(whole)  # A tar is padded.
    ends = {content - 1, *range(3, content, content // 40), *range(512, content, 512)}
    for end in ends:
        with pytest.raises(ArchiveError):
            weigh(put(tmp_path / "a", whole[:end]))


def test_a_header_damaged_in_the_midst_of_a_tar(tmp_path: Path) -> None:
    """Where tarfile by itself takes it for the end."""
    whole = bytearray(tar_of(FILES, "w:"))
    at = whole.index(b"Gen_img/blue")
    whole[at] ^= 1
    refused(bytes(whole), tmp_path, "damaged")
    refused(gzip.compress(bytes(whole)), tmp_path, "damaged")


@pytest.mark.parametrize(("field", "value"), [(16, 1 << 20), (12, 1 << 20), (12, 60)])
def test_a_directory_of_a_zip_that_leads_nowhere(tmp_path: Path, field: int, value: int) -> None:
    """Of its end record is changed where it begins, or how long it is."""
    whole = bytearray(zip_of(FILES))
    end = whole.rindex(b"PK\x05\x06")
    struct.pack_into("<I", whole, end + field, value)
    refused(bytes(whole), tmp_path, "damaged")


def test_something_after_the_end(tmp_path: Path) -> None:
    refused(tar_of(FILES, "w:") + tar_of(FILES, "w:"), tmp_path, "damaged")
    refused(gzip.compress(tar_of(FILES, "w:") + bytes(2 << 20)), tmp_path, "damaged")


def test_what_python_might_unpack_and_nobody_needs(tmp_path: Path) -> None:
    refused(zip_of(FILES, zipfile.ZIP_LZMA), tmp_path, "an unusual way")
    locked = bytearray(zip_of({"x.png": picture()}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    refused(bytes(locked), tmp_path, "encrypted")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["w:", "zip"]),
    changes=st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=6),
)
def test_any_damage_is_told_or_does_no_harm(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(packed(kind, dict(list(FILES.items())[:3])))
    for place, value in changes:
        damaged[place % len(damaged)] = value
    archive = put(tmp_path / "a", bytes(damaged))
    try:
        weight = weigh(archive)
    except ArchiveError:
        return
    assert weight.pictures <= 3
