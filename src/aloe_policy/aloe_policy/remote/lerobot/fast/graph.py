"""A function of tensors on a GPU, recorded once and replayed as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_BEFORE = 2  # calls before recording: they compile, choose algorithms and allocate


class Graph:
    """CUDA graph of a function of named tensors, for these shapes; nothing in it may wait for the host."""

    def __init__(self, function: Callable[[dict[str, Tensor]], Any], inputs: dict[str, Tensor]) -> None:
        """RuntimeError if it cannot be recorded."""
        self._inputs = {key: value.clone() for key, value in inputs.items()}
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_BEFORE):
                function(self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(self._inputs)

    def __call__(self, inputs: dict[str, Tensor]) -> Any:
        """Return the function's outputs, which the next call overwrites."""
        for key, value in inputs.items():
            self._inputs[key].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._outputs
