"""The bench of serving: a real server under a real load."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from app.errors import SuresetError
from app.pipeline.bench import serving
from app.settings import load_settings


def test_the_load_is_answered_and_set_beside_the_bare_network(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("the load tool wrk is not installed")
    monkeypatch.setattr(serving, "_SECONDS", 2)
    monkeypatch.setattr(serving, "_ROUNDS", 1)
    monkeypatch.setenv("COLUMNS", "140")
    serving.bench_serving(load_settings(models_dir=workplace / "models"))
    said = capsys.readouterr().err
    rows = {
        cells[1].strip(): [float(cell) if cell.strip() else None for cell in cells[2:5]]
        for cells in (line.split("│") for line in said.splitlines())
        if len(cells) == 6
    }
    one, many, crowd = (
        rows[f"POST /v1/predict, {clients}"]
        for clients in ("one client", "32 clients", "1,000 clients")
    )
    assert one[0] > rows["bare network, one picture"][0]  # type: ignore[operator]
    [best] = (row[2] for name, row in rows.items() if "the fastest" in name)
    assert 0 < many[2] < best  # type: ignore[operator]
    assert many[0] > one[0]  # type: ignore[operator]
    assert crowd[1] is not None
    answered, refused, failed = (
        int(n.replace(",", ""))
        for n in re.findall(r"([\d,]+) (?:answers were|were told|got none)", said)
    )
    assert answered > 0 and refused > 0 and failed == 0
    assert re.search(r"memory after [\d,]+ more requests: [+-]\d+ MB", said)


def test_without_a_load_tool_it_says_what_to_install(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(workplace))
    with pytest.raises(SuresetError, match="install the package wrk"):
        serving.bench_serving(load_settings(models_dir=workplace / "models"))
