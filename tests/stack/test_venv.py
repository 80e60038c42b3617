"""The local .venv that make builds itself."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.stack.clone import REPOSITORY
from tests.stack.machine import Machine, script

INTERPRETER = """#!/bin/sh
echo "{name} $*" >>"$CALLS"
case "$*" in
    -c*) exit {unsupported} ;;
    --version) echo 'Python 3.12.1' ;;
    '-m venv'*) [ "$VENV_MODULE" != no ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    '-m pip install'*' uv') [ -n "$PIP_HAS_UV" ] && cp "$PIP_HAS_UV" .venv/bin/uv ;;
    '-m pip install'*) [ "$INSTALL" != no ] ;;
esac
"""

UV = """#!/bin/sh
echo "uv $*" >>"$CALLS"
case "$*" in
    'venv '*) mkdir -p .venv/bin ;;
    'pip install'*) [ "$INSTALL" != no ] ;;
esac
"""


@pytest.fixture
def bare(machine: Machine) -> Machine:
    """A machine with a python3 that is supported, and neither .venv nor uv."""
    shutil.rmtree(machine.clone / ".venv")
    machine.add("python3", INTERPRETER.format(name="python3", unsupported=0))
    return machine


def installed(machine: Machine) -> bool:
    return (machine.clone / ".venv" / ".installed").exists()


def test_venv_with_plain_pip(bare: Machine) -> None:
    said = bare.make(".venv/.installed")
    assert "Building .venv with Python 3.12.1" in said
    assert "with pip, as uv cannot be had" in said
    (install,) = bare.calls("--require-hashes")
    assert install.endswith("--require-hashes -r requirements.txt")
    assert installed(bare)

    bare.log.unlink()
    bare.make(".venv/.installed")
    assert not bare.log.exists(), "an installed environment is left alone"


def test_venv_is_renewed_when_the_lock_changes(bare: Machine) -> None:
    bare.make(".venv/.installed")
    later = (bare.clone / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(bare.clone / "requirements.txt", (later, later))
    bare.log.unlink()
    bare.make(".venv/.installed")
    assert len(bare.calls("--require-hashes")) == 1
    assert not bare.calls("-m venv")


def test_venv_with_uv_on_path(bare: Machine) -> None:
    bare.add("uv", UV)
    bare.make(".venv/.installed")
    (install,) = bare.calls("uv pip install")
    assert "--require-hashes --compile-bytecode -r requirements.txt" in install
    assert not bare.calls("-m pip")


def test_venv_with_uv_got_by_pip(bare: Machine, tmp_path: Path) -> None:
    script(tmp_path / "uv", UV)
    bare.make(".venv/.installed", PIP_HAS_UV=str(tmp_path / "uv"))
    assert len(bare.calls("uv pip install")) == 1
    assert not bare.calls("--disable-pip-version-check --require-hashes")


def test_interrupted_install_is_taken_up_again(bare: Machine) -> None:
    bare.make_fails(".venv/.installed", INSTALL="no")
    assert not installed(bare)
    bare.make(".venv/.installed")
    assert installed(bare)


def test_peers_are_put_beside_what_is_there_and_stay(bare: Machine) -> None:
    bare.make("peers")
    first, second = bare.calls("--require-hashes")
    assert first.endswith("--require-hashes -r requirements.txt")
    assert second.endswith("--require-hashes --no-deps -r tests/requirements-peers.txt")

    bare.log.unlink()
    bare.make("peers")
    assert not bare.log.exists(), "peers that are installed are left alone"

    later = (bare.clone / ".venv" / ".peers").stat().st_mtime + 10
    os.utime(bare.clone / "requirements.txt", (later, later))
    bare.make(".venv/.installed")
    assert not bare.calls("-m venv"), "the environment is renewed, not made anew without them"
    bare.make("peers")
    assert bare.calls("--require-hashes")[-1].endswith("-r tests/requirements-peers.txt")


def test_interrupted_install_of_peers_is_taken_up_again(bare: Machine) -> None:
    bare.make(".venv/.installed")
    bare.make_fails("peers", INSTALL="no")
    bare.log.unlink()
    bare.make("peers")
    (install,) = bare.calls("--require-hashes")
    assert install.endswith("-r tests/requirements-peers.txt")


def test_the_lock_of_peers_changes_nothing_of_the_app() -> None:
    """A package of both locks could be installed at another version than the app's."""
    app, peers = (
        set(re.findall(r"^([\w.-]+)==", (REPOSITORY / lock).read_text(), re.MULTILINE))
        for lock in ("requirements.txt", "tests/requirements-peers.txt")
    )
    assert {"crepes", "mapie", "torchcp"} <= peers
    assert not app & peers
    assert "torchsort" not in peers, "it comes as source alone, and building it needs CUDA"


def test_an_older_python_is_passed_over(bare: Machine) -> None:
    bare.add("python3", INTERPRETER.format(name="python3", unsupported=1))
    bare.add("python3.11", INTERPRETER.format(name="python3.11", unsupported=0))
    bare.make(".venv/.installed")
    assert bare.calls("python3.11 -m venv")


def test_no_supported_python(bare: Machine) -> None:
    (bare.bin / "python3").unlink()
    said = bare.make_fails("train", "RUNNER=local")
    assert "there is no Python 3.10 to 3.13 here: install one" in said


def test_python_without_venv(bare: Machine) -> None:
    said = bare.make_fails(".venv/.installed", VENV_MODULE="no")
    assert "apt install python3-venv" in said
    assert not (bare.clone / ".venv").exists()
