"""Many pictures through a fake classifier: what is written, what is shown, what is bounded."""

from __future__ import annotations

import csv
import io
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.errors import SuresetError
from app.web import batch
from app.web.archive import Pictures, Upload
from app.web.batch import Asked, Progress, Run, Runs, Wish
from app.web.meters import Meters
from app.web.room import Room
from app.web.served import Served
from app.web.service import Service
from tests.unit.web.fake import FakeClassifier, picture
from tests.unit.web.zips import write_zip

ROOT = Path(__file__).parents[3]

#: At alpha 0.1: two sets of one class; colours open; nothing ruled out and unlike; no picture.
PICTURES = {
    "sure.png": picture(0, 5, 0),
    "=unsure.png": picture(40, 35, 0),
    "unknown.png": picture(80, 80, 80),
    "white.png": picture(250, 250, 250),
    "broken.png": b"<svg onload='alert(1)'/>",
}


@pytest.fixture
def service(served: Served) -> Service:
    return Service(served, Meters())


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", keep_seconds=3600)


@pytest.fixture
def begin(tmp_path: Path, service: Service, runs: Runs) -> Callable[..., Run]:
    def begin(files: dict[str, bytes] = PICTURES, owner: str = "me") -> Run:
        packed = write_zip(tmp_path / "a.zip", files)
        classifier = service.classifier()
        return runs.start(owner, classifier, Pictures([Upload(packed, "a.zip")]))

    return begin


def finish(run: Run, service: Service, *asked: Any) -> Run:
    for _ in run.answer(service, Asked(*asked)):
        pass
    return run


def names(run: Run, *wish: Any, **wishes: Any) -> list[str]:
    return [row.answer["image"] for row in run.rows(run.select(Wish(*wish, **wishes)))]


def test_answers_are_those_of_predict_in_the_same_order(
    begin: Callable[..., Run], service: Service
) -> None:
    run = finish(begin(), service)
    assert run.problem is None and run.done == run.total == 5
    classifier: Any = service.classifier()
    lines = [json.loads(line) for line in run.jsonl.read_text().splitlines()]
    assert [line.pop("image") for line in lines] == list(PICTURES)
    for line, data in zip(lines, PICTURES.values(), strict=True):
        [reading] = classifier.read([data])
        if isinstance(reading, Exception):
            assert line == {"error": str(reading)}
        else:
            assert line == classifier.answer(reading)


def test_the_csv_has_a_row_a_picture_and_no_formula(
    begin: Callable[..., Run], service: Service
) -> None:
    run = finish(begin(), service)
    rows = list(csv.DictReader(io.StringIO(run.csv.read_text())))
    assert [row["image"] for row in rows][:2] == ["sure.png", "'=unsure.png"]
    assert rows[1]["colour_set"] == "red|green" and rows[1]["colour_size"] == "2"
    assert rows[0]["colour_top"] == "green" and rows[0]["colour_p"] == "1"
    assert rows[2]["joint_size"] == "6" and rows[3]["outlier_p"] == "0.02"
    assert rows[4]["error"].startswith("it is not a picture") and rows[4]["colour_set"] == ""
    for text in ("=1+1", "+1", "-1", "@a", "\tx", "\rx"):
        assert batch._harmless(text) == f"'{text}"


def test_another_alpha_and_score_are_answered(begin: Callable[..., Run], service: Service) -> None:
    run = finish(begin(), service, 0.45, "margin")
    assert run.alpha == 0.45
    assert run.rows([2])[0].answer["tasks"]["colour"]["set"] == []


@pytest.mark.parametrize("asked", [(2.0,), (0.1, "best")])
def test_what_the_bundle_cannot_answer_is_a_value_error(
    begin: Callable[..., Run], service: Service, asked: tuple[Any, ...]
) -> None:
    run = begin()
    with pytest.raises(ValueError, match=r"alpha must|no such method"):
        finish(run, service, *asked)
    assert not run.running


def test_the_table_sorts(begin: Callable[..., Run], service: Service) -> None:
    run = finish(begin(), service)
    given = list(PICTURES)
    assert names(run, "given") == given
    assert names(run, "name") == sorted(given)
    assert names(run, "unlike")[0] == "white.png" and names(run, "unlike")[-1] == "broken.png"
    assert names(run) == ["unknown.png", "white.png", "=unsure.png", "sure.png", "broken.png"]


