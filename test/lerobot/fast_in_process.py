"""Our own computation of chunks against LeRobot's: fast_in_process.py POLICY...; in LeRobot's environment, π0 small.

Prints a JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
from sample_in_process import N, observations
from torch._dynamo.utils import counters

from aloe_policy.remote.lerobot import kinds
from aloe_policy.remote.lerobot.fast.policy import FastChunks, network
from aloe_policy.remote.lerobot.inputs import Inputs
from aloe_policy.remote.lerobot.loading import LeRobotPolicy, load
from aloe_policy.remote.lerobot.service import LeRobotService


def batches(policy: LeRobotPolicy) -> list[dict[str, Any]]:
    inputs, obs = Inputs(policy.model.config), observations()
    rows = len(obs["prompt"])
    return [policy.before(inputs.batch({key: value[i : i + 1] for key, value in obs.items()})) for i in range(rows)]


def noise(model: Any, n: int) -> torch.Tensor:
    return torch.randn(
        n, model.config.chunk_size, model.config.max_action_dim, generator=torch.Generator().manual_seed(n)
    )


def by_lerobot(model: Any, batch: dict[str, Any], noise: torch.Tensor) -> torch.Tensor:
    model.reset()
    return model.predict_action_chunk(dict(batch), noise=noise)


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def errors(policy: LeRobotPolicy, dtype: torch.dtype) -> dict[str, float]:
    """Largest relative errors of chunks and features, and what it changes that features are asked for."""
    model = policy.model
    fast = FastChunks(model, dtype, compiled=False, graphed=False)
    found: dict[str, list[float]] = {"chunks": [], "features": [], "asked": []}
    for batch in batches(policy):
        for n in (1, N):
            given = noise(model, n)
            chunks, nothing = fast(batch, n, noise=given)
            assert nothing is None
            again, features = fast(batch, n, features=True, noise=given)
            found["chunks"] += [
                apart(c, by_lerobot(model, batch, x[None])[0]) for c, x in zip(chunks, given, strict=True)
            ]
            kind = kinds.find(model.config.type)
            found["features"].append(apart(features, kind.pooled(model, kind.encode(model, dict(batch)), batch)))
            found["asked"].append(apart(again, chunks))
    return {key: max(values) for key, values in found.items()}


def compilations(policy: LeRobotPolicy) -> int:
    """Graphs that torch.compile makes of all layers, steps and numbers of chunks; it raises if one has a break."""
    torch._dynamo.reset()
    counters.clear()
    compiled = network(policy.model, torch.bfloat16, lambda f: torch.compile(f, fullgraph=True, backend="aot_eager"))
    inputs = compiled.inputs(batches(policy)[0])
    for n in (1, N, 2, 3):
        compiled(noise(policy.model, n), True, inputs)
        compiled(noise(policy.model, n), False, inputs)
    return int(counters["stats"]["unique_graphs"])


def without_a_graph(policy: LeRobotPolicy) -> dict[str, Any]:
    """What is said and computed where nothing can be recorded, as here, where there is no GPU."""
    batch, given = batches(policy)[0], noise(policy.model, 2)
    fast = FastChunks(policy.model, torch.float32, compiled=False)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        chunks = [fast(batch, 2, noise=given)[0] for _ in range(2)]
    expected = by_lerobot(policy.model, batch, given[:1])[0]
    return {"said": said.getvalue(), "error": apart(chunks[1][0], expected)}


def served(policy: LeRobotPolicy) -> float:
    """Distance of the actions that a server sends with our computation and with LeRobot's."""
    fast = FastChunks(policy.model, torch.float32, compiled=False, graphed=False)
    answers = []
    for service in (LeRobotService(policy, fast), LeRobotService(policy)):
        torch.manual_seed(3)
        answers.append(service.answer(Inputs(policy.model.config).made_up())["actions"])
    return float(abs(answers[0] - answers[1]).max())


def facts(folder: Path) -> dict[str, Any]:
    policy = load(folder, "cpu")
    found: dict[str, Any] = {"float32": errors(policy, torch.float32), "bfloat16": errors(policy, torch.bfloat16)}
    if "_" not in folder.name:
        found |= {"compilations": compilations(policy), "no_graph": without_a_graph(policy), "served": served(policy)}
    return found


def main() -> None:
    with torch.no_grad():
        print(json.dumps({Path(folder).name: facts(Path(folder)) for folder in sys.argv[1:]}))


if __name__ == "__main__":
    main()
