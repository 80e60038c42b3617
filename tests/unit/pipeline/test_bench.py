"""The bench of the conformal core: the libraries compute the same sets, and what is measured."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from app.errors import SuresetError
from app.pipeline.bench import child, conformal, data
from app.pipeline.bench.libraries import LIBRARIES
from app.pipeline.bench.memory import forget_peak, memory
from tests.unit.conformal.draws import problem

SMALL = conformal.Size(calibration=300, test=400, classes=20)


PEERS = [key for key in LIBRARIES if key != "sureset"]


@pytest.mark.parametrize(
    ("key", "score"), [(key, score) for key in PEERS for score in LIBRARIES[key].scores]
)
def test_every_library_is_asked_for_the_same_sets(key: str, score: str) -> None:
    """MAPIE puts the top class into a set that would be empty, but for its LAC."""
    if not LIBRARIES[key].installed:
        pytest.skip(f"{key} is not installed (make peers installs it)")
    probs, labels = problem(np.random.default_rng(0), 564 + 700, {"t": 12}, signal=3)
    asked = score, probs["t"][:564], labels["t"][:564], probs["t"][564:], 0.1
    ours, theirs = (LIBRARIES[k].answer(*asked) for k in ("sureset", key))
    if key == "mapie" and score != "hinge":
        empty = ~ours.any(axis=1)
        assert empty.any()
        ours[empty, probs["t"][564:].argmax(axis=1)[empty]] = True
    assert theirs.dtype == bool
    assert np.array_equal(theirs, ours)


def test_the_table_holds_what_is_installed_and_tells_what_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conformal, "_SCORES", ("hinge",))
    monkeypatch.setattr(conformal, "_ROUNDS", 1)
    monkeypatch.setenv("COLUMNS", "120")
    conformal.bench_conformal(seed=0, size=SMALL)
    said = capsys.readouterr().err
    rows = {
        cells[2].split()[0]: [cell.strip() for cell in cells[3:8]]
        for cells in (line.split("│") for line in said.splitlines())
        if len(cells) == 9
    }
    assert rows.keys() == {library.name for library in LIBRARIES.values() if library.installed}
    for name, (seconds, ratio, _, coverage, size) in rows.items():
        assert float(seconds) >= 0 and float(ratio) > 0
        if name != "crepes":  # It is given the first test pictures alone.
            assert [coverage, size] == rows["Sureset"][3:]
    missing = [library.name for library in LIBRARIES.values() if not library.installed]
    assert (f"Not installed here: {', '.join(missing)}. 'make peers'" in said) == bool(missing)
    assert "processors" in said and "Python" in said


def test_the_same_seed_draws_the_same_problem(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        conformal._write_problem(tmp_path / name, SMALL, np.random.default_rng(0))
    for name in child.INPUTS:
        a, b = (np.load(tmp_path / folder / f"{name}.npy") for folder in ("a", "b"))
        assert np.array_equal(a, b)
    probs, labels, new, truth = (np.load(tmp_path / "a" / f"{n}.npy") for n in child.INPUTS)
    assert probs.shape == (300, 20) and new.shape == (400, 20) and probs.dtype == np.float32
    assert (probs.argmax(axis=1) == labels).mean() > 0.5 < (new.argmax(axis=1) == truth).mean()


def test_a_library_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match=r"Sureset could not be measured with hinge \(.*probs"):
        conformal._run(tmp_path, "sureset", "hinge")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory that was used")
def test_peak_memory_is_that_since_it_was_forgotten() -> None:
    mebibyte = 2**20
    np.ones(64 * mebibyte, np.uint8)
    before = forget_peak()
    assert before is not None
    assert memory("VmHWM") - before < 4 * mebibyte
    np.ones(32 * mebibyte, np.uint8)
    assert 28 * mebibyte < memory("VmHWM") - before < 36 * mebibyte


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory that was used")
def test_every_step_of_many_pictures_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "_SETTLING_S", 0)
    monkeypatch.setenv("COLUMNS", "120")
    data.bench_data(seed=0, pictures=400)
    said = capsys.readouterr().err
    steps = [line.split("│") for line in said.splitlines() if line.count("│") == 4]
    assert len(steps) == 6
    for _, _, seconds, peak, _ in steps:
        assert float(seconds) < 10 and 0.02 < float(peak) < 5
    assert "100 features would be computed" in said
