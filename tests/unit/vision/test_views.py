"""An epoch's batches: how processes share them, and what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.data.pictures import Preprocess, digest
from app.vision.views import Examples, Views, in_sequence, shuffled

PREPROCESS = Preprocess(40, 32, "bilinear")


@given(
    n=st.integers(1, 60),
    size=st.integers(1, 16),
    processes=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_shares_together_are_what_one_process_would_have(
    n: int, size: int, processes: int, epoch: int
) -> None:
    labels = np.random.default_rng(n).integers(-1, 3, (n, 2))
    alone = shuffled(labels, size, (7, epoch), (0, 1))
    shares = [shuffled(labels, size, (7, epoch), (i, processes)) for i in range(processes)]
    assert len(alone) == n // size
    seen = np.concatenate([batch.rows for batch in alone]) if alone else np.array([], int)
    assert len(set(seen.tolist())) == len(alone) * size
    for batch, *parts in zip(alone, *shares, strict=True):
        together = np.sort(np.concatenate([part.rows for part in parts]))
        np.testing.assert_array_equal(together, np.sort(batch.rows))
        assert {part.known for part in parts} == {(labels[batch.rows] >= 0).sum()}

    sequences = [in_sequence(labels, size, (i, processes)) for i in range(processes)]
    every = [row for batches in sequences for batch in batches for row in batch.rows.tolist()]
    assert sorted(every) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    labels = np.zeros((50, 1), np.int64)
    orders = [shuffled(labels, 50, draw, (0, 1))[0].rows for draw in ((0, 0), (0, 1), (1, 0))]
    assert len({order.tobytes() for order in orders}) == 3


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    """Five pictures of noise, of which the second is a copy of the first."""
    rng = np.random.default_rng(0)
    for row in range(5):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(tmp_path / f"{row}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    contents = [digest((tmp_path / f"{row}.png").read_bytes()) for row in range(5)]
    digests = np.stack([np.frombuffer(content, np.uint8) for content in contents])
    return Examples(lambda row: tmp_path / f"{row}.png", digests, np.arange(10).reshape(5, 2))


def shown(examples: Examples, draw: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """All pictures in one array, and their labels."""
    views = Views(examples, in_sequence(examples.labels, 2, (0, 1)), PREPROCESS, draw)
    assert len(views) == 3
    pictures, labels, _ = zip(*views, strict=True)
    return np.concatenate(pictures), np.concatenate(labels)


def test_a_view_follows_from_seed_epoch_and_content(examples: Examples) -> None:
    pictures, labels = shown(examples, (0, 0))
    assert pictures.shape == (5, 32, 32, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(labels, examples.labels)
    np.testing.assert_array_equal(pictures, shown(examples, (0, 0))[0])
    np.testing.assert_array_equal(pictures[0], pictures[1])
    for other in ((0, 1), (1, 0), None):
        assert (shown(examples, other)[0] != pictures).reshape(5, -1).any(axis=1).all()


@pytest.mark.parametrize("harm", ["removed", "changed", "cut"])
def test_a_picture_that_can_no_longer_be_read_teaches_nothing(
    examples: Examples, harm: str
) -> None:
    before, _ = shown(examples, (0, 0))
    path = examples.path_of(3)
    if harm == "removed":
        path.unlink()
    elif harm == "changed":
        path.write_bytes(examples.path_of(4).read_bytes())
    else:
        path.write_bytes(path.read_bytes()[:200])
        examples.digests.flags.writeable = True
        examples.digests[3] = np.frombuffer(digest(path.read_bytes()), np.uint8)
    pictures, labels = shown(examples, (0, 0))
    assert (labels[3] == -1).all() and not pictures[3].any()
    np.testing.assert_array_equal(np.delete(pictures, 3, 0), np.delete(before, 3, 0))
    np.testing.assert_array_equal(np.delete(labels, 3, 0), np.delete(examples.labels, 3, 0))
