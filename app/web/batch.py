"""Many pictures answered while others are served: their answers on disk, in memory a few numbers.

A run's folder holds ``answers.jsonl`` (what ``python -m app predict`` prints), ``answers.csv`` (a
row a picture) and ``thumbnails`` (small JPEGs, one after the other). It is removed with the run.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.data.pictures import PictureError, Preprocess, read_rgb
from app.errors import SuresetError
from app.web import cards
from app.web.archive import Found, Pictures
from app.web.room import Busy
from app.web.service import Service

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier

#: Runs that are under way at once, and runs whose answers are kept.
MOST_RUNNING, MOST_KEPT = 2, 8
#: Bytes that the answers and thumbnails of one run may take.
MOST_WRITTEN = 2**30

#: A few pictures a thread, so that somebody's single picture never waits behind many.
_TOGETHER = 4
_THREADS = min((os.cpu_count() or 1) + 1, 16)
#: Bytes of picture files that wait to be decoded.
_MOST_WAITING = 128 * 2**20

#: More combinations than this are alike to the table's order.
_LARGEST = 10**300

_THUMBNAIL = Preprocess(resize=96, size=96, interpolation="bilinear")
_SECONDS_BETWEEN_LOOKS = 0.5

#: How a picture was answered, the most doubtful first.
STATES = ("unknown", "unsure", "sure", "error")
_STATE = {name: code for code, name in enumerate(STATES)}

#: What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Asked(NamedTuple):
    """What a batch is asked for; None is as the bundle was trained."""

    alpha: float | None = None
    score: str | None = None
    taxonomy: str | None = None


class Progress(NamedTuple):
    """How far a run is."""

    done: int
    total: int
    seconds: float

    @property
    def left(self) -> float | None:
        """Seconds to the end at this pace."""
        return (self.total - self.done) * self.seconds / self.done if self.done else None


class _Answered(NamedTuple):
    name: str
    answer: dict[str, Any]
    thumbnail: bytes


class Row(NamedTuple):
    """One picture of a table: its place in the batch, its answer, its state and a small JPEG."""

    number: int
    answer: dict[str, Any]
    state: str
    thumbnail: bytes


@dataclass(frozen=True)
class Wish:
    """Which rows of a table, in which order.

    Attributes:
        order: ``uncertain``, ``unlike``, ``name`` or ``given``.
        only: one of ``STATES``, ``unlike``, or all of them.
        holding: a task and one of its classes, which the set has to hold.
        text: what the name has to contain.
    """

    order: str = "uncertain"
    only: str | None = None
    holding: tuple[str, str] | None = None
    text: str = ""


class Run:
    """One batch: it is answered once, and shown as long as it is kept."""

    def __init__(
        self, folder: Path, owner: str, classifier: Classifier, pictures: Pictures
    ) -> None:
        self.owner = owner
        self.model = classifier.path.name
        self.classes = classifier.classes
        self.facts = classifier.facts
        self.total = pictures.total
        self.left_out = pictures.left_out
        self.done = 0
        #: Why it ended before its end, if it did.
        self.problem: str | None = None
        self.alpha = float(classifier.facts["alpha"])
        self.running = True
        self.used = time.monotonic()
        self.jsonl, self.csv = folder / "answers.jsonl", folder / "answers.csv"
        self._thumbnails = folder / "thumbnails"
        self._folder = folder
        self._stop = threading.Event()
        self._classifier: Classifier | None = classifier
        self._pictures = pictures
        n = self.total
        self._codes = {
            task: {name: code for code, name in enumerate(names)}
            for task, names in self.classes.items()
        }
        self._names: list[str] = []
        self._states = np.zeros(n, np.uint8)
        self._sizes = np.zeros(n, np.float64)
        self._unlike = np.full(n, np.nan, np.float32)
        self._sets = {task: np.zeros((n, len(c)), bool) for task, c in self.classes.items()}
        # Where each picture's answer and thumbnail begin, and the last ones end.
        self._lines = np.zeros(n + 1, np.int64)
        self._small = np.zeros(n + 1, np.int64)

    def stop(self) -> None:
        """End soon, and keep what there is."""
        self._stop.set()

    def close(self) -> None:
        """End soon, and keep nothing."""
        self._stop.set()
        shutil.rmtree(self._folder, ignore_errors=True)

    def answer(self, service: Service, asked: Asked) -> Iterator[Progress]:
        """Answer the pictures; says every now and then how far it is. Only once.

        A full disk, too many answers for it and a ``stop`` end it early: ``problem`` says so.

        Raises:
            ValueError: the bundle has no such method, or alpha is no error rate.
        """
        classifier, self._classifier = self._classifier, None
        assert classifier is not None, "a run is answered once"
        if asked.alpha is not None:
            self.alpha = asked.alpha
        started = time.monotonic()
        try:
            with (
                open(self.jsonl, "wb") as lines,
                open(self.csv, "w", encoding="utf-8", newline="") as rows,
                open(self._thumbnails, "wb") as small,
            ):
                writer = _Writer(list(self.classes), lines, rows, small)
                for answered in self._answers(service, classifier, asked):
                    for one in answered:
                        self._keep(writer.write(one), one)
                    self.used = time.monotonic()
                    yield Progress(self.done, self.total, time.monotonic() - started)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "there is no room for more" if full else error.strerror
            self.problem = f"the answers can’t be written: {reason}."
            self.done = self._whole_lines()
        except _Full:
            self.problem = f"the answers take more than {MOST_WRITTEN // 2**30} GB: send fewer."
        finally:
            self.running = False
            self.used = time.monotonic()
        if self._stop.is_set() and self.problem is None:
            self.problem = "it was stopped."

    def _answers(
        self, service: Service, classifier: Classifier, asked: Asked
    ) -> Iterator[list[_Answered]]:
        """The answers in order, some at a time; none when they take long."""
        waiting: deque[tuple[Future[list[_Answered]], int]] = deque()

        def work(some: list[Found]) -> list[_Answered]:
            return self._work(service, classifier, asked, some)

        def oldest() -> Iterator[list[_Answered]]:
            while True:
                try:
                    answered = waiting[0][0].result(_SECONDS_BETWEEN_LOOKS)
                except StillRunning:
                    yield []
                else:
                    waiting.popleft()
                    yield answered
                    return

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="batch") as pool:
            try:
                for some in _few(self._pictures):
                    size = sum(len(f.data) for f in some if isinstance(f.data, bytes))
                    while waiting and (
                        len(waiting) > _THREADS
                        or sum(waits for _, waits in waiting) + size > _MOST_WAITING
                    ):
                        yield from oldest()
                    if self._stop.is_set():
                        return
                    waiting.append((pool.submit(work, some), size))
                    del some
                while waiting and not self._stop.is_set():
                    yield from oldest()
            except BaseException:  # Nobody looks any more: what waits for room need not.
                self._stop.set()
                raise
            finally:
                for future, _ in waiting:
                    future.cancel()

    def _work(
        self, service: Service, classifier: Classifier, asked: Asked, some: list[Found]
    ) -> list[_Answered]:
        """Answer a few pictures, whenever there is room for them."""
        found = [one for one in some if isinstance(one.data, bytes)]
        readings = iter(self._read(service, classifier, found))
        answered = []
        for name, data in some:
            reading = data if isinstance(data, PictureError) else next(readings, None)
            if reading is None:  # It was stopped.
                break
            if isinstance(reading, PictureError):
                answered.append(_Answered(name, {"error": str(reading)}, b""))
                continue
            assert isinstance(data, bytes)
            answer = classifier.answer(reading, *asked)
            service.meters.answered(answer)
            answered.append(_Answered(name, answer, _thumbnail(data)))
        return answered

    def _read(self, service: Service, classifier: Classifier, found: list[Found]) -> Sequence[Any]:
        pictures = [one.data for one in found if isinstance(one.data, bytes)]
        while pictures and not self._stop.is_set():
            try:
                return service.read(classifier, pictures)
            except Busy as busy:
                self._stop.wait(min(busy.seconds, 2 * _SECONDS_BETWEEN_LOOKS))
        return []

    def _keep(self, ends: tuple[int, int], answered: _Answered) -> None:
        """Remember what the table sorts and filters by."""
        i, answer = self.done, answered.answer
        self._names.append(answered.name)
        self._lines[i + 1], self._small[i + 1] = ends
        state = "error"
        if "error" not in answer:
            of_tasks = answer["tasks"]
            state = min(
                (_state(of_tasks[task]["set"], len(names)) for task, names in self.classes.items()),
                key=_STATE.__getitem__,
            )
            for task, codes in self._codes.items():
                self._sets[task][i, [codes[name] for name in of_tasks[task]["set"]]] = True
            self._sizes[i] = min(answer["joint"]["size"], _LARGEST)
            self._unlike[i] = answer["outlier_p"]
        self._states[i] = _STATE[state]
        self.done += 1

    def _whole_lines(self) -> int:
        """How many answers are on the disk, after it was found full."""
        size = self.jsonl.stat().st_size if self.jsonl.exists() else 0
        return int(np.searchsorted(self._lines[1 : self.done + 1], size, "right"))

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures are in each of ``STATES``, and how many are ``unlike``."""
        counted = np.bincount(self._states[: self.done], minlength=len(STATES)).tolist()
        unlike = int((self._unlike[: self.done] <= cards.UNUSUAL).sum())
        return {**dict(zip(STATES, counted, strict=True)), "unlike": unlike}

    def select(self, wish: Wish) -> NDArray[np.intp]:
        """The places of the pictures wished for, in their order."""
        n = self.done
        wanted = np.ones(n, bool)
        if wish.only == "unlike":
            wanted &= self._unlike[:n] <= cards.UNUSUAL
        elif wish.only is not None:
            wanted &= self._states[:n] == _STATE[wish.only]
        if wish.holding is not None:
            task, name = wish.holding
            wanted &= self._sets[task][:n, self._codes[task][name]]
        if wish.text:
            text = wish.text.casefold()
            names = self._names[:n]
            wanted &= np.fromiter((text in name.casefold() for name in names), bool, n)
        places = np.flatnonzero(wanted)
        if wish.order == "name":
            return np.array(sorted(places, key=lambda i: self._names[i].casefold()), np.intp)
        if wish.order == "unlike":
            return places[np.argsort(self._unlike[places], kind="stable")]
        if wish.order == "uncertain":
            sizes = self._sizes[places]
            # No combination at all is the most doubtful.
            keys = -np.where(sizes == 0, np.inf, sizes), self._states[places]
            return places[np.lexsort(keys)]
        return places

    def rows(self, places: Sequence[int] | NDArray[np.intp]) -> list[Row]:
        """What was answered at these places, read from the disk.

        Raises:
            SuresetError: the answers are kept no longer.
        """
        self.used = time.monotonic()
        rows = []
        try:
            with open(self.jsonl, "rb") as lines, open(self._thumbnails, "rb") as small:
                for i in map(int, places):
                    answer = json.loads(_slice(lines, self._lines, i))
                    state = STATES[self._states[i]]
                    rows.append(Row(i, answer, state, _slice(small, self._small, i)))
        except FileNotFoundError as error:
            raise SuresetError("these answers are kept no longer: run the batch again.") from error
        return rows


