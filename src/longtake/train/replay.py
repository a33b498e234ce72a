"""One launch for a whole training step: work on the device, recorded once and replayed."""

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
_WARM_UP = 3
"""Calls made as they are, in which kernels are compiled and chosen, before one is recorded."""


class Replay:
    """Calls a function of tensors; on CUDA the fourth call is recorded and then only replayed.

    A small network's step is thousands of short kernels, and the host takes longer to launch them
    than the device to run them. What is recorded reads its inputs from fixed places and leaves its
    outputs in fixed places, which the next call overwrites. The function draws no random numbers,
    waits for no result and takes inputs of the same shapes every time.

    Where shapes differ, each has a recording, and those of the same parameters stand beside one
    another: they share the memory of what they compute on the way, because one runs at a time and
    its outputs are used before the next one runs.

    On a CPU it is the function itself.
    """

    def __init__(
        self,
        function: Callable[..., Tensors],
        device: torch.device,
        beside: "Replay | None" = None,
    ) -> None:
        """Nothing is called yet."""
        self.function = function
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Tensors = ()
        self.outputs: Tensors = ()
        # Gradients are summed on the stream that a parameter was first used on, so it is one.
        if beside is not None:
            self.stream, self.pool = beside.stream, beside.pool
        else:
            on_card = device.type == "cuda"
            self.stream = torch.cuda.Stream(device) if on_card else None
            self.pool = torch.cuda.graph_pool_handle() if on_card else None

    def __call__(self, *inputs: Tensor) -> Tensors:
        """What the function returns for these inputs."""
        if self.stream is None:
            return self.function(*inputs)
        if self.calls < _WARM_UP:
            self.calls += 1
            return self._beside(self.stream, inputs)
        if self.graph is None:
            self._record(self.stream, inputs)
        assert self.graph is not None
        for held, new in zip(self.inputs, inputs, strict=True):
            held.copy_(new)
        self.graph.replay()
        return self.outputs

    def _beside(self, stream: torch.cuda.Stream, inputs: Tensors) -> Tensors:
        here = torch.cuda.current_stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            outputs = self.function(*inputs)
        here.wait_stream(stream)
        return outputs

    def _record(self, stream: torch.cuda.Stream, inputs: Tensors) -> None:
        self.inputs = tuple(part.clone() for part in inputs)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=self.pool, stream=stream):
            self.outputs = self.function(*self.inputs)
