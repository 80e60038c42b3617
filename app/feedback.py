"""What people say the true classes are: one SQLite file, which several may write at once.

A row is one picture under one calibrated bundle. It keeps the picture's features and not the
picture, so that the promise can be watched, and the bundle calibrated again, without either the
picture or the network.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.data.pictures import digest
from app.errors import SuresetError

FILE = "feedback.sqlite3"
PICTURES = "pictures"

_SCHEMA = 1
_PATIENCE_S = 5.0

_TABLES = """
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    told TEXT NOT NULL,            -- when, UTC, ISO 8601
    who TEXT NOT NULL,
    bundle TEXT NOT NULL,          -- its name
    content_sha256 TEXT NOT NULL,  -- of the bundle
    runtime TEXT NOT NULL,         -- the kind that made the features
    picture_sha256 TEXT NOT NULL,
    digest BLOB NOT NULL,          -- of the picture, xxh3_128: as bundles name what trained them
    asked TEXT NOT NULL,           -- JSON: alpha, score and taxonomy the person was looking at
    answered TEXT NOT NULL,        -- JSON: the sets, by task
    truth TEXT NOT NULL,           -- JSON: the true class, by task; what is missing is unknown
    revised INTEGER NOT NULL DEFAULT 0,  -- how often the truth was replaced
    features BLOB NOT NULL,        -- float32, little-endian
    UNIQUE (content_sha256, picture_sha256)
);
CREATE INDEX by_runtime ON feedback (content_sha256, runtime);
CREATE INDEX by_revised ON feedback (content_sha256, revised) WHERE revised > 0;
"""


class FeedbackError(SuresetError):
    """The file is damaged, is a newer Sureset's, or somebody keeps it to himself."""


class CannotKeep(FeedbackError):
    """Nothing can be written: the disk is full, or the folder may not be written."""


@dataclass(frozen=True)
class Word:
    """What one person said of one picture.

    Attributes:
        who: said it.
        bundle: name of the bundle that answered, ``content`` its ``content_sha256``.
        runtime: the kind of runtime that answered.
        picture: the content of the file.
        features: what the network made of it, float32 (d,).
        asked: the alpha, score and taxonomy the person was looking at.
        answered: the sets that were answered, by task.
        truth: the true class by task; tasks may be missing.
    """

    who: str
    bundle: str
    content: str
    runtime: str
    picture: bytes
    features: NDArray[np.float32]
    asked: Mapping[str, Any]
    answered: Mapping[str, Sequence[str]]
    truth: Mapping[str, str]


@dataclass(frozen=True)
class Kept:
    """What became of a word; ``again`` where it replaced an earlier one on the same picture."""

    told: str
    who: str
    picture_sha256: str
    again: bool
    picture_kept: bool


@dataclass(frozen=True)
class Told:
    """What was told about n pictures, in the order in which they came first.

    Attributes:
        ids: of the rows, (n,), ascending.
        pictures: sha256 of each, hexadecimal.
        digests: of each, uint8 (n, 16).
        labels: of each task, the true class's code, (n,), -1 where unknown.
        features: float32 (n, d).
    """

    ids: NDArray[np.int64]
    pictures: list[str]
    digests: NDArray[np.uint8]
    labels: dict[str, NDArray[np.int64]]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> Told:
        """Some of the rows."""
        return Told(
            self.ids[rows],
            [self.pictures[i] for i in rows],
            self.digests[rows],
            {task: codes[rows] for task, codes in self.labels.items()},
            self.features[rows],
        )

    def without(self, digests: NDArray[np.uint8]) -> Told:
        """Without the pictures of these digests (m, 16): those that trained the heads."""
        left_out = set(map(bytes, digests))
        kept = [i for i, own in enumerate(self.digests) if bytes(own) not in left_out]
        return self if len(kept) == len(self) else self.take(np.array(kept, np.int64))


