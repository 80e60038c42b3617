#!/bin/sh
# Print what containers get, "gpu" or "cpu", and say why on standard error.
set -eu
. docker/settings.sh

chosen() {
    say "$2"
    echo "$1"
    exit
}

case $(setting GPU) in
    1) chosen gpu "GPU: asked for by GPU=1." ;;
    0) chosen cpu "CPU: asked for by GPU=0." ;;
    '') ;;
    *) fail "GPU is '$(setting GPU)': give 1 or 0." ;;
esac

nvidia-smi >/dev/null 2>&1 || chosen cpu "CPU: nvidia-smi finds no GPU here."

case $(docker info --format '{{json .Runtimes}}' 2>/dev/null) in
    *'"nvidia":'*) chosen gpu "GPU: nvidia-smi works and the engine knows NVIDIA." ;;
    *) chosen cpu "CPU: there is a GPU, but the engine hands out no NVIDIA devices (install the NVIDIA Container Toolkit)." ;;
esac
