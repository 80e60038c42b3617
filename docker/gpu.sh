#!/bin/sh
# Print what containers get, "gpu" or "cpu", and say why on standard error.
set -eu
. docker/settings.sh

chosen() {
    say "$2"
    echo "$1"
    exit
}

asks_for_gpu() { case " $1 " in *' --gpus '* | *' --gpus='*) ;; *) return 1 ;; esac; }

case $(setting GPU) in
    1) chosen gpu "GPU: asked for by GPU=1." ;;
    0) chosen cpu "CPU: asked for by GPU=0." ;;
    '') ;;
    *) fail "GPU is '$(setting GPU)': give 1 or 0." ;;
esac

if asks_for_gpu "$(setting DOCKER_RUN_ARGS)"; then
    chosen gpu "GPU: asked for by --gpus in DOCKER_RUN_ARGS."
elif asks_for_gpu "$(setting GPU_ARGS)"; then
    chosen gpu "GPU: asked for by --gpus in GPU_ARGS."
elif given GPU_ARGS && [ -z "$(setting GPU_ARGS)" ]; then
    chosen cpu "CPU: asked for by an empty GPU_ARGS."
fi

nvidia-smi >/dev/null 2>&1 || chosen cpu "CPU: nvidia-smi finds no GPU here."

case $(docker info --format '{{json .Runtimes}}' 2>/dev/null) in
    *'"nvidia":'*) chosen gpu "GPU: nvidia-smi works and the engine knows NVIDIA." ;;
    *) chosen cpu "CPU: there is a GPU, but the engine hands out no NVIDIA devices (install the NVIDIA Container Toolkit; GPU=1 tries all the same)." ;;
esac