class Feedback:
    """The feedback in one folder. Safe to use from several threads, and from several processes.

    Nothing is made before there is something to keep.
    """

    def __init__(self, folder: Path, keep_pictures: bool = False) -> None:
        self.folder = folder
        self.keep_pictures = keep_pictures
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def keep(self, word: Word) -> Kept:
        """Write it down; a second word on the same picture takes the first one's place.

        Raises:
            FeedbackError: it was not; the text says why.
        """
        name = sha256(word.picture).hexdigest()
        told = datetime.now(timezone.utc).isoformat(timespec="seconds")
        features = np.ascontiguousarray(word.features, "<f4").tobytes()
        row = (
            *(told, word.who, word.bundle, word.content, word.runtime, name, digest(word.picture)),
            *(json.dumps(dict(of)) for of in (word.asked, word.answered, word.truth)),
            features,
        )
        with self._open(writing=True) as database, database:
            database.execute("BEGIN IMMEDIATE")
            again = database.execute(
                "SELECT 1 FROM feedback WHERE content_sha256 = ? AND picture_sha256 = ?",
                (word.content, name),
            ).fetchone()
            database.execute(
                "INSERT INTO feedback (told, who, bundle, content_sha256, runtime, picture_sha256,"
                " digest, asked, answered, truth, features) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT (content_sha256, picture_sha256) DO UPDATE SET told = excluded.told,"
                " who = excluded.who, bundle = excluded.bundle, runtime = excluded.runtime,"
                " asked = excluded.asked, answered = excluded.answered, truth = excluded.truth,"
                " features = excluded.features, revised = revised + 1",
                row,
            )
            # Before the row is final: a picture that cannot be kept takes its row along, and a
            # row that cannot be written leaves no picture.
            if self.keep_pictures:
                self._keep_picture(name, word.picture)
        return Kept(told, word.who, name, again is not None, self.keep_pictures)

    def told(
        self, content: str, runtime: str, classes: Mapping[str, Sequence[str]], after: int = 0
    ) -> Told:
        """What was told about a bundle's answers in a kind of runtime, by rows after an id.

        Raises:
            FeedbackError: the file cannot be read; the text says why.
        """
        with self._open() as database:
            rows = (
                []
                if database is None
                else database.execute(
                    "SELECT id, picture_sha256, digest, truth, features FROM feedback"
                    " WHERE content_sha256 = ? AND runtime = ? AND id > ? ORDER BY id",
                    (content, runtime, after),
                ).fetchall()
            )
        truths = [json.loads(row[3]) for row in rows]
        return Told(
            np.array([row[0] for row in rows], np.int64),
            [row[1] for row in rows],
            np.frombuffer(b"".join(row[2] for row in rows), np.uint8).reshape(-1, 16),
            {task: _codes(task, names, truths) for task, names in classes.items()},
            np.frombuffer(b"".join(row[4] for row in rows), "<f4").reshape(len(rows), -1)
            if rows
            else np.empty((0, 0), np.float32),
        )

    def revisions(self, content: str) -> int:
        """How often a truth about a bundle's answers was replaced. Errors as ``told``."""
        with self._open() as database:
            if database is None:
                return 0
            [revised] = database.execute(
                "SELECT total(revised) FROM feedback WHERE content_sha256 = ? AND revised > 0",
                (content,),
            ).fetchone()
        return int(revised)

    def close(self) -> None:
        """Close the file; whoever comes later opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _open(self, writing: bool = False) -> Iterator[Any]:
        """The database, for one thread at a time; None where there is none yet and none is made."""
        file = self.folder / FILE
        # Who waits for somebody who waits for the file has waited as long for it.
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise FeedbackError(f"{file} is in use: ask again in a while.")
        try:
            if self._connection is not None and _identity(file) != self._opened:
                self._connection.close()  # The file was moved away, or another put in its place.
                self._connection = None
            if self._connection is None:
                if not writing and not file.exists():
                    yield None
                    return
                self.folder.mkdir(parents=True, exist_ok=True)
                self._connection = _connect(file)
                self._opened = _identity(file)
            yield self._connection
        except sqlite3.DatabaseError as error:
            said = self._said(error)
            if type(said) is FeedbackError and self._connection is not None:
                self._connection.close()  # A whole copy may come to its place.
                self._connection = None
            raise said from error
        except OSError as error:
            raise self._cannot(error.strerror or str(error)) from error
        finally:
            self._lock.release()

    def _keep_picture(self, name: str, picture: bytes) -> None:
        """Under its own hash, and never under a name that somebody gave it. Whole, or absent."""
        place = self.folder / PICTURES / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                return
            with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".", delete=False) as part:
                try:
                    part.write(picture)
                    part.flush()
                    os.replace(part.name, place)
                except OSError:
                    os.unlink(part.name)
                    raise
        except OSError as error:
            raise self._cannot(error.strerror or str(error)) from error

    def _said(self, error: sqlite3.DatabaseError) -> FeedbackError:
        """SQLite's error as a sentence that says what to do."""
        text = str(error)
        if "locked" in text or "busy" in text:
            return FeedbackError(f"{self.folder / FILE} is in use: ask again in a while.")
        if isinstance(error, sqlite3.OperationalError):
            return self._cannot(text)
        return FeedbackError(
            f"{self.folder / FILE} is damaged ({text}): put a copy of it that is whole in its "
            "place, or move it away to begin anew."
        )

    def _cannot(self, reason: str) -> CannotKeep:
        return CannotKeep(
            f"feedback cannot be written to {self.folder} ({reason}): make room there, let it be "
            "written, or name another folder with --feedback."
        )


def _identity(file: Path) -> tuple[int, int] | None:
    """What tells a file from another one in its place; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _connect(file: Path) -> sqlite3.Connection:
    """Open the file, which is made and given its tables if need be."""
    # Python opens no transaction by itself: each is begun where it is wanted.
    connection = sqlite3.connect(
        file, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    try:
        [schema] = connection.execute("PRAGMA user_version").fetchone()
        if schema > _SCHEMA:
            raise FeedbackError(
                f"{file} was written by a newer Sureset (schema {schema}, this one reads "
                f"{_SCHEMA}): use that version, or name another folder with --feedback."
            )
        if schema == 0:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            # Somebody else may have made them meanwhile.
            if connection.execute("PRAGMA user_version").fetchone() == (0,):
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_SCHEMA}")
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def check_truth(truth: Mapping[str, Any], classes: Mapping[str, Sequence[str]]) -> None:
    """See to it that a truth names classes of the bundle.

    Raises:
        ValueError: it does not; the text names what it can be.
    """
    if not truth:
        raise ValueError(f"the truth must name the class of at least one of {', '.join(classes)}")
    for task, name in truth.items():
        if task not in classes:
            raise ValueError(f"there is no task {task!r}: there are {', '.join(classes)}")
        if name not in classes[task]:
            raise ValueError(f"{task} cannot be {name!r}: choose from {', '.join(classes[task])}")


def _codes(
    task: str, names: Sequence[str], truths: Sequence[Mapping[str, str]]
) -> NDArray[np.int64]:
    """The class of each truth, -1 where it is not told."""
    code = {name: i for i, name in enumerate(names)}
    return np.array([code.get(truth.get(task, ""), -1) for truth in truths], np.int64)
