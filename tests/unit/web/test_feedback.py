"""The feedback: what is kept of it, by whom it is asked for, and what the API makes of it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.errors import SuresetError
from app.feedback import FILE, PICTURES, CannotKeep, Feedback, FeedbackError, Word
from app.web.access import Guard, Keys, new_key
from app.web.api import api
from app.web.feedback import Watch
from app.web.meters import Meters
from app.web.served import Served
from app.web.service import Service
from tests.unit.web.fake import CLASSES, TRAINED_ON, FakeClassifier, draw, picture

RED, GREEN = picture(200, 30, 30), picture(30, 200, 30)


@pytest.fixture
def feedback(tmp_path: Path) -> Iterator[Feedback]:
    feedback = Feedback(tmp_path / "feedback")
    yield feedback
    feedback.close()


@pytest.fixture
def service(served: Served, feedback: Feedback) -> Service:
    return Service(served, Meters(), feedback)


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(api(service), raise_server_exceptions=False) as client:
        yield client


def word(data: bytes, content: str = "c", who: str = "me", **truth: str) -> Word:
    features = np.arange(3, dtype=np.float32) + len(data)
    asked = {"alpha": 0.1, "score": "hinge", "taxonomy": "task"}
    return Word(
        who, "first", content, "openvino-f32", data, features, asked, {"colour": ["red"]}, truth
    )


def tell(client: TestClient, data: bytes, truth: Any, **query: Any) -> Any:
    text = truth if isinstance(truth, str) else json.dumps(truth)
    files = {"image": ("car.png", data)}
    return client.post("/v1/feedback", params=query, data={"truth": text}, files=files)


def rows(feedback: Feedback, columns: str = "*") -> list[Any]:
    with sqlite3.connect(feedback.folder / FILE) as database:
        return database.execute(f"SELECT {columns} FROM feedback ORDER BY id").fetchall()


def gauges(client: TestClient) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("task", "")): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name.startswith("sureset_feedback")
    }


# ---- the file


def test_a_word_is_kept_with_who_when_and_which_bundle(feedback: Feedback) -> None:
    kept = feedback.keep(word(RED, colour="red"))
    columns = "told, who, bundle, content_sha256, runtime, picture_sha256, asked, answered, truth"
    [(told, who, bundle, content, runtime, name, asked, answered, truth)] = rows(feedback, columns)
    assert (who, bundle, content, runtime) == ("me", "first", "c", "openvino-f32")
    assert told == kept.told and told.endswith("+00:00")
    assert name == kept.picture_sha256 == sha256(RED).hexdigest()
    assert json.loads(asked) == {"alpha": 0.1, "score": "hinge", "taxonomy": "task"}
    assert json.loads(answered) == {"colour": ["red"]} and json.loads(truth) == {"colour": "red"}
    with sqlite3.connect(feedback.folder / FILE) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_what_was_told_comes_back_in_order(feedback: Feedback) -> None:
    feedback.keep(word(RED, colour="blue"))
    feedback.keep(word(GREEN, shape="bright"))
    feedback.keep(word(RED, "another", colour="red"))
    told = feedback.told("c", "openvino-f32", CLASSES)
    assert told.pictures == [sha256(data).hexdigest() for data in (RED, GREEN)]
    assert told.labels["colour"].tolist() == [2, -1] and told.labels["shape"].tolist() == [-1, 1]
    assert told.features.dtype == np.float32
    assert told.features[:, 0].tolist() == [len(RED), len(GREEN)]
    assert len(feedback.told("c", "openvino-f32", CLASSES, int(told.ids[0]))) == 1
    assert len(feedback.told("c", "torch-f32", CLASSES)) == 0


def test_a_second_word_on_a_picture_takes_the_place_of_the_first(feedback: Feedback) -> None:
    assert not feedback.keep(word(RED, colour="red", shape="dark")).again
    feedback.keep(word(GREEN, colour="green"))
    assert feedback.revisions("c") == 0
    assert feedback.keep(word(RED, who="you", colour="blue")).again
    told = feedback.told("c", "openvino-f32", CLASSES)
    assert told.labels["colour"].tolist() == [2, 1] and told.labels["shape"].tolist() == [-1, -1]
    assert rows(feedback, "who") == [("you",), ("me",)]
    assert feedback.revisions("c") == 1 and feedback.revisions("another") == 0


def test_nothing_is_made_before_there_is_something_to_keep(feedback: Feedback) -> None:
    assert len(feedback.told("c", "openvino-f32", CLASSES)) == 0
    assert feedback.revisions("c") == 0
    assert not feedback.folder.exists()


def test_the_picture_itself_is_kept_only_where_it_is_asked_for(tmp_path: Path) -> None:
    for asked in (False, True):
        feedback = Feedback(tmp_path / str(asked), keep_pictures=asked)
        assert feedback.keep(word(RED, colour="red")).picture_kept is asked
        feedback.close()
        files = [p for p in feedback.folder.rglob("*") if p.is_file()]
        kept = [p for p in files if RED in p.read_bytes()]
        place = feedback.folder / PICTURES / sha256(RED).hexdigest()
        assert kept == ([place] if asked else [])


def test_threads_and_another_process_write_at_once(feedback: Feedback) -> None:
    other = Feedback(feedback.folder)
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        for i in range(10):
            (feedback, other)[number % 2].keep(word(bytes([number, i]), colour="red"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    other.close()
    assert len(feedback.told("c", "openvino-f32", CLASSES)) == 80


def test_it_can_be_closed_and_used_again(feedback: Feedback) -> None:
    feedback.keep(word(RED, colour="red"))
    feedback.close()
    assert not (feedback.folder / f"{FILE}-wal").exists()
    feedback.keep(word(GREEN, colour="red"))
    assert len(rows(feedback)) == 2


def test_a_locked_file_is_one_sentence(feedback: Feedback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.feedback._PATIENCE_S", 0.05)
    Feedback(feedback.folder).keep(word(RED, colour="red"))
    with sqlite3.connect(feedback.folder / FILE, isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(FeedbackError, match="is in use: ask again in a while"):
            feedback.keep(word(GREEN, colour="green"))
        assert len(feedback.told("c", "openvino-f32", CLASSES)) == 1, "to read waits for nobody"
    feedback.keep(word(GREEN, colour="green"))


def test_a_locked_file_makes_nobody_wait_for_others_who_wait(
    feedback: Feedback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.feedback._PATIENCE_S", 0.5)
    Feedback(feedback.folder).keep(word(RED, colour="red"))

    def keep(number: int) -> float:
        started = time.monotonic()
        with pytest.raises(FeedbackError, match="is in use: ask again in a while"):
            feedback.keep(word(bytes([number]), colour="green"))
        return time.monotonic() - started

    with (
        sqlite3.connect(feedback.folder / FILE, isolation_level=None) as database,
        ThreadPoolExecutor(8) as threads,
    ):
        database.execute("BEGIN IMMEDIATE")
        assert max(threads.map(keep, range(8))) < 2


def test_a_file_that_was_moved_away_or_replaced_is_opened_anew(feedback: Feedback) -> None:
    """As the errors advise, and without a restart."""
    feedback.keep(word(RED, colour="red"))
    feedback.close()
    whole = (feedback.folder / FILE).read_bytes()
    feedback.keep(word(GREEN, colour="green"))
    feedback.close()
    assert len(feedback.told("c", "openvino-f32", CLASSES)) == 2
    (feedback.folder / FILE).rename(feedback.folder / "away")
    assert len(feedback.told("c", "openvino-f32", CLASSES)) == 0
    feedback.keep(word(RED, colour="red"))
    feedback.close()
    assert len(feedback.told("c", "openvino-f32", CLASSES)) == 1
    feedback.close()
    (feedback.folder / FILE).write_bytes(whole[:100] + bytes([7]) * (len(whole) - 100))
    with pytest.raises(FeedbackError, match="damaged"):
        feedback.told("c", "openvino-f32", CLASSES)
    (feedback.folder / FILE).write_bytes(whole)
    assert len(feedback.told("c", "openvino-f32", CLASSES)) == 1


def test_a_picture_that_cannot_be_kept_takes_its_row_along(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, keep_pictures=True)
    (tmp_path / PICTURES).touch()
    with pytest.raises(CannotKeep, match="cannot be written to"):
        feedback.keep(word(RED, colour="red"))
    assert rows(feedback) == []
    feedback.close()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotKeep, match=r"cannot be written to .*with --feedback"):
        Feedback(tmp_path / "file" / "feedback").keep(word(RED, colour="red"))


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(feedback: Feedback) -> None:
    feedback.keep(word(RED, colour="red"))
    with feedback._open() as database:
        [pages] = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(CannotKeep, match="is full"):
        for number in range(200):
            feedback.keep(word(bytes([number]) * 9, colour="red"))
    assert len(feedback.told("c", "openvino-f32", CLASSES)) >= 1


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"no database " * 99, "is damaged"), (None, "by a newer Sureset")]
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    feedback: Feedback, content: bytes | None, sentence: str
) -> None:
    feedback.folder.mkdir()
    if content is None:
        with sqlite3.connect(feedback.folder / FILE) as database:
            database.execute("PRAGMA user_version = 2")
    else:
        (feedback.folder / FILE).write_bytes(content)
    with pytest.raises(FeedbackError, match=sentence):
        feedback.told("c", "openvino-f32", CLASSES)
    with pytest.raises(FeedbackError, match=sentence):
        feedback.keep(word(RED, colour="red"))


# ---- the API


def test_a_truth_is_answered_and_kept(client: TestClient, feedback: Feedback) -> None:
    response = tell(client, RED, {"colour": "blue"}, alpha=0.2)
    assert response.status_code == 200
    answer = response.json()
    assert answer["image"] == "car.png" and answer["tasks"]["colour"]["top"] == "red"
    kept = answer["kept"]
    assert kept["who"] == "anonymous" and kept["model"] == "first"
    assert kept["truth"] == {"colour": "blue"} and kept["replaced"] is False
    [(asked, answered)] = rows(feedback, "asked, answered")
    assert json.loads(asked) == {"alpha": 0.2, "score": "hinge", "taxonomy": "task"}
    assert json.loads(answered)["colour"] == answer["tasks"]["colour"]["set"]
    assert tell(client, RED, {"colour": "red"}).json()["kept"]["replaced"] is True


def test_who_tells_is_whose_key_it_is(service: Service, feedback: Feedback, tmp_path: Path) -> None:
    key, line = new_key("alice")
    (tmp_path / "keys").write_text(line)
    client = TestClient(Guard(api(service), Keys(tmp_path / "keys")), headers={})
    assert tell(client, RED, {"colour": "red"}).status_code == 401
    client.auth = ("alice", key)
    assert tell(client, RED, {"colour": "red"}).json()["kept"]["who"] == "alice"
    assert rows(feedback, "who") == [("alice",)]


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        ({"size": "large"}, "there is no task 'size': there are colour, shape."),
        ({"colour": "pink"}, "colour cannot be 'pink': choose from red, green, blue."),
        ({"colour": None}, "colour cannot be None: choose from red, green, blue."),
        ({"colour": ["red"]}, "colour cannot be ['red']: choose from red, green, blue."),
        ({}, "the truth must name the class of at least one of colour, shape."),
        ("[]", 'truth must be a JSON object such as {"colour": "red"}.'),
        ("red", 'truth must be a JSON object such as {"colour": "red"}.'),
        ("[" * 60000, 'truth must be a JSON object such as {"colour": "red"}.'),
    ],
)
def test_a_bad_truth_is_a_422_in_one_sentence(
    client: TestClient, feedback: Feedback, truth: Any, sentence: str
) -> None:
    response = tell(client, RED, truth)
    assert response.status_code == 422
    assert response.json() == {"error": sentence}
    assert not feedback.folder.exists()


def test_a_bad_picture_or_method_is_a_422(client: TestClient, feedback: Feedback) -> None:
    assert tell(client, b"no picture", {"colour": "red"}).status_code == 422
    assert tell(client, RED, {"colour": "red"}, score="best").status_code == 422
    assert client.post("/v1/feedback", data={"truth": "{}"}).status_code == 422
    assert client.post("/v1/feedback", files={"image": RED}).status_code == 422
    assert not feedback.folder.exists()


def test_what_cannot_be_kept_is_a_507_or_503(
    client: TestClient, feedback: Feedback, tmp_path: Path
) -> None:
    feedback.folder.touch()
    response = tell(client, RED, {"colour": "red"})
    assert response.status_code == 507 and "make room there" in response.json()["error"]
    feedback.folder.unlink()
    feedback.folder.mkdir()
    (feedback.folder / FILE).write_bytes(b"no database" * 99)
    for response in (tell(client, RED, {"colour": "red"}), client.get("/v1/monitoring")):
        assert response.status_code == 503 and "is damaged" in response.json()["error"]
    assert gauges(client)["sureset_feedback_readable", ""] == 0


def test_monitoring_counts_what_was_told(client: TestClient) -> None:
    empty = client.get("/v1/monitoring").json()
    assert empty["answers"] == 0 and list(empty["tasks"]) == ["colour", "shape"]
    assert empty["tasks"]["colour"]["coverage"] is None
    assert empty["tasks"]["colour"]["interval"] == [0, 1]
    tell(client, RED, {"colour": "red"})
    tell(client, GREEN, {"colour": "green", "shape": "dark"})
    told = client.get("/v1/monitoring").json()
    assert (told["model"], told["alpha"], told["answers"]) == ("first", 0.1, 2)
    assert told["tasks"]["colour"]["n"] == 2 and told["tasks"]["shape"]["n"] == 1
    assert told["tasks"]["colour"]["covered"] == 2 and told["joint"]["n"] == 1
    assert told["tasks"]["colour"]["promised"] == 0.9 and told["tasks"]["colour"]["kept"] is True
    assert gauges(client)["sureset_feedback_answers", ""] == 2
    assert gauges(client)["sureset_feedback_coverage", "colour"] == 1
    assert gauges(client)["sureset_feedback_alarm", "colour"] == 0


def test_a_replaced_truth_counts_once_and_anew(client: TestClient) -> None:
    tell(client, RED, {"colour": "red"})
    assert client.get("/v1/monitoring").json()["tasks"]["colour"]["covered"] == 1
    tell(client, RED, {"colour": "blue"})
    told = client.get("/v1/monitoring").json()
    assert told["answers"] == 1 and told["tasks"]["colour"]["covered"] == 0


def test_pictures_that_trained_the_heads_prove_nothing(client: TestClient) -> None:
    tell(client, TRAINED_ON, {"colour": "blue"})
    told = client.get("/v1/monitoring").json()
    assert told["answers"] == 1 and told["tasks"]["colour"]["n"] == 0


def keep_drawn(feedback: Feedback, n: int, wrong: bool = False) -> None:
    """What many people told of a fake bundle, as its calibration expects, or the least likely."""
    classifier = FakeClassifier(Path("first"))
    features, labels = draw(classifier, n, np.random.default_rng(1))
    if wrong:
        labels = {t: p.argmin(axis=1) for t, p in classifier.probabilities(features).items()}
    for i in range(n):
        truth = {task: names[int(labels[task][i])] for task, names in CLASSES.items()}
        asked = {"alpha": 0.5, "score": "margin", "taxonomy": "class"}
        content = classifier.facts["content_sha256"]
        feedback.keep(
            Word(
                *("me", "first", content, classifier.runtime, bytes([i % 256, i // 256])),
                *(features[i], asked, {}, truth),
            )
        )


def test_monitoring_tells_a_broken_promise_from_one_that_is_kept(
    client: TestClient, feedback: Feedback
) -> None:
    keep_drawn(feedback, 300)
    told = client.get("/v1/monitoring").json()
    for course in (*told["tasks"].values(), told["joint"]):
        assert course["kept"] is True and course["alarm"] is False
        assert abs(course["coverage"] - 0.9) < 0.06, "by the bundle's own alpha and method"
    keep_drawn(feedback, 300, wrong=True)
    told = client.get("/v1/monitoring").json()
    assert told["answers"] == 300
    assert told["tasks"]["colour"]["kept"] is False and told["tasks"]["colour"]["alarm"] is True
    assert gauges(client)["sureset_feedback_alarm", "colour"] == 1


def test_rows_of_another_writer_are_taken_in(client: TestClient, feedback: Feedback) -> None:
    tell(client, RED, {"colour": "red"})
    assert client.get("/v1/monitoring").json()["answers"] == 1
    other = Feedback(feedback.folder)
    keep_drawn(other, 5)
    other.close()
    assert client.get("/v1/monitoring").json()["answers"] == 6


# ---- the button


def test_recalibrating_runs_the_command_as_the_bundle_is(
    served: Served, feedback: Feedback, tmp_path: Path
) -> None:
    ran: list[list[str]] = []

    def run(arguments: Sequence[str]) -> None:
        ran.append(list(arguments))
        write_metrics(tmp_path, arguments)

    watch = Watch(feedback, served, run)
    classifier: Any = served.current()
    new, coverage = watch.recalibrate(classifier)
    assert coverage == {"colour": 0.91, "shape": 0.93, "joint": 0.92}
    [command] = ran
    assert command[:2] == ["calibrate", "--from-feedback"]
    flags = dict(zip(command[2::2], command[3::2], strict=True))
    assert flags["--model"] == str(classifier.path) and flags["--models"] == str(tmp_path)
    assert flags["--save-as"] == new.name and new.name.startswith("first+")
    assert flags["--feedback"] == str(feedback.folder)
    assert (flags["--alpha"], flags["--score"], flags["--head"]) == ("0.1", "hinge", "taskwise")


def write_metrics(models_dir: Path, arguments: Sequence[str]) -> None:
    """What is read of the bundle that the command made."""
    folder = models_dir / arguments[arguments.index("--save-as") + 1]
    folder.mkdir()
    tasks = {"colour": {"coverage": 0.91}, "shape": {"coverage": 0.93}}
    (folder / "metrics.json").write_text(json.dumps({"tasks": tasks, "joint": {"coverage": 0.92}}))


def test_only_one_bundle_is_calibrated_at_a_time(
    served: Served, feedback: Feedback, tmp_path: Path
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def run(arguments: Any) -> None:
        started.set()
        assert go_on.wait(10)
        write_metrics(tmp_path, arguments)

    watch = Watch(feedback, served, run)
    classifier: Any = served.current()
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(watch.recalibrate, classifier)
        assert started.wait(10)
        with pytest.raises(SuresetError, match="is being calibrated already"):
            watch.recalibrate(classifier)
        go_on.set()
        assert first.result()[0].name.startswith("first+")


def test_why_the_command_failed_is_what_is_said(served: Served, feedback: Feedback) -> None:
    watch = Watch(feedback, served)
    with pytest.raises(SuresetError, match=r"^the bundle .* has no readable bundle\.json"):
        watch.recalibrate(served.current())  # type: ignore[arg-type]  # A fake one.


def test_bundles_that_cannot_be_written_are_one_sentence(
    tmp_path: Path, feedback: Feedback, served: Served
) -> None:
    classifier: Any = served.current()
    (tmp_path / "file").touch()
    served.models_dir = tmp_path / "file"
    with pytest.raises(SuresetError, match=r"cannot be written to .*: make room there, or name"):
        Watch(feedback, served, lambda arguments: None).recalibrate(classifier)
