"""What was found in a folder of pictures: as a few tables of text, and as a page.

Both read the content of ``check.json``. Names of files, tasks and classes are anybody's: the page
escapes them, and the terminal gets no control character of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.data.manifest import SPLITS
from app.progress import printable
from app.report.page import PAGES
from app.report.thumbnails import thumbnail

#: So many rows of a table, and pictures of a group, are shown as text.
_ROWS = 8
_NAMED = 2
#: The page shows so many groups of a kind, pictures of a group, of an oddity, and rows of a table.
_SHOWN = {"groups": 12, "pictures": 4, "look_at": 8, "rows": 100}

#: Pixels of a side.
_THUMBNAIL = 128

#: What is wrong, in words.
WRONG = {
    "unreadable": "cannot be read",
    "identical_with_different_labels": "byte-identical, labelled differently",
    "alike_with_different_labels": "near-identical, labelled differently",
    "alike_across_splits": "near-identical, in different splits",
    "given_two_splits": "belong together, given different splits",
    "refused": "training would refuse",
}

Finding = Mapping[str, Any]


def print_check(findings: Finding) -> None:
    """Print the findings to standard output, a screen or two."""
    console = Console(highlight=False, markup=False, emoji=False)
    found, wrong = findings["found"], findings["wrong"]
    lost = found["pictures"] - found["readable"]
    console.print(
        f"{printable(findings['data'])}: {found['pictures']} pictures, layout "
        f"{findings['layout']}, {lost or 'none'} of them unreadable"
    )
    splits = ", ".join(f"{split} {n}" for split, n in found["splits"].items())
    console.print(f"splits by seed {findings['seed']}: {splits}")
    console.print(_tasks(found["tasks"]))
    if found["combinations"]:
        console.print(printable(_combinations(found["combinations"])))
    console.print(_wrong(wrong) if any(wrong.values()) else "nothing is wrong")
    console.print(_needed(findings))
    lines = list(short_of(findings["conformal"]))
    if lines:
        console.print(_short(lines))
    odd = {issue.replace("_", " "): len(of) for issue, of in findings["look_at"].items() if of}
    if odd:
        counted = ", ".join(f"{issue} {count}" for issue, count in odd.items())
        console.print(f"to be looked at, on the page: {counted}")


def _tasks(tasks: Finding) -> Table:
    table = _table("task", "classes", "unlabelled", "rarest classes")
    for task, counts in list(tasks.items())[:_ROWS]:
        rarest = ", ".join(
            f"{printable(name)} {sum(counts['classes'][name].values())}"
            for name in counts["rarest"]
        )
        unlabelled = str(sum(counts["unlabelled"].values()))
        table.add_row(printable(task), str(len(counts["classes"])), unlabelled, rarest)
    return _more(table, len(tasks))


def _combinations(counts: Finding) -> str:
    if counts["never_seen"] is None:
        return f"of countless combinations of classes {counts['seen']} occur"
    text = f"{counts['never_seen']} of {counts['possible']} combinations of classes are never seen"
    missed = [
        f"{' '.join(one['classes'].values())} ({one['expected']:g} expected)"
        for one in counts["most_expected"][:3]
    ]
    return f"{text}: {', '.join(missed)}, ..." if missed else text


def _wrong(wrong: Finding) -> Table:
    table = _table("what is wrong", "how many", "the first of them")
    for kind, title in WRONG.items():
        if wrong[kind]:
            unit = {"unreadable": "picture", "refused": "reason"}.get(kind, "group")
            count = len(wrong[kind])
            first = [printable(_told(kind, one)) for one in wrong[kind][:_NAMED]]
            if count > _NAMED:
                first.append(f"and {count - _NAMED} more")
            table.add_row(title, f"{count} {unit}{'s' * (count > 1)}", "\n".join(first))
    return table


def _told(kind: str, one: Any) -> str:
    """One thing that is wrong, in a line."""
    if kind == "refused":
        return str(one)
    if kind == "unreadable":
        return f"{one['image']}: {one['reason']}"
    group = one if kind == "given_two_splits" else one["pictures"]
    told = []
    for picture in group[:_NAMED]:
        if kind.endswith("labels"):
            beside = ", ".join(str(picture["labels"][task]) for task in one["differ"][:_NAMED])
        else:
            beside = picture["split"]
        told.append(f"{picture['image']} ({beside})")
    return ", ".join(told) + (f" and {len(group) - _NAMED} more" if len(group) > _NAMED else "")


def _needed(findings: Finding) -> str:
    conformal, alpha = findings["conformal"], findings["alpha"]
    together = "; of the sets that hold all truths at once, in half of the calibration split"
    return (
        f"at alpha {alpha:g} a finite threshold needs {conformal['needed']} calibration pictures: "
        "of a task (taxonomy task) or of each class (class)"
        + (together if conformal["simultaneous"] else "")
    )


def short_of(conformal: Finding) -> Iterator[dict[str, Any]]:
    """The thresholds that would be infinite: those of most scores to come first, then classes."""
    simultaneous = conformal["simultaneous"]
    if simultaneous and simultaneous["missing"]:
        yield {"taxonomy": "all at once", "task": "", "class": "", **simultaneous}
    for task, threshold in conformal["task"].items():
        if threshold["missing"]:
            yield {"taxonomy": "task", "task": task, "class": "", **threshold}
    classes = [
        {"taxonomy": "class", "task": task, "class": name, **threshold}
        for task, thresholds in conformal["classes"].items()
        for name, threshold in thresholds.items()
        if threshold["missing"]
    ]
    yield from sorted(classes, key=lambda line: line["scores"])


def _short(lines: list[dict[str, Any]]) -> Table:
    table = _table("infinite", "task", "class", "scores", "lacking", "add", "finite from alpha")
    for line in lines[:_ROWS]:
        smallest = line["smallest_alpha"]
        table.add_row(
            *(line["taxonomy"], printable(line["task"]), printable(line["class"])),
            *(str(line["scores"]), str(line["missing"]), str(line["to_add"])),
            "none" if smallest is None else f"{smallest:g}",
        )
    return _more(table, len(lines))


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _more(table: Table, rows: int) -> Table:
    if rows > _ROWS:
        table.add_row(f"and {rows - _ROWS} more")
    return table


def write_check(path: Path, findings: Finding, root: Path) -> None:
    """Write the page; the pictures of ``findings`` lie in the folder ``root``."""

    @cache
    def small(image: str) -> str | None:
        return thumbnail(root / image, _THUMBNAIL)

    page = PAGES.get_template("check.html").render(
        **findings,
        titles=WRONG,
        short=list(short_of(findings["conformal"])),
        all_splits=SPLITS,
        most=_SHOWN,
        thumbnail=small,
        wrong_count=sum(map(bool, findings["wrong"].values())),
    )
    # A file's name may hold bytes that are no UTF-8.
    path.write_bytes(page.encode("utf-8", "backslashreplace"))
