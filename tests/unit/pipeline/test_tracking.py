"""W&B: where a run goes, what goes there, and that nothing else does."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest

from app.errors import SuresetError
from app.pipeline.tracking import Tracking, read_key
from app.settings import load_settings
from tests.unit.pipeline.conftest import ROOT, run_in
from tests.unit.pipeline.fake_wandb import FakeWandb

KEY = "0123456789abcdef0123456789abcdef01234567"
AUTHORIZATION = base64.b64encode(f"api:{KEY}".encode()).decode()

#: What train does, without the training.
TRACKED = """
import os, signal, sys, time
from pathlib import Path
from app.pipeline.tracking import Tracking
from app.settings import load_settings
from app.stopping import end_when_told_to
end_when_told_to()
with Tracking(load_settings()) as tracking:
    tracking.prepare()
    tracking.begin("a-name", {"seed": 7})
    if "crash" in sys.argv:
        children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
        os.kill(int(children[0]), signal.SIGKILL)
        time.sleep(0.2)
    tracking.log({"taskwise/epoch": 0, "taskwise/valid_loss": 2.5})
    tracking.summarise({"bundle": "a-name"})
    print("done", flush=True)
    if "keep" in sys.argv:
        tracking.keep(Path("bundle"))
    if "wait" in sys.argv:
        print("waiting", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(f"{KEY}\n")
    return tmp_path / "key"


def environment(folder: Path, watcher: FakeWandb, **variables: str) -> dict[str, str]:
    """No W&B variables, a home of its own, and a proxy that sees what leaves this machine."""
    (folder / "home").mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if "WANDB" not in k and "proxy" not in k.lower()}
    proxies = {"HTTP_PROXY": watcher.url, "HTTPS_PROXY": watcher.url}
    return {
        **kept,
        **proxies,
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        **variables,
    }


