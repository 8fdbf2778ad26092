"""Pictures of an evaluation: predicted against realised returns, and the values along one episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np

from aloe_core.episode.data import Source
from aloe_critic.evaluation.calibration import BINS, reliability
from aloe_critic.evaluation.realised import Timeout, realised_returns
from aloe_critic.evaluation.report import paired
from aloe_critic.evaluation.scores import EpisodeScores, RewardScale

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOUR = {Source.POLICY: "#4c9be8", Source.HUMAN: "#e8804c", Source.HOLD: "#999999", Source.RESET: "#cccccc"}


def calibration_plot(scores: Sequence[EpisodeScores], scale: RewardScale, path: Path, timeout: Timeout) -> None:
    """Every chunk's Q_pess and return, by how the episode ended, and the calibration bins."""
    ended = [s for s in scores if s.episode.terminated]
    others = [s for s in scores if not s.episode.terminated]
    figure, axis = plt.subplots(figsize=(5.5, 5))
    for group, label, colour in ((ended, "labelled", "#4c9be8"), (others, f"timed out ({timeout})", "#999999")):
        q, _, _, returns, *_ = paired(group, scale, timeout)
        if len(q):
            axis.plot(q, returns, ".", ms=3, alpha=0.5, color=colour, label=label)
    q, _, _, returns, *_ = paired(scores, scale, timeout)
    if len(q) >= BINS:
        rows = reliability(q, returns)
        middle, mean = [r.predicted for r in rows], [r.realised for r in rows]
        axis.errorbar(middle, mean, [r.spread for r in rows], fmt="o-", color="#333333", ms=4, capsize=2, label="bins")
    if len(q):
        ends = [min(q.min(), returns.min()), max(q.max(), returns.max(), 0.0)]
        axis.plot(ends, ends, ":", color="#777777")
        axis.legend(loc="upper left", fontsize=8)
    axis.set(xlabel="Q (pessimistic)", ylabel="realised return")
    axis.grid(alpha=0.3)
    _save(figure, path)


def episode_plot(scores: EpisodeScores, scale: RewardScale, path: Path, timeout: Timeout, title: str) -> None:
    """Q, V and what followed above, A below, along one episode; shaded by who drove, takeovers marked."""
    ep = scores.episode
    time = scores.start * ep.dt
    figure, (top, below) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, height_ratios=(3, 1))
    for axis in (top, below):
        _shade(axis, scores)
        axis.grid(alpha=0.3)
    spread = scores.q_std
    top.fill_between(time, scores.q_pess - spread, scores.q_pess + spread, alpha=0.2, color="#333333", lw=0)
    top.plot(time, scores.q_pess, "o-", ms=3, color="#333333", label="Q of what ran (pessimistic), ± spread of heads")
    top.plot(time, scores.v, "--", color="#777777", label="V, fresh chunks of the policy")
    returns = realised_returns(ep, **asdict(scale), timeout=timeout)
    if not np.isnan(returns).all():
        note = "" if ep.terminated else f", time-out {timeout}"
        top.plot(np.arange(ep.steps) * ep.dt, returns, color="#5aa469", lw=1, label=f"realised return{note}")
    top.set(title=title, ylabel="normalised return")
    top.legend(loc="lower right", fontsize=8)
    colours = [COLOUR[Source(int(s))] for s in scores.source]
    below.bar(time, scores.advantage, width=0.8 * _width(time), color=colours, align="edge")
    below.set(xlabel="time, s", ylabel="A = Q - V", xlim=(0, ep.steps * ep.dt))
    _save(figure, path)


def _shade(axis: plt.Axes, scores: EpisodeScores) -> None:
    ep = scores.episode
    edges = np.flatnonzero(np.diff(ep.source)) + 1
    for begin, end in zip([0, *edges], [*edges, ep.steps], strict=True):
        axis.axvspan(begin * ep.dt, end * ep.dt, color=COLOUR[Source(int(ep.source[begin]))], alpha=0.15, lw=0)
    for takeover in scores.takeovers:
        axis.axvline(takeover.step * ep.dt, color=COLOUR[Source.HUMAN], lw=1.5)


def _width(time: np.ndarray) -> float:
    return float(np.median(np.diff(time))) if len(time) > 1 else 0.2


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
