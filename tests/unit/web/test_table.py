"""A batch's answers as HTML."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.web import table
from app.web.batch import Progress, Row

CLASSES = {"colour": ["red", "green", "blue"], "shape": ["dark", "<b>"]}


class Ended:
    """What ``table`` looks at of a ``Run``."""

    def __init__(self, done: int = 100, alpha: float = 0.1, **counts: int) -> None:
        none = dict.fromkeys(("unknown", "unsure", "sure", "error", "unlike"), 0)
        self.counts = {**none, **counts}
        self.done, self.total, self.left_out, self.alpha = done, done, 0, alpha
        self.problem: str | None = None
        self.classes = CLASSES


def row(number: int = 0, name: str = "a.png", outlier_p: float = 0.5, **sets: list[str]) -> Row:
    chosen = {"colour": ["green", "red"], "shape": ["dark"], **sets}
    p_values = {
        "colour": {"red": 0.6, "green": 0.3, "blue": 0.01},
        "shape": {"dark": 0.9, "<b>": 0},
    }
    tasks = {
        task: {"set": chosen[task], "top": next(iter(p)), "p_values": p}
        for task, p in p_values.items()
    }
    joint = {"size": 2}
    answer = {"image": name, "tasks": tasks, "joint": joint, "outlier_p": outlier_p}
    return Row(number, answer, "unsure", b"")


def html(run: Any, *rows: Row, order: str = "uncertain", page: int = 0, found: int = 1) -> str:
    return table.table(run, rows, order, page, found)


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).strip()


def test_a_row_says_its_sets_in_the_order_of_their_p_values() -> None:
    said = text(html(Ended(1), row(41)))
    assert said.endswith("42 a.png Not sure red green dark 2 0.500")


def test_an_empty_and_a_whole_set_are_said_in_words() -> None:
    said = text(html(Ended(1), row(colour=[], shape=["dark", "<b>"], outlier_p=0.0001)))
    assert "no class, nearest red all 2 classes" in said
    assert said.endswith("unlike &lt;0.001")


def test_everything_from_outside_is_escaped() -> None:
    bad = "<script>alert(1)</script>"
    error = Row(1, {"image": bad, "error": f"it is {bad}"}, "error", b"")
    told = html(Ended(2), row(name=bad, shape=["<b>"]), error, found=2) + table.problem(bad)
    assert "<script" not in told and "<b>" not in told.replace('<b class="unlike">', "")
    assert told.count("&lt;script&gt;") == 4


def test_only_the_column_in_order_says_so() -> None:
    for order, direction in (("uncertain", "descending"), ("name", "ascending")):
        told = html(Ended(1), row(), order=order)
        assert re.findall(r'aria-sort="(\w+)"><button[^>]*data-do="order-(\w+)"', told) == [
            (direction, order)
        ]


@pytest.mark.parametrize(
    ("page", "rows", "said", "off"),
    [
        (0, 50, "1 to 50 of 120 pictures", ["previous"]),
        (1, 50, "51 to 100 of 120 pictures", []),
        (2, 20, "101 to 120 of 120 pictures", ["next"]),
    ],
)
def test_pages_can_be_turned_where_there_are_more(
    page: int, rows: int, said: str, off: list[str]
) -> None:
    told = html(Ended(120), *[row(i) for i in range(rows)], page=page, found=120)
    assert said in told
    assert re.findall(r'data-do="(\w+)" disabled', told) == off


def test_a_filtered_table_says_of_how_many_and_an_empty_one_why() -> None:
    assert "3 of 120 pictures" in html(Ended(120), row(), found=3)
    assert "No picture fits these filters." in html(Ended(120), found=0)


def test_the_summary_counts_and_says_what_to_expect() -> None:
    run: Any = Ended(1000, sure=700, unsure=200, unknown=60, error=40, unlike=9)
    said = text(table.summary(run))
    assert said.startswith("700 sure 200 not sure 60 “I don’t know” 40 not read 9 unlike")
    assert "at most 10 of 100 sets miss the truth: of each attribute’s 960 sets here, about 96" in (
        said
    )
    assert "don’t rely" not in said


def test_the_summary_warns_where_too_many_pictures_are_unlike() -> None:
    run: Any = Ended(100, sure=100, unlike=30)
    assert "30 look unlike them, where 5 would be usual: don’t rely" in text(table.summary(run))


def test_the_summary_of_a_run_that_ended_early_says_why() -> None:
    run: Any = Ended(10, sure=10)
    run.total, run.left_out, run.problem = 50, 1, "it was <stopped>."
    said = table.summary(run)
    assert "It was &lt;stopped&gt;. 10 of 50 pictures were answered." in said
    assert "1 other file in the zip was left out." in said
    assert "on average" in said and "about 1 " in said


def test_nothing_is_promised_of_nothing() -> None:
    run: Any = Ended(3, error=3)
    assert "on average" not in table.summary(run)


def test_progress_is_a_bar_and_a_sentence() -> None:
    told = table.progress(Progress(2500, 10000, 25.0))
    assert 'role="progressbar"' in told and 'aria-valuenow="25"' in told
    assert text(told) == "2,500 of 10,000 pictures, 100 a second, 75 s left"
    assert text(table.progress(Progress(0, 10, 0.0))) == "0 of 10 pictures"
    assert text(table.progress(Progress(10, 4000, 10.0))).endswith("66 min left")
