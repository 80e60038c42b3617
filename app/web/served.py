"""The bundle in service: loaded once, exchanged while the server runs when a newer one appears."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from app.bundle import find_bundle
from app.errors import SuresetError
from app.progress import say

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier


def _load(models_dir: Path, model: str) -> Classifier:
    from app.pipeline.predict import Classifier

    return Classifier.load(models_dir, model)


class Served:
    """Gives the classifier of ``models_dir/model`` to whoever answers a picture.

    Every call looks at the bundle on disk (a ``stat`` or two), so a bundle that training has just
    finished is served from the next request on. Requests that are under way, and those that come
    while the new bundle loads, are answered by the old one; so are all if the new one is damaged,
    or the old one is deleted.

    Attributes:
        problem: one sentence on why there is no bundle in service, or not the newest; else None.
    """

    def __init__(
        self,
        models_dir: Path,
        model: str = "latest",
        load: Callable[[Path, str], Classifier] = _load,
    ) -> None:
        self.models_dir = models_dir
        self.model = model
        self.problem: str | None = None
        self._load = load
        self._lock = threading.Lock()
        self._classifier: Classifier | None = None
        self._seen: tuple[str, int, int] | None = None

    def current(self) -> Classifier | None:
        """The classifier to answer with, None while there is none. Loads at most once a bundle."""
        try:
            stamp = self._stamp()
        except SuresetError as error:
            if self._classifier is None:
                self.problem = str(error)
            return self._classifier
        if stamp == self._seen:
            return self._classifier
        # Only the first bundle is worth waiting for; until a later one is there the old one serves.
        if self._lock.acquire(blocking=self._classifier is None):
            try:
                if stamp != self._seen:
                    self._exchange(stamp)
            finally:
                self._lock.release()
        return self._classifier

    def _exchange(self, stamp: tuple[str, int, int]) -> None:
        old = self._classifier
        try:
            self._classifier = self._load(self.models_dir, self.model)
        except SuresetError as error:
            self.problem = str(error)
            say(f"not served: {error}" + (f" {old.path.name} stays in service." if old else ""))
        else:
            self.problem = None
            if old is not None:
                say(f"now serving the bundle {self._classifier.path.name}")
        self._seen = stamp

    def _stamp(self) -> tuple[str, int, int]:
        """What tells one bundle from another: its folder, and the identity of its first file."""
        folder = find_bundle(self.models_dir, self.model)
        try:
            facts = (folder / "bundle.json").stat()
        except OSError as error:  # it was replaced between two looks
            raise SuresetError(f"the bundle {folder} is being replaced: ask again.") from error
        return str(folder), facts.st_ino, facts.st_mtime_ns
