"""Which windows a batch is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.replay.view import Replay
from aloe_critic.replay.windows import Windows


def window_weights(
    replay: Replay,
    windows: Windows,
    *,
    source: Mapping[Source, float] | None = None,
    outcome: Mapping[Outcome, float] | None = None,
    task: Mapping[str, float] | None = None,
    half_life: float = 0.0,
) -> Tensor:
    """Return how often each window is drawn relative to the others, float64 [N]: the product of

    * `source`: a factor for who drove; * `outcome`, `task`: factors for the episode; each 1 where None, and 0 for a
      value that its mapping does not name;
    * `half_life`: 0.5 ** (episodes added since / half_life), 1 where it is 0.
    """
    factor = torch.ones(len(replay.episodes), dtype=torch.float64)
    if outcome is not None:
        for ended in Outcome:
            factor[replay.outcome(ended)] *= outcome.get(ended, 0.0)
    if task is not None:
        names, number = replay.tasks()
        factor *= torch.tensor([task.get(name, 0.0) for name in names], dtype=torch.float64)[number]
    if half_life:
        factor *= 0.5 ** (torch.arange(len(factor), dtype=torch.float64).flip(0) / half_life)
    weight = factor[windows.episode]
    if source is not None:
        by_value = torch.zeros(256, dtype=torch.float64)
        for kind, value in source.items():
            by_value[int(kind)] = value
        weight = weight * by_value[windows.source.long()]
    return weight


def human_or_not(windows: Windows) -> Tensor:
    """Return the groups of RLPD (arXiv 2302.02948) and HIL-SERL (arXiv 2410.21845), int64 [N]: 1 where a person drove,
    in demonstrations and interventions, 0 in rollouts."""
    return (windows.source == int(Source.HUMAN)).long()


class Sampler:
    """Draws window indices with replacement, in proportion to weights.

    With `groups` every batch holds `shares[g]` of group g, whatever the sizes of the groups, and weights count within a
    group. Fractions are drawn, so that shares hold on average too; the share of an empty group goes to the others.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        seed: int | None = 0,
        groups: Tensor | None = None,
        shares: Sequence[float] = (0.5, 0.5),
    ) -> None:
        """`weight` [N] >= 0; `groups` int64 [N], values below len(shares); `seed` None = draw from torch's generator.

        AloeError if no window can be drawn.
        """
        weight = weight.double()
        if not bool(torch.isfinite(weight).all()) or bool((weight < 0).any()):
            raise AloeError("Sampler: weights must be finite and not negative.")
        if groups is None:
            groups, shares = torch.zeros(len(weight), dtype=torch.long), (1.0,)
        self._members = [((groups == g) & (weight > 0)).nonzero().squeeze(1) for g in range(len(shares))]
        # Cumulative weights rather than multinomial: that one takes no more than 2^24 categories.
        self._sums = [weight[members].cumsum(0) for members in self._members]
        share = torch.tensor(
            [s if len(m) else 0.0 for s, m in zip(shares, self._members, strict=True)], dtype=torch.float64
        )
        if not float(share.sum()) > 0:
            raise AloeError(f"Sampler: none of {len(weight)} windows has a weight above 0.")
        self._share = share / share.sum()
        self._generator = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> Tensor:
        """Return `count` window indices, int64 [count]; members of a group stand together."""
        parts = []
        for members, sums, n in zip(self._members, self._sums, self._counts(count), strict=True):
            if n:
                u = torch.rand(n, generator=self._generator, dtype=torch.float64) * sums[-1]
                parts.append(members[torch.searchsorted(sums, u, right=True).clamp_max(len(sums) - 1)])
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)

    def state(self) -> Tensor:
        """State of the generator, to resume from."""
        return self._generator.get_state()

    def set_state(self, state: Tensor) -> None:
        """Continue from a `state`."""
        self._generator.set_state(state)

    def _counts(self, count: int) -> list[int]:
        # One uniform offset on the cumulative shares: whole parts are sure, fractions fall where they may.
        edges = torch.cat([torch.zeros(1, dtype=torch.float64), (count * self._share).cumsum(0)])
        edges[-1] = count
        u = torch.rand((), generator=self._generator, dtype=torch.float64)
        inner = (edges[1:-1] + u).floor()
        whole = torch.cat([torch.zeros(1, dtype=torch.float64), inner, edges[-1:]]).clamp_max(count)
        return [int(n) for n in whole.diff()]
