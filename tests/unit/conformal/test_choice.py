"""The smallest sets at no worse a gap: the rule, and the measuring it rests on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conformal import SCORES, TAXONOMIES
from app.conformal.choice import (
    HALVINGS,
    Candidate,
    Choice,
    choose,
    halve,
    measure_candidates,
)
from app.conformal.spaces import JOINT, multiply
from tests.unit.conformal.draws import problem, softmax

CLASSES = {"colour": 4, "type": 3}
DEFAULT = ("taskwise", "taskwise", "hinge", "task")


def candidate(name: str, size: float, gap: float) -> Candidate:
    return Candidate("joint", "joint", name, "class", 0.9, size, gap)


def default(size: float, gap: float) -> Candidate:
    return Candidate(*DEFAULT, 0.9, size, gap)


# ---- the rule


def test_the_smallest_sets_of_those_with_no_larger_gap() -> None:
    smaller = candidate("aps", 1.2, 0.10)
    table = [default(1.5, 0.10), candidate("pip", 1.1, 0.11), smaller, candidate("saps", 1.3, 0.05)]
    assert choose(table) == Choice(smaller, table[0])


def test_nothing_better_than_the_default() -> None:
    table = [candidate("pip", 1.5, 0.05), default(1.4, 0.10), candidate("aps", 1.2, 0.2)]
    assert choose(table) == Choice(table[1], table[1])


def test_without_the_default_the_nearest_to_it_is_the_limit() -> None:
    """With the taxonomy fixed, what the default becomes by it; not the evenest of all."""

    def by_class(head: str, score: str, size: float, gap: float) -> Candidate:
        return Candidate(head, "taskwise", score, "class", 0.9, size, gap)

    table = [
        by_class("taskwise", "aps", 2.5, 0.05),
        by_class("taskwise", "hinge", 1.9, 0.10),
        by_class("joint", "hinge", 1.7, 0.11),
        by_class("joint", "pip", 1.8, 0.09),
    ]
    assert choose(table) == Choice(chosen=table[3], reference=table[1])


def test_no_candidate() -> None:
    with pytest.raises(ValueError, match="candidates must hold at least one method"):
        choose([])


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=12), st.data()
)
def test_it_is_fair_smallest_and_first(numbers: list[tuple[int, int]], data: st.DataObject) -> None:
    table = [candidate(f"score {i}", size, gap) for i, (size, gap) in enumerate(numbers)]
    at = data.draw(st.none() | st.integers(0, len(table) - 1))
    if at is not None:
        table[at] = default(*numbers[at])
    choice = choose(table)
    # The others have no part in common with the default, so the first stands for it.
    reference = table[at or 0]
    assert choice.reference == reference
    limit = reference.covgap
    fair = [c for c in table if c.covgap <= limit]
    best = min(c.avg_set_size for c in fair)
    assert choice.chosen == next(c for c in fair if c.avg_set_size == best)


# ---- the measuring


def validation(n: int = 200, seed: int = 0) -> tuple[dict, dict]:
    """Probabilities of two heads in both spaces, the joint head's far better; and the labels."""
    rng = np.random.default_rng(seed)
    poor, labels = problem(rng, n, CLASSES, signal=0.5)
    good = {}
    for task, count in CLASSES.items():
        logits = rng.normal(size=(n, count))
        logits[np.arange(n), labels[task]] += 4
        good[task] = softmax(logits)
    probs = {
        (head, space): p if space == "taskwise" else {JOINT: multiply(p)}
        for head, p in (("taskwise", poor), ("joint", good))
        for space in ("taskwise", JOINT)
    }
    return probs, labels


def measured(probs: dict, labels: dict, scores: list[str], taxonomies: list[str], seed: int = 0):
    halvings = halve(labels, 0.1, seed)
    return list(
        measure_candidates(probs, labels, CLASSES, scores, taxonomies, 0.1, halvings),
    )


def test_the_clearly_best_is_chosen() -> None:
    probs, labels = validation()
    table = measured(probs, labels, ["hinge", "saps"], ["task", "class"])
    choice = choose(table)
    assert choice.reference.method == DEFAULT
    assert (choice.chosen.head, choice.chosen.score) == ("joint", "hinge")
    assert choice.chosen.avg_set_size < 0.5 * choice.reference.avg_set_size


def test_what_is_fixed_is_kept() -> None:
    probs, labels = validation()
    fixed = {key: p for key, p in probs.items() if key == ("taskwise", JOINT)}
    table = measured(fixed, labels, ["saps"], list(TAXONOMIES))
    assert [c.method for c in table] == [("taskwise", JOINT, "saps", name) for name in TAXONOMIES]
    assert choose(table).chosen.method[:3] == ("taskwise", JOINT, "saps")


def test_every_combination_in_order() -> None:
    probs, labels = validation(60)
    table = measured(probs, labels, list(SCORES), ["task", "global"])
    assert [c.method for c in table] == [
        (head, space, score, taxonomy)
        for head, space in probs
        for score in SCORES
        for taxonomy in ("task", "global")
    ]


def test_equals_are_measured_equal_and_the_first_is_chosen() -> None:
    """With one group of combinations, ``global`` and ``task`` are the same method."""
    probs, labels = validation()
    joint = {("joint", JOINT): probs["joint", JOINT]}
    for order in (["global", "task"], ["task", "global"]):
        table = measured(joint, labels, ["aps"], order)
        assert replace(table[1], taxonomy=table[0].taxonomy) == table[0]
        assert choose(table).chosen.taxonomy == order[0]


def test_the_same_seed_measures_the_same() -> None:
    probs, labels = validation()
    first = measured(probs, labels, ["aps"], ["cluster", "task"])
    assert first == measured(probs, labels, ["aps"], ["cluster", "task"])
    assert first != measured(probs, labels, ["aps"], ["cluster", "task"], seed=1)


# ---- few pictures


def test_each_half_needs_enough_for_a_finite_threshold() -> None:
    """At alpha 0.1 the rank ceil(0.9 (n + 1)) is at most n from n = 9 on."""
    labels = {"colour": np.zeros(18, int), "type": np.zeros(18, int)}
    halvings = halve(labels, 0.1, 0)
    assert len(halvings) == HALVINGS
    assert {(len(rows.calib), len(rows.test)) for rows in halvings} == {(9, 9)}
    with pytest.raises(ValueError, match=r"at least 18 pictures .* at alpha 0\.1, not 17"):
        halve({task: label[:17] for task, label in labels.items()}, 0.1, 0)


def test_only_pictures_labelled_for_every_task_count() -> None:
    labels = {"colour": np.zeros(30, int), "type": np.where(np.arange(30) < 17, 0, -1)}
    with pytest.raises(ValueError, match="at least 18 pictures with a label for every task"):
        halve(labels, 0.1, 0)
    labels["type"][:18] = 0  # Some half of the 30 has fewer than 9 of the 18.
    with pytest.raises(ValueError, match="in every half at least 9 pictures"):
        halve(labels, 0.1, 0)


def test_no_picture_at_all() -> None:
    with pytest.raises(ValueError, match="not 0"):
        halve({"colour": np.zeros(0, int)}, 0.1, 0)


def test_what_is_tied_stays_in_one_half() -> None:
    labels = {"colour": np.zeros(60, int)}
    ties = np.arange(60) // 2
    for rows in halve(labels, 0.1, 0, ties):
        assert not set(ties[rows.calib]) & set(ties[rows.test])
    with pytest.raises(ValueError, match="two parts"):
        halve(labels, 0.1, 0, np.zeros(60, int))
