"""A whole chunk, and eight with features, at full size on a GPU that need not be there: fast_on_a_gpu.py KIND.

In LeRobot's environment. Tensors have shapes, types and devices but no numbers, so that there is no memory to be had.
Prints a JSON object: shapes, and which operations would make a GPU wait for the host.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aloe_policy.remote.lerobot.fast.policy import FastChunks
from aloe_policy.remote.lerobot.speed import floor, models

H100 = floor.Rates(operations=790e12, bytes_read=3.0e12)


class Watch(TorchDispatchMode):
    """Names the operations that would make the GPU wait for the host, or take from its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.found = 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves([args, kwargs, out]) if isinstance(leaf, torch.Tensor)]
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")
        if any(word in str(func) for word in waits) or any(t.device.type != "cuda" for t in tensors):
            self.found.add(str(func))
        return out


def moved(policy: torch.nn.Module) -> None:
    """Put weights and buffers without numbers, from the meta device, on a GPU that is not there."""
    for module in policy.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.empty_like(weight, device="cuda"), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty_like(buffer, device="cuda"))


def lerobots(policy: Any, inputs: dict[str, torch.Tensor]) -> list[str]:
    """What LeRobot's own step does first, which makes a mask of a list: shows that waiting would be seen."""
    net, chunks = policy.model, torch.randn(1, models.ROWS, models.PADDED, device="cuda")
    state = [policy.prepare_state(inputs)] if policy.config.type == "pi0" else []
    with Watch() as watch:
        net.embed_suffix(*state, chunks, torch.ones(1, device="cuda"))
    return sorted(watch.found)


def facts(kind: str) -> dict[str, Any]:
    policy = models.build(kind, "meta", small=False)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()):
        moved(policy)
        fast = FastChunks(policy, compiled=False, graphed=False)
        inputs = fast.network.inputs(models.observation("cuda", 1))
        found: dict[str, Any] = {"lerobot_waits": lerobots(policy, inputs)}
        for n in (1, 8):
            given = torch.randn(n, models.ROWS, models.PADDED, device="cuda")
            with Watch() as watch:
                chunks, features = fast.network(given, n == 8, inputs)
            found[str(n)] = {"shape": list(chunks.shape), "operations": watch.count, "waits": sorted(watch.found)}
            found[str(n)]["features"] = None if features is None else list(features.shape)
            found[str(n)]["floor_ms"] = floor.floor_ms(fast.network, fast.network.seen(**inputs), n, H100)
        return found


if __name__ == "__main__":
    with torch.no_grad():
        print(json.dumps(facts(sys.argv[1])))
