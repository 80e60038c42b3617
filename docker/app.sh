#!/bin/sh
# Run one of the app's commands:  docker/app.sh docker|local COMMAND [ARGUMENT…]
set -eu
. docker/settings.sh

runner=$1
command=$2
shift 2

# In a container, an argument that names a file or folder of the host is mounted, read-only, where
# the container will look for it.
in_container() {
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
    docker/compose.sh run --rm --no-deps "$@"
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
            --data | --cache | --backbone | --seed | --config)
                set -- "$@" "$argument"
                wanted=value
                ;;
            --data=* | --cache=* | --backbone=* | --seed=* | --config=*) set -- "$@" "$argument" ;;
        esac
    done
    run prefetch "$@"
}

if [ "$runner" = docker ]; then
    SURESET_DEVICE=$(docker/gpu.sh)
    export SURESET_DEVICE
fi
case $runner-$command in
    docker-serve)
        [ $# = 0 ] || fail "in Docker, serve takes variables, not flags: make serve PORT=8000."
        address=$(setting ADDRESS)
        port=$(setting PORT)
        say "The page will be at http://${address:-127.0.0.1}:${port:-7860} (Ctrl-C stops it)."
        exec docker/compose.sh up --attach-dependencies webui
        ;;
    *-train)
        case " $* " in
            *' --help '*) ;;
            *) prefetch "$@" ;;
        esac
        ;;
esac
run "$command" "$@"
