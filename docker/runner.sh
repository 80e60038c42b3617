#!/bin/sh
# Print where commands run, "docker" or "local", and say why on standard error.
# An image that is missing, or older than its sources, is built first.
set -eu
. docker/settings.sh

wanted=$(setting RUNNER)

run_locally() {
    [ "$wanted" != docker ] || fail "RUNNER=docker was asked for, but $1."
    say "Running in the local .venv: $1."
    echo local
    exit
}

run_in_docker() {
    say "Running in Docker, image $image."
    echo docker
    exit
}

is_here() { docker image inspect "$1" >/dev/null 2>&1; }

# Whether a file that goes into the image changed after the image was made.
outdated() {
    made=$(docker image inspect --format '{{.Created}}' "$image")
    [ -n "$(find app static requirements.txt docker/Dockerfile docker/entrypoint \
        -name __pycache__ -prune -o -type f -newermt "$made" -print)" ]
}

case $wanted in
    local) run_locally "RUNNER=local was asked for" ;;
    docker | '') ;;
    *) fail "RUNNER is '$wanted': give docker or local." ;;
esac

command -v docker >/dev/null 2>&1 || run_locally "there is no docker command"
docker version >/dev/null 2>&1 || run_locally "no Docker engine answers"
docker compose version >/dev/null 2>&1 || run_locally "docker has no compose plugin"

# The defaults are read where they stand.
image=$(setting IMAGE_TAG)
# shellcheck disable=SC2016
image=${image:-$(sed -n 's/^  image: ${IMAGE_TAG:-\(.*\)}$/\1/p' compose.yaml)}
base=$(setting BASE_IMAGE)

if is_here "$image"; then
    outdated || run_in_docker
    base=${base:-$(docker image inspect --format \
        '{{index .Config.Labels "org.opencontainers.image.base.name"}}' "$image")}
    if ! is_here "$base"; then
        say "$image is older than its sources and used as it is: 'make build' makes it anew."
        run_in_docker
    fi
    say "Building $image anew: its sources changed."
else
    base=${base:-$(sed -n 's/^ARG BASE_IMAGE=//p' docker/Dockerfile)}
    if ! is_here "$base"; then
        { reason=$(docker pull "$base" 2>&1 >&3) || run_locally \
            "the image is not here and its base $base cannot be pulled ($reason)"; } 3>&2
    fi
    say "Building $image; the first time takes minutes…"
fi
BASE_IMAGE=$base docker/compose.sh build >&2 || run_locally "$image could not be built"
run_in_docker
