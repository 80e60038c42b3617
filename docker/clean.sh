#!/bin/sh
# Remove the containers and, once it was said to, the volumes with all that is in them.
set -eu
. docker/settings.sh

docker version >/dev/null 2>&1 ||
    fail "no Docker engine answers, so there is nothing to clean; the folders here are yours."
config=$(SURESET_DEVICE=cpu docker/compose.sh config) || fail "nothing was deleted, for Compose cannot read its files."
project=$(printf '%s\n' "$config" | sed -n 's/^name: //p')
volumes=$(docker volume ls --quiet --filter "label=com.docker.compose.project=${project:?}")
if [ -z "$volumes" ]; then
    say "There are no volumes to delete."
else
    say "This deletes for good what is in these volumes (pictures, bundles, weights, logs, feedback):"
    for volume in $volumes; do say "  $volume"; done
    printf 'Type yes to go on: ' >&2
    read -r answer || answer=
    if [ "$answer" != yes ]; then
        fail "nothing was deleted."
    fi
fi
exec docker/compose.sh --profile '*' down --remove-orphans --volumes
