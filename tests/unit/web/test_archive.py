"""Pictures out of files and zips, honest ones and others."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from app.data.pictures import PictureError
from app.errors import SuresetError
from app.web import archive
from app.web.api import MOST_BYTES
from app.web.archive import Pictures, Upload
from tests.unit.web.zips import claim, write_overlapping, write_zip


def found(*uploads: Path | Upload) -> dict[str, bytes | str]:
    """What comes of uploads: by name the content, or why there is none."""
    pictures = Pictures([u if isinstance(u, Upload) else Upload(u, u.name) for u in uploads])
    there = {name: str(data) if isinstance(data, PictureError) else data for name, data in pictures}
    assert len(there) == pictures.total, "no name twice, and none that was not announced"
    return there


def test_files_and_members_come_in_their_order(tmp_path: Path) -> None:
    single = tmp_path / "single.jpg"
    single.write_bytes(b"1")
    packed = write_zip(tmp_path / "a.zip", {"z.png": b"2", "deep/er/b.JPEG": b"3"})
    assert list(found(packed).items()) == [("z.png", b"2"), ("deep/er/b.JPEG", b"3")]
    assert list(found(single, packed).items()) == [
        ("single.jpg", b"1"),
        ("a.zip/z.png", b"2"),
        ("a.zip/deep/er/b.JPEG", b"3"),
    ]


def test_what_systems_leave_is_skipped_and_other_files_are_counted(tmp_path: Path) -> None:
    names = ["a.png", "__MACOSX/._a.png", "d/.DS_Store", ".git/b.png", "labels.csv", "d/README"]
    packed = write_zip(tmp_path / "a.zip", {"folder.png/": b"", **dict.fromkeys(names, b"x")})
    assert list(found(packed)) == ["a.png"]
    assert Pictures([Upload(packed, "a.zip")]).left_out == 2


def test_a_name_is_only_shown_wherever_it_points(tmp_path: Path) -> None:
    names = ["../../etc/passwd.png", "/etc/shadow.png", "C:\\evil.png", "a\nb.png"]
    packed = write_zip(tmp_path / "a.zip", {name: name.encode() for name in names})
    before = sorted(tmp_path.rglob("*"))
    assert found(packed) == {name: name.encode() for name in names}
    assert sorted(tmp_path.rglob("*")) == before


def test_same_names_are_kept_apart(tmp_path: Path) -> None:
    one = tmp_path / "1"
    one.write_bytes(b"1")
    two = tmp_path / "2"
    two.write_bytes(b"2")
    assert found(Upload(one, "a.png"), Upload(two, "a.png")) == {"a.png": b"1", "a.png (2)": b"2"}


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    one = tmp_path / "1"
    one.write_bytes(b"1")
    assert found(Upload(one, "\udcff.png")) == {"?.png": b"1"}


def test_nothing_larger_than_a_picture_may_be_is_read(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with open(large, "wb") as file:
        file.truncate(MOST_BYTES + 1)
    packed = write_zip(tmp_path / "a.zip", {"bomb.png": bytes(MOST_BYTES + 1), "a.png": b"1"})
    assert packed.stat().st_size < 100_000
    there = found(large, packed)
    assert there["a.zip/a.png"] == b"1"
    assert there["large.png"] == there["a.zip/bomb.png"] == "it is larger than 32 MB"


def test_a_bomb_that_claims_to_be_small_is_damaged(tmp_path: Path) -> None:
    packed = write_zip(tmp_path / "a.zip", {"bomb.png": bytes(MOST_BYTES * 2), "a.png": b"1"})
    there = found(claim(packed, "bomb.png", size=1000))
    assert str(there["bomb.png"]).startswith("it is damaged in the zip: Bad CRC")
    assert there["a.png"] == b"1"


def test_members_that_share_their_bytes_unpack_to_no_more_than_all_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_UNPACKED", 10 * 2**20)
    packed = write_overlapping(tmp_path / "a.zip", bytes(2**20), 50)
    contents = list(found(packed).values())
    assert [isinstance(content, bytes) for content in contents] == [True] * 10 + [False] * 40
    assert str(contents[-1]).startswith("the zips unpack to more than")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_would_be_unpacked_without_a_limit_is_not_unpacked(
    tmp_path: Path, method: int
) -> None:
    packed = write_zip(tmp_path / "a.zip", {"a.png": b"1"}, method)
    assert "packed in a way" in str(found(packed)["a.png"])
    packed = write_zip(tmp_path / "b.zip", {"a.png": b"1"})
    assert "packed in a way" in str(found(claim(packed, "a.png", method=99))["a.png"])


def test_locked_nested_and_damaged_members_say_so(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"b.png": b"2"}).read_bytes()
    packed = write_zip(tmp_path / "a.zip", {"locked.png": b"1", "inner.zip": inner, "a.png": b"3"})
    claim(packed, "locked.png", flags=1)
    there = found(packed)
    assert "password" in str(there["locked.png"])
    assert "zip within the zip" in str(there["inner.zip"])
    assert there["a.png"] == b"3"
    data = bytearray(packed.read_bytes())
    data[data.index(b"a.png") + 5] ^= 0xFF
    packed.write_bytes(data)
    assert "damaged" in str(found(packed)["a.png"])


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_zip_is_one_entry_that_says_so(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(content)
    whole = write_zip(tmp_path / "a.zip", {"a.png": b"1"})
    there = found(broken, whole)
    assert there == {
        "broken.zip": "it is not a whole zip: pack it again",
        "a.zip/a.png": b"1",
    }


def test_every_cut_and_every_flipped_byte_is_survived(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", {"a.png": b"1" * 50, "b.png": b"2"}).read_bytes()
    path = tmp_path / "b.zip"
    for at in range(len(whole)):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(data)
            try:
                for _ in Pictures([Upload(path, "b.zip")]):
                    pass
            except SuresetError as error:
                assert "no picture" in str(error) or "too many files" in str(error)


def test_a_member_beyond_all_files_is_damaged_and_the_others_are_read(tmp_path: Path) -> None:
    """Its place in the zip is 2 ** 64 - 1, told by an extra field for large files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("a.png", b"x")
        packed.writestr("b.png", b"y")
    data = bytearray(buffer.getvalue())
    entry = data.find(b"PK\x01\x02")
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    struct.pack_into("<H", data, entry + 30, len(extra))
    struct.pack_into("<I", data, entry + 42, 0xFFFFFFFF)
    after_name = entry + 46 + len("a.png")
    data[after_name:after_name] = extra
    end = data.find(b"PK\x05\x06")
    [size] = struct.unpack_from("<I", data, end + 12)
    struct.pack_into("<I", data, end + 12, size + len(extra))
    file = tmp_path / "a.zip"
    file.write_bytes(data)
    damaged, whole = Pictures([Upload(file, "a.zip")])
    assert "damaged" in str(damaged.data) and whole.data == b"y"


