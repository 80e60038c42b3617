"""The served API under load, beside the bare network that it cannot be faster than.

The load is ``wrk``'s, which takes little of the machine for itself; what it takes is missing from
what is measured all the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import requests
from rich.table import Table

from app.bundle import find_bundle, open_bundle
from app.errors import SuresetError
from app.pipeline.loading import serving_runtime
from app.progress import console, say
from app.settings import Settings
from app.vision.runtimes import SharedRuntime, fastest_batch

_SECONDS = 5
_ROUNDS = 3
#: Clients at once: one alone, as many as there are to be, and more than there is room for.
_ALONE, _MANY, _TOO_MANY = 1, 32, 1000

#: Sends the files it is given as bodies, in turn, and prints what came of it as JSON.
_SCRIPT = """
local bodies = {}
function init(arguments)
  for _, path in ipairs(arguments) do
    local file = assert(io.open(path, "rb"))
    table.insert(bodies, file:read("*all"))
    file:close()
  end
end
local turn = 0
local headers = {["Content-Type"] = "multipart/form-data; boundary=bench"}
function request()
  turn = turn % #bodies + 1
  return wrk.format("POST", "/v1/predict", headers, bodies[turn])
end
function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %f, "median": %f, "p99": %f, "refused": %d, "failed": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6, e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What came of clients that each ask again as soon as they are answered.

    Attributes:
        requests: that were answered in ``seconds``, of which ``refused`` by an error.
        failed: that got no answer.
        median, p99: of the time of an answer, in seconds.
    """

    requests: int
    seconds: float
    median: float
    p99: float
    refused: int
    failed: int

    @property
    def rate(self) -> float:
        """Answered pictures a second."""
        return (self.requests - self.refused) / self.seconds


def bench_serving(settings: Settings) -> None:
    """Print the latency and the rate of the API with the bundle ``--model`` in service.

    Raises:
        SuresetError: there is no bundle, or no ``wrk``.
    """
    if shutil.which("wrk") is None:
        raise SuresetError(
            "the load comes from `wrk`, which is not here: install the package wrk of your system."
        )
    bundle = find_bundle(settings.models_dir, settings.model)
    facts = open_bundle(bundle)
    runtime = serving_runtime(bundle, facts)
    size = facts["preprocess"]["size"]
    batch = fastest_batch(runtime, size)
    alone, best, loads, health = [], [], {}, []
    with tempfile.TemporaryDirectory() as name, _server(settings, bundle) as (address, process):
        bodies = _bodies([bundle / "examples" / n for n in facts["examples"]], Path(name))
        _load(address, bodies, _MANY, 1)
        before = _resident(process)
        rounds: dict[int, list[Load]] = {_ALONE: [], _MANY: []}
        for _ in range(_ROUNDS):
            alone.append(_seconds_alone(runtime, size))
            best.append(_best_rate(runtime, size, batch))
            rounds[_ALONE].append(_load(address, bodies, _ALONE, _SECONDS))
            with _asking_for_health(address) as asked:
                rounds[_MANY].append(_load(address, bodies, _MANY, _SECONDS))
            health += asked
        loads = {n: _middle(of_n) for n, of_n in rounds.items()}
        crowd = _load(address, bodies, _TOO_MANY, _SECONDS)
        after = _resident(process)
        asked_in_all = sum(load.requests for of_n in rounds.values() for load in of_n)
    bare, bound = median(alone), median(best)
    one, many = loads[_ALONE], loads[_MANY]
    table = Table(
        title=f"{bundle.name} ({facts['backbone']['name']}) by {runtime.kind}, "
        f"{os.cpu_count()} processors, wrk on the same"
    )
    for column in ("what", "median ms", "99 % ms", "pictures/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("bare network, one picture", f"{1e3 * bare:.1f}", "", f"{1 / bare:.0f}")
    table.add_row(f"bare network, batches of {batch}, the fastest", "", "", f"{bound:.0f}")
    for n, load in ((_ALONE, one), (_MANY, many), (_TOO_MANY, crowd)):
        clients = "one client" if n == 1 else f"{n:,} clients"
        row = f"{1e3 * load.median:.1f}", f"{1e3 * load.p99:.1f}", f"{load.rate:.0f}"
        table.add_row(f"POST /v1/predict, {clients}", *row)
    table.add_row(
        f"GET /healthz beside {_MANY} clients",
        f"{1e3 * median(health):.1f}",
        f"{1e3 * float(np.quantile(health, 0.99)):.1f}",
        "",
    )
    console.print(table)
    say(f"one request takes {1e3 * (one.median - bare):.1f} ms more than the bare network")
    say(f"{_MANY} clients get {many.rate / bound:.2f} of the bare network's best rate")
    say(
        f"of {_TOO_MANY:,} clients at once {crowd.requests - crowd.refused:,} answers were sets, "
        f"{crowd.refused:,} were told to come back, {crowd.failed:,} got none"
    )
    say(f"memory after {asked_in_all + crowd.requests:,} more requests: {after - before:+.0f} MB")


def _seconds_alone(runtime: SharedRuntime, size: int) -> float:
    """The median time of one picture."""
    picture = np.zeros((1, size, size, 3), np.uint8)
    seconds = []
    until = time.perf_counter() + _SECONDS / 2
    while time.perf_counter() < until:
        started = time.perf_counter()
        runtime.run(picture)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def _best_rate(runtime: SharedRuntime, size: int, batch: int) -> float:
    """Pictures a second with nothing else to do."""
    pictures = np.zeros((batch, size, size, 3), np.uint8)
    started = time.perf_counter()

    def for_a_while() -> Iterator[np.ndarray]:
        while time.perf_counter() < started + _SECONDS / 2:
            yield pictures

    done = sum(len(features) for features in runtime.encode(for_a_while()))
    return done / (time.perf_counter() - started)


@contextmanager
def _server(settings: Settings, bundle: Path) -> Iterator[tuple[str, int]]:
    """The address and the process number of ``serve`` with a bundle."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "app", "serve", "--address", "127.0.0.1", "--port", "0"),
            *("--models", str(settings.models_dir), "--model", str(bundle)),
            *("--static", str(settings.static_dir), "--log", "off"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"is serving at (http://\S+)$", line):
                # What it says from now on is read, or it would wait for a reader one day.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield found[1], process.pid
                return
        raise SuresetError(f"the server did not start: {''.join(said).strip()}")
    finally:
        process.terminate()
        process.wait()


