"""Choose the method on the validation split, where a setting says ``auto``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from app.bundle import Facts
from app.conformal import SCORES, TAXONOMIES
from app.conformal.choice import HALVINGS, Candidate, Choice, choose, halve, measure_candidates
from app.conformal.resplits import Division
from app.conformal.spaces import JOINT
from app.data.splits import ties
from app.errors import SuresetError
from app.pipeline.pictures import Pictures
from app.progress import progress, say
from app.settings import AUTO, METHOD, Settings, flag_name
from app.vision.heads import Heads, joint_is_feasible


def is_asked_for(settings: Settings) -> bool:
    """Whether any part of the method is left to be chosen."""
    return AUTO in settings.model_dump(include=set(METHOD)).values()


def check_choosable(pictures: Pictures, settings: Settings) -> None:
    """See to it, where a method is to be chosen, that the validation split is large enough.

    Raises:
        SuresetError: it is not.
    """
    if is_asked_for(settings):
        _halvings(pictures.take(pictures.rows("valid")), settings)


def choose_method(
    facts: Facts,
    settings: Settings,
    heads: Heads,
    pictures: Pictures,
    features: NDArray[np.float32],
) -> Settings:
    """Put a method in the place of every ``auto``, chosen on the validation split alone.

    It asks for features of validation pictures and for no others, so calibration and test pictures
    cannot have a say. Where training read the validation pictures on CUDA, the choice was made with
    probabilities a little different from those that are served; the guarantee does not rest on it.

    Args:
        facts: what becomes the bundle's; what was asked, and what every candidate came to, is added
            as ``chosen`` (or removed, where nothing was left to be chosen).
        settings: what was asked.
        heads: the fitted heads.
        pictures: n pictures, of which the validation split is used.
        features: their features, (n, d).

    Raises:
        SuresetError: the validation split is too small.
    """
    if not is_asked_for(settings):
        facts.pop("chosen", None)
        return settings
    rows = pictures.rows("valid")
    valid = pictures.take(rows)
    halvings = _halvings(valid, settings)
    feasible = ["taskwise", JOINT] if joint_is_feasible(heads.classes) else ["taskwise"]
    probs = {
        (head, space): heads.probabilities(features[rows], head, space)
        for head in _candidates(settings.head, feasible)
        for space in _candidates(settings.space, feasible)
    }
    scores = _candidates(settings.score, list(SCORES))
    # The default first: in the joint space it equals ``global``, and of equals the first is taken.
    taxonomies = _candidates(settings.taxonomy, sorted(TAXONOMIES, key=lambda name: name != "task"))
    table = []
    problem = probs, valid.manifest.labels, heads.classes
    with progress("choosing", len(probs) * len(scores) * len(taxonomies), "methods") as advance:
        for candidate in measure_candidates(*problem, scores, taxonomies, settings.alpha, halvings):
            table.append(candidate)
            advance(1)
    choice = choose(table)
    facts["chosen"] = {
        "asked": settings.model_dump(include=set(METHOD)),
        "alpha": settings.alpha,
        "pictures": len(rows),
        "halvings": HALVINGS,
        "measured": asdict(choice.chosen),
        "reference": asdict(choice.reference),
        "candidates": [asdict(candidate) for candidate in table],
    }
    say(_explain(choice, len(table), len(rows)))
    return settings.model_copy(update={name: getattr(choice.chosen, name) for name in METHOD})


def _halvings(valid: Pictures, settings: Settings) -> list[Division]:
    tied = ties(valid.digests, valid.manifest.group)
    try:
        return halve(valid.manifest.labels, settings.alpha, settings.seed, tied)
    except ValueError as error:
        auto = [flag_name(name) for name in METHOD if getattr(settings, name) == AUTO]
        raise SuresetError(
            f"the {len(valid.manifest)} pictures in the valid split of {valid.manifest.root} are "
            f"too few to choose a method on ({error}): name it with {', '.join(auto)}, or add "
            "pictures."
        ) from error


def _candidates(asked: str, every: Sequence[str]) -> Sequence[str]:
    return every if asked == AUTO else [asked]


def _explain(choice: Choice, candidates: int, pictures: int) -> str:
    """One line: what was chosen, and what it came to beside the reference."""
    chosen, reference = choice.chosen, choice.reference
    beside = (
        "no other has smaller sets at no larger gap"
        if chosen == reference
        else f"{_name(reference)} has {_measured(reference)}"
    )
    return (
        f"chosen among {candidates} methods on {pictures} validation pictures: {_name(chosen)} "
        f"with {_measured(chosen)}; {beside}"
    )


def _name(candidate: Candidate) -> str:
    return (
        f"{candidate.head} head, {candidate.space} space, {candidate.score} score, "
        f"{candidate.taxonomy} taxonomy"
    )


def _measured(candidate: Candidate) -> str:
    return (
        f"{candidate.avg_set_size:.2f} classes a set and a class coverage gap of "
        f"{candidate.covgap:.3f}"
    )
