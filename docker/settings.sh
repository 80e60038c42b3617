# Sourced by the scripts beside it, which run in the repository's root.
# shellcheck shell=sh

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# setting NAME: its value from the environment or else from .env, empty where neither has it.
setting() {
    if printenv "$1"; then
        return
    fi
    [ -f .env ] || return 0
    sed -n "s/^[[:space:]]*$1[[:space:]]*=/ /p" .env |
        sed -e 's/[[:space:]]#.*$//' -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' \
            -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'\$/\1/" |
        tail -n 1
}

# given NAME: whether the environment or .env sets it, be it to nothing.
given() {
    printenv "$1" >/dev/null || { [ -f .env ] && grep -q "^[[:space:]]*$1[[:space:]]*=" .env; }
}

# with_default NAME: its value, or else the default that compose.yaml gives it.
with_default() {
    value=$(setting "$1")
    printf '%s\n' "${value:-$(sed -n "s/.*\${$1:-\([^}]*\)}.*/\1/p" compose.yaml | head -n 1)}"
}