def test_too_many_pictures_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = write_zip(tmp_path / "a.zip", {f"{i}.png": b"" for i in range(4)})
    monkeypatch.setattr(archive, "MOST_PICTURES", 3)
    with pytest.raises(SuresetError, match=r"^4 pictures are too many .* at most 3 at once\.$"):
        Pictures([Upload(packed, "a.zip")])


def test_no_pictures_are_one_sentence(tmp_path: Path) -> None:
    packed = write_zip(tmp_path / "a.zip", {"a.txt": b"", "b.svg": b"<svg/>"})
    with pytest.raises(SuresetError, match=r"no picture in it: .*\.png"):
        Pictures([Upload(packed, "a.zip")])


def test_a_directory_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    """Millions of members cost 50 bytes each in a zip, and some 700 in memory."""
    path = tmp_path / "a.zip"
    size = 100 * 2**20
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, size, 0, 0)
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(end)
    with pytest.raises(SuresetError, match="lists too many files"):
        Pictures([Upload(path, "a.zip")])


def test_pictures_can_be_gone_through_again(tmp_path: Path) -> None:
    packed = write_zip(tmp_path / "a.zip", {"a.png": b"1"})
    pictures = Pictures([Upload(packed, "a.zip"), Upload(packed, "a.zip")])
    assert list(pictures) == list(pictures)
    assert [name for name, _ in pictures] == ["a.zip/a.png", "a.zip/a.png (2)"]


def test_a_zip_that_goes_away_is_survived(tmp_path: Path) -> None:
    packed = write_zip(tmp_path / "a.zip", {"a.png": b"1"})
    single = tmp_path / "b.png"
    single.write_bytes(b"2")
    pictures = Pictures([Upload(packed, "a.zip"), Upload(single, "b.png")])
    packed.unlink()
    single.unlink()
    errors = [data for _, data in pictures]
    assert all(isinstance(error, PictureError) for error in errors) and len(errors) == 2
