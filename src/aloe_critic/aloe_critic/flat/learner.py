"""Critic and policy updates on flat states: what `./aloe bench updates` times and `bench ogbench` learns by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_critic.distil import distillation
from aloe_critic.flat.config import FlatConfig
from aloe_critic.flat.data import Transitions
from aloe_critic.td import aggregate, td_target
from aloe_policy.critic import CriticConfig, Ensemble
from aloe_policy.flow import FlowHead
from aloe_policy.flow_mlp import FlowMLP

_SAMPLES = {"cpu": 4096, "cuda": 262_144}  # chunks drawn at once: on a CPU what a layer makes of them fits a cache


class FlatLearner:
    """An ensemble of chunk critics, its Polyak copy and a flow policy; chunks are flat, [h * A] within [-1, 1].

    Every tensor an update needs is drawn on the device and nothing is read back, so an update can be one CUDA graph.
    """

    def __init__(
        self,
        data: Transitions,
        config: FlatConfig,
        *,
        bank: Tensor | None = None,
        compiled: bool = False,
        bfloat16: Literal["none", "sampling", "all"] = "none",
    ) -> None:
        """`bank` [R, n, D]: chunks of the policy at every state, drawn beforehand (`make_bank`); None: drawn afresh."""
        self.config, self.data, self.bank = config, data, bank
        device = data.states.device
        states, whole = data.states.shape[1], data.chunk.shape[1]
        if not 0 <= config.short < whole:
            raise AloeError(f"short = {config.short}: expected fewer than the {whole} numbers of a chunk, or 0.")
        c, dim = config, config.short or whole
        self.dim = dim  # numbers in a chunk of the policy
        shape = CriticConfig(feature_dim=states, action_dim=dim, steps=1, heads=c.heads, width=c.width, layers=c.layers)
        self.critic = Ensemble(shape, dim).to(device)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.long: Ensemble | None = None
        if c.short:
            self.long = Ensemble(shape.model_copy(update={"action_dim": whole}), whole).to(device)
        self.actor = _actor(c, dim, states).to(device)
        self.one_step = FlowMLP(dim, states, c.width, c.layers, 1).to(device) if c.policy == "distilled" else None
        self.weight = torch.ones(len(data), device=device)  # of each transition's chunk in the policy's loss
        self._actors = [p for m in (self.actor, self.one_step) if m is not None for p in m.parameters()]
        own = list(self.critic.parameters())
        self._pairs = list(self.target.parameters()), own
        self._critics = own + (list(self.long.parameters()) if self.long is not None else [])
        # `capturable` keeps the step count on the GPU, where a graph can advance it.
        options = {"lr": c.lr, "fused": True, "capturable": device.type == "cuda"}
        self.critic_optimizer = torch.optim.AdamW(self._critics, **options)
        self.actor_optimizer = torch.optim.AdamW(self._actors, **options)
        self.device, self._bfloat16 = device, bfloat16
        self._losses: dict[str, Callable[..., Tensor]] = {
            "critic": self.critic_loss,
            "flow": self.flow_loss,
            "one_step": self.one_step_loss,
        }
        if compiled:
            self._losses = {name: torch.compile(loss, dynamic=False) for name, loss in self._losses.items()}
        self._streams = [torch.cuda.Stream(device) for _ in self._losses] if device.type == "cuda" else []

    # Everything that changes, so that a stopped run goes on bit by bit where it was

    def state(self) -> dict[str, Tensor]:
        """Networks, optimisers, weights, the bank and the device's generator of random numbers, by name."""
        found = {"weight": self.weight, "random": self._random().get_state()}
        if self.bank is not None:
            found["bank"] = self.bank
        for name, module in self._modules().items():
            found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self._optimizers().items():
            for i, values in optimizer.state_dict()["state"].items():
                found |= {f"{name}.{i}.{key}": value for key, value in values.items()}
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take what `state` returned; every tensor of the networks must be there."""
        bank = state.get("bank")
        self.weight, self.bank = state["weight"].to(self.device), None if bank is None else bank.to(self.device)
        for name, module in self._modules().items():
            module.load_state_dict(_below(state, name))
        for name, optimizer in self._optimizers().items():
            values: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(state, name).items():
                index, entry = key.split(".", 1)
                values.setdefault(int(index), {})[entry] = value
            optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
        self._random().set_state(state["random"].cpu())

    def networks(self) -> dict[str, Tensor]:
        """What acting and scoring need of `state`."""
        modules = self._modules()
        wanted = [name for name in ("critic", "actor", "one_step") if name in modules]
        return {f"{name}.{key}": value for name in wanted for key, value in modules[name].state_dict().items()}

    def load_networks(self, tensors: dict[str, Tensor]) -> None:
        """Take what `networks` returned."""
        for name, module in self._modules().items():
            if own := _below(tensors, name):
                module.load_state_dict(own)

    def _random(self) -> torch.Generator:
        return torch.cuda.default_generators[self.device.index or 0] if self._streams else torch.default_generator

    def _modules(self) -> dict[str, torch.nn.Module]:
        modules = {"critic": self.critic, "target": self.target, "actor": self.actor}
        optional = {"one_step": self.one_step, "long": self.long}
        return modules | {name: module for name, module in optional.items() if module is not None}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"critic_optimizer": self.critic_optimizer, "actor_optimizer": self.actor_optimizer}

    # Losses: functions of tensors alone

    def critic_loss(
        self, z: Tensor, chunk: Tensor, reward: Tensor, discount: Tensor, next_z: Tensor, after: Tensor
    ) -> Tensor:
        """TD loss summed over heads: z, next_z [B, S], chunk [B, D], after [B, n, D] fresh chunks, or their noise.

        With `short`, of the critic of whole chunks, and the loss of distilling it into that of their beginnings.
        """
        with torch.no_grad():
            if self.bank is None:
                after = self._fresh(next_z, after)
            with self._autocast("all"):
                next_q = self.target(next_z, after)
            y = td_target(reward, discount, next_q, target=self.config.target, pick=self.config.pick)
        with self._autocast("all"):
            q = self.critic(z, self.acted(chunk)[:, None]).squeeze(-1)
            q_long = q if self.long is None else self.long(z, chunk[:, None]).squeeze(-1)
        loss = (q_long - y).square().mean(1).sum()
        return loss if self.long is None else loss + distillation(q, q_long, self.config.expectile)

    def flow_loss(self, z: Tensor, chunk: Tensor, weight: Tensor, drawn: Tensor) -> Tensor:
        """Weighted flow matching, averaged over the batch."""
        with self._autocast("all"):
            if isinstance(self.actor, FlowHead):
                error = self.actor.loss(z, chunk, torch.ones_like(chunk), drawn=drawn)
            else:
                error = self.actor.loss(z, chunk, drawn)
        return (weight * error).mean()

    def one_step_loss(self, z: Tensor, noise: Tensor) -> Tensor:
        """Distance of the one-step policy from the flow, and -Q: z [B, S], noise [B, 1, D]."""
        mine = self.one_step.velocity(noise, 0.0, self.one_step.cond(z)[:, None])
        with torch.no_grad(), self._autocast("sampling", "all"):
            flow = self.actor.sample(z, noise)
        q = self.critic(z, mine.clamp(-1, 1)).mean()
        return self.config.alpha * (mine - flow.float().clamp(-1, 1)).square().mean() - q

    # Updates

    def update_critic(self) -> Tensor:
        """One step of all heads and of their Polyak copy; the loss is left on the device."""
        loss, gradients = self._critic_gradients()
        self._step_critic(gradients)
        return loss

    def update_actor(self) -> Tensor:
        """One step of the policy; no gradient reaches the critic."""
        found = [part() for part in self._actor_parts()]
        self._step_actor([gradient for _, gradients in found for gradient in gradients])
        return sum((loss for loss, _ in found), torch.zeros((), device=found[0][0].device))

    def update(self) -> Tensor:
        """One step of each, both from the weights before it; the critic's loss. On a GPU they run side by side."""
        (loss, critic), *actor = self._side_by_side(self._critic_gradients, *self._actor_parts())
        gradients = [gradient for _, part in actor for gradient in part]
        self._side_by_side(lambda: self._step_critic(critic), lambda: self._step_actor(gradients))
        return loss

    def _critic_gradients(self) -> tuple[Tensor, Sequence[Tensor]]:
        d, n = self.data, self.config.samples
        pick = self._pick()
        end = d.end[pick]
        if self.bank is None:
            after = torch.randn(len(pick), n, self.dim, device=pick.device)
        elif n == self.bank.shape[1]:
            after = self.bank[end]
        else:
            drawn = torch.randint(self.bank.shape[1], (len(pick), n), device=pick.device)
            after = self.bank[end[:, None], drawn]
        batch = d.states[d.start[pick]], d.chunk[pick], d.reward[pick], d.discount[pick], d.states[end], after
        return self._gradients("critic", self._critics, *batch)

    def _actor_parts(self) -> list[Callable[[], tuple[Tensor, Sequence[Tensor]]]]:
        """What gives the loss and gradients of the flow, and of the one-step policy if there is one."""
        d = self.data

        def flow() -> tuple[Tensor, Sequence[Tensor]]:
            pick = self._pick()
            chunk = self.acted(d.chunk[pick])
            batch = d.states[d.start[pick]], chunk, self.weight[pick], self.actor.draw(len(pick), chunk)
            return self._gradients("flow", list(self.actor.parameters()), *batch)

        def one_step() -> tuple[Tensor, Sequence[Tensor]]:
            z = d.states[d.start[self._pick()]]
            noise = torch.randn(len(z), 1, self.dim, device=z.device)
            return self._gradients("one_step", list(self.one_step.parameters()), z, noise)

        return [flow] if self.one_step is None else [flow, one_step]

    def _gradients(self, name: str, parameters: Sequence[Tensor], *batch: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        loss = self._losses[name](*batch)
        return loss.detach(), torch.autograd.grad(loss, parameters)

    def _step_critic(self, gradients: Sequence[Tensor]) -> None:
        self._step(self.critic_optimizer, self._critics, gradients)
        with torch.no_grad():
            torch._foreach_lerp_(*self._pairs, self.config.tau)

    def _step_actor(self, gradients: Sequence[Tensor]) -> None:
        self._step(self.actor_optimizer, self._actors, gradients)

    def _side_by_side(self, *work: Callable[[], Any]) -> list[Any]:
        """Do all of `work`, on a GPU each on a stream of its own: alone, layers this small leave most of it idle.

        Every stream begins after what came before and is waited for, so what one of them frees no other still reads.
        """
        if not self._streams:
            return [do() for do in work]
        results, here = [], torch.cuda.current_stream()
        for do, stream in zip(work, self._streams, strict=False):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                results.append(do())
        for stream in self._streams[: len(work)]:
            here.wait_stream(stream)
        return results

    # What is done with the result

    def acted(self, chunk: Tensor) -> Tensor:
        """The part of chunks [B, D] that a policy makes, and the critic of its chunks scores."""
        return chunk[:, : self.dim]

    @torch.no_grad()
    def chunks(self, z: Tensor, n: int) -> Tensor:
        """n chunks of the policy for each state [B, S] -> [B, n, D]."""
        return self._fresh(z, torch.randn(len(z), n, self.dim, device=z.device))

    @torch.no_grad()
    def score(self, z: Tensor, chunks: Tensor) -> Tensor:
        """Q of chunks [B, n, D], aggregated over heads as in the targets (their minimum where each has its own)."""
        how = "mean" if self.config.target == "mean" else "min"
        return aggregate(self.critic(z, chunks), how)[0]

    @torch.no_grad()
    def act(self, z: Tensor, candidates: int) -> Tensor:
        """The best of `candidates` chunks by Q for states [B, S] -> [B, D]."""
        chunks = self.chunks(z, candidates)
        best = self.score(z, chunks).argmax(1)
        return chunks[torch.arange(len(z), device=z.device), best]

    @torch.no_grad()
    def make_bank(self, n: int) -> Tensor:
        """Chunks [R, n, D] at every state. While the policy stands still they may stand for fresh ones in targets."""
        rows = max(1, _SAMPLES[self.device.type] // n)
        return torch.cat([self.chunks(z, n) for z in self.data.states.split(rows)])

    def _fresh(self, z: Tensor, noise: Tensor) -> Tensor:
        with self._autocast("sampling", "all"):
            if self.one_step is not None:
                made = self.one_step.velocity(noise, 0.0, self.one_step.cond(z)[:, None])
            else:
                made = self.actor.sample(z, noise)
        return made.float().clamp(-1, 1)

    def _autocast(self, *where: str) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16 in where)

    def _pick(self) -> Tensor:
        return torch.randint(len(self.data), (self.config.batch,), device=self.data.states.device)

    def _step(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
    ) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, self.config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _below(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}


def _actor(config: FlatConfig, dim: int, states: int) -> FlowMLP | FlowHead:
    if config.actor == "blocks":
        return FlowHead(dim, states, config.width, 2, config.flow_steps)
    return FlowMLP(dim, states, config.width, config.layers, config.flow_steps)
