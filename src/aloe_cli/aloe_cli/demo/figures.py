"""Pictures of the demo: learning curve, Q over an episode, one episode as an annotated GIF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio.v3 as iio
import matplotlib
import numpy as np
from rosbags.highlevel import AnyReader

from aloe_cli.demo.loop import Story
from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.statistics import wilson

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOUR = {Source.POLICY: "#4c9be8", Source.HUMAN: "#e8804c", Source.HOLD: "#999999", Source.RESET: "#cccccc"}


@dataclass(frozen=True)
class ValueTrace:
    """The critic's opinion of each chunk of an episode."""

    time: np.ndarray  # s since the first step
    q_min: np.ndarray
    q_std: np.ndarray
    v: np.ndarray


def value_trace(bag: Path, episode: EpisodeData) -> ValueTrace | None:
    """Read policy/value from a bag; None when no critic ran."""
    rows = []
    with AnyReader([bag]) as reader:
        connections = [c for c in reader.connections if c.topic.endswith("policy/value")]
        for connection, _, raw in reader.messages(connections):
            msg = reader.deserialize(raw, connection.msgtype)
            stamp = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
            rows.append(((stamp - episode.stamps[0]) * 1e-9, msg.q_min, msg.q_std, msg.v))
    if not rows:
        return None
    return ValueTrace(*np.array(sorted(rows)).T)


def learning_curve(story: Story, path: Path) -> None:
    """Autonomous success before and after with Wilson intervals, and how much the person had to help."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    assert story.before is not None and story.after is not None
    last = len(story.iterations)
    for x, episodes, label in ((0, story.before, "warm start"), (last, story.after, "ALOE")):
        low, high = wilson(episodes.successes, len(episodes.outcomes))
        rate = episodes.success_rate
        left.errorbar([x], [rate], [[rate - low], [high - rate]], fmt="o", capsize=5, label=f"{label}: {rate:.2f}")
    left.plot([0, last], [story.before.success_rate, story.after.success_rate], ":", color="#888888")
    left.set(xlabel="ALOE iterations", ylabel="autonomous success, unseen seeds", ylim=(-0.02, 1.02))
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(loc="lower right")
    rounds = range(1, last + 1)
    right.bar(rounds, [i.episodes.intervention_rate for i in story.iterations], color=COLOUR[Source.HUMAN])
    right.set(
        xlabel="supervised round",
        ylabel="share of steps driven by the person",
        ylim=(0, 1),
        xticks=list(rounds),
        xlim=(0.4, max(last, 3) + 0.6),
    )
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def q_over_time(episodes: list[tuple[str, EpisodeData, ValueTrace]], path: Path) -> None:
    """Q_pess of the chunk sent, the mean over candidates and the ensemble's spread, one panel an episode."""
    figure, axes = plt.subplots(len(episodes), 1, figsize=(9, 2.8 * len(episodes)), squeeze=False)
    for axis, (title, episode, trace) in zip(axes[:, 0], episodes, strict=True):
        _shade_sources(axis, episode)
        axis.fill_between(trace.time, trace.q_min - trace.q_std, trace.q_min + trace.q_std, alpha=0.2, color="#333333")
        axis.plot(trace.time, trace.q_min, "o-", ms=3, color="#333333", label="Q of the chunk sent (min over heads)")
        axis.plot(trace.time, trace.v, "--", color="#777777", label="mean over candidates")
        axis.set(title=title, xlabel="time, s", ylabel="normalised return")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _shade_sources(axis: plt.Axes, episode: EpisodeData) -> None:
    edges = np.flatnonzero(np.diff(episode.source)) + 1
    for begin, end in zip([0, *edges], [*edges, episode.steps], strict=True):
        colour = COLOUR[Source(int(episode.source[begin]))]
        axis.axvspan(begin * episode.dt, end * episode.dt, color=colour, alpha=0.15, lw=0)


def episode_gif(episode: EpisodeData, trace: ValueTrace | None, path: Path, scale: int = 2) -> None:
    """All cameras side by side with who drives, the time and Q, at 10 frames a second."""
    cameras = list(episode.frames)
    first = episode.frames[cameras[0]]
    pictures = []
    for stamp in first.stamps:
        views = []
        for camera in cameras:
            frames = episode.frames[camera]
            index = max(0, int(frames.newest(np.array([stamp]))[0]))
            bgr = cv2.imdecode(np.frombuffer(frames.jpegs[index], np.uint8), cv2.IMREAD_COLOR)
            views.append(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))
        pictures.append(_annotate(np.hstack(views), episode, trace, int(stamp)))
    iio.imwrite(path, [cv2.cvtColor(p, cv2.COLOR_BGR2RGB) for p in pictures], duration=100, loop=0)


def _annotate(image: np.ndarray, episode: EpisodeData, trace: ValueTrace | None, stamp: int) -> np.ndarray:
    seconds = (stamp - episode.stamps[0]) * 1e-9
    step = int(np.clip(np.searchsorted(episode.stamps, stamp), 0, episode.steps - 1))
    source = Source(int(episode.source[step]))
    text = f"{seconds:4.1f} s  {source.name}"
    if trace is not None:
        newest = int(np.searchsorted(trace.time, seconds + 1e-6, side="right")) - 1
        if newest >= 0 and source == Source.POLICY:
            text += f"  Q {trace.q_min[newest]:+.2f}"
    if step == episode.steps - 1 and episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE):
        text += f"  {episode.outcome.name}"
    bar = np.full((28, image.shape[1], 3), 25, np.uint8)
    red, green, blue = matplotlib.colors.to_rgb(COLOUR[source])
    cv2.rectangle(bar, (0, 0), (8, 28), (255 * blue, 255 * green, 255 * red), -1)
    cv2.putText(bar, text, (16, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([bar, image])
