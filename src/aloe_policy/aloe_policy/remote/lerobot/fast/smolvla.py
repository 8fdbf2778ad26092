"""SmolVLA: the first layers of a SmolVLM, and an action expert that reads what they make of the observation."""

from __future__ import annotations

from typing import Any

import torch
from lerobot.policies.common.vla_utils import create_sinusoidal_pos_embedding
from torch import Tensor
from torch.nn import functional as F

from aloe_policy.remote.lerobot.fast.blocks import Heads, hidden
from aloe_policy.remote.lerobot.fast.network import (
    Compile,
    Keys,
    Network,
    Seen,
    Stack,
    Step,
    causal,
    flow_times,
    folded,
)
from aloe_policy.remote.lerobot.fast.vision import VisionTower
from aloe_policy.remote.lerobot.fast.weights import UnsupportedError, layer, linear, norm, stacked
from aloe_policy.remote.lerobot.flow import MASK, TOKENS

WAVELENGTH = 10_000.0  # of the rotary positions, as LeRobot has it


class SmolVLANetwork(Network):
    """A LeRobot SmolVLAPolicy, computed in `dtype`; its weights are copied."""

    def __init__(self, model: Any, dtype: torch.dtype, compiled: Compile) -> None:
        """UnsupportedError for an expert with fewer layers than the VLM, or without a cache."""
        super().__init__(dtype, compiled)
        self._model, self._config, net = model, model.config, model.model
        both = net.vlm_with_expert
        seer, expert = both.get_vlm_model(), both.lm_expert
        if both.num_expert_layers != both.num_vlm_layers:
            raise UnsupportedError("an expert with fewer layers than the VLM")
        if not self._config.use_cache or self._config.resize_imgs_with_padding is None:
            raise UnsupportedError("no cache, or images as they come")
        width, height = self._config.resize_imgs_with_padding
        self.vision = VisionTower(seer.vision_model, (height, width), dtype, compiled)
        self._connector, self._to_tokens = seer.connector, stacked(dtype, seer.connector.modality_projection.proj)
        self._words = seer.text_model.get_input_embeddings()
        self._around = _special_tokens(net, dtype)
        self._state = linear(net.state_proj)
        every = both.self_attn_every_n_layers
        crossing = "cross" in both.attention_mode
        self.crossed = frozenset(i for i in range(both.num_vlm_layers) if crossing and (every <= 0 or i % every))
        self.prefix, self.prefix_norms = _stack(both, seer.text_model, dtype, frozenset())
        self.expert, norms = _stack(both, expert, dtype, self.crossed)
        self.prefix_last = norm(seer.text_model.norm)
        self._crossing = {
            i: (stacked(dtype, expert.layers[i].self_attn.k_proj), stacked(dtype, expert.layers[i].self_attn.v_proj))
            for i in self.crossed
        }
        device = net.action_out_proj.weight.device
        times = flow_times(self._config.num_steps, device)
        seen = create_sinusoidal_pos_embedding(
            times, both.expert_hidden_size, self._config.min_period, self._config.max_period, device
        )
        self._in, biases = folded(net.action_in_proj, net.action_time_mlp_in, seen.float())
        self._second, self.out = linear(net.action_time_mlp_out), linear(net.action_out_proj)
        self.steps = [Step(norms, norm(expert.norm), bias) for bias in biases.unbind()]
        self.own_bias = causal([1] * self._config.chunk_size, device)

    def inputs(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        missing = max(0, self._config.tokenizer_max_length - batch[TOKENS].shape[1])
        inputs = {key: batch[key] for key in self._config.image_features if key in batch}
        inputs |= {TOKENS: F.pad(batch[TOKENS], (0, missing)), MASK: F.pad(batch[MASK].bool(), (0, missing))}
        return inputs | {"observation.state": batch["observation.state"]}

    def seen(self, **inputs: Tensor) -> Seen:
        cameras = sum(key in inputs for key in self._config.image_features)
        images, _ = self._model.prepare_images(inputs)
        patches = self._connector.pixel_shuffle(self.vision(torch.cat(images[:cameras])), self._connector.scale_factor)
        patches = F.linear(patches, self._to_tokens)
        patches = patches * patches.shape[-1] ** 0.5
        before, after = (tokens.expand(cameras, -1, -1) for tokens in self._around)
        pictures = torch.cat([before, patches, after], 1)
        each, all_of = pictures.shape[1], cameras * pictures.shape[1]
        words, said = self._words(inputs[TOKENS]).to(self.dtype), inputs[MASK][0]
        words = words * words.shape[-1] ** 0.5
        state = F.linear(self._model.prepare_state(inputs).float(), *self._state).to(self.dtype)[:, None]
        one = torch.ones(1, dtype=torch.bool, device=said.device)
        there = torch.cat([one.expand(all_of), said, one])
        behind = torch.arange(len(there), device=said.device) == len(there) - 1
        seen = there & (~behind | behind[:, None])  # neither cameras nor words attend to the state behind them
        return Seen(
            torch.cat([pictures.reshape(1, all_of, -1), words, state], 1),
            there,
            hidden(seen),
            slice(all_of, len(there) - 1),
            [slice(i * each, (i + 1) * each) for i in range(cameras)],
        )

    def begun(self, chunks: Tensor, step: Step, inputs: dict[str, Tensor]) -> Tensor:
        return F.linear(F.silu(F.linear(chunks, self._in, step.bias)), *self._second)

    def across(self, cache: list[Keys]) -> list[Keys]:
        """Crossed layers project the VLM's keys and values, once for all steps."""
        return [
            torch.stack([_projected(*pair) for pair in zip(keys, self._crossing[i], strict=True)])
            if i in self._crossing
            else keys
            for i, keys in enumerate(cache)
        ]


def _projected(keys: Tensor, weight: Tensor) -> Tensor:
    """[1, Hkv, S, D] by a matrix over all heads together."""
    _, heads, seen, width = keys.shape
    flat = F.linear(keys.transpose(1, 2).reshape(1, seen, heads * width), weight)
    return flat.view(1, seen, -1, width).transpose(1, 2)


def _stack(both: Any, module: Any, dtype: torch.dtype, crossed: frozenset[int]) -> tuple[Stack, list[Any]]:
    text, width = both.config.text_config, both.config.text_config.head_dim
    heads = Heads(
        both.num_attention_heads, both.num_key_value_heads, width, width**-0.5,
        module.norm.variance_epsilon, text.hidden_act,
    )  # fmt: skip
    layers = [layer(dtype, each, queries_only=i in crossed) for i, each in enumerate(module.layers)]
    norms = [(norm(each.input_layernorm), norm(each.post_attention_layernorm)) for each in module.layers]
    exponents = torch.arange(width // 2, dtype=torch.float32, device=layers[0].out.device) * (2.0 / width)
    return Stack(layers, heads, 1 / WAVELENGTH**exponents), norms


@torch.no_grad()
def _special_tokens(net: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what stands before and after each image [1, tokens, W], of a policy that was trained with it."""
    both = net.vlm_with_expert
    embed = both.get_vlm_model().text_model.get_input_embeddings()
    ids = (net.global_image_start_token, net.image_end_token)
    return tuple(
        embed((i if net.add_image_special_tokens else i[:0]).to(embed.weight.device))[None].to(dtype) for i in ids
    )
