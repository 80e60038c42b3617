"""What the words of the command line lead to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app import cli
from app.data.drawing.picture import TASKS
from app.data.sample import USUAL_TASKS, write_sample
from app.errors import SuresetError
from app.settings import SAMPLE_SIZE, Settings


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Settings]]:
    """The commands that were run, with their settings, instead of running them."""
    import app.pipeline.train
    import app.web.server

    calls: list[tuple[str, Settings]] = []
    monkeypatch.setattr(app.pipeline.train, "train", lambda s: calls.append(("train", s)))
    monkeypatch.setattr(app.web.server, "serve", lambda s: calls.append(("serve", s)))
    return calls


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], "serve"),
        (["--port", "8000"], "serve"),
        (["--train"], "train"),
        (["--train", "--alpha", "0.2"], "train"),
        (["train"], "train"),
    ],
)
def test_which_command(
    words: list[str],
    command: str,
    called: list[tuple[str, Settings]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["app", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    [(name, settings)] = called
    assert name == command
    if "0.2" in words:
        assert settings.alpha == 0.2


def test_an_error_is_one_sentence_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import app.pipeline.train

    def fail(_: Settings) -> None:
        raise SuresetError("there is nothing here: do something.")

    monkeypatch.setattr(app.pipeline.train, "train", fail)
    monkeypatch.setattr(sys, "argv", ["app", "train"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: there is nothing here: do something.\n"


@pytest.mark.parametrize(("code", "status"), [(143, 143), (130, 130), (None, 143)])
def test_stopped_training_ends_with_the_status_of_the_signal(
    code: int | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import app.pipeline.train

    def stop(_: Settings) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(app.pipeline.train, "train", stop)
    monkeypatch.setattr(sys, "argv", ["app", "train"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == status


@pytest.mark.parametrize(
    ("words", "measured"),
    [([], "pictures"), (["pictures"], "pictures"), (["conformal"], "conformal")],
)
def test_what_bench_measures(
    words: list[str], measured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import app.pipeline.bench.conformal
    import app.pipeline.bench.pictures

    calls = []
    for name in ("pictures", "conformal"):
        module = getattr(app.pipeline.bench, name)
        monkeypatch.setattr(module, f"bench_{name}", lambda _, name=name: calls.append(name))
    monkeypatch.setattr(sys, "argv", ["app", "bench", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert calls == [measured]


def test_bench_names_what_it_can_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["app", "bench", "nonsense"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("nonsense", "pictures", "conformal"))


def test_a_sample_set_is_written_as_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "vehicles"
    options = ["--size", "3", "--tasks", "type, view", "--seed", "4"]
    monkeypatch.setattr(sys, "argv", ["app", "sample", "--data", str(folder), *options])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"{folder}: 3 drawn vehicles, labelled by type, view"
    asked = tmp_path / "asked"
    write_sample(asked, size=3, seed=4, tasks=["type", "view"])
    for path in ("labels.csv", "images/00000.jpg", "images/00002.jpg"):
        assert (folder / path).read_bytes() == (asked / path).read_bytes()


def test_the_help_of_sample_names_every_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["app", "sample", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().out
    assert all(task in said for task in TASKS)
    assert f"[default: {','.join(USUAL_TASKS)}]" in said and f"[default: {SAMPLE_SIZE}]" in said


@pytest.mark.parametrize(
    "words",
    [
        *(["train", "--nonsense"], ["nonsense"], ["predict"]),
        *(["sample", "--size", size] for size in ("0", "-3", "many")),
    ],
)
def test_wrong_usage_is_status_2(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
