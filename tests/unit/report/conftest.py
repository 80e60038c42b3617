"""Pages without the strokes of their plots, which take nearly all of the time."""

from __future__ import annotations

import pytest

from app.report import matrix_plots, plots


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plot is made, but not drawn: it is an empty element."""
    for module in (plots, matrix_plots):
        monkeypatch.setattr(module, "_svg", lambda figure, shows: "<svg></svg>")
