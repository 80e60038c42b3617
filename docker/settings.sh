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
