from pathlib import Path

import numpy as np
import pytest
from aloe_msgs.msg import ValueEstimate
from builtin_interfaces.msg import Time

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_core.types import Chunk, Inference, Value
from aloe_ros import convert, stamps

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")


def chunk_msg():
    actions = np.arange(50 * 14, dtype=np.float32).reshape(50, 14) / 1000
    chunk = Chunk("c1", 3_020_000_001, CONTRACT.dt, actions, 25, "v7", 3)
    return chunk, convert.chunk_to_msg(Inference(chunk, None, 8, 0.25), CONTRACT)


def test_a_chunk_survives_the_message():
    chunk, msg = chunk_msg()
    back = convert.chunk_from_msg(msg, CONTRACT)
    np.testing.assert_array_equal(back.actions, chunk.actions)
    assert (back.chunk_id, back.stamp, back.execute, back.policy_version, back.frozen_steps) == (
        "c1", 3_020_000_001, 25, "v7", 3)  # fmt: skip
    assert (msg.candidates, msg.inference_latency) == (8, 0.25)


def test_chunk_columns_are_read_by_name():
    chunk, msg = chunk_msg()
    msg.joint_names = msg.joint_names[::-1]
    np.testing.assert_array_equal(convert.chunk_from_msg(msg, CONTRACT).actions, chunk.actions[:, ::-1])


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("horizon", 49, "expected 49 x 14"),
        ("execute", 51, "expected 1 to 50"),
        ("dt", 0.1, "expected 0.02"),
        ("joint_names", ["x"] * 14, "no joint 'left_waist'"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused_in_one_sentence(field, value, says):
    _, msg = chunk_msg()
    setattr(msg, field, value)
    with pytest.raises(AloeError, match=says):
        convert.chunk_from_msg(msg, CONTRACT)


def test_a_chunk_with_a_non_finite_row_is_refused():
    _, msg = chunk_msg()
    msg.actions[14 * 3] = float("nan")
    with pytest.raises(AloeError, match="row 3 is not finite"):
        convert.chunk_from_msg(msg, CONTRACT)


def test_joint_states_are_read_by_name_and_not_by_position():
    positions = np.linspace(0, 1, 14)
    msg = convert.joint_state_msg(CONTRACT, 5, positions)
    reader = convert.JointReader(CONTRACT)
    np.testing.assert_array_equal(reader.read(msg), positions)
    msg.name, msg.position = msg.name[::-1], msg.position[::-1]
    np.testing.assert_array_equal(reader.read(msg), positions)
    msg.name = msg.name[:-1]
    with pytest.raises(AloeError, match="13 joint names but 14 positions"):
        reader.read(msg)


def test_a_value_survives_the_message():
    value = Value(-0.5, -0.25, 0.125, -0.75, "k3")
    msg = convert.value_to_msg(value, chunk_msg()[0])
    assert isinstance(msg, ValueEstimate)
    assert msg.advantage == 0.25
    assert convert.value_from_msg(msg) == value


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789])
def test_stamps_are_exact(ns):
    assert stamps.to_ns(stamps.to_msg(ns)) == ns
    stamp = Time()
    stamps.fill(stamp, ns)
    assert stamp == stamps.to_msg(ns)
