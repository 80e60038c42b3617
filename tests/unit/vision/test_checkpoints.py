"""Fitting that was stopped: it goes on to the very same heads, or notices that it cannot."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import SuresetError
from app.vision import fitting
from app.vision.candidates import Candidate, Search
from app.vision.checkpoints import CheckpointFile
from app.vision.fitting import checkpoints_of, fit_heads
from app.vision.heads import Heads
from app.vision.softmaxes import Softmaxes

CLASSES = {"colour": 4, "type": 3}


def draw(n: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features that tell little, so that fitting stops early, but not at once."""
    rng = np.random.default_rng(seed)
    labels = {task: rng.integers(0, c, n).astype(np.int64) for task, c in CLASSES.items()}
    x = rng.normal(size=(n, 100))
    x[:, 0] += labels["colour"]
    x[:, 1] -= labels["type"]
    return x.astype(np.float32), labels


#: One with a hidden layer and dropout, and one that ends at another epoch.
SEARCH = Search((Candidate(1e-2, 2.0, width=16, dropout=0.5), Candidate(1e-2, 2.0)), 1000.0)
PROBLEM = draw(400, 1), draw(300, 2), CLASSES, 3, SEARCH


def fit(folder: Path) -> Heads:
    return fit_heads(*PROBLEM, folder / "logs", checkpoints_of(*PROBLEM, folder / "cache"))[0]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Heads:
    return fit(tmp_path_factory.mktemp("uninterrupted"))


def assert_same(a: Heads, b: Heads) -> None:
    for head in ("taskwise", "joint"):
        for name, layers in a.layers[head].items():
            for ours, theirs in zip(layers, b.layers[head][name], strict=True):
                np.testing.assert_array_equal(ours[0], theirs[0])
                np.testing.assert_array_equal(ours[1], theirs[1])
    assert a.temperatures == b.temperatures


def stop_after(epochs: int) -> Callable[..., Any]:
    """A progress bar that stops the run when a head has fitted so many epochs."""

    @contextmanager
    def progress(*_: object) -> Iterator[Callable[[int], None]]:
        calls = count()

        def advance(_: int) -> None:
            if next(calls) == epochs:  # The first call tells where the fitting begins.
                raise SystemExit(143)

        yield advance

    return progress


@pytest.mark.parametrize("epochs", [2, 5, 12])
def test_stopped_again_and_again_it_comes_to_the_same(
    epochs: int,
    uninterrupted: Heads,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fitting, "progress", stop_after(epochs))
    heads, stops = None, 0
    while heads is None:
        try:
            heads = fit(tmp_path)
        except SystemExit:
            stops += 1
    assert stops >= 2
    assert f"fitting the taskwise head goes on from epoch {epochs - 1}" in capsys.readouterr().err
    assert_same(heads, uninterrupted)


def test_a_head_that_is_fitted_is_not_fitted_again(
    uninterrupted: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both had stopped early, which they know only from their checkpoints."""
    fit(tmp_path)
    for head in ("taskwise", "joint"):
        kept = checkpoints_of(*PROBLEM, tmp_path / "cache").read(head)
        assert kept is not None and 12 < kept["epoch"] + 1 < SEARCH.epochs
    monkeypatch.setattr(Softmaxes, "training_step", lambda *_: pytest.fail("it is fitted again"))
    assert_same(fit(tmp_path), uninterrupted)


def empty(data: bytearray) -> bytes:
    return b""


def cut(data: bytearray) -> bytes:
    return bytes(data[: len(data) // 2])


def flip(data: bytearray) -> bytes:
    data[len(data) // 3] ^= 1
    return bytes(data)


@pytest.mark.parametrize("damage", [empty, cut, flip])
def test_a_damaged_checkpoint_is_said_and_fitting_starts_over(
    damage: Callable[[bytearray], bytes],
    uninterrupted: Heads,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as stopping, pytest.raises(SystemExit):
        stopping.setattr(fitting, "progress", stop_after(5))
        fit(tmp_path)
    [path] = (tmp_path / "cache" / "fitting").glob("*.ckpt")
    path.write_bytes(damage(bytearray(path.read_bytes())))
    capsys.readouterr()
    heads = fit(tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(said) == 1 and "fitting the taskwise head starts over" in said[0]
    assert_same(heads, uninterrupted)


def test_only_the_same_problem_goes_on(tmp_path: Path) -> None:
    (x, y), validation, classes, seed, search = PROBLEM
    moved, renamed = x.copy(), {**y, "type": y["type"].copy()}
    moved[7, 7] += 1e-3
    renamed["type"][7] = -1
    problems: list[tuple[Any, Any, Any, int, Search]] = [
        PROBLEM,
        ((moved, y), validation, classes, seed, search),
        ((x, renamed), validation, classes, seed, search),
        ((x, y), (moved, y), classes, seed, search),
        (
            (x[:-1], {task: values[:-1] for task, values in y.items()}),
            validation,
            classes,
            seed,
            search,
        ),
        ((x, y), validation, {**classes, "type": 5}, seed, search),
        ((x, y), validation, dict(reversed(classes.items())), seed, search),
        ((x, y), validation, classes, seed + 1, search),
        ((x, y), validation, classes, seed, Search(SEARCH.candidates[:1], 1000.0)),
        ((x, y), validation, classes, seed, Search(SEARCH.candidates, 1.0)),
    ]
    paths = {checkpoints_of(*problem, tmp_path).path("joint") for problem in problems}
    assert len(paths) == len(problems)
    copy = (x.copy(), dict(y)), validation, dict(classes), seed, search
    assert checkpoints_of(*copy, tmp_path).path("joint") in paths
    assert checkpoints_of(*copy, tmp_path).path("taskwise") not in paths


def test_removed_nothing_is_left_but_what_is_anothers(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(*PROBLEM, tmp_path / "cache")
    fit(tmp_path)
    others = checkpoints.path("joint").with_name("another-joint.ckpt")
    others.write_bytes(b"")
    checkpoints.remove()
    assert list((tmp_path / "cache" / "fitting").iterdir()) == [others]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CheckpointFile().save_checkpoint({"evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        CheckpointFile().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_a_kill_while_it_is_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = CheckpointFile()
    file.save_checkpoint({"epoch": 1}, tmp_path / "a.ckpt")

    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        file.save_checkpoint({"epoch": 2}, tmp_path / "a.ckpt")
    assert file.load_checkpoint(tmp_path / "a.ckpt") == {"epoch": 1}


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(SuresetError, match=r"checkpoints cannot be written to .*--cache"):
        fit(tmp_path)


def test_one_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(*PROBLEM, tmp_path / "cache")
    checkpoints.path("taskwise").mkdir(parents=True)
    with pytest.raises(SuresetError, match=r"cache/fitting \(Is a directory\): .*--cache"):
        checkpoints.read("taskwise")


def test_killed_it_goes_on_and_two_at_once_agree(uninterrupted: Heads, tmp_path: Path) -> None:
    def start() -> multiprocessing.process.BaseProcess:
        process = multiprocessing.get_context("spawn").Process(target=fit, args=(tmp_path,))
        process.start()
        return process

    killed = start()
    while killed.is_alive() and not list((tmp_path / "cache").glob("fitting/*.ckpt")):
        time.sleep(0.001)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    runs = [start(), start()]
    for run in runs:
        run.join()
        assert run.exitcode == 0
    assert_same(fit(tmp_path), uninterrupted)
