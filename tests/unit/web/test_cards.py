"""What a person reads, from what the classifier answers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.web import cards

HOSTILE = "<img src=x onerror='alert(1)'>&\""


def of(p_values: dict[str, float], alpha: float) -> dict[str, Any]:
    """One task's answer, as the p-values give it."""
    return {
        "set": [name for name, p in p_values.items() if p > alpha],
        "top": max(p_values, key=lambda name: p_values[name]),
        "p_values": p_values,
    }


def whole(tasks: dict[str, dict[str, float]], alpha: float, outlier_p: float = 0.5) -> Any:
    answers = {task: of(p_values, alpha) for task, p_values in tasks.items()}
    sets = {task: answer["set"] for task, answer in answers.items()}
    size = 1
    for chosen in sets.values():
        size *= len(chosen)
    return {"tasks": answers, "joint": {"sets": sets, "size": size}, "outlier_p": outlier_p}


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def headline(html: str) -> str:
    found = re.search(r'<p class="headline">(.*?)</p>', html)
    assert found
    return found[1]


P = {"red": 0.3, "green": 0.8, "blue": 0.04, "grey": 0.3}


@pytest.mark.parametrize(
    ("alpha", "said", "state"),
    [
        (0.5, "Sure", "sure"),
        (0.3, "Sure", "sure"),  # a class is in the set only when its p-value is above alpha
        (0.29, "One of 3", "unsure"),
        (0.03, "I don’t know, and that is honest", "unknown"),
        (0.9, "I don’t know, and that is honest", "unknown"),
    ],
)
def test_the_headline_follows_the_set(alpha: float, said: str, state: str) -> None:
    html = cards.card("colour", of(P, alpha), alpha, "task")
    assert headline(html) == said
    assert html.startswith(f'<section class="card {state}"')


def test_chips_and_bars_come_in_the_order_of_p_values() -> None:
    html = cards.card("colour", of(P, 0.1), 0.1, "task")
    assert re.findall(r'class="chip">(\w+)<', html) == ["green", "red", "grey"]
    assert re.findall(r'title="(\w+)"', html) == ["green", "red", "grey", "blue"]
    assert re.findall(r'<li class="(\w+)"', html) == ["in", "in", "in", "out"]
    assert re.findall(r'track"><span style="width:([\d.]+)%', html) == [
        "80.00", "30.00", "30.00", "4.00"
    ]  # fmt: skip
    assert re.findall(r'class="p">([^<]+)<', html) == ["0.800", "0.300", "0.300", "0.040"]


def test_alpha_is_marked_on_the_bars() -> None:
    html = cards.card("colour", of(P, 0.25), 0.25, "task")
    assert 'style="--alpha:25.00%"' in html
    assert 'style="left:25.00%">alpha 0.25<' in html


@pytest.mark.parametrize(
    ("taxonomy", "promise"),
    [
        ("global", "Over all attributes together, at least 90 of 100 sets hold the truth."),
        ("task", "At least 90 of 100 of these sets hold the truth."),
        ("class", "Whatever the true class is, at least 90 of 100 of these sets hold it."),
        ("cluster", "Within each group of alike classes, at least 90 of 100 sets hold"),
        ("task_cluster", "Within each group of alike classes, at least 90 of 100 sets hold"),
    ],
)
def test_the_promise_is_the_taxonomys(taxonomy: str, promise: str) -> None:
    assert promise in text(cards.card("colour", of(P, 0.1), 0.1, taxonomy))


def test_an_empty_set_promises_nothing_but_owns_up() -> None:
    said = text(cards.card("colour", of(P, 0.9), 0.9, "task"))
    assert "no class" in said
    assert "At most 90 of 100 sets miss, as this one does." in said
    assert "hold the truth" not in said


@pytest.mark.parametrize(
    ("alpha", "share"), [(0.1, "90"), (0.01, "99"), (0.005, "99.5"), (1e-4, "99.99")]
)
def test_shares_are_never_rounded_up(alpha: float, share: str) -> None:
    assert f"at least {share} of 100" in text(cards.card("c", of(P, alpha), alpha, "task")).lower()


