"""From a folder to features with splits: the front half of every run over labelled pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.conformal.checks import as_alpha
from app.data.layouts import read_manifest
from app.data.manifest import SPLITS, Manifest
from app.data.scan import scan
from app.data.splits import assign
from app.errors import SuresetError
from app.progress import say
from app.settings import Settings
from app.vision.features import FeatureCache

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
    pictures: Pictures, cache_of: Mapping[str, FeatureCache]
) -> tuple[Pictures, NDArray[np.float32]]:
    """The features of the splits in ``cache_of``, each split's from its own cache.

    Returns:
        Those pictures of the splits that could be read to their end, and their features (n, d).
    """
    found: dict[int, NDArray[np.float32]] = {}
    unreadable: dict[int, str] = {}
    for cache in dict.fromkeys(cache_of.values()):
        rows = pictures.rows(*(split for split, own in cache_of.items() if own is cache))
        features, reasons = cache.features(
            [pictures.manifest.path(i) for i in rows], pictures.digests[rows]
        )
        found |= zip(rows.tolist(), features, strict=True)
        unreadable |= {int(rows[i]): reason for i, reason in reasons.items()}
    readable = pictures.without(unreadable)
    rows = np.array(sorted(found.keys() - unreadable.keys()), np.int64)
    chosen = readable.rows(*cache_of)
    return readable.take(chosen), np.stack([found[i] for i in rows.tolist()])


def find_pictures(settings: Settings) -> Pictures:
    """Read the folder's labels, look at every file, and split.

    Raises:
        SuresetError: the folder holds nothing that can be learnt from; it says why.
    """
    manifest = read_manifest(settings.data_dir, settings.layout)
    tasks = ", ".join(f"{task} ({len(names)})" for task, names in manifest.classes.items())
    say(f"{settings.data_dir}: {len(manifest)} pictures, layout {manifest.layout}, tasks {tasks}")
    seen = scan(manifest)
    unsplit = np.full(len(manifest), "", dtype="<U5")
    found = Pictures(manifest, seen.digests, unsplit, {}).without(seen.unreadable)
    known = found.manifest
    split = assign(found.digests, known.group, known.split, settings.seed, known.images)
    return replace(found, split=split)


def check_splits(pictures: Pictures, alpha: float) -> None:
    """See to it that every split can do its part.

    Raises:
        SuresetError: a split is too small for alpha, or holds one class of a task.
    """
    # The threshold is finite when ceil((n + 1)(1 - alpha)) <= n; half of the calibration pictures
    # calibrate the sets of all tasks at once.
    needed = {"calib": 2 * (math.ceil(1 / as_alpha(alpha)) - 1), "valid": 1, "test": 1}
    for task, labels in pictures.manifest.labels.items():
        known = {split: labels[pictures.rows(split)] for split in SPLITS}
        known = {split: values[values >= 0] for split, values in known.items()}
        if len(np.unique(known["train"])) < 2:
            raise SuresetError(
                f"the training split holds fewer than two classes of {task}: add labelled pictures."
            )
        for split, least in needed.items():
            if len(known[split]) < least:
                raise SuresetError(
                    f"the {split} split holds {len(known[split])} pictures with a label for {task} "
                    f"and alpha {alpha} needs {least}: add pictures, or accept a larger --alpha."
                )