def _bodies(pictures: list[Path], folder: Path) -> list[Path]:
    """Request bodies with a picture each, as files."""
    head = b'--bench\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    files = []
    for picture in pictures:
        files.append(folder / picture.name)
        files[-1].write_bytes(head + picture.read_bytes() + b"\r\n--bench--\r\n")
    return files


def _load(address: str, bodies: list[Path], clients: int, seconds: int) -> Load:
    """Let ``clients`` ask for ``seconds``."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT)
        script.flush()
        told = subprocess.run(
            [
                *("wrk", "--threads", "1", "--connections", str(clients)),
                *("--duration", f"{seconds}s", "--timeout", "60s", "--script", script.name),
                *(address, "--", *map(str, bodies)),
            ],
            capture_output=True,
            text=True,
        )
    if told.returncode:
        raise SuresetError(f"wrk failed: {told.stderr.strip() or told.stdout.strip()}")
    return Load(**json.loads(told.stdout.splitlines()[-1]))


def _middle(loads: list[Load]) -> Load:
    """The one with the median time."""
    return sorted(loads, key=lambda load: load.median)[len(loads) // 2]


@contextmanager
def _asking_for_health(address: str) -> Iterator[list[float]]:
    """The seconds that /healthz takes, asked ten times a second meanwhile."""
    seconds: list[float] = []
    enough = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not enough.wait(0.1):
                started = time.perf_counter()
                session.get(f"{address}/healthz", timeout=60).raise_for_status()
                seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        enough.set()
        thread.join()


def _resident(process: int) -> float:
    """Memory of a process, MB; 0 where the system does not tell."""
    status = Path(f"/proc/{process}/status")
    if not status.is_file():
        return 0.0
    [kilobytes] = re.findall(r"^VmRSS:\s+(\d+) kB", status.read_text(), re.M)
    return int(kilobytes) / 1024
