"""The page and the text of a folder's check: nothing of a name is markup, and all is bounded."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.data.manifest import SPLITS
from app.report.check import WRONG, print_check, write_check

HOSTILE = [
    "<script>alert(1)</script>",
    "[red]x[/red]",
    "two\nlines",
    "\x1b[31m",
    "caf\udce9",
    "{{1}}",
]


def threshold(scores: int, missing: int) -> dict[str, Any]:
    return {"scores": scores, "missing": missing, "to_add": 7 * missing, "smallest_alpha": 0.2}


def copies(*images: str, task: str = "kind") -> dict[str, Any]:
    pictures = [
        {"image": image, "split": "train", "labels": {task: label}}
        for image, label in zip(images, ["one", *images], strict=False)
    ]
    return {"alike": "nearly", "pictures": pictures, "differ": [task], "splits": ["train"]}


def findings(names: list[str] | None = None, **wrong: Any) -> dict[str, Any]:
    """What ``check.json`` holds, of classes with such names."""
    names = names or ["one", "two"]
    counts = {name: dict.fromkeys(SPLITS, 1) for name in names}
    return {
        "data": "<data>",
        "layout": "csv",
        "alpha": 0.1,
        "seed": 0,
        "found": {
            "pictures": 9,
            "readable": 8,
            "splits": dict.fromkeys(SPLITS, 2),
            "tasks": {
                "kind": {
                    "classes": counts,
                    "unlabelled": dict.fromkeys(SPLITS, 0),
                    "rarest": names[:5],
                }
            },
            "combinations": {
                "possible": 4,
                "seen": 3,
                "never_seen": 1,
                "most_expected": [{"classes": {"kind": names[0]}, "expected": 1.5}],
            },
            "identical": 0,
            "alike": 0,
        },
        "wrong": {**{kind: [] for kind in WRONG}, **wrong},
        "look_at": {"dark": [], "odd_size": []},
        "conformal": {
            "needed": 9,
            "task": {"kind": threshold(9, 0)},
            "classes": {"kind": {name: threshold(4, 5) for name in names}},
            "simultaneous": threshold(9, 0),
        },
    }


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def written(folder: Path, content: dict[str, Any]) -> tuple[str, Tags]:
    write_check(folder / "check.html", content, folder)
    page = (folder / "check.html").read_text(encoding="utf-8")
    seen = Tags()
    seen.feed(page)
    return page, seen


@pytest.fixture
def hostile() -> dict[str, Any]:
    """Every name that a stranger chooses is hostile."""
    content = findings(
        HOSTILE,
        unreadable=[{"image": name, "reason": "it is damaged"} for name in HOSTILE[:2]],
        alike_with_different_labels=[copies(*pair) for pair in (HOSTILE[:2], HOSTILE[2:4])],
        given_two_splits=[copies(*HOSTILE[4:])["pictures"]],
        refused=[HOSTILE[0]],
    )
    content["look_at"]["dark"] = [{"image": name, "width": 1, "height": 1} for name in HOSTILE]
    return content


def test_no_name_is_markup_on_the_page(tmp_path: Path, hostile: dict[str, Any]) -> None:
    page, seen = written(tmp_path, hostile)
    assert "script" not in seen.tags and "data" not in seen.tags
    for name in ("<script>alert(1)</script>", "[red]x[/red]", "{{1}}", "<data>", "caf\\udce9"):
        assert name in seen.text
    assert "http" not in page and "src=" not in page  # None of these pictures is there.


def test_no_name_is_markup_in_the_terminal(
    hostile: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_check(hostile)
    text = capsys.readouterr().out
    assert not re.search(r"[^\n\x20-\x7e─-╿]", text)
    assert "[red]x[/red]" in text and "<script>" in text and r"two\nlines" in text
    assert r"\x1b[31m" in text and r"caf\udce9" in text


def test_only_what_is_wrong_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_check(findings())
    page, _ = written(tmp_path, findings())
    text = capsys.readouterr().out
    assert "nothing is wrong" in text and "Nothing is wrong." in page
    for title in WRONG.values():
        assert title not in text and f"{title}:" not in page
    for kind, title in WRONG.items():
        of_kind = {
            "unreadable": [{"image": "a.png", "reason": "it is damaged"}],
            "given_two_splits": [copies("a.png", "b.png")["pictures"]],
            "refused": ["add pictures."],
        }.get(kind, [copies("a.png", "b.png")])
        content = findings(**{kind: of_kind})
        print_check(content)
        page, _ = written(tmp_path, content)
        text = " ".join(capsys.readouterr().out.split())
        assert "nothing is wrong" not in text and "Nothing is wrong." not in page
        assert title.split(",")[0].split()[0] in text
        assert all(word in page for word in ("Something is wrong.", "What is wrong"))
        assert "add pictures." in page if kind == "refused" else "a.png" in page


def test_much_is_cut_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [f"{i}.png" for i in range(500)]
    for image in images:
        Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(tmp_path / image)
    groups = [copies(*images[i : i + 10]) for i in range(0, 400, 10)]
    content = findings(
        [f"class {i}" for i in range(300)],
        unreadable=[{"image": image, "reason": "it is damaged"} for image in images],
        identical_with_different_labels=groups,
        alike_with_different_labels=groups,
        alike_across_splits=groups,
        given_two_splits=[group["pictures"] for group in groups],
    )
    content["look_at"]["dark"] = [{"image": image, "width": 4, "height": 4} for image in images]
    print_check(content)
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 80
    for rest in ("and 498 more", "and 38 more", "and 292 more"):
        assert rest in text
    page, seen = written(tmp_path, content)
    assert seen.tags.count("img") == page.count('src="data:image/jpeg;base64,') == 4 * 12 * 4 + 8
    for rest in ("and 400 more", "and 28 more", "and 6 more", "and 492 more", "and 200 more"):
        assert rest in page


def test_infinite_thresholds_are_listed_the_rarest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = findings()
    content["conformal"]["classes"]["kind"] = {
        "common": threshold(9, 0),
        "rare": threshold(2, 7),
        "rarer": {"scores": 0, "missing": 9, "to_add": 60, "smallest_alpha": None},
    }
    content["conformal"]["simultaneous"] = threshold(5, 4)
    print_check(content)
    text = capsys.readouterr().out
    rows = [re.split(r"\s*│\s*", row)[1:-1] for row in text.splitlines() if row.startswith("│ ")]
    assert rows[-3:] == [
        ["all at once", "", "", "5", "4", "28", "0.2"],
        ["class", "kind", "rarer", "0", "9", "60", "none"],
        ["class", "kind", "rare", "2", "7", "49", "0.2"],
    ]
    page, _ = written(tmp_path, content)
    rarer, rare = (f">{name} <small>kind</small>" for name in ("rarer", "rare"))
    places = [page.index(row) for row in (">all at once<", rarer, rare)]
    assert places == sorted(places) and ">common <small>" not in page
