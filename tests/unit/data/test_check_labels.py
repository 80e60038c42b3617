"""Counts of classes and combinations, against counting by hand."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.data.checking.labels import count_combinations, count_labels
from app.data.manifest import SPLITS, Manifest

NAMES = {"colour": ["red", "blue", "grey"], "type": ["van", "bus"]}
_ROW = st.tuples(st.integers(-1, 2), st.integers(-1, 1), st.sampled_from(SPLITS))


def manifest(**labels: list[int]) -> Manifest:
    codes = {task: np.array(values, np.int64) for task, values in labels.items()}
    images = [f"{i}.png" for i in range(len(next(iter(codes.values()))))]
    return Manifest(Path(), "csv", images, {task: NAMES[task] for task in labels}, codes)


@given(st.lists(_ROW, max_size=30))
def test_counts_are_those_of_counting(rows: list[tuple[int, int, str]]) -> None:
    m = manifest(colour=[c for c, _, _ in rows], type=[t for _, t, _ in rows])
    counts = count_labels(m, np.array([split for _, _, split in rows], "<U5"))
    by_hand = Counter((c, split) for c, _, split in rows)
    for code, name in enumerate(NAMES["colour"]):
        assert counts["colour"].classes[name] == {s: by_hand[code, s] for s in SPLITS}
    assert counts["colour"].unlabelled == {s: by_hand[-1, s] for s in SPLITS}
    total = [sum(counts["colour"].classes[name].values()) for name in counts["colour"].rarest]
    assert total == sorted(total) and len(total) == 3


@given(st.lists(_ROW, max_size=30))
def test_combinations_are_those_of_going_through_them(rows: list[tuple[int, int, str]]) -> None:
    colours, types = [c for c, _, _ in rows], [t for _, t, _ in rows]
    counts = count_combinations(manifest(colour=colours, type=types))
    assert counts is not None
    complete = [(c, t) for c, t, _ in rows if c >= 0 and t >= 0]
    missing = set(product(range(3), range(2))) - set(complete)
    assert (counts.possible, counts.seen, counts.never_seen) == (6, 6 - len(missing), len(missing))

    expected = {
        (NAMES["colour"][c], NAMES["type"][t]): sum(pair[0] == c for pair in complete)
        * sum(pair[1] == t for pair in complete)
        / max(1, len(complete))
        for c, t in missing
    }
    listed = {tuple(one.classes.values()): one.expected for one in counts.most_expected}
    assert listed == {pair: round(value, 2) for pair, value in expected.items() if value > 0}
    assert list(listed.values()) == sorted(listed.values(), reverse=True)


def test_one_task_has_no_combinations() -> None:
    assert count_combinations(manifest(colour=[0, 1])) is None


def test_countless_combinations() -> None:
    tasks = {f"t{i}": [str(c) for c in range(40)] for i in range(12)}
    codes = {task: np.arange(50) % 40 for task in tasks}
    m = Manifest(Path(), "csv", [f"{i}.png" for i in range(50)], tasks, codes)
    counts = count_combinations(m)
    assert counts is not None
    assert (counts.possible, counts.seen, counts.never_seen) == (None, 40, None)
    assert counts.most_expected == []
