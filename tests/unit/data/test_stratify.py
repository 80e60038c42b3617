"""What stratifying promises: shares, chances, and the coverage of what is calibrated on it."""

from __future__ import annotations

from itertools import pairwise, product
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.data import stratify as module
from app.data.manifest import SPLITS
from app.data.splits import SHARES, assign
from app.data.stratify import stratify
from app.errors import SuresetError

Labels = dict[str, np.ndarray]


def contents(numbers: list[int] | range) -> np.ndarray:
    """Digests (n, 16) that agree where the numbers do."""
    return np.random.default_rng(7).integers(0, 256, (2500, 16), dtype=np.uint8)[list(numbers)]


def imbalance(split: np.ndarray, which: np.ndarray) -> np.ndarray:
    """By how many pictures each split differs from its share of some, (4,)."""
    counts = np.array([(split[which] == name).sum() for name in SPLITS])
    return counts - np.array(SHARES) * which.sum()


def classes_of(labels: Labels) -> list[np.ndarray]:
    """The pictures of each class of each task, as masks."""
    return [codes == c for codes in labels.values() for c in np.unique(codes)]


def combinations_of(labels: Labels) -> list[np.ndarray]:
    rows = np.stack(list(labels.values()), axis=1)
    return [(rows == one).all(axis=1) for one in np.unique(rows, axis=0)]


def random_labels(n: int, seed: int, tasks: int = 2) -> Labels:
    """Frequent and rare classes, and some unknown."""
    rng = np.random.default_rng(seed)
    return {f"task {t}": np.minimum(rng.geometric(0.3, n), 9) - 2 for t in range(tasks)}


seeds = st.integers(0, 2**32 - 1)
splits_or_none = st.sampled_from(["", "", *SPLITS])
# Content, group, colour, type, given split: few of each, so that ties are many.
row = st.tuples(
    st.integers(0, 30),
    st.sampled_from(["", "", "", "a", "b", "c"]),
    st.integers(-1, 2),
    st.integers(-1, 2),
    splits_or_none,
)


@given(st.lists(row, max_size=40), seeds, st.randoms(use_true_random=False))
def test_given_splits_ties_and_the_order_of_the_rows(rows: list[tuple], seed: int, random) -> None:
    number, colour, kind = (np.array([row[i] for row in rows], int) for i in (0, 2, 3))
    group, wanted = (np.array([row[i] for row in rows], str) for i in (1, 4))
    digests, labels = contents(number.tolist()), {"colour": colour, "type": kind}
    try:
        # Whether the given splits contradict each other is decided as by the default rule.
        assign(digests, group, wanted, seed)
    except SuresetError as error:
        with pytest.raises(SuresetError) as same:
            stratify(labels, digests, group, wanted, seed)
        assert str(same.value) == str(error)
        wanted[:] = ""
    split = stratify(labels, digests, group, wanted, seed)

    assert len(split) == len(rows) and set(split) <= set(SPLITS)
    assert ((split == wanted) | (wanted == "")).all()
    for i, j in product(range(len(rows)), repeat=2):
        if number[i] == number[j] or (group[i] and group[i] == group[j]):
            assert split[i] == split[j]
    order = list(range(len(rows)))
    random.shuffle(order)
    again = {task: codes[order] for task, codes in labels.items()}
    np.testing.assert_array_equal(
        stratify(again, digests[order], group[order], wanted[order], seed), split[order]
    )
    # What is decided stays, whatever the seed.
    np.testing.assert_array_equal(stratify(labels, digests, group, split, seed + 1), split)


@given(st.integers(1, 400), seeds, st.integers(1, 3))
def test_stretches_of_the_line_have_their_shares(n: int, seed: int, tasks: int) -> None:
    """Combinations, the rarest class of all, and the whole."""
    labels = random_labels(n, seed, tasks)
    split = stratify(labels, contents(range(n)), None, None, seed)
    rarest = min(classes_of(labels), key=lambda pictures: pictures.sum())
    for pictures in (*combinations_of(labels), rarest, np.ones(n, bool)):
        assert (np.abs(imbalance(split, pictures)) < (2, 1.2, 1.5 + 1e-9, 1.5 + 1e-9)).all()
        calib, test = ((split[pictures] == name).sum() for name in ("calib", "test"))
        assert abs(calib - test) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_nearer_to_their_shares_than_by_lot(seed: int) -> None:
    labels, digests = random_labels(2400, seed, 3), contents(range(2400))
    ours, lot = (
        np.mean([np.abs(imbalance(split, pictures)).max() for pictures in classes_of(labels)])
        for split in (
            stratify(labels, digests, None, None, seed),
            assign(digests, None, None, seed),
        )
    )
    assert ours < 3.5 < 6 < lot


