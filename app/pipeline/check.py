"""What a folder's pictures and labels are, what is wrong with them, and what that means for alpha.

Pictures are split as training with the same seed would split them.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from app.conformal.calibration import fewest_scores
from app.conformal.checks import as_alpha
from app.conformal.simultaneous import fewest_to_calibrate
from app.conformal.spaces import completely_labelled
from app.data.checking.copies import Copies, Copy, described, find_copies, given_two_splits
from app.data.checking.labels import Combinations, TaskCounts, count_combinations, count_labels
from app.data.checking.looks import Looks, look
from app.data.layouts import read_manifest
from app.data.manifest import SPLITS, Manifest
from app.data.splits import SHARES, assign
from app.disk import writing
from app.errors import SuresetError
from app.pipeline.pictures import (
    Pictures,
    check_held_out,
    check_names,
    check_training,
)
from app.progress import say
from app.report.check import print_check, write_check
from app.settings import Settings

Names = NDArray[np.str_]

#: The smallest alphas are rounded up to so many parts of 1.
_PARTS = 10**4


@dataclass(frozen=True)
class Found:
    """What there is; ``identical`` and ``alike`` count groups of pictures, harmless ones too."""

    pictures: int
    readable: int
    splits: dict[str, int]
    tasks: dict[str, TaskCounts]
    combinations: Combinations | None
    identical: int
    alike: int


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be decoded to its end."""

    image: str
    reason: str


@dataclass(frozen=True)
class Wrong:
    """What somebody should mend.

    Attributes:
        unreadable: pictures that training leaves out.
        identical_with_different_labels: groups of the same bytes.
        alike_with_different_labels: groups of other bytes that look the same.
        alike_across_splits: groups of those that are in several splits.
        given_two_splits: groups of copies, or of one ``group``, that are given different splits.
        refused: the sentences that training would end with.
    """

    unreadable: list[Unreadable]
    identical_with_different_labels: list[Copies]
    alike_with_different_labels: list[Copies]
    alike_across_splits: list[Copies]
    given_two_splits: list[list[Copy]]
    refused: list[str]


@dataclass(frozen=True)
class Odd:
    """A picture that somebody may want to look at, and its size in pixels."""

    image: str
    width: int
    height: int