def test_the_table_filters(begin: Callable[..., Run], service: Service) -> None:
    run = finish(begin(), service)
    only = {state: names(run, only=state) for state in (*batch.STATES, "unlike")}
    assert only == {
        "unknown": ["unknown.png", "white.png"],
        "unsure": ["=unsure.png"],
        "sure": ["sure.png"],
        "error": ["broken.png"],
        "unlike": ["white.png"],
    }
    assert {state: len(found) for state, found in only.items()} == run.counts
    assert names(run, holding=("colour", "blue")) == ["unknown.png", "white.png"]
    assert names(run, text="SURE") == ["=unsure.png", "sure.png"]
    assert names(run, only="sure", text="white") == []


def test_rows_have_thumbnails(begin: Callable[..., Run], service: Service) -> None:
    run = finish(begin(), service)
    rows = run.rows(range(5))
    assert [row.state for row in rows] == ["sure", "unsure", "unknown", "unknown", "error"]
    with Image.open(io.BytesIO(rows[3].thumbnail)) as small:
        assert small.size == (96, 96) and small.format == "JPEG"
        assert small.getpixel((48, 48)) == pytest.approx((250, 250, 250), abs=3)
    assert rows[4].thumbnail == b""


def test_progress_reaches_the_end(begin: Callable[..., Run], service: Service) -> None:
    run = begin({f"{i}.png": PICTURES["sure.png"] for i in range(100)})
    done = [at.done for at in run.answer(service, Asked())]
    assert done == sorted(done) and done[-1] == 100 and len(done) > 10
    assert Progress(25, 100, 5.0).left == pytest.approx(15)
    assert Progress(0, 100, 5.0).left is None


