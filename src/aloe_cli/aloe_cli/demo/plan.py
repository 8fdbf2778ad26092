"""How much of everything the demo does; full and smoke."""

from __future__ import annotations

from dataclasses import dataclass, field

# Seeds of measured episodes; demonstrations and supervised episodes never use this range.
EVAL_SEED = 1_000_000


@dataclass(frozen=True)
class Plan:
    """Episode counts and training budgets."""

    name: str
    task: str = "sorting"
    level: str = "easy"
    demonstrations: int = 10
    iterations: int = 3
    supervised: int = 25  # episodes an iteration
    evaluated: int = 50  # episodes before and after
    bc: dict[str, object] = field(default_factory=dict)  # overrides of aloe_critic.hyper
    aloe: dict[str, object] = field(default_factory=dict)


# Less of what costs two cores most than the defaults have (docs/benchmarks.md, "The demo's time").
FULL = Plan(
    "full",
    bc={"width_head": 256, "bc_steps": 300},
    aloe={
        "critic_steps": 900,
        "actor_steps": 120,
        "actor_head_steps": 1000,
        "refresh_steps": 450,
        "bank": 8,
    },
)
SMOKE = Plan(
    "smoke",
    demonstrations=2,
    iterations=1,
    supervised=2,
    evaluated=2,
    bc={"bc_steps": 20, "bc_batch": 16, "bc_head_steps": 20},
    aloe={"critic_steps": 40, "critic_batch": 64, "actor_steps": 20, "actor_head_steps": 20, "refresh_steps": 10},
)
