"""What executes the encoder: OpenVINO on the CPU, torch on CUDA (or on the CPU, to compare).

Probabilities differ a little between runtimes, and between precisions of one. A calibration holds
for the kind of runtime whose features it saw, so that kind is recorded in the bundle, and serving
asks for the very same. Kinds are called ``openvino-bf16``, ``openvino-f32``,
``openvino-int8-bf16`` (what is not quantised is computed in bf16) or ``torch-cuda-bf16``.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino as ov
from numpy.typing import NDArray

#: One for the process, which is never destroyed: with it the processor's engine would go, and with
#: that the stack on which the thread that loaded it handles signals. The next one would crash it.
_CORE = ov.Core()

#: What a graph calls its second output.
MAP = "map"

#: How long each batch is measured; how much slower than the fastest, and how long a batch, ends it.
_MEASURED_S, _SLOWER, _LONG_S = 0.15, 0.9, 0.2
#: Which share of the fastest is as good.
_NEARLY = 0.95

Pictures = NDArray[np.uint8]
Features = NDArray[np.float32]
#: What the last c features are means of, (b, c, h, w).
Maps = NDArray[np.float16]


class Runtime(Protocol):
    """Turns batches of pictures, uint8 (b, size, size, 3), into features, float32 (b, d).

    ``dimensions`` is d; ``batch`` the largest b it is to be given.
    """

    kind: str
    dimensions: int
    batch: int

    def encode(self, batches: Iterable[Pictures]) -> Iterator[Features]:
        """The features of each batch, in order."""
        ...


class SharedRuntime(Runtime, Protocol):
    """A runtime that several threads may use; ``abreast`` of them are computed for at once.

    ``has_map`` tells whether the network puts out its last map too, which costs it nothing.
    """

    abreast: int
    has_map: bool

    def run(self, batch: Pictures) -> tuple[Features, Maps | None]:
        """The features of one batch and, where ``has_map``, the maps that they were pooled from."""
        ...


class CannotRun(Exception):
    """This machine cannot run a kind; the text says what it lacks."""


class OpenVINORuntime:
    """An exported graph on the CPU, several batches under way at once."""

    #: Small batches keep the activations in the processor's cache; what a batch holds does not
    #: change what comes out.
    batch = 4

    def __init__(self, encoder: Path, precision: str | None = None) -> None:
        """Load the graph of ``encoder`` (a folder of ``exporting``, or a bundle).

        ``precision`` is ``bf16``, ``f32``, ``int8-bf16`` or ``int8-f32``; when None, bf16 where the
        processor has it.

        Raises:
            CannotRun: the processor does not have the precision asked for.
        """
        best = best_float()
        precision = precision or best
        quantised = precision.startswith("int8-")
        hint = precision.removeprefix("int8-")
        if hint == "bf16" != best:
            raise CannotRun("this processor has no bf16")
        self.kind = f"openvino-{precision}"
        self._hint = hint
        self._graph = _CORE.read_model(
            encoder / ("encoder-int8.xml" if quantised else "encoder.xml")
        )
        self.dimensions = self._graph.output(0).partial_shape[1].get_length()
        self.has_map = len(self._graph.outputs) > 1
        self.abreast = os.cpu_count() or 1
        self._of_thread = threading.local()

    @cached_property
    def _network(self) -> Any:
        """Compiled when the first batch comes: with all features cached, none does."""
        return _CORE.compile_model(
            self._graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self._hint,
                "NUM_STREAMS": self.abreast,
                "INFERENCE_NUM_THREADS": self.abreast,
            },
        )

    @cached_property
    def _requests(self) -> list[Any]:
        # One request more than streams, so that none of them waits for us.
        return [self._network.create_infer_request() for _ in range(self.abreast + 1)]

    def run(self, batch: Pictures) -> tuple[Features, Maps | None]:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._network.create_infer_request()
        request = self._of_thread.request
        request.start_async({0: batch})
        return _result(request), _result(request, 1) if self.has_map else None

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


def best_float() -> str:
    """The fastest floating point that OpenVINO has on this processor: bf16 or f32."""
    offered = _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in offered else "f32"


def _result(request: Any, output: int = 0) -> NDArray[Any]:
    request.wait()
    return np.array(request.get_output_tensor(output).data)


class TorchRuntime:
    """The encoder as a torch module, channels-last."""

    batch = 128
    #: One batch is sent while another is computed.
    abreast = 2

    def __init__(self, encoder: Any, device: str = "cuda", precision: str = "bf16") -> None:
        """``encoder`` is an ``Encoder``.

        Raises:
            CannotRun: there is no such device.
        """
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise CannotRun("this machine has no GPU that torch can use")
        self._torch = torch
        self._device = torch.device(device)
        self._autocast = precision == "bf16"
        self.kind = f"torch-{device}-{precision}"
        self.dimensions = encoder.dimensions
        self.has_map = encoder.has_map
        self._encoder = encoder.to(self._device, memory_format=torch.channels_last)

    def encode(self, batches: Iterable[Pictures]) -> Iterator[Features]:
        """Each batch is sent while the one before is computed."""
        computing: Any = None
        for batch in batches:
            features = self._start(batch)[0]
            if computing is not None:
                yield computing.cpu().numpy()
            computing = features
        if computing is not None:
            yield computing.cpu().numpy()

    def run(self, batch: Pictures) -> tuple[Features, Maps | None]:
        features, *maps = (output.cpu().numpy() for output in self._start(batch))
        return features, maps[0] if maps else None

    def _start(self, batch: Pictures) -> Any:
        """What is to come, on the device: a GPU is sent a batch from memory that stays."""
        torch = self._torch
        on_gpu = self._device.type == "cuda"
        pictures = torch.from_numpy(batch)
        if on_gpu:
            pictures = pictures.pin_memory()
        autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)
        with torch.inference_mode(), autocast:
            return self._encoder.with_map(pictures.to(self._device, non_blocking=on_gpu))


def fastest_batch(runtime: Runtime, size: int) -> int:
    """Measure which batch of pictures (size, size, 3) is computed fastest a picture.

    It is doubled from 1 until that gets slower, or one takes so long that there is nothing left to
    be saved by a larger one. What a batch holds does not change what comes out, so neither does
    what is measured. Of batches that are nearly as fast the largest is taken, which leaves Python
    the least to do.
    """
    rates: dict[int, float] = {}
    for batch in (1 << i for i in range(9)):
        rates[batch] = _rate(runtime, np.zeros((batch, size, size, 3), np.uint8))
        if rates[batch] < _SLOWER * max(rates.values()) or batch / rates[batch] > _LONG_S:
            break
    fast = _NEARLY * max(rates.values())
    return max(batch for batch, rate in rates.items() if rate >= fast)


def _rate(runtime: Runtime, batch: Pictures) -> float:
    """Pictures a second, once the first of such a batch has prepared everything."""
    for _ in runtime.encode([batch]):
        pass
    started = time.perf_counter()

    def for_a_while() -> Iterator[Pictures]:
        while time.perf_counter() < started + _MEASURED_S:
            yield batch

    done = sum(len(features) for features in runtime.encode(for_a_while()))
    return done / (time.perf_counter() - started)


def open_runtime(kind: str, folder: Path, encoder: Callable[[], Any]) -> SharedRuntime:
    """The runtime of a kind.

    Args:
        folder: what holds OpenVINO's graphs.
        encoder: makes the ``Encoder`` that torch runs.

    Raises:
        CannotRun: not on this machine.
    """
    name, _, how = kind.partition("-")
    if name == "openvino":
        return OpenVINORuntime(folder, how)
    device, _, precision = how.partition("-")
    return TorchRuntime(encoder(), device, precision)


def network_of(kind: str) -> str:
    """Which form of the network a kind runs: ``full``, or ``int8``, the quantised one."""
    return "int8" if kind.startswith("openvino-int8-") else "full"


def kinds_for(runtime: str, precision: str) -> list[str]:
    """The kinds that a bundle is calibrated for here; the first computes all features.

    Torch's is joined by OpenVINO's, for machines without a GPU; a quantised one by that in full
    precision, to tell what quantisation costs.

    Args:
        runtime: ``openvino``, ``torch``, or ``auto``: torch where there is CUDA.
        precision: ``bf16``, ``f32``, ``int8``, or ``auto``: the fastest floating point.

    Raises:
        CannotRun: torch was asked for int8, or the processor for bf16 that it has not.
    """
    best = best_float()
    full = f"openvino-{best}"
    if precision == "int8":
        if runtime == "torch":
            raise CannotRun("int8 is OpenVINO's alone")
        return [f"openvino-int8-{best}", full]
    if runtime == "openvino":
        cuda = False
    else:
        import torch

        cuda = torch.cuda.is_available()
    if cuda or runtime == "torch":
        device, fastest = ("cuda", "bf16") if cuda else ("cpu", "f32")
        return [f"torch-{device}-{fastest if precision == 'auto' else precision}", full]
    if precision == "bf16" != best:
        raise CannotRun("this processor has no bf16")
    return [full if precision == "auto" else f"openvino-{precision}"]
