"""`./aloe bench updates`: how fast the chunk critic and the policy learn, on features of a small task."""

from __future__ import annotations

import time
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor

from aloe_cli.bench.hardware import hardware
from aloe_cli.command import VerbApp
from aloe_cli.progress import progress
from aloe_core.errors import AloeError
from aloe_critic.advantage import advantage_weights
from aloe_critic.hyper import Hyper, make_hyper
from aloe_critic.precision import autocast
from aloe_critic.td import CriticFit, td_target
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.flow import FlowHead

OBS, ACTION, H = 46, 5, 5  # a cube of OGBench: state, one arm, chunks of five steps
ROWS = 10_000  # transitions in memory
WARM_UP = 20

app = VerbApp(help="Measure critic and actor updates a second.")


@app.command()
def updates(
    steps: Annotated[int, typer.Option(help="Critic updates, and as many actor updates.", min=1)] = 4000,
    heads: Annotated[int, typer.Option(help="Heads of the critic, each 3 layers of 256.", min=1)] = 5,
    flow_steps: Annotated[int, typer.Option(help="Euler steps of the fresh chunk in each target.", min=1)] = 5,
    batch: Annotated[int, typer.Option(help="Transitions an update.", min=1)] = 256,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.", min=0)] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16.")] = "auto",
) -> dict[str, Any]:
    """Time the updates of ALOE: a fresh chunk in every TD target, all heads in one product, weighted flow matching."""
    hyper = make_hyper({"critic_batch": batch, "precision": precision, "tau": 0.005})
    before = torch.get_num_threads()
    torch.set_num_threads(threads or torch.get_num_threads())
    try:
        result = measure(Learner(hyper, heads, flow_steps), steps)
    finally:
        torch.set_num_threads(before)
    critic, actor = result["critic_updates_per_s"], result["actor_updates_per_s"]
    Console().print(
        f"{steps} updates each in {result['wall_s']:.1f} s: {critic:.0f} critic, {actor:.0f} actor a second."
    )
    return result | {
        "steps": steps,
        "heads": heads,
        "batch": batch,
        "flow_steps": flow_steps,
        "threads": threads or before,
        "bfloat16": autocast(hyper)._enabled,
        "hardware": hardware(),
    }


class Learner:
    """The critic's and the actor's update on random transitions, as the trainer does them."""

    def __init__(self, hyper: Hyper, heads: int, flow_steps: int) -> None:
        torch.manual_seed(0)
        self.hyper = hyper
        self.z, self.next_z = torch.randn(ROWS, OBS), torch.randn(ROWS, OBS)
        self.chunk, self.reward = torch.randn(ROWS, H, ACTION), -torch.rand(ROWS)
        self.discount, self.advantage = torch.full((ROWS,), 0.95), torch.randn(ROWS)
        self.critic = ChunkCritic(
            CriticConfig(feature_dim=OBS, action_dim=ACTION, steps=H, knot_stride=1, heads=heads, width=256, layers=3)
        )
        self.actor = FlowHead(H * ACTION, OBS, 256, 2, flow_steps)
        self.fitting = CriticFit(self.critic, hyper)
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=hyper.critic_lr, fused=True)
        self.actor_optimizer = torch.optim.AdamW(self.actor.parameters(), lr=hyper.head_lr, fused=True)

    def update_critic(self) -> Tensor:
        pick = torch.randint(ROWS, (self.hyper.critic_batch,))
        with torch.no_grad(), autocast(self.hyper):
            z = self.next_z[pick]
            fresh = self.actor.sample(z, torch.randn(len(pick), 1, self.actor.dim)).float()
            next_q = self.fitting.target(z, self._tokens(fresh.view(-1, 1, H, ACTION)))
            y = td_target(self.reward[pick], self.discount[pick], next_q)
        loss = self.fitting.loss(self.z[pick], self._tokens(self.chunk[pick][:, None]), y)
        self._step(self.critic, self.critic_optimizer, loss)
        self.fitting.follow()
        return loss.detach()

    def update_actor(self) -> Tensor:
        pick = torch.randint(ROWS, (self.hyper.critic_batch,))
        weight = advantage_weights(self.advantage[pick], 1.0, self.hyper.epsilon)
        data = self.chunk[pick].flatten(1)
        with autocast(self.hyper):
            error = self.actor.loss(self.z[pick], data, torch.ones_like(data))
        loss = (weight * error).mean()
        self._step(self.actor, self.actor_optimizer, loss)
        return loss.detach()

    def _tokens(self, chunks: Tensor) -> Tensor:
        b = len(chunks)
        return self.critic.encode(chunks, torch.zeros(b, ACTION), torch.full((b,), H))

    def _step(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), self.hyper.clip)
        optimizer.step()


def measure(learner: Learner, steps: int) -> dict[str, float]:
    """Return the time of `steps` updates of each kind, s, and their rates."""
    took = {}
    for name, update in (("critic", learner.update_critic), ("actor", learner.update_actor)):
        for _ in range(min(WARM_UP, steps)):
            last = update()
        start = time.perf_counter()
        with progress(name, steps) as bar:
            for step in range(steps):
                last = update()
                if step % 100 == 99:
                    bar.advance(100)
        took[name] = time.perf_counter() - start
        if not torch.isfinite(last):
            raise AloeError(f"The {name} diverged: its last loss is {last.item()}.")
    return {"wall_s": sum(took.values())} | {f"{name}_updates_per_s": steps / s for name, s in took.items()}
