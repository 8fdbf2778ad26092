"""One run of the OGBench comparison: a policy and a critic fitted to play data, then measured on one task."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from aloe_cli.bench import ogbench_data
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.ogbench_phases import Phases, Tell
from aloe_cli.bench.ogbench_separation import separation
from aloe_core.statistics import wilson
from aloe_critic.advantage import advantage_weights, effective_size, fit_beta, scale_advantages
from aloe_critic.flat.config import FlatConfig, qc
from aloe_critic.flat.data import Episodes, Transitions, chunk_transitions
from aloe_critic.flat.learner import FlatLearner
from aloe_critic.hyper import Hyper

GAMMA = 0.99
PAPER = {"width": 512, "layers": 4, "flow_steps": 10}  # networks of the Q-chunking paper
_BANK, _PAPERS_BANK = 8, 32  # chunks of the policy at every state, drawn once while it stands still
_VALUE_SAMPLES = 4  # of them for V(s)
_LIMITS = {"single": 200, "double": 500, "triple": 1000}  # steps of an episode, as in OGBench


@dataclass(frozen=True)
class Method:
    """How a policy is fitted and how it acts."""

    horizon: int  # steps of reward before the bootstrap
    acts: int  # actions a chunk of the policy holds; fewer than `horizon`: n-step returns, unless it is distilled
    candidates: int  # chunks sampled at run time; the best by Q is executed
    critic: FlatConfig | None
    weighted: bool = False  # the policy is improved with the critic's weights, and the critic refreshed
    distilled: bool = False  # a critic of `horizon` actions is distilled into one of `acts`


# In targets the best of 8 chunks, with the paper's networks of its 32, which are four times the work.
METHODS = {
    "bc": Method(5, 5, 1, None),
    "qc": Method(5, 5, 32, qc(samples=_BANK)),
    "aloe": Method(5, 5, 8, FlatConfig(), weighted=True),
    "nstep": Method(5, 1, 32, qc(samples=_BANK)),
    "dqc": Method(25, 5, 32, qc(samples=_BANK), distilled=True),
    "td1": Method(1, 1, 32, qc(samples=_BANK)),
}


@dataclass(frozen=True)
class Budget:
    """What every run gets."""

    plays: int  # play episodes of 1,001 steps
    updates: int  # of policy and critic each
    episodes: int  # measured
    networks: Literal["small", "paper"] = "small"


@dataclass(frozen=True)
class Row:
    """One run of the comparison."""

    cubes: str  # single, double, triple
    task: int  # 1 to 5, OGBench's
    method: str
    seed: int

    @property
    def name(self) -> str:
        return f"cube-{self.cubes}-task{self.task}"

    @property
    def key(self) -> str:
        return f"{self.name}-{self.method}-{self.seed}"


def run(
    row: Row, budget: Budget, work: Path, tell: Tell, *, device: str = "cpu", fit_only: bool = False
) -> dict[str, Any] | None:
    """Return the result of `row`, from `work` if it is there. A cloned policy is shared by tasks and methods.

    With `fit_only` the fitted networks are left in `work` for a later run, elsewhere perhaps, and None is returned.
    """
    path = work / "rows" / f"{row.key}.json"
    if path.exists():
        return json.loads(path.read_text())
    method = METHODS[row.method]
    wanted = budget.plays + ogbench_data.SHARD  # the last are for `separation` alone
    plays = ogbench_data.play(row.cubes, wanted, work / "play", lambda n: tell("play data", n, wanted))
    learned, held = ogbench_data.split(plays, budget.plays)
    goals = _goals(row, work / "play" / f"{row.name}.npy")
    torch.manual_seed(row.seed)
    learner = _learner(method, budget, _transitions(learned, goals, method).to(device))
    fitted, unfinished = (work / where / f"{row.key}.safetensors" for where in ("fitted", "unfinished"))
    if not fitted.exists():
        start = time.perf_counter()
        facts = _fit(learner, row, method, budget, work, unfinished, tell)
        if method.critic is not None:
            done = ogbench_data.rewards(held.objects, goals)[1]
            facts["separation"] = separation(learner, _transitions(held, goals, method), done)
        facts |= {"train_s": time.perf_counter() - start, "fitted_on": _name(learner.device)}
        _write(fitted.with_suffix(".json"), json.dumps(facts))
        _save(learner.networks(), fitted)
    unfinished.unlink(missing_ok=True)  # of a run killed just before this, too
    if fit_only:
        return None
    learner.load_networks(load_file(fitted))
    start = time.perf_counter()
    successes = _measure(_environment(row), learner, method, row, budget, tell)
    low, high = wilson(successes, budget.episodes)
    result = {"task": row.name, "method": row.method, "seed": row.seed, "success": successes / budget.episodes}
    result |= {"low": low, "high": high, "episodes": budget.episodes, "transitions": len(learner.data)}
    result |= {"updates": budget.updates, "measure_s": time.perf_counter() - start}
    result |= json.loads(fitted.with_suffix(".json").read_text())
    _write(path, json.dumps(result))
    return result


def _environment(row: Row) -> Any:
    return ogbench_data.make(f"cube-{row.cubes}-singletask-task{row.task}-v0")


def _goals(row: Row, path: Path) -> np.ndarray:
    """Where the cubes shall be, [n, 3] in m; how OGBench itself relabels its data. Kept in `path`."""
    if not path.exists():
        env = _environment(row)
        env.reset(seed=0)
        temporary = path.with_name(f".{path.name}")
        np.save(temporary, env.unwrapped._data.mocap_pos)
        os.replace(temporary, path)
    return np.load(path)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else hardware()


def _transitions(plays: Episodes, goals: np.ndarray, method: Method) -> Transitions:
    reward, done = ogbench_data.rewards(plays.objects, goals)
    # Divided so that values lie in [-cubes, 0] whatever the horizon.
    scaled = reward * (1 - GAMMA)
    kept = method.horizon if method.distilled else min(method.acts, method.horizon)
    return chunk_transitions(plays, scaled, done, horizon=method.horizon, gamma=GAMMA, policy_horizon=kept)


def _learner(method: Method, budget: Budget, data: Transitions) -> FlatLearner:
    changes: dict[str, object] = {}
    if method.distilled:
        changes["short"] = data.chunk.shape[1] * method.acts // method.horizon
    if budget.networks == "paper":
        changes |= PAPER
    config = method.critic or FlatConfig()
    if budget.networks == "paper" and config.samples > 1:
        changes["samples"] = _PAPERS_BANK
    on_gpu = data.states.is_cuda
    if on_gpu:
        torch.set_float32_matmul_precision("high")
        torch.compiler.reset()  # what was compiled for the run before holds its tensors
    return FlatLearner(data, config.model_copy(update=changes), compiled=on_gpu)


def _fit(
    learner: FlatLearner, row: Row, method: Method, budget: Budget, work: Path, unfinished: Path, tell: Tell
) -> dict[str, Any]:
    cloning = _clone(learner, work / "cloned" / f"{row.cubes}-{method.acts}-{row.seed}.safetensors", budget, tell)
    torch.manual_seed(row.seed)  # the same draws whether the policy was cloned in this run or in another before it
    phases = Phases(learner, unfinished, tell)
    facts: dict[str, Any] = {"done_share": float((learner.data.discount == 0).float().mean())}

    def draw() -> None:
        learner.bank = learner.make_bank(max(_BANK, learner.config.samples))

    if method.critic is not None:
        phases.run("critic", draw, learner.update_critic, budget.updates)
    if method.weighted:
        phases.run("policy", lambda: _weigh(learner), learner.update_actor, budget.updates // 2)
        phases.run("critic of the improved policy", draw, learner.update_critic, budget.updates // 2)
        facts["effective_size"] = effective_size(learner.weight.cpu())
    facts["losses"] = cloning | phases.losses
    return facts


def _clone(learner: FlatLearner, path: Path, budget: Budget, tell: Tell) -> dict[str, Any]:
    """Give the learner the cloned policy of `path`, fitted if it is not there; return the losses of fitting it."""
    losses, unfinished = path.with_suffix(".json"), path.with_name(f"unfinished-{path.name}")
    if not path.exists():
        phases = Phases(learner, unfinished, tell)
        phases.run("cloning", lambda: None, learner.update_actor, budget.updates)
        _write(losses, json.dumps(phases.losses))
        _save(learner.actor.state_dict(), path)
    unfinished.unlink(missing_ok=True)
    learner.actor.load_state_dict(load_file(path))
    return json.loads(losses.read_text())


def _weigh(learner: FlatLearner) -> None:
    scaled = scale_advantages(_advantages(learner).cpu(), "rank")
    weight = advantage_weights(scaled, fit_beta(scaled, Hyper()), Hyper().epsilon)
    learner.weight = (weight / weight.mean()).to(learner.device)


@torch.no_grad()
def _advantages(learner: FlatLearner) -> Tensor:
    """Q(s, a) - mean_n Q(s, a_n) of every transition, with chunks of the bank."""
    d, bank, parts = learner.data, learner.bank, []
    for pick in torch.arange(len(d)).split(2048):
        rows = d.start[pick]
        chunks = torch.cat([learner.acted(d.chunk[pick])[:, None], bank[rows, :_VALUE_SAMPLES]], 1)
        q = learner.score(d.states[rows], chunks)
        parts.append(q[:, 0] - q[:, 1:].mean(1))
    return torch.cat(parts)


def _measure(env: Any, learner: FlatLearner, method: Method, row: Row, budget: Budget, tell: Tell) -> int:
    """Return how many of the episodes reached the goal; the same start states for every method and seed."""
    successes, width = 0, learner.data.states.shape[1]
    actions = learner.dim // method.acts
    torch.manual_seed(10_000 + row.seed)
    for episode in range(budget.episodes):
        state, _ = env.reset(seed=episode)
        reached, steps = False, 0
        while not reached and steps < _LIMITS[row.cubes]:
            z = torch.as_tensor(state, dtype=torch.float32, device=learner.device).view(1, width)
            chunk = learner.act(z, method.candidates) if method.critic else learner.chunks(z, 1)[0]
            for action in chunk.view(-1, actions).cpu().numpy():
                state, _, terminated, truncated, info = env.step(action)
                steps += 1
                reached = bool(info["success"])
                if terminated or truncated or reached:
                    break
        successes += reached
        tell(f"measured, {successes} reached the goal", episode + 1, budget.episodes)
    return successes


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    save_file(tensors, temporary)
    os.replace(temporary, path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text + "\n")
    os.replace(temporary, path)
