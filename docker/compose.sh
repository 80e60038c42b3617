#!/bin/sh
# docker compose with the files and the user this machine calls for:  docker/compose.sh up webui
set -eu
. docker/settings.sh

# What is written belongs to whoever asked for it. Root writes as the owner of the folder that it is
# given (docker/entrypoint sees to it), and so does everyone under a rootless engine, whose root is
# nobody but the caller.
if [ -z "$(setting RUN_AS)" ] && [ "$(setting RUN_AS_HOST_UID)" != 0 ] && [ "$(id -u)" != 0 ]; then
    case $(docker info --format '{{.SecurityOptions}}' 2>/dev/null) in
        *name=rootless*) ;;
        *)
            RUN_AS=$(id -u):$(id -g)
            export RUN_AS
            ;;
    esac
fi

case $1 in
    build)
        REVISION=$(git describe --always --dirty 2>/dev/null || echo unknown)
        CREATED=$(git log -1 --format=%cI 2>/dev/null || true)
        SOURCES=$(sources)
        export REVISION CREATED SOURCES
        ;;
    run | up | config)
        SURESET_DEVICE=${SURESET_DEVICE:-$(docker/gpu.sh)}
        args="$(setting GPU_ARGS) $(setting DOCKER_RUN_ARGS)"
        merged=.compose.run-args.yaml
        if [ "$args" != ' ' ]; then
            # Words are told apart as a shell does, but nothing in them is run.
            words=$(printf '%s' "$args" | xargs -n 1 printf '%s\n' 2>/dev/null) ||
                fail "DOCKER_RUN_ARGS: a quotation mark is not closed."
            printf '%s\n' "$words" |
                awk -v device="$SURESET_DEVICE" -f docker/run-args.awk >"$merged.$$" || {
                rm -f "$merged.$$"
                exit 1
            }
            mv "$merged.$$" "$merged"
            set -- -f "$merged" "$@"
        fi
        # --gpus reserves devices in the merged file; a second reservation would come on top.
        if [ "$SURESET_DEVICE" = gpu ] &&
            ! { [ "$1" = -f ] && grep -q '^ *- driver: nvidia$' "$merged"; }; then
            set -- -f compose.gpu.yaml "$@"
        fi
        ;;
esac
[ ! -f compose.override.yaml ] || set -- -f compose.override.yaml "$@"
exec docker compose -f compose.yaml "$@"
