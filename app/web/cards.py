"""Answers as HTML: pure functions from what the classifier answered to what a person reads.

Everything that comes from outside (class names, file names, reasons) is escaped here, and nowhere
else. The looks are in ``static/style.css``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Any, NamedTuple

#: An ordinary picture's outlier p-value falls to this or below once in twenty.
UNUSUAL = 0.05

#: More bars than this are summed up in one line.
_MOST_BARS = 30

#: Characters of class names that fit the chips' two lines on a card, one of them, and their line
#: below.
_CARD_ROOM, _LINE_ROOM, _JOINT_ROOM = 46, 22, 44

#: Shown while another picture is read, in the place of the line that is there then.
_BUSY = '<p class="usual busy" role="status">Looking at the picture …</p>'

#: Whom each taxonomy's promise is about.
_PROMISES = {
    "global": "Over all attributes together, at least {share} of 100 sets hold the truth.",
    "task": "At least {share} of 100 of these sets hold the truth.",
    "class": "Whatever the true class is, at least {share} of 100 of these sets hold it.",
    "cluster": "Within each group of alike classes, at least {share} of 100 sets hold the truth.",
}
_PROMISES["task_cluster"] = _PROMISES["cluster"]


class Look(NamedTuple):
    """What the score of one class of a task looked at.

    Attributes:
        name: the class.
        address: of the heat map; None when there is nothing to be seen in it.
    """

    name: str
    address: str | None


def answer(
    answer: Mapping[str, Any],
    alpha: float,
    taxonomy: str,
    looks: Mapping[str, Look] | None = None,
    truth: Mapping[str, str] | None = None,
) -> str:
    """The whole answer to one picture: how usual it is, a card a task, and the joint promise.

    Args:
        answer: what ``Classifier.answer`` gave.
        alpha: the accepted error rate it was asked for.
        taxonomy: the taxonomy it was asked for.
        looks: of each task, what is shown of one class; none where the bundle has no heat maps.
        truth: the true classes by task, where they are known.
    """
    looks, truth = looks or {}, truth or {}
    cards = "".join(
        card(task, of_task, alpha, taxonomy, looks.get(task), truth.get(task), number)
        for number, (task, of_task) in enumerate(answer["tasks"].items())
    )
    return (
        f'<div class="answer">{_BUSY}{_announced(answer, alpha)}{usual(answer.get("outlier_p"))}'
        f'<div class="cards">{cards}</div>{_how_to_read(bool(looks))}'
        f"{together(answer, alpha)}</div>"
    )


def card(
    task: str,
    answer: Mapping[str, Any],
    alpha: float,
    taxonomy: str,
    look: Look | None = None,
    truth: str | None = None,
    number: int = 0,
) -> str:
    """One task: a headline, its set as chips, every class's p-value as a bar, and the promise.

    With a ``look`` there is a heat map, and a press on a bar tells the page the task's ``number``
    and that of the class, to look at that.
    """
    ranked = _ranked(answer)
    kept = set(answer["set"])
    chosen = [name for name, _ in ranked if name in kept]
    state, headline, sentence = verdict(chosen, len(ranked), answer["top"], alpha)
    codes = {name: code for code, name in enumerate(answer["p_values"])}
    bars = "".join(
        _bar(name, p, name in kept, look and (f"{number} {codes[name]}", name == look.name))
        for name, p in ranked[:_MOST_BARS]
    )
    bars += _rest(len(ranked))
    room = _CARD_ROOM if truth is None else _LINE_ROOM
    promise = (
        _PROMISES[taxonomy].format(share=share(1 - alpha))
        if chosen
        else f"At most {share(alpha)} of 100 sets miss, as this one does."
    )
    return (
        f'<section class="card {state}" aria-label="{escape(task)}">'
        f'<header><h2>{escape(task)}</h2><p class="headline">{headline}</p></header>'
        f'<div class="found"><div class="chips">{_chips(chosen, len(ranked), room)}'
        f"{_truth(truth, kept)}</div>{_heat(look)}</div>"
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
            f'<p class="usual"><b>Like the calibration pictures</b> (p = {_p(p)}): some '
            f"{math.floor(100 * p)} of 100 of them look at least this odd. The promises below "
            "hold.</p>"
        )
    return (
        f'<p class="usual outlier" role="alert"><b>Unlike the calibration pictures</b> '
        f"(p = {_p(p)}): at most {math.ceil(100 * p)} of 100 ordinary ones look this odd. Don’t "
        "rely on the promises.</p>"
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
        f'<p class="words">So many stay possible: for at least {share(1 - alpha)} of 100 '
        f"pictures {every} hold the truth at once, which is more to ask, so they can be larger."
        "</p></section>"
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
        f'<div class="answer waiting">{_BUSY}<p class="usual">Choose a picture: upload, paste, '
        f'take one, or pick an example.</p><div class="cards">{cards}</div></div>'
    )


def unreadable(reason: str) -> str:
    """A picture that can't be answered, and why."""
    return (
        f'<div class="answer">{_BUSY}<section class="notice error" role="alert"><h2>This picture '
        f"can’t be read</h2><p>{_sentence(reason)}. Try another file.</p></section></div>"
    )


