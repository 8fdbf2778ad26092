"""Size and shape of the native policy."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aloe_core.contract import RobotContract
from aloe_core.pacing import longest_delay


class FlowConfig(BaseModel):
    """Everything needed to build a FlowPolicy before its weights are loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cameras: tuple[str, ...]  # empty where objects are seen instead
    objects: int = Field(0, ge=0)  # numbers that say where things are, in place of images; simulation only
    height: int  # pixels the encoder sees; frames of another size are resized
    width: int
    state_dim: int
    action_dim: int
    horizon: int  # H, control steps predicted
    execute: int  # h, control steps run and scored
    gripper_dims: tuple[int, ...] = ()  # predicted as absolute positions, the others relative to the state
    knot_stride: int = Field(5, ge=1)  # the flow predicts every knot_stride-th step, linear in between
    keypoints: int = Field(32, ge=1)  # spatial-softmax points per camera
    channels: tuple[int, int, int] = (24, 32, 48)
    text_buckets: int = 512  # hashed words
    text_dim: int = 16
    width_head: int = 384
    blocks_head: int = 3
    flow_steps: int = 8  # Euler steps when sampling
    head: Literal["flow", "gaussian"] = "flow"  # gaussian: the actor of hil_serl
    indicator: bool = False  # conditioned on "this chunk was an improvement" (RECAP, arXiv 2511.14759)
    guidance: float = Field(1.0, ge=0)  # g in v_u + g (v_c - v_u) when sampling with an indicator; 1 = v_c
    # Leading steps of a chunk that may be given because they will have run (arXiv 2512.05964); 0 = none can be.
    prefix: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _prefix_fits(self) -> FlowConfig:
        if self.prefix > longest_delay(self.horizon):
            raise ValueError(f"prefix = {self.prefix}: expected at most half of the horizon of {self.horizon}")
        if self.prefix and self.head != "flow":
            raise ValueError(f"prefix = {self.prefix}: only a flow can be given steps")
        return self

    @classmethod
    def for_contract(cls, contract: RobotContract, **overrides: object) -> FlowConfig:
        """Return the configuration that fits `contract`, with `overrides` on top."""
        camera = contract.cameras[0]
        base: dict[str, object] = {
            "cameras": tuple(contract.camera_names),
            "height": min(camera.height, 96),
            "width": min(camera.width, 96),
            "state_dim": contract.action_dim,
            "action_dim": contract.action_dim,
            "horizon": contract.chunk.horizon,
            "execute": contract.chunk.execute,
            "gripper_dims": tuple(i for i, j in enumerate(contract.joints) if j.unit == "m"),
        }
        return cls.model_validate(base | overrides)
