"""The policy that an iteration evaluates and improves, wherever it is: here, or behind a policy server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from aloe_critic.features import compute_features
from aloe_critic.imitate import Examples, refit
from aloe_critic.judged import Judged
from aloe_critic.td import ChunkTable, sample_bank
from aloe_policy.critic import ChunkCritic

if TYPE_CHECKING:
    from aloe_critic.job import Job


class Actor(Protocol):
    """What an iteration asks of the policy; between `improve` and the next one it stands still."""

    policy: Judged

    def features(self) -> Tensor:
        """What the critic sees of every observation row, float32 [rows, Z]."""
        ...

    def bank(self, critic: ChunkCritic, table: ChunkTable, n: int) -> Tensor:
        """n chunks at every observation row, as tokens of `critic` [rows, n, D]."""
        ...

    def improve(self, examples: Examples) -> tuple[Tensor, float]:
        """Fit the policy to weighted examples; return the features it then has, [rows, Z], and the loss."""
        ...


class LocalActor:
    """The job's own policy."""

    def __init__(self, job: Job, method: str) -> None:
        """AloeError if the job has no policy that `method` can improve."""
        self.policy = job.needs_policy(method)
        self._job, self._method = job, method

    def features(self) -> Tensor:
        self._job.progress("features", 0, 1, 0.0)
        return compute_features(self.policy, self._job.replay)

    def bank(self, critic: ChunkCritic, table: ChunkTable, n: int) -> Tensor:
        return sample_bank(self.policy, critic, table, self._job.hyper, n)

    def improve(self, examples: Examples) -> tuple[Tensor, float]:
        self.policy = self._job.policy_to_refit(self._method)
        return refit(self.policy, self._job, examples)


def actor(job: Job, method: str) -> Actor:
    """Return the policy behind the job's server, if it has one, else its own."""
    return job.server or LocalActor(job, method)
