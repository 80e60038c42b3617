"""From pictures to features and probabilities.

Importing openvino tells its makers so, over the network, wherever the package openvino_telemetry
can be imported. Sureset calls nobody: before openvino is imported, that package is made impossible
to import, and openvino then falls back to a stub of its own.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
