"""How well somebody does a task: the expert's tunable imperfection, and the levels that demonstrations come in."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from aloe_core.errors import AloeError


class Skill(BaseModel):
    """How well somebody does it; the default is flawless."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: float = Field(1.0, gt=0, le=2)  # of the natural speed
    speed_spread: float = Field(0.0, ge=0, lt=1)  # fraction, either way, drawn per engagement
    aim_spread: float = Field(0.0, ge=0, le=0.1)  # m, error of where things are thought to be, drawn per attempt
    wobble: float = Field(0.0, ge=0, le=0.1)  # m, slow wandering of the hand
    delay: float = Field(0.0, ge=0, le=1.0)  # s from seeing to moving
    hesitation: float = Field(0.0, ge=0, le=2.0)  # pauses a second


PRESETS = {
    "perfect": Skill(),
    "good": Skill(speed_spread=0.08, aim_spread=0.002, wobble=0.003),
    "mediocre": Skill(speed=0.8, speed_spread=0.15, aim_spread=0.0045, wobble=0.004, delay=0.08, hesitation=0.12),
    "bad": Skill(speed=0.65, speed_spread=0.25, aim_spread=0.015, wobble=0.01, delay=0.2, hesitation=0.35),
}


def preset(name: str) -> Skill:
    """Return the skill of that name; AloeError names what there is."""
    if name not in PRESETS:
        raise AloeError(f"Unknown skill {name!r}: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]
