"""The bundle in service: loaded once, exchanged while the server runs when a newer one appears.

A page can be answered by another bundle of the folder; a few of those are kept loaded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.bundle import bundle_names, find_bundle
from app.errors import SuresetError
from app.progress import say

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier


#: Bundles kept loaded besides the one in service.
_MOST_OTHERS = 2

_Stamp = tuple[str, int, int]


class Choice(NamedTuple):
    """Which bundle a page asked to be answered by.

    Attributes:
        name: the bundle's name; None is the one in service, whichever that is.
        lost: one sentence on why an earlier choice holds no longer.
    """

    name: str | None = None
    lost: str | None = None


IN_SERVICE = Choice()


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
        self._seen: _Stamp | None = None
        # The one used last is the last one.
        self._others: dict[str, tuple[_Stamp, Classifier]] = {}
        self._others_lock = threading.Lock()
        self._loading = threading.Lock()

    def at_once(self) -> Classifier | None:
        """The classifier in service if the disk holds none that is newer: one look, no loading."""
        try:
            facts = os.stat(self.models_dir / self.model / "bundle.json")
        except OSError:
            return None
        seen = self._seen is not None and self._seen[1:] == (facts.st_ino, facts.st_mtime_ns)
        return self._classifier if seen else None

    def current(self) -> Classifier | None:
        """The classifier to answer with, None while there is none. Loads at most once a bundle."""
        if (classifier := self.at_once()) is not None:
            return classifier
        try:
            stamp = self._stamp(self.model)
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

    def names(self) -> list[str]:
        """The bundles a page can choose from, the oldest first."""
        return bundle_names(self.models_dir)

    def named(self, name: str) -> Classifier:
        """A bundle of the folder, which is loaded unless it is at hand; that takes seconds.

        Raises:
            SuresetError: there is none of this name (any more), or it is damaged.
        """
        try:
            self.folder(name)
        except SuresetError:
            with self._others_lock:
                self._others.pop(name, None)
            raise
        stamp = self._stamp(name)
        if (found := self._at_hand(name, stamp)) is not None:
            return found
        with self._loading:
            if (found := self._at_hand(name, stamp)) is not None:
                return found
            loaded = self._load(self.models_dir, name)
            with self._others_lock:
                self._others[name] = stamp, loaded
                while len(self._others) > _MOST_OTHERS:
                    del self._others[next(iter(self._others))]
            return loaded

    def folder(self, name: str) -> Path:
        """Where a bundle lies that a page can choose; nothing is loaded.

        Raises:
            SuresetError: there is none of this name (any more).
        """
        if name not in self.names():  # No path, but one of the names there are.
            raise SuresetError(f"there is no bundle {name} any more: choose another.")
        return (self.models_dir / name).resolve()

    def loaded(self, name: str) -> Classifier | None:
        """The bundle of this name if it is in service or at hand."""
        serving = self._classifier
        if serving is not None and serving.path.name == name:
            return serving
        with self._others_lock:
            return self._others[name][1] if name in self._others else None

    def report(self, name: str) -> Path | None:
        """The page about a bundle that can be chosen or is loaded; None if there is none."""
        if name in self.names():
            page = self.models_dir / name / "report.html"
        elif (classifier := self.loaded(name)) is not None:
            page = classifier.path / "report.html"
        else:
            return None
        return page if page.is_file() else None

    def _at_hand(self, name: str, stamp: _Stamp) -> Classifier | None:
        """The bundle with this stamp if it is loaded; it is in use from now on."""
        if stamp == self._seen and self._classifier is not None:
            serving = self._classifier
            if str(serving.path) == stamp[0]:  # Damaged, it would be seen but not in service.
                return serving
        with self._others_lock:
            if name in self._others and self._others[name][0] == stamp:
                self._others[name] = self._others.pop(name)
                return self._others[name][1]
            self._others.pop(name, None)
        return None

    def _exchange(self, stamp: _Stamp) -> None:
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

    def _stamp(self, model: str) -> _Stamp:
        """What tells one bundle from another: its folder, and the identity of its first file."""
        folder = find_bundle(self.models_dir, model)
        try:
            facts = (folder / "bundle.json").stat()
        except OSError as error:  # it was replaced between two looks
            raise SuresetError(f"the bundle {folder} is being replaced: ask again.") from error
        return str(folder), facts.st_ino, facts.st_mtime_ns
