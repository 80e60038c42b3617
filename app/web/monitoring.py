"""Feedback as HTML: the form that takes true classes, and whether the promise holds by them.

Pure functions, as in ``cards``: all that comes from outside is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from app.conformal.spaces import JOINT
from app.pipeline.monitor import FALSE_ALARM, Course
from app.web.cards import share

#: The plot, in its own units; it is as wide as its card.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 360, 132, 40, 16
_POINTS = 60
_LINE = 12
#: As long as a bound is wider, it says little.
_WIDE = 0.2

#: For each state of a course: its class, for the looks, and its headline.
_HEADLINES = {
    "none": ("unknown", "Nothing told yet"),
    "early": ("unknown", "Too early to tell"),
    "free": ("unknown", "No promise of its own"),
    "holding": ("sure", "Holding"),
    "alarm": ("unsure", "The pictures have changed"),
    "broken": ("broken", "Not kept"),
}


def truth_form(classes: Mapping[str, Sequence[str]], said: str = "", wrong: bool = False) -> str:
    """The form that takes the true classes; closed, unless there is something to say."""
    tasks = "".join(
        f'<label><span>{escape(task)}</span><select name="{escape(task)}">'
        '<option value="">I don’t know</option>'
        f"{''.join(f'<option>{escape(name)}</option>' for name in names)}</select></label>"
        for task, names in classes.items()
    )
    role = "alert" if wrong else "status"
    message = f'<p class="said{" wrong" if wrong else ""}" role="{role}">{escape(said)}</p>'
    return (
        f'<details class="tell"{" open" if said else ""}>'
        "<summary>Do you know the truth? Tell it</summary>"
        f'<form><div class="tasks">{tasks}</div>'
        '<button type="submit">Send the truth</button>'
        f"{message if said else ''}</form></details>"
    )


def monitoring(name: str, told: int, courses: Mapping[str, Course], needed: int) -> str:
    """Whether a bundle's promise holds, by what was told of its answers.

    Args:
        told: pictures that were told of.
        needed: pictures told of completely that a new calibration needs.
    """
    cards = "".join(_card(_title(task), course) for task, course in courses.items())
    complete = len(list(courses.values())[-1].covered)
    missing = needed - complete
    enough = (
        "That is enough to calibrate a new bundle on."
        if missing <= 0
        else f"{missing} more with all their classes are needed to calibrate a new bundle on."
    )
    few = (
        "No picture was told of yet" if told == 0 else f"<b>{told:,}</b> {_pictures(told)} told of"
    )
    return (
        f'<div class="monitoring"><p class="usual {_overall(courses)}">{_summary(courses)}</p>'
        f'<p class="lead">{few}, of answers by <b>{escape(name)}</b>. {enough} What is said here '
        "holds for pictures like those that people tell of: tell of right answers as often as of "
        f'wrong ones.</p><div class="cards">{cards}</div></div>'
    )


def unreadable(reason: str) -> str:
    """Why there is nothing to show."""
    return (
        '<div class="monitoring"><section class="notice error" role="alert"><h2>The feedback can’t '
        f"be used</h2><p>{escape(reason[:1].upper() + reason[1:])}</p></section></div>"
    )


def renewed(name: str, old: str, coverage: Mapping[str, float], served: bool) -> str:
    """What came of a new calibration."""
    found = ", ".join(f"{escape(_title(task))} {_percent(c)}" for task, c in coverage.items())
    serving = (
        "It is in service from now on, and feedback is counted anew for it."
        if served
        else f"To put it in service, start the server with <code>--model {escape(name)}</code>."
    )
    return (
        f'<p class="said" role="status">The new bundle is <b>{escape(name)}</b>. On feedback that '
        f"it was not calibrated on, the truth was in the set: {found}. {serving} "
        f"<b>{escape(old)}</b> is still there.</p>"
    )


def refused(reason: str) -> str:
    """Why nothing was calibrated."""
    return (
        '<p class="said wrong" role="alert">No new bundle: '
        f"{escape(reason)} What is in service stays.</p>"
    )


def _title(task: str) -> str:
    return "All at once" if task == JOINT else task


def _pictures(n: int) -> str:
    return "picture was" if n == 1 else "pictures were"


def state(course: Course) -> str:
    """One of those in ``_HEADLINES``, the worst that applies."""
    if not len(course.covered):
        return "none"
    if not course.kept:
        return "broken"
    if course.alarm:
        return "alarm"
    if course.promised is None:
        return "free"
    low, high = course.interval()
    return "early" if high - low > _WIDE else "holding"


def _overall(courses: Mapping[str, Course]) -> str:
    states = {state(course) for course in courses.values()}
    return "outlier" if states & {"broken", "alarm"} else ""


def _summary(courses: Mapping[str, Course]) -> str:
    """The first sentence, of all tasks together."""
    of = {task: state(course) for task, course in courses.items()}
    broken = [escape(_title(task)) for task, found in of.items() if found == "broken"]
    changed = [escape(_title(task)) for task, course in courses.items() if course.alarm]
    if broken:
        return (
            f"<b>The promise is not kept</b> ({', '.join(broken)}): sets hold the truth less often "
            "than promised. Calibrate again, below."
        )
    if changed:
        return (
            f"<b>The pictures have changed</b> ({', '.join(changed)}): they are no longer like "
            "those of calibration, on which the promise rests. Calibrate again, below."
        )
    if set(of.values()) == {"none"}:
        return (
            "<b>Nothing is known yet.</b> Open an answer under “One picture”, and tell which "
            "classes are true."
        )
    if "holding" not in of.values():
        return "<b>It is too early to tell</b>: the more is told, the narrower are the bounds."
    return "<b>The promise may well hold</b>: nothing that was told speaks against it."


def _card(title: str, course: Course) -> str:
    looks, headline = _HEADLINES[state(course)]
    n, covered = len(course.covered), int(course.covered.sum())
    return (
        f'<section class="card {looks}" aria-label="{escape(title)}"><header>'
        f'<h2>{escape(title)}</h2><p class="headline">{headline}</p></header>'
        f'<p class="words">{_coverage_in_words(course, n, covered)}</p>{plot(title, course)}'
        f'<p class="words">{_alarm_in_words(course)}</p></section>'
    )


def _coverage_in_words(course: Course, n: int, covered: int) -> str:
    if n == 0:
        promised = "" if course.promised is None else f" {_percent(course.promised)} is promised."
        return f"How often the set holds the truth will stand here.{promised}"
    low, high = course.interval()
    text = (
        f"<b>{_percent(covered / n)}</b>: {covered:,} of {n:,} sets held the truth. In the long "
        f"run it is between {_percent(low)} and {_percent(high)} of such pictures"
    )
    if course.promised is None:
        return f"{text}; this taxonomy promises it of the attributes together, not of this one."
    promised = _percent(course.promised)
    if not course.kept:
        return (
            f"{text}: <b>less than the {promised} that is promised</b>, and less than the draw of "
            "the calibration pictures can explain."
        )
    if high < course.promised:
        return (
            f"{text}, and {promised} is promised; that much less can be the luck of the draw of "
            "the calibration pictures."
        )
    return f"{text}, and {promised} is promised."


def _alarm_in_words(course: Course) -> str:
    if course.log_limit is None or course.log_peak is None or course.log_martingale is None:
        return "Whether the pictures have changed is watched for all attributes at once."
    if course.alarm:
        return (
            "<b>Alarm: the pictures are no longer like those of calibration.</b> The evidence "
            f"reached {_evidence(course.log_peak)} to 1, and {_evidence(course.log_limit)} to 1 "
            f"rings: for no reason in one bundle of {round(1 / FALSE_ALARM)} at most."
        )
    return (
        "No alarm: nothing shows that the pictures have changed. The evidence for it is "
        f"{_evidence(course.log_martingale)} to 1, and {_evidence(course.log_limit)} to 1 rings."
    )


def _evidence(log: float) -> str:
    if log > math.log(1e6):
        return "more than a million"
    value = math.exp(log)
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def plot(title: str, course: Course) -> str:
    """Coverage after each answer as a line, its bound as a band, and what is promised, dashed."""
    n = len(course.covered)
    at = np.unique(np.linspace(1, n, _POINTS).round().astype(int)) if n else np.empty(0, int)
    hits = np.cumsum(course.covered)
    coverage = [float(hits[k - 1] / k) for k in at]
    bounds = [course.interval(int(k)) for k in at]
    lows = [course.promised if course.promised is not None else 1.0]
    if n:
        lows += [coverage[-1], bounds[-1][0]]
    floor = max(0.0, math.floor(10 * min(lows) - 0.5) / 10)

    def x(k: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - 4) * (k - 1) / max(n - 1, 1):.1f}"

    def y(value: float) -> str:
        inside = (min(max(value, floor), 1) - floor) / (1 - floor)
        return f"{_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 8) * inside:.1f}"

    marks = [floor, 1.0]
    if course.promised is not None and float(y(course.promised)) - float(y(1)) < _LINE:
        marks.pop()  # There is no room for both.
    parts = [
        f'<text x="{_LEFT - 6}" y="{y(v)}" dy="4" text-anchor="end">{100 * v:.0f} %</text>'
        for v in marks
    ]
    if n:
        upper = " ".join(f"{x(k)},{y(b[1])}" for k, b in zip(at, bounds, strict=True))
        lower = " ".join(f"{x(k)},{y(b[0])}" for k, b in zip(at[::-1], bounds[::-1], strict=True))
        line = " ".join(f"{x(k)},{y(c)}" for k, c in zip(at, coverage, strict=True))
        parts += [
            f'<polygon class="band" points="{upper} {lower}"/>',
            f'<polyline class="line" points="{line}"/>',
            f'<circle class="dot" cx="{x(n)}" cy="{y(coverage[-1])}" r="3"/>',
            f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 3}" text-anchor="end">{n:,} told of</text>',
            f'<text x="{_LEFT}" y="{_HEIGHT - 3}">1</text>',
        ]
    if course.promised is not None:
        place = y(course.promised)
        parts += [
            f'<line class="promised" x1="{_LEFT}" x2="{_WIDTH - 4}" y1="{place}" y2="{place}"/>',
            f'<text x="{_LEFT - 6}" y="{place}" dy="4" text-anchor="end">'
            f"{_percent(course.promised)}</text>",
        ]
    told = "nothing told yet"
    if n:
        low, high = bounds[-1]
        told = (
            f"{_percent(coverage[-1])} after {n} answers, from {_percent(low)} to {_percent(high)}"
        )
    return (
        f'<svg class="course" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: coverage {told}">{"".join(parts)}</svg>'
    )


def _percent(fraction: float) -> str:
    """0.9 -> ``90 %``, 0.9583 -> ``95.8 %``, with a space that no line breaks at."""
    return f"{share(round(fraction, 3))}\u00a0%"
