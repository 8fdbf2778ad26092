"""Chunks of a policy that LeRobot loaded: recorded on a GPU, step by step where that cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aloe_policy.remote.lerobot.fast.graph import Graph
from aloe_policy.remote.lerobot.fast.network import Network
from aloe_policy.remote.lerobot.fast.weights import UnsupportedError

_NOISE = "noise"


class FastChunks:
    """n chunks of one observation, as LeRobot's sample_actions would compute them, up to rounding to `dtype`.

    Weights are those at the time it is made, copied; training does not reach them.
    """

    def __init__(
        self, model: Any, dtype: torch.dtype = torch.bfloat16, *, compiled: bool = True, graphed: bool = True
    ) -> None:
        """`model`: LeRobot's policy on its device; `compiled`: layers by torch.compile; `graphed`: on a GPU.

        What cannot be compiled or recorded runs as it is, after a sentence on stderr. UnsupportedError: see `network`.
        """
        self._model, self._dtype = model, dtype
        self.compiled, self.graphed = compiled, graphed
        self.network = network(model, dtype, self._compile)
        self._graphs: dict[tuple[Any, ...], Graph] = {}
        self._size = model.config.chunk_size, model.config.max_action_dim
        self._actions = model.config.action_feature.shape[0]

    @torch.no_grad()
    def __call__(
        self, batch: dict[str, Any], n: int, *, features: bool = False, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return chunks [n, H, A] of a batch of one from LeRobot's preprocessor, and pooled features [1, Z] if asked.

        `noise` [n, H, max_action_dim] is drawn as LeRobot draws it unless given.
        """
        inputs = self.network.inputs(batch)
        if noise is None:
            device = batch["observation.language.tokens"].device
            noise = self._model.model.sample_noise((n, *self._size), device)
        inputs[_NOISE] = noise
        key = (features, *((name, tuple(value.shape)) for name, value in inputs.items()))
        if self.graphed and key not in self._graphs:
            self._record(key, inputs, features)
        if self.graphed:
            chunks, found = self._graphs[key](inputs)
        else:
            chunks, found = self._computed(inputs, features)
        return chunks[..., : self._actions].clone(), None if found is None else found.clone()

    def _computed(self, inputs: dict[str, Tensor], features: bool) -> tuple[Tensor, Tensor | None]:
        given = {key: value for key, value in inputs.items() if key != _NOISE}
        return self.network(inputs[_NOISE], features, given)

    def _record(self, key: tuple[Any, ...], inputs: dict[str, Tensor], features: bool) -> None:
        """Record the graph of these shapes: without torch.compile if that fails, else give graphs up."""
        while self.graphed:
            try:
                self._graphs[key] = Graph(lambda given: self._computed(given, features), inputs)
                return
            except torch.cuda.OutOfMemoryError:
                raise  # eager code would have no room either
            except RuntimeError as error:  # also what torch.compile raises
                first = (str(error).strip() or "no reason given").splitlines()[0]
                reason = f"{type(error).__name__}: {first[:300]}"
            if self.compiled:
                print(f"Chunks are computed without torch.compile ({reason}).", file=sys.stderr)
                self.compiled = False
                self.network = network(self._model, self._dtype, self._compile)
            else:
                print(f"Chunks are computed without a CUDA graph, slowly ({reason}).", file=sys.stderr)
                self.graphed = False

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=True) if self.compiled else function


def accelerated(model: Any, version: str) -> FastChunks | None:
    """Return what computes this policy's chunks fast; None, and a sentence on stderr, if LeRobot itself must."""
    try:
        return FastChunks(model)
    except UnsupportedError as error:
        print(f"Policy {version}: {error}: LeRobot's own code computes its chunks.", file=sys.stderr)
        return None


def network(model: Any, dtype: torch.dtype, compiled: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Network:
    """Return the network of LeRobot's policy; UnsupportedError for one that LeRobot must compute itself."""
    config = model.config
    for switch in ("compile_model", "adapt_to_pi_aloha"):
        if getattr(config, switch, False):
            raise UnsupportedError(switch)
    if config.rtc_config is not None and config.rtc_config.enabled:
        raise UnsupportedError("real-time chunking of LeRobot's")
    if config.type == "smolvla":
        from aloe_policy.remote.lerobot.fast.smolvla import SmolVLANetwork

        return SmolVLANetwork(model, dtype, compiled)
    if config.type in ("pi0", "pi05"):
        from aloe_policy.remote.lerobot.fast.pi import PiNetwork

        return PiNetwork(model, dtype, compiled)
    raise UnsupportedError(f"type {config.type}")
