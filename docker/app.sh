#!/bin/sh
# Run one of the app's commands, in Docker or in the local .venv:  docker/app.sh COMMAND [ARGUMENT…]
set -eu
. docker/settings.sh

command=$1
shift

# In Docker a bare word would be the name of a volume, so it is a folder nowhere. What is only read
# must be there; what training writes is made, by the caller and not by an engine.
for name in DATA_DIR STATIC_DIR MODELS_DIR CACHE_DIR LOGS_DIR WANDB_DIR_HOST FEEDBACK_DIR; do
    folder=$(setting "$name")
    case $folder in
        '') continue ;;
        *:*) fail "$name is '$folder': a colon cannot be part of the path in Docker." ;;
        *'$'*) fail "$name is '$folder': write the path out, variables mean nothing here." ;;
        /* | ./* | ../* | . | ..) ;;
        '~'*) fail "$name is '$folder': give the path without ~." ;;
        *) fail "$name is '$folder', which could be a folder or a volume: give a path that begins with / or ./, as in $name=./$folder." ;;
    esac
    case $name-$command in
        MODELS_DIR-prefetch | MODELS_DIR-sample) ;;
        DATA_DIR-sample | MODELS_DIR-train | MODELS_DIR-data | CACHE_DIR-* | LOGS_DIR-* | WANDB_DIR_HOST-* | FEEDBACK_DIR-*)
            mkdir -p "$folder" || fail "the folder $folder cannot be made: check $name."
            ;;
        *) [ -d "$folder" ] || fail "there is no folder $folder: check $name." ;;
    esac
done

# A secret is a file of the caller's, and nothing else is taken for one.
for name in WANDB_KEY_FILE ACCESS_FILE CA_BUNDLE; do
    file=$(setting "$name")
    case $file in
        '') continue ;;
        /* | ./* | ../*) ;;
        *) fail "$name is '$file': give a path that begins with / or ./." ;;
    esac
    [ -r "$file" ] || fail "there is no file $file that you can read: check $name."
done

runner=${SURESET_RUNNER:-$(docker/runner.sh)}
if [ "$runner" = docker ]; then
    SURESET_DEVICE=${SURESET_DEVICE:-$(docker/gpu.sh)}
    export SURESET_DEVICE
else
    docker/venv.sh
    if [ "$(setting GPU)" = 0 ]; then
        export CUDA_VISIBLE_DEVICES=
    fi
    # The sample set is never written unasked into a folder that was named.
    if [ -n "$(setting DATA_DIR)" ]; then
        export SAMPLE_SIZE=0
    fi
fi

# In a container, an argument that names a file or folder of the host is mounted, read-only, where
# the container will look for it:  in_container COMMAND [ARGUMENT…]
in_container() {
    name=$(setting CONTAINER_NAME)
    name=${name:+$name-$1}
    case "$1 ${2:-}" in # Some write into the data folder.
        'prefetch '* | 'sample '* | 'data split') set -- prefetch "$@" ;;
        *) set -- train "$@" ;;
    esac
    own=2
    for argument in "$@"; do
        if [ "$own" -gt 0 ]; then
            own=$((own - 1))
            continue
        fi
        case $argument in
            --*=*) file=${argument#*=} ;;
            *) file=$argument ;;
        esac
        [ -e "$file" ] || continue
        case $file in
            *:*) fail "'$file' cannot be mounted, for a colon is in its name: rename it." ;;
            . | ./ | /) fail "'$file' cannot be mounted over what is in the container: name a folder in it." ;;
            /*) set -- --volume "$file:$file:ro" "$@" ;;
            *) set -- --volume "$PWD/$file:/app/$file:ro" "$@" ;;
        esac
    done
    docker/compose.sh run --rm --no-deps ${name:+--name "$name"} "$@"
}

run() {
    case $runner in
        docker) in_container "$@" ;;
        local) .venv/bin/python -m app "$@" ;;
    esac
}

# Prefetch with those of train's arguments that concern it.
prefetch() {
    wanted=
    for argument in "$@"; do
        shift
        if [ -n "$wanted" ]; then
            set -- "$@" "$argument"
            wanted=
            continue
        fi
        case $argument in
            --data | --cache | --static | --backbone | --weights | --seed | --config)
                set -- "$@" "$argument"
                wanted=value
                ;;
            --data=* | --cache=* | --static=* | --backbone=* | --weights=* | --seed=* | --config=*)
                set -- "$@" "$argument"
                ;;
        esac
    done
    run prefetch "$@"
}

# Root writes into a folder of pictures as its owner.
case $runner-$(id -u)-$command-$(setting DATASET) in
    docker-0-sample-* | docker-0-data-* | docker-0-prefetch-?* | docker-0-train-?*)
        folder=$(setting DATA_DIR)
        if [ -n "$folder" ] && [ -z "$(setting RUN_AS)" ]; then
            RUN_AS=$(find "$folder" -prune -printf '%U:%G')
            export RUN_AS
        fi
        ;;
esac

case $runner-$command in
    docker-serve)
        [ $# = 0 ] || fail "in Docker, serve takes variables, not flags: make serve PORT=8000."
        say "The page will be at http://$(with_default ADDRESS):$(with_default PORT) (Ctrl-C stops it)."
        exec docker/compose.sh up --attach-dependencies webui
        ;;
    docker-sample | docker-data)
        # What a flag names is mounted to be read.
        case "$command $* " in
            'data check '*) ;;
            *' --data '* | *' --data='*) fail "in Docker, a folder that is written is a variable, not a flag: make $command DATA_DIR=./pictures." ;;
        esac
        ;;
    docker-shell) exec docker/compose.sh run --rm --no-deps --entrypoint 'unprivileged bash' train "$@" ;;
    local-shell) PATH="$PWD/.venv/bin:$PATH" exec "${SHELL:-sh}" "$@" ;;
    *-train)
        case " $* " in
            *' --help '*) ;;
            *) prefetch "$@" ;;
        esac
        ;;
esac
run "$command" "$@"