@pytest.mark.parametrize(("p", "unusual"), [(0.051, False), (0.05, True), (0.0028, True)])
def test_the_banner_appears_where_ordinary_pictures_end(p: float, unusual: bool) -> None:
    html = cards.usual(p)
    assert ("Unlike the calibration pictures" in html) == unusual
    assert ('role="alert"' in html) == unusual
    assert f"p = {p:.3f}" in html


@pytest.mark.parametrize(("p", "said"), [(0.045, "at most 5 of 100"), (0.0028, "at most 1 of 100")])
def test_how_unusual_a_picture_is_is_never_understated(p: float, said: str) -> None:
    assert said in cards.usual(p)


def test_the_joint_promise_shows_its_own_sets() -> None:
    answer = whole({"colour": P, "type": {"van": 0.9, "bus": 0.2, "car": 0.04}}, 0.1)
    answer["joint"] = {"sets": {"colour": ["red", "green"], "type": ["van", "bus"]}, "size": 4}
    html = cards.together(answer, 0.1)
    assert headline(html) == "4 combinations"
    assert re.findall(r'class="chip">(\w+)<', html) == ["green", "red", "van", "bus"]
    assert "for at least 90 of 100 pictures both sets hold the truth at once" in text(html)


@pytest.mark.parametrize(
    ("size", "said"), [(0, "No combination"), (1, "1 combination"), (1320, "1,320 combinations")]
)
def test_combinations_are_counted(size: int, said: str) -> None:
    answer = whole({"colour": P, "type": P, "age": P}, 0.1)
    answer["joint"]["size"] = size
    html = cards.together(answer, 0.1)
    assert headline(html) == said
    assert "all 3 sets" in html


def test_one_task_needs_no_joint_promise() -> None:
    answer = whole({"colour": P}, 0.1)
    assert cards.together(answer, 0.1) == ""
    assert "All at once" not in cards.answer(answer, 0.1, "task")


def test_the_whole_answer_has_a_card_a_task() -> None:
    html = cards.answer(whole({"colour": P, "type": {"van": 0.9, "bus": 0.2}}, 0.1), 0.1, "task")
    assert re.findall(r'<section class="\w+[ \w]*" aria-label="([^"]+)"', html) == [
        "colour", "type", "All at once"
    ]  # fmt: skip


def test_many_classes_are_summed_up() -> None:
    p_values = {f"class {i:03}": 1 - i / 100 for i in range(100)}
    html = cards.card("species", of(p_values, 0.1), 0.1, "task")
    assert html.count('<span class="track">') == 30
    assert "and 70 less likely ones" in html
    assert html.count('class="chip"') == 3 and "87 more" in html


def test_a_full_set_is_one_chip() -> None:
    html = cards.card("colour", of(P, 0.01), 0.01, "task")
    assert re.findall(r'class="chip[^"]*">([^<]+)<', html) == ["all 4 classes"]


def test_waiting_takes_the_room_of_the_answer() -> None:
    classes = {"colour": list(P), "type": ["van", "bus"]}
    waiting = cards.waiting(classes)
    answer = cards.answer(whole({"colour": P, "type": {"van": 0.9, "bus": 0.2}}, 0.1), 0.1, "task")
    assert waiting.count("<li") == answer.count("<li") == 6
    assert "one of 4 classes" in waiting


@pytest.mark.parametrize(
    "html",
    [
        cards.answer(whole({HOSTILE: {HOSTILE: 0.9, "b": 0.05}, "t": P}, 0.1), 0.1, "task"),
        cards.answer(whole({HOSTILE: {HOSTILE: 0.9, "b": 0.8}, "t": P}, 0.1), 0.1, "task"),
        cards.answer(
            whole({HOSTILE: {HOSTILE: 0.9, "b": 0.05}}, 0.1),
            0.1,
            "task",
            {HOSTILE: cards.Look(HOSTILE, "data:,")},
            {HOSTILE: HOSTILE},
        ),
        cards.waiting({HOSTILE: [HOSTILE]}),
        cards.unreadable(HOSTILE),
        cards.no_bundle(HOSTILE),
        cards.header(
            HOSTILE, {"alpha": 0.1, "tasks": {HOSTILE: {"coverage": 0.9, "n_test": 9}}}, HOSTILE
        ),
        cards.examples(HOSTILE, [{HOSTILE: HOSTILE}]),
    ],
)
def test_names_are_text_never_markup(html: str) -> None:
    assert HOSTILE not in html
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=&#x27;alert(1)&#x27;&gt;&amp;&quot;" in html


