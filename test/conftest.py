from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Recorded:
    """What one launch of the graph left behind: the results of RunEpisodes and everything in `folder`."""

    folder: Path
    demonstration: object
    autonomous: object
    supervised: object
    exit_code: int
    log: str


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Recorded:
    """A demonstrated, an autonomous and a supervised episode of the whole graph; it has been stopped again."""
    from aloe_policy.untrained import write_untrained
    from graph import AUTONOMOUS, DEMONSTRATED, LIMIT, SUPERVISED, Graph, robot

    folder = tmp_path_factory.mktemp("graph")
    write_untrained(folder / "checkpoints", robot(), small=True)
    graph = Graph(folder)
    try:
        demonstration = graph.run("demonstrate", [DEMONSTRATED])
        autonomous = graph.run("watch", [AUTONOMOUS], LIMIT)
        supervised = graph.run("supervise", [SUPERVISED])
    finally:
        code = graph.close()
    return Recorded(folder, demonstration, autonomous, supervised, code, graph.log.read_text())
