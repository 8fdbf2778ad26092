"""Every hyperparameter of the learners, with its default and its reason."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError

Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Hyper(BaseModel):
    """Hyperparameters, by the methods that read them; steps are optimiser steps, horizons are control steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    device: str = "cpu"  # where networks learn: cpu, cuda or cuda:N
    threads: int = Field(0, ge=0)  # torch threads; 0 = as torch finds them (cores, OMP_NUM_THREADS)
    # Of matrix products; auto = bfloat16 on a GPU and on a CPU with AMX (measured: 2.5 times as fast).
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Under torchrun: ddp keeps a policy whole on every process, fsdp splits it while it is fitted, auto if it is large.
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"

    # Data
    # A window starts every `stride` control steps. Unless given: about ten a second, in steps that divide what of a
    # chunk is executed, so that where one ends the next one begins.
    stride: int = Field(5, ge=1)
    max_length: float = Field(0, ge=0)  # control steps that normalise rewards; 0 = longest episode seen
    failure_cost: float = Field(0, ge=0)  # C_fail in control steps; 0 = mean successful episode length

    failed_takes: bool = False  # learn from takes that failed their quality check (gaps, rates, drops) as well

    # Batches of critics and state values: factors for how often a window is drawn; what a mapping leaves out is not.
    # Empty, or 0 = all alike. --set 'sample_outcome={success: 1, failure: 2}'
    sample_source: dict[Literal["policy", "human", "hold"], Factor] = Field(default_factory=dict)  # who drove
    sample_outcome: dict[Literal["success", "failure", "aborted", "none"], Factor] = Field(default_factory=dict)
    sample_task: dict[str, Factor] = Field(default_factory=dict)
    sample_half_life: float = Field(0, ge=0)  # episodes that came since an episode of half the factor
    human_share: float = Field(0, ge=0, le=1)  # of each batch; 0.5 = half by a person, as RLPD; 0 = as it comes

    # Behaviour cloning, images to chunks end to end
    bc_steps: int = Field(500, ge=1)
    bc_batch: int = Field(64, ge=1)
    bc_lr: float = Field(1e-3, gt=0)
    bc_head_steps: int = Field(1000, ge=1)  # of the head alone on frozen features, after the end-to-end steps
    head_batch: int = Field(256, ge=1)
    head_lr: float = Field(5e-4, gt=0)
    image_shift: int = Field(0, ge=0)  # pixels of random shift; cameras are fixed, and 2 pixels are 1 cm on the table
    brightness: float = Field(0.1, ge=0)  # relative random brightness and contrast
    feature_noise: float = Field(0.0, ge=0)  # on features while the head alone is fitted; for poses in place of images
    state_noise: float = Field(0.01, ge=0)  # rad or m, so that the policy looks instead of counting on its own pose
    keypoints: int = Field(32, ge=1)
    width_head: int = Field(384, ge=8)
    # Half of the chunks are learned with their first steps given, up to half the horizon, for `chunking: prefix` on a
    # robot with a delay (arXiv 2512.05964). A property of the policy: what improves it keeps it.
    prefix: bool = False

    # Chunk critic (aloe, aloe_select, td1, mc, iql, qc, hil_serl; ALOE, arXiv 2602.12691)
    # Per control step; the paper's 0.99 sees 2 s at 50 Hz, an episode is 8 s. Unless given: 0.998 every 20 ms.
    gamma: float = Field(0.998, gt=0, le=1)
    heads: int = Field(5, ge=1)  # K
    critic_width: int = Field(256, ge=8)
    critic_layers: int = Field(3, ge=2)
    shared_trunk: bool = False  # the paper shares a trunk; apart, the spread of the heads means more
    prior_scale: float = Field(0.0, ge=0)  # of randomised priors (arXiv 1806.03335); 0 = none
    scored: Literal["prefix", "chunk"] = "prefix"  # the h steps that run, or all H (open in the paper)
    # Q_pess over heads; lcb = mean - standard deviation, quantile = lower quartile
    pessimism: Literal["min", "mean", "lcb", "quantile"] = "min"
    critic_steps: int = Field(1200, ge=0)
    critic_batch: int = Field(256, ge=1)
    critic_lr: float = Field(3e-4, gt=0)  # the paper's 3e-5 is for a Transformer over a million steps
    tau: float = Field(0.01, gt=0, le=1)  # Polyak step of the target; the paper's 0.005 needs more steps
    target: Literal["min", "quantile", "mean", "own"] = "min"  # aggregate over target heads
    # Of a new critic. A state from which nothing comes is worth `never` = -1 a step for ever, which TD reaches by
    # gamma^h a backup, hundreds of them; success comes back along an episode in ten or twenty. So begin with never.
    initial_value: Literal["never", "middle"] = "never"
    bounded_target: bool = True  # no target beyond the returns there can be; else min over heads digs below them
    # What a policy's chunk is worth after a takeover: as in the paper, the state the person found; or that it would
    # never have succeeded, since the person judged so (RLIF, arXiv 2311.12996, has a reward for it).
    takeover: Literal["bootstrap", "never"] = "bootstrap"
    # a' within a person's segment: a fresh chunk of the policy, as in the paper; or what the person did next, so that a
    # correction of many chunks is credited as a whole: 0.2 s of it change little if the policy goes on after them.
    continuation: Literal["policy", "segment"] = "policy"
    target_samples: int = Field(1, ge=1)  # fresh chunks a' averaged in the target
    target_pick: Literal["mean", "max"] = "mean"  # max over target_samples is Q-chunking
    # Distilled short-chunk critic (aloe, aloe_select, aloe_takeover; DQC, arXiv 2512.10926): TD looks ahead by chunks
    # of `long_chunk` control steps, a multiple of `stride` above the contract's `execute`; 0 = by those that run.
    long_chunk: int = Field(0, ge=0)
    # Of the long values over how chunks with this beginning went on, which the short critic learns; 0.5 = their mean.
    distil_expectile: float = Field(0.8, gt=0, lt=1)
    bank: int = Field(16, ge=1)  # chunks of the current policy kept per observation, from which a' and a_n are drawn
    clip: float = Field(1.0, gt=0)  # gradient norm

    # Policy improvement: the same optimisation for every method that fits a policy to weighted data
    actor_steps: int = Field(400, ge=1)  # end to end, batches of bc_batch
    actor_head_steps: int = Field(1500, ge=1)
    actor_lr: float = Field(7e-4, gt=0)
    refit_from: Literal["current", "warm_start"] = "current"  # weights to start from; recap: always the warm start
    # Critic steps on the improved policy, since it will be asked about that one's chunks.
    refresh_steps: int = Field(600, ge=0)

    # The same of a policy behind a server (--policy-server); each step is one of a large model, so they are fewer
    server_steps: int = Field(1000, ge=1)
    server_batch: int = Field(32, ge=1)  # examples of a step, and observations of a request
    server_lr: float = Field(1e-4, gt=0)  # LeRobot's for SmolVLA; its ACT has 1e-5, adapters bear 5e-4

    # Weights of aloe, aloe_select, td1, mc, awr
    value_samples: int = Field(8, ge=1)  # N chunks for V(s), at most `bank`; the paper's 4 leaves more noise
    # A = Q_pess - V of it, as in the paper; or the mean over heads of Q_i - V_i, where a head's error about the state
    # cancels out.
    advantage_of: Literal["pessimistic", "heads"] = "pessimistic"
    # Control steps after which A asks V what came of them, as long as one driver went on; 0 = A of the chunk, by Q.
    advantage_steps: int = Field(0, ge=0)
    # What the policy imitates, by these weights: every driven window, as in the paper; or what filtered_bc imitates,
    # successful episodes and corrections. A says which chunk is best in a state, and not whether the state is worth it.
    # unaided: of these, a policy's part only where no person took over after it, for what led there is not worth it.
    imitated: Literal["all", "filtered", "unaided"] = "all"
    epsilon: float = Field(5.0, gt=0)  # clip of A / beta
    beta: float = Field(0, ge=0)  # temperature on normalised advantages; 0 = set by effective_size
    advantage_scale: Literal["rank", "std"] = "rank"  # normal scores of the ranks, or A / std (heavy-tailed)
    effective_size: float = Field(0.2, gt=0, le=1)  # target (sum w)^2 / (n sum w^2)

    # State values on Monte Carlo returns (awr, recap); of iql, on a critic that goes on learning
    value_width: int = Field(256, ge=8)
    value_steps: int = Field(600, ge=1)  # half the critic's: more and it remembers the episodes it is asked about
    value_lr: float = Field(3e-4, gt=0)
    value_decay: float = Field(0.01, ge=0)  # weight decay, for the same reason
    awr_bins: int = Field(256, ge=2)

    # RECAP (arXiv 2511.14759)
    recap_bins: int = Field(201, ge=2)
    # N of the advantage, control steps; the paper's 50 are 1 s. Unless given: 1 s.
    recap_lookahead: int = Field(50, ge=1)
    recap_positive: float = Field(0.4, gt=0, lt=1)  # share of rollout windows that count as improvements
    recap_dropout: float = Field(0.3, ge=0, le=1)  # share of training samples whose indicator is left unsaid
    recap_guidance: float = Field(1.5, ge=0)  # g; the paper uses 1 to 2.5

    # IQL (arXiv 2110.06169)
    iql_expectile: float = Field(0.9, gt=0.5, lt=1)
    iql_beta: float = Field(3.0, gt=0)  # on A / std(A), so that it means the same for every scale of rewards
    iql_cap: float = Field(100.0, gt=1)

    # Q-chunking (arXiv 2507.07969)
    qc_candidates: int = Field(32, ge=1)
    qc_heads: int = Field(2, ge=1)

    # HIL-SERL (arXiv 2410.21845): SAC on frozen features, half of each batch from demonstrations and interventions
    serl_steps: int = Field(2000, ge=1)  # critic and actor together
    # Of cloning the actor: more than a flow needs (laundry_folding, width 128: 0.03 after 2500, 0.40 after 10000).
    serl_clone_steps: int = Field(10_000, ge=1)
    serl_clone_lr: float = Field(1e-3, gt=0)
    serl_warmup: int = Field(500, ge=0)  # steps of a new critic alone
    # Pull of the person's chunks (a mean over joints and knots). The paper learns online, without; from rounds of data,
    # SAC leaves the data where Q errs (laundry_folding, one round: clone 0.40; 0.00 with 0.1 and 1; 0.27 with 30).
    serl_imitation: float = Field(30.0, ge=0)
    serl_heads: int = Field(2, ge=1)
    serl_lr: float = Field(3e-4, gt=0)
    serl_temperature: float = Field(0.01, gt=0)  # at first; tuned towards an entropy of -1/2 per dimension

    # What runs on the robot
    candidates: int = Field(8, ge=1)  # chunks sampled; the one with the highest Q_pess is sent

    def on(self, contract: RobotContract) -> Hyper:
        """Return what this is on a robot: what counts control steps, and is not given, has the same meaning in time.

        AloeError if windows cannot be cut as asked for.
        """
        execute, rate = contract.chunk.execute, contract.control.rate_hz
        fitting = {
            "stride": max(n for n in range(1, execute + 1) if execute % n == 0 and (n == 1 or n <= rate / 10)),
            "gamma": Hyper.model_fields["gamma"].default ** (50 / rate),
            "recap_lookahead": max(1, round(rate)),
        }
        own = {name: value for name, value in fitting.items() if name not in self.model_fields_set}
        hyper = self.model_copy(update=own)
        if hyper.stride > execute:
            raise AloeError(
                f"stride = {hyper.stride}: expected at most the {execute} steps that {contract.name} executes of a "
                "chunk; what lies between would be in no window."
            )
        if hyper.continuation == "segment" and execute % hyper.stride:
            raise AloeError(
                f"stride = {hyper.stride}: continuation = 'segment' needs one that divides the {execute} steps that "
                f"{contract.name} executes of a chunk, such as {fitting['stride']}."
            )
        return hyper


def load_hyper(path: Path) -> dict[str, Any]:
    """Read overrides from a YAML file of `name: value`; AloeError if it is something else."""
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AloeError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise AloeError(f"{path}: expected lines of `name: value`, got {type(data).__name__}.")
    make_hyper(data, str(path))
    return data


def make_hyper(overrides: dict[str, Any], where: str = "hyperparameters") -> Hyper:
    """Return defaults with `overrides`; AloeError names the key, its value and what was expected."""
    unknown = sorted(set(overrides) - set(Hyper.model_fields))
    if unknown:
        near = difflib.get_close_matches(unknown[0], Hyper.model_fields, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise AloeError(f"{where}: no hyperparameter {unknown[0]!r}{hint}")
    try:
        return Hyper.model_validate(overrides)
    except ValidationError as error:
        first = error.errors()[0]
        raise AloeError(
            f"{where}: {first['loc'][0]} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."
        ) from error
