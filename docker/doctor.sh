#!/bin/sh
# Say in words what was found around the app and what make chooses by it; then let the app look
# around where it would run, if it is installed there.
set -eu
. docker/settings.sh

found() { printf '%s\n' "$*"; }

mend=
todo() {
    printf -- '-> %s\n' "$*"
    mend=yes
}

image=$(with_default IMAGE_TAG)
made=
if ! command -v docker >/dev/null 2>&1; then
    found "Docker: there is no docker command"
elif ! engine=$(docker version --format '{{.Server.Version}}' 2>&1); then
    found "Docker: no engine answers ($(printf '%s' "$engine" | tail -n 1))"
else
    found "Docker: engine $engine, Compose $(docker compose version --short 2>/dev/null || echo missing)"
    if made=$(docker image inspect --format '{{.Created}}' "$image" 2>/dev/null); then
        found "image: $image, made $(printf '%s' "$made" | cut -c 1-16 | tr T ' ') UTC"
    else
        found "image: there is no $image yet"
    fi
fi

# chosen WHAT COMMAND…: what a command that prints its choice says of the reasons.
chosen() {
    what=$1
    shift
    if why=$("$@" 2>&1 >/dev/null); then found "$what: $why"; else todo "$what: ${why#error: }"; fi
}
chosen where docker/runner.sh look
chosen device docker/gpu.sh

volumes=
for name in DATA_DIR MODELS_DIR CACHE_DIR LOGS_DIR WANDB_DIR_HOST FEEDBACK_DIR; do
    folder=$(setting "$name")
    if [ -z "$folder" ]; then
        volumes="$volumes $name"
    elif [ -d "$folder" ]; then
        found "$name: the folder $folder"
    else
        todo "$name: there is no folder $folder: make it, or name another"
    fi
done
[ -z "$volumes" ] || found "named volumes in Docker, folders of the usual names without:$volumes"

if [ -n "$(setting RUN_AS)" ]; then
    found "containers run as $(setting RUN_AS): asked for by RUN_AS"
elif [ "$(setting RUN_AS_HOST_UID)" = 0 ]; then
    found "containers run as the image's own user: asked for by RUN_AS_HOST_UID=0"
elif [ "$(id -u)" = 0 ]; then
    found "containers run as the owner of the folder they are given, or as whom the volumes belong to"
else
    found "containers run as you, $(id -u):$(id -g)"
fi

key=$(setting WANDB_KEY_FILE)
if [ -z "$key" ]; then
    found "Weights & Biases: no WANDB_KEY_FILE, so runs are kept offline"
elif [ -s "$key" ] && [ -r "$key" ]; then
    found "Weights & Biases: the key is in $key"
else
    todo "Weights & Biases: there is no key that you can read in $key"
fi

runner=$(docker/runner.sh look 2>/dev/null) || runner=none
if [ -n "$mend" ]; then
    todo "the app was not asked: see to the lines above first"
elif { [ "$runner" = docker ] && [ -n "$made" ]; } ||
    { [ "$runner" = local ] && [ -f .venv/.installed ]; }; then
    SURESET_RUNNER=$runner SURESET_DEVICE=$(docker/gpu.sh 2>/dev/null) exec docker/app.sh doctor "$@"
else
    found "the app is not installed yet: the first command that needs it does that"
fi
[ -z "$mend" ]
