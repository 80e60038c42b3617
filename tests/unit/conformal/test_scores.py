"""Scores against the papers' formulas in exact rational arithmetic, class by class.

A float is a rational number, so the formulas can be evaluated without any rounding. Where floats
can hold the result, ours are equal to it to the bit; elsewhere the *sets* are the same sets, also
of networks so sure that all but one probability is below 1e-16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from app.conformal import SCORES, Calibration, calibrate
from app.conformal.scores import APS, PIP, RAPS, SAPS, Score
from tests.unit.conformal.draws import probabilities, softmax, totals

Exact = list[Fraction]
ONE = Fraction(1)


def exactly(row: np.ndarray) -> Exact:
    """The probabilities as rational numbers whose sum is 1 without a rest."""
    numbers = [Fraction(float(p)) for p in row]
    return [p / sum(numbers) for p in numbers]


def ranking(p: Exact) -> list[int]:
    """Classes from likeliest to least; equals by their index."""
    return sorted(range(len(p)), key=lambda c: (-p[c], c))


def hinge(p: Exact, y: int) -> Fraction:
    return 1 - p[y]


def margin(p: Exact, y: int) -> Fraction:
    return max((p[c] for c in range(len(p)) if c != y), default=Fraction(0)) - p[y]


def pip(p: Exact, y: int) -> Fraction:
    order = ranking(p)
    above = order[: order.index(y)]
    return 1 - p[y] + sum((p[c] / r for r, c in enumerate(above, start=1)), Fraction(0))


def aps(p: Exact, y: int, u: Fraction = ONE) -> Fraction:
    order = ranking(p)
    return sum((p[c] for c in order[: order.index(y)]), Fraction(0)) + u * p[y]


def raps(p: Exact, y: int, u: Fraction = ONE, weight: float = 0.01, k_reg: int = 5) -> Fraction:
    rank = ranking(p).index(y) + 1
    return aps(p, y, u) + Fraction(weight) * max(rank - k_reg, 0)


def saps(p: Exact, y: int, u: Fraction = ONE, weight: float = 0.2) -> Fraction:
    rank = ranking(p).index(y) + 1
    return u * max(p) if rank == 1 else max(p) + (rank - 2 + u) * Fraction(weight)


FORMULAS: dict[str, Callable[[Exact, int], Fraction]] = {
    "hinge": hinge,
    "margin": margin,
    "pip": pip,
    "aps": aps,
    "raps": raps,
    "saps": saps,
}


@st.composite
def dyadic(draw) -> np.ndarray:
    """float64 (n, C) of whole 64ths, often with ties and zeros: sums of them are exact."""
    n, classes = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    cuts = st.lists(st.integers(0, 64), min_size=classes - 1, max_size=classes - 1)
    rows = [np.diff([0, *sorted(draw(cuts)), 64]) for _ in range(n)]
    return np.array(rows) / 64


#: Parameters that are dyadic too, and the formulas with them. 1/3 is not, so PIP comes below.
BINARY: dict[Score, Callable[[Exact, int], Fraction]] = {
    SCORES["hinge"]: hinge,
    SCORES["margin"]: margin,
    APS(): aps,
    RAPS(weight=1 / 32, k_reg=2): lambda p, y: raps(p, y, weight=1 / 32, k_reg=2),
    SAPS(weight=1 / 4): lambda p, y: saps(p, y, weight=1 / 4),
}


@pytest.mark.parametrize("score", BINARY, ids=lambda score: score.name)
@given(probs=dyadic())
@settings(max_examples=400, deadline=None)
def test_equals_the_formula_to_the_bit(score: Score, probs: np.ndarray) -> None:
    ours = score(probs)
    for i, row in enumerate(probs):
        p = exactly(row)
        assert ours[i].tolist() == [float(BINARY[score](p, y)) for y in range(len(p))]


@pytest.mark.parametrize("name", SCORES)
@given(probs=probabilities())
@settings(max_examples=200, deadline=None)
def test_equals_the_formula_up_to_rounding(name: str, probs: np.ndarray) -> None:
    ours = SCORES[name](probs)
    for i, row in enumerate(probs):
        p = exactly(row)
        exact = [float(FORMULAS[name](p, y)) for y in range(len(p))]
        assert ours[i] == pytest.approx(exact, rel=0, abs=2e-15)


@pytest.mark.parametrize("name", SCORES)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 25),
    classes=st.integers(1, 7),
    sharpness=st.sampled_from([1, 5, 20, 100]),
    percent=st.integers(1, 99),
)
@settings(max_examples=400, deadline=None)
def test_sets_are_those_of_exact_arithmetic(
    name: str, seed: int, n: int, classes: int, sharpness: float, percent: int
) -> None:
    """Also where all but one probability is far below what 1 - p can tell from 1.

    There, ties of floats may add classes, never remove one: in PIP, RAPS and SAPS, whose sums of a
    rank and a probability no float can hold, and among the truths of which a network is sure.
    """
    rng = np.random.default_rng(seed)
    probs = softmax(sharpness * rng.normal(size=(n + 4, classes)))
    labels = rng.integers(0, classes, n)
    sets = calibrate({"t": probs[:n]}, {"t": labels}, name).predict({"t": probs[n:]}, percent / 100)

    formula = FORMULAS[name]
    own = sorted(formula(exactly(row), y) for row, y in zip(probs[:n], labels, strict=True))
    k = math.ceil((n + 1) * (1 - Fraction(percent, 100)))
    for i, row in enumerate(probs[n:]):
        p = exactly(row)
        expected = [k > n or formula(p, y) <= own[k - 1] for y in range(classes)]
        if sharpness <= 5 or k > n or own[k - 1] >= RESOLVED_FROM[name]:
            assert sets["t"][i].tolist() == expected
        else:
            assert (sets["t"][i] | ~np.array(expected)).all()


#: The score from which on floats tell all classes of the sharpest network apart.
RESOLVED_FROM = {"hinge": 0.5, "margin": 0, "pip": 2, "aps": 0, "raps": math.inf, "saps": math.inf}


def within(score: Score, probs: np.ndarray, limits: np.ndarray) -> np.ndarray:
    members = np.ones(probs.shape, bool)
    score.within(probs, totals(probs), limits, out=members)
    return members


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 9),
    classes=st.integers(1, 300),
    off=st.sampled_from([0, 1e-5]),
)
@settings(max_examples=60, deadline=None)
def test_a_row_is_scored_alike_wherever_it_stands(
    name: str, dtype: type, seed: int, n: int, classes: int, off: float
) -> None:
    """Alone or among others, by row or by column in memory, for the truth or for every class."""
    rng = np.random.default_rng(seed)
    probs: np.ndarray = (softmax(3 * rng.normal(size=(n, classes))) * (1 + off)).astype(dtype)
    probs[rng.random(n) < 0.5] = np.eye(classes, dtype=dtype)[0]  # with ties at 0
    labels = rng.integers(0, classes, n)
    score, total = SCORES[name], totals(probs)
    scores = score.of_classes(probs, total)
    by_column = np.asfortranarray(probs)
    assert (totals(by_column) == total).all()
    assert (score.of_classes(by_column, total) == scores).all()
    assert (score.of_truth(probs, total, labels) == scores[np.arange(n), labels]).all()
    for i in range(n):
        assert totals(probs[i : i + 1]) == total[i]
        assert (score.of_classes(probs[i : i + 1], total[i : i + 1]) == scores[i]).all()
        limit = scores[i, labels[i]]  # just in
        for alike in (limit, np.nextafter(limit, -np.inf), np.inf, -np.inf):
            limits = np.full(classes, alike)
            assert (within(score, probs, limits) == (scores <= limits)).all()
        limits = np.where(np.arange(classes) % 2, limit, -np.inf)
        assert (within(score, probs, limits) == (scores <= limits)).all()


def test_hinge_holds_rows_to_what_they_sum_to() -> None:
    """Divided by less than 1, a number just below 1/2 passes it, and floats are coarser there."""
    p = 0.5 - np.random.default_rng(0).random(2000) * 2e-4
    probs = np.stack([p, 0.9995 - p], axis=1)
    scores = SCORES["hinge"].of_classes(probs, totals(probs))
    for limit in scores[:50, 0]:
        assert (within(SCORES["hinge"], probs, np.full(2, limit)) == (scores <= limit)).all()


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"hinge", "margin"}))
@given(seed=st.integers(0, 2**32 - 1), sharpness=st.sampled_from([0.1, 3, 30, 300]))
@settings(max_examples=100, deadline=None)
def test_ranked_scores_never_fall_from_rank_to_rank(name: str, seed: int, sharpness: float) -> None:
    """On this rests that a set with one limit is a few of the likeliest classes."""
    rng = np.random.default_rng(seed)
    probs = -np.sort(-softmax(sharpness * rng.normal(size=(5, 200))), axis=1)
    assert (np.diff(SCORES[name].of_classes(probs, totals(probs)), axis=1) >= 0).all()


def test_pip_does_not_penalise_the_top_class() -> None:
    probs = np.array([[0.2, 0.5, 0.3]])
    assert SCORES["pip"](probs)[0, 1] == 1 - 0.5
    # The second class is penalised by the first alone, whose rank is 1.
    assert SCORES["pip"](probs)[0, 2] == pytest.approx(1 - 0.3 + 0.5 / 1)
    # What public code does: the sum up to y's own rank gives every top class the same score, 1.
    top = probs.max()
    assert 1 - top + top / 1 == 1


def test_the_margin_of_a_task_of_one_class_is_finite() -> None:
    for score in SCORES.values():
        assert np.isfinite(score(np.ones((3, 1)))).all()
    assert SCORES["margin"](np.ones((1, 1))) == -1


def test_scores_do_not_change_their_argument() -> None:
    probs = np.array([[0.2, 0.5, 0.3]])
    for score in (*SCORES.values(), APS(draw=1), RAPS(draw=1), SAPS(draw=1)):
        score(probs)
        within(score, probs, np.array([-0.1, -0.1, -0.1]))
    assert probs.tolist() == [[0.2, 0.5, 0.3]]


def test_a_float32_network_keeps_what_rounding_took_from_its_top_class() -> None:
    """Two pictures, both 1.0 in float32, of which one is a hundred times surer."""
    probs = np.array([[1.0, 1e-9], [1.0, 1e-11]], np.float32)
    assert (1 - probs[:, 0]).tolist() == [0, 0]
    for name in ("hinge", "margin", "pip"):
        surer = SCORES[name](probs)[:, 0]
        assert surer[0] > surer[1], name


RANDOMISED = {"aps": (APS, aps), "raps": (RAPS, raps), "saps": (SAPS, saps)}


@pytest.mark.parametrize("name", RANDOMISED)
@given(probs=probabilities(), draw=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_randomised_equals_the_formula_for_some_share(
    name: str, probs: np.ndarray, draw: int
) -> None:
    """The share u is read off the top class; every other class then has the formula's score."""
    kind, formula = RANDOMISED[name]
    scores = kind(draw=draw)(probs)
    for i, row in enumerate(probs):
        p = exactly(row)
        top = ranking(p)[0]
        u = Fraction(float(scores[i, top])) / p[top]
        assert 0 <= u < 1
        exact = [float(formula(p, y, u)) for y in range(len(p))]
        assert scores[i] == pytest.approx(exact, rel=0, abs=1e-14)


