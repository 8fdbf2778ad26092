"""What LeRobot itself does with a grey observation: by_lerobot.py DIR; prints the actions of one chunk as JSON.

Step by step, through select_action and both processors, as its rollout drives a robot.
"""

import contextlib
import json
import sys

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

with contextlib.redirect_stdout(sys.stderr):
    config = PreTrainedConfig.from_pretrained(sys.argv[1])
    policy = get_policy_class(config.type).from_pretrained(sys.argv[1], config=config)
    before, after = make_pre_post_processors(config, sys.argv[1])
    rows = []
    for _ in range(config.chunk_size):
        grey = torch.full((3, 64, 64), 128 / 255)
        seen = {f"observation.images.{name}": grey for name in ("front", "wrist")}
        batch = before(seen | {"observation.state": torch.tensor([0.5, -1.0]), "task": "sort the blocks"})
        with torch.inference_mode():
            rows.append(after(policy.select_action(batch)).squeeze(0).tolist())
print(json.dumps(rows))