def no_bundle(problem: str) -> str:
    """Why there is no bundle in service, which says how to make one."""
    return (
        f'<section class="notice"><h2>No model in service yet</h2><p>{_sentence(problem)}</p>'
        "<p>Without pictures of your own it draws a sample set of vehicles first. This page "
        "notices when the model is ready; there is nothing to restart.</p></section>"
    )


def header(
    name: str | None,
    metrics: Mapping[str, Any] | None,
    problem: str | None = None,
    note: str | None = None,
) -> str:
    """The top line: what answers, and how often it was right when last measured.

    ``problem`` is why a newer bundle is not in service; ``note`` what to know of the page's choice.
    """
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
    line = "Pictures in, guaranteed answers out." if note is None else _sentence(note)
    kind = "tagline" if note is None else "note"
    return f'<div class="top"><h1>Sureset</h1><p class="{kind}">{line}</p>{facts}</div>'


def examples(model: str, truths: Sequence[Mapping[str, str]]) -> str:
    """A strip of pictures to pick from, each with its truth; a press tells the page its number."""
    if not truths:
        return ""
    pictures = ""
    for number, truth in enumerate(truths):
        told = escape(", ".join(f"{task} {name}" for task, name in truth.items()))
        pictures += (
            f'<button type="button" data-example="{number}" title="{told}" '
            f'aria-label="Example {number + 1}: {told}">'
            f'<img src="examples/{escape(model)}/{number}" alt="" loading="lazy"></button>'
        )
    return (
        '<div class="examples" role="group" aria-label="Examples, each with its truth">'
        f"{pictures}</div>"
    )


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


def _truth(truth: str | None, kept: Container[str]) -> str:
    """Whether the set holds what is known to be true."""
    if truth is None:
        return ""
    state, said = ("held", "in the set") if truth in kept else ("missed", "not in the set")
    return f'<p class="truth {state}">The truth is <b>{escape(truth)}</b><span>: {said}</span></p>'


def _heat(look: Look | None) -> str:
    if look is None:
        return ""
    if look.address is None:
        return (
            '<figure class="heat"><figcaption>The last layer sees nothing of '
            f"{escape(look.name)}</figcaption></figure>"
        )
    return (
        f'<figure class="heat"><img src="{look.address}" width="74" height="74" alt="The picture, '
        f'bright where the network’s last layer sees {escape(look.name)}"></figure>'
    )


def _how_to_read(heat: bool) -> str:
    """What the numbers beside the bars are, and the heat maps."""
    press = (
        " Press a class to see, bright, where the network’s last layer finds it: what earlier "
        "layers see counts too, and is not shown."
    )
    return (
        '<p class="reading">Beside each class stands its p-value, the share of calibration '
        "pictures whose true class fits them no better than it fits this one."
        f"{press if heat else ''}</p>"
    )


def _announced(answer: Mapping[str, Any], alpha: float) -> str:
    """The answer in a few words, for those who hear the page."""
    said = []
    for task, of_task in answer["tasks"].items():
        ranked = _ranked(of_task)
        chosen = [name for name, _ in ranked if name in of_task["set"]]
        _, headline, _ = verdict(chosen, len(ranked), of_task["top"], alpha)
        some = ", ".join(chosen[:5]) if len(chosen) < len(ranked) else ""
        said.append(f"{escape(task)}: {headline}{': ' if some else ''}{escape(some)}.")
    return f'<p class="unseen" role="status">{" ".join(said)}</p>'


def _ranked(answer: Mapping[str, Any]) -> list[tuple[str, float]]:
    return sorted(answer["p_values"].items(), key=lambda item: -item[1])


def _bar(
    name: str,
    p: float | None = None,
    kept: bool = False,
    press: tuple[str, bool] | None = None,
) -> str:
    """A line of a class; ``press`` is what a press on it tells the page, and whether it did."""
    bar, value = ("", "") if p is None else (f'<span style="width:{_percent(p)}"></span>', _p(p))
    line = (
        f'<span class="name" title="{escape(name)}">{escape(name)}</span>'
        f'<span class="track">{bar}</span><span class="p">{value}</span>'
    )
    if press is not None:
        told, pressed = press
        state = "true" if pressed else "false"
        line = f'<button type="button" data-look="{told}" aria-pressed="{state}">{line}</button>'
    return f'<li class="{"in" if kept else "out"}">{line}</li>'


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
