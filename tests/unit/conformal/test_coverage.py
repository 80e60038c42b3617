"""The guarantee as a statistical fact: coverage follows its exact law.

With n exchangeable, distinct calibration scores and k = ceil((n + 1)(1 - alpha)), the number of m
new pictures that are covered is beta-binomial(m, k, n + 1 - k). Each test adds up many independent
draws and compares the sum with the law's mean in units of its deviation. A bound of 5 deviations
rejects a correct program once in 1.7 million seeds (two-sided normal tail); the seeds are fixed, so
a run is repeatable.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom, kstest

from app.conformal import SCORES, TAXONOMIES, calibrate, calibrate_simultaneously
from app.conformal.calibration import rank
from app.conformal.checks import as_alpha
from app.conformal.method import Method
from app.conformal.scores import APS, RAPS, SAPS, Score
from app.conformal.spaces import JOINT, multiply
from tests.unit.conformal.draws import problem

CLASSES = {"colour": 4, "type": 3}
BOUND = 5.0
ALPHA = 0.2


class Tally:
    """Adds up what was covered and what the law expects."""

    def __init__(self) -> None:
        self.deviation = self.variance = 0.0

    def add(self, covered: np.ndarray, n: int) -> None:
        if len(covered) == 0:
            return
        k = rank(n, as_alpha(ALPHA))
        if k > n:
            assert covered.all()
            return
        law = betabinom(len(covered), k, n + 1 - k)
        self.deviation += covered.sum() - law.mean()
        self.variance += law.var()

    def check(self) -> None:
        assert self.variance > 0
        assert abs(self.deviation) < BOUND * np.sqrt(self.variance)


Problem = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def halves(seed: int, draw: int, n: int, m: int) -> tuple[Problem, Problem]:
    probs, labels = problem(np.random.default_rng([seed, draw]), n + m, CLASSES)
    calib = {t: p[:n] for t, p in probs.items()}, {t: y[:n] for t, y in labels.items()}
    new = {t: p[n:] for t, p in probs.items()}, {t: y[n:] for t, y in labels.items()}
    return calib, new


RANDOMISED = (APS(draw=1), RAPS(draw=1), SAPS(draw=1))


@pytest.mark.parametrize("taxonomy", TAXONOMIES)
@pytest.mark.parametrize("score", (*SCORES.values(), *RANDOMISED), ids=str)
def test_every_group_is_covered_by_the_law(score: Score, taxonomy: str) -> None:
    """The scores of a group are exchangeable with those of new pictures of its classes.

    Groups over several tasks hold several scores of one picture, which are not: there one task is
    enough. Classes too rare for a cluster have the pooled threshold, which the law says nothing of.
    """
    tasks = {"colour"} if taxonomy in ("global", "cluster") else set(CLASSES)
    draws = 12 if "cluster" in taxonomy else 120  # KMeans is slow
    tally = Tally()
    for draw in range(draws):
        calib, new = halves(20, draw, 150, 100)
        (probs, labels), (new_probs, truth) = (
            ({t: p[t] for t in tasks}, {t: y[t] for t in tasks}) for p, y in (calib, new)
        )
        calibration = calibrate(probs, labels, score, taxonomy, seed=draw)
        sets = calibration.predict(new_probs, ALPHA)
        for task, y in truth.items():
            groups = calibration.groups[task]
            for group in np.unique(groups):
                rows = np.flatnonzero(groups[y] == group)
                null = "cluster" in taxonomy and group == groups.min()
                if not null or (groups == group).all():
                    n = len(calibration.scores[group])
                    assert n > 0
                    tally.add(sets[task][rows, y[rows]], n)
    tally.check()


def test_global_coverage_is_the_mean_over_tasks() -> None:
    """Two scores of one picture depend on each other: the mean is bounded, its law is not known."""
    rates = []
    for draw in range(400):
        calib, (probs, truth) = halves(30, draw, 30, 20)
        sets = calibrate(*calib, "hinge", "global").predict(probs, ALPHA)
        rates.append(np.mean([sets[t][np.arange(20), truth[t]] for t in CLASSES]))
    spread = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) > 1 - ALPHA - 1 / 60 - BOUND * spread
    assert np.mean(rates) < 1 - ALPHA + 2 / 61 + BOUND * spread


@pytest.mark.parametrize("taxonomy", ["task", "class"])
def test_simultaneous_coverage(taxonomy: str) -> None:
    """Ties of the rank scale can only cover more, so the law is a lower bound."""
    deviation = variance = 0.0
    for draw in range(200):
        calib, (probs, truth) = halves(40, draw, 120, 40)
        sets = calibrate_simultaneously(*calib, "hinge", taxonomy, seed=draw).predict(probs, ALPHA)
        covered = np.all([sets[t][np.arange(40), truth[t]] for t in CLASSES], axis=0)
        k = rank(60, as_alpha(ALPHA))
        law = betabinom(40, k, 61 - k)
        deviation += covered.sum() - law.mean()
        variance += law.var()
    assert deviation > -BOUND * np.sqrt(variance)
    assert deviation / (200 * 40) < 0.06  # and it is not bought by sets of everything


def test_joint_space_coverage() -> None:
    tally = Tally()
    for draw in range(150):
        (probs, labels), (new, truth) = halves(50, draw, 61, 40)
        method = Method.calibrate({JOINT: multiply(probs)}, labels, CLASSES, "hinge", "task", 0)
        answers = method.answer({JOINT: multiply(new)}, ALPHA)
        assert answers.combinations is not None
        number = np.ravel_multi_index((truth["colour"], truth["type"]), (4, 3))
        tally.add(answers.combinations[np.arange(40), number], 61)
    tally.check()


def test_the_whole_distribution_is_beta_binomial() -> None:
    """Not the mean alone: randomised ranks under the law are uniform.

    Kolmogorov-Smirnov at 1e-6: a correct program fails for one seed in a million.
    """
    n, m = 61, 40
    k = rank(n, as_alpha(ALPHA))
    law = betabinom(m, k, n + 1 - k)
    rng = np.random.default_rng(60)
    uniform = []
    for draw in range(800):
        calib, (probs, truth) = halves(60, draw, n, m)
        sets = calibrate(*calib).predict(probs, ALPHA)
        covered = int(sets["type"][np.arange(m), truth["type"]].sum())
        uniform.append(law.cdf(covered - 1) + rng.random() * law.pmf(covered))
    assert kstest(uniform, "uniform").pvalue > 1e-6


def test_the_law_would_notice_a_missing_correction() -> None:
    """The same tally rejects the threshold at rank ceil(n (1 - alpha)), so it can fail."""
    tally = Tally()
    for draw in range(1500):
        (probs, labels), (new, truth) = halves(70, draw, 11, 40)
        true = np.sort(1 - probs["type"][np.arange(11), labels["type"]])
        uncorrected = true[int(np.ceil(11 * (1 - ALPHA))) - 1]
        tally.add(1 - new["type"][np.arange(40), truth["type"]] <= uncorrected, 11)
    with pytest.raises(AssertionError):
        tally.check()
