"""The same seed in process and through the ROS graph gives the same episode, bit for bit."""

import numpy as np
import pytest
import torch

from aloe_core.episode.data import EpisodeData, Source
from aloe_core.episode.reader import read_episode
from aloe_policy.runtime import load_runtime
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station
from graph import AUTONOMOUS, DEMONSTRATED, LIMIT, robot

ROBOT = robot()


@pytest.fixture(scope="module")
def station():
    station = Station(ROBOT)
    yield station
    station.close()


def assert_same(graph: EpisodeData, process: EpisodeData) -> None:
    """Stamps count from the first state: only the graph's clock goes on over episodes."""
    assert (graph.seed, graph.task, graph.instruction) == (process.seed, process.task, process.instruction)
    assert (graph.outcome, graph.end, graph.steps) == (process.outcome, process.end, process.steps)
    assert (graph.dt, graph.contract_hash) == (process.dt, process.contract_hash)
    start = graph.stamps[0]
    np.testing.assert_array_equal(graph.stamps - start, process.stamps)
    for name in ("source", "chunk", "chunk_index", "state", "requested", "executed"):  # first who drove
        np.testing.assert_array_equal(getattr(graph, name), getattr(process, name), err_msg=name)
    assert graph.policy_versions == process.policy_versions
    for name, frames in process.frames.items():
        stamps, jpegs = graph.frames[name].stamps, graph.frames[name].jpegs
        # A bag may begin with a frame from before the reset, and the graph goes on until the label arrives.
        seen = np.flatnonzero((stamps >= start) & (stamps <= graph.stamps[-1]))
        np.testing.assert_array_equal(stamps[seen] - start, frames.stamps, err_msg=name)
        assert tuple(jpegs[i] for i in seen) == frames.jpegs, name


def test_a_demonstration_is_the_same_in_process_and_in_the_bag(recorded, station):
    graph = read_episode(recorded.demonstration.paths[0], ROBOT)
    process = run_episode(station, DEMONSTRATED, supervision="demonstrate")
    assert set(process.source) == {Source.HUMAN}
    assert process.terminated
    assert_same(graph, process)


def test_an_autonomous_episode_is_the_same_in_process_and_in_the_bag(recorded, station):
    torch.set_num_threads(1)  # as in the policy node: sums in another order are other sums
    graph = read_episode(recorded.autonomous.paths[0], ROBOT)
    policy = load_runtime(recorded.folder / "checkpoints" / graph.policy_versions[0], ROBOT)
    process = run_episode(station, AUTONOMOUS, policy, "watch", time_limit=LIMIT)
    assert set(process.source) == {Source.POLICY}
    assert len(process.chunk_ids) == -(-process.steps // ROBOT.chunk.execute)
    assert_same(graph, process)
