"""The Q-chunking authors' JAX code at our shapes: a process of its own, which needs jax, flax, optax and their clone.

    python updates_jax.py CLONE SHAPE

SHAPE is JSON: states, actions, horizon, distilled, heads, batch. Prints `ready` once compiled, waits for a line,
measures, prints one line of JSON: `updates_turns` speaks to it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from typing import Any

SCAN = 50  # updates of one `batch_update`, their largest unit of work


def main(clone: str, shape: dict[str, Any], least_s: float = 2.0) -> None:
    """Compile both ways of updating, then time them when told to."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    sys.path.insert(0, clone)
    _stand_in_for_what_is_not_used(clone)
    import jax
    from agents.acfql import ACFQLAgent, get_config

    config = get_config()
    config["horizon_length"] = shape["horizon"]
    config["num_qs"] = shape["heads"]
    config["actor_type"] = "distill-ddpg" if shape["distilled"] else "best-of-n"
    one, many = _batch(shape, ()), _batch(shape, (SCAN,))
    agent = ACFQLAgent.create(0, one["observations"][0], one["actions"][0, 0], config)

    def done(result: Any) -> Any:
        jax.block_until_ready(result[0].network.params)
        return result[0]

    def rate(update: Any, batch: Any, each: int) -> float:
        nonlocal agent
        n, start = 0, time.perf_counter()
        while time.perf_counter() - start < least_s:
            for _ in range(200 // each):
                agent, _ = update(agent, batch)
            done((agent,))
            n += 200
        return n / (time.perf_counter() - start)

    update, scan = ACFQLAgent.update, ACFQLAgent.batch_update
    for how, batch in ((update, one), (scan, many)):
        agent = done(how(agent, batch))
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    found = {"jax_update_per_s": rate(update, one, 1), "jax_scan_per_s": rate(scan, many, SCAN)}
    device = jax.devices()[0]
    print(json.dumps(found | {"device": device.device_kind, "jax": jax.__version__}), flush=True)


def _batch(shape: dict[str, Any], lead: tuple[int, ...]) -> dict[str, Any]:
    import jax

    b, h = (*lead, shape["batch"]), shape["horizon"]
    keys = iter(jax.random.split(jax.random.PRNGKey(0), 4))
    ones = jax.numpy.ones((*b, h))
    return {
        "observations": jax.random.normal(next(keys), (*b, shape["states"])),
        "next_observations": jax.random.normal(next(keys), (*b, h, shape["states"])),
        "actions": jax.random.uniform(next(keys), (*b, h, shape["actions"]), minval=-1.0, maxval=1.0),
        "rewards": -jax.random.uniform(next(keys), (*b, h)),
        "masks": ones,
        "valid": ones,
    }


def _stand_in_for_what_is_not_used(clone: str) -> None:
    """Their networks name a class of distrax, and their package imports another agent: both need TensorFlow."""
    distrax: Any = types.ModuleType("distrax")
    distrax.Transformed = object
    agents: Any = types.ModuleType("agents")
    agents.__path__ = [os.path.join(clone, "agents")]
    sys.modules |= {"distrax": distrax, "agents": agents}


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), *map(float, sys.argv[3:]))
