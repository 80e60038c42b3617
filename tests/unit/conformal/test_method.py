"""One method in both spaces: answers that agree with their parts, and survive saving."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.conformal.method import BONFERRONI, Answers, Method
from app.conformal.spaces import JOINT, multiply
from tests.unit.conformal.draws import problem

CLASSES = {"colour": 4, "type": 3}


@pytest.fixture(params=["taskwise", "joint"])
def case(request: pytest.FixtureRequest):
    probs, labels = problem(np.random.default_rng(0), 400, CLASSES)
    used = probs if request.param == "taskwise" else {JOINT: multiply(probs)}
    return used, labels, Method.calibrate(used, labels, CLASSES, "hinge", "task", 0)


def test_sets_follow_from_p_values(case) -> None:
    probs, _, method = case
    for alpha in (0.05, 0.2):
        answers = method.answer(probs, alpha)
        for task, p_values in method.p_values(probs).items():
            assert (answers.sets[task] == (p_values > alpha)).all()


def test_the_likeliest_combinations_in_both_spaces(case) -> None:
    probs, _, method = case
    best, mass = method.likeliest(probs, 5)
    joint = probs.get(JOINT)
    if joint is None:
        joint = multiply(probs)
    np.testing.assert_allclose(mass, -np.sort(-joint, axis=1)[:, :5])
    np.testing.assert_allclose(
        mass, np.take_along_axis(joint, best["colour"] * 3 + best["type"], axis=1)
    )


def test_joint_size_counts_combinations(case) -> None:
    probs, _, method = case
    answers = method.answer(probs, 0.1)
    box = answers.joint_sets["colour"].sum(axis=1) * answers.joint_sets["type"].sum(axis=1)
    if answers.combinations is None:
        assert (answers.joint_sizes == box).all()
    else:
        assert (answers.joint_sizes <= box).all()
        assert (answers.joint_sizes == answers.combinations.sum(axis=1)).all()


def test_measures_only_known_labels(case) -> None:
    probs, labels, method = case
    labels = {task: values.copy() for task, values in labels.items()}
    labels["type"][:100] = -1
    results = method.answer(probs, 0.1).measure(labels, 0.1)
    measured = {task: m.n_test for task, m in results.items()}
    assert measured.pop(BONFERRONI, 300) == 300
    assert measured == {"colour": 400, "type": 300, JOINT: 300}


def test_bonferroni_is_measured_beside_the_joint_sets(case) -> None:
    probs, labels, method = case
    results = method.answer(probs, 0.1).measure(labels, 0.1)
    if JOINT in probs:
        assert BONFERRONI not in results
        return
    sets = method.calibration.predict(probs, Fraction(1, 20))
    rows = np.arange(400)
    hit = sets["colour"][rows, labels["colour"]] & sets["type"][rows, labels["type"]]
    assert results[BONFERRONI].coverage == hit.mean()
    sizes = sets["colour"].sum(axis=1) * sets["type"].sum(axis=1)
    assert results[BONFERRONI].avg_set_size == sizes.mean()


def test_one_task_alone_is_right_at_once_when_it_is_right(tmp_path: Path) -> None:
    probs, labels = problem(np.random.default_rng(2), 300, {"type": 3})
    method = Method.calibrate(probs, labels, {"type": 3}, "hinge", "task", 0)
    method.save(tmp_path / "m")
    for each in (method, Method.load(tmp_path / "m", {"type": 3})):
        answers = each.answer(probs, 0.1)
        assert (answers.joint_sets["type"] == answers.sets["type"]).all()
        results = answers.measure(labels, 0.1)
        assert results[JOINT] == results["type"] and BONFERRONI not in results


def test_measured_joint_coverage_by_hand(case) -> None:
    probs, labels, method = case
    answers = method.answer(probs, 0.1)
    hits = 0
    for i in range(400):
        a, b = labels["colour"][i], labels["type"][i]
        if answers.combinations is not None:
            hits += answers.combinations[i, a * 3 + b]
        else:
            hits += answers.joint_sets["colour"][i, a] and answers.joint_sets["type"][i, b]
    assert answers.measure(labels, 0.1)[JOINT].coverage == hits / 400


def test_the_joint_gap_is_that_of_the_combinations_that_occur(case) -> None:
    probs, labels, method = case
    answers = method.answer(probs, 0.1)
    came = answers.outcomes(labels)[JOINT]
    of_pair: dict[tuple[int, int], list[bool]] = {}
    for a, b, covered in zip(labels["colour"], labels["type"], came.covered, strict=True):
        of_pair.setdefault((a, b), []).append(covered)
    expected = np.mean([abs(np.mean(covered) - 0.9) for covered in of_pair.values()])
    assert answers.measure(labels, 0.1)[JOINT].covgap == pytest.approx(expected)


def test_saved_and_loaded(case, tmp_path: Path) -> None:
    probs, _, method = case
    method.save(tmp_path / "m")
    again = Method.load(tmp_path / "m", CLASSES)
    for task in CLASSES:
        assert (again.p_values(probs)[task] == method.p_values(probs)[task]).all()
        sets = method.answer(probs, 0.1).joint_sets[task]
        assert (again.answer(probs, 0.1).joint_sets[task] == sets).all()


def test_more_combinations_than_any_integer_holds() -> None:
    classes = {f"t{i}": 10 for i in range(30)}
    probs, labels = problem(np.random.default_rng(1), 80, classes)
    method = Method.calibrate(probs, labels, classes, "hinge", "task", 0)
    answers = method.answer(probs, 0.001)
    np.testing.assert_allclose(answers.joint_sizes, 1e30)
    assert answers.joint_size(0) == 10**30
    assert answers.measure(labels, 0.001)[JOINT].coverage == 1.0


def answers_of(*sets: list[list[int]]) -> Answers:
    """Taskwise answers with these sets, of each task (m, C_task)."""
    of_task = {f"t{i}": np.array(rows, bool) for i, rows in enumerate(sets)}
    top = {task: rows.argmax(axis=1) for task, rows in of_task.items()}
    return Answers(of_task, top, of_task, top)


@pytest.mark.filterwarnings("error")
def test_more_combinations_than_any_float_holds() -> None:
    """Two pictures: of all 10 classes in each of 400 tasks, and of none in the last."""
    full = [[1] * 10] * 2
    answers = answers_of(*[full] * 399, [[1] * 10, [0] * 10])
    assert answers.joint_sizes.tolist() == [np.inf, 0]
    assert [answers.joint_size(row) for row in (0, 1)] == [10**400, 0]
    labels = {task: np.zeros(2, np.int64) for task in answers.sets}
    joint = answers.measure(labels, 0.1)[JOINT]
    assert (joint.coverage, joint.empty_rate, joint.avg_set_size) == (0.5, 0.5, np.inf)


@pytest.mark.filterwarnings("error")
def test_sizes_that_only_their_sum_takes_beyond_a_float() -> None:
    answers = answers_of(*[[[1] * 10] * 2] * 308)
    labels = {task: np.zeros(2, np.int64) for task in answers.sets}
    assert np.isfinite(answers.joint_sizes).all()
    assert answers.measure(labels, 0.1)[JOINT].n_test == 2


def test_the_exact_size_is_that_of_the_float(case) -> None:
    probs, _, method = case
    answers = method.answer(probs, 0.1)
    assert [answers.joint_size(row) for row in range(400)] == answers.joint_sizes.tolist()


def test_an_empty_set_is_a_miss_of_its_task_and_of_all_at_once() -> None:
    answers = answers_of([[1, 0], [0, 0]], [[1, 0, 0], [1, 1, 0]])
    labels = {"t0": np.array([0, 0]), "t1": np.array([0, 1])}
    measured = answers.measure(labels, 0.1)
    assert [measured[name].coverage for name in ("t0", "t1", JOINT)] == [0.5, 1, 0.5]
    assert [measured[name].empty_rate for name in ("t0", "t1", JOINT)] == [0.5, 0, 0.5]


@given(data=st.data())
def test_an_unknown_label_is_left_out_of_its_task_alone(data: st.DataObject) -> None:
    """Measured as if the picture had not been there, and any set and top class are as good."""
    n = data.draw(st.integers(1, 12))
    counts = [3, 4]

    def draw(most: int, shape: tuple[int, ...]) -> np.ndarray:
        return data.draw(arrays(np.int64, shape, elements=st.integers(0, most)))

    answers = answers_of(*(draw(1, (n, count)).tolist() for count in counts))
    labels = {f"t{i}": draw(count - 1, (n,)) for i, count in enumerate(counts)}
    unknown = {task: draw(1, (n,)).astype(bool) for task in labels}
    assume(not np.any(list(unknown.values()), axis=0).all())
    measured = answers.measure(
        {task: np.where(unknown[task], -1, labels[task]) for task in labels}, 0.1
    )
    left_out = {**unknown, JOINT: np.any(list(unknown.values()), axis=0)}
    for name, out in left_out.items():
        sets = [answers.sets[task][~out].tolist() for task in labels]
        rest = {task: truth[~out] for task, truth in labels.items()}
        assert measured[name] == answers_of(*sets).measure(rest, 0.1)[name]


def test_no_picture_is_labelled_for_every_task() -> None:
    answers = answers_of([[1, 0]] * 2, [[1, 0]] * 2)
    with pytest.raises(ValueError, match="at least one picture"):
        answers.measure({"t0": np.array([0, -1]), "t1": np.array([-1, 0])}, 0.1)
