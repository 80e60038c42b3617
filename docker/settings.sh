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
    # In quotes everything counts; outside of them a comment does not.
    sed -n "s/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}$1[[:space:]]*=[[:space:]]*//p" .env |
        sed -e 's/^"\([^"]*\)".*$/\1/' -e t -e "s/^'\([^']*\)'.*\$/\1/" -e t \
            -e 's/^#.*$//' -e 's/[[:space:]]#.*$//' -e 's/[[:space:]]*$//' |
        tail -n 1
}

# given NAME: whether the environment or .env sets it, be it to nothing.
given() {
    printenv "$1" >/dev/null || { [ -f .env ] &&
        grep -q "^[[:space:]]*\(export[[:space:]][[:space:]]*\)\{0,1\}$1[[:space:]]*=" .env; }
}

# with_default NAME: its value, or else the default that compose.yaml gives it.
with_default() {
    value=$(setting "$1")
    printf '%s\n' "${value:-$(sed -n "s/.*\${$1:-\([^}]*\)}.*/\1/p" compose.yaml | head -n 1)}"
}

# sources: a checksum of all that goes into the image.
sources() {
    find app static requirements.txt docker/Dockerfile docker/entrypoint docker/network.sh \
        \( -name __pycache__ -o -name datasets.lock \) -prune -o -type f -exec cksum {} + | LC_ALL=C sort | cksum | tr ' ' -
}
