"""The whole graph as separate processes: what episodes leave in bags, seen by readers that are not ours."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from aloe_core.episode.data import Outcome, Source
from graph import robot

ROBOT = robot()
DT = round(ROBOT.dt * 1e9)
HOLD, POLICY, HUMAN, ESTOP, RESET = range(5)  # ControlMode

pytestmark = pytest.mark.slow


class Bag:
    """A bag through the eyes of `rosbags`: messages of every topic, by its name without the namespace."""

    def __init__(self, result, number: int = 0) -> None:
        self.result, self.number = result, number
        self.path = Path(result.paths[number])
        self.metadata = yaml.safe_load((self.path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        self.labels = self.metadata["custom_data"]
        self._messages: dict[str, list] = {}
        with AnyReader([self.path]) as reader:
            for connection, _, data in reader.messages():
                topic = connection.topic.split("/", 2)[2]
                self._messages.setdefault(topic, []).append(reader.deserialize(data, connection.msgtype))

    def __getitem__(self, topic: str) -> list:
        return self._messages.get(topic, [])

    def stamps(self, topic: str) -> list[int]:
        return [ns(m.header.stamp) for m in self[topic]]

    @property
    def steps(self) -> list:
        """Executed steps of this episode."""
        return [m for m in self["control/executed"] if m.episode_id == self.result.episode_ids[self.number]]


def ns(stamp) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


@pytest.fixture(scope="module")
def demonstration(recorded):
    return Bag(recorded.demonstration)


@pytest.fixture(scope="module")
def autonomous(recorded):
    return Bag(recorded.autonomous)


@pytest.fixture(scope="module")
def supervised(recorded):
    return Bag(recorded.supervised)


@pytest.fixture(params=["demonstration", "autonomous", "supervised"])
def bag(request):
    return request.getfixturevalue(request.param)


def test_the_graph_starts_runs_and_stops_without_a_death_or_a_stack_trace(recorded):
    assert recorded.exit_code == 0, recorded.log
    assert "Traceback" not in recorded.log
    assert "Nothing moved" not in recorded.log
    assert list((recorded.folder / "bags").glob("*.partial")) == []


def test_labels_in_the_bag_are_what_the_action_reported(bag):
    result, i = bag.result, bag.number
    assert bag.labels["episode_id"] == result.episode_ids[i]
    assert int(bag.labels["steps"]) == result.steps[i]
    assert bag.labels["contract_hash"] == ROBOT.hash


def test_the_bag_says_which_scene_it_was(bag):
    scene = json.loads(bag["sim/scene"][0].data)
    assert (scene["task"], scene["level"], scene["variant"], scene["randomisation"]) == (
        "sorting", "easy", "train", "none")  # fmt: skip
    assert str(scene["seed"]) == bag.labels["seed"]
    assert scene["disturbed"] == []


def test_a_demonstration_is_driven_by_the_person_alone_and_labelled(demonstration):
    assert demonstration.result.outcomes[0] == Outcome.SUCCESS
    assert {s.source for s in demonstration.steps} == {Source.HUMAN}
    assert [m.mode for m in demonstration["control/mode"]] == [RESET, HUMAN, RESET]
    assert demonstration.result.intervention_steps[0] == demonstration.result.steps[0]


def test_an_autonomous_episode_is_driven_by_the_policy_alone_and_truncated(autonomous):
    assert autonomous.result.outcomes[0] == Outcome.NONE
    assert {s.source for s in autonomous.steps} == {Source.POLICY}
    assert [m.mode for m in autonomous["control/mode"]] == [RESET, POLICY, RESET]
    assert autonomous.result.intervention_steps[0] == 0
    assert autonomous["teleop/command"] == [m for m in autonomous["teleop/command"] if not m.engaged]


def test_every_joint_state_is_answered_once_by_one_command_and_one_step(bag):
    answered = [ns(s.header.stamp) for s in bag.steps]
    assert all(b - a == DT for a, b in pairwise(answered))
    assert [s.tick for s in bag.steps] == list(range(len(answered)))
    assert [s for s in bag.stamps("command/joint_trajectory") if s >= answered[0]] == answered
    states = sorted(set(bag.stamps("joint_states")))
    assert states[: len(answered)] == answered
    assert answered[0] % 1_000_000_000 == 0


@pytest.mark.parametrize("camera", ROBOT.camera_names)
def test_no_frame_is_lost_from_the_first_state_on(bag, camera):
    first, last = bag.stamps("control/executed")[0], bag.stamps("control/executed")[-1]
    period = round(1e9 / ROBOT.camera(camera).rate_hz)
    frames = bag.stamps(f"cameras/{camera}/image_raw/compressed")
    assert [f for f in frames if f <= last] == list(range(first, last + 1, period))
    assert {m.format for m in bag[f"cameras/{camera}/image_raw/compressed"]} == {"rgb8; jpeg compressed bgr8"}


def test_the_policy_ran_rows_of_its_chunks_each_with_a_value(autonomous):
    chunks = {m.chunk_id: m for m in autonomous["policy/action_chunk"]}
    values = {m.chunk_id: m for m in autonomous["policy/value"]}
    for step in autonomous.steps:
        chunk = chunks[step.chunk_id]
        assert step.chunk_id in values
        assert 0 <= step.chunk_index < chunk.execute
        assert ns(step.header.stamp) == ns(chunk.header.stamp) + step.chunk_index * DT
        rows = np.reshape(chunk.actions, (chunk.horizon, -1))
        np.testing.assert_array_equal(step.requested, rows[step.chunk_index])
    assert all(c.candidates == 8 for c in chunks.values())


def test_a_supervisor_takes_over_and_no_row_inferred_before_outlives_the_takeover(supervised):
    sources = [s.source for s in supervised.steps]
    assert sources[0] == Source.POLICY
    assert Source.HUMAN in sources
    assert supervised.result.intervention_steps[0] == sources[: supervised.result.steps[0]].count(Source.HUMAN)
    chunks = {m.chunk_id: ns(m.header.stamp) for m in supervised["policy/action_chunk"]}
    taken = None
    for step in supervised.steps:
        if step.source == Source.HUMAN:
            taken = ns(step.header.stamp)
        elif step.source == Source.POLICY and taken is not None:
            assert chunks[step.chunk_id] > taken


def test_chunk_checksums_of_the_bag_file_hold_for_the_mcap_library(bag):
    (file,) = bag.path.glob("*.mcap")
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        count = sum(1 for _ in reader.iter_messages())
        assert count == bag.metadata["message_count"] == reader.get_summary().statistics.message_count
        assert reader.get_header().profile == "ros2"
