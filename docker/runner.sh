#!/bin/sh
# Print where commands run, "docker" or "local", and say why on standard error.
# An image that is missing, or was made of other sources, is built first.
#
# With the argument "look", nothing is pulled or built: it is only said that it would be.
set -eu
. docker/settings.sh

look=${1:-}
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

# Whether what goes into the image is not what the image was made of.
outdated() {
    [ "$(docker image inspect --format '{{index .Config.Labels "sureset.sources"}}' "$image")" \
        != "$(sources)" ]
}

case $wanted in
    local) run_locally "RUNNER=local was asked for" ;;
    docker | '') ;;
    *) fail "RUNNER is '$wanted': give docker or local." ;;
esac

command -v docker >/dev/null 2>&1 || run_locally "there is no docker command"
reason=$(docker version 2>&1 >/dev/null) ||
    run_locally "no Docker engine answers ($(printf '%s' "$reason" | tail -n 1))"
docker compose version >/dev/null 2>&1 || run_locally "docker has no compose plugin"

image=$(with_default IMAGE_TAG)
base=$(setting BASE_IMAGE)

if is_here "$image"; then
    outdated || run_in_docker
    base=${base:-$(docker image inspect --format \
        '{{index .Config.Labels "org.opencontainers.image.base.name"}}' "$image")}
    if ! is_here "$base"; then
        say "$image is older than its sources and used as it is: 'make build' makes it anew."
        run_in_docker
    fi
    why="its sources changed"
else
    base=${base:-$(sed -n 's/^ARG BASE_IMAGE=//p' docker/Dockerfile)}
    if [ "$look" != look ] && ! is_here "$base"; then
        { reason=$(docker pull "$base" 2>&1 >&3) || run_locally \
            "the image is not here and its base $base cannot be pulled ($reason)"; } 3>&2
    fi
    why="it is not here; the first time takes minutes"
fi
if [ "$look" = look ]; then
    say "The next command builds $image on $base: $why."
    run_in_docker
fi
docker/compose.sh config --quiet || fail "Compose cannot read its files as they are set, see above."
say "Building $image on $base: $why."
BASE_IMAGE=$base docker/compose.sh build >&2 || run_locally "$image could not be built"
run_in_docker