def track(
    folder: Path, watcher: FakeWandb, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TRACKED, *words],
        cwd=folder,
        env=environment(folder, watcher, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def holding(text: str, *folders: Path) -> list[Path]:
    """The files below these folders that hold a text."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]


def test_the_key_of_a_file(tmp_path: Path, key_file: Path) -> None:
    assert read_key(None) is None
    assert read_key(Path(os.devnull)) is None
    assert read_key(key_file) == KEY
    for key in (f"local-{KEY}", f"wandb_v1_{KEY}_{KEY}", "eyJhbGciOi.eyJzdWIiOj.c2lnbm-F0dXJl"):
        key_file.write_text(key)
        assert read_key(key_file) == key
    key_file.write_text(" \n")
    assert read_key(key_file) is None


@pytest.mark.parametrize(
    "content",
    [KEY[:-1], f"WANDB_API_KEY={KEY}", f"{KEY} {KEY}", "ключ" * 20, "www.example.com"],
)
def test_what_is_no_key_is_refused_and_not_shown(key_file: Path, content: str) -> None:
    key_file.write_text(content, encoding="utf-8")
    with pytest.raises(SuresetError, match="holds no W&B key") as refusal:
        read_key(key_file)
    assert content[:10] not in str(refusal.value).replace(str(key_file), "")


def test_bytes_are_no_key(key_file: Path) -> None:
    key_file.write_bytes(b"\xff\xfe" * 30)
    with pytest.raises(SuresetError, match="holds no W&B key"):
        read_key(key_file)


def test_a_key_file_that_cannot_be_read(tmp_path: Path, key_file: Path) -> None:
    with pytest.raises(SuresetError, match=r"absent .No such file or directory.*--wandb-key-file"):
        read_key(tmp_path / "absent")
    with pytest.raises(SuresetError, match="Is a directory"):
        read_key(tmp_path)
    key_file.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # To root everything is readable.
    try:
        with pytest.raises(SuresetError, match="Permission denied"):
            read_key(key_file)
    finally:
        os.seteuid(user)


def test_the_folder_must_be_one_to_write_in(tmp_path: Path, key_file: Path) -> None:
    with pytest.raises(SuresetError, match=r"W&B cannot be written to.*--wandb"):
        Tracking(load_settings(wandb_dir=str(key_file / "below"))).prepare()


def test_a_bad_key_file_stops_training_before_any_work(tmp_path: Path) -> None:
    done = run_in(tmp_path, "train", "--wandb-key-file", "absent")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the W&B key cannot be read from absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "unset", [{}, {"WANDB_BASE_URL": "", "WANDB_ENTITY": "", "WANDB_MODE": ""}]
)
def test_without_a_key_the_run_stays_here(tmp_path: Path, unset: dict[str, str]) -> None:
    with FakeWandb() as watcher:
        done = track(tmp_path, watcher, WANDB_KEY_FILE=os.devnull, **unset)
        assert watcher.requests == []
    [run] = (tmp_path / "wandb").glob("wandb/offline-run-*")
    shown = run.relative_to(tmp_path)
    assert done.stdout == "done\n"
    assert done.stderr == f"W&B: kept here (no key), `wandb sync {shown}` uploads it\n"
    [log] = run.glob("*.wandb")
    assert b"taskwise/valid_loss" in log.read_bytes()
    assert list((tmp_path / "home").rglob("*")) == []


def test_a_training_run_without_a_key_says_where_it_is(workplace: Path) -> None:
    said = (workplace / "train.txt").read_text()
    [line] = [line for line in said.splitlines() if "W&B" in line]
    run = workplace / line.split("`wandb sync ")[1].split("`")[0]
    assert len(list(run.glob("files/media/html/report_*.html"))) == 1
    assert len(list(run.glob("files/media/html/plots/*.html"))) == 8
    assert not list(run.rglob("*.xml"))


def test_a_refused_key_leaves_the_run_here(tmp_path: Path, key_file: Path) -> None:
    with FakeWandb(refuses=True) as server:
        done = track(tmp_path, server, WANDB_KEY_FILE=str(key_file), WANDB_BASE_URL=server.url)
        assert {request.host for request in server.requests} == {server.host}
    [run] = (tmp_path / "wandb" / "wandb").glob("*run-*-*")
    assert run.name.startswith("offline-run-")
    command = f"`WANDB_BASE_URL={server.url} wandb sync {run.relative_to(tmp_path)}`"
    assert done.stderr == f"W&B: kept here (user is not logged in), {command} uploads it\n"
    assert done.stdout == "done\n"


def test_no_reason_shows_the_key(
    tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither that of a server, which repeats it here, nor that of an error."""
    with FakeWandb(refuses=True) as server:
        server.refusal = f"Basic {AUTHORIZATION} of {KEY} is unknown"
        done = track(tmp_path, server, WANDB_KEY_FILE=str(key_file), WANDB_BASE_URL=server.url)
    assert "W&B: kept here (Basic the key of the key is unknown)" in done.stderr

    def fail() -> None:
        raise RuntimeError(server.refusal)

    Tracking(load_settings(wandb_dir=str(tmp_path), wandb_key_file=str(key_file)))._looking_on(fail)
    assert "W&B: given up (RuntimeError Basic the key of the key" in capsys.readouterr().err


def test_a_server_out_of_reach_leaves_the_run_here_within_seconds(
    tmp_path: Path, key_file: Path
) -> None:
    with socket.socket() as taken, FakeWandb() as watcher:
        taken.bind(("127.0.0.1", 0))  # Nobody listens, and nobody else can.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        started = time.monotonic()
        done = track(tmp_path, watcher, WANDB_KEY_FILE=str(key_file), WANDB_BASE_URL=url)
        assert time.monotonic() - started < 12
        assert watcher.requests == []
    assert done.stderr.count("\n") == 1 and "connection refused), `WANDB_BASE_URL" in done.stderr
    assert len(list((tmp_path / "wandb").glob("wandb/offline-run-*"))) == 1


def test_a_crash_of_wandb_leaves_the_training_as_it_is(tmp_path: Path) -> None:
    with FakeWandb() as watcher:
        done = track(tmp_path, watcher, "crash")
    assert done.stdout == "done\n"
    kept, given_up = done.stderr.splitlines()
    assert kept.startswith("W&B: kept here")
    assert given_up.startswith("W&B: given up (ConnectionResetError ")


@contextmanager
def tracked(
    tmp_path: Path, server: FakeWandb, key_file: Path, word: str
) -> Iterator[subprocess.Popen[str]]:
    """``TRACKED`` with the key, told a word, and killed at the end if it still runs."""
    variables = {"WANDB_KEY_FILE": str(key_file), "WANDB_BASE_URL": server.url}
    process = subprocess.Popen(
        [sys.executable, "-c", TRACKED, word],
        cwd=tmp_path,
        env=environment(tmp_path, server, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()


@pytest.mark.parametrize(("stalls", "stops"), [(False, 1), (True, 1), (True, 2)])
def test_a_run_that_is_stopped_ends_its_run_on_the_server_soon(
    tmp_path: Path, key_file: Path, stalls: bool, stops: int
) -> None:
    with (
        FakeWandb(stalls=stalls) as server,
        tracked(tmp_path, server, key_file, "wait") as process,
    ):
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["done\n", "waiting\n"]
        [core] = cores(process.pid)
        for place in ("environ", "cmdline"):
            for pid in (process.pid, core):
                assert KEY.encode() not in Path(f"/proc/{pid}/{place}").read_bytes()
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if stops == 2:  # While the server is waited for.
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - started < 10  # As long as Docker waits.
        assert process.returncode == 143
        assert ("uploads the rest" in said) is stalls
        assert stalls or server.exit_codes() == [143]
        deadline = time.monotonic() + 10  # It looks for its parent every now and then.
        while Path(f"/proc/{core}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not Path(f"/proc/{core}").exists()


def test_a_stop_ends_the_sending_of_a_bundle(tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    (tmp_path / "bundle" / "report.html").write_text("<p>")
    with (
        FakeWandb(stalls=True) as server,
        tracked(tmp_path, server, key_file, "keep") as process,
    ):
        assert process.stderr is not None
        while "sending the bundle" not in process.stderr.readline():
            pass
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - started < 10
        assert process.returncode == 143
        # What is left out is not what can still be uploaded.
        *_, left_out, rest = said.splitlines()
        assert left_out == "W&B: the bundle is left out; it is in bundle"
        assert rest.endswith("uploads the rest of them") and "not all numbers" in rest


def cores(parent: int) -> list[int]:
    """The processes of W&B's that a process started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(c) for c in children if b"wandb-core" in Path(f"/proc/{c}/cmdline").read_bytes()]


def test_losses_and_metrics_arrive_and_the_key_is_left_nowhere(
    workplace: Path, tmp_path: Path, key_file: Path
) -> None:
    # The epochs of a run that another test broke off would not come again.
    shutil.rmtree(workplace / "cache" / "fitting", ignore_errors=True)
    with FakeWandb() as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "app", "train", "--save-as", "tracked"),
                *("--models", str(tmp_path / "models"), "--wandb", str(tmp_path / "wandb")),
                *("--logs", str(tmp_path / "logs"), "--wandb-key-file", str(key_file)),
            ],
            cwd=workplace,
            env=environment(
                tmp_path, server, WANDB_BASE_URL=server.url, BACKBONE="tf_efficientnet_lite0"
            ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "W&B" in line or "wandb" in line]
    opened, sending = said
    number = server.sent("UpsertBucket")[0]["name"]
    assert opened == f"W&B: {server.url}/me/sureset/runs/{number}"
    assert re.fullmatch(r"W&B: sending the bundle \(\d+ MB\), Ctrl-C leaves it out", sending)

    assert {request.host for request in server.requests} == {server.host}
    assert f"Basic {AUTHORIZATION}" in {request.authorization for request in server.requests}
    assert server.exit_codes() == [0]
    history = server.streamed("wandb-history.jsonl")
    for head in ("taskwise", "joint"):
        for loss in ("train_loss", "valid_loss"):
            epochs = [row[f"{head}/epoch"] for row in history if f"{head}/{loss}" in row]
            assert epochs == list(range(len(epochs))) and len(epochs) > 3
    summary = server.streamed("wandb-summary.json")[-1]
    assert summary["bundle"] == "tracked"
    assert 0 < summary["colour/coverage"] <= 1 and summary["joint/avg_set_size"] > 0
    assert server.sent("UpsertBucket")[0]["displayName"] == "tracked"
    config = server.sent("UpsertBucket")[-1]["config"]
    for decisive in (
        '"alpha"',
        '"taxonomy"',
        '"splits"',
        '"weights_sha256"',
        '"versions"',
        "beige",
    ):
        assert decisive in config

    bundle = tmp_path / "models" / "tracked"
    arrived = {unquote(request.path) for request in server.requests if request.method == "PUT"}
    files = [file.relative_to(bundle) for file in bundle.rglob("*") if file.is_file()]
    assert arrived >= {f"/artifact/{file.as_posix()}" for file in files}
    assert any(path.startswith("/media/html/report_") for path in arrived)
    assert any(path.startswith("/media/html/plots/colour coverage") for path in arrived)
    [artifact] = [given["input"] for given in server.sent("CreateArtifact")]
    assert json.loads((bundle / "bundle.json").read_text()) == json.loads(artifact["metadata"])
    kept = sum(file.stat().st_size for file in (tmp_path / "wandb").rglob("*") if file.is_file())
    assert kept < 4_000_000  # No copy of the bundle.

    everything = "".join(request.body for request in server.requests)
    for private in (str(workplace), str(tmp_path), KEY):
        assert private not in everything
    # In the bundle's numbers and the plots' outlines, letters may stand together by chance.
    host = re.compile(rf"\b{re.escape(socket.gethostname())}\b")
    for request in server.requests:
        if not request.path.startswith(("/artifact/", "/media/")):
            assert not host.search(request.body), request.path
    for secret in (KEY, AUTHORIZATION):
        assert secret not in done.stdout + done.stderr
        assert holding(secret, tmp_path, workplace / "cache") in ([], [key_file])
    assert not [path for name in ("*wandb*", "*netrc*") for path in (tmp_path / "home").rglob(name)]