def test_the_header_says_what_was_measured() -> None:
    measured = {"colour": {"coverage": 0.9166, "n_test": 360}, "type": {"coverage": 1, "n_test": 9}}
    metrics = {"alpha": 0.1, "tasks": measured}
    said = text(cards.header("first", metrics))
    assert "first" in said
    assert "on 360 test pictures at alpha 0.10 the truth was in the set: " in said
    assert "colour 91.7 %, type 100.0 %" in said
    assert "It is damaged. Until then first stays" in cards.header(
        "first", metrics, "it is damaged."
    )


def test_without_a_bundle_the_page_says_how_to_make_one() -> None:
    html = cards.no_bundle("there is no bundle in <models> yet: make one with `make train`.")
    assert (
        "There is no bundle in &lt;models&gt; yet: make one with <code>make train</code>." in html
    )


def test_examples_are_buttons_that_tell_their_truths() -> None:
    html = cards.examples("first", [{"colour": "red", "type": "van"}, {"type": "bus"}])
    assert re.findall(r'data-example="(\d+)"', html) == ["0", "1"]
    assert 'src="examples/first/1"' in html
    assert re.findall(r'title="([^"]+)" aria-label="([^"]+)"', html) == [
        ("colour red, type van", "Example 1: colour red, type van"),
        ("type bus", "Example 2: type bus"),
    ]
    assert cards.examples("first", []) == ""


@pytest.mark.parametrize(
    ("truth", "said"),
    [("red", "The truth is red : in the set"), ("blue", "The truth is blue : not in the set")],
)
def test_a_known_truth_is_told_and_whether_the_set_holds_it(truth: str, said: str) -> None:
    answer = whole({"colour": P, "type": {"van": 0.9, "bus": 0.2}}, 0.1)
    html = text(cards.answer(answer, 0.1, "task", truth={"colour": truth}))
    assert html.count(said) == html.count("The truth is") == 1


def test_a_press_on_a_bar_tells_the_tasks_and_the_classs_numbers() -> None:
    answer = whole({"type": {"van": 0.9, "bus": 0.2}, "colour": P}, 0.1)
    looks = {"type": cards.Look("van", "data:a"), "colour": cards.Look("grey", "data:b")}
    html = cards.answer(answer, 0.1, "task", looks)
    assert re.findall(r'data-look="(\d \d)" aria-pressed="(\w+)"', html) == [
        ("0 0", "true"), ("0 1", "false"),
        ("1 1", "false"), ("1 0", "false"), ("1 3", "true"), ("1 2", "false"),
    ]  # fmt: skip
    assert re.findall(r'<img src="(data:\w)"', html) == ["data:a", "data:b"]
    assert "is not shown" in html, "earlier layers have a share that the map does not show"


def test_a_class_without_heat_has_no_map_but_words() -> None:
    html = cards.card("colour", of(P, 0.1), 0.1, "task", cards.Look("red", None))
    assert "<img" not in html and "The last layer sees nothing of red" in text(html)


def test_without_heat_maps_there_is_nothing_to_press_and_nothing_said() -> None:
    html = cards.answer(whole({"colour": P, "type": P}, 0.1), 0.1, "task")
    assert "<button" not in html and "<figure" not in html and "layer" not in html


def test_the_answer_is_announced_in_few_words() -> None:
    html = cards.answer(whole({"colour": P, "type": {"van": 0.9, "bus": 0.02}}, 0.1), 0.1, "task")
    [said] = re.findall(r'"unseen" role="status">(.*?)</p>', html)
    assert said == "colour: One of 3: green, red, grey. type: Sure: van."


def test_what_is_usual_is_said_in_pictures() -> None:
    assert "some 94 of 100 of them look at least this odd" in cards.usual(0.947)
