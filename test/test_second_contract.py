"""Another robot from its contract alone: the graph records it, the trainer learns it, the policy drives it."""

import numpy as np
import pytest
import torch

from aloe_core.contract import load_contract
from aloe_core.episode.data import Outcome, Source
from aloe_core.episode.reader import read_episode
from aloe_critic.trainer import TrainRequest, train
from aloe_policy.runtime import load_runtime
from aloe_policy.untrained import write_untrained
from aloe_sim.rollout import decode, run_episode
from aloe_sim.station import Station
from graph import ROOT, Graph
from test_parity import assert_same

CONTRACT = ROOT / "config/robots/desk_arm.yaml"
DESK = load_contract(CONTRACT)
SEEDS = [21, 22]
LIMIT = 1.2  # s of autonomous episodes
TINY = {
    "threads": 1,
    "keypoints": 4,
    "width_head": 16,
    "bc_batch": 4,
    "bc_steps": 3,
    "bc_head_steps": 3,
    "critic_steps": 3,
    "critic_width": 16,
    "heads": 2,
    "actor_steps": 2,
    "actor_head_steps": 2,
    "refresh_steps": 2,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def station():
    station = Station(DESK)
    yield station
    station.close()


@pytest.fixture(scope="module")
def graph_run(tmp_path_factory):
    """Folder, demonstrations and an autonomous episode of the launched graph with the desk arm's contract."""
    folder = tmp_path_factory.mktemp("desk")
    write_untrained(folder / "random", DESK, small=True)
    graph = Graph(folder, contract=CONTRACT, checkpoint_dir=folder / "random")
    try:
        demonstrations = graph.run("demonstrate", SEEDS)
        autonomous = graph.run("watch", [23], LIMIT)
    finally:
        code = graph.close()
    assert code == 0, graph.log.read_text()[-4000:]
    return folder, demonstrations.paths, autonomous.paths[0]


@pytest.fixture(scope="module")
def trained(graph_run):
    """A policy cloned from the bags, then improved, by the calls that ./aloe train and the trainer node make."""
    folder, _, _ = graph_run
    for method in ("bc", "aloe_select"):
        result = train(TrainRequest([str(folder / "bags")], str(folder / "own"), str(CONTRACT), method, "", TINY))
        assert result.episodes == 3 and not result.set_aside
    return result.uri


def test_the_graph_records_the_desk_arm_as_its_contract_says(graph_run):
    episode = read_episode(graph_run[1][0], DESK)
    assert episode.outcome == Outcome.SUCCESS and set(episode.source) == {Source.HUMAN}
    assert episode.state.shape == (episode.steps + 1, 6) and episode.executed.shape == (episode.steps, 6)
    assert set(np.diff(episode.stamps)) == {40_000_000}
    for name, (height, width, period) in {"overhead": (96, 128, 80_000_000), "wrist": (96, 128, 200_000_000)}.items():
        frames = episode.frames[name]
        assert decode(frames.jpegs[0]).shape == (height, width, 3)
        assert set(np.diff(frames.stamps)) == {period}


def test_a_demonstration_is_the_same_in_process_and_in_the_bag(graph_run, station):
    for seed, path in zip(SEEDS, graph_run[1], strict=True):
        assert_same(read_episode(path, DESK), run_episode(station, seed, supervision="demonstrate"))


def test_an_autonomous_episode_is_the_same_in_process_and_in_the_bag(graph_run, station):
    folder, _, path = graph_run
    torch.set_num_threads(1)
    graph = read_episode(path, DESK)
    policy = load_runtime(folder / "random" / graph.policy_versions[0], DESK)
    process = run_episode(station, 23, policy, "watch", time_limit=LIMIT)
    assert len(process.chunk_ids) == -(-process.steps // DESK.chunk.execute)
    assert_same(graph, process)


def test_a_policy_trained_on_the_bags_drives_the_desk_arm(trained, station):
    policy = load_runtime(trained, DESK, candidates=3)
    episode = run_episode(station, 1_000_000, policy, "watch", time_limit=LIMIT, record=False)
    assert episode.steps == round(LIMIT * DESK.control.rate_hz) and set(episode.source) == {Source.POLICY}
    assert (episode.executed >= DESK.lower - 1e-6).all() and (episode.executed <= DESK.upper + 1e-6).all()
    assert np.ptp(episode.executed, axis=0).max() > 1e-4, "it never moved"


def test_the_same_policy_is_refused_for_another_robot(trained):
    with pytest.raises(Exception, match="contract"):
        load_runtime(trained, load_contract(ROOT / "config/robots/aloha_sim.yaml"))
