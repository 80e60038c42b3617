"""Answers as HTML: pure functions from what the classifier answered to what a person reads.

Everything that comes from outside (class names, file names, reasons) is escaped here, and nowhere
else. The looks are in ``static/style.css``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Any

#: An ordinary picture's outlier p-value falls to this or below once in twenty.
UNUSUAL = 0.05

#: More bars than this are summed up in one line.
_MOST_BARS = 30

#: Characters of class names that fit the chips' two lines on a card, and their one line below.
_CARD_ROOM, _JOINT_ROOM = 62, 44

#: Whom each taxonomy's promise is about.
_PROMISES = {
    "global": "Over all attributes together, at least {share} of 100 sets hold the truth.",
    "task": "At least {share} of 100 of these sets hold the truth.",
    "class": "Whatever the true class is, at least {share} of 100 of these sets hold it.",
    "cluster": "Within each group of alike classes, at least {share} of 100 sets hold the truth.",
}
_PROMISES["task_cluster"] = _PROMISES["cluster"]


def answer(answer: Mapping[str, Any], alpha: float, taxonomy: str) -> str:
    """The whole answer to one picture: how usual it is, a card a task, and the joint promise.

    Args:
        answer: what ``Classifier.answer`` gave.
        alpha: the accepted error rate it was asked for.
        taxonomy: the taxonomy it was asked for.
    """
    cards = "".join(
        card(task, of_task, alpha, taxonomy) for task, of_task in answer["tasks"].items()
    )
    return (
        f'<div class="answer" role="status">{usual(answer.get("outlier_p"))}'
        f'<div class="cards">{cards}</div>{together(answer, alpha)}</div>'
    )


def card(task: str, answer: Mapping[str, Any], alpha: float, taxonomy: str) -> str:
    """One task: a headline, its set as chips, every class's p-value as a bar, and the promise."""
    ranked = sorted(answer["p_values"].items(), key=lambda item: -item[1])
    kept = set(answer["set"])
    chosen = [name for name, _ in ranked if name in kept]
    state, headline, sentence = verdict(chosen, len(ranked), answer["top"], alpha)
    bars = "".join(_bar(name, p, name in kept) for name, p in ranked[:_MOST_BARS])
    bars += _rest(len(ranked))
    promise = (
        _PROMISES[taxonomy].format(share=share(1 - alpha))
        if chosen
        else f"At most {share(alpha)} of 100 sets miss, as this one does."
    )
    return (
        f'<section class="card {state}" aria-label="{escape(task)}">'
        f'<header><h2>{escape(task)}</h2><p class="headline">{headline}</p></header>'
        f'<div class="chips">{_chips(chosen, len(ranked), _CARD_ROOM)}</div>'
        f'<div class="axis"><span class="mark" style="left:{_percent(alpha)}">'
        f"alpha {_number(alpha)}</span></div>"
        f'<ul class="bars" style="--alpha:{_percent(alpha)}">{bars}</ul>'
        f'<p class="words">{sentence} {promise}</p></section>'
    )


def verdict(chosen: Sequence[str], classes: int, top: str, alpha: float) -> tuple[str, str, str]:
    """A set in words: its state (for the looks), a headline and a sentence, as HTML."""
    at, likeliest = f"at alpha {_number(alpha)}", f"<b>{escape(top)}</b>"
    if not chosen:
        sentence = f"No class looks usual enough {at}; {likeliest} comes nearest."
        return "unknown", "I don’t know, and that is honest", sentence
    if len(chosen) == classes:
        sentence = f"No class can be ruled out {at}; {likeliest} comes first."
        return "unknown", "I don’t know, and that is honest", sentence
    if len(chosen) == 1:
        others = "the other class is" if classes == 2 else f"the other {classes - 1} classes are"
        return "sure", "Sure", f"{others.capitalize()} ruled out {at}."
    sentence = f"These can’t be told apart {at}; {likeliest} comes first."
    return "unsure", f"One of {len(chosen)}", sentence


def usual(p: float | None) -> str:
    """One line on whether the picture is like those the promise was made for."""
    if p is None:
        return ""
    if p > UNUSUAL:
        return (
            f'<p class="usual"><b>Like the calibration pictures</b> (p = {_p(p)}). '
            "The promises below hold for such pictures.</p>"
        )
    return (
        f'<p class="usual outlier" role="alert"><b>Unlike the calibration pictures</b> '
        f"(p = {_p(p)}): at most {math.ceil(100 * p)} of 100 ordinary pictures would look this "
        "odd. Don’t rely on the promises below.</p>"
    )


def together(answer: Mapping[str, Any], alpha: float) -> str:
    """The joint promise: one set a task, all of them right at once."""
    joint = answer["joint"]
    sets: Mapping[str, Sequence[str]] = joint["sets"]
    if len(sets) < 2:
        return ""
    parts = ""
    for task, chosen in sets.items():
        p_values = answer["tasks"][task]["p_values"]
        ranked = sorted(chosen, key=lambda name: -p_values[name])
        chips = _chips(ranked, len(p_values), _JOINT_ROOM)
        parts += f'<div class="part"><i>{escape(task)}</i>{chips}</div>'
    size = joint["size"]
    count = "No combination" if size == 0 else f"{size:,} combination{'s' if size > 1 else ''}"
    every = "both sets" if len(sets) == 2 else f"all {len(sets)} sets"
    return (
        '<section class="together" aria-label="All at once"><header><h2>All at once</h2>'
        f'<p class="headline">{count}</p></header><div class="parts">{parts}</div>'
        f'<p class="words">For at least {share(1 - alpha)} of 100 pictures {every} hold the '
        "truth at once: more to ask, so they can be larger.</p></section>"
    )


