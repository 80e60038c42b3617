#!/bin/sh
# Run one of the app's commands:  docker/app.sh docker|local COMMAND [ARGUMENT…]
set -eu
. docker/settings.sh

runner=$1
command=$2
shift 2

# In Docker a bare word would be the name of a volume, so it is a folder nowhere. What is only read
# must be there; what is written is made, by the caller and not by the engine.
for name in DATA_DIR STATIC_DIR MODELS_DIR CACHE_DIR LOGS_DIR WANDB_DIR_HOST; do
    folder=$(setting "$name")
    case $folder in
        '') continue ;;
        /* | ./* | ../* | . | ..) ;;
        '~'*) fail "$name is '$folder': give the path without ~." ;;
        *) fail "$name is '$folder', which could be a folder or a volume: give a path that begins with / or ./, as in $name=./$folder." ;;
    esac
    case $name-$command in
        DATA_DIR-* | STATIC_DIR-* | MODELS_DIR-serve | MODELS_DIR-predict | MODELS_DIR-evaluate | \
            MODELS_DIR-calibrate | MODELS_DIR-experiments)
            [ -d "$folder" ] || fail "there is no folder $folder: check $name."
            ;;
        *) mkdir -p "$folder" || fail "the folder $folder cannot be made: check $name." ;;
    esac
done

# A secret is a file of the caller's, and nothing else is taken for one.
for name in WANDB_KEY_FILE CA_BUNDLE; do
    file=$(setting "$name")
    case $file in
        '' | /* | ./* | ../*) ;;
        *) fail "$name is '$file': give a path that begins with / or ./." ;;
    esac
    [ -z "$file" ] || [ -r "$file" ] || fail "there is no file $file that you can read: check $name."
done

# In a container, an argument that names a file or folder of the host is mounted, read-only, where
# the container will look for it.
in_container() {
    container=$(setting CONTAINER_NAME)
    container=${container:+$container-$1}
    case $1 in
        prefetch) set -- prefetch "$@" ;;
        predict) set -- webui "$@" ;;
        *) set -- train "$@" ;;
    esac
    for argument in "$@"; do
        [ -e "$argument" ] || continue
        case $argument in
            /*) set -- --volume "$argument:$argument:ro" "$@" ;;
            *) set -- --volume "$PWD/$argument:/app/$argument:ro" "$@" ;;
        esac
    done
    docker/compose.sh run --rm --no-deps ${container:+--name "$container"} "$@"
}

locally() {
    if [ "$(setting GPU)" = 0 ]; then
        export CUDA_VISIBLE_DEVICES=
    fi
    .venv/bin/python -m app "$@"
}

run() {
    case $runner in
        docker) in_container "$@" ;;
        local) locally "$@" ;;
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
            --data | --cache | --static | --backbone | --seed | --config)
                set -- "$@" "$argument"
                wanted=value
                ;;
            --data=* | --cache=* | --static=* | --backbone=* | --seed=* | --config=*)
                set -- "$@" "$argument"
                ;;
        esac
    done
    run prefetch "$@"
}

if [ "$runner" = docker ]; then
    SURESET_DEVICE=${SURESET_DEVICE:-$(docker/gpu.sh)}
    export SURESET_DEVICE
fi
case $runner-$command in
    docker-serve)
        [ $# = 0 ] || fail "in Docker, serve takes variables, not flags: make serve PORT=8000."
        say "The page will be at http://$(with_default ADDRESS):$(with_default PORT) (Ctrl-C stops it)."
        exec docker/compose.sh up --attach-dependencies webui
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
