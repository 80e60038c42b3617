"""A batch's answers as HTML: what came of it in words, how far it is, and its table.

Everything that comes from outside is escaped here, as in ``cards``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.web import cards
from app.web.api import MOST_BYTES, MOST_UPLOAD_BYTES
from app.web.archive import MOST_PICTURES
from app.web.batch import Progress, Row, Run

#: Rows of one page of the table.
PAGE = 50

_STATES = {
    "sure": "Sure",
    "unsure": "Not sure",
    "unknown": "I don’t know",
    "error": "Not read",
}
#: Columns that the table can be ordered by: the order's name, the heading, the direction it has.
_ORDERS = {
    "given": ("No.", "ascending"),
    "name": ("Picture", "ascending"),
    "uncertain": ("Answer", "descending"),
    "unlike": ("Like calibration", "ascending"),
}
#: Classes that fit a cell.
_MOST_CHIPS = 6


def waiting() -> str:
    """What stands where the answers will be."""
    picture, upload = MOST_BYTES // 2**20, MOST_UPLOAD_BYTES // 2**30
    return (
        f'<div class="summary"><p>Up to {MOST_PICTURES:,} pictures at once, one by one or in zips: '
        f"{picture} MB at most for a picture, {upload} GB for a zip. Answers come as a table to "
        "sort and filter, and as files to download; they are gone when this page is closed.</p>"
        "</div>"
    )


def progress(at: Progress) -> str:
    """How far a run is, as a bar and in words."""
    percent = 100 * at.done // at.total
    words = f"{at.done:,} of {at.total:,} pictures"
    if at.left is not None and at.seconds > 1:
        words += f", {at.done / at.seconds:,.0f} a second, {_duration(at.left)} left"
    return (
        f'<div class="progress"><div class="track" role="progressbar" aria-label="Pictures '
        f'answered" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<span style="width:{percent}%"></span></div><p>{words}</p></div>'
    )


def summary(run: Run) -> str:
    """What came of a run, in words."""
    counts = run.counts
    answered = run.done - counts["error"]
    chips = "".join(
        f'<li class="{state}"><b>{counts[state]:,}</b> {_STATES[state].lower()}</li>'
        for state in ("sure", "unsure", "unknown", "error")
        if state != "error" or counts[state]
    ).replace("i don’t know", "“I don’t know”")
    unlike = counts["unlike"]
    if unlike:
        chips += f'<li class="unlike"><b>{unlike:,}</b> unlike the calibration pictures</li>'
    words = ""
    if answered:
        most = cards.share(run.alpha)
        misses = int(run.alpha * answered)
        about = f"about {misses:,}" if misses else "less than one"
        words = (
            f"At alpha {run.alpha:.4g} at most {most} of 100 sets miss the truth: of each "
            f"attribute’s {answered:,} {_plural('set', answered)} here, {about} on average, if the "
            "pictures are like the calibration pictures."
        )
        if answered >= 20 and unlike > 3 * cards.UNUSUAL * answered:
            words += (
                f" But {unlike:,} look unlike them, where {cards.UNUSUAL * answered:,.0f} would be "
                "usual: don’t rely on that here."
            )
    if run.left_out:
        files = _plural("other file", run.left_out)
        words += f" {run.left_out:,} {files} in the zip {_were(run.left_out)} left out."
    problem = ""
    if run.problem is not None:
        problem = (
            f'<p class="problem">{escape(run.problem[:1].upper() + run.problem[1:])} '
            f"{run.done:,} of {run.total:,} pictures were answered.</p>"
        )
    return (
        f'<div class="summary"><ul aria-label="What came of the batch">{chips}</ul>{problem}'
        f"<p>{words}</p></div>"
    )


def spoken(run: Run) -> str:
    """The end of a run, for those who listen."""
    counts = run.counts
    end = "The batch is done" if run.problem is None else "The batch ended early"
    return f"{end}: {counts['sure']} sure, {run.done} in all."


def table(run: Run, rows: Sequence[Row], order: str, page: int, found: int) -> str:
    """A page of the table with its headings and what turns pages.

    Args:
        rows: the rows of this page.
        order: what the table is ordered by.
        page: the page's number, from 0.
        found: rows of all pages.
    """
    first = page * PAGE
    shown = f"{run.done:,} {_plural('picture', run.done)}"
    if found < run.done:
        shown = f"{found:,} of {shown}"
    if found > PAGE:
        shown = f"{first + 1:,} to {first + len(rows):,} of {shown}"
    headings = "".join(
        [
            _heading("given", order),
            '<th scope="col"><span class="unseen">Thumbnail</span></th>',
            _heading("name", order),
            _heading("uncertain", order),
            *(f'<th scope="col">{escape(task)}</th>' for task in run.classes),
            '<th scope="col">All at once</th>' if len(run.classes) > 1 else "",
            _heading("unlike", order),
        ]
    )
    body = "".join(_row(row, run.classes) for row in rows)
    if not rows:
        body = f'<tr><td colspan="{6 + len(run.classes)}">No picture fits these filters.</td></tr>'
    return (
        f'<div class="batch"><div class="pager"><p>{shown}</p>'
        f"{_turn('previous', page > 0)}{_turn('next', first + PAGE < found)}</div>"
        '<div class="wide" role="region" tabindex="0" aria-label="Answers">'
        '<table><caption class="unseen">Answers to the batch, a row a picture</caption>'
        f"<thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def problem(sentence: str) -> str:
    """Why there is no table."""
    text = escape(sentence[:1].upper() + sentence[1:])
    return f'<div class="summary"><p class="problem" role="alert">{text}</p></div>'


def _heading(name: str, order: str) -> str:
    text, direction = _ORDERS[name]
    sort = f' aria-sort="{direction}"' if name == order else ""
    return (
        f'<th scope="col"{sort}><button type="button" data-do="order-{name}">{text}</button></th>'
    )


def _turn(which: str, possible: bool) -> str:
    off = "" if possible else " disabled"
    return f'<button type="button" data-do="{which}"{off}>{which.capitalize()}</button>'


def _row(row: Row, classes: Mapping[str, Sequence[str]]) -> str:
    name = escape(row.answer["image"])
    image = ""
    if row.thumbnail:
        data = base64.b64encode(row.thumbnail).decode()
        image = f'<img src="data:image/jpeg;base64,{data}" alt="" width="44" height="44">'
    start = (
        f'<tr class="{row.state}"><td class="number">{row.number + 1:,}</td><td>{image}</td>'
        f'<th scope="row">{name}</th><td class="state">{_STATES[row.state]}</td>'
    )
    if "error" in row.answer:
        span = len(classes) + 1 + (len(classes) > 1)
        reason = escape(row.answer["error"][:300])
        return f'{start}<td colspan="{span}">{reason[:1].upper() + reason[1:]}.</td></tr>'
    cells = "".join(
        f"<td>{_chips(row.answer['tasks'][task], len(names))}</td>"
        for task, names in classes.items()
    )
    if len(classes) > 1:
        cells += f'<td class="number">{_count(row.answer["joint"]["size"])}</td>'
    p = row.answer["outlier_p"]
    unlike = '<b class="unlike">unlike</b> ' if p <= cards.UNUSUAL else ""
    return f'{start}{cells}<td class="number">{unlike}{_p(p)}</td></tr>'


def _chips(of_task: Mapping[str, Any], classes: int) -> str:
    chosen = sorted(of_task["set"], key=lambda name: -of_task["p_values"][name])
    if not chosen:
        return f'<span class="chip none">no class, nearest {escape(of_task["top"])}</span>'
    if len(chosen) == classes:
        return f'<span class="chip none">all {classes} classes</span>'
    chips = "".join(f'<span class="chip">{escape(name)}</span>' for name in chosen[:_MOST_CHIPS])
    more = len(chosen) - _MOST_CHIPS
    return chips + (f'<span class="chip none">{more} more</span>' if more > 0 else "")


def _count(size: int) -> str:
    return f"{size:,}" if size < 10**6 else f"{size:.0e}" if size < 10**300 else "countless"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "&lt;0.001"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _plural(thing: str, n: int) -> str:
    return thing if n == 1 else f"{thing}s"


def _were(n: int) -> str:
    return "was" if n == 1 else "were"
