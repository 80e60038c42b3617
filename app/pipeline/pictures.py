"""From a folder to features with splits: the front half of every run over labelled pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.conformal.method import BONFERRONI
from app.conformal.simultaneous import fewest_to_calibrate
from app.conformal.spaces import JOINT, completely_labelled
from app.data.layouts import read_manifest
from app.data.manifest import SPLITS, Manifest
from app.data.scan import scan
from app.data.splits import assign
from app.errors import SuresetError
from app.progress import say
from app.settings import Settings
from app.vision.features import FeatureCache
from app.vision.heads import joint_is_feasible

Rows = NDArray[np.int64]

#: With more unreadable pictures than this share the folder is not what it was taken for.
_MOST_UNREADABLE = 0.1


@dataclass(frozen=True)
class Pictures:
    """Readable, labelled pictures, each in a split.

    Attributes:
        manifest: n pictures and their labels.
        digests: their contents' digests, (n, 16).
        split: of each, a name in ``SPLITS``, (n,).
        skipped: the reason of each picture that was left out, by path.
    """

    manifest: Manifest
    digests: NDArray[np.uint8]
    split: NDArray[np.str_]
    skipped: dict[str, str]

    def rows(self, *splits: str) -> Rows:
        """The rows of some splits."""
        return np.flatnonzero(np.isin(self.split, splits))

    def labels(self, rows: Rows) -> dict[str, NDArray[np.int64]]:
        """{task: (len(rows),)}, -1 where unknown."""
        return {task: labels[rows] for task, labels in self.manifest.labels.items()}

    def sizes(self) -> dict[str, int]:
        """The number of pictures of each split."""
        return {split: len(self.rows(split)) for split in SPLITS}

    @property
    def sha256(self) -> str:
        """Of all contents and labels, in whatever order and under whatever names they lie."""
        labels = np.stack(list(self.manifest.labels.values()), axis=1).astype("<i8")
        rows = np.concatenate([self.digests, labels.view(np.uint8)], axis=1)
        ordered = rows[np.lexsort(rows.T[::-1])]
        classes = json.dumps(self.manifest.classes).encode()
        return hashlib.sha256(classes + ordered.tobytes()).hexdigest()

    def take(self, rows: Rows) -> Pictures:
        """Some of the pictures."""
        return replace(
            self,
            manifest=self.manifest.take(rows),
            digests=self.digests[rows],
            split=self.split[rows],
        )

    def without(self, unreadable: Mapping[int, str]) -> Pictures:
        """Leave out pictures by row, for a reason each.

        Raises:
            SuresetError: by now too many are left out.
        """
        if not unreadable:
            return self
        reasons = {self.manifest.images[row]: why for row, why in unreadable.items()}
        skipped = {**self.skipped, **reasons}
        total = len(self.manifest) + len(self.skipped)
        for image, why in list(reasons.items())[:5]:
            say(f"skipped {image}: {why}")
        if len(reasons) > 5:
            say(f"skipped {len(reasons) - 5} more pictures that cannot be read")
        if len(skipped) > _MOST_UNREADABLE * total:
            raise SuresetError(
                f"{len(skipped)} of {total} pictures in {self.manifest.root} cannot be read: "
                "mend or remove them, and try again."
            )
        keep = np.setdiff1d(np.arange(len(self.manifest)), list(unreadable))
        return replace(self.take(keep), skipped=skipped)


def extract(
    pictures: Pictures, splits: Sequence[str], cache: FeatureCache
) -> tuple[Pictures, NDArray[np.float32]]:
    """The features of some splits.

    Returns:
        Those pictures of the splits that could be read to their end, and their features (n, d).

    Raises:
        SuresetError: that is none of a split, or the network answers with no numbers.
    """
    chosen = pictures.take(pictures.rows(*splits))
    features, unreadable = cache.features(chosen.manifest.path, chosen.digests)
    readable = chosen.without(unreadable)
    for split in splits:
        if len(readable.rows(split)) == 0:
            root = pictures.manifest.root
            raise SuresetError(f"the {split} split of {root} holds no picture: add some.")
    if unreadable:
        features = np.delete(features, list(unreadable), axis=0)
    if not np.isfinite(features.sum(dtype=np.float64)):
        raise SuresetError(
            "the network's features are not all finite numbers: its weights are damaged or too "
            "large, so give others with --weights or --backbone."
        )
    return readable, features


def extract_again(pictures: Pictures, cache: FeatureCache, view: int = 0) -> NDArray[np.float32]:
    """More features of pictures that could be read: of another runtime, or of a view of each.

    Raises:
        SuresetError: meanwhile one of them cannot be read.
    """
    features, unreadable = cache.features(pictures.manifest.path, pictures.digests, view)
    for row, why in unreadable.items():
        raise SuresetError(
            f"{pictures.manifest.path(row)} changed while it was in use ({why}): run this again."
        )
    return features


def find_pictures(settings: Settings) -> Pictures:
    """Read the folder's labels, look at every file, and split.

    Raises:
        SuresetError: the folder holds nothing that can be learnt from; it says why.
    """
    manifest = read_manifest(settings.data_dir, settings.layout)
    check_names(manifest)
    found = find_readable(manifest, settings.cache_dir)
    known = found.manifest
    split = assign(found.digests, known.group, known.split, settings.seed, known.images)
    return replace(found, split=split)


def find_readable(manifest: Manifest, cache_dir: Path) -> Pictures:
    """Look at every file of a manifest: its readable pictures, in no split yet.

    Raises:
        SuresetError: too many cannot be read.
    """
    say(str(manifest))
    seen = scan(manifest, cache_dir)
    unsplit = np.full(len(manifest), "", dtype="<U5")
    return Pictures(manifest, seen.digests, unsplit, {}).without(seen.unreadable)


def check_names(manifest: Manifest) -> None:
    """See to it that no task is called what means all of them.

    Raises:
        SuresetError: one is.
    """
    for name in sorted({JOINT, BONFERRONI} & set(manifest.classes)):
        raise SuresetError(
            f"a task cannot be called {name}, which means all tasks at once: rename its column."
        )


def check_training(pictures: Pictures) -> None:
    """See to it that there is something to learn.

    Raises:
        SuresetError: the training split holds one class of a task, or validation none.
    """
    for task, labels in pictures.manifest.labels.items():
        for split, least in (("train", 2), ("valid", 1)):
            known = labels[pictures.rows(split)]
            if len(np.unique(known[known >= 0])) < least:
                raise SuresetError(
                    f"the {split} split holds fewer than {least} classes of {task}: "
                    "add labelled pictures."
                )


def check_space(classes: Mapping[str, int], settings: Settings) -> None:
    """See to it that one softmax over all combinations is feasible where it is asked for.

    Raises:
        SuresetError: there are too many combinations.
    """
    if JOINT in (settings.head, settings.space) and not joint_is_feasible(classes):
        raise SuresetError(
            "the tasks have too many combinations of classes for one softmax over all of them: "
            "use --head taskwise --space taskwise."
        )


def check_held_out(pictures: Pictures, alpha: float) -> None:
    """See to it that there is enough to calibrate and test on.

    Raises:
        SuresetError: the calibration split is too small for alpha, or the test split is empty.
    """
    needed = {"calib": fewest_to_calibrate(len(pictures.manifest.classes), alpha), "test": 1}
    # That a picture is labelled for all tasks implies that it is for each.
    complete = completely_labelled(pictures.manifest.labels)
    for split, least in needed.items():
        count = int(complete[pictures.rows(split)].sum())
        if count < least:
            raise SuresetError(
                f"the {split} split holds {count} pictures that are labelled for every task, "
                f"and alpha {alpha} needs {least}: add pictures, or accept a larger --alpha."
            )