def chances_of(labels: Labels, group: np.ndarray | None, times: int) -> np.ndarray:
    """How often each picture came into each split, by so many seeds, (4, n)."""
    digests = contents(range(len(labels["type"])))
    splits = np.array([stratify(labels, digests, group, None, seed) for seed in range(times)])
    return np.array([(splits == name).mean(axis=0) for name in SPLITS])


def errors(often: np.ndarray, times: int) -> np.ndarray:
    """By how many standard errors frequencies differ from the shares, (4, n)."""
    share = np.array(SHARES)[:, None]
    return (often - share) / np.sqrt(share * (1 - share) / times)


@pytest.mark.parametrize(
    "group", [None, np.repeat(["a", "b", "c", "d", "e"], 2)], ids=["singles", "pairs"]
)
def test_every_picture_has_the_chances_of_the_shares(group: np.ndarray | None) -> None:
    """Combinations of one, two, three and four pictures: none is sent to train alone."""
    labels = {"colour": np.array([0, 1, 1, 2, 2, 2, 2, 2, 2, 2])}
    labels["type"] = np.array([0, 1, 1, 0, 0, 0, 1, 1, 1, 1])
    # These seeds are fixed; with others, five standard errors fail once in 40,000 times.
    assert np.abs(errors(chances_of(labels, group, 5000), 5000)).max() < 5


def test_beside_large_groups_too_the_chances_are_the_shares() -> None:
    labels = random_labels(60, 1) | {"type": np.arange(60) % 3}
    group = np.array([f"group {i // 4}" if i < 20 else "" for i in range(60)])
    assert np.abs(chances_of(labels, group, 1000) - np.array(SHARES)[:, None]).max() < 0.07


class Drawn(np.random.Generator):
    """A generator that draws what it is told."""

    def __init__(self, *draws: float | np.ndarray) -> None:
        super().__init__(np.random.PCG64())
        self.draws = list(draws)

    def random(self, *_: object) -> np.ndarray:  # type: ignore[override]
        return self.draws.pop(0)  # type: ignore[return-value]


@given(st.lists(st.integers(0, 16), min_size=1, max_size=30))
def test_systematic_sampling_by_every_start(sixteenths: list[int]) -> None:
    """Chances in 16ths and 16 starts in the middle between two: all cases there are."""
    p = np.array(sixteenths) / 16
    taken = np.array([module._systematic(p, Drawn((i + 0.5) / 16)) for i in range(16)])
    np.testing.assert_array_equal(taken.mean(axis=0), p)
    for first in range(len(p)):
        for last in range(first + 1, len(p) + 1):
            off = taken[:, first:last].sum(axis=1) - p[first:last].sum()
            assert (np.abs(off) < 1).all()


# Given splits


@pytest.mark.parametrize("step", [1, 5, 50, 600])
def test_adding_pictures_moves_none_and_keeps_the_shares(step: int) -> None:
    """As by lot, 1200 pictures would be 17 off in train."""
    n = 1200
    labels, digests = random_labels(n, 3), contents(range(n))
    split = np.full(n, "", "<U5")
    for end in range(step, n + 1, step):
        some = {task: codes[:end] for task, codes in labels.items()}
        before = split[:end].copy()
        split[:end] = stratify(some, digests[:end], None, before, 0)
        assert ((split[:end] == before) | (before == "")).all()
        if end >= 100:
            assert np.abs(imbalance(split[:end], np.ones(end, bool))).max() < 4
    assert max(np.abs(imbalance(split, pictures)).max() for pictures in classes_of(labels)) < 11
    assert max(np.abs(imbalance(split, pictures)).max() for pictures in combinations_of(labels)) < 5


@pytest.mark.parametrize("count", [20, 100, 280])
def test_a_given_test_split_is_made_up_to_its_share(count: int) -> None:
    n = 2000
    labels = random_labels(n, 4)
    chosen = np.full(n, "", "<U5")
    chosen[np.random.default_rng(0).permutation(n)[:count]] = "test"
    split = stratify(labels, contents(range(n)), None, chosen, 0)
    assert np.abs(imbalance(split, np.ones(n, bool))).max() < 4


def test_a_test_split_that_is_too_large_leaves_the_others_their_proportions() -> None:
    n = 2000
    labels = random_labels(n, 5)
    chosen = np.where(np.arange(n) % 2 == 0, "test", "")
    split = stratify(labels, contents(range(n)), None, chosen, 0)
    counts = [(split == name).sum() for name in SPLITS]
    assert counts[3] == n // 2
    np.testing.assert_allclose(counts[:3], n / 2 * np.array([60, 10, 15]) / 85, atol=3)


