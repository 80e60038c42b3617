"""What executes the encoder: OpenVINO on the CPU, torch on CUDA.

A calibration holds for the runtime and precision whose features it saw, so both are recorded in
the bundle, and serving asks for the very same.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino as ov
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Features = NDArray[np.float32]


class Runtime(Protocol):
    """Turns batches of pictures, uint8 (b, size, size, 3), into features, float32 (b, d).

    ``dimensions`` is d; ``batch`` the largest b it is to be given.
    """

    name: str
    precision: str
    dimensions: int
    batch: int

    def encode(self, batches: Iterable[Pictures]) -> Iterator[Features]:
        """The features of each batch, in order."""
        ...


class OpenVINORuntime:
    """The exported graph on the CPU, several batches under way at once."""

    name = "openvino"
    #: Small batches keep the activations in the processor's cache: 4 is at or near the best on
    #: processors with and without matrix units, and 32 is slower.
    batch = 4

    def __init__(self, encoder: Path, precision: str | None = None) -> None:
        """Load ``encoder`` (the folder of ``exported`` or of a bundle).

        ``precision`` is ``bf16`` or ``f32``; when None, bf16 where the processor has it.

        Raises:
            ValueError: the processor does not have the precision asked for.
        """
        best = best_precision()
        self.precision = precision or best
        if self.precision == "bf16" != best:
            raise ValueError("this processor has no bf16")
        core = ov.Core()
        streams = os.cpu_count() or 1
        network = core.compile_model(
            core.read_model(encoder / "encoder.xml"),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self.precision,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
            },
        )
        self.dimensions = network.output(0).partial_shape[1].get_length()
        # One request more than streams, so that none of them waits for us.
        self._requests = [network.create_infer_request() for _ in range(streams + 1)]

    def encode(self, batches: Iterable[Pictures]) -> Iterator[Features]:
        idle = deque(self._requests)
        busy: deque[Any] = deque()
        for batch in batches:
            if not idle:
                idle.append(request := busy.popleft())
                yield _result(request)
            request = idle.popleft()
            request.start_async({0: batch})
            busy.append(request)
        for request in busy:
            yield _result(request)


def best_precision() -> str:
    """The fastest precision that OpenVINO has on this processor: bf16 or f32."""
    offered = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in offered else "f32"


def _result(request: Any) -> Features:
    request.wait()
    return np.array(request.get_output_tensor(0).data)


class TorchRuntime:
    """The encoder as a torch module, in bf16 and channels-last on CUDA."""

    name = "torch"
    batch = 128

    def __init__(self, encoder: Any, device: str = "cuda") -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self.precision = "bf16" if self._device.type == "cuda" else "f32"
        self.dimensions = encoder.dimensions
        self._encoder = encoder.to(self._device, memory_format=torch.channels_last)

    def encode(self, batches: Iterable[Pictures]) -> Iterator[Features]:
        torch = self._torch
        autocast = torch.autocast(
            self._device.type, torch.bfloat16, enabled=self.precision == "bf16"
        )
        for batch in batches:
            with torch.inference_mode(), autocast:
                yield self._encoder(torch.from_numpy(batch).to(self._device)).cpu().numpy()