class Gated(FakeClassifier):
    """Reads nothing until told to, and knows how many pictures it was given."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.given = 0

    def read(self, pictures: Any) -> list[Any]:
        self.given += len(pictures)
        assert self.gate.wait(10)
        return super().read(pictures)


@contextmanager
def gated(service: Service, runs: Runs, tmp_path: Path, n: int) -> Iterator[tuple[Run, Gated]]:
    classifier: Any = Gated(service.classifier().path)
    packed = write_zip(tmp_path / "a.zip", {f"{i}.png": PICTURES["sure.png"] for i in range(n)})
    run = runs.start("me", classifier, Pictures([Upload(packed, "a.zip")]))
    with ThreadPoolExecutor(1) as pool:
        finished = pool.submit(finish, run, service)
        yield run, classifier
        classifier.gate.set()
        finished.result(10)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_few_pictures_are_under_way_so_that_others_are_answered(
    service: Service, runs: Runs, tmp_path: Path
) -> None:
    with gated(service, runs, tmp_path, 500) as (run, classifier):
        most = batch._THREADS * batch._TOGETHER
        until(lambda: classifier.given == most)
        time.sleep(0.1)
        assert classifier.given == service.room.taken == most < service.room.most / 2
        [reading] = service.read(service.classifier(), [PICTURES["sure.png"]])
        assert not isinstance(reading, Exception)
    assert run.done == 500


def test_a_batch_waits_for_room_instead_of_failing(
    begin: Callable[..., Run], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "room", Room(batch._TOGETHER))
    monkeypatch.setattr(batch, "_SECONDS_BETWEEN_LOOKS", 0.01)
    run = begin({f"{i}.png": PICTURES["sure.png"] for i in range(100)})
    with service.room.places(batch._TOGETHER), ThreadPoolExecutor(1) as pool:
        finished = pool.submit(finish, run, service)
        time.sleep(0.1)
        assert run.done == 0
        service.room = Room(batch._TOGETHER)
        finished.result(10)
    assert run.done == 100 and run.counts["sure"] == 100


def test_a_stopped_run_keeps_what_there_is(service: Service, runs: Runs, tmp_path: Path) -> None:
    with gated(service, runs, tmp_path, 500) as (run, classifier):
        until(lambda: classifier.given > 0)
        run.stop()
    assert run.problem == "it was stopped."
    assert run.done < 100
    assert len(names(run)) == run.done == len(run.jsonl.read_text().splitlines())


def test_a_generator_nobody_goes_on_with_ends_its_threads(
    begin: Callable[..., Run], service: Service
) -> None:
    run = begin({f"{i}.png": PICTURES["sure.png"] for i in range(200)})
    answering = run.answer(service, Asked())
    next(answering)
    assert any(thread.name.startswith("batch") for thread in threading.enumerate())
    del answering
    assert not any(thread.name.startswith("batch") for thread in threading.enumerate())
    assert not run.running


def test_too_much_to_write_ends_a_run_in_one_sentence(
    begin: Callable[..., Run], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_WRITTEN", 20_000)
    run = finish(begin({f"{i}.png": PICTURES["sure.png"] for i in range(200)}), service)
    assert run.problem is not None and run.problem.startswith("the answers take more than")
    assert 0 < run.done < 200 and len(names(run)) == run.done


def test_a_disk_that_takes_no_more_ends_a_run_in_one_sentence(
    begin: Callable[..., Run], service: Service
) -> None:
    run = begin({f"{i}.png": PICTURES["sure.png"] for i in range(300)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        finish(run, service)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.problem == "the answers can’t be written: File too large."
    assert 0 < run.done < 300 and len(names(run)) == run.done == sum(run.counts.values())


def test_a_run_is_gone_with_its_owner(
    begin: Callable[..., Run], service: Service, runs: Runs, tmp_path: Path
) -> None:
    mine, yours = finish(begin(), service), finish(begin(owner="you"), service)
    runs.leave("me")
    assert names(yours)
    with pytest.raises(SuresetError, match="kept no longer"):
        names(mine)
    runs.leave("you")
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_owner_who_leaves_stops_a_run(service: Service, runs: Runs, tmp_path: Path) -> None:
    with gated(service, runs, tmp_path, 500) as (run, classifier):
        until(lambda: classifier.given > 0)
        runs.leave("me")
    assert run.done < 100
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_run_is_forgotten_when_nobody_looked_for_long_enough(
    begin: Callable[..., Run], service: Service, tmp_path: Path
) -> None:
    runs = Runs(tmp_path / "runs", keep_seconds=0.4)
    run = runs.start("me", service.classifier(), begin()._pictures)
    finish(run, service)
    for _ in range(4):
        time.sleep(0.2)
        assert names(run)
    until(lambda: not run.jsonl.exists())


def test_few_runs_are_under_way_and_kept(begin: Callable[..., Run], service: Service) -> None:
    running = [begin() for _ in range(batch.MOST_RUNNING)]
    with pytest.raises(SuresetError, match="start yours when one has ended"):
        begin()
    for run in running:
        finish(run, service)
    kept = [finish(begin(), service) for _ in range(batch.MOST_KEPT - batch.MOST_RUNNING)]
    names(running[0])  # It is looked at, so the other one goes first.
    begin()
    assert running[0].jsonl.exists() and not running[1].jsonl.exists()
    assert all(run.jsonl.exists() for run in kept)


_MEASURE = """
import resource, sys, tempfile
from pathlib import Path
from app.web.archive import Pictures, Upload
from app.web.batch import Asked, Runs
from app.web.meters import Meters
from app.web.served import Served
from app.web.service import Service
from tests.unit.web.fake import load_fake, write_fake_bundle

folder = Path(sys.argv[1])
write_fake_bundle(folder, "first")
service = Service(Served(folder, load=load_fake), Meters())
for name in ("few", "many"):
    pictures = Pictures([Upload(folder / f"{name}.zip", f"{name}.zip")])
    run = Runs(folder / "runs", 3600).start("me", service.classifier(), pictures)
    for _ in run.answer(service, Asked()):
        pass
    assert run.done == pictures.total == run.counts["sure"]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_is_flat_over_many_pictures(tmp_path: Path) -> None:
    """Ten times the pictures, 60 MB of them when unpacked, take hardly more memory."""
    buffer = io.BytesIO()
    Image.new("RGB", (100, 75), (0, 5, 0)).save(buffer, "BMP")
    for name, n in (("few", 300), ("many", 3000)):
        write_zip(tmp_path / f"{name}.zip", {f"{i}.bmp": buffer.getvalue() for i in range(n)})
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    assert many - few < 16 * 1024, "KiB"