def test_the_share_is_uniform_and_the_pictures_own() -> None:
    """Kolmogorov-Smirnov at 1e-4, on one seed."""
    probs = softmax(np.random.default_rng(0).normal(size=(20_000, 5)))
    top = probs.max(axis=1)
    shares = APS(draw=1)(probs)[np.arange(20_000), probs.argmax(axis=1)] / top
    assert kstest(shares, "uniform").pvalue > 1e-4
    again = APS(draw=1)(probs[::-1])[::-1][np.arange(20_000), probs.argmax(axis=1)] / top
    assert (again == shares).all()
    few_bits = np.unique(np.sort(probs.astype(np.float16), axis=1), axis=0)
    own = APS(draw=1)(few_bits)[:, -1] * few_bits.sum(axis=1, dtype=float) / few_bits[:, -1]
    # So have rows of few bits. By chance 0.2 pairs of 20,000 shares agree to nine decimals.
    assert len(np.unique(own.round(9))) > len(few_bits) - 5
    other = APS(draw=2)(probs)[np.arange(20_000), probs.argmax(axis=1)] / top
    assert kstest(other, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(shares, other)[0, 1]) < 0.03  # four deviations of independent draws


@pytest.mark.parametrize("score", [APS(draw=1), RAPS(draw=1), SAPS(draw=1)], ids=str)
def test_a_zero_of_either_sign_has_the_same_share(score: Score) -> None:
    """Sorting takes 0 and -0 for equals, and is free to leave them in any order."""
    probs = np.zeros((40, 65))
    probs[:, 64] = 1
    negative = (probs == 0) & (np.random.default_rng(0).random(probs.shape) < 0.5)
    signed = np.where(negative, -0.0, probs)
    total, limits = totals(probs), np.full(65, -0.3)
    assert (score.of_classes(signed, total) == score.of_classes(probs, total)).all()
    assert (within(score, signed, limits) == within(score, probs, limits)).all()
    labels = np.arange(40)
    true = score.of_classes(probs, total)[np.arange(40), labels]
    assert (score.of_truth(signed, total, labels) == true).all()


