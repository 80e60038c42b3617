"""From the numbers of every division to what exceeds chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app.conformal.paired import differences, overlap
from app.conformal.spaces import JOINT
from app.report.comparisons import MEAN, MEASURES, compare, spread
from app.settings import METHOD

TASKS = ["type", "colour"]
OWN = ("taskwise", "taskwise", "hinge", "task")
#: Size, and coverage, of a few scores.
SCORES = {"hinge": (1.5, 0.9), "pip": (1.2, 0.9), "aps": (1.51, 0.9), "saps": (1.0, 0.5)}


@pytest.fixture(scope="module")
def every() -> pd.DataFrame:
    """Of ten divisions; sizes scatter together, and little from method to method."""
    rng = np.random.default_rng(0)
    rows = []
    for division in range(10):
        common = rng.normal(0, 0.3)
        for score, (size, coverage) in SCORES.items():
            for task in [*TASKS, JOINT]:
                own = dict.fromkeys(MEASURES, 0.5)
                own["avg_set_size"] = size + common + rng.normal(0, 0.02)
                own["covgap"] = 0.05 + rng.normal(0, 0.01)
                own["coverage"] = coverage + rng.normal(0, 0.01)
                method = dict(zip(METHOD, (*OWN[:2], score, OWN[3]), strict=True))
                at = {"alpha": 0.1, "task": task, "division": division}
                rows.append({**method, **at, "n_calib": 200, "n_test": 100, **own})
    return pd.DataFrame(rows)


def family(every: pd.DataFrame, task: str, measure: str = "avg_set_size") -> pd.DataFrame:
    compared = compare(every, TASKS, OWN)
    some = compared[(compared.task == task) & (compared.measure == measure)]
    return some.set_index("score")


def test_what_differs_by_more_than_chance_is_said(every: pd.DataFrame) -> None:
    """Spreads of 0.3 hide a difference of 0.3 to all but the paired."""
    for task in (MEAN, *TASKS, JOINT):
        sizes = family(every, task)
        assert sizes.reading.to_dict() == {
            "hinge": "own",
            "pip": "smaller",
            "aps": "not told apart",
            "saps": "smaller",
        }
        assert sizes.difference["pip"] == pytest.approx(-0.3, abs=0.05)
        assert sizes.low["pip"] < sizes.difference["pip"] < sizes.high["pip"] < 0
    assert set(family(every, MEAN, "covgap").reading) == {"own", "not told apart"}


def test_the_numbers_are_those_of_the_corrected_test(every: pd.DataFrame) -> None:
    of = {
        score: some.avg_set_size.to_numpy()
        for score, some in every[every.task == "type"].groupby("score")
    }
    expected = differences((of["pip"] - of["hinge"])[:, None], overlap(200, 100))
    sizes = family(every, "type")
    assert sizes.p["pip"] == pytest.approx(expected.p[0])
    assert sizes.low["pip"] == pytest.approx(expected.interval()[0][0])
    others = sizes.p.drop("hinge")
    assert sizes.p_holm[others.idxmin()] == pytest.approx(3 * others.min())


def test_only_what_covers_is_the_best_or_may_be(every: pd.DataFrame) -> None:
    sizes = family(every, MEAN)
    assert not sizes.holds["saps"] and sizes.holds.drop("saps").all()
    assert sizes.index[sizes.best].tolist() == ["pip"] == sizes.index[sizes.may_be_best].tolist()
    gaps = family(every, MEAN, "covgap")
    assert gaps.index[gaps.may_be_best].tolist() == ["hinge", "pip", "aps"]


def test_where_nothing_covers_nothing_is_the_best(every: pd.DataFrame) -> None:
    sizes = family(every.assign(coverage=0.1), "type")
    assert not sizes.best.any() and not sizes.may_be_best.any()


def test_the_mean_of_the_tasks_needs_each_of_them_to_cover(every: pd.DataFrame) -> None:
    short = (every.task == "colour") & (every.score == "pip")
    changed = every.assign(coverage=every.coverage.where(~short, 0.5))
    assert family(changed, "type").holds["pip"] and not family(changed, MEAN).holds["pip"]


def test_countless_combinations_are_told_apart_from_nothing(every: pd.DataFrame) -> None:
    countless = (every.task == JOINT) & (every.score == "aps")
    sizes = family(every.assign(avg_set_size=every.avg_set_size.where(~countless, np.inf)), JOINT)
    assert sizes.reading["aps"] == "not told apart" and sizes.reading["pip"] == "smaller"


def test_mean_and_deviation(every: pd.DataFrame) -> None:
    of = every[(every.task == "type") & (every.score == "pip")].avg_set_size
    row = spread(every).query("task == 'type' and score == 'pip'").iloc[0]
    assert row.avg_set_size_mean == pytest.approx(of.mean(), abs=1e-4)
    assert row.avg_set_size_std == pytest.approx(of.std(ddof=1), abs=1e-4)
    assert row.n_divisions == 10