def waiting(classes: Mapping[str, Sequence[str]]) -> str:
    """What stands where the answer will be: the same cards with empty bars, so nothing jumps."""
    cards = "".join(
        f'<section class="card" aria-label="{escape(task)}"><header><h2>{escape(task)}</h2>'
        f'</header><div class="chips"><span class="chip none">one of {len(names)} classes</span>'
        f'</div><div class="axis"></div><ul class="bars">'
        f"{''.join(_bar(name) for name in names[:_MOST_BARS])}{_rest(len(names))}</ul>"
        '<p class="words">&nbsp;</p></section>'
        for task, names in classes.items()
    )
    return (
        '<div class="answer waiting"><p class="usual">Choose a picture: upload, paste, take one, '
        f'or pick an example.</p><div class="cards">{cards}</div></div>'
    )


def unreadable(reason: str) -> str:
    """A picture that can't be answered, and why."""
    return (
        '<div class="answer"><section class="notice error" role="alert"><h2>This picture can’t be '
        f"read</h2><p>{_sentence(reason)}. Try another file.</p></section></div>"
    )


def no_bundle(problem: str) -> str:
    """Why there is no bundle in service, which says how to make one."""
    return (
        f'<section class="notice"><h2>No model in service yet</h2><p>{_sentence(problem)}</p>'
        "<p>Without pictures of your own it draws a sample set of vehicles first. This page "
        "notices when the model is ready; there is nothing to restart.</p></section>"
    )


def header(name: str | None, metrics: Mapping[str, Any] | None, problem: str | None = None) -> str:
    """The top line: what is served, and how often it was right when last measured."""
    facts = ""
    if metrics is not None:
        measured = ", ".join(
            f"{escape(task)} {100 * of_task['coverage']:.1f} %"
            for task, of_task in metrics["tasks"].items()
        )
        pictures = max(of_task["n_test"] for of_task in metrics["tasks"].values())
        facts = (
            f'<p class="facts"><b>{escape(name or "")}</b><span>on {pictures:,} test pictures at '
            f"alpha {_number(metrics['alpha'])} the truth was in the set: {measured}</span></p>"
        )
        if problem is not None:
            facts += (
                f'<p class="problem">{_sentence(problem)} Until then {escape(name or "")} stays in '
                "service.</p>"
            )
    return (
        '<div class="top"><h1>Sureset</h1><p class="tagline">Pictures in, guaranteed answers out.'
        f"</p>{facts}</div>"
    )


def examples(model: str, names: Sequence[str]) -> str:
    """A strip of pictures to pick from; a press tells the page its number."""
    if not names:
        return ""
    pictures = "".join(
        f'<button type="button" data-example="{number}" aria-label="Example {number + 1}">'
        f'<img src="examples/{escape(model)}/{number}" alt="{escape(name)}" loading="lazy">'
        "</button>"
        for number, name in enumerate(names)
    )
    return f'<div class="examples" role="group" aria-label="Examples">{pictures}</div>'


def share(fraction: float) -> str:
    """0.9 -> ``90``; 0.955 -> ``95.5``; 0.9999 -> ``99.99``, for a promise is not rounded up."""
    return f"{100 * fraction:.10g}"


def _chips(chosen: Sequence[str], classes: int, room: int) -> str:
    """As many names as ``room`` characters hold; the bars show them all."""
    if not chosen:
        return '<span class="chip none">no class</span>'
    if len(chosen) == classes:
        return f'<span class="chip none">all {classes} classes</span>'
    ends = accumulate(len(name) + 3 for name in chosen)
    fitting = max(1, sum(end <= room for end in ends))
    chips = "".join(f'<span class="chip">{escape(name)}</span>' for name in chosen[:fitting])
    more = len(chosen) - fitting
    return chips + (f'<span class="chip none">{more} more</span>' if more else "")


def _bar(name: str, p: float | None = None, kept: bool = False) -> str:
    bar, value = ("", "") if p is None else (f'<span style="width:{_percent(p)}"></span>', _p(p))
    return (
        f'<li class="{"in" if kept else "out"}"><span class="name" title="{escape(name)}">'
        f'{escape(name)}</span><span class="track">{bar}</span><span class="p">{value}</span></li>'
    )


def _rest(classes: int) -> str:
    """The line for classes that get no bar; they are the least likely."""
    rest = classes - _MOST_BARS
    return f'<li class="rest">and {rest} less likely ones</li>' if rest > 0 else ""


def _sentence(text: str) -> str:
    """A message as HTML, from its capital letter to what it quotes of the command line."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text[:1].upper() + text[1:]))


def _p(p: float) -> str:
    """Three decimals, so that columns of them line up. Safe to put into HTML."""
    return f"{p:.3f}" if p >= 0.0005 else "&lt;0.001"


def _number(alpha: float) -> str:
    return f"{alpha:.2f}" if round(alpha, 2) == alpha else f"{alpha:.4g}"


def _percent(fraction: float) -> str:
    return f"{100 * min(max(fraction, 0.0), 1.0):.2f}%"
