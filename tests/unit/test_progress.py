"""What is said to a person."""

from __future__ import annotations

import pytest

from app.progress import say


def test_a_name_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("é [red]\x1b[31m\u202egnp.exe\nx\udcff")
    assert capsys.readouterr().err == "é [red]\\x1b[31m\\u202egnp.exe\\nx\\udcff\n"
