"""π0 and π0.5: PaliGemma and a Gemma as action expert, joined in every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lerobot.policies.common.vla_utils import create_sinusoidal_pos_embedding
from torch import Tensor
from torch.nn import functional as F

from aloe_policy.remote.lerobot.fast.blocks import Heads, Norm, hidden
from aloe_policy.remote.lerobot.fast.network import Compile, Network, Seen, Stack, Step, causal, flow_times, folded
from aloe_policy.remote.lerobot.fast.vision import VisionTower
from aloe_policy.remote.lerobot.fast.weights import layer, linear, norm, stacked_with_bias
from aloe_policy.remote.lerobot.flow import MASK, TOKENS


class PiNetwork(Network):
    """A LeRobot PI0Policy or PI05Policy, computed in `dtype`; its weights are copied."""

    def __init__(self, model: Any, dtype: torch.dtype, compiled: Compile) -> None:
        super().__init__(dtype, compiled)
        self._model, self._config, net = model, model.config, model.model
        both = net.paligemma_with_expert
        seer, language, expert = both.paligemma.model, both.paligemma.model.language_model, both.gemma_expert.model
        tower = getattr(seer.vision_tower, "vision_model", seer.vision_tower)
        self.vision = VisionTower(tower, self._config.image_resolution, dtype, compiled)
        self._to_tokens = stacked_with_bias(dtype, seer.multi_modal_projector.linear)
        self._words = language.get_input_embeddings()
        self.prefix, self.expert = _stack(language, dtype), _stack(expert, dtype)
        self.prefix_norms, self.prefix_last = _norms(language), norm(language.norm, 1.0)
        self.crossed = frozenset()
        self.out = linear(net.action_out_proj)
        self._state = None if self._config.type == "pi05" else linear(net.state_proj)
        blocks = [self._config.chunk_size] if self._state is None else [1, self._config.chunk_size]
        self.own_bias = causal(blocks, net.action_out_proj.weight.device)
        self._set_steps(net, expert)

    @torch.no_grad()
    def _set_steps(self, net: Any, expert: Any) -> None:
        """Compute what each step adds to the actions, and the norms of its time."""
        config, embed = self._config, net.action_in_proj
        device, width = embed.weight.device, embed.out_features
        times = flow_times(config.num_inference_steps, device)
        seen = create_sinusoidal_pos_embedding(times, width, config.min_period, config.max_period, device).float()
        if self._state is not None:
            self._in, biases = folded(embed, net.action_time_mlp_in, seen)
            self._second = linear(net.action_time_mlp_out)
            norms = _norms(expert)
            last = norm(expert.norm, 1.0)
            self.steps: Sequence[Step] = [Step(norms, last, bias) for bias in biases.unbind()]
            return
        self._in, bias = linear(embed)
        given = F.silu(net.time_mlp_out(F.silu(net.time_mlp_in(seen))))
        layers, last_norms = expert.layers, _timed(expert.norm, given)
        timed = [(_timed(each.input_layernorm, given), _timed(each.post_attention_layernorm, given)) for each in layers]
        self.steps = [
            Step([(first[i], second[i]) for first, second in timed], last, bias) for i, last in enumerate(last_norms)
        ]

    def inputs(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        longest = self._config.tokenizer_max_length
        missing = max(0, longest - batch[TOKENS].shape[1])
        inputs = {key: batch[key] for key in self._config.image_features if key in batch}
        inputs |= {TOKENS: F.pad(batch[TOKENS], (0, missing)), MASK: F.pad(batch[MASK].bool(), (0, missing))}
        return inputs if self._state is None else inputs | {"observation.state": batch["observation.state"]}

    def seen(self, **inputs: Tensor) -> Seen:
        # Behind those of cameras that are there LeRobot puts black images, which nothing may attend to.
        cameras = sum(key in inputs for key in self._config.image_features)
        images, _ = self._model._preprocess_images(inputs)
        patches = F.linear(self.vision(torch.cat(images[:cameras])), *self._to_tokens)
        words, said = self._words(inputs[TOKENS]).to(self.dtype), inputs[MASK][0]
        each, all_of = patches.shape[1], cameras * patches.shape[1]
        there = torch.cat([torch.ones(all_of, dtype=torch.bool, device=said.device), said])
        return Seen(
            torch.cat([patches.reshape(1, all_of, -1), words], 1),
            there,
            hidden(there)[None],
            slice(all_of, len(there)),
            [slice(i * each, (i + 1) * each) for i in range(cameras)],
        )

    def begun(self, chunks: Tensor, step: Step, inputs: dict[str, Tensor]) -> Tensor:
        actions = F.linear(chunks, self._in, step.bias)
        if self._state is None:
            return actions
        actions = F.linear(F.silu(actions), *self._second)
        state = F.linear(self._model.prepare_state(inputs).float(), *self._state)
        return torch.cat([state[:, None].expand(len(chunks), 1, -1), actions], 1)


def _stack(module: Any, dtype: torch.dtype) -> Stack:
    attention, config = module.layers[0].self_attn, module.config
    heads = Heads(
        config.num_attention_heads,
        config.num_key_value_heads,
        attention.head_dim,
        attention.scaling,
        module.norm.eps,
        module.layers[0].mlp.config.hidden_act,
    )
    # In bfloat16 LeRobot rounds the frequencies, too.
    return Stack([layer(dtype, each) for each in module.layers], heads, module.rotary_emb.inv_freq.detach().float())


def _norms(module: Any) -> list[tuple[Norm, Norm]]:
    return [(norm(each.input_layernorm, 1.0), norm(each.post_attention_layernorm, 1.0)) for each in module.layers]


def _timed(module: Any, given: Tensor) -> list[Norm]:
    """Return a norm as it is at each of the times [steps, W]."""
    scale, shift, gate = module.dense(given.to(module.dense.weight.dtype)).float().chunk(3, -1)
    return [Norm(1 + scale[i], shift[i].clone(), gate[i].clone()) for i in range(len(given))]
