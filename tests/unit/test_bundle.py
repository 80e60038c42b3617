"""A bundle is whole or absent, and says so when it is neither."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.bundle import LATEST, bundle_names, find_bundle, new_bundle, open_bundle
from app.errors import SuresetError


def write(models: Path, name: str) -> Path:
    with new_bundle(models, name, {"name": name, "alpha": 0.1}) as folder:
        (folder / "calibration").mkdir()
        (folder / "calibration" / "a.npz").write_bytes(b"scores")
        (folder / "metrics.json").write_text("{}")
    return models / name


def test_written_found_and_opened(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a"), write(tmp_path, "b")
    assert find_bundle(tmp_path) == find_bundle(tmp_path, "b") == second.resolve()
    assert find_bundle(tmp_path, "a") == find_bundle(tmp_path, str(first)) == first.resolve()
    assert (tmp_path / LATEST).readlink() == Path("b")  # relative: the folder may be moved
    facts = open_bundle(second)
    assert facts["alpha"] == 0.1
    assert set(facts["files"]) == {"calibration/a.npz", "metrics.json"}
    assert bundle_names(tmp_path) == ["a", "b"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with pytest.raises(RuntimeError), new_bundle(tmp_path, "b", {}) as folder:
        (folder / "half").write_text("written")
        raise RuntimeError
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", LATEST]
    assert find_bundle(tmp_path).name == "a"


#: A process that begins a bundle, says so, and is killed.
BEGUN = """
import sys
from pathlib import Path
from app.bundle import new_bundle
with new_bundle(Path(sys.argv[1]), "killed", {}) as folder:
    (folder / "half").write_text("written")
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_what_a_kill_left_goes_with_the_next_bundle_and_nothing_that_is_being_written(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", BEGUN, str(tmp_path)]
    killed = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert killed.stdout is not None and killed.stdout.readline() == b"begun\n"
        [half] = tmp_path.glob(".*/half")
        assert half.parent.stat().st_mode & 0o777 == 0o755
        write(tmp_path, "a")
        assert half.exists()
    finally:
        killed.kill()
        killed.communicate()
    assert half.exists()
    others = tmp_path / ".Trash-1000"
    others.mkdir()
    write(tmp_path, "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == [others.name, "a", "b", LATEST]


def test_of_two_with_one_name_the_second_is_told(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool, new_bundle(tmp_path, "a", {}):
        second = pool.submit(write, tmp_path, "a")
        while not second.running():
            time.sleep(0.01)
        time.sleep(0.2)
    with pytest.raises(SuresetError, match="name another with --save-as"):
        second.result()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", LATEST]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = pytest.raises(SuresetError, match=r"No space left on device.*make room")
    with full, new_bundle(tmp_path, "a", {}):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["metrics.json", "calibration/a.npz"])
def test_a_changed_byte_is_noticed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "a")
    data = bytearray((path / name).read_bytes())
    data[-1] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(SuresetError, match=f"damaged, {name} was changed"):
        open_bundle(path)


def test_a_changed_fact_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    text = (path / "bundle.json").read_text()
    (path / "bundle.json").write_text(text.replace("0.1", "0.2"))
    with pytest.raises(SuresetError, match=r"bundle\.json was changed"):
        open_bundle(path)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    (path / "metrics.json").unlink()
    with pytest.raises(SuresetError, match=r"metrics\.json is missing"):
        open_bundle(path)


def test_another_schema_and_no_json(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    facts = json.loads((path / "bundle.json").read_text())
    (path / "bundle.json").write_text(json.dumps({**facts, "schema": 99}))
    with pytest.raises(SuresetError, match="schema 99"):
        open_bundle(path)
    (path / "bundle.json").write_text("{")
    with pytest.raises(SuresetError, match=r"no readable bundle\.json"):
        open_bundle(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match=r"no bundle in .* yet: make one with `make train`"):
        find_bundle(tmp_path)
    write(tmp_path, "a")
    with pytest.raises(SuresetError, match="--model can be a"):
        find_bundle(tmp_path, "b")


@pytest.mark.parametrize("name", ["a", "../b", "b/c", LATEST])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a")
    with pytest.raises(SuresetError, match="--save-as"), new_bundle(tmp_path, name, {}):
        pass