class _Full(Exception):
    """A run has written all it may."""


class _Writer:
    """Writes a run's three files side by side."""

    def __init__(
        self, tasks: Sequence[str], lines: BinaryIO, rows: TextIO, small: BinaryIO
    ) -> None:
        self._tasks = tasks
        self._lines, self._small = lines, small
        self._rows = csv.writer(rows)
        fields = (f"{task}_{what}" for task in self._tasks for what in ("set", "size", "top", "p"))
        self._row(["image", *fields, "joint_size", "outlier_p", "error"])

    def write(self, one: _Answered) -> tuple[int, int]:
        """Write one answer; gives where its line and its thumbnail end.

        Raises:
            _Full: it would be too much.
        """
        line = json.dumps({"image": one.name, **one.answer}, ensure_ascii=False)
        self._lines.write(line.encode() + b"\n")
        self._small.write(one.thumbnail)
        ends = self._lines.tell(), self._small.tell()
        if sum(ends) > MOST_WRITTEN:
            raise _Full
        if "error" in one.answer:
            self._row([one.name, *[""] * (4 * len(self._tasks) + 2), one.answer["error"]])
            return ends
        cells: list[Any] = [one.name]
        for task in self._tasks:
            of_task = one.answer["tasks"][task]
            top = of_task["top"]
            p = f"{of_task['p_values'][top]:.6g}"
            cells += ["|".join(of_task["set"]), len(of_task["set"]), top, p]
        self._row([*cells, one.answer["joint"]["size"], f"{one.answer['outlier_p']:.6g}", ""])
        return ends

    def _row(self, cells: Sequence[Any]) -> None:
        self._rows.writerow([_harmless(c) if isinstance(c, str) else c for c in cells])


