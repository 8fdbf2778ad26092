"""From bags to the control grid, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

import bagmaker
from aloe_core.episode.data import Outcome, Source
from aloe_core.episode.reader import read_episode
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from bagmaker import DT, EXECUTED, ROOT, Take, contract, executed_step, joint_state, jpeg, labels, take


def test_states_actions_frames_and_labels_are_those_recorded(tmp_path):
    ep = read_episode(take(tmp_path, steps=20), contract())
    assert ep.steps == 20
    assert ep.stamps.tolist() == [(k + 1) * DT for k in range(21)]
    np.testing.assert_allclose(ep.state[:, 0], np.arange(21) / 1000, rtol=1e-6)
    np.testing.assert_allclose(ep.executed[:, 13], np.arange(20) / 100, rtol=1e-6)
    np.testing.assert_array_equal(ep.requested, ep.executed)
    assert (ep.task, ep.seed, ep.outcome, ep.end) == ("sorting", 7, Outcome.SUCCESS, "terminated")
    assert ep.frames["wrist_left"].jpegs == tuple(jpeg(1, k) for k in range(5))
    assert ep.frames["top"].newest(ep.stamps[[0, 4, 5]]).tolist() == [0, 0, 1]
    assert ep.breaks == ()


def test_each_step_says_who_drove_each_arm(tmp_path):
    writing = Take(tmp_path)
    for k in range(4):
        writing.state(k)
        writing.step(k, source=Source.HUMAN, group_sources=[Source.HUMAN, Source.POLICY if k > 1 else Source.HOLD])
    writing.state(4)
    ep = read_episode(writing.writer.close(labels()), contract())
    assert ep.group_source.tolist() == [[2, 0], [2, 0], [2, 1], [2, 1]]
    assert set(ep.source) == {Source.HUMAN}
    cut = chunk_transitions(ep, 10, max_length=100, failure_cost=100)
    assert cut.start.tolist() == [0, 2] and cut.truncated.tolist() == [True, False]


def test_a_bag_from_before_per_arm_takeover_is_read_without_it(tmp_path, monkeypatch):
    old = (ROOT / "src/aloe_msgs/msg/ExecutedStep.msg").read_text()
    old = "\n".join(line for line in old.splitlines() if "groups" not in line and "group_sources" not in line)
    typestore = get_typestore(Stores.ROS2_JAZZY)
    typestore.register(get_types_from_msg(old.replace("uint16", "uint8"), EXECUTED))
    with monkeypatch.context() as patch:
        patch.setattr(bagmaker, "store", lambda: typestore)
        patch.setattr(bagmaker, "message_type", bagmaker.message_type.__wrapped__)
        patch.setattr(bagmaker, "cdr", older_cdr(typestore))
        bag = take(tmp_path, steps=5)
    ep = read_episode(bag, contract())
    assert ep.group_source is None and ep.steps == 5
    np.testing.assert_array_equal(ep.source, [Source.POLICY] * 5)


def older_cdr(typestore):
    """Return what stands in for bagmaker.cdr, without the fields that the definition lacks."""

    def cdr(type_name: str, /, **fields) -> bytes:
        kind = typestore.types[type_name]
        known = {key: value for key, value in fields.items() if key in kind.__dataclass_fields__}
        return bytes(typestore.serialize_cdr(kind(**known), type_name))

    return cdr


def test_joint_order_follows_names_not_positions(tmp_path):
    writing = Take(tmp_path)
    names = contract().joint_names
    writing.step(0)
    for k in (0, 1):
        writing.put(1, joint_state((k + 1) * DT, range(14), names[::-1]), (k + 1) * DT)
        writing.state(5 * k + 100)
    ep = read_episode(writing.writer.close(labels()), contract())
    assert ep.state[0].tolist() == list(range(13, -1, -1))


def test_a_namespaced_graph_is_read_alike(tmp_path):
    plain = Take(tmp_path, "a")
    spaced = Take(tmp_path, "b", namespace="/station_1/aloe/")
    for writing in (plain, spaced):
        writing.run(6)
    first, second = (read_episode(w.writer.close(labels()), contract()) for w in (plain, spaced))
    np.testing.assert_array_equal(first.state, second.state)


def test_steps_from_the_label_on_are_cut_and_the_next_state_is_the_labelled_one(tmp_path):
    ep = read_episode(take(tmp_path, steps=20, label_stamp=11 * DT), contract())
    assert ep.steps == 10
    assert ep.stamps[-1] == 11 * DT
    assert ep.state[-1, 0] == pytest.approx(0.010)


def test_chunks_are_numbered_in_order_of_use(tmp_path):
    writing = Take(tmp_path)
    plan = [("c7", 0), ("c7", 1), ("", -1), ("c9", 0)]
    for k, (chunk_id, index) in enumerate(plan):
        writing.state(k)
        source = Source.POLICY if chunk_id else Source.HUMAN
        writing.step(k, source=source, chunk_id=chunk_id, chunk_index=index)
    writing.state(4)
    ep = read_episode(writing.writer.close(labels()), contract())
    assert ep.chunk.tolist() == [0, 0, -1, 1]
    assert ep.chunk_index.tolist() == [0, 1, -1, 0]
    assert ep.chunk_ids == ("c7", "c9")
    assert ep.policy_versions == ("v1", "v1")
    assert ep.source.tolist() == [1, 1, 2, 1]


def test_reset_ticks_and_steps_of_other_episodes_are_left_out(tmp_path):
    writing = Take(tmp_path)
    writing.state(0)
    writing.step(0, episode_id="another")
    writing.state(1)
    writing.step(1, source=Source.RESET)
    for k in (2, 3):
        writing.state(k)
        writing.step(k)
    writing.state(4)
    ep = read_episode(writing.writer.close(labels()), contract())
    assert ep.stamps.tolist() == [3 * DT, 4 * DT, 5 * DT]


def test_nothing_requested_is_nan(tmp_path):
    writing = Take(tmp_path)
    writing.state(0)
    writing.step(0, requested=[], source=Source.HOLD)
    writing.state(1)
    ep = read_episode(writing.writer.close(labels()), contract())
    assert np.isnan(ep.requested).all()
    assert np.isfinite(ep.executed).all()


def test_a_missing_tick_is_a_break(tmp_path):
    writing = Take(tmp_path)
    for k in (0, 1, 3, 4):
        writing.state(k)
        writing.step(k)
    writing.state(5)
    assert read_episode(writing.writer.close(labels()), contract()).breaks == (1,)


def test_without_a_state_after_it_the_last_step_is_dropped(tmp_path):
    writing = Take(tmp_path)
    for k in range(3):
        writing.state(k)
        writing.step(k)
    ep = read_episode(writing.writer.abort("power cut"), contract())
    assert ep.steps == 2
    assert ep.stamps.tolist() == [DT, 2 * DT, 3 * DT]


def refused(bag, words: str) -> None:
    with pytest.raises(AloeError) as caught:
        read_episode(bag, contract())
    message = str(caught.value)
    assert str(bag) in message
    assert words in message
    assert "\n" not in message


def test_another_robots_bag_is_refused(tmp_path):
    refused(take(tmp_path, contract_hash="0123456789abcdef"), "contract_hash = '0123456789abcdef'")


def test_an_unlabelled_bag_is_refused(tmp_path):
    refused(take(tmp_path, outcome=Outcome.NONE), "unlabelled")


def test_a_time_out_without_verdict_is_read(tmp_path):
    ep = read_episode(take(tmp_path, outcome=Outcome.NONE, end="truncated"), contract())
    assert not ep.terminated


def test_a_bag_of_another_program_is_refused(tmp_path):
    bag = take(tmp_path)
    document = yaml.safe_load((bag / "metadata.yaml").read_text())
    document["rosbag2_bagfile_information"]["custom_data"] = None
    (bag / "metadata.yaml").write_text(yaml.safe_dump(document))
    refused(bag, "not a recorded episode")


def test_a_bag_without_executed_steps_is_refused(tmp_path):
    writing = Take(tmp_path)
    writing.state(0)
    refused(writing.writer.close(labels()), "no executed steps")


def test_a_bag_without_a_camera_of_the_contract_is_refused(tmp_path):
    writing = Take(tmp_path)
    writing.state(1)
    writing.step(1)
    writing.state(2)
    refused(writing.writer.close(labels()), "no frames of camera 'top'")


def test_an_unknown_joint_is_refused_by_name(tmp_path):
    writing = Take(tmp_path)
    names = ["left_west", *contract().joint_names[1:]]
    writing.step(0)
    writing.put(1, joint_state(DT, [0] * 14, names), DT)
    writing.state(5)
    refused(writing.writer.close(labels()), "no joint 'left_waist'")


def test_a_step_without_its_joint_state_is_refused(tmp_path):
    writing = Take(tmp_path)
    writing.state(0)
    writing.step(0)
    writing.put(2, executed_step(100 * DT, 1, [0] * 14), 100 * DT)
    writing.state(200)
    refused(writing.writer.close(labels()), "no joint state for the step of tick 1")


def test_labels_edited_in_metadata_alone_are_refused(tmp_path):
    bag = take(tmp_path, outcome=Outcome.FAILURE)
    path = bag / "metadata.yaml"
    path.write_text(path.read_text().replace("outcome: failure", "outcome: success"))
    refused(bag, "contradict")


@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_anywhere_is_refused(tmp_path, where):
    bag = take(tmp_path)
    file = bag / "take_0.mcap"
    data = bytearray(file.read_bytes())
    data[int(len(data) * where)] ^= 0x10
    file.write_bytes(data)
    refused(bag, "damaged")


@pytest.mark.parametrize("where", [0.0, 0.2, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path, where):
    bag = take(tmp_path)
    file = bag / "take_0.mcap"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * where)])
    refused(bag, "damaged")


def test_a_folder_that_is_no_bag_is_refused(tmp_path):
    refused(tmp_path, "not a bag directory")