def test_asked_twice_and_after_loading_a_randomised_score_says_the_same(tmp_path) -> None:
    rng = np.random.default_rng(3)
    probs, labels = {"t": softmax(rng.normal(size=(200, 6)))}, {"t": rng.integers(0, 6, 200)}
    calibration = calibrate(probs, labels, APS(draw=5))
    calibration.save(tmp_path / "c")
    loaded = Calibration.load(tmp_path / "c")
    assert loaded.score == APS(draw=5)
    numbers = RAPS(np.float32(0.5), np.int64(3), np.int64(5))
    calibrate(probs, labels, numbers).save(tmp_path / "n")
    assert Calibration.load(tmp_path / "n").score == numbers
    sets = calibration.predict(probs, 0.2)["t"]
    assert (calibration.predict(probs, 0.2)["t"] == sets).all()
    assert (loaded.predict(probs, 0.2)["t"] == sets).all()
    assert ((loaded.p_values(probs)["t"] > 0.2) == sets).all()
    assert (sets != calibrate(probs, labels, APS(draw=6)).predict(probs, 0.2)["t"]).any()
    assert (sets != calibrate(probs, labels, "aps").predict(probs, 0.2)["t"]).any()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: RAPS(weight=-1), "weight"),
        (lambda: RAPS(weight=math.nan), "weight"),
        (lambda: RAPS(weight="a"), "weight must be a number of at least 0, not 'a'"),  # type: ignore[arg-type]
        (lambda: RAPS(k_reg=-1), "k_reg must be a whole number of at least 0, not -1"),
        (lambda: RAPS(k_reg=1.5), "k_reg must be a whole number"),  # type: ignore[arg-type]
        (lambda: APS(draw=-1), "draw must be a whole number of at least 0, not -1"),
        (lambda: RAPS(draw=0.5), "draw must be a whole number"),  # type: ignore[arg-type]
        (lambda: SAPS(draw="a"), "draw must be a whole number"),  # type: ignore[arg-type]
        (lambda: SAPS(weight=math.inf), "weight"),
        (lambda: PIP()(np.ones((2, 2))), r"^probs of shape \(2, 2\) must have rows that sum to 1"),
        (lambda: PIP()(np.ones(2)), r"^probs of shape \(2,\) must have shape \(n, classes\)"),
    ],
)
def test_bad_parameters_are_named(make: Callable[[], object], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        make()