class Runs:
    """The runs of one server: few at once, and few kept, none for long."""

    def __init__(self, folder: Path, keep_seconds: float) -> None:
        """Each run gets a folder of its own in ``folder``."""
        self._folder = folder
        self._keep_seconds = keep_seconds
        self._runs: list[Run] = []
        self._lock = threading.Lock()

    def start(self, owner: str, classifier: Classifier, pictures: Pictures) -> Run:
        """A run to be answered; for room, the one that was not looked at for longest is removed.

        Raises:
            SuresetError: as many as there may be are under way, or there is no room on the disk.
        """
        with self._lock:
            if sum(run.running for run in self._runs) >= MOST_RUNNING:
                raise SuresetError(
                    f"{MOST_RUNNING} batches are being answered already: start yours when one has "
                    "ended."
                )
            ended = sorted((r for r in self._runs if not r.running), key=lambda run: run.used)
            for run in ended[: max(0, len(self._runs) - MOST_KEPT + 1)]:
                self._remove(run)
            try:
                self._folder.mkdir(exist_ok=True)
                # Its name cannot be guessed: whoever knows it can download what it holds.
                folder = Path(tempfile.mkdtemp(dir=self._folder))
            except OSError as error:
                reason = error.strerror
                raise SuresetError(f"the answers can’t be written: {reason}.") from error
            run = Run(folder, owner, classifier, pictures)
            self._runs.append(run)
        self._look_again(run, self._keep_seconds)
        return run

    def _look_again(self, run: Run, seconds: float) -> None:
        timer = threading.Timer(seconds, self._forget, [run])
        timer.daemon = True
        timer.start()

    def _forget(self, run: Run) -> None:
        """Remove a run that nobody has answered or looked at for long enough."""
        left = run.used + self._keep_seconds - time.monotonic()
        if left <= 0:
            self.remove(run)
        elif run in self._runs:
            self._look_again(run, left)

    def leave(self, owner: str) -> None:
        """Whoever started these runs has gone."""
        with self._lock:
            for run in [run for run in self._runs if run.owner == owner]:
                self._remove(run)

    def remove(self, run: Run) -> None:
        """Stop a run, and remove what it wrote."""
        with self._lock:
            self._remove(run)

    def _remove(self, run: Run) -> None:
        run.close()
        if run in self._runs:
            self._runs.remove(run)


def _few(pictures: Pictures) -> Iterator[list[Found]]:
    """Several at a time; large ones on their own."""
    some: list[Found] = []
    for found in pictures:
        some.append(found)
        size = sum(len(f.data) for f in some if isinstance(f.data, bytes))
        if len(some) == _TOGETHER or size > _MOST_WAITING // 16:
            yield some
            some = []
    if some:
        yield some


def _state(members: Sequence[str], classes: int) -> str:
    if len(members) in (0, classes):
        return "unknown"
    return "sure" if len(members) == 1 else "unsure"


def _thumbnail(data: bytes) -> bytes:
    """A small JPEG; empty if there is none to be had."""
    small = BytesIO()
    try:
        Image.fromarray(read_rgb(data, _THUMBNAIL)).save(small, "JPEG", quality=75)
    except PictureError:
        return b""
    return small.getvalue()


def _slice(file: Any, ends: NDArray[np.int64], i: int) -> bytes:
    file.seek(int(ends[i]))
    return bytes(file.read(int(ends[i + 1] - ends[i])))


def _harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
