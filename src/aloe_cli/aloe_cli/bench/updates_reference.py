"""The same updates as anyone would first write them: a loop over heads, whole input layers, PyTorch's defaults."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from aloe_critic.flat.config import FlatConfig
from aloe_critic.flat.data import Transitions


def mlp(inputs: int, outputs: int, config: FlatConfig, *, norm: bool) -> nn.Sequential:
    """Return a network of the shapes of FlatLearner's."""
    layers: list[nn.Module] = []
    for width in [inputs] + [config.width] * (config.layers - 1):
        layers += [nn.Linear(width, config.width)] + [nn.LayerNorm(config.width)] * norm + [nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(config.width, outputs))


class PlainLearner:
    """What FlatLearner is measured against: one fresh chunk in the target, heads one after the other."""

    def __init__(self, data: Transitions, config: FlatConfig) -> None:
        self.data, self.config = data, config
        states, self.dim = data.states.shape[1], data.chunk.shape[1]
        self.heads = nn.ModuleList(mlp(states + self.dim, 1, config, norm=True) for _ in range(config.heads))
        self.targets = copy.deepcopy(self.heads).requires_grad_(False)
        self.actor = mlp(states + self.dim + 1, self.dim, config, norm=False)
        self.weight = torch.ones(len(data))
        self._critic_optimizer = torch.optim.AdamW(self.heads.parameters(), lr=config.lr)
        self._actor_optimizer = torch.optim.AdamW(self.actor.parameters(), lr=config.lr)

    def update_critic(self) -> Tensor:
        """One step of every head and of its Polyak copy."""
        d, pick = self.data, torch.randint(len(self.data), (self.config.batch,))
        with torch.no_grad():
            z = d.states[d.end[pick]]
            x = torch.randn(len(pick), self.dim)
            for i in range(self.config.flow_steps):
                t = torch.full((len(pick), 1), i / self.config.flow_steps)
                x = x + self.actor(torch.cat([z, x, t], 1)) / self.config.flow_steps
            after = torch.cat([z, x.clamp(-1, 1)], 1)
            next_q = torch.stack([head(after) for head in self.targets]).amin(0).squeeze(1)
            y = d.reward[pick] + d.discount[pick] * next_q
        now = torch.cat([d.states[d.start[pick]], d.chunk[pick]], 1)
        loss = sum((head(now).squeeze(1) - y).square().mean() for head in self.heads)
        self._step(self._critic_optimizer, self.heads, loss)
        with torch.no_grad():
            for old, new in zip(self.targets.parameters(), self.heads.parameters(), strict=True):
                old.lerp_(new, self.config.tau)
        return loss.detach()

    def update_actor(self) -> Tensor:
        """One step of weighted flow matching."""
        d, pick = self.data, torch.randint(len(self.data), (self.config.batch,))
        chunk, noise, t = d.chunk[pick], torch.randn(len(pick), self.dim), torch.rand(len(pick), 1)
        v = self.actor(torch.cat([d.states[d.start[pick]], (1 - t) * noise + t * chunk, t], 1))
        loss = (self.weight[pick] * (v - (chunk - noise)).square().mean(1)).mean()
        self._step(self._actor_optimizer, self.actor, loss)
        return loss.detach()

    def _step(self, optimizer: torch.optim.Optimizer, module: nn.Module, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), self.config.clip)
        optimizer.step()
