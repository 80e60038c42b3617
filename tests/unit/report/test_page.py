"""The report says which classes fall short and which have no threshold, and shows what is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.conformal.evaluation import evaluate
from app.conformal.method import Method
from app.conformal.spaces import JOINT, multiply
from app.data.manifest import Manifest
from app.report.page import Examined, mean_size, plots_of, write_report
from app.settings import load_settings
from tests.unit.conformal.draws import problem

NAMES = {"colour": ["red", "<i>$5</i>", "grey", "never seen"], "type": ["van", "car", "bus"]}


def seen(
    probs: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The pictures that are not of the last colour."""
    rows = labels["colour"] < 3
    return {t: p[rows] for t, p in probs.items()}, {t: y[rows] for t, y in labels.items()}


def report(
    folder: Path, space: str, taxonomy: str, names: Mapping[str, list[str]] = NAMES, **more: Any
) -> str:
    """Of test pictures that calibration is unlike in grey: there the network was right."""
    rng = np.random.default_rng(0)
    classes = {task: len(of) for task, of in names.items()}
    (probs, labels), (new, truths) = (seen(*problem(rng, n, classes)) for n in (2000, 200))
    grey = truths["colour"] == 2
    new["colour"][grey] = np.roll(new["colour"][grey], 1, axis=1)
    truths[list(names)[-1]][::4] = -1
    if space == "joint":
        probs, new = {JOINT: multiply(probs)}, {JOINT: multiply(new)}
    method = Method.calibrate(probs, labels, classes, "hinge", taxonomy, 0)
    facts = {
        "name": "first",
        "alpha": 0.1,
        "tasks": names,
        "splits": {"calib": len(labels["colour"]), "test": len(grey)},
        "method": {"head": space, "space": space, "score": "hinge", "taxonomy": taxonomy},
        "backbone": {"name": "none", "weights_sha256": "0"},
        "calibrations": ["openvino-bf16"],
        "seed": 0,
        "versions": {},
        **more,
    }
    images = [f"<i>{i}.png" for i in range(len(grey))]
    for i in range(0, len(grey), 2):  # The others are gone meanwhile.
        Image.new("RGB", (20, 20), (i, 90, 90)).save(folder / images[i])
    pictures = Manifest(folder, "csv", images, dict(names), truths)
    examined = Examined(pictures, new, np.linspace(0, 1, len(grey)), {"x.png": "it is <b>damaged"})
    settings = load_settings(data_dir="some data", alpha=0.1, seed=0, weights="my.pth")
    measured = evaluate(method, new, truths, 0.1)
    page = folder / "report.html"
    write_report(page, facts, settings, measured, method, examined, {"heads": "beef"})
    return page.read_text(encoding="utf-8")


NO_SETS = {"avg_set_size": 1.0, "covgap": 0.0}


def command_in(page: str) -> str:
    [command] = re.findall(r"<pre><code>(.*?)</code>", page)
    return unescape(re.sub("</?span>", "", command)).removeprefix("python -m app ")


def sentences(page: str, beginning: str) -> list[str]:
    found = re.findall(r'<p class="warn">(.*?)</p>', page, re.DOTALL)
    return [" ".join(text.split()) for text in found if text.startswith(beginning)]


@pytest.mark.parametrize("space", ["taskwise", "joint"])
@pytest.mark.usefixtures("undrawn")
def test_says_which_classes_fall_short_and_which_have_no_threshold(
    tmp_path: Path, space: str
) -> None:
    page = report(tmp_path, space, "class" if space == "taskwise" else "task")
    [short] = sentences(page, "Covered less")
    assert short.endswith("0.9, by the whole of the 95 % interval, in colour: grey.")
    unlimited = sentences(page, "Too few")
    if space == "taskwise":
        assert [text.split("set of ")[1] for text in unlimited] == ["colour: never seen."]
        assert "The taxonomy class promises it" in page
    else:
        assert unlimited == []
        assert "The taxonomy task promises nothing of a single class" in page


@pytest.mark.parametrize("space", ["taskwise", "joint"])
def test_draws_every_plot_and_no_markup_of_names(tmp_path: Path, space: str) -> None:
    page = report(tmp_path, space, "task")
    # The promise, its law, sizes and outliers; of each task coverage by class and reliability.
    plots = plots_of(tmp_path / "report.html")
    assert page.count("<svg") == len(plots) == 4 + 2 * 2
    assert all(svg.startswith("<svg") and svg.endswith("</svg>") for svg in plots.values())
    assert "<i>" not in page and "<b>damaged" not in page
    assert "x.png (it is &lt;b&gt;damaged)" in page
    assert not re.search(r'(src|href)="(?!data:|#|http://www.w3.org)[^"]', page.split("<svg")[0])


def test_the_same_numbers_give_the_same_page(tmp_path: Path) -> None:
    assert report(tmp_path, "taskwise", "class") == report(tmp_path, "taskwise", "class")


@pytest.mark.usefixtures("undrawn")
def test_a_law_is_shown_only_where_it_is_known(tmp_path: Path) -> None:
    by_class = report(tmp_path, "taskwise", "class")
    assert "beta-binomial, one a class" in by_class
    shared = report(tmp_path, "taskwise", "cluster")
    assert "beta-binomial" not in shared and "there is no exact law" in shared
    joint = report(tmp_path, "joint", "task")
    assert re.search(r"draws\n[\d.]+ have a coverage as (low|high) as that of all at once", joint)


