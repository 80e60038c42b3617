"""A folder that is filled: by one at a time, whole or not at all, whenever it is broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.data.filling import NotEmptyError, filling, finish, is_vacant
from app.errors import SuresetError

NAMES = ["a", "b", "c"]


def visible(root: Path) -> set[str]:
    return {entry.name for entry in root.iterdir() if not entry.name.startswith(".")}


def hidden(root: Path) -> set[str]:
    return {entry.name for entry in root.iterdir() if entry.name.startswith(".")}


def fill(root: Path) -> None:
    with filling(root, "the set") as folder:
        for name in NAMES:
            (folder / name).mkdir()
            (folder / name / "x").write_text(name)


@pytest.mark.parametrize("moves", range(5))
def test_broken_off_at_any_of_its_moves_it_is_finished_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """As by a kill: nothing cleans up."""
    done = 0

    def killed_after(rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def rename_unless_killed(self: Path, target: Path) -> Path:
            nonlocal done
            if done == moves:
                raise KeyboardInterrupt
            done += 1
            return rename(self, target)

        return rename_unless_killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_after(Path.rename))
        patch.setattr("app.data.filling.shutil.rmtree", lambda *_, **__: None)
        if moves < 4:  # One decides, three follow.
            with pytest.raises(KeyboardInterrupt):
                fill(tmp_path)
        else:
            fill(tmp_path)
    assert visible(tmp_path) == set(NAMES[: max(moves - 1, 0)])
    assert is_vacant(tmp_path) == (moves < 4)
    assert finish(tmp_path, "the set") == (0 < moves < 4)
    if moves == 0:
        fill(tmp_path)
    assert visible(tmp_path) == set(NAMES)
    assert hidden(tmp_path) <= {".lock"}
    assert not is_vacant(tmp_path) and not finish(tmp_path, "the set")


def test_what_was_broken_off_while_writing_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished/half").touch()
    assert is_vacant(tmp_path)
    fill(tmp_path)
    assert visible(tmp_path) == set(NAMES)


@pytest.mark.parametrize("error", [ValueError, SuresetError, KeyboardInterrupt, SystemExit])
def test_after_an_error_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), filling(tmp_path, "the set") as folder:
        (folder / "half").touch()
        raise error
    assert visible(tmp_path) == set() and hidden(tmp_path) <= {".lock"}


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(NotEmptyError, match=r"is not empty: the set is written only .* --data"):
        fill(tmp_path)
    (tmp_path / "mine").unlink()

    (tmp_path / ".whole").mkdir()
    (tmp_path / ".whole/a").write_text("theirs")
    (tmp_path / "a").write_text("mine")
    for call in (fill, lambda root: finish(root, "the set")):
        with pytest.raises(NotEmptyError, match=r"/a is in the way of .*\.whole/a: move it"):
            call(tmp_path)
    assert (tmp_path / "a").read_text() == "mine"
