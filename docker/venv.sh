#!/bin/sh
# Build .venv from requirements.txt, with uv where it can be had, otherwise with pip; nothing is done
# where it is there and as new.
set -eu
. docker/settings.sh

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

find_python() {
    for candidate in "$(setting PYTHON)" python3 python3.13 python3.12 python3.11 python3.10; do
        if [ -n "$candidate" ] && supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "there is no Python 3.10 to 3.13 here: install one, or name it, as in make PYTHON=/path/to/python3.12."
}

if [ -f .venv/.installed ] && [ -z "$(find requirements.txt -newer .venv/.installed)" ]; then
    exit
fi
rm -f .venv/.installed
if ! supported .venv/bin/python; then
    python=$(find_python)
    say "Building .venv with $("$python" --version)…"
    if uv --version >/dev/null 2>&1; then
        uv venv --quiet --clear --python "$(command -v "$python")" .venv
    else
        "$python" -m venv --clear .venv || {
            rm -rf .venv
            fail "$python cannot make virtual environments: install its venv module (Debian: apt install python3-venv) or uv."
        }
    fi
fi

if uv --version >/dev/null 2>&1; then
    uv=uv
elif .venv/bin/python -m pip install --quiet --disable-pip-version-check uv; then
    uv=.venv/bin/uv
else
    uv=
fi
if [ -n "$uv" ]; then
    say "Installing requirements.txt into .venv with uv…"
    "$uv" pip install --python .venv/bin/python --require-hashes --compile-bytecode -r requirements.txt
else
    say "Installing requirements.txt into .venv with pip, as uv cannot be had…"
    .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.txt
fi
touch .venv/.installed