@pytest.mark.usefixtures("undrawn")
def test_shows_a_dozen_pictures_of_a_kind_and_none_that_is_gone(tmp_path: Path) -> None:
    page = report(tmp_path, "taskwise", "task")
    images = [int(i) for i in re.findall(r'alt="&lt;i&gt;(\d+).png"', page)]
    assert len(images) == 3 * 12
    assert all(i % 2 == 0 for i in images)
    assert images[-12:] == list(range(0, 24, 2))  # The outliers, from the smallest p-value on.
    wrong = page.split("<h3>Wrong")[1].split("<h3>Least certain")[0]
    assert all('class="bad"' in figure for figure in wrong.split("<figure>")[1:])


@pytest.mark.usefixtures("undrawn")
def test_many_classes_are_bounded(tmp_path: Path) -> None:
    names = {"colour": ["red", "blue", "grey", "pink"], "type": [f"kind {i}" for i in range(90)]}
    page = report(tmp_path, "taskwise", "task", names)
    assert "Of type the 40 classes whose intervals end" in " ".join(page.split())
    assert page.count('class="heat"') == 2  # The colours'; of the types the commonest pairs.
    assert page.count('<th class="text">truth</th>') == 2


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [
        ("openvino-bf16", "--runtime openvino --precision bf16"),
        ("openvino-int8-f32", "--runtime openvino --precision int8"),
        ("torch-cuda-bf16", "--runtime torch --precision bf16"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_says_how_to_make_it_again(tmp_path: Path, kind: str, runtime: str) -> None:
    page = report(tmp_path, "taskwise", "task", calibrations=[kind])
    assert command_in(page) == (
        "train --data 'some data' --layout auto --backbone none --weights my.pth --recipe stages "
        f"--views 0 --search 60 {runtime} --alpha 0.1 "
        "--head taskwise --space taskwise --score hinge --taxonomy task --seed 0"
    )
    assert "sha256 beef" in page


@pytest.mark.usefixtures("undrawn")
def test_says_how_it_was_calibrated_again(tmp_path: Path) -> None:
    asked = {"head": "taskwise", "space": "auto", "score": "auto", "taxonomy": "auto"}
    method = {"asked": asked, "candidates": [], "pictures": 9, "measured": NO_SETS}
    chosen = {**method, "reference": NO_SETS}
    page = report(tmp_path, "taskwise", "task", calibrated_from="old", chosen=chosen)
    assert command_in(page) == (
        "calibrate --model old --data 'some data' --layout auto --runtime openvino "
        "--precision bf16 --alpha 0.1 --head taskwise --space auto --score auto --taxonomy auto"
    )
    assert "the same bundle from the same bundle old." in " ".join(page.split())
    assert "at least 0.9, for pictures like" in " ".join(page.split())


@pytest.mark.usefixtures("undrawn")
def test_says_that_a_search_which_was_cut_may_come_out_otherwise(tmp_path: Path) -> None:
    for cut in (False, True):
        page = report(tmp_path, "taskwise", "task", search={"cut": cut})
        assert ("depends on the machine's speed" in page) == cut


@pytest.mark.usefixtures("undrawn")
def test_compares_runtimes_where_there_are_several(tmp_path: Path) -> None:
    full = {"colour": {"accuracy": 0.9, "coverage": 0.91, "avg_set_size": 1.5}}
    cheap = {"colour": {"accuracy": 0.88, "coverage": 0.9, "avg_set_size": 1.75}}
    # What concerns all at once is no task.
    for of, accuracy in ((full, 0.5), (cheap, 0.1)):
        of[JOINT] = {"accuracy": accuracy, "coverage": 0.9, "avg_set_size": 9.0}
    alone = {"openvino-bf16": full}
    assert "By runtime" not in report(tmp_path, "taskwise", "task", measured=alone)
    both = {"openvino-int8-bf16": cheap, **alone}
    page = " ".join(report(tmp_path, "taskwise", "task", measured=both).split())
    assert (
        "the quantised network (openvino-int8-bf16) has an accuracy 0.020 lower than that in full "
        "precision (openvino-bf16), and 0.25 classes more in a set." in page
    )
    floats = {"torch-cuda-bf16": full, **alone}
    page = report(tmp_path, "taskwise", "task", measured=floats)
    assert "<td>torch-cuda-bf16</td>" in page and "quantised" not in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("space", ["taskwise", "joint"])
def test_one_task_alone_is_not_told_twice(tmp_path: Path, space: str) -> None:
    assert "<td>all at once" in report(tmp_path, space, "task")
    page = report(tmp_path, space, "task", {"colour": NAMES["colour"]})
    assert "<td>all at once" not in page and "Weighted by" not in page


@pytest.mark.usefixtures("undrawn")
def test_promises_what_the_taxonomy_does(tmp_path: Path) -> None:
    assert "as a mean over the tasks," in report(tmp_path, "taskwise", "global")
    for space, taxonomy in (("taskwise", "task"), ("joint", "global")):
        assert "as a mean over the tasks," not in report(tmp_path, space, taxonomy)
    alone = {"colour": NAMES["colour"]}
    assert "as a mean over the tasks," not in report(tmp_path, "taskwise", "global", alone)


def test_a_mean_size_of_any_size() -> None:
    assert [mean_size(x) for x in (1.444, 12345.6, 1.5e30, float("inf"))] == [
        "1.44",
        "12345.60",
        "1.5e+30",
        "inf",
    ]
