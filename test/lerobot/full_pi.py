"""π0 and π0.5 as large as they are, without memory: full_pi.py; in LeRobot's environment. Prints a JSON object.

On torch's meta device shapes are computed and numbers are not: which weights would move, whether every call fits.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from lerobot.policies.factory import get_policy_class, make_policy_config
from save_random import INPUTS, OUTPUTS

from aloe_critic.remote.lerobot.adapters import adapt
from aloe_policy.remote.lerobot import kinds

HORIZON, N, WORDS = 50, 8, 48


def built(kind: str, vlm: str) -> Any:
    config = make_policy_config(
        kind, input_features=INPUTS, output_features=OUTPUTS, device="cpu", paligemma_variant=vlm
    )
    config.device = "meta"  # after LeRobot has looked for a real one
    with torch.device("meta"):
        return get_policy_class(kind)(config).eval()


def batch(rows: int) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return {
            **{key: torch.zeros(rows, 3, 64, 64) for key in INPUTS if "images" in key},
            "observation.state": torch.zeros(rows, 2),
            "observation.language.tokens": torch.zeros(rows, WORDS, dtype=torch.long),
            "observation.language.attention_mask": torch.ones(rows, WORDS, dtype=torch.bool),
            "action": torch.zeros(rows, HORIZON, 2),
            "action_is_pad": torch.zeros(rows, HORIZON, dtype=torch.bool),
        }


def runs(model: Any) -> bool:
    try:
        with torch.no_grad():
            model.predict_action_chunk(batch(1))
    except RuntimeError:
        return False
    return True


def facts(kind: str) -> dict[str, Any]:
    model, known = built(kind, "gemma_2b"), kinds.find(kind)
    expert = {name: weight for name, weight in model.named_parameters() if name.startswith(known.EXPERT)}
    with torch.no_grad():
        found = {
            "weights": sum(weight.numel() for weight in model.parameters()),
            "expert": sum(weight.numel() for weight in expert.values()),
            "features": list(known.pooled(model, known.encode(model, batch(2)), batch(2)).shape),
            "samples": list(known.samples(model, known.encode(model, batch(2)), batch(2), N).shape),
            "losses": list(known.losses(model, batch(2)).shape),
        }
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    adapters = adapt(model, known.ADAPTED, 16)
    adapted = {name.split(".lora_")[0] for name in adapters}
    moving = {name for name in linear if f"{name}.weight" in expert}
    return found | {"adapters": sum(w.numel() for w in adapters.values()), "not_adapted": sorted(moving ^ adapted)}


def main() -> None:
    found = {kind: facts(kind) | {"smaller_runs": runs(built(kind, "gemma_300m"))} for kind in ("pi0", "pi05")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
