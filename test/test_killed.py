"""SIGKILL in the middle of an episode: no process outlives it, finished bags stay whole, the torn one is recovered."""

from pathlib import Path

import psutil
import pytest

from aloe_core.checkpoint import latest, verify_checkpoint
from aloe_core.episode.check import Level, check_bag
from aloe_core.episode.data import Outcome
from aloe_core.episode.reader import read_episode
from aloe_core.episode.recover import Status, recover_folder
from aloe_policy.untrained import write_untrained
from graph import AUTONOMOUS, DEMONSTRATED, Graph, robot

ON_DISK = 50_000  # bytes beyond the head of the file: at least one chunk of messages


def torn(graph: Graph) -> Path | None:
    return next(iter(graph.bags.glob("*.partial/*.mcap")), None)


def victim_process(graph: Graph, victim: str) -> psutil.Process:
    runner = psutil.Process(graph.pid)
    if victim == "launch":
        return runner
    (found,) = [child for child in runner.children() if any(f"/{victim}" in word for word in child.cmdline())]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["launch", "policy_node", "arbiter_node", "episode_recorder"])
def test_killed_in_an_episode(victim, tmp_path):
    write_untrained(tmp_path / "checkpoints", robot(), small=True)
    graph = Graph(tmp_path)
    try:
        whole = Path(graph.run("demonstrate", [DEMONSTRATED]).paths[0])
        graph.begin("watch", [AUTONOMOUS], 60.0)
        graph.until(lambda: torn(graph) is not None, "the second take is open")
        head = torn(graph).stat().st_size
        graph.until(lambda: torn(graph).stat().st_size > head + ON_DISK, "a part of it is on disk")
        processes = psutil.Process(graph.pid).children(recursive=True)
        victim_process(graph, victim).kill()
        _, alive = psutil.wait_procs(processes, timeout=40.0)
        assert alive == []
    finally:
        graph.close()

    statuses = [recovery.status for recovery in recover_folder(graph.bags)]
    assert statuses in ([], [Status.RECOVERED]) and list(graph.bags.glob("*.partial")) == []
    problems = check_bag(whole, robot()).problems
    assert [p for p in problems if p.level is Level.ERROR] == []
    (second,) = [p.parent for p in graph.bags.glob("*/metadata.yaml") if p.parent != whole]
    episode = read_episode(second, robot())
    assert (episode.outcome, episode.end) == (Outcome.ABORTED, "aborted")
    assert episode.steps > 0 and episode.breaks == ()
    assert verify_checkpoint(latest(tmp_path / "checkpoints")).version == "v0001-untrained"
