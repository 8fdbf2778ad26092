"""π0 and π0.5 with small numbers in place of those that LeRobot has in its code.

All that config.json says of sizes is which of two Gemmas. The vision tower's width and 27 layers, and 257,152 words,
are constants, and the smallest model that runs has 4 billion weights. So these numbers are replaced where LeRobot hands
them to transformers. All else is its own: building, saving, renaming, loading, computing.
"""

from __future__ import annotations

import functools
from typing import Any

from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi05 import modeling_pi05

HEADS, HEAD_DIM = 8, 8  # LeRobot reshapes for 8 heads, whatever is configured
WORDS = 400
VLM = {"width": 48, "depth": 2, "mlp_dim": 96}
EXPERT = {"width": 32, "depth": 2, "mlp_dim": 64}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def shrink(vlm: dict[str, int] = VLM, expert: dict[str, int] = EXPERT, vision: dict[str, int] = VISION) -> None:
    """Make every π0 and π0.5 of this process small; VLM and expert must have equal depth."""
    sizes = {"gemma_2b": vlm, "gemma_300m": expert}
    for module in (modeling_pi0, modeling_pi05):
        module.get_gemma_config = lambda variant, of=module: of.GemmaConfig(
            **sizes[variant], num_heads=HEADS, num_kv_heads=1, head_dim=HEAD_DIM
        )
        module.PaliGemmaForConditionalGenerationWithPiGemma = _with(
            module.PaliGemmaForConditionalGenerationWithPiGemma,
            {"text_config": {"vocab_size": WORDS}, "vision_config": vision | {"projection_dim": vlm["width"]}},
        )
        module.PiGemmaForCausalLM = _with(module.PiGemmaForCausalLM, {"vocab_size": WORDS})


def _with(build: Any, numbers: dict[str, Any]) -> Any:
    """The class `build` with other numbers in the configuration it is given."""

    @functools.wraps(build, updated=())
    def built(config: Any) -> Any:
        _set(config, numbers)
        return build(config=config)

    return built


def _set(config: Any, numbers: dict[str, Any]) -> None:
    for key, value in numbers.items():
        if isinstance(value, dict):
            _set(getattr(config, key), value)
        else:
            assert hasattr(config, key), key
            setattr(config, key, value)
