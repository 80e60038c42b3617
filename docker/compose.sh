#!/bin/sh
# docker compose with the files and folders this machine calls for:  docker/compose.sh up webui
#
# Folders may be given as for a local run: a bare word means a folder here, not a named volume.
set -eu
. docker/settings.sh

host_folders=
for name in DATA_DIR STATIC_DIR MODELS_DIR CACHE_DIR LOGS_DIR WANDB_DIR_HOST; do
    folder=$(setting "$name")
    [ -n "$folder" ] || continue
    case $folder in
        /*) ;;
        '~'*) fail "$name is '$folder': give the path without ~." ;;
        *) folder=$PWD/${folder#./} ;;
    esac
    case $name in
        DATA_DIR | STATIC_DIR) [ -d "$folder" ] || fail "there is no folder $folder: check $name." ;;
        *) mkdir -p "$folder" ;;
    esac
    export "$name=$folder"
    host_folders=yes
done

# What is written into a folder of the host belongs to whoever asked for it. In the volumes that the
# image's user writes as well, the two keep apart: neither could write in the other's folders.
if [ -n "$host_folders" ] && [ -z "$(setting RUN_AS)" ] && [ "$(setting RUN_AS_HOST_UID)" != 0 ]; then
    RUN_AS=$(id -u):$(id -g)
    export RUN_AS
    [ -n "$(setting CACHE_DIR)" ] || export SURESET_PART_OF_CACHE="/$RUN_AS"
    [ -n "$(setting LOGS_DIR)" ] || export SURESET_PART_OF_LOGS="/$RUN_AS"
fi

case $1 in
    build)
        REVISION=$(git describe --always --dirty 2>/dev/null || echo unknown)
        export REVISION
        ;;
    run | up | config)
        SURESET_DEVICE=${SURESET_DEVICE:-$(docker/gpu.sh)}
        [ "$SURESET_DEVICE" = cpu ] || set -- -f compose.gpu.yaml "$@"
        ;;
esac
exec docker compose -f compose.yaml "$@"
