"""HIL-SERL: soft actor-critic on chunks from prior data and corrections (arXiv 2410.21845, RLPD arXiv 2302.02948)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from aloe_core.episode.data import Source
from aloe_core.errors import AloeError
from aloe_critic.features import compute_features
from aloe_critic.imitate import Examples, fit_head
from aloe_critic.job import Job, Learned
from aloe_critic.learners.select import demonstrations, human
from aloe_critic.loop import Phase
from aloe_critic.replay.drawing import drawing
from aloe_critic.returns import least_return
from aloe_critic.scale import kept_critic
from aloe_critic.td import ChunkTable, CriticFit, data_tokens, new_critic, td_target
from aloe_policy.critic import ChunkCritic
from aloe_policy.gaussian import GaussianHead
from aloe_policy.model import FlowPolicy


def learn(job: Job) -> Learned:
    """SAC over the knots of a chunk on frozen features; half of each batch is a person's, half a policy's.

    The actor is cloned from the demonstrations when it is made, for the other methods start from a clone as well.
    A new critic is fitted to the clone's chunks before the actor follows it. From then on the person's chunks pull at
    the actor with `serl_imitation`; knots beyond the executed prefix, which no critic sees, go on imitating the data.
    """
    hyper = job.hyper
    start = job.policy
    if start is None:
        raise AloeError("Method hil_serl uses the features of a policy: train one with --method bc first.")
    fresh = start.config.head != "gaussian"
    policy = gaussian(start).to(job.device) if fresh else start
    critic, scale = kept_critic(job, policy, heads=hyper.serl_heads)
    windows = job.replay.windows(gamma=hyper.gamma, max_length=scale[0], failure_cost=scale[1])
    prior = human(windows).nonzero().squeeze(1)
    rollout = (windows.source == int(Source.POLICY)).nonzero().squeeze(1)
    if len(prior) == 0 or len(rollout) == 0:
        missing, what = ("a person", "demonstrations") if len(prior) == 0 else ("a policy", "rollouts")
        raise AloeError(f"Method hil_serl draws half of each batch from what {missing} did: record {what} first.")
    table = ChunkTable(windows, compute_features(policy, job.replay), job.replay.state(), *scale)
    if fresh:
        shown = demonstrations(job.replay, windows).nonzero().squeeze(1)
        clones = Examples(windows, shown if len(shown) else prior)
        fit_head(
            policy, job, clones, table.z, steps=hyper.serl_clone_steps, lr=hyper.serl_clone_lr, phase="actor, cloning"
        )
    known = critic is not None and not fresh
    critic = critic or new_critic(policy, hyper, table, heads=hyper.serl_heads)
    learning = SoftActorCritic(job, policy, critic, table, torch.cat([prior, rollout]))
    if not known:
        learning.warm_up()
    metrics = learning.run()
    return Learned(policy, critic, 1, scale, {"windows": len(windows)} | metrics)


def gaussian(policy: FlowPolicy) -> FlowPolicy:
    """Return a policy with the same encoder and an untrained Gaussian head."""
    config = policy.config.model_copy(update={"head": "gaussian", "indicator": False, "guidance": 1.0, "prefix": 0})
    actor = FlowPolicy(config)
    kept = {name: tensor for name, tensor in policy.state_dict().items() if not name.startswith("head.")}
    actor.load_state_dict(kept, strict=False)
    return actor.eval()


class SoftActorCritic:
    """Critic, actor and temperature, which learn together."""

    def __init__(self, job: Job, policy: FlowPolicy, critic: ChunkCritic, table: ChunkTable, rows: Tensor) -> None:
        """`rows`: windows int64 to learn from; of each batch a person drove half."""
        assert isinstance(policy.head, GaussianHead)
        self.job, self.policy, self.critic, self.table = job, policy, critic, table
        self.head = policy.head
        self.draw = drawing(job.replay, table.windows, job.hyper, rows, human_share=job.hyper.human_share or 0.5)
        w, self.on = table.windows, job.device
        self.obs, self.after, self.reward, self.discount = (
            t.to(self.on) for t in (w.obs, w.next_obs, w.reward, w.discount)
        )
        self.ran, self.person = w.plan_length.to(self.on), (w.source == int(Source.HUMAN)).float().to(self.on)
        self.state = table.state.to(self.on)
        self.executed = data_tokens(policy, critic, table)
        self.fitting = CriticFit(critic, job.hyper)
        # Knots that move the scored steps; interpolation reaches one knot beyond them.
        used = policy.interpolation[: critic.config.steps].sum(0) > 0
        self.scored = used[:, None].expand(-1, policy.config.action_dim).flatten().float()
        self.entropy = -0.5 * float(self.scored.sum())  # wanted
        self.temperature = nn.ParameterList([torch.tensor(job.hyper.serl_temperature).log().to(self.on)])
        self.batch: dict[str, Tensor] = {}
        least = least_return(job.hyper.gamma, table.max_length, table.failure_cost)
        self.least = least if job.hyper.bounded_target else -math.inf

    def warm_up(self) -> None:
        """Fit the critic alone: an actor that follows an untrained one is lost within a few steps."""
        hyper = self.job.hyper
        if hyper.serl_warmup:
            trained = [p for p in self.critic.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=hyper.serl_lr, weight_decay=1e-4)
            modules = {"critic": self.critic, "target": self.fitting.target}

            def loss(_step: int) -> Tensor:
                return self.critic_loss(self.draw(hyper.critic_batch).to(self.on))

            self.job.loop.run(
                Phase(
                    "critic, warm-up",
                    modules,
                    optimizer,
                    hyper.serl_warmup,
                    loss,
                    hyper.clip,
                    self.batch,
                    after=self.fitting.follow,
                )
            )

    def run(self) -> dict[str, object]:
        """Take `serl_steps`; return the loss and the temperature they ended with."""
        hyper = self.job.hyper
        trained = [p for p in (*self.critic.parameters(), *self.head.parameters()) if p.requires_grad]
        groups = [{"params": trained}, {"params": list(self.temperature.parameters()), "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=hyper.serl_lr, weight_decay=1e-4)
        modules = {
            "critic": self.critic,
            "target": self.fitting.target,
            "actor": self.head,
            "temperature": self.temperature,
        }
        phase = Phase(
            "actor and critic",
            modules,
            optimizer,
            hyper.serl_steps,
            self.loss,
            hyper.clip,
            self.batch,
            after=self.fitting.follow,
        )
        self.policy.train()
        last = self.job.loop.run(phase)
        self.policy.eval()
        return {"loss": last, "temperature": self.temperature[0].detach().exp().item()}

    def loss(self, _step: int) -> Tensor:
        """Critic, actor and temperature losses, none of which reaches the others' weights."""
        drawn = self.draw(self.job.hyper.critic_batch)
        chunk = self.table.windows.chunk[drawn].to(self.on)  # stays on the CPU: overlapping windows are large
        pick = drawn.to(self.on)
        here = self.obs[pick]
        log_density, tokens = self.act(here)
        frozen = {name: p.detach() for name, p in self.critic.named_parameters()}
        # The mean of the heads, as in RLPD's and SERL's code; the least of them is for targets.
        q = functional_call(self.critic, frozen, (self.table.z[here], tokens)).mean(0).squeeze(-1)
        alpha = self.temperature[0].exp()
        actor_loss = (alpha.detach() * log_density - q).mean()
        temperature_loss = -(alpha * (log_density.detach() + self.entropy)).mean()
        return self.critic_loss(pick) + actor_loss + temperature_loss + self.imitation(pick, chunk)

    def critic_loss(self, pick: Tensor) -> Tensor:
        """Regression of windows `pick` on r + discount Q(s', a'), a' a fresh chunk of the actor."""
        z, after = self.table.z, self.after[pick]
        with torch.no_grad():
            _, tokens = self.act(after)
            y = td_target(self.reward[pick], self.discount[pick], self.fitting.target(z[after], tokens))
        y = y.clamp(self.least, 0.0)
        self.batch.update(window=pick, z=z[self.obs[pick]], chunk=self.executed[pick], y=y)
        return self.fitting.loss(self.batch["z"], self.batch["chunk"], self.batch["y"])

    def act(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Fresh chunks at observation rows: log density of their scored knots [B], critic tokens [B, 1, D]."""
        state, z = self.state[rows], self.table.z[rows]
        x, log_density = self.head.rsample(z, self.head.draw(len(rows), self.table.state).to(self.on))
        chunks = self.policy.decode_actions(x.view(len(rows), 1, self.policy.knots, -1), state)
        length = torch.full((len(rows),), self.critic.config.steps, device=self.on)
        tokens = self.critic.encode(chunks, state * self.policy.relative, length)
        return (log_density * self.scored).sum(-1), tokens

    def imitation(self, pick: Tensor, chunk: Tensor) -> Tensor:
        """Error of cloning `chunk` [B, H, A] of windows `pick`: of knots that the critic does not see, and, times
        `serl_imitation`, of those of a person's chunks that it sees."""
        obs = self.obs[pick]
        data = self.policy.encode_actions(chunk, self.state[obs]).flatten(1)
        ran = (self.policy.rows[None] < self.ran[pick][:, None]).repeat_interleave(chunk.shape[-1], 1)
        z, person = self.table.z[obs], self.person[pick][:, None]
        unseen = self.head.loss(z, data, ran * (1 - self.scored)).mean()
        seen = self.head.loss(z, data, ran * self.scored * person).mean()
        return unseen + self.job.hyper.serl_imitation * seen