@dataclass(frozen=True)
class Threshold:
    """Whether so many calibration scores allow a finite threshold.

    Attributes:
        scores: how many there are.
        missing: how many calibration pictures it lacks at this alpha, 0 where it is finite.
        to_add: how many pictures to add to the folder for that, about, as splits are drawn.
        smallest_alpha: the least alpha at which it is finite, None without scores.
    """

    scores: int
    missing: int
    to_add: int
    smallest_alpha: float | None


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of the taxonomies whose groups are known beforehand, at one alpha.

    Attributes:
        needed: the scores that a finite threshold needs.
        task: of each task, the taxonomy ``task``: all its scores share one.
        classes: of each task and class, the taxonomy ``class``.
        simultaneous: of the sets of all tasks at once, which half of the calibration pictures
            calibrate; ``missing`` and ``to_add`` count pictures labelled for every task. None where
            there is one task.
    """

    needed: int
    task: dict[str, Threshold]
    classes: dict[str, dict[str, Threshold]]
    simultaneous: Threshold | None


@dataclass(frozen=True)
class Findings:
    """All of it; ``look_at`` names pictures by what a person may find odd, the worst first."""

    data: str
    layout: str
    alpha: float
    seed: int
    found: Found
    wrong: Wrong
    look_at: dict[str, list[Odd]]
    conformal: Thresholds


def check(settings: Settings) -> bool:
    """Print what is found, and write ``check.json`` and ``check.html`` under the logs.

    Returns:
        Whether something is wrong.

    Raises:
        SuresetError: the labels cannot be read, or the findings not written.
    """
    manifest = read_manifest(settings.data_dir, settings.layout)
    folder = settings.logs_dir / "data-check"
    with writing("what is found", folder, "--logs"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    findings = asdict(find(manifest, look(manifest), settings.alpha, settings.seed))
    print_check(findings)
    with writing("what was found", folder, "--logs"):
        text = json.dumps(findings, allow_nan=False, indent=1)
        (folder / "check.json").write_text(text + "\n", encoding="utf-8")
        write_check(folder / "check.html", findings, settings.data_dir)
    say(f"all of it: {folder / 'check.json'}")
    say(f"the page: {folder / 'check.html'}")
    return any(findings["wrong"].values())


def find(manifest: Manifest, looks: Looks, alpha: float, seed: int) -> Findings:
    """All findings."""
    n = len(manifest)
    begun = np.setdiff1d(np.arange(n), list(looks.unreadable))
    split = np.full(n, "", "<U5")
    split[begun] = _split(manifest.take(begun), looks.digests[begun], seed)
    readable = np.setdiff1d(begun, list(looks.broken))
    unreadable = dict(sorted((looks.unreadable | looks.broken).items()))
    reasons = {manifest.images[row]: reason for row, reason in unreadable.items()}
    pictures = Pictures(manifest.take(readable), looks.digests[readable], split[readable], reasons)
    copies = find_copies(manifest, split, looks, readable)
    near = [group for group in copies if group.alike != "bytes"]
    return Findings(
        data=str(manifest.root),
        layout=manifest.layout,
        alpha=alpha,
        seed=seed,
        found=Found(
            pictures=n,
            readable=len(readable),
            splits=pictures.sizes(),
            tasks=count_labels(pictures.manifest, pictures.split),
            combinations=count_combinations(pictures.manifest),
            identical=len(copies) - len(near),
            alike=len(near),
        ),
        wrong=Wrong(
            unreadable=[Unreadable(*pair) for pair in reasons.items()],
            identical_with_different_labels=[
                group for group in copies if group.alike == "bytes" and group.differ
            ],
            alike_with_different_labels=[group for group in near if group.differ],
            alike_across_splits=[group for group in near if len(group.splits) > 1],
            given_two_splits=[
                described(manifest, split, begun[tied])
                for tied in given_two_splits(manifest.take(begun), looks.digests[begun])
            ],
            refused=list(_refused(pictures, alpha)),
        ),
        look_at={
            issue: [Odd(manifest.images[row], *looks.sizes[row].tolist()) for row in rows.tolist()]
            for issue, rows in looks.issues.items()
        },
        conformal=_thresholds(pictures, alpha),
    )


def _split(manifest: Manifest, digests: NDArray[np.uint8], seed: int) -> Names:
    """The split of every picture; where given ones contradict each other, each keeps its own."""
    if manifest.split is None:
        return assign(digests, manifest.group, None, seed)
    agreed = manifest.split.copy()
    for tied in given_two_splits(manifest, digests):
        agreed[tied] = ""
    split = assign(digests, manifest.group, agreed, seed)
    return np.where(manifest.split != "", manifest.split, split)


def _refused(pictures: Pictures, alpha: float) -> Iterator[str]:
    """What training would say; of each condition the first sentence."""
    conditions: tuple[Callable[[], None], ...] = (
        lambda: check_names(pictures.manifest),
        lambda: check_training(pictures),
        lambda: check_held_out(pictures, alpha),
    )
    for condition in conditions:
        try:
            condition()
        except SuresetError as error:
            yield str(error)


def _thresholds(pictures: Pictures, alpha: float) -> Thresholds:
    """Which thresholds the calibration split allows."""
    calib = pictures.rows("calib")
    labels = pictures.labels(calib)
    needed = fewest_scores(as_alpha(alpha))
    given = pictures.manifest.split
    drawn = given is None or bool((given == "").any())
    # So many of the pictures that are added will fall into the calibration split.
    share = SHARES[SPLITS.index("calib")] if drawn else 1.0

    def threshold(scores: int, missing: int) -> Threshold:
        missing = max(0, missing)
        smallest = -(-_PARTS // (scores + 1)) / _PARTS if scores else None
        return Threshold(scores, missing, math.ceil(missing / share), smallest)

    complete = int(completely_labelled(labels).sum())
    return Thresholds(
        needed=needed,
        task={
            task: threshold(count, needed - count)
            for task, count in ((t, int((codes >= 0).sum())) for t, codes in labels.items())
        },
        classes={
            task: {
                name: threshold(count, needed - count)
                for name, count in zip(
                    names,
                    np.bincount(labels[task][labels[task] >= 0], minlength=len(names)).tolist(),
                    strict=True,
                )
            }
            for task, names in pictures.manifest.classes.items()
        },
        simultaneous=threshold(
            -(-complete // 2), fewest_to_calibrate(len(labels), alpha) - complete
        )
        if len(labels) > 1
        else None,
    )
