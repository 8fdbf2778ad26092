"""Every hyperparameter of the learners on flat state vectors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FlatConfig(BaseModel):
    """Defaults are ALOE's; `qc()` gives those of Q-chunking (arXiv 2507.07969)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Networks
    heads: int = Field(5, ge=1)  # K, independent
    width: int = Field(256, ge=8)
    layers: int = Field(3, ge=2)  # of critic and policy
    actor: Literal["mlp", "blocks"] = "mlp"  # FlowMLP, or the FlowHead of the image policy with two blocks
    flow_steps: int = Field(5, ge=1)  # Euler steps

    # Targets
    samples: int = Field(1, ge=1)  # fresh chunks a' at the end of each transition
    pick: Literal["mean", "max"] = "mean"  # over those samples; max is Q-chunking
    target: Literal["min", "mean", "own"] = "min"  # over heads
    tau: float = Field(0.005, gt=0, le=1)  # Polyak step

    # Distilled critic of short chunks (DQC, arXiv 2512.10926)
    short: int = Field(0, ge=0)  # leading numbers of a chunk that a policy makes and its critic scores; 0 = all
    expectile: float = Field(0.8, gt=0, lt=1)  # of the values of whole chunks, which the short critic learns

    # Policy: flow matching on (weighted) data, or that and a one-step policy that climbs Q (QC-FQL)
    policy: Literal["flow", "distilled"] = "flow"
    alpha: float = Field(100.0, ge=0)  # of the distance of the one-step policy from the flow

    # Optimisation
    batch: int = Field(256, ge=1)
    lr: float = Field(3e-4, gt=0)
    clip: float = Field(1.0, gt=0)  # gradient norm


def qc(**changes: object) -> FlatConfig:
    """Q-chunking: two heads averaged, the best of 32 chunks of the cloned policy in the target."""
    wanted: dict[str, object] = {"heads": 2, "samples": 32, "pick": "max", "target": "mean"}
    return FlatConfig.model_validate(wanted | changes)
