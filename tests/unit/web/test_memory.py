"""What ten thousand requests leave behind in the server: nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.unit.web.fake import picture, write_fake_bundle

ROOT = Path(__file__).parents[3]
_BODY = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    + picture(0, 0, 250)
    + b"\r\n--x--\r\n"
)
_HEADERS = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The port and the process number of ``serve`` with a bundle that takes no time."""
    write_fake_bundle(tmp_path, "first")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.unit.web.slow", "-1"),
            *("serve", "--port", "0", "--models", str(tmp_path), "--log", "off"),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    [port] = re.findall(r":(\d+)$", process.stderr.readline().strip())
    yield int(port), process.pid
    process.terminate()
    assert process.wait(10) == 0


def _ask(port: int, times: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(times):
        connection.request("POST", "/v1/predict", _BODY, _HEADERS)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()


def _megabytes(process: int) -> float:
    [kilobytes] = re.findall(
        r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.M
    )
    return int(kilobytes) / 1024


def test_memory_is_flat_over_ten_thousand_requests(server: tuple[int, int]) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("this system does not tell how much memory a process has")
    port, process = server
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_ask, [port] * 4, [500] * 4))
        before = _megabytes(process)
        list(pool.map(_ask, [port] * 4, [2500] * 4))
    assert _megabytes(process) - before < 6  # A kilobyte a request would be ten.