def test_what_a_class_takes_of_a_split_the_others_give_alike() -> None:
    n = 2000
    labels = {"kind": np.arange(n) % 20, "other": np.arange(n) // 20 % 5}
    taken = labels["kind"] == 1
    split = stratify(labels, contents(range(n)), None, np.where(taken, "test", ""), 0)
    assert np.abs(imbalance(split, np.ones(n, bool))).max() < 4
    for pictures in classes_of(labels):
        free = pictures & ~taken
        if free.any():
            assert 0.05 < (split[free] == "test").mean() < 0.16


# Ties


def test_large_groups_are_made_up_for_by_small_ones() -> None:
    """Of 2400 pictures in groups of up to 64, with one combination of classes each."""
    rng = np.random.default_rng(1)
    of = np.repeat(np.arange(1200), np.minimum(rng.zipf(1.7, 1200), 64))[:2400]
    assert len(of) == 2400
    labels = {task: codes[of] for task, codes in random_labels(1200, 2).items()}
    group = np.char.add("group ", of.astype(str)).astype(object)
    split = stratify(labels, contents(range(2400)), group, None, 0)
    for one in np.unique(of):
        assert len(set(split[of == one])) == 1
    assert np.abs(imbalance(split, np.ones(2400, bool))).max() < 5


def test_contradictory_splits_are_refused() -> None:
    with pytest.raises(SuresetError, match=r"a\.jpg in train, c\.jpg in test"):
        stratify(
            {"kind": np.array([0, 1, 0])},
            contents([1, 2, 1]),
            None,
            np.array(["train", "", "test"]),
            0,
            images=["a.jpg", "b.jpg", "c.jpg"],
        )


def test_no_pictures_and_no_labels() -> None:
    nothing = np.empty(0, np.int64)
    assert stratify({"kind": nothing}, contents([]), None, None, 0).tolist() == []
    unknown = {"kind": np.full(200, -1), "other": np.full(200, -1)}
    split = stratify(unknown, contents(range(200)), None, None, 0)
    assert np.abs(imbalance(split, np.ones(200, bool))).max() < 2


# Coverage


def missed(calibration: np.ndarray, test: np.ndarray, alpha: float) -> int:
    k = ceil(round((len(calibration) + 1) * (1 - alpha), 9))
    if k > len(calibration):
        return 0
    return int((test > np.sort(calibration)[k - 1]).sum())


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 2), min_size=1, max_size=7),
    st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9]),
)
def test_the_bound_on_coverage_by_every_fall_of_the_coins(
    pairs: list[tuple[int, int]], alpha: float
) -> None:
    scores, n = np.array(pairs), len(pairs)
    of_coins = []
    for coins in product((0.9, 0.1), repeat=n):
        test = np.tile([False, True], n)
        module._toss(test, Drawn(np.array(coins)))
        line = scores.ravel()
        assert test.reshape(n, 2).sum(axis=1).tolist() == [1] * n
        of_coins.append(missed(line[~test], line[test], alpha))
    assert np.mean(of_coins) <= alpha * (n + 1) + 1e-9


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("seen", ["combination", "noise"])
def test_coverage_by_simulation(alpha: float, seen: str) -> None:
    """Scores that the classes decide nearly alone, and scores that they say nothing about."""
    n, rng = 200, np.random.default_rng(11)
    labels = random_labels(n, 12)
    score = rng.random(n) * (0.01 if seen == "combination" else 1)
    if seen == "combination":
        score += 0.5 * np.sin(labels["task 0"] * 7 + labels["task 1"] * 3)
    digests = contents(range(n))
    coverage = []
    for seed in range(1500):
        split = stratify(labels, digests, None, None, seed)
        test = score[split == "test"]
        coverage.append(1 - missed(score[split == "calib"], test, alpha) / len(test))
    error = np.std(coverage) / np.sqrt(len(coverage))
    # Proved is alpha / 30 less; here that much is not needed.
    assert np.mean(coverage) >= 1 - alpha - 3 * error
    # The threshold of 30 scores is not wider than its rank needs, either.
    assert np.mean(coverage) <= 1 - alpha + 1 / 30 + 3 * error


def test_a_coin_says_which_of_two_neighbours_calibrates() -> None:
    """Else calib and test would take turns along the line, here of classes of one picture."""
    n = 400
    labels = {"one": np.arange(n)}
    agree = []
    for seed in range(20):
        split = stratify(labels, contents(range(n)), None, None, seed)
        held = [name for name in split if name in ("calib", "test")]
        pairs = [(held[i], held[i + 1]) for i in range(0, len(held) - 1, 2)]
        assert all(one != other for one, other in pairs)
        agree += [a[1] == b[0] for a, b in pairwise(pairs)]
    assert abs(np.mean(agree) - 0.5) < 4 * 0.5 / np.sqrt(len(agree))
