"""A network in onnxruntime as a function of named arrays."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = ['Network', 'require', 'sigmoid']

RUNTIME = ('onnxruntime',)


def require(modules: tuple[str, ...], what: str) -> None:
    """Raise an ``ImportError`` that names the missing modules and how to install them."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f'{what} needs {", ".join(missing)}: pip install {" ".join(missing)}')


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Compute probabilities from logits of any size; large ones do not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits))


class Network:
    """Run an exported network.

    Args:
        path: The ``.onnx`` file.
        threads: Number of threads. None leaves it to onnxruntime.
        providers: Execution providers of onnxruntime, such as 'CUDAExecutionProvider'.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: onnxruntime cannot load the file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threads: int | None = None,
        providers: tuple[str, ...] = ('CPUExecutionProvider',),
    ) -> None:
        require(RUNTIME, 'running an exported network')
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; folding of constants is reported as a warning
        options.intra_op_num_threads = threads or 0
        try:
            self._session: Any = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=list(providers)
            )
        except Exception as error:  # onnxruntime's own kinds
            reason = ' '.join(str(error).split())
            raise InputError(f'{path}: onnxruntime cannot load it ({reason})') from None
        self.inputs = [node.name for node in self._session.get_inputs()]
        self.outputs = [node.name for node in self._session.get_outputs()]

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Compute all outputs, by name, from arrays for all inputs."""
        return dict(zip(self.outputs, self._session.run(None, arrays)))
