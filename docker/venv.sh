#!/bin/sh
# Build .venv from requirements.txt, with uv where it can be had, otherwise with pip; nothing is done
# where it is there and as new.
#
#   docker/venv.sh [peers]
#
# With "peers", the libraries that tests and bench hold ours against are put in too.
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

# current MARK LOCK…: whether MARK was left by an installation of these locks.
current() {
    mark=$1
    shift
    [ -f "$mark" ] && [ -z "$(find "$@" -newer "$mark")" ]
}

# install LOCK [OPTION…]
install() {
    lock=$1
    shift
    if uv --version >/dev/null 2>&1; then
        uv=uv
    elif .venv/bin/python -m pip install --quiet --disable-pip-version-check uv; then
        uv=.venv/bin/uv
    else
        uv=
    fi
    if [ -n "$uv" ]; then
        say "Installing $lock into .venv with uv…"
        "$uv" pip install --python .venv/bin/python --require-hashes --compile-bytecode "$@" -r "$lock"
    else
        say "Installing $lock into .venv with pip, as uv cannot be had…"
        .venv/bin/python -m pip install --disable-pip-version-check --require-hashes "$@" -r "$lock"
    fi
}

if ! current .venv/.installed requirements.txt; then
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
    install requirements.txt
    touch .venv/.installed
fi

# Their lock holds only what the app's lacks, so that the app's packages stay as they are.
peers=tests/requirements-peers.txt
if [ "${1:-}" = peers ] && ! current .venv/.peers "$peers" requirements.txt; then
    rm -f .venv/.peers
    install "$peers" --no-deps
    touch .venv/.peers
fi
